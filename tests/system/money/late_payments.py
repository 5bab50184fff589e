"""Payments within a second of the end of their holds.

The sessions are opened before the stays are reserved, so that a hold of a second is long enough to pay it. Half of the
rooms are taken by others at the deadline: some late payments find their nights, and some do not.
"""

import asyncio
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from pydantic import SecretStr

from tests.support.money import read_events, read_ledger
from tests.support.waiting import wait_until
from tests.system.money.desk import Desk, Inn
from topics.envelope import Envelope
from topics.messages.commands import AddGuests, RequestPayment, ReserveStay
from topics.messages.events import PaymentRequested
from topics.messages.values import Terms
from workers.payments.gateway import open_gateway
from workers.payments.pending_calls import CallContext, calls_for
from workers.payments.settings import PaymentSettings
from workers.stripe.marks import Marks

HOLD_SECONDS = 1
PRICE = 100_00
CALLS_SECONDS = 0.3
"""The time in which payments makes all calls about one booking, at most: for its session and its refund."""


async def pay_near_deadlines(desk: Desk, inn: Inn, count: int) -> list[UUID]:
    """Let so many bookings be paid around their deadlines; return them.

    They come one after the other, each with its payment between half a second before its deadline and half after it.
    """
    bookings = [uuid4() for _ in range(count)]
    sessions = await opened(desk, inn, bookings)
    check_in = datetime.now(UTC).date() + timedelta(days=20)
    loop = asyncio.get_running_loop()
    began = loop.time()
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
    return bookings


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
