"""Events: the decisions on commands, and the public record. `booking.events`, keyed by `room_id`, keeps them for ever.

They carry ids, no names or addresses. Money is integers in minor units of `currency`; a surge is in thousandths; dates
are hotel-local nights. Together they carry all that the reservations' tables hold.
"""

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import Annotated, ClassVar, Final
from uuid import UUID

import msgspec

from topics.messages.message import Message
from topics.messages.sale import AppliedPolicy, Sale, SaleTerms
from topics.messages.values import (
    BlockReason,
    BookingStatus,
    CancelReason,
    DisputeResult,
    HotelReason,
    InventoryRefusal,
    NightRefusal,
    RefundClosing,
    RefundReason,
    Refusal,
    Rejection,
    StayTimes,
    Terms,
    nights_of,
)

_ONE_DAY: Final = timedelta(days=1)


class Event(Message, frozen=True, kw_only=True):
    """Something that happened to a room."""

    room_id: int


class BookingEvent(Event, frozen=True, kw_only=True):
    """Something that happened to one booking of the room."""

    booking_id: UUID


class InventoryOpened(Event, frozen=True, kw_only=True):
    """The nights of [first_night, end_night), all of them new, are on sale."""

    message_type: ClassVar[str] = "inventory.opened.v1"
    hotel_id: int
    first_night: date
    end_night: date
    total_count: int
    price_minor: int
    currency: str


class RefusedNight(msgspec.Struct, frozen=True, kw_only=True):
    """One night that a manager's change left as it was, and why."""

    night: date
    reason: NightRefusal


class NightRange(msgspec.Struct, frozen=True, kw_only=True):
    """The nights of [first_night, end_night)."""

    first_night: date
    end_night: date


class InventoryChanged(Event, frozen=True, kw_only=True):
    """A manager's change took effect on the nights of `ranges`; those in `refused` keep their values.

    None means unchanged.
    """

    message_type: ClassVar[str] = "inventory.changed.v2"
    ranges: tuple[NightRange, ...]
    price_minor: int | None = None
    surge_milli: int | None = None
    closed: bool | None = None
    total_count: int | None = None
    refused: tuple[RefusedNight, ...] = ()
    allowance_count: Annotated[
        int | None,
        msgspec.Meta(description="How many rooms more than the total may be sold for a night."),
    ] = None

    @property
    def nights(self) -> tuple[date, ...]:
        """Every night that changed."""
        return tuple(night for each in self.ranges for night in nights_of(each.first_night, each.end_night))


def night_ranges(nights: Iterable[date]) -> tuple[NightRange, ...]:
    """Return nights in ascending order as ranges, as few as possible."""
    ranges: list[tuple[date, date]] = []
    for night in nights:
        if ranges and ranges[-1][1] == night:
            ranges[-1] = (ranges[-1][0], night + _ONE_DAY)
        else:
            ranges.append((night, night + _ONE_DAY))
    return tuple(NightRange(first_night=first, end_night=end) for first, end in ranges)


class InventoryUnchanged(Event, frozen=True, kw_only=True):
    """A command about inventory changed nothing: it stood already, or it is refused for `reason`."""

    message_type: ClassVar[str] = "inventory.unchanged.v1"
    command: str
    reason: InventoryRefusal | None = None


class SaleTermsChanged(Event, frozen=True, kw_only=True):
    """The room is sold by these plans, taxes and policies from now on; bookings from before keep theirs."""

    message_type: ClassVar[str] = "inventory.sale_terms_changed.v1"
    hotel_id: int
    terms: SaleTerms


class NightsBlocked(Event, frozen=True, kw_only=True):
    """`rooms_count` rooms are off sale for the nights of [first_night, end_night)."""

    message_type: ClassVar[str] = "inventory.blocked.v1"
    block_id: UUID
    first_night: date
    end_night: date
    rooms_count: int
    reason: BlockReason


class BlockReleased(Event, frozen=True, kw_only=True):
    """The rooms of a block are on sale again, for the nights of [first_night, end_night)."""

    message_type: ClassVar[str] = "inventory.block_released.v1"
    block_id: UUID
    first_night: date
    end_night: date
    rooms_count: int


class BookingReserved(BookingEvent, frozen=True, kw_only=True):
    """The stay is held until `hold_expires_at` (UTC; None: no hold, paid at the hotel)."""

    message_type: ClassVar[str] = "booking.reserved.v1"
    user_id: int | None = None
    hotel_id: int
    check_in: date
    check_out: date
    rooms_count: int
    amount_minor: int
    currency: str
    terms: Terms = Terms.PREPAID
    hold_expires_at: datetime | None = None
    night_amounts_minor: Annotated[
        tuple[int, ...],
        msgspec.Meta(description="The amount of each night for all rooms, in order; empty in records from before."),
    ] = ()
    stay_times: Annotated[
        StayTimes | None,
        msgspec.Meta(description="The hotel's check-in and check-out times and zone at the reservation."),
    ] = None
    sale: Annotated[
        Sale | None,
        msgspec.Meta(
            description="The plan, the party, the lines of the price and the costs of a cancellation; left out, the "
            "room had no sale terms: one price without taxes, refundable until check-in."
        ),
    ] = None


class BookingRejected(BookingEvent, frozen=True, kw_only=True):
    """The rules refuse the request; final."""

    message_type: ClassVar[str] = "booking.rejected.v1"
    user_id: int | None = None
    hotel_id: int
    check_in: date
    check_out: date
    rooms_count: int
    terms: Terms = Terms.PREPAID
    reason: Rejection


class GuestsAdded(BookingEvent, frozen=True, kw_only=True):
    """These guests will stay."""

    message_type: ClassVar[str] = "booking.guests_added.v1"
    guest_ids: tuple[int, ...]
    guest_list_id: Annotated[
        UUID | None, msgspec.Meta(description="The stored copy of the guests' names at that time.")
    ] = None


class GuestsChanged(BookingEvent, frozen=True, kw_only=True):
    """Other guests will stay than those named when the booking was paid; `guest_list_id` names their stored copy."""

    message_type: ClassVar[str] = "booking.guests_changed.v1"
    guest_ids: tuple[int, ...]
    guest_list_id: UUID


class PaymentRequested(BookingEvent, frozen=True, kw_only=True):
    """A Checkout Session is owed for this attempt (counted from 1 for each booking)."""

    message_type: ClassVar[str] = "booking.payment_requested.v1"
    attempt: int
    amount_minor: int
    currency: str


class CheckoutOpened(BookingEvent, frozen=True, kw_only=True):
    """The attempt's Checkout Session is open; its address is read over HTTP, never from an event."""

    message_type: ClassVar[str] = "booking.checkout_opened.v1"
    attempt: int
    session_id: str


class BookingConfirmed(BookingEvent, frozen=True, kw_only=True):
    """The room is the guest's. No payment_intent: nothing was owed in advance.

    `late`: the payment arrived after the hold had ended, and the nights were still free. The price agreed at the
    reservation counts, also if the nights cost more or less by then.
    """

    message_type: ClassVar[str] = "booking.confirmed.v1"
    amount_minor: int
    currency: str
    session_id: str | None = None
    payment_intent: str | None = None
    late: bool = False


class PaymentDeclined(BookingEvent, frozen=True, kw_only=True):
    """A payment attempt failed; `failure` is the card network's word for it."""

    message_type: ClassVar[str] = "booking.payment_declined.v1"
    failure: str


class BookingCancelled(BookingEvent, frozen=True, kw_only=True):
    """The booking ended before its time, and those of its nights that were not past are on sale again."""

    message_type: ClassVar[str] = "booking.cancelled.v1"
    reason: CancelReason
    hotel_reason: HotelReason | None = None
    freed_from: Annotated[
        date | None,
        msgspec.Meta(description="The first night that is on sale again; left out, all nights of the stay are."),
    ] = None
    policy: Annotated[
        AppliedPolicy | None,
        msgspec.Meta(description="The costs of the cancellation by the policy; left out, nothing is kept."),
    ] = None


class GuestsCheckedIn(BookingEvent, frozen=True, kw_only=True):
    """The guests have arrived at the hotel."""

    message_type: ClassVar[str] = "booking.checked_in.v1"


class GuestsCheckedOut(BookingEvent, frozen=True, kw_only=True):
    """The guests have left the hotel.

    `freed_from`: they left before their last night, and the nights from this one on are on sale again. `policy` has
    what the hotel keeps of the payment then.
    """

    message_type: ClassVar[str] = "booking.checked_out.v1"
    freed_from: date | None = None
    policy: AppliedPolicy | None = None


class GuestsDidNotArrive(BookingEvent, frozen=True, kw_only=True):
    """Nobody arrived; the nights from `freed_from` on are on sale again. `policy` has what the hotel keeps."""

    message_type: ClassVar[str] = "booking.no_show.v1"
    freed_from: date
    policy: AppliedPolicy | None = None


class BookingExpired(BookingEvent, frozen=True, kw_only=True):
    """The hold ended unpaid and its nights are on sale again."""

    message_type: ClassVar[str] = "booking.expired.v1"


class RefundRequested(BookingEvent, frozen=True, kw_only=True):
    """`amount_minor` of this payment goes back now; the hotel keeps `retained_minor` of it by its policy."""

    message_type: ClassVar[str] = "booking.refund_requested.v2"
    session_id: str
    payment_intent: str
    amount_minor: int
    currency: str
    reason: RefundReason
    total_minor: Annotated[
        int | None,
        msgspec.Meta(
            description="The sum that refunds and lost disputes of the payment reach with this refund; left out, "
            "`amount_minor`."
        ),
    ] = None
    retained_minor: Annotated[
        int, msgspec.Meta(description="The part of the whole payment that the hotel keeps by its policy.")
    ] = 0


class BookingRefunded(BookingEvent, frozen=True, kw_only=True):
    """A refund of one payment was carried out: of all or of a part of it."""

    message_type: ClassVar[str] = "booking.refunded.v1"
    payment_intent: str
    refund_id: str
    amount_minor: int
    by_hand: Annotated[
        bool,
        msgspec.Meta(
            description="A person made the refund at Stripe; this product did not ask for it. Stripe names nobody, so "
            "that no record has the person's name."
        ),
    ] = False


class RefundFailed(BookingEvent, frozen=True, kw_only=True):
    """A refund failed at Stripe (`failure` is its word): its amount is due to the guest again, and is sent once more.

    `by_hand`: a person had made it. Its amount is kept again, unless the next event asks for a refund of it.
    """

    message_type: ClassVar[str] = "booking.refund_failed.v1"
    payment_intent: str
    refund_id: str
    amount_minor: int
    failure: str
    by_hand: bool = False


class RefundClosed(BookingEvent, frozen=True, kw_only=True):
    """An operator ended a refund: `amount_minor` of it is not sent back through Stripe."""

    message_type: ClassVar[str] = "booking.refund_closed.v1"
    payment_intent: str
    amount_minor: int
    currency: str
    reason: RefundClosing


class DisputeOpened(BookingEvent, frozen=True, kw_only=True):
    """The cardholder disputes the payment at the bank, which holds `amount_minor` of it; `reason` is Stripe's word."""

    message_type: ClassVar[str] = "booking.dispute_opened.v1"
    payment_intent: str
    dispute_id: str
    amount_minor: int
    currency: str
    reason: str


class DisputeClosed(BookingEvent, frozen=True, kw_only=True):
    """The bank decided the dispute: `won` returns the amount to the hotel, `lost` gives it to the cardholder."""

    message_type: ClassVar[str] = "booking.dispute_closed.v1"
    payment_intent: str
    dispute_id: str
    amount_minor: int
    currency: str
    result: DisputeResult


class CommandRefused(BookingEvent, frozen=True, kw_only=True):
    """A command about the booking was refused and changed nothing; `command` is its wire name."""

    message_type: ClassVar[str] = "booking.command_refused.v1"
    command: str
    reason: Refusal
    booking_status: BookingStatus | None = None


class CommandRepeated(BookingEvent, frozen=True, kw_only=True):
    """The command's effect stood already; the answer is the present state."""

    message_type: ClassVar[str] = "booking.command_repeated.v1"
    command: str
    booking_status: BookingStatus


EVENTS: tuple[type[Event], ...] = (
    InventoryOpened,
    InventoryChanged,
    InventoryUnchanged,
    BookingReserved,
    BookingRejected,
    GuestsAdded,
    PaymentRequested,
    CheckoutOpened,
    BookingConfirmed,
    PaymentDeclined,
    BookingCancelled,
    BookingExpired,
    RefundRequested,
    BookingRefunded,
    CommandRefused,
    CommandRepeated,
    GuestsChanged,
    RefundFailed,
    RefundClosed,
    DisputeOpened,
    DisputeClosed,
    SaleTermsChanged,
    NightsBlocked,
    BlockReleased,
    GuestsCheckedIn,
    GuestsCheckedOut,
    GuestsDidNotArrive,
)
