"""Decisions about trips: stays of several room types, all or nothing, and the legs that only their trip ends.

A trip is a booking without nights, decided in the partition of its first leg's room: it alone decides whether all legs
are bought or none, and it has the money. Its legs are bookings of their own, in their rooms' partitions; coordination
carries each decision from the one to the others.
"""

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from pricing.charges import can_be_charged
from topics.messages.commands import (
    AddGuests,
    CancelBooking,
    ChangeGuests,
    ChangeStay,
    CheckIn,
    CheckOut,
    Command,
    ConfirmLeg,
    MarkNoShow,
    RecordLeg,
    RecordLegEnd,
    ReleaseLeg,
    RequestPayment,
    ReserveTrip,
)
from topics.messages.events import (
    BookingCancelled,
    BookingConfirmed,
    Event,
    GuestsAdded,
    LegEnded,
    LegHeld,
    TripCancelRequested,
    TripOpened,
    TripRejected,
    TripReserved,
)
from topics.messages.sale import AppliedPolicy
from topics.messages.values import (
    MAX_AMOUNT_MINOR,
    MAX_LEGS,
    MAX_NIGHTS,
    BookingStatus,
    CancelReason,
    LegState,
    Refusal,
    Rejection,
)
from workers.decisions.answers import code_of, not_theirs, of_another_request, refused, repeated
from workers.decisions.booking import cancel, part_refunded, too_late
from workers.decisions.evolve import after
from workers.decisions.moves import record_leg_of_change
from workers.decisions.payment import price_minor
from workers.decisions.state import Booking, State, live

#: Commands that a leg gets from its trip alone, while the trip is not paid.
_BY_TRIP_UNTIL_PAID: Final = (AddGuests, RequestPayment, CancelBooking)
#: Commands that a trip does not take, because each leg has its own stay.
_BY_LEG: Final = (CheckIn, CheckOut, MarkNoShow, ChangeGuests, ChangeStay)


def barred(booking: Booking | None, command: Command) -> Refusal | None:
    """Return why a command about a leg or a trip is one for the other of them, if it is."""
    if booking is None:
        return None
    if booking.trip_id is not None and (
        isinstance(command, ChangeStay) or (live(booking) and isinstance(command, _BY_TRIP_UNTIL_PAID))
    ):
        return Refusal.PART_OF_TRIP
    if not booking.legs or not isinstance(command, _BY_LEG):
        return None
    # A booking that moved to another room knows its changes: the same command again changes nothing.
    is_known = isinstance(command, ChangeStay) and command.change_id in {it.change_id for it in booking.earlier_stays}
    return None if is_known else Refusal.HAS_LEGS


def reserve_trip(state: State, command: ReserveTrip, now: datetime) -> tuple[Event, ...]:
    """Open the trip, whose legs are then reserved in their own rooms; a trip that exists already stays as it is."""
    booking = state.booking
    if booking is not None:
        another = of_another_request(booking, command)
        if another is not None:
            return another
        # A claim that was refused rejected the trip; if the claim is then sent again, it may be granted.
        unused = command.discount if booking.status is BookingStatus.REJECTED else None
        return repeated(booking, command, code_id=None if unused is None else unused.code_id)
    reason = command.code_rejection or _fault(command)
    if reason is not None:
        return (_rejected_event(command, reason),)
    return (
        TripOpened(
            room_id=command.room_id,
            booking_id=command.booking_id,
            user_id=command.user_id,
            hotel_id=command.hotel_id,
            check_in=command.check_in,
            check_out=command.check_out,
            legs=command.legs,
            hold_expires_at=now + timedelta(seconds=command.hold_seconds),
            stay_times=command.stay_times,
            account_share_percent=command.account_share_percent,
            discount=command.discount,
            accepted_terms=command.accepted_terms,
            request_hash=command.request_hash,
        ),
    )


def _fault(command: ReserveTrip) -> Rejection | None:
    """Return why the request makes no sense, if it does not; the rooms decide all else."""
    nights = (command.check_out - command.check_in).days
    if nights < 1:
        return Rejection.NO_NIGHTS
    ids = {leg.booking_id for leg in command.legs}
    if not 1 <= len(command.legs) <= MAX_LEGS or len(ids) < len(command.legs) or command.booking_id in ids:
        return Rejection.NO_ROOMS
    return Rejection.NIGHT_NOT_OPEN if nights > MAX_NIGHTS else None


def _rejected_event(command: ReserveTrip, reason: Rejection) -> TripRejected:
    return TripRejected(
        room_id=command.room_id,
        booking_id=command.booking_id,
        user_id=command.user_id,
        hotel_id=command.hotel_id,
        check_in=command.check_in,
        check_out=command.check_out,
        legs=command.legs,
        reason=reason,
        code_id=code_of(command),
        request_hash=command.request_hash,
    )


def record_leg(state: State, command: RecordLeg, now: datetime) -> tuple[Event, ...]:
    """Note that a leg is held; the last one reserves the trip, and a refused one rejects it.

    The leg of a change to another room type prices the change.
    """
    trip = state.booking
    change = None if trip is None else trip.pending_change
    if trip is not None and change is not None and change.id == command.leg_id:
        return record_leg_of_change(state, trip, change, command)
    if trip is not None and command.leg_id in trip.ended_change_ids:
        # The leg of a change that ended is released already.
        return repeated(trip, command)
    leg = None if trip is None else trip.leg(command.leg_id)
    if trip is None or leg is None:
        return refused(trip, command, Refusal.BOOKING_NOT_FOUND if trip is None else Refusal.NO_SUCH_LEG)
    if trip.status is not BookingStatus.RESERVING or leg.state is not LegState.REQUESTED:
        # A leg that comes after the end of its trip is released already: its room gets that command later than this.
        return repeated(trip, command)
    if command.rejection is not None:
        return (_rejected(trip, command.rejection, leg.booking_id),)
    held = LegHeld(
        room_id=trip.room_id,
        booking_id=trip.id,
        leg_id=leg.booking_id,
        amount_minor=command.amount_minor,
        currency=command.currency,
        night_amounts_minor=command.night_amounts_minor,
    )
    changed = after(state, held).booking
    assert changed is not None
    if any(each.state is LegState.REQUESTED for each in changed.legs):
        return (held,)
    return (held, _all_held(changed))


def _all_held(trip: Booking) -> TripReserved | TripRejected:
    """Return the event of a trip all of whose legs are held: they are one price, or they cannot be paid together."""
    amount_minor, currency = sum(leg.amount_minor for leg in trip.legs), trip.legs[0].currency
    if any(leg.currency != currency for leg in trip.legs) or not _can_be_paid(amount_minor, currency):
        return _rejected(trip, Rejection.NOT_CHARGEABLE)
    by_night = zip(*(leg.night_amounts_minor for leg in trip.legs), strict=True)
    return TripReserved(
        room_id=trip.room_id,
        booking_id=trip.id,
        amount_minor=amount_minor,
        currency=currency,
        night_amounts_minor=tuple(map(sum, by_night)),
    )


def _can_be_paid(amount_minor: int, currency: str) -> bool:
    return amount_minor <= MAX_AMOUNT_MINOR and can_be_charged(amount_minor, currency)


def _rejected(trip: Booking, reason: Rejection, leg_id: UUID | None = None) -> TripRejected:
    assert trip.user_id is not None
    return TripRejected(
        room_id=trip.room_id,
        booking_id=trip.id,
        user_id=trip.user_id,
        hotel_id=trip.hotel_id,
        check_in=trip.check_in,
        check_out=trip.check_out,
        legs=(),
        reason=reason,
        leg_id=leg_id,
    )


def confirm_leg(state: State, command: ConfirmLeg, now: datetime) -> tuple[Event, ...]:
    """Confirm a leg whose trip is paid, with the trip's guests. It is held still: nothing else ends a leg."""
    leg = state.booking
    if leg is None or leg.trip_id is None:
        return refused(leg, command, Refusal.BOOKING_NOT_FOUND if leg is None else Refusal.NO_SUCH_LEG)
    if not live(leg):
        return repeated(leg, command)
    named: tuple[Event, ...] = ()
    if command.guest_ids:
        named = (
            GuestsAdded(
                room_id=leg.room_id,
                booking_id=leg.id,
                guest_ids=command.guest_ids,
                guest_list_id=command.guest_list_id,
            ),
        )
    confirmed = BookingConfirmed(
        room_id=leg.room_id, booking_id=leg.id, amount_minor=leg.amount_minor, currency=leg.currency
    )
    return (*named, confirmed)


def release_leg(state: State, command: ReleaseLeg, now: datetime) -> tuple[Event, ...]:
    """Put the nights of a leg on sale again, because its trip ended unpaid."""
    leg = state.booking
    if leg is None or leg.trip_id is None:
        return refused(leg, command, Refusal.BOOKING_NOT_FOUND if leg is None else Refusal.NO_SUCH_LEG)
    if not live(leg):
        return repeated(leg, command)
    return (BookingCancelled(room_id=leg.room_id, booking_id=leg.id, reason=CancelReason.TRIP_ENDED),)


def cancel_any(state: State, command: CancelBooking, now: datetime) -> tuple[Event, ...]:
    """End a booking, or ask for the end of a paid trip: each leg ends by its own policy, and the trip with the last."""
    trip = state.booking
    if trip is None or not trip.legs or trip.status is not BookingStatus.CONFIRMED:
        return cancel(state, command, now)
    reason = not_theirs(trip, command.user_id) or too_late(state, now, by_guest=command.user_id is not None)
    if reason is None and all(leg.state is not LegState.HELD for leg in trip.legs):
        reason = Refusal.WRONG_STATUS
    if reason is not None:
        return refused(trip, command, reason)
    return (
        TripCancelRequested(
            room_id=trip.room_id,
            booking_id=trip.id,
            user_id=command.user_id,
            reason=command.reason,
            hotel_reason=command.hotel_reason,
        ),
    )


def record_leg_end(state: State, command: RecordLegEnd, now: datetime) -> tuple[Event, ...]:
    """Refund what the hotel does not keep of a leg that ended early; the trip ends with its last leg."""
    trip = state.booking
    leg = None if trip is None else trip.leg(command.leg_id)
    if trip is None or leg is None:
        return refused(trip, command, Refusal.BOOKING_NOT_FOUND if trip is None else Refusal.NO_SUCH_LEG)
    if trip.status is not BookingStatus.CONFIRMED or leg.state is not LegState.HELD:
        return repeated(trip, command)
    ended = LegEnded(
        room_id=trip.room_id,
        booking_id=trip.id,
        leg_id=leg.booking_id,
        kept_minor=command.kept_minor,
        reason=command.reason,
        cancel_reason=command.cancel_reason,
    )
    without_leg = after(state, ended).booking
    assert without_leg is not None
    # Refunds by hand and lost disputes have taken of the leg's money already, as of a single stay's.
    more_minor = sum(paid.kept_minor for paid in trip.paying_payments()) - price_minor(without_leg)
    refunds = part_refunded(trip, min(leg.amount_minor - command.kept_minor, more_minor), command.reason)
    changed = after(state, ended, *refunds).booking
    assert changed is not None
    return (ended, *refunds, *_end_of(changed, command.cancel_reason))


def _end_of(trip: Booking, reason: CancelReason | None) -> tuple[Event, ...]:
    """Return the event that ends a trip all of whose legs are cancelled, the last of them for this reason."""
    if reason is None or any(leg.state is not LegState.CANCELLED for leg in trip.legs):
        return ()
    return (
        BookingCancelled(
            room_id=trip.room_id,
            booking_id=trip.id,
            reason=reason,
            policy=AppliedPolicy(kept_minor=sum(leg.kept_minor for leg in trip.legs)),
        ),
    )
