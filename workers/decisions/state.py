"""The state that a decision reads: the booking that a command names, and the nights of its room."""

from collections.abc import Mapping
from datetime import date, datetime, time
from enum import StrEnum
from uuid import UUID

import msgspec

from topics.messages.events import RoomsHeld, StayBefore
from topics.messages.sale import AppliedPolicy, CodeTerms, PriceLine, Sale, SaleTerms
from topics.messages.values import (
    BlockReason,
    BookingStatus,
    CancelReason,
    DocumentKind,
    DocumentReason,
    LegState,
    Rejection,
    StayTimes,
    Terms,
    nights_of,
)


class Night(msgspec.Struct, frozen=True):
    """One night of a room: rooms in total and taken, and the price (minor units, surge in thousandths).

    `allowance_count` rooms more than the total may be sold. `blocked_count` rooms are off sale.
    """

    hotel_id: int
    total_count: int
    booked_count: int
    reserved_count: int
    price_minor: int
    surge_milli: int
    closed: bool
    currency: str
    allowance_count: int = 0
    blocked_count: int = 0

    @property
    def limit_count(self) -> int:
        """The number of rooms that may be taken: the total and the allowance."""
        return self.total_count + self.allowance_count

    @property
    def taken_count(self) -> int:
        """The number of rooms that are booked, reserved or blocked."""
        return self.booked_count + self.reserved_count + self.blocked_count

    @property
    def free_count(self) -> int:
        """The number of rooms that can still be taken."""
        return self.limit_count - self.taken_count


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """Rooms that a hotel took off sale for [first_night, end_night); `released`: they are on sale again.

    `id` is the block's among those of its room.
    """

    id: UUID
    room_id: int
    first_night: date
    end_night: date
    rooms_count: int
    reason: BlockReason
    released: bool = False


class Code(msgspec.Struct, frozen=True, kw_only=True):
    """A hotel's promo code; `used_count` are its uses that were not given back."""

    id: int
    hotel_id: int
    terms: CodeTerms
    used_count: int = 0


class CodeUse(msgspec.Struct, frozen=True, kw_only=True):
    """The use of a promo code by a booking; `returned`: it was given back."""

    code_id: int
    booking_id: UUID
    user_id: int | None
    returned: bool = False


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """An invoice or a credit note of a hotel.

    `credited_minor` is the sum of an invoice's credit notes, or of a credit note what was taken back.
    `booking_version` is the version of the booking that the document was issued for.
    """

    id: UUID
    hotel_id: int
    kind: DocumentKind
    number: int
    reason: DocumentReason
    booking_id: UUID
    lines: tuple[PriceLine, ...]
    amount_minor: int
    currency: str
    corrects_id: UUID | None = None
    credited_minor: int = 0
    booking_version: int = 0

    @property
    def left_minor(self) -> int:
        """The part of an invoice that was not credited, or of a credit note that was not taken back."""
        return self.amount_minor - self.credited_minor


class PaymentState(StrEnum):
    """The state of a payment that arrived: it pays the booking, a refund of it is due, or all that was due is back.

    One that pays the booking has money due too, if the stay became cheaper.
    """

    KEPT = "kept"
    REFUND_REQUESTED = "refund_requested"
    REFUNDED = "refunded"


#: The id of the sum of a payment's refunds as 0.1.0 recorded it, without their ids.
UNKNOWN_REFUND = ""


class RefundMade(msgspec.Struct, frozen=True, array_like=True):
    """A refund that Stripe carried out; `by_hand`: a person made it at Stripe."""

    refund_id: str
    amount_minor: int
    by_hand: bool = False


class Dispute(msgspec.Struct, frozen=True, array_like=True):
    """A dispute of a payment; `state` is `open`, `won` or `lost`."""

    dispute_id: str
    amount_minor: int
    state: str


class Payment(msgspec.Struct, frozen=True, omit_defaults=True):
    """A payment that arrived for a booking, and the money of it that left again, in minor units.

    `due_minor` is still to be sent back, `closed_minor` is not, because an operator ended the refund, and
    `retained_minor` is not, because the hotel keeps it by its policy: `policy_minor`, or what is left of that after
    refunds by hand and lost disputes. `ahead_minor` was sent in place of refunds whose failure is not reported yet: as
    much of these is not due again. `currency` is set if it is not the booking's.
    After every event `refunded_minor`, `lost_minor`, `due_minor`, `closed_minor`, `retained_minor` and `kept_minor` add
    up to `amount_minor`, and none is negative. One exception: from a refund that replaces a failed one to the report of
    that failure, `refunded_minor` may be more than `amount_minor`; the others are then zero.
    """

    payment_intent: str
    session_id: str
    amount_minor: int
    state: PaymentState
    due_minor: int = 0
    closed_minor: int = 0
    retained_minor: int = 0
    policy_minor: int = 0
    ahead_minor: int = 0
    currency: str = ""
    refunds: tuple[RefundMade, ...] = ()
    failed_refund_ids: tuple[str, ...] = ()
    disputes: tuple[Dispute, ...] = ()

    @property
    def refunded_minor(self) -> int:
        """The sum of the refunds that were carried out."""
        return sum(refund.amount_minor for refund in self.refunds)

    @property
    def sent_minor(self) -> int:
        """The sum of the refunds that this product asked for."""
        return sum(refund.amount_minor for refund in self.refunds if not refund.by_hand)

    @property
    def lost_minor(self) -> int:
        """The sum that lost disputes took of this payment; the rest of their sum was other money of the hotel."""
        lost = sum(dispute.amount_minor for dispute in self.disputes if dispute.state == "lost")
        return min(lost, max(0, self.amount_minor - self.refunded_minor))

    @property
    def left_minor(self) -> int:
        """The amount that did not leave again."""
        return max(0, self.amount_minor - self.refunded_minor - self.lost_minor)

    @property
    def kept_minor(self) -> int:
        """The amount that did not leave again and is not due either; nothing, once the payment pays no booking."""
        return self.left_minor - self.due_minor - self.closed_minor - self.retained_minor

    def refund(self, refund_id: str) -> RefundMade | None:
        """Return the refund with this id, if it was carried out."""
        return next((refund for refund in self.refunds if refund.refund_id == refund_id), None)

    def dispute(self, dispute_id: str) -> Dispute | None:
        """Return the dispute with this id, if it was opened."""
        return next((dispute for dispute in self.disputes if dispute.dispute_id == dispute_id), None)


def with_sums(payment: Payment) -> Payment:
    """Return a stored payment with its sums: 0.1.0 kept none, and refunded every payment in full."""
    if payment.refunds or payment.due_minor or payment.closed_minor or payment.retained_minor or payment.disputes:
        return payment
    if payment.state is PaymentState.REFUND_REQUESTED:
        return msgspec.structs.replace(payment, due_minor=payment.amount_minor)
    if payment.state is PaymentState.REFUNDED and payment.amount_minor:
        return msgspec.structs.replace(payment, refunds=(RefundMade(UNKNOWN_REFUND, payment.amount_minor),))
    return payment


#: A booking remembers this many of its replaced lists of guests, to know a repeated command again. Without a limit a
#: client could make its row as large as it likes.
MAX_EARLIER_GUEST_LISTS = 500


#: A booking remembers this many of its changes that were rejected or ended, to know a repeated command again.
MAX_ENDED_CHANGES = 100


class EarlierStay(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A stay as it was until the change `change_id` replaced it."""

    change_id: UUID
    stay: StayBefore


class PendingChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A dearer change that waits for `extra_minor`, in payment attempt `attempt`; `held` are its rooms.

    One to another room type is held by `to_room_id`, as leg `id`; `is_open`: that room has not answered yet, and the
    change has no price.
    """

    id: UUID
    stay: StayBefore
    extra_minor: int
    held: tuple[RoomsHeld, ...] = ()
    attempt: int = 0
    to_room_id: int | None = None
    is_open: bool = False


class Leg(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A leg of a trip: a booking of its own in the room `room_id`; amounts in minor units.

    `kept_minor` is what the hotel keeps of an ended leg's amount.
    """

    booking_id: UUID
    room_id: int
    rooms_count: int
    state: LegState = LegState.REQUESTED
    amount_minor: int = 0
    night_amounts_minor: tuple[int, ...] = ()
    currency: str = ""
    kept_minor: int = 0


class Booking(msgspec.Struct, frozen=True, kw_only=True):
    """One booking. `version` counts the events that were applied to it.

    `freed_from`: the booking ended when nights of it were past; those before this one stay counted as booked.
    `policy`: the costs of the booking's end.
    `earlier_guest_list_ids`: the lists of guests that later ones replaced, oldest first, the newest
    `MAX_EARLIER_GUEST_LISTS` of them.
    `pending_change`: a dearer change that is not paid; its deadline is `hold_expires_at`. `earlier_stays` are the stays
    that changes replaced, oldest first, and `ended_change_ids` are the newest `MAX_ENDED_CHANGES` changes that were
    rejected or ended: a command that asks for one of them once more changes nothing.
    `legs`: the booking is a trip, which has no nights and no rooms of its own; its amount is that of its legs together.
    `trip_id`: the booking is a leg of that trip, which is decided in the partition of `trip_room_id`.
    `request_hash`: a keyed hash of the request that made it, if that had an Idempotency-Key.
    """

    id: UUID
    user_id: int | None
    hotel_id: int
    room_id: int
    check_in: date
    check_out: date
    rooms_count: int
    status: BookingStatus
    terms: Terms
    amount_minor: int
    currency: str
    rejection: Rejection | None = None
    hold_expires_at: datetime | None = None
    payment_attempt: int = 0
    session_id: str | None = None
    payments: tuple[Payment, ...] = ()
    failure: str | None = None
    cancel_reason: CancelReason | None = None
    guest_ids: tuple[int, ...] = ()
    guest_list_id: UUID | None = None
    earlier_guest_list_ids: tuple[UUID, ...] = ()
    night_amounts_minor: tuple[int, ...] = ()
    stay_times: StayTimes | None = None
    freed_from: date | None = None
    sale: Sale | None = None
    policy: AppliedPolicy | None = None
    pending_change: PendingChange | None = None
    earlier_stays: tuple[EarlierStay, ...] = ()
    ended_change_ids: tuple[UUID, ...] = ()
    accepted_terms: str | None = None
    legs: tuple[Leg, ...] = ()
    trip_id: UUID | None = None
    trip_room_id: int | None = None
    request_hash: str | None = None
    version: int = 1

    def nights(self) -> tuple[date, ...]:
        """Return the nights of the stay; a trip has none of its own."""
        return () if self.legs else nights_of(self.check_in, self.check_out)

    def leg(self, leg_id: UUID) -> Leg | None:
        """Return the leg of the trip that is this booking, if there is one."""
        return next((leg for leg in self.legs if leg.booking_id == leg_id), None)

    def payment(self, payment_intent: str) -> Payment | None:
        """Return the payment of this payment intent, if it arrived."""
        return next((paid for paid in self.payments if paid.payment_intent == payment_intent), None)

    def paying_payments(self) -> tuple[Payment, ...]:
        """Return the payments that pay this booking: that of the first stay, and those of dearer changes."""
        return tuple(paid for paid in self.payments if paid.state is PaymentState.KEPT)

    def present_stay(self) -> StayBefore:
        """Return the stay as it is, for the event of a change that replaces it."""
        return StayBefore(
            check_in=self.check_in,
            check_out=self.check_out,
            rooms_count=self.rooms_count,
            amount_minor=self.amount_minor,
            night_amounts_minor=self.night_amounts_minor,
            sale=self.sale,
        )


#: The times of a hotel that named none, as for bookings from before hotels' times were on the log.
DEFAULT_STAY_TIMES = StayTimes(time_zone="UTC", check_in_time=time(15), check_out_time=time(11))


class StayClock(msgspec.Struct, frozen=True):
    """The hotel's clock for one stay: check-in and check-out as instants (UTC), and the hotel's date at the decision.

    `step_ends` are the instants at which the steps of the booking's cancellation policy end, in their order; None: the
    step has no end. The worker resolves all of them with the pinned zone data `zone_data`, because a decision reads no
    zones.
    """

    check_in_at: datetime
    check_out_at: datetime
    today: date
    step_ends: tuple[datetime | None, ...] = ()
    zone_data: str | None = None


class State(msgspec.Struct, frozen=True):
    """The booking that a command names (None: there is none) and the nights that it touches (absent: not open).

    `clock` is the hotel's clock for the booking, for commands that depend on it. `account_rooms` has, for nights of a
    reservation or of a change, the rooms that its account holds unpaid already; nights without any are absent.
    `sale_terms` are those of the room (None: its hotel has set none), and `block` is the room's block that a command
    names.
    `code` is the promo code of a command, `code_use` the use of it by the command's booking, and `account_uses` the
    number of uses by the command's account. `document` is the document of a command or an event, and `corrected` the
    one that the event's document corrects. `last_numbers` are the hotel's newest numbers by kind, and `documents` those
    of the command's booking, each kind in the order of its numbers.
    """

    booking: Booking | None
    nights: Mapping[date, Night]
    clock: StayClock | None = None
    account_rooms: Mapping[date, int] = {}
    sale_terms: SaleTerms | None = None
    block: Block | None = None
    code: Code | None = None
    code_use: CodeUse | None = None
    account_uses: int = 0
    document: Document | None = None
    corrected: Document | None = None
    last_numbers: Mapping[DocumentKind, int] = {}
    documents: tuple[Document, ...] = ()


LIVE = frozenset(
    {BookingStatus.RESERVING, BookingStatus.RESERVED, BookingStatus.GUESTS_ADDED, BookingStatus.PAYMENTS_PENDING}
)


def live(booking: Booking) -> bool:
    """Return whether the booking holds its nights unpaid."""
    return booking.status in LIVE


def unpaid(booking: Booking) -> bool:
    """Return whether the booking holds or has its nights without a payment in advance."""
    return live(booking) or (booking.status is BookingStatus.CONFIRMED and booking.terms is Terms.AT_HOTEL)


def unpaid_rooms(booking: Booking) -> tuple[RoomsHeld, ...]:
    """Return the rooms that the booking has unpaid: those of its stay, or those that a change of it holds."""
    if unpaid(booking):
        stay = RoomsHeld(first_night=booking.check_in, end_night=booking.check_out, rooms_count=booking.rooms_count)
        return (stay,)
    return () if booking.pending_change is None else booking.pending_change.held
