"""Applies an event to a booking and the nights of its room. `decide` has checked everything: nothing may fail here."""

from collections.abc import Callable, Iterable, Mapping
from datetime import date
from typing import Any, Final
from uuid import UUID

from msgspec.structs import replace

from pricing.stays import NO_SURGE_MILLI
from topics.messages.events import (
    BlockReleased,
    BookingCancelled,
    BookingConfirmed,
    BookingEvent,
    BookingExpired,
    BookingRefunded,
    BookingRejected,
    BookingReserved,
    ChangeEnded,
    ChangeHeld,
    ChangeRejected,
    CheckoutOpened,
    CodeChanged,
    CodeClaimed,
    CodeEvent,
    CodeReturned,
    CommandRefused,
    CommandRepeated,
    DisputeClosed,
    DisputeOpened,
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
    RefundClosed,
    RefundFailed,
    RefundRequested,
    RoomsHeld,
    SaleTermsChanged,
    StayBefore,
    StayChanged,
    TripOpened,
    TripRejected,
    TripReserved,
)
from topics.messages.values import BookingStatus, LegState, RefundReason, Terms, nights_of
from workers.decisions.state import (
    MAX_EARLIER_GUEST_LISTS,
    UNKNOWN_REFUND,
    Block,
    Booking,
    Code,
    CodeUse,
    Dispute,
    Document,
    EarlierStay,
    Leg,
    Night,
    Payment,
    PaymentState,
    PendingChange,
    RefundMade,
    State,
    live,
)
from workers.decisions.states import next_status


def evolve(state: State, event: Event) -> State:
    """Return all that the event changes, as it is after the event: a booking and nights, a block, a code, a document.

    Raises:
        IllegalTransition: the event cannot happen to the booking in its status.
    """
    if isinstance(event, InventoryOpened):
        return State(state.booking, _new_nights(event))
    if isinstance(event, InventoryChanged):
        return State(state.booking, _with_changes(state.nights, event))
    if isinstance(event, InventoryUnchanged | CommandRefused | CommandRepeated):
        return State(state.booking, {})
    if isinstance(event, SaleTermsChanged):
        return State(state.booking, {}, sale_terms=event.terms)
    if isinstance(event, NightsBlocked | BlockReleased):
        return _with_block(state, event)
    if isinstance(event, CodeEvent):
        return _with_code(state, event)
    if isinstance(event, HotelEvent):
        return _with_document(state, event)
    assert isinstance(event, BookingEvent)
    if _is_of_another_room(state.booking, event):
        return State(state.booking, {})
    return State(_booking_after(state.booking, event), _nights_after(state, event))


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
        return State(state.booking, _with_taken(state.nights, nights, blocked=event.rooms_count), block=block)
    assert state.block is not None
    released = replace(state.block, released=True)
    return State(state.booking, _with_taken(state.nights, nights, blocked=-event.rooms_count), block=released)


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
    """Return the document that was issued, and the invoice that it corrects."""
    if not isinstance(event, DocumentIssued):
        return State(None, {})
    document = Document(
        id=event.document_id,
        hotel_id=event.hotel_id,
        kind=event.kind,
        number=event.number,
        booking_id=event.booking_id,
        amount_minor=event.amount_minor,
        currency=event.currency,
        corrects_id=event.corrects_id,
    )
    # The invoice that is corrected need not be the one that the command names.
    known = (state.corrected, *state.open_invoices)
    corrected = next((each for each in known if each is not None and each.id == event.corrects_id), None)
    if corrected is not None:
        corrected = replace(corrected, credited_minor=corrected.credited_minor + event.amount_minor)
    return State(None, {}, document=document, corrected=corrected, last_number=event.number)


def _is_of_another_room(booking: Booking | None, event: BookingEvent) -> bool:
    """Return whether the event names a booking of another room, which events of this room must not change."""
    return booking is not None and booking.room_id != event.room_id


def _booking_after(booking: Booking | None, event: BookingEvent) -> Booking | None:
    if isinstance(event, BookingReserved | BookingRejected):
        next_status(BookingStatus.PENDING if booking is None else booking.status, event)
        return _new_booking(event)
    if isinstance(event, TripOpened) or (booking is None and isinstance(event, TripRejected)):
        next_status(BookingStatus.PENDING if booking is None else booking.status, event)
        return _new_trip(event)
    if booking is None or isinstance(event, CommandRefused | CommandRepeated):
        return booking
    if isinstance(event, ChangeRejected):
        return replace(booking, ended_change_ids=(*booking.ended_change_ids, event.change_id))
    changes_of = _CHANGES.get(type(event))
    changes = {} if changes_of is None else changes_of(booking, event)
    return replace(booking, status=next_status(booking.status, event), version=booking.version + 1, **changes)


def _new_booking(event: BookingReserved | BookingRejected) -> Booking:
    booking = Booking(
        id=event.booking_id,
        user_id=event.user_id,
        hotel_id=event.hotel_id,
        room_id=event.room_id,
        check_in=event.check_in,
        check_out=event.check_out,
        rooms_count=event.rooms_count,
        terms=event.terms,
        status=BookingStatus.RESERVED,
        amount_minor=0,
        currency="",
    )
    if isinstance(event, BookingRejected):
        return replace(
            booking,
            status=BookingStatus.REJECTED,
            rejection=event.reason,
            trip_id=event.trip_id,
            trip_room_id=event.trip_room_id,
        )
    return replace(
        booking,
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


def _held_change_changes(booking: Booking, event: ChangeHeld) -> dict[str, Any]:
    stay = StayBefore(
        check_in=event.check_in,
        check_out=event.check_out,
        rooms_count=event.rooms_count,
        amount_minor=event.amount_minor,
        night_amounts_minor=event.night_amounts_minor,
        sale=event.sale,
    )
    change = PendingChange(id=event.change_id, stay=stay, extra_minor=event.extra_minor, held=event.held)
    return {"pending_change": change, "hold_expires_at": event.hold_expires_at}


def _ended_change_changes(booking: Booking, event: ChangeEnded) -> dict[str, Any]:
    return {
        "pending_change": None,
        "hold_expires_at": None,
        "failure": None,
        "ended_change_ids": (*booking.ended_change_ids, event.change_id),
    }


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
    return changes


def _cancellation_changes(booking: Booking, event: BookingCancelled) -> dict[str, Any]:
    return {
        "hold_expires_at": None,
        "cancel_reason": event.reason,
        "freed_from": event.freed_from,
        "policy": event.policy,
        "payments": tuple(_ended_payments(booking, 0 if event.policy is None else event.policy.kept_minor)),
    }


def _ended_payments(booking: Booking, kept_minor: int) -> Iterable[Payment]:
    """Yield the payments of a cancelled booking: those of which nothing is kept get no refund and pay it no more.

    All of such a payment went back, is due already, or was taken by a lost dispute. It gets the part of the policy that
    the others have too little for, as far as its own money left without being due: a refund by hand may still fail.
    """
    kept_minor = max(0, kept_minor - sum(paid.kept_minor for paid in booking.paying_payments()))
    for paid in booking.payments:
        if paid.state is not PaymentState.KEPT:
            yield paid
            continue
        went_minor = paid.amount_minor - paid.left_minor - paid.sent_minor
        if paid.left_minor and not paid.kept_minor:
            # All of the rest is due, or was: it is not kept.
            went_minor = 0
        policy_minor = max(0, min(kept_minor, went_minor))
        kept_minor -= policy_minor
        if paid.kept_minor:
            yield paid
        else:
            yield _balanced(replace(paid, state=PaymentState.REFUNDED, policy_minor=policy_minor))


def _departure_changes(booking: Booking, event: GuestsCheckedOut | GuestsDidNotArrive) -> dict[str, Any]:
    return {"freed_from": event.freed_from, "policy": event.policy}


def _refund_request_changes(booking: Booking, event: RefundRequested) -> dict[str, Any]:
    known = booking.payment(event.payment_intent)
    if known is None:
        currency = "" if event.currency == booking.currency else event.currency
        known = Payment(
            event.payment_intent, event.session_id, event.amount_minor, PaymentState.KEPT, currency=currency
        )
    due_minor = known.due_minor + event.amount_minor
    has_legs = booking.legs and booking.status is BookingStatus.CONFIRMED and known.state is PaymentState.KEPT
    if event.reason is RefundReason.STAY_CHANGED or (has_legs and booking.payment(event.payment_intent) is not None):
        # The rest of the payment pays the cheaper stay, or the other legs of the trip.
        return {"payments": _with_payment(booking, replace(known, due_minor=due_minor))}
    payment = _balanced(
        replace(
            known,
            state=PaymentState.REFUND_REQUESTED,
            due_minor=due_minor,
            policy_minor=event.retained_minor,
        )
    )
    changes: dict[str, Any] = {"payments": _with_payment(booking, payment)}
    if (live(booking) or booking.pending_change is not None) and booking.session_id == event.session_id:
        # Its payment is refunded, so the session has ended: the guest may open another one.
        changes |= {"session_id": None, "failure": event.reason.value}
    return changes


def _refunded(payment: Payment, event: BookingRefunded) -> Payment:
    made = RefundMade(event.refund_id, event.amount_minor, event.by_hand)
    due_minor = max(0, payment.due_minor - event.amount_minor)
    # A refund of ours that was on its way when an operator ended it went back after all.
    more_minor = 0 if event.by_hand else max(0, event.amount_minor - payment.due_minor)
    closed_minor = max(0, payment.closed_minor - more_minor)
    return replace(payment, refunds=(*payment.refunds, made), due_minor=due_minor, closed_minor=closed_minor)


def _with_failed_refund(payment: Payment, event: RefundFailed) -> Payment:
    """Return the payment without the refund; its amount is due again, unless a person had made it."""
    refunds = tuple(left for made in payment.refunds if (left := _without(made, payment, event)) is not None)
    after = replace(payment, refunds=refunds, failed_refund_ids=(*payment.failed_refund_ids, event.refund_id))
    if event.by_hand:
        return after
    return replace(after, due_minor=payment.due_minor + payment.refunded_minor - after.refunded_minor)


def _without(made: RefundMade, payment: Payment, event: RefundFailed) -> RefundMade | None:
    """Return a refund without the one that failed; None: nothing of it is left."""
    if made.refund_id == event.refund_id:
        return None
    if made.refund_id != UNKNOWN_REFUND or event.by_hand or payment.refund(event.refund_id) is not None:
        return made
    # 0.1.0 kept no ids of refunds, so the one that failed is a part of this sum.
    left_minor = made.amount_minor - event.amount_minor
    return RefundMade(UNKNOWN_REFUND, left_minor) if left_minor > 0 else None


def _with_closed_refund(payment: Payment, event: RefundClosed) -> Payment:
    return replace(payment, due_minor=0, closed_minor=payment.closed_minor + event.amount_minor)


def _disputed(payment: Payment, event: DisputeOpened) -> Payment:
    return replace(payment, disputes=(*payment.disputes, Dispute(event.dispute_id, event.amount_minor, "open")))


def _with_closed_dispute(payment: Payment, event: DisputeClosed) -> Payment:
    """Return the payment after the dispute; nothing that a lost one took is due to the guest any more."""
    before_minor = payment.lost_minor
    disputes = tuple(
        replace(dispute, amount_minor=event.amount_minor, state=event.result.value)
        if dispute.dispute_id == event.dispute_id
        else dispute
        for dispute in payment.disputes
    )
    after = replace(payment, disputes=disputes)
    return replace(after, due_minor=max(0, payment.due_minor - (after.lost_minor - before_minor)))


def _of_payment(change: Callable[[Payment, Any], Payment]) -> Callable[[Booking, Any], dict[str, Any]]:
    """Return the changes of a booking by a change of the payment that the event names."""

    def changes(booking: Booking, event: Any) -> dict[str, Any]:
        payment = booking.payment(event.payment_intent)
        assert payment is not None
        changed = _balanced(change(payment, event))
        return {"payments": _with_payment(booking, changed)}

    return changes


def _balanced(payment: Payment) -> Payment:
    """Return the payment so that its sums are not more than is left of it, and its state follows from them.

    Money that left otherwise, such as by a lost dispute, was due to the guest before it was the hotel's, and so was
    the part of which an operator closed the refund: the part that the policy keeps falls last.
    """
    retained_minor = min(payment.policy_minor, payment.left_minor)
    closed_minor = min(payment.closed_minor, payment.left_minor - retained_minor)
    due_minor = min(payment.due_minor, payment.left_minor - retained_minor - closed_minor)
    state = payment.state
    if state is not PaymentState.KEPT:
        state = PaymentState.REFUND_REQUESTED if due_minor else PaymentState.REFUNDED
    return replace(payment, state=state, due_minor=due_minor, closed_minor=closed_minor, retained_minor=retained_minor)


def _with_payment(booking: Booking, payment: Payment) -> tuple[Payment, ...]:
    """Return the payments, in the order in which they arrived, with one of them changed, or a new one."""
    if booking.payment(payment.payment_intent) is None:
        return (*booking.payments, payment)
    return tuple(payment if paid.payment_intent == payment.payment_intent else paid for paid in booking.payments)


_CHANGES: Final[dict[type[BookingEvent], Callable[[Booking, Any], dict[str, Any]]]] = {
    GuestsAdded: _guests_changes,
    GuestsChanged: _guests_changes,
    PaymentRequested: _payment_request_changes,
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
    RefundRequested: _refund_request_changes,
    BookingRefunded: _of_payment(_refunded),
    RefundFailed: _of_payment(_with_failed_refund),
    RefundClosed: _of_payment(_with_closed_refund),
    DisputeOpened: _of_payment(_disputed),
    DisputeClosed: _of_payment(_with_closed_dispute),
}


def _nights_after(state: State, event: BookingEvent) -> dict[date, Night]:
    """Return the nights of the stay that the event takes, books or frees."""
    if isinstance(event, BookingReserved):
        nights = nights_of(event.check_in, event.check_out)
        return _with_taken(state.nights, nights, reserved=event.rooms_count)
    booking = state.booking
    if booking is None:
        return {}
    rooms = booking.rooms_count
    if isinstance(event, BookingConfirmed):
        held = rooms if live(booking) else 0
        return _with_taken(state.nights, booking.nights(), reserved=-held, booked=rooms)
    if isinstance(event, BookingCancelled | BookingExpired):
        if live(booking):
            return _with_taken(state.nights, booking.nights(), reserved=-rooms)
        freed_from = event.freed_from if isinstance(event, BookingCancelled) else None
        return _with_freed(state.nights, booking, freed_from)
    if isinstance(event, ChangeHeld):
        return _with_held(state.nights, event.held, 1)
    if isinstance(event, ChangeEnded):
        return _with_held(state.nights, event.held, -1)
    if isinstance(event, StayChanged):
        return _with_other_stay(state.nights, event)
    if isinstance(event, GuestsCheckedOut | GuestsDidNotArrive) and event.freed_from is not None:
        return _with_freed(state.nights, booking, event.freed_from)
    return {}


def _with_held(nights: Mapping[date, Night], held: Iterable[RoomsHeld], sign: int) -> dict[date, Night]:
    """Return the nights of which a change holds rooms, with these rooms reserved, or given back."""
    changed: dict[date, Night] = {}
    for each in held:
        changed |= _with_taken(nights, nights_of(each.first_night, each.end_night), reserved=sign * each.rooms_count)
    return changed


def _with_other_stay(nights: Mapping[date, Night], event: StayChanged) -> dict[date, Night]:
    """Return the nights of the stay before and of the stay after, and those that the change held."""
    changed = _with_held(nights, event.held, -1)
    before, after = event.before, nights_of(event.check_in, event.check_out)
    changed |= _with_taken(
        {**nights, **changed}, nights_of(before.check_in, before.check_out), booked=-before.rooms_count
    )
    return changed | _with_taken({**nights, **changed}, after, booked=event.rooms_count)


def _with_freed(nights: Mapping[date, Night], booking: Booking, freed_from: date | None) -> dict[date, Night]:
    """Return the booked nights that are on sale again; None: all of them."""
    freed = [day for day in booking.nights() if freed_from is None or day >= freed_from]
    return _with_taken(nights, freed, booked=-booking.rooms_count)


def _with_taken(
    nights: Mapping[date, Night], stay: Iterable[date], *, reserved: int = 0, booked: int = 0, blocked: int = 0
) -> dict[date, Night]:
    """Return nights with these rooms more (or fewer) reserved, booked and blocked; all else stays as it is."""
    return {
        day: replace(
            night := nights[day],
            booked_count=night.booked_count + booked,
            reserved_count=night.reserved_count + reserved,
            blocked_count=night.blocked_count + blocked,
        )
        for day in stay
    }


def _new_nights(event: InventoryOpened) -> dict[date, Night]:
    night = Night(
        hotel_id=event.hotel_id,
        total_count=event.total_count,
        booked_count=0,
        reserved_count=0,
        price_minor=event.price_minor,
        surge_milli=NO_SURGE_MILLI,
        closed=False,
        currency=event.currency,
    )
    return dict.fromkeys(nights_of(event.first_night, event.end_night), night)


def _with_changes(nights: Mapping[date, Night], event: InventoryChanged) -> dict[date, Night]:
    values = {
        name: value
        for name in ("price_minor", "surge_milli", "closed", "total_count", "allowance_count")
        if (value := getattr(event, name)) is not None
    }
    return {day: replace(nights[day], **values) for day in event.nights}
