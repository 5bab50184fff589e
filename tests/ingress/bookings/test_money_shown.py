"""The money of a booking that went back or must, disputes, and refusals in words: as the guest and the hotel see it."""

import asyncio
import json
from typing import Any
from uuid import UUID

import pytest

from tests.ingress.house import WAIT, House, StandInWorker
from topics.messages.events import CommandRefused, PaymentDeclined
from topics.messages.values import BookingStatus, Refusal

GUEST, MANAGER = 1, 2
KEPT: dict[str, Any] = {"payment_intent": "pi_1", "session_id": "cs_1", "amount_minor": 20000, "state": "kept"}
DUE = KEPT | {"state": "refund_requested", "due_minor": 20000}
BACK = KEPT | {"state": "refunded"}


async def shown(house: House, stand_in: StandInWorker, *payments: dict[str, Any], rows: str = "") -> Any:
    """Return the refunds of a booking with these payments, and rows of the payments workers."""
    booking_id = await stand_in.add_booking(GUEST, "CANCELLED", payments=json.dumps(payments))
    if rows:
        await stand_in.connection.execute(rows.encode(), {"id": booking_id})
    return (await house.get(f"/v1/bookings/{booking_id}", user=GUEST)).body.get("refunds")


def refund(refunded: str, due: str, status: str | None, **more: Any) -> list[dict[str, Any]]:
    """Return the one entry of a payment of 200.00."""
    entry = {"paid": "200.00", "refunded": refunded, "due": due, "currency": "EUR"} | more
    return [entry if status is None else entry | {"status": status}]


def call(status: str) -> str:
    """Return the statement that writes the row of a call to Stripe."""
    return (
        "insert into refund (payment_intent, booking_id, room_id, status, params, idempotency_key, amount_minor, "
        "currency, reason, causation, correlation) "
        f"values ('pi_1', %(id)s, 1, '{status}', '{{}}', 'k', 20000, 'EUR', 'booking_cancelled', 'c', 'c')"
    )


def made(status: str, *, by_hand: bool = False) -> str:
    """Return the statement that writes the row of a refund at Stripe."""
    return (
        "insert into payment_refund (refund_id, payment_intent, booking_id, amount_minor, currency, status, by_hand) "
        f"values ('re_1', 'pi_1', %(id)s, 20000, 'EUR', '{status}', {by_hand})"
    )


SHOWN: list[tuple[dict[str, Any], str, list[dict[str, Any]] | None]] = [
    (KEPT, "", None),
    (DUE, "", refund("0.00", "200.00", "due")),
    (DUE, call("creating"), refund("0.00", "200.00", "due")),
    (DUE, call("pending"), refund("0.00", "200.00", "pending")),
    (DUE, made("pending"), refund("0.00", "200.00", "pending")),
    (DUE, made("failed"), refund("0.00", "200.00", "failed")),
    # A refund that 0.1.0 gave up on.
    (DUE, call("failed"), refund("0.00", "200.00", "failed")),
    (DUE | {"failed_refund_ids": ["re_1"]}, call("creating"), refund("0.00", "200.00", "failed")),
    (DUE | {"failed_refund_ids": ["re_1"]}, call("pending"), refund("0.00", "200.00", "pending")),
    # Part of it went back by hand before, and a refund by hand that failed is no failure of ours.
    (
        DUE | {"due_minor": 15000, "refunds": [["re_0", 5000, True]]},
        made("failed", by_hand=True),
        refund("50.00", "150.00", "due"),
    ),
    (BACK | {"refunds": [["re_1", 20000, False]]}, call("succeeded"), refund("200.00", "0.00", "succeeded")),
    (KEPT | {"refunds": [["re_1", 5000, True]]}, "", refund("50.00", "0.00", "succeeded")),
    # A refund by hand that failed stays listed; one that failed and was made again has its money back.
    (KEPT | {"failed_refund_ids": ["re_1"]}, made("failed", by_hand=True), refund("0.00", "0.00", "failed")),
    (
        KEPT | {"failed_refund_ids": ["re_1"], "refunds": [["re_2", 5000, True]]},
        "",
        refund("50.00", "0.00", "succeeded"),
    ),
    (BACK | {"closed_minor": 20000}, call("closed"), refund("0.00", "0.00", "closed")),
    (BACK | {"disputes": [["dp_1", 20000, "lost"]]}, "", refund("0.00", "0.00", "closed")),
    (KEPT | {"disputes": [["dp_1", 20000, "open"]]}, "", refund("0.00", "0.00", None, disputed=True)),
    (DUE | {"disputes": [["dp_1", 20000, "open"]]}, "", refund("0.00", "200.00", "due", disputed=True)),
    (KEPT | {"disputes": [["dp_1", 20000, "won"]]}, "", None),
    # As 0.1.0 wrote them: a refund in full, without sums.
    (KEPT | {"state": "refund_requested"}, call("creating"), refund("0.00", "200.00", "due")),
    (BACK, call("succeeded"), refund("200.00", "0.00", "succeeded")),
]


@pytest.mark.parametrize(("payment", "rows", "expected"), SHOWN, ids=str)
async def test_a_guest_sees_what_came_back_and_what_is_due(
    house: House, stand_in: StandInWorker, payment: dict[str, Any], rows: str, expected: Any
) -> None:
    assert await shown(house, stand_in, payment, rows=rows) == expected


async def test_each_payment_is_shown_in_its_own_currency(house: House, stand_in: StandInWorker) -> None:
    second = DUE | {"payment_intent": "pi_2", "currency": "JPY", "amount_minor": 300, "due_minor": 300}
    refunds = await shown(house, stand_in, KEPT, DUE | {"payment_intent": "pi_3"}, second)
    assert [(refund["due"], refund["currency"]) for refund in refunds] == [("200.00", "EUR"), ("300", "JPY")]


async def test_the_hotels_list_flags_what_is_disputed_and_what_went_back(house: House, stand_in: StandInWorker) -> None:
    await stand_in.connection.execute("update hotel set owner_id = %s where id = 1", (MANAGER,))
    payments: list[Any] = [
        [KEPT],
        [KEPT | {"disputes": [["dp_1", 20000, "open"]]}],
        [KEPT | {"refunds": [["re_1", 5000, True]]}, BACK | {"refunds": [["re_2", 20000, False]]}],
    ]
    ids = [await stand_in.add_booking(GUEST, "CONFIRMED", payments=json.dumps(arrived)) for arrived in payments]

    listed = (await house.get("/v1/admin/hotels/1/bookings", headers=house.manager_header(MANAGER))).body

    flags = {booking["id"]: {name: booking.get(name) for name in ("disputed", "refunded")} for booking in listed}
    expected: list[dict[str, Any]] = [
        {"disputed": None, "refunded": None},
        {"disputed": True, "refunded": None},
        {"disputed": None, "refunded": "250.00"},
    ]
    assert [flags[str(booking_id)] for booking_id in ids] == expected


WORDS = [
    (Refusal.CHECK_IN_PASSED, "check-in has passed"),
    (Refusal.STAY_OVER, "the stay is over"),
    (Refusal.WRONG_STATUS, "the booking's status does not allow it"),
]


@pytest.mark.parametrize("prefix", ["", "/v1", "/v2"])
@pytest.mark.parametrize(("reason", "words"), WORDS)
async def test_a_cancellation_that_is_refused_has_the_reason_in_words(
    house: House, stand_in: StandInWorker, prefix: str, reason: Refusal, words: str
) -> None:
    booking_id = await stand_in.add_booking(GUEST, "CONFIRMED")
    asking = asyncio.create_task(house.post(f"{prefix}/bookings/{booking_id}/cancel", user=GUEST, headers=WAIT))
    refused = CommandRefused(
        room_id=1,
        booking_id=booking_id,
        command="booking.cancel.v1",
        reason=reason,
        booking_status=BookingStatus.CONFIRMED,
    )
    await stand_in.publish(await stand_in.next_command(), refused)
    answered = await asking
    assert (answered.status, answered.body["reason"], answered.body["booking_status"]) == (409, reason, "CONFIRMED")
    assert words in answered.body["detail"]


FAILURES = [
    ("session_refused", "the payment provider opens no payment page for this booking"),
    (
        "session_refused:amount_too_small",
        "the payment provider opens no payment page for this booking (amount too small)",
    ),
]


@pytest.mark.parametrize(("failure", "words"), FAILURES)
async def test_a_payment_page_that_stripe_refuses_is_a_refusal_in_words(
    house: House, stand_in: StandInWorker, failure: str, words: str
) -> None:
    booking_id = await stand_in.add_booking(GUEST, "PAYMENTS_PENDING", failure=failure)
    asking = asyncio.create_task(house.post(f"/v1/bookings/{booking_id}/payments", user=GUEST, headers=WAIT))
    declined = PaymentDeclined(room_id=1, booking_id=booking_id, failure=failure)
    await stand_in.publish(await stand_in.next_command(), declined)
    answered = await asking
    assert (answered.status, answered.body["reason"]) == (409, "session_refused")
    assert answered.body["detail"] == f"refused: {words}"

    status = (await house.get(f"/v1/bookings/{booking_id}/status", user=GUEST)).body
    assert (status["reason"], status["detail"]) == ("session_refused", words)


# Answers to requests that waited in vain.

DECIDED = [("payments", "PAYMENTS_PENDING"), ("cancel", "CANCELLED"), ("addGuests", "GUESTS_ADDED")]


@pytest.mark.parametrize(("path", "status"), DECIDED)
@pytest.mark.parametrize("prefix", ["", "/v1"])
async def test_a_request_that_waited_in_vain_is_answered_with_the_status_after_it(
    house: House, stand_in: StandInWorker, path: str, status: str, prefix: str
) -> None:
    """Stripe is down: the payment is requested, which the ledger has, and no page to pay at is opened."""
    booking_id = await stand_in.add_booking(GUEST)
    guest = (await house.post("/v1/users/guests", {"name": "Ada"}, user=GUEST)).body["id"]
    asking = asyncio.create_task(
        house.post(
            f"{prefix}/bookings/{booking_id}/{path}",
            [guest] if path == "addGuests" else None,
            user=GUEST,
            headers={"Prefer": "wait=3"},
        )
    )
    await stand_in.next_command()
    await _becomes(stand_in, booking_id, status)
    answered = await asking
    assert (answered.status, answered.body["booking_status"]) == (202, status)


async def test_a_stay_that_was_reserved_while_nobody_saw_it_is_shown_as_reserved(
    house: House, stand_in: StandInWorker
) -> None:
    stay = {"hotel_id": 1, "room_id": 1, "check_in_date": "2027-06-01", "check_out_date": "2027-06-02"}
    asking = asyncio.create_task(house.post("/v1/bookings/init", stay, user=GUEST, headers={"Prefer": "wait=3"}))
    command = await stand_in.next_command()
    await stand_in.write_booking(UUID(command.envelope.subject), GUEST, "RESERVED")
    answered = await asking
    assert (answered.status, answered.body["booking_status"]) == (202, "RESERVED")


async def _becomes(stand_in: StandInWorker, booking_id: UUID, status: str) -> None:
    await stand_in.connection.execute("update booking set status = %s where id = %s", (status, booking_id))
