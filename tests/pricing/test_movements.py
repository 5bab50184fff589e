"""Movements of money: their changes are those of the balance at Stripe."""

from datetime import date
from typing import Any
from uuid import UUID

from pricing.movements import KnownPayment, Movement, MovementKind, Movements
from topics.messages.events import (
    BookingCancelled,
    BookingConfirmed,
    BookingEvent,
    BookingRefunded,
    DisputeClosed,
    DisputeOpened,
    GuestsCheckedOut,
    GuestsDidNotArrive,
    RefundClosed,
    RefundFailed,
    RefundRequested,
    StayBefore,
    StayChanged,
)
from topics.messages.sale import AppliedPolicy
from topics.messages.values import CancelReason, DisputeResult, RefundClosing, RefundReason

BOOKING: dict[str, Any] = {"room_id": 1, "booking_id": UUID(int=1)}
PAID = BookingConfirmed(**BOOKING, amount_minor=20_000, currency="EUR", session_id="cs_1", payment_intent="pi_1")


def requested(intent: str, amount_minor: int, currency: str = "EUR", *, retained_minor: int = 0) -> RefundRequested:
    return RefundRequested(
        **BOOKING,
        session_id="cs_2",
        payment_intent=intent,
        amount_minor=amount_minor,
        currency=currency,
        reason=RefundReason.SECOND_PAYMENT,
        retained_minor=retained_minor,
    )


def cancelled(kept_minor: int | None) -> BookingCancelled:
    policy = None if kept_minor is None else AppliedPolicy(kept_minor=kept_minor)
    return BookingCancelled(**BOOKING, reason=CancelReason.BY_GUEST, policy=policy)


def refunded(refund: str, amount_minor: int, *, intent: str = "pi_1", by_hand: bool = False) -> BookingRefunded:
    return BookingRefunded(
        **BOOKING, payment_intent=intent, refund_id=refund, amount_minor=amount_minor, by_hand=by_hand
    )


def failed(refund: str, amount_minor: int) -> RefundFailed:
    return RefundFailed(
        **BOOKING, payment_intent="pi_1", refund_id=refund, amount_minor=amount_minor, failure="declined"
    )


def closed(result: DisputeResult) -> DisputeClosed:
    return DisputeClosed(
        **BOOKING, payment_intent="pi_1", dispute_id="dp_1", amount_minor=20_000, currency="EUR", result=result
    )


OPENED = DisputeOpened(
    **BOOKING, payment_intent="pi_1", dispute_id="dp_1", amount_minor=20_000, currency="EUR", reason="fraudulent"
)


def changed(amount_minor: int, extra_minor: int = 0, intent: str | None = None) -> StayChanged:
    """Return a change of the stay of 20,000, with the payment of a dearer one."""
    return StayChanged(
        **BOOKING,
        change_id=UUID(int=2),
        check_in=date(2026, 12, 1),
        check_out=date(2026, 12, 4),
        rooms_count=1,
        amount_minor=amount_minor,
        currency="EUR",
        night_amounts_minor=(amount_minor, 0, 0),
        before=StayBefore(check_in=date(2026, 12, 1), check_out=date(2026, 12, 3), rooms_count=1, amount_minor=20_000),
        extra_minor=extra_minor,
        session_id=None if intent is None else "cs_3",
        payment_intent=intent,
    )


def moved(*events: BookingEvent) -> list[tuple[str, str, int]]:
    """Return the kind, the object and the change of each movement of the events."""
    movements = Movements()
    found = (movements.of(event) for event in events)
    return [(each.kind.value, each.object_id, each.change_minor) for each in found if each is not None]


def test_a_payment_and_its_refund_by_hand_move_their_amounts() -> None:
    movements = Movements()

    assert movements.of(PAID) == Movement(
        MovementKind.PAYMENT, "pi_1", "pi_1", 20_000, 20_000, "EUR", "cs_1", pays_booking=True
    )
    assert movements.of(refunded("re_1", 5_000, by_hand=True)) == Movement(
        MovementKind.REFUND, "pi_1", "re_1", 5_000, -5_000, "EUR", by_hand=True
    )


def test_a_refund_that_is_asked_for_moves_nothing_and_one_of_a_second_payment_lets_it_arrive() -> None:
    assert moved(
        PAID, requested("pi_1", 20_000), requested("pi_2", 20_000), refunded("re_2", 20_000, intent="pi_2")
    ) == [
        ("payment", "pi_1", 20_000),
        ("payment", "pi_2", 20_000),
        ("refund", "re_2", -20_000),
    ]


def test_a_refund_has_the_currency_of_its_payment() -> None:
    movements = Movements()
    movements.of(requested("pi_9", 300, "JPY"))

    found = movements.of(refunded("re_9", 300, intent="pi_9"))

    assert found is not None
    assert found.currency == "JPY"


def test_a_failed_refund_gives_back_only_what_it_had_taken() -> None:
    assert moved(PAID, refunded("re_1", 20_000), failed("re_1", 20_000), failed("re_2", 20_000)) == [
        ("payment", "pi_1", 20_000),
        ("refund", "re_1", -20_000),
        ("refund_failed", "re_1", 20_000),
        ("refund_failed", "re_2", 0),
    ]


def test_a_dispute_takes_its_amount_when_it_is_opened_and_gives_it_back_if_it_is_won() -> None:
    assert moved(PAID, OPENED, closed(DisputeResult.WON))[1:] == [
        ("dispute_opened", "dp_1", -20_000),
        ("dispute_won", "dp_1", 20_000),
    ]
    assert moved(PAID, OPENED, closed(DisputeResult.LOST))[2:] == [("dispute_lost", "dp_1", 0)]


def test_an_operator_who_closes_a_refund_moves_nothing() -> None:
    event = RefundClosed(
        **BOOKING, payment_intent="pi_1", amount_minor=7, currency="EUR", reason=RefundClosing.WAIVED_BY_GUEST
    )
    assert moved(PAID, event)[1:] == [("refund_closed", "pi_1", 0)]


def test_events_without_money_and_of_unknown_payments_are_no_movements() -> None:
    free = BookingConfirmed(**BOOKING, amount_minor=0, currency="EUR")

    assert moved(free, cancelled(None), cancelled(500), refunded("re_1", 100), OPENED) == []


def test_a_policy_keeps_of_the_payment_that_bought_the_stay_whatever_is_refunded_of_it() -> None:
    second = requested("pi_2", 20_000)

    assert moved(second, PAID, cancelled(5_000), requested("pi_1", 15_000, retained_minor=5_000))[1:] == [
        ("payment", "pi_1", 20_000),
        ("kept_by_policy", "pi_1", 0),
    ]
    # All is kept, so that no refund is asked for.
    movements = Movements()
    movements.of(PAID)
    assert movements.of(cancelled(20_000)) == Movement(MovementKind.KEPT_BY_POLICY, "pi_1", "pi_1", 20_000, 0, "EUR")


def test_an_early_departure_and_a_no_show_keep_by_policy_too() -> None:
    left = GuestsCheckedOut(**BOOKING, freed_from=date(2026, 12, 2), policy=AppliedPolicy(kept_minor=700, percent=50))
    missed = GuestsDidNotArrive(**BOOKING, freed_from=date(2026, 12, 2), policy=AppliedPolicy(kept_minor=800))

    assert moved(PAID, left)[1:] == [("kept_by_policy", "pi_1", 0)]
    assert moved(PAID, missed)[1:] == [("kept_by_policy", "pi_1", 0)]
    assert moved(PAID, GuestsCheckedOut(**BOOKING), cancelled(None), cancelled(0))[1:] == []


def test_a_change_that_makes_a_stay_dearer_moves_its_payment_and_a_cheaper_one_moves_nothing_itself() -> None:
    movements = Movements()
    movements.of(PAID)

    assert movements.of(changed(25_000, 5_000, "pi_3")) == Movement(
        MovementKind.PAYMENT, "pi_3", "pi_3", 5_000, 5_000, "EUR", "cs_3", pays_booking=True
    )
    assert movements.of(changed(15_000)) is None
    assert movements.of(requested("pi_3", 5_000)) is None
    assert moved(PAID, changed(25_000, 5_000, "pi_3"), refunded("re_3", 700, intent="pi_3"))[2:] == [
        ("refund", "re_3", -700)
    ]


def test_a_policy_keeps_of_all_payments_in_one_movement_under_the_first() -> None:
    second = requested("pi_2", 20_000)

    assert moved(second, PAID, changed(25_000, 5_000, "pi_3"), cancelled(23_000))[3:] == [("kept_by_policy", "pi_1", 0)]
    known = {"pi_2": KnownPayment("EUR")} | {
        intent: KnownPayment("EUR", pays=UUID(int=1)) for intent in ("pi_1", "pi_3")
    }
    assert Movements(known).of(cancelled(23_000)) == Movement(
        MovementKind.KEPT_BY_POLICY, "pi_1", "pi_1", 23_000, 0, "EUR"
    )
    # The stay was free, and a change of it was paid.
    free = BookingConfirmed(**BOOKING, amount_minor=0, currency="EUR")
    assert moved(free, changed(5_000, 5_000, "pi_3"), cancelled(500))[1:] == [("kept_by_policy", "pi_3", 0)]
