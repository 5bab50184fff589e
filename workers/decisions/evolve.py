"""Applies an event to a booking and the nights of its room. `decide` has checked everything: nothing may fail here."""

from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

from msgspec.structs import replace

from topics.messages.events import (
    BlockReleased,
    BookingCancelled,
    BookingConfirmed,
    BookingEvent,
    BookingExpired,
    BookingRejected,
    BookingReserved,
    ChangeEnded,
    ChangeHeld,
    ChangeOpened,
    ChangeRejected,
    CheckoutOpened,
    CodeChanged,
    CodeClaimed,
    CodeEvent,
    CodeReturned,
    CommandRefused,
    CommandRepeated,
    DocumentIssued,
    Event,
    GuestsAdded,
    GuestsChanged,
    GuestsCheckedOut,
    GuestsDidNotArrive,
    HotelEvent,
    InventoryChanged,
    InventoryOpened,
    InventoryUnchanged,
    LegEnded,
    LegHeld,
    NightsBlocked,
    PaymentDeclined,
    PaymentRequested,
    SaleTermsChanged,
    StayBefore,
    StayChanged,
    TripOpened,
    TripRejected,
    TripReserved,
)
from topics.messages.values import BookingStatus, LegState, Terms, nights_of
from workers.decisions.evolve_nights import new_nights, nights_after, with_changes, with_taken
from workers.decisions.evolve_payments import PAYMENT_CHANGES, ended_payments
from workers.decisions.state import (
    MAX_EARLIER_GUEST_LISTS,
    MAX_ENDED_CHANGES,
    Block,
    Booking,
    Code,
    CodeUse,
    Document,
    EarlierStay,
    Leg,
    Payment,
    PaymentState,
    PendingChange,
    State,
)
from workers.decisions.states import next_status


def evolve(state: State, event: Event) -> State:
    """Return all that the event changes, as it is after the event: a booking and nights, a block, a code, a document.

    Raises:
        IllegalTransition: the event cannot happen to the booking in its status.
    """
    # Most events are about bookings, and `isinstance` is slow for a class of msgspec that the value is not of.
    if isinstance(event, BookingEvent):
        if _is_of_another_room(state.booking, event):
            return State(state.booking, {})
        return State(_booking_after(state.booking, event), nights_after(state, event))
    if isinstance(event, InventoryOpened):
        return State(state.booking, new_nights(event))
    if isinstance(event, InventoryChanged):
        return State(state.booking, with_changes(state.nights, event))
    if isinstance(event, InventoryUnchanged):
        return State(state.booking, {})
    if isinstance(event, SaleTermsChanged):
        return State(state.booking, {}, sale_terms=event.terms)
    if isinstance(event, NightsBlocked | BlockReleased):
        return _with_block(state, event)
    if isinstance(event, CodeEvent):
        return _with_code(state, event)
    assert isinstance(event, HotelEvent)
    return _with_document(state, event)


def after(state: State, *events: Event) -> State:
    """Return the state of a decision after events about its booking."""
    for event in events:
        changed = evolve(state, event)
        state = replace(state, booking=changed.booking, nights={**state.nights, **changed.nights})
    return state


def _with_block(state: State, event: NightsBlocked | BlockReleased) -> State:
    """Return the block and its nights, of which more rooms are blocked, or fewer."""
    nights = nights_of(event.first_night, event.end_night)
    if isinstance(event, NightsBlocked):
        block = Block(
            id=event.block_id,
            room_id=event.room_id,
            first_night=event.first_night,
            end_night=event.end_night,
            rooms_count=event.rooms_count,
            reason=event.reason,
        )
        return State(state.booking, with_taken(state.nights, nights, blocked=event.rooms_count), block=block)
    assert state.block is not None
    released = replace(state.block, released=True)
    return State(state.booking, with_taken(state.nights, nights, blocked=-event.rooms_count), block=released)


def _with_code(state: State, event: CodeEvent) -> State:
    """Return the promo code and its use by a booking, as far as they change."""
    code, use = state.code, state.code_use
    if isinstance(event, CodeChanged):
        used_count = 0 if code is None else code.used_count
        return State(
            None, {}, code=Code(id=event.code_id, hotel_id=event.hotel_id, terms=event.terms, used_count=used_count)
        )
    if isinstance(event, CodeClaimed):
        assert code is not None
        use = CodeUse(code_id=event.code_id, booking_id=event.booking_id, user_id=event.user_id)
        return State(None, {}, code=replace(code, used_count=code.used_count + 1), code_use=use)
    if isinstance(event, CodeReturned):
        assert code is not None
        assert use is not None
        returned = replace(use, returned=True)
        return State(None, {}, code=replace(code, used_count=code.used_count - 1), code_use=returned)
    return State(None, {})


def _with_document(state: State, event: HotelEvent) -> State:
    """Return the document that was issued, and the one that it corrects."""
    if not isinstance(event, DocumentIssued):
        return State(None, {})
    document = Document(
        id=event.document_id,
        hotel_id=event.hotel_id,
        kind=event.kind,
        number=event.number,
        reason=event.reason,
        booking_id=event.booking_id,
        lines=event.lines,
        amount_minor=event.amount_minor,
        currency=event.currency,
        corrects_id=event.corrects_id,
        booking_version=event.booking_version,
    )
    known = (state.corrected, *state.documents)
    corrected = next((each for each in known if each is not None and each.id == event.corrects_id), None)
    if corrected is not None:
        corrected = replace(corrected, credited_minor=corrected.credited_minor + event.amount_minor)
    return State(None, {}, document=document, corrected=corrected)


def _is_of_another_room(booking: Booking | None, event: BookingEvent) -> bool:
    """Return whether the event names a booking of another room, which events of this room must not change."""
    return booking is not None and booking.room_id != event.room_id


def _booking_after(booking: Booking | None, event: BookingEvent) -> Booking | None:
    if isinstance(event, BookingReserved):
        next_status(BookingStatus.PENDING if booking is None else booking.status, event)
        return _reserved_booking(event)
    if isinstance(event, BookingRejected):
        next_status(BookingStatus.PENDING if booking is None else booking.status, event)
        return _rejected_booking(event)
    if isinstance(event, TripOpened) or (booking is None and isinstance(event, TripRejected)):
        next_status(BookingStatus.PENDING if booking is None else booking.status, event)
        return _new_trip(event)
    if booking is None or isinstance(event, CommandRefused | CommandRepeated):
        return booking
    if isinstance(event, ChangeRejected):
        return replace(booking, ended_change_ids=_with_ended_change(booking, event))
    changes_of = _CHANGES.get(type(event))
    changes = {} if changes_of is None else changes_of(booking, event)
    return replace(booking, status=next_status(booking.status, event), version=booking.version + 1, **changes)


def _rejected_booking(event: BookingRejected) -> Booking:
    return Booking(
        id=event.booking_id,
        user_id=event.user_id,
        hotel_id=event.hotel_id,
        room_id=event.room_id,
        check_in=event.check_in,
        check_out=event.check_out,
        rooms_count=event.rooms_count,
        terms=event.terms,
        status=BookingStatus.REJECTED,
        amount_minor=0,
        currency="",
        rejection=event.reason,
        trip_id=event.trip_id,
        trip_room_id=event.trip_room_id,
        request_hash=event.request_hash,
    )


def _reserved_booking(event: BookingReserved) -> Booking:
    return Booking(
        id=event.booking_id,
        user_id=event.user_id,
        hotel_id=event.hotel_id,
        room_id=event.room_id,
        check_in=event.check_in,
        check_out=event.check_out,
        rooms_count=event.rooms_count,
        terms=event.terms,
        status=BookingStatus.RESERVED,
        amount_minor=event.amount_minor,
        currency=event.currency,
        hold_expires_at=event.hold_expires_at,
        night_amounts_minor=event.night_amounts_minor,
        stay_times=event.stay_times,
        sale=event.sale,
        guest_list_id=event.guest_list_id,
        accepted_terms=event.accepted_terms,
        trip_id=event.trip_id,
        trip_room_id=event.trip_room_id,
        request_hash=event.request_hash,
    )


def _new_trip(event: TripOpened | TripRejected) -> Booking:
    """Return the trip, which has the nights of none of its legs."""
    trip = Booking(
        id=event.booking_id,
        user_id=event.user_id,
        hotel_id=event.hotel_id,
        room_id=event.room_id,
        check_in=event.check_in,
        check_out=event.check_out,
        rooms_count=0,
        terms=Terms.PREPAID,
        status=BookingStatus.RESERVING,
        amount_minor=0,
        currency="",
        legs=tuple(
            Leg(booking_id=leg.booking_id, room_id=leg.room_id, rooms_count=leg.rooms_count) for leg in event.legs
        ),
        request_hash=event.request_hash,
    )
    if isinstance(event, TripRejected):
        return replace(trip, status=BookingStatus.REJECTED, rejection=event.reason)
    return replace(
        trip,
        hold_expires_at=event.hold_expires_at,
        stay_times=event.stay_times,
        accepted_terms=event.accepted_terms,
    )


def _with_leg(booking: Booking, leg_id: UUID, **changes: Any) -> dict[str, Any]:
    """Return the changes of a trip whose leg changes."""
    return {"legs": tuple(replace(leg, **changes) if leg.booking_id == leg_id else leg for leg in booking.legs)}


def _held_leg_changes(booking: Booking, event: LegHeld) -> dict[str, Any]:
    return _with_leg(
        booking,
        event.leg_id,
        state=LegState.HELD,
        amount_minor=event.amount_minor,
        night_amounts_minor=event.night_amounts_minor,
        currency=event.currency,
    )


def _reserved_trip_changes(_: Booking, event: TripReserved) -> dict[str, Any]:
    return {
        "amount_minor": event.amount_minor,
        "currency": event.currency,
        "night_amounts_minor": event.night_amounts_minor,
    }


def _ended_leg_changes(booking: Booking, event: LegEnded) -> dict[str, Any]:
    state = LegState.ENDED if event.cancel_reason is None else LegState.CANCELLED
    return _with_leg(booking, event.leg_id, state=state, kept_minor=event.kept_minor)


def _guests_changes(booking: Booking, event: GuestsAdded | GuestsChanged) -> dict[str, Any]:
    """Return the guests and their list; the list that this one replaces is an earlier one from now on."""
    earlier = booking.earlier_guest_list_ids
    if booking.guest_list_id is not None and booking.guest_list_id != event.guest_list_id:
        earlier = (*earlier, booking.guest_list_id)[-MAX_EARLIER_GUEST_LISTS:]
    return {
        "guest_ids": event.guest_ids,
        "guest_list_id": event.guest_list_id,
        "earlier_guest_list_ids": earlier,
    }


def _confirmation_changes(booking: Booking, event: BookingConfirmed) -> dict[str, Any]:
    changes: dict[str, Any] = {"hold_expires_at": None, "failure": None}
    if event.payment_intent is not None:
        payment = Payment(event.payment_intent, event.session_id or "", event.amount_minor, PaymentState.KEPT)
        changes["payments"] = (*booking.payments, payment)
    return changes


def _payment_request_changes(booking: Booking, event: PaymentRequested) -> dict[str, Any]:
    changes: dict[str, Any] = {"payment_attempt": event.attempt, "session_id": None, "failure": None}
    if booking.pending_change is not None:
        changes["pending_change"] = replace(booking.pending_change, attempt=event.attempt)
    return changes


def _opened_change_changes(_: Booking, event: ChangeOpened) -> dict[str, Any]:
    stay = StayBefore(
        check_in=event.check_in,
        check_out=event.check_out,
        rooms_count=event.rooms_count,
        amount_minor=0,
        night_amounts_minor=(),
    )
    change = PendingChange(id=event.change_id, stay=stay, extra_minor=0, to_room_id=event.to_room_id, is_open=True)
    return {"pending_change": change, "hold_expires_at": event.hold_expires_at}


def _held_change_changes(booking: Booking, event: ChangeHeld) -> dict[str, Any]:
    stay = StayBefore(
        check_in=event.check_in,
        check_out=event.check_out,
        rooms_count=event.rooms_count,
        amount_minor=event.amount_minor,
        night_amounts_minor=event.night_amounts_minor,
        sale=event.sale,
    )
    change = PendingChange(
        id=event.change_id, stay=stay, extra_minor=event.extra_minor, held=event.held, to_room_id=event.to_room_id
    )
    return {"pending_change": change, "hold_expires_at": event.hold_expires_at}


def _ended_change_changes(booking: Booking, event: ChangeEnded) -> dict[str, Any]:
    return {
        "pending_change": None,
        "hold_expires_at": None,
        "failure": None,
        "ended_change_ids": _with_ended_change(booking, event),
    }


def _with_ended_change(booking: Booking, event: ChangeEnded | ChangeRejected) -> tuple[UUID, ...]:
    # A change to another room type that the other room refused has ended, and then is rejected.
    earlier = [id for id in booking.ended_change_ids if id != event.change_id]
    return (*earlier, event.change_id)[-MAX_ENDED_CHANGES:]


def _changed_stay_changes(booking: Booking, event: StayChanged) -> dict[str, Any]:
    changes: dict[str, Any] = {
        "check_in": event.check_in,
        "check_out": event.check_out,
        "rooms_count": event.rooms_count,
        "amount_minor": event.amount_minor,
        "night_amounts_minor": event.night_amounts_minor,
        "sale": event.sale,
        "pending_change": None,
        "hold_expires_at": None,
        "failure": None,
        "earlier_stays": (*booking.earlier_stays, EarlierStay(change_id=event.change_id, stay=event.before)),
    }
    if event.payment_intent is not None:
        payment = Payment(event.payment_intent, event.session_id or "", event.extra_minor, PaymentState.KEPT)
        changes["payments"] = (*booking.payments, payment)
    if event.to_room_id is not None:
        # The booking is a trip from now on: its stay is that of a leg, in the other room.
        leg = Leg(
            booking_id=event.change_id,
            room_id=event.to_room_id,
            rooms_count=event.rooms_count,
            state=LegState.HELD,
            amount_minor=event.amount_minor,
            night_amounts_minor=event.night_amounts_minor,
            currency=event.currency,
        )
        changes |= {"legs": (leg,), "rooms_count": 0}
    return changes


def _cancellation_changes(booking: Booking, event: BookingCancelled) -> dict[str, Any]:
    return {
        "hold_expires_at": None,
        "cancel_reason": event.reason,
        "freed_from": event.freed_from,
        "policy": event.policy,
        "payments": tuple(ended_payments(booking, 0 if event.policy is None else event.policy.kept_minor)),
    }


def _departure_changes(booking: Booking, event: GuestsCheckedOut | GuestsDidNotArrive) -> dict[str, Any]:
    return {"freed_from": event.freed_from, "policy": event.policy}


_CHANGES: Final[dict[type[BookingEvent], Callable[[Booking, Any], dict[str, Any]]]] = {
    GuestsAdded: _guests_changes,
    GuestsChanged: _guests_changes,
    PaymentRequested: _payment_request_changes,
    ChangeOpened: _opened_change_changes,
    ChangeHeld: _held_change_changes,
    ChangeEnded: _ended_change_changes,
    StayChanged: _changed_stay_changes,
    LegHeld: _held_leg_changes,
    TripReserved: _reserved_trip_changes,
    TripRejected: lambda _, event: {"rejection": event.reason, "hold_expires_at": None},
    LegEnded: _ended_leg_changes,
    CheckoutOpened: lambda _, event: {"session_id": event.session_id},
    PaymentDeclined: lambda _, event: {"failure": event.failure},
    BookingConfirmed: _confirmation_changes,
    BookingCancelled: _cancellation_changes,
    GuestsCheckedOut: _departure_changes,
    GuestsDidNotArrive: _departure_changes,
    BookingExpired: lambda *_: {"hold_expires_at": None},
    **PAYMENT_CHANGES,
}
