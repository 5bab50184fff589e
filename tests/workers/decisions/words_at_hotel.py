"""Messages of the scenarios about the days of a stay, and about rooms that are off sale; see `words`.

Ada's stay is sold on the terms of `SALE` here: the nights cost 120.00 and 80.00. One night is kept if she does not
arrive, and half of the nights that she leaves unused.
"""

from uuid import UUID

from tests.workers.decisions.words import (
    ADAS,
    OPENED,
    PAID,
    RESERVED,
    ROOM,
    SENT_BACK,
    WAITING,
    but,
    march,
)
from topics.messages.commands import BlockNights, CheckIn, CheckOut, MarkNoShow, ReleaseBlock
from topics.messages.events import (
    BlockReleased,
    BookingReserved,
    Event,
    GuestsCheckedIn,
    GuestsCheckedOut,
    GuestsDidNotArrive,
    InventoryUnchanged,
    NightsBlocked,
    RefundRequested,
)
from topics.messages.sale import (
    AppliedPolicy,
    CancellationStep,
    LineKind,
    Meals,
    Party,
    PriceLine,
    Sale,
)
from topics.messages.values import BlockReason, InventoryRefusal, RefundReason, Terms

ARRIVE = CheckIn(room_id=ROOM, booking_id=ADAS)
LEAVE = CheckOut(room_id=ROOM, booking_id=ADAS)
NO_SHOW = MarkNoShow(room_id=ROOM, booking_id=ADAS)

ARRIVED = GuestsCheckedIn(room_id=ROOM, booking_id=ADAS)
LEFT = GuestsCheckedOut(room_id=ROOM, booking_id=ADAS)
DID_NOT_ARRIVE = GuestsDidNotArrive(room_id=ROOM, booking_id=ADAS, freed_from=march(10))

SALE = Sale(
    terms_version=1,
    plan_id="standard",
    plan_name="Standard",
    meals=Meals.NONE,
    party=Party(adults=2),
    lines=(PriceLine(kind=LineKind.STAY, id="standard", name="Standard", amount_minor=200_00),),
    at_hotel_minor=0,
    steps=(CancellationStep(kept_minor=0, percent=0),),
    no_show_kept_minor=120_00,
    early_departure_percent=50,
)
SOLD_ON_TERMS = but(RESERVED, night_amounts_minor=(120_00, 80_00), sale=SALE)
AT_HOTEL = but(RESERVED, terms=Terms.AT_HOTEL, hold_expires_at=None)

BLOCK_ID, ANOTHER_BLOCK = UUID(int=201), UUID(int=202)
BLOCK = BlockNights(
    room_id=ROOM,
    block_id=BLOCK_ID,
    first_night=march(10),
    end_night=march(12),
    rooms_count=1,
    reason=BlockReason.MAINTENANCE,
)
RELEASE = ReleaseBlock(room_id=ROOM, block_id=BLOCK_ID)
BLOCKED = NightsBlocked(
    room_id=ROOM,
    block_id=BLOCK_ID,
    first_night=march(10),
    end_night=march(12),
    rooms_count=1,
    reason=BlockReason.MAINTENANCE,
)
RELEASED = BlockReleased(room_id=ROOM, block_id=BLOCK_ID, first_night=march(10), end_night=march(12), rooms_count=1)

# How far Ada's stay may have come.


def bought(reserved: BookingReserved) -> tuple[Event, ...]:
    """Return the events of a stay that was reserved so and then paid."""
    return (OPENED, reserved, *WAITING[2:], PAID)


def back(amount_minor: int, reason: RefundReason, retained_minor: int) -> RefundRequested:
    """Return the event that sends a part of Ada's 200.00 back."""
    return but(SENT_BACK, amount_minor=amount_minor, reason=reason, retained_minor=retained_minor)


def kept(amount_minor: int, percent: int | None = None) -> AppliedPolicy:
    """Return what the hotel keeps."""
    return AppliedPolicy(kept_minor=amount_minor, percent=percent)


def unchanged(command: BlockNights | ReleaseBlock, reason: InventoryRefusal | None) -> InventoryUnchanged:
    """Return the answer to a command about a block that changes nothing."""
    return InventoryUnchanged(room_id=command.room_id, command=command.message_type, reason=reason)
