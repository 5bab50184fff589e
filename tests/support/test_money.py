"""The auditor of money accepts money that events explain, and names each way in which they do not."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from tests.support.money import unexplained

Events = list[tuple[str, dict[str, Any]]]
Ledger = list[dict[str, Any]]

PAID, BOOKED = 20_000, "11111111-0000-0000-0000-000000000000"


def of(kind: str, **values: Any) -> tuple[str, dict[str, Any]]:
    return f"booking.{kind}.v1", {"booking_id": BOOKED, "room_id": 1, **values}


RESERVED = of("reserved", amount_minor=PAID, currency="EUR", terms="prepaid")
CONFIRMED = of("confirmed", amount_minor=PAID, currency="EUR", payment_intent="pi_1", session_id="cs_1")
CANCELLED = of("cancelled", reason="by_guest")
REQUESTED = of("refund_requested", amount_minor=15_000, total_minor=PAID, currency="EUR", payment_intent="pi_1")


def refunded(id: str, amount: int, **values: Any) -> tuple[str, dict[str, Any]]:
    return of("refunded", payment_intent="pi_1", refund_id=id, amount_minor=amount, **values)


def refund(id: str, amount: int, status: str = "succeeded") -> dict[str, Any]:
    return {"id": id, "amount_minor": amount, "status": status}


def entry(captured: int = PAID, *refunds: dict[str, Any], lost: int = 0, **values: Any) -> dict[str, Any]:
    gone = sum(each["amount_minor"] for each in refunds if each["status"] != "failed")
    return {
        "payment_intent": "pi_1",
        "currency": "eur",
        "captured_minor": captured,
        "refunded_minor": gone,
        "lost_minor": lost,
        "metadata": {"booking_id": BOOKED},
        "refund_objects": list(refunds),
        "dispute_objects": [],
        **values,
    }


def kept() -> tuple[Events, Ledger]:
    """A paid stay of which a part went back by hand, and another was lost to a dispute."""
    opened = of("dispute_opened", payment_intent="pi_1", dispute_id="dp_1", amount_minor=1_000, currency="EUR")
    closed = of("dispute_closed", payment_intent="pi_1", dispute_id="dp_1", amount_minor=1_000, result="lost")
    events = [RESERVED, CONFIRMED, refunded("re_1", 5_000, by_hand=True), opened, closed]
    dispute = {"id": "dp_1", "amount_minor": 1_000, "status": "lost"}
    return deepcopy(events), [entry(PAID, refund("re_1", 5_000), lost=1_000, dispute_objects=[dispute])]


def returned() -> tuple[Events, Ledger]:
    """A cancelled stay: a part went back by hand, a refund of the rest failed, and the next one succeeded."""
    failed = of("refund_failed", payment_intent="pi_1", refund_id="re_2", amount_minor=15_000, failure="unknown")
    events = [
        *(RESERVED, CONFIRMED, refunded("re_1", 5_000, by_hand=True), CANCELLED, REQUESTED),
        *(refunded("re_2", 15_000), failed, refunded("re_3", 15_000)),
    ]
    refunds = (refund("re_1", 5_000), refund("re_2", 15_000, "failed"), refund("re_3", 15_000))
    return deepcopy(events), [entry(PAID, *refunds)]


def retained(kept_minor: int = 12_000) -> tuple[Events, Ledger]:
    """A stay that was cancelled late: the policy keeps a part, and the rest went back."""
    cancelled = of("cancelled", reason="by_guest", policy={"kept_minor": kept_minor})
    request = {**REQUESTED[1], "amount_minor": PAID - 12_000, "total_minor": None, "retained_minor": 12_000}
    events = [RESERVED, CONFIRMED, cancelled, ("booking.refund_requested.v2", request), refunded("re_1", 8_000)]
    return deepcopy(events), [entry(PAID, refund("re_1", 8_000))]


def ended(refund_minor: int) -> tuple[Events, Ledger]:
    """A cancelled stay: the policy keeps 50.00, and this amount of the other 150.00 went back."""
    events = [RESERVED, CONFIRMED, of("cancelled", reason="by_guest", policy={"kept_minor": 5_000})]
    request = {**REQUESTED[1], "total_minor": 15_000, "retained_minor": 5_000}
    events += [("booking.refund_requested.v2", request), refunded("re_1", refund_minor)]
    return deepcopy(events), [entry(PAID, refund("re_1", refund_minor))]


def kept_by_policy() -> tuple[Events, Ledger]:
    """A cancelled stay of which the policy keeps a part."""
    return ended(15_000)


def kept_whole() -> tuple[Events, Ledger]:
    """A stay of which the policy keeps everything: no refund is asked for."""
    cancelled = of("cancelled", reason="by_guest", policy={"kept_minor": PAID})
    return deepcopy([RESERVED, CONFIRMED, cancelled]), [entry(PAID)]


def left_early() -> tuple[Events, Ledger]:
    """Guests who left before their last night: the policy keeps a part."""
    events, ledger = retained()
    events[2:3] = [of("checked_in"), of("checked_out", policy={"kept_minor": 12_000})]
    return events, ledger


def not_arrived() -> tuple[Events, Ledger]:
    """Guests who did not come: without a policy all is kept."""
    return deepcopy([RESERVED, CONFIRMED, of("no_show")]), [entry(PAID)]


def changed() -> tuple[Events, Ledger]:
    """A stay that became dearer by 100.00, which a second payment paid, and then cheaper by 150.00."""
    dearer = of("changed", amount_minor=30_000, extra_minor=10_000, currency="EUR", payment_intent="pi_2")
    cheaper = of("changed", amount_minor=15_000, extra_minor=0, currency="EUR", payment_intent=None)
    request = {**REQUESTED[1], "reason": "stay_changed", "total_minor": None}
    events = [
        *(RESERVED, CONFIRMED, dearer, cheaper),
        ("booking.refund_requested.v2", {**request, "payment_intent": "pi_2", "amount_minor": 10_000}),
        ("booking.refund_requested.v2", {**request, "amount_minor": 5_000}),
        of("refunded", payment_intent="pi_2", refund_id="re_1", amount_minor=10_000),
        refunded("re_2", 5_000),
    ]
    second = entry(10_000, refund("re_1", 10_000), payment_intent="pi_2")
    return deepcopy(events), [entry(PAID, refund("re_2", 5_000)), second]


def changed_and_cancelled() -> tuple[Events, Ledger]:
    """The same stay, cancelled: the policy keeps 50.00 of what is left."""
    events, ledger = changed()
    events.append(of("cancelled", reason="by_guest", policy={"kept_minor": 5_000}))
    request = {**REQUESTED[1], "amount_minor": 10_000, "total_minor": 15_000, "retained_minor": 5_000}
    events += [("booking.refund_requested.v2", request), refunded("re_3", 10_000)]
    ledger[0] = entry(PAID, refund("re_2", 5_000), refund("re_3", 10_000))
    return events, ledger


LEG = "33333333-0000-0000-0000-00000000000{}"


def trip() -> tuple[Events, Ledger]:
    """A paid trip of two legs, of which one was cancelled: 30.00 of its 80.00 are kept."""
    legs = [
        ("booking.reserved.v1", {"booking_id": LEG.format(n), "amount_minor": amount, "trip_id": BOOKED})
        for n, amount in ((1, 8_000), (2, 12_000))
    ]
    held = [of("leg_held", leg_id=LEG.format(n), amount_minor=amount) for n, amount in ((1, 8_000), (2, 12_000))]
    events = [*legs, *held, of("trip_reserved", amount_minor=PAID, currency="EUR"), CONFIRMED]
    events += [("booking.confirmed.v1", {"booking_id": LEG.format(n), "amount_minor": 1}) for n in (1, 2)]
    events += [of("leg_ended", leg_id=LEG.format(1), kept_minor=3_000), part(5_000), refunded("re_1", 5_000)]
    return deepcopy(events), [entry(PAID, refund("re_1", 5_000))]


def part(amount: int, total: int | None = None) -> tuple[str, dict[str, Any]]:
    """Return a refund of a part of a trip's payment."""
    values = {"amount_minor": amount, "total_minor": total, "reason": "booking_cancelled"}
    return "booking.refund_requested.v2", {**REQUESTED[1], **values}


def cancelled_trip() -> tuple[Events, Ledger]:
    """The same trip, whose other leg was cancelled for 100.00."""
    events, ledger = trip()
    events += [of("leg_ended", leg_id=LEG.format(2), kept_minor=10_000), part(2_000, 7_000)]
    events += [of("cancelled", reason="by_guest", policy={"kept_minor": 13_000}), refunded("re_2", 2_000)]
    ledger[0] = entry(PAID, refund("re_1", 5_000), refund("re_2", 2_000))
    return events, ledger


def trip_refunded_by_hand() -> tuple[Events, Ledger]:
    """A trip of which a person refunded more than the leg that is left costs, before the other one was cancelled."""
    events, _ = trip()
    events[-3:] = [
        refunded("re_1", 15_000, by_hand=True),
        of("leg_ended", leg_id=LEG.format(2), kept_minor=0),
        part(5_000, PAID),
        refunded("re_2", 5_000),
    ]
    return events, [entry(PAID, refund("re_1", 15_000), refund("re_2", 5_000))]


def moved() -> tuple[Events, Ledger]:
    """A stay that moved to another room type for 100.00 more; its leg there was cancelled, and 50.00 are kept."""
    leg = {"booking_id": LEG.format(1), "amount_minor": 30_000, "trip_id": BOOKED}
    dearer = {"amount_minor": 30_000, "extra_minor": 10_000, "currency": "EUR", "payment_intent": "pi_2"}
    request = {**REQUESTED[1], "reason": "booking_cancelled", "total_minor": None}
    events = [
        *(RESERVED, CONFIRMED, ("booking.reserved.v1", leg)),
        of("changed", change_id=LEG.format(1), to_room_id=8, **dearer),
        ("booking.confirmed.v1", {**leg, "trip_id": None}),
        of("leg_ended", leg_id=LEG.format(1), kept_minor=5_000),
        ("booking.refund_requested.v2", {**request, "payment_intent": "pi_2", "amount_minor": 10_000}),
        ("booking.refund_requested.v2", {**request, "amount_minor": 15_000}),
        of("cancelled", reason="by_guest", policy={"kept_minor": 5_000}),
        of("refunded", payment_intent="pi_2", refund_id="re_1", amount_minor=10_000),
        refunded("re_2", 15_000),
    ]
    second = entry(10_000, refund("re_1", 10_000), payment_intent="pi_2")
    return deepcopy(events), [entry(PAID, refund("re_2", 15_000)), second]


@pytest.mark.parametrize(
    "money",
    [
        *(kept, returned, retained, kept_whole, left_early, not_arrived, changed, changed_and_cancelled),
        *(trip, cancelled_trip, trip_refunded_by_hand, moved),
    ],
)
def test_money_that_events_explain_is_no_problem(money: Callable[[], tuple[Events, Ledger]]) -> None:
    assert unexplained(*money()) == []


def test_a_payment_of_another_installation_is_not_ours_to_explain() -> None:
    foreign = entry(45_000, payment_intent="pi_9", metadata={"booking_id": "22222222-0000-0000-0000-000000000000"})
    unpaid = entry(0, payment_intent="pi_8")
    events, ledger = kept()

    assert unexplained(events, [*ledger, foreign, unpaid]) == []


def drop(events: Events, *kinds: str) -> None:
    """Take the first event of each kind away."""
    for kind in kinds:
        del events[[name for name, _ in events].index(f"booking.{kind}.v1")]


def undo_the_last_refund(events: Events, ledger: Ledger) -> None:
    """Let the refund of the rest not have been made."""
    events.pop()
    ledger[0]["refund_objects"].pop()
    ledger[0].update(refunded_minor=5_000)


def event_of(events: Events, kind: str, which: int = 0) -> dict[str, Any]:
    return [event for name, event in events if name == f"booking.{kind}.v1"][which]


@pytest.mark.parametrize(
    ("money", "damage", "named"),
    [
        pytest.param(
            trip,
            lambda events, ledger: event_of(events, "leg_ended").update(kept_minor=2_999),
            f"booking {BOOKED}: CONFIRMED for 14999, and 15000 of its payment is left",
            id="a leg gives back too little",
        ),
        pytest.param(
            trip,
            lambda events, ledger: event_of(events, "trip_reserved").update(amount_minor=19_999),
            f"trip {BOOKED}: 19999 is not the sum of its legs",
            id="a trip costs something else than its legs",
        ),
        pytest.param(
            trip,
            lambda events, ledger: drop(events, "leg_held"),
            f"trip {BOOKED}: {LEG.format(1)} ended, and was not held",
            id="a leg that was never held",
        ),
        pytest.param(
            trip,
            lambda events, ledger: (
                events.pop(),
                ledger[0]["refund_objects"].pop(),
                ledger[0].update(refunded_minor=0),
            ),
            f"pi_1: 5000 is still due to the guest of booking {BOOKED}",
            id="the part of a leg did not go back",
        ),
        pytest.param(
            cancelled_trip,
            lambda events, ledger: event_of(events, "cancelled")["policy"].update(kept_minor=12_999),
            f"booking {BOOKED}: CANCELLED, and 13000 of its payment is kept",
            id="more is kept of a trip than of its legs",
        ),
        pytest.param(
            moved,
            lambda events, ledger: event_of(events, "changed").update(to_room_id=None),
            f"trip {BOOKED}: {LEG.format(1)} ended, and was not held",
            id="a stay whose leg is in no other room",
        ),
        pytest.param(
            lambda: retained(kept_minor=11_999),
            lambda events, ledger: None,
            f"pi_1: 12000 is retained of booking {BOOKED}, and no policy says so",
            id="more is retained than the policy keeps",
        ),
        pytest.param(
            kept_whole,
            lambda events, ledger: event_of(events, "cancelled")["policy"].update(kept_minor=19_999),
            f"booking {BOOKED}: CANCELLED, and 20000 of its payment is kept",
            id="more is kept than the policy keeps",
        ),
        pytest.param(
            left_early,
            lambda events, ledger: (
                events.pop(),
                ledger[0]["refund_objects"].pop(),
                ledger[0].update(refunded_minor=0),
            ),
            f"pi_1: 8000 is still due to the guest of booking {BOOKED}",
            id="the rest did not go back",
        ),
        pytest.param(
            kept,
            lambda events, ledger: drop(events, "confirmed"),
            "pi_1: 20000 arrived, and no event has it",
            id="no event has a payment",
        ),
        pytest.param(
            kept, lambda events, ledger: ledger.clear(), "pi_1: Stripe has no such payment", id="an invented payment"
        ),
        pytest.param(
            kept,
            lambda events, ledger: event_of(events, "confirmed").update(amount_minor=19_999),
            "pi_1: 20000 arrived, its events have 19999",
            id="another amount arrived",
        ),
        pytest.param(
            kept,
            lambda events, ledger: ledger[0].update(currency="usd"),
            "pi_1: it is in usd at Stripe and in EUR by its events",
            id="another currency arrived",
        ),
        pytest.param(
            kept,
            lambda events, ledger: ledger[0].update(refunded_minor=5_001),
            "pi_1: 13999 is left at Stripe, its events leave 14000",
            id="a cent is not explained",
        ),
        pytest.param(
            kept,
            lambda events, ledger: ledger[0].update(refunded_minor=20_000),
            "pi_1: 20000 was refunded and 1000 lost of 20000",
            id="more left than arrived",
        ),
        pytest.param(
            kept,
            lambda events, ledger: event_of(events, "refunded").update(amount_minor=20_001),
            "pi_1: by its events 20001 went back of 20000",
            id="more went back by the events",
        ),
        pytest.param(
            kept,
            lambda events, ledger: drop(events, "refunded"),
            "pi_1: re_1 returned 5000, and no event has it",
            id="a refund without an event",
        ),
        pytest.param(
            kept,
            lambda events, ledger: event_of(events, "refunded").update(amount_minor=4_000),
            "pi_1: re_1 returned 5000, its event has 4000",
            id="a refund with another amount",
        ),
        pytest.param(
            kept,
            lambda events, ledger: events.append(refunded("re_1", 5_000)),
            "pi_1: re_1 has more than one event",
            id="a refund with two events",
        ),
        pytest.param(
            kept,
            lambda events, ledger: ledger[0]["refund_objects"].clear(),
            "pi_1: re_1 has an event, and Stripe has no such refund",
            id="an invented refund",
        ),
        pytest.param(
            kept,
            lambda events, ledger: ledger[0]["refund_objects"][0].update(status="pending"),
            "pi_1: re_1 is pending",
            id="a refund that is under way",
        ),
        pytest.param(
            returned,
            lambda events, ledger: drop(events, "refund_failed"),
            "pi_1: re_2 failed, and no event has it",
            id="a refund that failed silently",
        ),
        pytest.param(
            returned,
            lambda events, ledger: ledger[0]["refund_objects"][1].update(status="succeeded"),
            "pi_1: re_2 failed by its event, at Stripe it is succeeded",
            id="a failure that did not happen",
        ),
        pytest.param(
            kept,
            lambda events, ledger: drop(events, "dispute_closed"),
            "pi_1: dp_1 is lost over 1000, by its events open over 1000",
            id="a dispute's end without an event",
        ),
        pytest.param(
            kept,
            lambda events, ledger: drop(events, "dispute_closed", "dispute_opened"),
            "pi_1: dp_1 disputes 1000, and no event has it",
            id="a dispute without an event",
        ),
        pytest.param(
            kept,
            lambda events, ledger: ledger[0]["dispute_objects"].clear(),
            "pi_1: dp_1 has an event, and Stripe has no such dispute",
            id="an invented dispute",
        ),
        pytest.param(
            kept,
            lambda events, ledger: event_of(events, "refunded").update(by_hand=False),
            f"booking {BOOKED}: CONFIRMED for 20000, and 14000 of its payment is left",
            id="a confirmed stay is refunded by the product",
        ),
        pytest.param(
            kept,
            lambda events, ledger: events.append(REQUESTED),
            f"booking {BOOKED}: CONFIRMED, and 0 payments pay it",
            id="a confirmed stay that nothing pays",
        ),
        pytest.param(
            kept,
            lambda events, ledger: events.append(CANCELLED),
            f"booking {BOOKED}: CANCELLED, and 14000 of its payment is kept",
            id="a cancelled stay whose money is kept",
        ),
        pytest.param(
            returned,
            undo_the_last_refund,
            f"pi_1: 15000 is still due to the guest of booking {BOOKED}",
            id="a refund that nobody made",
        ),
        pytest.param(
            returned,
            lambda events, ledger: drop(events, "refund_requested", "confirmed"),
            "pi_1: booking.refunded.v1, and no event let it arrive",
            id="a refund of a payment that never arrived",
        ),
        pytest.param(
            kept_by_policy,
            lambda events, ledger: events[2][1].pop("policy"),
            f"pi_1: 5000 is retained of booking {BOOKED}, and no policy says so",
            id="a part that no policy keeps",
        ),
        pytest.param(
            lambda: ended(14_999),
            lambda events, ledger: None,
            f"pi_1: 1 is still due to the guest of booking {BOOKED}",
            id="a cent less than the policy returns",
        ),
        pytest.param(
            kept_by_policy,
            lambda events, ledger: events.__delitem__(slice(3, None)),
            f"booking {BOOKED}: CANCELLED, and 20000 of its payment is kept",
            id="more is kept than the policy keeps",
        ),
        pytest.param(
            changed,
            lambda events, ledger: (
                events.pop(),
                ledger[0]["refund_objects"].pop(),
                ledger[0].update(refunded_minor=0),
            ),
            f"pi_1: 5000 is still due to the guest of booking {BOOKED}",
            id="a cheaper change that nothing is refunded for",
        ),
        pytest.param(
            changed,
            lambda events, ledger: event_of(events, "changed", 1).update(amount_minor=15_001),
            f"booking {BOOKED}: CONFIRMED for 15001, and 15000 of its payment is left",
            id="a changed stay that keeps another amount",
        ),
        pytest.param(
            changed,
            lambda events, ledger: event_of(events, "changed").update(payment_intent=None),
            "pi_2: 10000 arrived, and no event has it",
            id="a payment of a change without an event",
        ),
        pytest.param(
            changed,
            lambda events, ledger: event_of(events, "changed").update(payment_intent=None),
            f"booking {BOOKED}: CONFIRMED, and 1 payments pay it",
            id="a dearer change that nothing pays",
        ),
        pytest.param(
            changed_and_cancelled,
            lambda events, ledger: event_of(events, "cancelled")["policy"].update(kept_minor=4_999),
            f"pi_1: 5000 is retained of booking {BOOKED}, and no policy says so",
            id="more is retained of a changed stay than the policy keeps",
        ),
        pytest.param(
            kept,
            lambda events, ledger: events.append(CONFIRMED),
            "pi_1: an event lets it arrive a second time",
            id="a payment that arrives twice",
        ),
    ],
)
def test_money_that_no_event_explains_is_named(
    money: Callable[[], tuple[Events, Ledger]], damage: Callable[[Events, Ledger], Any], named: str
) -> None:
    events, ledger = money()
    damage(events, ledger)

    assert named in unexplained(events, ledger)


def test_a_refund_may_be_due_where_it_is_expected_and_an_amount_that_an_operator_closed_is_not_due() -> None:
    events, ledger = returned()
    undo_the_last_refund(events, ledger)

    assert unexplained(events, ledger, still_due={BOOKED}) == []
    events.append(of("refund_closed", payment_intent="pi_1", amount_minor=15_000, reason="paid_otherwise"))
    assert unexplained(events, ledger) == []


def test_amounts_are_compared_in_the_unit_of_stripe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stripe counts some currencies in another unit than ISO 4217."""
    monkeypatch.setattr("tests.support.money.to_stripe", lambda amount, currency: amount * 100)
    events, ledger = (
        [RESERVED, CONFIRMED, CANCELLED, REQUESTED, refunded("re_1", PAID)],
        [entry(PAID * 100, refund("re_1", PAID * 100))],
    )

    assert unexplained(events, ledger) == []
    ledger[0]["refund_objects"][0]["amount_minor"] = PAID
    assert unexplained(events, ledger) == [f"pi_1: re_1 returned {PAID}, its event has {PAID * 100}"]
