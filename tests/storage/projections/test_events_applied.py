"""Each projection applies exactly the events that it declares: a rebuild decodes those alone, and a worker all."""

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from storage.database import connect
from storage.projections.positioned_event import PositionedEvent
from storage.projections.rebuildable import PROJECTIONS, Projection
from storage.settings import DatabaseSettings
from tests.storage.projections.log import (
    Log,
    change_ended,
    change_held,
    changed,
    consumers,
    night,
    on_the_log,
    opened,
    partition_batch,
    reserved,
    rooms_held,
    stay_changed,
    stay_of,
    write_ledger,
)
from topics.envelope import decode_value
from topics.messages.commands import ClaimCode, ReserveStay
from topics.messages.events import (
    EVENTS,
    BlockReleased,
    BookingCancelled,
    BookingConfirmed,
    BookingEvent,
    BookingRefunded,
    ChangeRejected,
    CodeChanged,
    CodeClaimed,
    CodeRejected,
    CodeReturned,
    CodeUnchanged,
    DisputeClosed,
    DisputeOpened,
    DocumentIssued,
    DocumentNotIssued,
    Event,
    GuestsChanged,
    GuestsCheckedIn,
    GuestsCheckedOut,
    GuestsDidNotArrive,
    LegEnded,
    NightsBlocked,
    RefundClosed,
    RefundFailed,
    RefundRequested,
    SaleTermsChanged,
)
from topics.messages.sale import NO_SALE_TERMS, AppliedPolicy, CodeTerms, Discount
from topics.messages.values import (
    BlockReason,
    CancelReason,
    DisputeResult,
    DocumentKind,
    DocumentReason,
    RefundClosing,
    RefundReason,
    Rejection,
)
from workers.projections.positioned_events import positioned_events

CONTRACTS = Path(__file__).parents[2] / "contracts"
COUNTED, NOT_COUNTED, NEW, TRIP, LEG = (UUID(int=number) for number in (1, 2, 3, 6, 7))
BLOCKED: dict[str, Any] = {
    "room_id": 1,
    "block_id": UUID(int=4),
    "first_night": night(0),
    "end_night": night(2),
    "rooms_count": 1,
}
#: Other dates of the counted stay, and one room more.
CHANGED = stay_changed(
    reserved(COUNTED.int, 1, 0, 2),
    1,
    1,
    3,
    2,
    held=rooms_held(stay_of(reserved(COUNTED.int, 1, 0, 2)), night(1), night(3), 2),
    amount_minor=3,
    payment_intent="pi_more",
    extra_minor=2,
)
#: A promo code and a hotel of the same number as the room.
CODE: dict[str, Any] = {"code_id": 1, "booking_id": COUNTED}
RESERVE = ReserveStay(room_id=1, booking_id=COUNTED, hotel_id=10, check_in=night(0), check_out=night(2))


def refunded(refund_id: str) -> BookingRefunded:
    return BookingRefunded(
        room_id=1, booking_id=COUNTED, payment_intent="pi", refund_id=refund_id, amount_minor=1, by_hand=True
    )


#: Events that change every read model that takes their kind; of other kinds the event of the contract does.
EVENTS_THAT_COUNT: tuple[Event, ...] = (
    opened(1, 5, 7, 8_000),
    changed(1, [0], price_minor=7_000),
    reserved(NEW.int, 1, 0, 2),
    refunded("re_1"),
    RefundFailed(
        room_id=1, booking_id=COUNTED, payment_intent="pi", refund_id="re_0", amount_minor=1, failure="unknown"
    ),
    DisputeClosed(
        room_id=1,
        booking_id=COUNTED,
        payment_intent="pi",
        dispute_id="dp_1",
        amount_minor=1,
        currency="EUR",
        result=DisputeResult.LOST,
    ),
    DisputeOpened(
        room_id=1,
        booking_id=COUNTED,
        payment_intent="pi",
        dispute_id="dp_1",
        amount_minor=1,
        currency="EUR",
        reason="fraudulent",
    ),
    RefundClosed(
        room_id=1,
        booking_id=TRIP,
        payment_intent="pi_trip",
        amount_minor=1,
        currency="EUR",
        reason=RefundClosing.PAID_OTHERWISE,
    ),
    LegEnded(room_id=1, booking_id=TRIP, leg_id=LEG, kept_minor=1, reason=RefundReason.NO_SHOW),
    GuestsChanged(room_id=1, booking_id=COUNTED, guest_ids=(2,), guest_list_id=UUID(int=9)),
    RefundRequested(
        room_id=1,
        booking_id=COUNTED,
        session_id="cs",
        payment_intent="pi_2",
        amount_minor=1,
        currency="EUR",
        reason=RefundReason.NO_SHOW,
    ),
    BookingCancelled(room_id=1, booking_id=COUNTED, reason=CancelReason.BY_GUEST, policy=AppliedPolicy(kept_minor=1)),
    GuestsCheckedIn(room_id=1, booking_id=COUNTED),
    GuestsCheckedOut(room_id=1, booking_id=COUNTED, freed_from=night(1), policy=AppliedPolicy(kept_minor=1)),
    GuestsDidNotArrive(room_id=1, booking_id=COUNTED, freed_from=night(0), policy=AppliedPolicy(kept_minor=1)),
    NightsBlocked(**BLOCKED, reason=BlockReason.MAINTENANCE),
    BlockReleased(**BLOCKED),
    SaleTermsChanged(room_id=1, hotel_id=10, terms=NO_SALE_TERMS),
    CHANGED,
    change_held(CHANGED),
    change_ended(change_held(CHANGED)),
    ChangeRejected(
        room_id=1,
        booking_id=COUNTED,
        change_id=UUID(int=1),
        check_in=night(1),
        check_out=night(3),
        rooms_count=9,
        reason=Rejection.SOLD_OUT,
    ),
    CodeChanged(code_id=1, hotel_id=10, terms=CodeTerms(version=1, code="SPRING", percent_milli=10_000)),
    CodeClaimed(**CODE, discount=Discount(code_id=1, code="SPRING", percent_milli=10_000), reserve=RESERVE),
    CodeRejected(**CODE, reason=Rejection.CODE_USED_UP, reserve=RESERVE),
    CodeReturned(**CODE),
    CodeUnchanged(code_id=1, command=ClaimCode.message_type),
    DocumentIssued(
        hotel_id=1,
        document_id=UUID(int=5),
        kind=DocumentKind.INVOICE,
        number=1,
        reason=DocumentReason.STAY,
        booking_id=COUNTED,
        lines=(),
        amount_minor=1,
        currency="EUR",
    ),
    DocumentNotIssued(hotel_id=1, document_id=UUID(int=5)),
)


def event_of(kind: type[Event]) -> Event:
    """Return an event of this kind that changes every read model that takes the kind."""
    for counted in EVENTS_THAT_COUNT:
        if type(counted) is kind:
            return counted
    contract = json.loads((CONTRACTS / f"{kind.message_type}.json").read_text())
    event = decode_value(kind.message_type, json.dumps(contract["value"]).encode())
    assert isinstance(event, kind)
    if isinstance(event, BookingEvent):
        return replace(event, room_id=1, booking_id=NOT_COUNTED if kind is BookingConfirmed else COUNTED)
    return replace(event, room_id=1)


@pytest.mark.parametrize("projection", PROJECTIONS.values(), ids=lambda projection: str(projection.name))
async def test_a_projection_applies_the_events_that_it_declares_and_no_others(
    projection: Projection, database: DatabaseSettings
) -> None:
    stays = [reserved(booking_id.int, 1, 0, 2) for booking_id in (COUNTED, NOT_COUNTED)]
    paid = BookingConfirmed(room_id=1, booking_id=COUNTED, amount_minor=1, currency="EUR", payment_intent="pi")
    of_trip = replace(paid, booking_id=TRIP, payment_intent="pi_trip")
    before = [opened(1, 0, 3, 9_000), *stays, paid, refunded("re_0"), of_trip]
    changing = set()
    async with await connect(database, "test") as connection:
        await write_ledger(connection, on_the_log([*before, reserved(TRIP.int, 1, 0, 2)]))
        legs = Jsonb([{"booking_id": str(LEG), "room_id": 1, "rooms_count": 1, "state": "held", "amount_minor": 1}])
        await connection.execute("update booking set legs = %s where id = %s", (legs, TRIP))
        for kind in EVENTS:
            *earlier, event = positioned(projection, on_the_log([*before, event_of(kind)]))
            async with connection.transaction(force_rollback=True):
                await projection.apply(connection, earlier)
                rows = await rows_of(connection, projection)
                await projection.apply(connection, [event])
                if await rows_of(connection, projection) != rows:
                    changing.add(kind.message_type)

    assert changing == {kind.message_type for kind in EVENTS if kind.message_type in projection.event_types}


def positioned(projection: Projection, log: Log) -> list[PositionedEvent]:
    """Return the events of the only partition that has any."""
    [(number, received)] = log.items()
    return positioned_events([partition_batch(consumers()[projection.name], number, received)])


async def rows_of(connection: AsyncConnection, projection: Projection) -> list[list[tuple[Any, ...]]]:
    """Return all rows of the projection's tables."""
    return [
        sorted(await (await connection.execute(f"select * from {table.name}".encode())).fetchall(), key=repr)
        for table in projection.tables
    ]
