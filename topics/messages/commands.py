"""Commands: requests on `booking.commands`, decided by the worker that the key's partition is assigned to.

Most are about a room and have its id as their key; those about a promo code or about a hotel's documents have the id of
the code or of the hotel.

Dates are hotel-local nights, money is integers in minor units of `currency`, a surge is in thousandths (1500 is x1.5).
"""

from datetime import date
from typing import Annotated, ClassVar
from uuid import UUID

import msgspec

from topics.messages.message import Amount, Int32, Int64, Message
from topics.messages.sale import (
    CodeTerms,
    Discount,
    LegRequest,
    Moved,
    Party,
    PriceLine,
    Quoted,
    QuotedChange,
    SaleTerms,
)
from topics.messages.values import (
    BlockReason,
    CancelReason,
    DisputeResult,
    DocumentKind,
    DocumentReason,
    HotelReason,
    RefundClosing,
    RefundReason,
    Rejection,
    StayTimes,
    Terms,
)


class Command(Message, frozen=True, kw_only=True, omit_defaults=True):
    """A request that one partition's worker decides: that of its key."""

    @property
    def key(self) -> int:
        """The id whose partition decides the command."""
        raise NotImplementedError

    @property
    def subject(self) -> str:
        """The object of the command, for its envelope."""
        raise NotImplementedError


class RoomCommand(Command, frozen=True, kw_only=True, omit_defaults=True):
    """A request about the room `room_id`."""

    room_id: Int64

    @property
    def key(self) -> int:
        """The room's id."""
        return self.room_id

    @property
    def subject(self) -> str:
        """The room."""
        return f"room/{self.room_id}"


class BookingCommand(RoomCommand, frozen=True, kw_only=True, omit_defaults=True):
    """A request about one booking of the room."""

    booking_id: UUID


class OpenInventory(RoomCommand, frozen=True, kw_only=True, omit_defaults=True):
    """Put the nights of [first_night, end_night) on sale; nights that are open already stay as they are."""

    message_type: ClassVar[str] = "inventory.open.v1"
    hotel_id: Int64
    first_night: date
    end_night: date
    total_count: Int32
    price_minor: Int64
    currency: str


class ChangeInventory(RoomCommand, frozen=True, kw_only=True, omit_defaults=True):
    """Change price, surge, closing or total of the open nights of [first_night, end_night); None keeps a value.

    `all_or_none`: when one open night refuses the total, none is changed.
    """

    message_type: ClassVar[str] = "inventory.change.v1"
    first_night: date
    end_night: date
    price_minor: Int64 | None = None
    surge_milli: Int32 | None = None
    closed: bool | None = None
    total_count: Int32 | None = None
    all_or_none: bool = False
    allowance_count: Annotated[
        Int32 | None,
        msgspec.Meta(description="How many rooms more than `total_count` may be sold for a night; 0 at first."),
    ] = None


class SetSaleTerms(RoomCommand, frozen=True, kw_only=True, omit_defaults=True):
    """Sell the room by these plans, taxes and policies from now on; an older version than the present is refused."""

    message_type: ClassVar[str] = "inventory.set_sale_terms.v1"
    hotel_id: Int64
    terms: SaleTerms


class BlockNights(RoomCommand, frozen=True, kw_only=True, omit_defaults=True):
    """Take `rooms_count` rooms off sale for the nights of [first_night, end_night), all of them or none."""

    message_type: ClassVar[str] = "inventory.block.v1"
    block_id: UUID
    first_night: date
    end_night: date
    rooms_count: Int32
    reason: BlockReason


class ReleaseBlock(RoomCommand, frozen=True, kw_only=True, omit_defaults=True):
    """Put the rooms of a block on sale again."""

    message_type: ClassVar[str] = "inventory.release_block.v1"
    block_id: UUID


class ReserveStay(BookingCommand, frozen=True, kw_only=True, omit_defaults=True):
    """Hold `rooms_count` rooms for [check_in, check_out).

    `agreed_nightly_minor` and `Terms.AT_HOTEL` come from trusted writers only, never over HTTP.
    """

    message_type: ClassVar[str] = "booking.reserve.v1"
    user_id: Int64 | None = None
    hotel_id: Int64
    check_in: date
    check_out: date
    rooms_count: Int32 = 1
    hold_seconds: Int32 = 900
    terms: Terms = Terms.PREPAID
    agreed_nightly_minor: Int64 | None = None
    stay_times: Annotated[
        StayTimes | None, msgspec.Meta(description="The hotel's times and zone, which the booking keeps.")
    ] = None
    account_share_percent: Annotated[
        Int32 | None,
        msgspec.Meta(
            description="The percentage of a night's rooms that the account may hold unpaid, two rooms at least; "
            "left out, all."
        ),
    ] = None
    plan_id: Annotated[
        Annotated[str, msgspec.Meta(max_length=40)] | None,
        msgspec.Meta(description="The rate plan; left out, the standard plan."),
    ] = None
    party: Annotated[
        Party | None, msgspec.Meta(description="The people of the stay; left out, those that the plan's price covers.")
    ] = None
    quoted: Annotated[
        Quoted | None,
        msgspec.Meta(description="The price of a quote, in place of `plan_id` and `party`; from the ingress alone."),
    ] = None
    discount: Annotated[
        Discount | None, msgspec.Meta(description="The discount of a promo code whose use was granted.")
    ] = None
    code_rejection: Annotated[
        Rejection | None, msgspec.Meta(description="The use of the promo code was refused, and so the stay is.")
    ] = None
    at_desk: Annotated[
        bool,
        msgspec.Meta(
            description="A manager books for guests without an account. The price is that of the plan, and all of it "
            "is paid at the hotel."
        ),
    ] = False
    guest_list_id: Annotated[
        UUID | None, msgspec.Meta(description="The stored copy of the names of guests without an account.")
    ] = None
    accepted_terms: Annotated[
        Annotated[str, msgspec.Meta(max_length=100)] | None,
        msgspec.Meta(description="The version of the general terms that the guest accepted."),
    ] = None
    moved: Annotated[
        Moved | None,
        msgspec.Meta(description="The stay of another room type that moves here, and becomes this leg."),
    ] = None
    trip_id: Annotated[
        UUID | None,
        msgspec.Meta(description="The trip that the stay is a leg of; the leg has no deadline of its own."),
    ] = None
    trip_room_id: Annotated[
        Int64 | None, msgspec.Meta(description="The room in whose partition the trip is decided.")
    ] = None
    request_hash: Annotated[
        Annotated[str, msgspec.Meta(max_length=64)] | None,
        msgspec.Meta(
            description="A keyed hash of a request that had an Idempotency-Key: one with another hash never makes the "
            "same booking."
        ),
    ] = None


class ReserveTrip(BookingCommand, frozen=True, kw_only=True, omit_defaults=True):
    """Hold all legs of a trip for [check_in, check_out), or none of them; `booking_id` is the trip's.

    The trip is decided in the partition of its first leg's room, `room_id`. It is paid by one payment, within
    `hold_seconds`. Fields that `ReserveStay` has too mean the same here.
    """

    message_type: ClassVar[str] = "booking.reserve_trip.v1"
    user_id: Int64
    hotel_id: Int64
    check_in: date
    check_out: date
    legs: tuple[LegRequest, ...]
    hold_seconds: Int32 = 900
    stay_times: StayTimes | None = None
    account_share_percent: Int32 | None = None
    discount: Discount | None = None
    code_rejection: Rejection | None = None
    accepted_terms: Annotated[str, msgspec.Meta(max_length=100)] | None = None
    request_hash: Annotated[str, msgspec.Meta(max_length=64)] | None = None


class RecordLeg(BookingCommand, frozen=True, kw_only=True, omit_defaults=True):
    """A leg of the trip `booking_id` is held at its room, or refused there with `rejection`."""

    message_type: ClassVar[str] = "booking.record_leg.v1"
    leg_id: UUID
    amount_minor: Int64 = 0
    currency: str = ""
    night_amounts_minor: tuple[Int64, ...] = ()
    rejection: Rejection | None = None


class ConfirmLeg(BookingCommand, frozen=True, kw_only=True, omit_defaults=True):
    """The trip of this leg is paid; its guests are those of the trip."""

    message_type: ClassVar[str] = "booking.confirm_leg.v1"
    guest_ids: tuple[Int64, ...] = ()
    guest_list_id: UUID | None = None


class ReleaseLeg(BookingCommand, frozen=True, kw_only=True, omit_defaults=True):
    """The trip of this leg ended without a payment: the leg's nights go back on sale."""

    message_type: ClassVar[str] = "booking.release_leg.v1"


class RecordLegEnd(BookingCommand, frozen=True, kw_only=True, omit_defaults=True):
    """A leg of the paid trip `booking_id` ended early: all of its amount but `kept_minor` goes back.

    `cancel_reason` is that of a leg that was cancelled.
    """

    message_type: ClassVar[str] = "booking.record_leg_end.v1"
    leg_id: UUID
    kept_minor: Int64
    reason: RefundReason
    cancel_reason: CancelReason | None = None


class ChangeStay(BookingCommand, frozen=True, kw_only=True, omit_defaults=True):
    """Change the dates, the number of rooms or the people of a confirmed booking, until check-in.

    The nights swap at once or not at all. If the stay becomes cheaper, the difference is refunded by the policy. If it
    becomes dearer, the change is held for `hold_seconds`, and takes place once the difference is paid. `user_id` None
    is a manager of the hotel; anyone else must be the booking's own user. `change_id` is chosen by the writer: the same
    one is the same change.
    """

    message_type: ClassVar[str] = "booking.change.v1"
    change_id: UUID
    user_id: Int64 | None = None
    check_in: date
    check_out: date
    rooms_count: Int32
    party: Annotated[
        Party | None, msgspec.Meta(description="The people of the stay; left out, those of the booking.")
    ] = None
    hold_seconds: Int32 = 900
    stay_times: Annotated[
        StayTimes | None, msgspec.Meta(description="Counts for a booking that has no times of its own.")
    ] = None
    account_share_percent: Annotated[
        Int32 | None,
        msgspec.Meta(description="The percentage of a night's rooms that the change may hold unpaid, two at least."),
    ] = None
    to_room_id: Annotated[
        Int64 | None,
        msgspec.Meta(
            description="Another room type of the hotel, which holds its nights first, as a leg of the booking; left "
            "out, the booking's own."
        ),
    ] = None
    plan_id: Annotated[
        Annotated[str, msgspec.Meta(max_length=40)] | None,
        msgspec.Meta(description="The rate plan in the other room type; left out, the booking's own."),
    ] = None
    quoted: Annotated[
        QuotedChange | None,
        msgspec.Meta(description="The price of a quote of this change; from the ingress alone. Left out, today's."),
    ] = None


class WithdrawChange(BookingCommand, frozen=True, kw_only=True, omit_defaults=True):
    """Give up a change that is not paid; the booking stays what it was."""

    message_type: ClassVar[str] = "booking.withdraw_change.v1"
    change_id: UUID
    user_id: Int64 | None = None


class AddGuests(BookingCommand, frozen=True, kw_only=True, omit_defaults=True):
    """Name who will stay; replaces those named before."""

    message_type: ClassVar[str] = "booking.add_guests.v1"
    user_id: Int64
    guest_ids: tuple[Int64, ...]
    guest_list_id: Annotated[UUID | None, msgspec.Meta(description="The stored copy of the guests' names.")] = None


class ChangeGuests(BookingCommand, frozen=True, kw_only=True, omit_defaults=True):
    """Replace the guests of a confirmed booking, until check-in; `guest_list_id` is the stored copy of their names.

    `stay_times` counts for a booking that has none of its own.
    """

    message_type: ClassVar[str] = "booking.change_guests.v1"
    user_id: Int64
    guest_ids: tuple[Int64, ...]
    guest_list_id: UUID
    stay_times: StayTimes | None = None


class RequestPayment(BookingCommand, frozen=True, kw_only=True, omit_defaults=True):
    """The guest wants to pay."""

    message_type: ClassVar[str] = "booking.request_payment.v1"
    user_id: Int64


class RecordSession(BookingCommand, frozen=True, kw_only=True, omit_defaults=True):
    """Payments opened a Checkout Session for this attempt."""

    message_type: ClassVar[str] = "booking.record_session.v1"
    attempt: Int32
    session_id: str


class ConfirmPayment(BookingCommand, frozen=True, kw_only=True, omit_defaults=True):
    """Money arrived for the booking; livemode and reference were checked at the border."""

    message_type: ClassVar[str] = "booking.confirm_payment.v1"
    session_id: str
    payment_intent: str
    amount_minor: Int64
    currency: str
    attempt: Annotated[
        Int32 | None, msgspec.Meta(description="The attempt of the session, where its metadata names it.")
    ] = None


class DeclinePayment(BookingCommand, frozen=True, kw_only=True, omit_defaults=True):
    """A payment attempt failed; the booking may be paid again until its hold ends."""

    message_type: ClassVar[str] = "booking.decline_payment.v1"
    failure: str


class ClosePayment(BookingCommand, frozen=True, kw_only=True, omit_defaults=True):
    """The Checkout Session was closed without a payment."""

    message_type: ClassVar[str] = "booking.close_payment.v1"
    session_id: str


class CancelBooking(BookingCommand, frozen=True, kw_only=True, omit_defaults=True):
    """End the booking; its nights that are not past go back on sale, and money that was kept is refunded.

    `user_id` None is a trusted writer; anyone else must be the booking's own user.
    """

    message_type: ClassVar[str] = "booking.cancel.v1"
    user_id: Int64 | None = None
    reason: CancelReason = CancelReason.BY_GUEST
    hotel_reason: HotelReason | None = None
    stay_times: Annotated[
        StayTimes | None, msgspec.Meta(description="Counts for a booking that has no times of its own.")
    ] = None


class CheckIn(BookingCommand, frozen=True, kw_only=True, omit_defaults=True):
    """The guests have arrived; from a manager of the hotel. `stay_times` counts for a booking without its own."""

    message_type: ClassVar[str] = "booking.check_in.v1"
    stay_times: StayTimes | None = None


class CheckOut(BookingCommand, frozen=True, kw_only=True, omit_defaults=True):
    """The guests have left, on their day or before it; from a manager. `stay_times` counts for a booking without."""

    message_type: ClassVar[str] = "booking.check_out.v1"
    stay_times: StayTimes | None = None


class MarkNoShow(BookingCommand, frozen=True, kw_only=True, omit_defaults=True):
    """Nobody arrived; from a manager of the hotel. `stay_times` counts for a booking without its own."""

    message_type: ClassVar[str] = "booking.mark_no_show.v1"
    stay_times: StayTimes | None = None


class ExpireHold(BookingCommand, frozen=True, kw_only=True, omit_defaults=True):
    """The hold's deadline seems to have passed; judged by the log's time, without effect when it has not."""

    message_type: ClassVar[str] = "booking.expire_hold.v1"


class RecordRefund(BookingCommand, frozen=True, kw_only=True, omit_defaults=True):
    """Stripe carried out a refund of one payment: of all or of a part of it."""

    message_type: ClassVar[str] = "booking.record_refund.v1"
    payment_intent: str
    refund_id: str
    amount_minor: Int64
    by_hand: Annotated[
        bool,
        msgspec.Meta(
            description="A person made the refund at Stripe; this product did not ask for it. Stripe names nobody, so "
            "that no record has the person's name."
        ),
    ] = False
    cancel_if_full: Annotated[
        bool, msgspec.Meta(description="The hotel wants the booking cancelled once all of its payment went back.")
    ] = False


class FailRefund(BookingCommand, frozen=True, kw_only=True, omit_defaults=True):
    """Stripe reports that a refund failed, before or after it had counted as carried out; `failure` is its word."""

    message_type: ClassVar[str] = "booking.fail_refund.v1"
    payment_intent: str
    refund_id: str
    amount_minor: Amount
    failure: str
    by_hand: bool = False


class CloseRefund(BookingCommand, frozen=True, kw_only=True, omit_defaults=True):
    """An operator ends a refund that is due: the rest of it is not sent back through Stripe."""

    message_type: ClassVar[str] = "booking.close_refund.v1"
    payment_intent: str
    reason: RefundClosing


class RecordDispute(BookingCommand, frozen=True, kw_only=True, omit_defaults=True):
    """The cardholder disputed a payment at the bank; with `result` the dispute has ended.

    `reason` is Stripe's word.
    """

    message_type: ClassVar[str] = "booking.record_dispute.v1"
    payment_intent: str
    dispute_id: str
    amount_minor: Amount
    reason: str
    result: DisputeResult | None = None


class CodeCommand(Command, frozen=True, kw_only=True, omit_defaults=True):
    """A request about the promo code `code_id`."""

    code_id: Int64

    @property
    def key(self) -> int:
        """The code's id."""
        return self.code_id

    @property
    def subject(self) -> str:
        """The code."""
        return f"code/{self.code_id}"


class SetCode(CodeCommand, frozen=True, kw_only=True, omit_defaults=True):
    """Give a promo code these terms from now on; an older version than the present is refused."""

    message_type: ClassVar[str] = "code.set.v1"
    hotel_id: Int64
    terms: CodeTerms


class ClaimCode(CodeCommand, frozen=True, kw_only=True, omit_defaults=True):
    """Use a promo code for a stay or for a trip, whichever is set: it is asked for once the use is granted."""

    message_type: ClassVar[str] = "code.claim.v1"
    reserve: ReserveStay | None = None
    trip: ReserveTrip | None = None

    def __post_init__(self) -> None:
        """Refuse a claim for nothing, or for both."""
        asked_of(self.reserve, self.trip)

    @property
    def asked(self) -> ReserveStay | ReserveTrip:
        """The request for the stay or for the trip."""
        return asked_of(self.reserve, self.trip)


def asked_of(reserve: ReserveStay | None, trip: ReserveTrip | None) -> ReserveStay | ReserveTrip:
    """Return the one of both that a promo code is used for.

    Raises:
        ValueError: none is set, or both are.
    """
    if reserve is not None and trip is None:
        return reserve
    if trip is not None and reserve is None:
        return trip
    raise ValueError("a promo code is used for a stay or for a trip")


class ReturnCode(CodeCommand, frozen=True, kw_only=True, omit_defaults=True):
    """Give back the use of a promo code: its booking was rejected, or ended unpaid."""

    message_type: ClassVar[str] = "code.return.v1"
    booking_id: UUID


class HotelCommand(Command, frozen=True, kw_only=True, omit_defaults=True):
    """A request about the documents of the hotel `hotel_id`."""

    hotel_id: Int64

    @property
    def key(self) -> int:
        """The hotel's id."""
        return self.hotel_id

    @property
    def subject(self) -> str:
        """The hotel."""
        return f"hotel/{self.hotel_id}"


class IssueDocument(HotelCommand, frozen=True, kw_only=True, omit_defaults=True):
    """Bring the documents of a booking closer to the amount that its hotel keeps of it, under the hotel's next numbers.

    An invoice of a stay, or of its end, replaces the booking's invoices. A credit note has no more than the documents
    have above `kept_minor`, and a further invoice no more than they lack of it; they have the lines of the documents
    that they correct. `kept_minor` is the amount as of `booking_version`; None: a later command changes it. `lines` are
    those of a price; the ones that are not included in another sum to `amount_minor`. `corrects_id` is the credit note
    of a refund that failed: an invoice takes it back first. `document_id` is chosen by the writer: the same one is the
    same document.
    """

    message_type: ClassVar[str] = "document.issue.v1"
    document_id: UUID
    kind: DocumentKind
    reason: DocumentReason
    booking_id: UUID
    lines: tuple[PriceLine, ...]
    amount_minor: Amount
    currency: str
    corrects_id: UUID | None = None
    kept_minor: int | None = None
    booking_version: int = 0


COMMANDS: tuple[type[Command], ...] = (
    OpenInventory,
    ChangeInventory,
    ReserveStay,
    AddGuests,
    RequestPayment,
    RecordSession,
    ConfirmPayment,
    DeclinePayment,
    ClosePayment,
    CancelBooking,
    ExpireHold,
    RecordRefund,
    ChangeGuests,
    FailRefund,
    CloseRefund,
    RecordDispute,
    SetSaleTerms,
    BlockNights,
    ReleaseBlock,
    CheckIn,
    CheckOut,
    MarkNoShow,
    ChangeStay,
    WithdrawChange,
    SetCode,
    ClaimCode,
    ReturnCode,
    IssueDocument,
    ReserveTrip,
    RecordLeg,
    ConfirmLeg,
    ReleaseLeg,
    RecordLegEnd,
)
