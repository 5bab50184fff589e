"""Payments within a second of the end of their holds: each is confirmed or goes back, never both, never neither.

The sessions are opened before the stays are reserved, so that a hold of a second is long enough to pay it. Half of the
rooms are taken by others at the deadline: some late payments find their nights, and some do not.
"""

import asyncio
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from tests.support.money import read_events, read_ledger
from tests.support.waiting import MAX_WAIT_SECONDS, wait_until
from tests.system.money.desk import Desk, Inn
from topics.envelope import Envelope
from topics.messages.commands import AddGuests, RequestPayment, ReserveStay
from topics.messages.events import PaymentRequested
from topics.messages.values import Terms
from workers.payments.gateway import open_gateway
from workers.payments.pending_calls import CallContext, calls_for
from workers.payments.settings import PaymentSettings
from workers.stripe.marks import Marks

pytestmark = [
    pytest.mark.asyncio(loop_scope="package"),
    pytest.mark.system,
    # Stripe's library hands its form to httpx in a way that httpx no longer likes.
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]

HOLD_SECONDS = 1
PRICE = 100_00
CALLS_SECONDS = 0.3
"""The time in which payments makes all calls about one booking, at most: for its session and its refund."""


@pytest.mark.parametrize("count", [100, pytest.param(1_000, marks=pytest.mark.long)])
async def test_each_payment_near_its_deadline_is_confirmed_or_goes_back(desk: Desk, count: int) -> None:
    inn = await desk.inn(total=count)
    bookings = [uuid4() for _ in range(count)]
    sessions = await opened(desk, inn, bookings)
    check_in = datetime.now(UTC).date() + timedelta(days=20)
    loop = asyncio.get_running_loop()
    began = loop.time()
    # One booking after the other, each with its payment between half a second before its deadline and half after it.
    spread_seconds = count / 100

    async def books_and_pays(number: int, booking_id: UUID) -> None:
        at = began + number / count * spread_seconds
        await comes(at)
        about: dict[str, Any] = {"room_id": inn.room.id, "booking_id": booking_id, "user_id": 1}
        named = AddGuests(**about, guest_ids=(1,))
        await desk.house.send(reserve(inn, booking_id, check_in), named, RequestPayment(**about))
        await comes(at + HOLD_SECONDS - 0.5 + (number * 7 % 100) / 100)
        await desk.house.stripe("POST", f"/_sandbox/sessions/{sessions[booking_id]}/pay", json={})

    async def takes_what_is_free(number: int) -> None:
        await comes(began + number / count * spread_seconds + HOLD_SECONDS)
        other = reserve(inn, uuid4(), check_in, terms=Terms.AT_HOTEL)
        await desk.house.send(other)

    await asyncio.gather(
        *(books_and_pays(number, booking_id) for number, booking_id in enumerate(bookings)),
        *(takes_what_is_free(number) for number in range(0, count, 2)),
    )

    seconds = MAX_WAIT_SECONDS + count * CALLS_SECONDS
    ends = await wait_until(lambda: ends_of(desk, bookings), seconds, "each payment is confirmed or has gone back")
    assert set(ends) <= {"confirmed", "gone back"}
    assert sum(ends.values()) == count


async def opened(desk: Desk, inn: Inn, bookings: list[UUID]) -> dict[UUID, str]:
    """Open the session of each booking at Stripe, as payments would."""
    environment = desk.house.system.environment()
    settings = PaymentSettings(
        _env_file=None,
        stripe_api_key=SecretStr(environment.get("STRIPE_API_KEY", "sk_test_innkeeper_development")),
        stripe_api_url=desk.house.system.stripe_url,
        stripe_calls_per_second=1_000,
    )
    [installation] = await desk.house.rows("select id from installation")
    marks = Marks(settings.payment_mark_key.get_secret_value(), installation["id"])
    context = CallContext(marks=marks, frontend_url=settings.frontend_url)
    now = datetime.now(UTC)
    found: dict[UUID, str] = {}
    async with open_gateway(settings) as gateway:
        for booking_id in bookings:
            event = PaymentRequested(
                room_id=inn.room.id, booking_id=booking_id, attempt=1, amount_minor=PRICE, currency="EUR"
            )
            envelope = Envelope(
                id=str(uuid4()), type=event.message_type, source="test", subject=str(booking_id), time=now
            )
            _, session = calls_for(event, envelope, now, context=context)
            params: Any = session.params  # type: ignore[union-attr]
            created = await gateway._sessions.create_async(params, {"idempotency_key": str(uuid4())})
            found[booking_id] = created.id
    return found


def reserve(inn: Inn, booking_id: UUID, check_in: date, **changes: Any) -> ReserveStay:
    wish: dict[str, Any] = {"user_id": 1, "hold_seconds": HOLD_SECONDS, **changes}
    return ReserveStay(
        room_id=inn.room.id,
        booking_id=booking_id,
        hotel_id=inn.room.hotel_id,
        check_in=check_in,
        check_out=check_in + timedelta(days=1),
        **wish,
    )


async def comes(at: float) -> None:
    """Wait until the loop's clock shows a time."""
    loop = asyncio.get_running_loop()
    await wait_until(lambda: loop.time() >= at)


async def ends_of(desk: Desk, bookings: list[UUID]) -> Counter[str]:
    """Return how many payments are confirmed, and how many went back in full; none while one has no end."""
    names = set(map(str, bookings))
    ledger = await read_ledger(desk.house.session, desk.house.system.stripe_url)
    paid = {entry["payment_intent"]: entry for entry in ledger if entry.get("metadata", {}).get("booking_id") in names}
    confirmed, asked, back = set(), set(), set()
    for kind, event in await read_events(desk.log):
        if event.get("booking_id") in names and event.get("payment_intent"):
            intent = event["payment_intent"]
            if kind == "booking.confirmed.v1":
                confirmed.add(intent)
            elif kind.startswith("booking.refund_requested."):
                asked.add(intent)
            elif kind == "booking.refunded.v1":
                back.add(intent)
    assert not confirmed & asked, "a payment is confirmed and goes back"
    if len(paid) < len(bookings) or (confirmed | back) < set(paid):
        return Counter()
    for intent, entry in paid.items():
        assert entry["captured_minor"] - entry["refunded_minor"] == (PRICE if intent in confirmed else 0)
    return Counter("confirmed" if intent in confirmed else "gone back" for intent in paid)
