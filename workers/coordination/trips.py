"""Trips on one page: the commands that each event on `booking.events` leads to. Pure.

    TripOpened                                     -> ReserveStay for each leg, to its room
    ChangeOpened                                   -> ReserveStay, to the other room
    BookingReserved, BookingRejected of a leg      -> RecordLeg, to the trip
    BookingConfirmed of a trip                     -> ConfirmLeg, to each leg
    StayChanged to another room                    -> ConfirmLeg, to the leg there
    ChangeEnded of a change to another room        -> ReleaseLeg, to the leg there
    TripRejected, BookingExpired of an open trip   -> ReleaseLeg, to each leg
    BookingCancelled of a trip                     -> ReleaseLeg; CancelBooking, if it was refunded by hand
    TripCancelRequested                            -> CancelBooking, to each leg
    a paid leg is cancelled or ends early          -> RecordLegEnd, to the trip

A leg's room gets ReserveStay before ReleaseLeg and ConfirmLeg, because both follow from later events of the trip's
partition. So a leg that was reserved late is released or confirmed like the others.
"""

from typing import Final
from uuid import UUID

from topics.envelope import Envelope
from topics.messages.commands import (
    CancelBooking,
    Command,
    ConfirmLeg,
    RecordLeg,
    RecordLegEnd,
    ReleaseLeg,
    ReserveStay,
)
from topics.messages.events import (
    BookingCancelled,
    BookingConfirmed,
    BookingExpired,
    BookingRejected,
    BookingReserved,
    ChangeEnded,
    ChangeOpened,
    GuestsCheckedOut,
    GuestsDidNotArrive,
    StayChanged,
    TripCancelRequested,
    TripOpened,
    TripRejected,
)
from topics.messages.values import CancelReason, RefundReason
from workers.decisions import Booking

#: The events whose booking `commands_for` reads.
WITH_BOOKING: Final = (
    BookingConfirmed,
    BookingExpired,
    BookingCancelled,
    GuestsCheckedOut,
    GuestsDidNotArrive,
    StayChanged,
    TripRejected,
    TripCancelRequested,
)


def commands_for(event: object, envelope: Envelope, booking: Booking | None) -> tuple[tuple[str, Command], ...]:
    """Return the commands that an event leads to, each after its id; most events lead to none.

    Args:
        event: the event.
        envelope: its envelope.
        booking: the ledger's booking, of an event in `WITH_BOOKING`: a trip, a leg, or neither. It may be newer than
            the event.
    """
    match event:
        case TripOpened():
            commands = _reserved_legs(event)
        case ChangeOpened() | ChangeEnded() | StayChanged():
            commands = _about_leg_of_change(event, booking)
        case BookingReserved() | BookingRejected() if event.trip_id is not None:
            commands = (_recorded_leg(event),)
        case TripRejected() if event.legs:
            # The trip was refused as a whole: its legs were asked for nowhere.
            return ()
        case TripRejected() | BookingExpired() if booking is not None and not booking.earlier_stays:
            # A single booking that expired, was then paid late and has moved to another room keeps its leg.
            commands = _released(booking)
        case BookingConfirmed() if booking is not None:
            commands = _confirmed(booking)
        case TripCancelRequested() if booking is not None:
            commands = _cancelled(booking, event)
        case BookingCancelled() if booking is not None and booking.legs:
            by_hand = event.reason is CancelReason.REFUNDED_BY_HAND
            commands = _cancelled(booking, event) if by_hand else _released(booking)
        case BookingCancelled() | GuestsCheckedOut() | GuestsDidNotArrive() if booking is not None:
            commands = _ended_leg(booking, event)
        case _:
            return ()
    return tuple((f"{envelope.id}:trip:{number}", command) for number, command in enumerate(commands))


def _reserved_legs(event: TripOpened) -> tuple[Command, ...]:
    """Return the requests for the legs. An amount of a promo code counts once, for the first leg."""
    discount = event.discount
    return tuple(
        ReserveStay(
            room_id=leg.room_id,
            booking_id=leg.booking_id,
            user_id=event.user_id,
            hotel_id=event.hotel_id,
            check_in=event.check_in,
            check_out=event.check_out,
            rooms_count=leg.rooms_count,
            stay_times=event.stay_times,
            account_share_percent=event.account_share_percent,
            plan_id=leg.plan_id,
            party=leg.party,
            quoted=leg.quoted,
            discount=discount if number == 0 or discount is None or discount.amount_minor is None else None,
            accepted_terms=event.accepted_terms,
            trip_id=event.booking_id,
            trip_room_id=event.room_id,
        )
        for number, leg in enumerate(event.legs)
    )


def _about_leg_of_change(
    event: ChangeOpened | ChangeEnded | StayChanged, booking: Booking | None
) -> tuple[Command, ...]:
    """Return the command about the leg of a change to another room type; none of any other change."""
    if event.to_room_id is None:
        return ()
    match event:
        case ChangeOpened():
            return (_leg_of_change(event),)
        case ChangeEnded():
            return (ReleaseLeg(room_id=event.to_room_id, booking_id=event.change_id),)
        case StayChanged():
            return () if booking is None else (_confirmed_leg(booking, event.to_room_id, event.change_id),)


def _leg_of_change(event: ChangeOpened) -> ReserveStay:
    """Return the request of the room that a stay moves to."""
    return ReserveStay(
        room_id=event.to_room_id,
        booking_id=event.change_id,
        user_id=event.user_id,
        hotel_id=event.hotel_id,
        check_in=event.check_in,
        check_out=event.check_out,
        rooms_count=event.rooms_count,
        stay_times=event.stay_times,
        account_share_percent=event.account_share_percent,
        plan_id=event.plan_id,
        party=event.party,
        accepted_terms=event.accepted_terms,
        moved=event.moved,
        trip_id=event.booking_id,
        trip_room_id=event.room_id,
    )


def _recorded_leg(event: BookingReserved | BookingRejected) -> RecordLeg:
    assert event.trip_id is not None
    assert event.trip_room_id is not None
    if isinstance(event, BookingRejected):
        return RecordLeg(
            room_id=event.trip_room_id, booking_id=event.trip_id, leg_id=event.booking_id, rejection=event.reason
        )
    return RecordLeg(
        room_id=event.trip_room_id,
        booking_id=event.trip_id,
        leg_id=event.booking_id,
        amount_minor=event.amount_minor,
        currency=event.currency,
        night_amounts_minor=event.night_amounts_minor,
    )


def _released(trip: Booking) -> tuple[Command, ...]:
    return tuple(ReleaseLeg(room_id=leg.room_id, booking_id=leg.booking_id) for leg in trip.legs)


def _confirmed(trip: Booking) -> tuple[Command, ...]:
    """Return the confirmations of the legs, with the trip's guests: a paid trip keeps them."""
    return tuple(_confirmed_leg(trip, leg.room_id, leg.booking_id) for leg in trip.legs)


def _confirmed_leg(trip: Booking, room_id: int, leg_id: UUID) -> ConfirmLeg:
    return ConfirmLeg(room_id=room_id, booking_id=leg_id, guest_ids=trip.guest_ids, guest_list_id=trip.guest_list_id)


def _cancelled(trip: Booking, event: TripCancelRequested | BookingCancelled) -> tuple[Command, ...]:
    """Return the cancellations of the legs; those by a guest cost the amount of each leg's policy."""
    user_id = event.user_id if isinstance(event, TripCancelRequested) else None
    return tuple(
        CancelBooking(
            room_id=leg.room_id,
            booking_id=leg.booking_id,
            user_id=user_id,
            reason=event.reason,
            hotel_reason=event.hotel_reason,
        )
        for leg in trip.legs
    )


def _ended_leg(
    booking: Booking, event: BookingCancelled | GuestsCheckedOut | GuestsDidNotArrive
) -> tuple[Command, ...]:
    """Return what the trip learns of a leg that ended early; nothing of one that was not paid, or of no leg."""
    if booking.trip_id is None or booking.trip_room_id is None:
        return ()
    cancel_reason = event.reason if isinstance(event, BookingCancelled) else None
    if cancel_reason is CancelReason.TRIP_ENDED or (isinstance(event, GuestsCheckedOut) and event.policy is None):
        return ()
    reasons = {GuestsCheckedOut: RefundReason.EARLY_DEPARTURE, GuestsDidNotArrive: RefundReason.NO_SHOW}
    return (
        RecordLegEnd(
            room_id=booking.trip_room_id,
            booking_id=booking.trip_id,
            leg_id=booking.id,
            kept_minor=0 if event.policy is None else event.policy.kept_minor,
            reason=reasons.get(type(event), RefundReason.BOOKING_CANCELLED),
            cancel_reason=cancel_reason,
        ),
    )
