"""Events: the decisions on commands, and the public record. `booking.events` keeps them for ever.

An event has the key of the command that it follows from: mostly its `room_id`.

They carry ids, no names or addresses. Money is integers in minor units of `currency`; a surge is in thousandths; dates
are hotel-local nights. Together they carry all that the reservations' tables hold.
"""

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import Annotated, ClassVar, Final
from uuid import UUID

import msgspec

from topics.messages.commands import ReserveStay, ReserveTrip, asked_of
from topics.messages.message import Message
from topics.messages.sale import (
    AppliedPolicy,
    CodeTerms,
    Discount,
    LegRequest,
    Moved,
    Party,
    PriceLine,
    Sale,
    SaleTerms,
)
from topics.messages.values import (
    BlockReason,
    BookingStatus,
    CancelReason,
    ChangeEnd,
    CodeRefusal,
    DisputeResult,
    DocumentKind,
    DocumentReason,
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
    """Something that happened to a room, to a promo code, or to a hotel's documents."""

    @property
    def key(self) -> int:
        """The id whose partition has the event, as in the command that it follows from."""
        raise NotImplementedError

    @property
    def subject(self) -> str:
        """The object of the event, for its envelope."""
        raise NotImplementedError


class RoomEvent(Event, frozen=True, kw_only=True):
    """Something that happened to a room."""

    room_id: int

    @property
    def key(self) -> int:
        """The room's id."""
        return self.room_id

    @property
    def subject(self) -> str:
        """The room."""
        return f"room/{self.room_id}"


class BookingEvent(RoomEvent, frozen=True, kw_only=True):
    """Something that happened to one booking of the room."""

    booking_id: UUID


class InventoryOpened(RoomEvent, frozen=True, kw_only=True):
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


class InventoryChanged(RoomEvent, frozen=True, kw_only=True):
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


class InventoryUnchanged(RoomEvent, frozen=True, kw_only=True):
    """A command about inventory changed nothing: it stood already, or it is refused for `reason`."""

    message_type: ClassVar[str] = "inventory.unchanged.v1"
    command: str
    reason: InventoryRefusal | None = None


class SaleTermsChanged(RoomEvent, frozen=True, kw_only=True):
    """The room is sold by these plans, taxes and policies from now on; bookings from before keep theirs."""

    message_type: ClassVar[str] = "inventory.sale_terms_changed.v1"
    hotel_id: int
    terms: SaleTerms


class NightsBlocked(RoomEvent, frozen=True, kw_only=True):
    """`rooms_count` rooms are off sale for the nights of [first_night, end_night)."""

    message_type: ClassVar[str] = "inventory.blocked.v1"
    block_id: UUID
    first_night: date
    end_night: date
    rooms_count: int
    reason: BlockReason


class BlockReleased(RoomEvent, frozen=True, kw_only=True):
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
    guest_list_id: Annotated[
        UUID | None, msgspec.Meta(description="The stored copy of the names of guests without an account.")
    ] = None
    accepted_terms: Annotated[
        str | None, msgspec.Meta(description="The version of the general terms that the guest accepted.")
    ] = None
    moved: Annotated[
        Moved | None, msgspec.Meta(description="The stay of another room type whose place the leg is to take.")
    ] = None
    trip_id: Annotated[
        UUID | None, msgspec.Meta(description="The trip that the stay is a leg of, which has the deadline.")
    ] = None
    trip_room_id: Annotated[
        int | None, msgspec.Meta(description="The room in whose partition the trip is decided.")
    ] = None
    request_hash: Annotated[
        str | None, msgspec.Meta(description="A keyed hash of the request, if it had an Idempotency-Key.")
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
    code_id: Annotated[
        int | None, msgspec.Meta(description="The promo code whose use was granted before, and is given back.")
    ] = None
    trip_id: UUID | None = None
    trip_room_id: int | None = None
    request_hash: str | None = None


class RoomsHeld(msgspec.Struct, frozen=True, kw_only=True):
    """So many rooms of each night of [first_night, end_night)."""

    first_night: date
    end_night: date
    rooms_count: int


class StayBefore(msgspec.Struct, frozen=True, kw_only=True):
    """A stay as it was before a change: its nights, its rooms, its price and its conditions."""

    check_in: date
    check_out: date
    rooms_count: int
    amount_minor: int
    night_amounts_minor: tuple[int, ...] = ()
    sale: Sale | None = None


class ChangeOpened(BookingEvent, frozen=True, kw_only=True):
    """A change to another room type is possible here: the room `to_room_id` is asked to hold it, as leg `change_id`.

    The booking stays what it was. The change is priced there (`moved`), and ends at `hold_expires_at` (UTC), if it has
    not taken place until then.
    """

    message_type: ClassVar[str] = "booking.change_opened.v1"
    change_id: UUID
    to_room_id: int
    user_id: int | None
    hotel_id: int
    check_in: date
    check_out: date
    rooms_count: int
    hold_expires_at: datetime
    moved: Moved
    plan_id: str | None = None
    party: Party | None = None
    stay_times: StayTimes | None = None
    account_share_percent: int | None = None
    accepted_terms: str | None = None


class ChangeHeld(BookingEvent, frozen=True, kw_only=True):
    """A dearer change of the stay is held until `hold_expires_at` (UTC), and takes place once `extra_minor` is paid.

    The booking stays what it was until then. `held` are the rooms that the change needs beside the booking's own.
    """

    message_type: ClassVar[str] = "booking.change_held.v1"
    change_id: UUID
    check_in: date
    check_out: date
    rooms_count: int
    amount_minor: int
    extra_minor: int
    currency: str
    hold_expires_at: datetime
    night_amounts_minor: tuple[int, ...]
    sale: Sale | None = None
    held: tuple[RoomsHeld, ...] = ()
    to_room_id: Annotated[
        int | None,
        msgspec.Meta(description="The room that holds the stay of another type, as leg `change_id`."),
    ] = None


class StayChanged(BookingEvent, frozen=True, kw_only=True):
    """The booking has other dates, another number of rooms or other people from now on; `before` is what it was.

    `payment_intent` paid `extra_minor`, which the stay became dearer by; left out, nothing was due. A change that was
    held gives `held` back, as its nights are the booking's own now.
    """

    message_type: ClassVar[str] = "booking.changed.v1"
    change_id: UUID
    check_in: date
    check_out: date
    rooms_count: int
    amount_minor: int
    currency: str
    night_amounts_minor: tuple[int, ...]
    before: StayBefore
    sale: Sale | None = None
    held: tuple[RoomsHeld, ...] = ()
    extra_minor: int = 0
    session_id: str | None = None
    payment_intent: str | None = None
    to_room_id: Annotated[
        int | None,
        msgspec.Meta(description="The room that has the stay from now on, as leg `change_id` of the booking."),
    ] = None


class ChangeEnded(BookingEvent, frozen=True, kw_only=True):
    """A change that was held does not take place: the rooms of `held` are on sale again, and the booking stays."""

    message_type: ClassVar[str] = "booking.change_ended.v1"
    change_id: UUID
    reason: ChangeEnd
    held: tuple[RoomsHeld, ...] = ()
    to_room_id: Annotated[
        int | None,
        msgspec.Meta(description="The room of another type that was asked for; its leg `change_id` is released."),
    ] = None


class ChangeRejected(BookingEvent, frozen=True, kw_only=True):
    """The rules refuse a change of the stay, which stays what it was."""

    message_type: ClassVar[str] = "booking.change_rejected.v1"
    change_id: UUID
    check_in: date
    check_out: date
    rooms_count: int
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
            description="The sum that refunds, lost disputes and refunds that an operator ended reach with this "
            "refund; left out, `amount_minor`."
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
    code_id: Annotated[
        int | None,
        msgspec.Meta(description="The promo code whose use was granted to the refused request, and is given back."),
    ] = None


class CommandRepeated(BookingEvent, frozen=True, kw_only=True):
    """The command's effect stood already; the answer is the present state."""

    message_type: ClassVar[str] = "booking.command_repeated.v1"
    command: str
    booking_status: BookingStatus
    code_id: Annotated[
        int | None,
        msgspec.Meta(description="The promo code whose use was granted to a booking without it, and is given back."),
    ] = None


class TripOpened(BookingEvent, frozen=True, kw_only=True):
    """A trip is asked for: its legs are being reserved, until `hold_expires_at` (UTC). `booking_id` is the trip's.

    A trip has no nights of its own. Each leg is a booking of its own, which the trip alone confirms or ends unpaid.
    """

    message_type: ClassVar[str] = "booking.trip_opened.v1"
    user_id: int
    hotel_id: int
    check_in: date
    check_out: date
    legs: tuple[LegRequest, ...]
    hold_expires_at: datetime
    stay_times: StayTimes | None = None
    account_share_percent: int | None = None
    discount: Discount | None = None
    accepted_terms: str | None = None
    request_hash: str | None = None


class LegHeld(BookingEvent, frozen=True, kw_only=True):
    """A leg of the trip is held at its room for `amount_minor`."""

    message_type: ClassVar[str] = "booking.leg_held.v1"
    leg_id: UUID
    amount_minor: int
    currency: str
    night_amounts_minor: tuple[int, ...]


class TripReserved(BookingEvent, frozen=True, kw_only=True):
    """All legs of the trip are held, for `amount_minor` together."""

    message_type: ClassVar[str] = "booking.trip_reserved.v1"
    amount_minor: int
    currency: str
    night_amounts_minor: tuple[int, ...]


class TripRejected(BookingEvent, frozen=True, kw_only=True):
    """A leg is refused (`leg_id`), or the trip as a whole: no leg of it stays held. Final."""

    message_type: ClassVar[str] = "booking.trip_rejected.v1"
    user_id: int
    hotel_id: int
    check_in: date
    check_out: date
    legs: tuple[LegRequest, ...]
    reason: Rejection
    leg_id: UUID | None = None
    code_id: int | None = None
    request_hash: str | None = None


class TripCancelRequested(BookingEvent, frozen=True, kw_only=True):
    """The paid trip is to be cancelled: each leg ends by its own policy, and the trip with the last of them."""

    message_type: ClassVar[str] = "booking.trip_cancel_requested.v1"
    user_id: int | None = None
    reason: CancelReason
    hotel_reason: HotelReason | None = None


class LegEnded(BookingEvent, frozen=True, kw_only=True):
    """A leg of the paid trip ended early: the hotel keeps `kept_minor` of the leg's amount."""

    message_type: ClassVar[str] = "booking.leg_ended.v1"
    leg_id: UUID
    kept_minor: int
    reason: RefundReason
    cancel_reason: CancelReason | None = None


class CodeEvent(Event, frozen=True, kw_only=True):
    """Something that happened to the promo code `code_id`."""

    code_id: int

    @property
    def key(self) -> int:
        """The code's id."""
        return self.code_id

    @property
    def subject(self) -> str:
        """The code."""
        return f"code/{self.code_id}"


class CodeChanged(CodeEvent, frozen=True, kw_only=True):
    """The promo code has these terms from now on; uses from before stay."""

    message_type: ClassVar[str] = "code.changed.v1"
    hotel_id: int
    terms: CodeTerms


class CodeClaimed(CodeEvent, frozen=True, kw_only=True):
    """A use of the promo code is granted to a booking: a stay or a trip, which is asked for with the discount."""

    message_type: ClassVar[str] = "code.claimed.v1"
    booking_id: UUID
    user_id: int | None = None
    discount: Discount
    reserve: ReserveStay | None = None
    trip: ReserveTrip | None = None

    def __post_init__(self) -> None:
        """Refuse an answer about nothing, or about both."""
        asked_of(self.reserve, self.trip)

    @property
    def asked(self) -> ReserveStay | ReserveTrip:
        """The request for the stay or for the trip."""
        return asked_of(self.reserve, self.trip)


class CodeRejected(CodeEvent, frozen=True, kw_only=True):
    """A use of the promo code is refused, and so is the stay or the trip that was to have it."""

    message_type: ClassVar[str] = "code.rejected.v1"
    booking_id: UUID
    reason: Rejection
    reserve: ReserveStay | None = None
    trip: ReserveTrip | None = None

    def __post_init__(self) -> None:
        """Refuse an answer about nothing, or about both."""
        asked_of(self.reserve, self.trip)

    @property
    def asked(self) -> ReserveStay | ReserveTrip:
        """The request for the stay or for the trip."""
        return asked_of(self.reserve, self.trip)


class CodeReturned(CodeEvent, frozen=True, kw_only=True):
    """A booking gave its use of the promo code back."""

    message_type: ClassVar[str] = "code.returned.v1"
    booking_id: UUID


class CodeUnchanged(CodeEvent, frozen=True, kw_only=True):
    """A command about the promo code changed nothing: its effect exists already, or it is refused for `reason`."""

    message_type: ClassVar[str] = "code.unchanged.v1"
    command: str
    reason: CodeRefusal | None = None


class HotelEvent(Event, frozen=True, kw_only=True):
    """Something that happened to the documents of the hotel `hotel_id`."""

    hotel_id: int

    @property
    def key(self) -> int:
        """The hotel's id."""
        return self.hotel_id

    @property
    def subject(self) -> str:
        """The hotel."""
        return f"hotel/{self.hotel_id}"


class DocumentIssued(HotelEvent, frozen=True, kw_only=True):
    """The hotel issued an invoice or a credit note, under the next number of its series.

    `booking_version` is the version of the booking whose money it follows.
    """

    message_type: ClassVar[str] = "document.issued.v1"
    document_id: UUID
    kind: DocumentKind
    number: int
    reason: DocumentReason
    booking_id: UUID
    lines: tuple[PriceLine, ...]
    amount_minor: int
    currency: str
    corrects_id: UUID | None = None
    booking_version: int = 0


class DocumentNotIssued(HotelEvent, frozen=True, kw_only=True):
    """The document exists already, or the booking's documents are of the amount that is kept without it."""

    message_type: ClassVar[str] = "document.not_issued.v1"
    document_id: UUID


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
    ChangeOpened,
    ChangeHeld,
    StayChanged,
    ChangeEnded,
    ChangeRejected,
    CodeChanged,
    CodeClaimed,
    CodeRejected,
    CodeReturned,
    CodeUnchanged,
    DocumentIssued,
    DocumentNotIssued,
    TripOpened,
    LegHeld,
    TripReserved,
    TripRejected,
    TripCancelRequested,
    LegEnded,
)
