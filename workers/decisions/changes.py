"""Decisions about changes of a stay: other dates, another number of rooms, other people.

A change takes place at once, unless it makes a stay that is paid in advance dearer: then its rooms are held, and the
payment of the difference changes the stay (`workers.decisions.payment`). A change that is not paid leaves no trace.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime, timedelta

import msgspec

from pricing.changes import (
    PricedChange,
    WantedStay,
    code_counts,
    is_changed_too_often,
    party_of,
    plan_of,
    plan_of_rules,
    price_change,
    quoted_change,
)
from pricing.charges import step_minor
from pricing.sale import party_rejection, rules_rejection
from pricing.stays import night_price_minor
from topics.messages.commands import ChangeStay, WithdrawChange
from topics.messages.events import ChangeRejected, Event, RoomsHeld, StayBefore
from topics.messages.sale import NO_SALE_TERMS
from topics.messages.values import (
    MAX_NIGHTS,
    BookingStatus,
    ChangeEnd,
    Refusal,
    Rejection,
    Terms,
    nights_of,
)
from workers.decisions.answers import not_theirs, refused, repeated
from workers.decisions.booking import (
    change_held,
    cost_of_cancelling,
    end_of_change,
    exceeds_share,
    part_refunded,
    stay_changed,
    too_late,
)
from workers.decisions.evolve import after
from workers.decisions.moves import is_move, open_move
from workers.decisions.payment import payment_requested
from workers.decisions.sale import quote_holds, stop_sell
from workers.decisions.state import DEFAULT_STAY_TIMES, Booking, Night, State


def change_stay(state: State, command: ChangeStay, now: datetime) -> tuple[Event, ...]:
    """Swap the nights of the stay at once, hold a dearer change, or refuse it.

    A change that is held already ends once another one is possible in its place.
    """
    booking = state.booking
    reason = not_theirs(booking, command.user_id)
    if booking is None or reason is not None:
        return refused(booking, command, reason or Refusal.BOOKING_NOT_FOUND)
    if booking.status is not BookingStatus.CONFIRMED:
        return refused(booking, command, Refusal.WRONG_STATUS)
    if _is_known(booking, command):
        return repeated(booking, command)
    late = _too_late(state, booking, command, now)
    if late is not None:
        return refused(booking, command, late)
    if is_changed_too_often(len(booking.earlier_stays), booking.payment_attempt):
        return refused(booking, command, Refusal.TOO_MANY_CHANGES)
    replaced = end_of_change(booking, ChangeEnd.REPLACED)
    if is_move(booking, command):
        return open_move(state, booking, command, replaced, now)
    change = _possible_change(_without_change(state, booking, replaced), booking, command, now)
    if isinstance(change, Rejection):
        return (_rejected_event(command, change),)
    return (*replaced, *_changed(booking, command, change, now))


def _without_change(state: State, booking: Booking, replaced: Sequence[Event]) -> State:
    """Return the state without the change that another one replaces, and without the rooms that it holds unpaid."""
    if booking.pending_change is None:
        return state
    rooms = Counter(state.account_rooms)
    for held in booking.pending_change.held:
        rooms.subtract(dict.fromkeys(nights_of(held.first_night, held.end_night), held.rooms_count))
    return msgspec.structs.replace(after(state, *replaced), account_rooms=rooms)


def withdraw_change(state: State, command: WithdrawChange, now: datetime) -> tuple[Event, ...]:
    """Give up a change that is not paid."""
    booking = state.booking
    reason = not_theirs(booking, command.user_id)
    if booking is None or reason is not None:
        return refused(booking, command, reason or Refusal.BOOKING_NOT_FOUND)
    if booking.pending_change is None or booking.pending_change.id != command.change_id:
        return refused(booking, command, Refusal.NO_SUCH_CHANGE)
    return end_of_change(booking, ChangeEnd.WITHDRAWN)


def _is_known(booking: Booking, command: ChangeStay) -> bool:
    """Return whether the change took place, ended or is held already, or asks for the stay as it is."""
    change = booking.pending_change
    if command.change_id in booking.ended_change_ids:
        return True
    if change is not None and change.id == command.change_id:
        return True
    if any(earlier.change_id == command.change_id for earlier in booking.earlier_stays):
        return True
    if is_move(booking, command):
        return False
    same_people = command.party is None or (booking.sale is not None and command.party == booking.sale.party)
    wanted = (command.check_in, command.check_out, command.rooms_count)
    return same_people and wanted == (booking.check_in, booking.check_out, booking.rooms_count)


def _too_late(state: State, booking: Booking, command: ChangeStay, now: datetime) -> Refusal | None:
    """Return the reason why the stay's time forbids the change, if it does.

    A guest changes a stay until check-in, and the hotel until its first night is past: a night that is past is not sold
    again, and no stay moves into the past.
    """
    late = too_late(state, now, by_guest=command.user_id is not None)
    if late is not None or state.clock is None:
        return late
    return Refusal.CHECK_IN_PASSED if state.clock.today > min(booking.check_in, command.check_in) else None


def _possible_change(state: State, booking: Booking, command: ChangeStay, now: datetime) -> PricedChange | Rejection:
    """Return the price of the change, or the first reason, in the order of `Rejection`, why it is not possible."""
    if not code_counts(booking.present_stay(), _wanted(command)):
        return Rejection.CODE_NOT_VALID
    if command.check_in >= command.check_out:
        return Rejection.NO_NIGHTS
    if command.rooms_count < 1:
        return Rejection.NO_ROOMS
    if (command.check_out - command.check_in).days > MAX_NIGHTS:
        return Rejection.NIGHT_NOT_OPEN
    nights: dict[date, Night] = {}
    for day in nights_of(command.check_in, command.check_out):
        night = state.nights.get(day)
        if night is None:
            return Rejection.NIGHT_NOT_OPEN
        nights[day] = night
    more = _more_rooms(booking, command)
    if any(nights[day].hotel_id != booking.hotel_id for day in more):
        return Rejection.ROOM_OF_ANOTHER_HOTEL
    reason = _quote_rejection(booking, command, now) or _offer_rejection(state, booking, command, nights, more)
    if reason is not None:
        return reason
    change = _priced(state, booking, command, list(nights.values()), now)
    return _rejection_by_price(state, booking, command, change, more) or change


def _quote_rejection(booking: Booking, command: ChangeStay, now: datetime) -> Rejection | None:
    """Return why the price of the command's quote does not count, if it has one: it is over, or of another stay."""
    quoted = command.quoted
    if quoted is None:
        return None
    same_stay = quoted.earlier_count == len(booking.earlier_stays) and quoted.terms is booking.terms
    return None if same_stay and quote_holds(quoted, booking.currency, now) else Rejection.QUOTE_EXPIRED


def _more_rooms(booking: Booking, command: ChangeStay) -> dict[date, int]:
    """Return the rooms that the wanted stay needs beside the booking's own, by night; nights of none are absent."""
    own = set(booking.nights())
    more = {
        day: command.rooms_count - (booking.rooms_count if day in own else 0)
        for day in nights_of(command.check_in, command.check_out)
    }
    return {day: rooms for day, rooms in more.items() if rooms > 0}


def _offer_rejection(
    state: State, booking: Booking, command: ChangeStay, nights: dict[date, Night], more: dict[date, int]
) -> Rejection | None:
    """Return why the plan, the people or the nights exclude the wanted stay, if there is a reason.

    Rooms that the booking has already need not be free or open once more.
    """
    stay = booking.present_stay()
    plan = plan_of(stay, state.sale_terms)
    if command.quoted is None and booking.sale is not None and plan is None:
        return Rejection.NO_SUCH_PLAN
    reason = _party_rejection(state, booking, command)
    if reason is not None:
        return reason
    if any(nights[day].closed for day in more):
        return Rejection.NIGHT_CLOSED
    ruling = plan_of_rules(stay, state.sale_terms, is_more=bool(more))
    has_rules = booking.sale is not None or bool(more)
    if command.quoted is not None and has_rules:
        reason = stop_sell(ruling, command.check_in)
    elif ruling is not None:
        today = None if state.clock is None else state.clock.today
        reason = rules_rejection(ruling, command.check_in, command.check_out, today)
    if reason is not None:
        return reason
    return Rejection.SOLD_OUT if any(nights[day].free_count < rooms for day, rooms in more.items()) else None


def _party_rejection(state: State, booking: Booking, command: ChangeStay) -> Rejection | None:
    """Return why the people of the wanted stay do not fit, if they do not; those of a quote fitted into the rooms."""
    party = party_of(booking.present_stay(), _wanted(command))
    if party is None:
        return None
    reason = None
    if command.quoted is None:
        reason = party_rejection(state.sale_terms or NO_SALE_TERMS, party, command.rooms_count)
    if reason is None and booking.sale is not None and len(booking.guest_ids) > party.people_count:
        reason = Rejection.PARTY_TOO_LARGE
    return reason


def _wanted(command: ChangeStay) -> WantedStay:
    return WantedStay(command.check_in, command.check_out, command.rooms_count, command.party)


def _priced(
    state: State, booking: Booking, command: ChangeStay, nights: Sequence[Night], now: datetime
) -> PricedChange:
    if command.quoted is not None:
        return quoted_change(booking.present_stay(), command.quoted)
    policy = cost_of_cancelling(state, booking, now)
    return price_change(
        booking.present_stay(),
        _wanted(command),
        [night_price_minor(night.price_minor, night.surge_milli, step_minor(night.currency)) for night in nights],
        currency=booking.currency,
        payment=booking.terms,
        terms=state.sale_terms,
        check_in_time=(booking.stay_times or command.stay_times or DEFAULT_STAY_TIMES).check_in_time,
        kept_now_minor=0 if policy is None else policy.kept_minor,
        by_guest=command.user_id is not None,
    )


def _rejection_by_price(
    state: State, booking: Booking, command: ChangeStay, change: PricedChange, more: dict[date, int]
) -> Rejection | None:
    """Return why the change cannot be held or paid, if there is a reason."""
    if change.stays_unpaid and exceeds_share(state, command, more.items()):
        return Rejection.ACCOUNT_SHARE
    is_in_its_currency = all(state.nights[day].currency == booking.currency for day in more)
    return None if is_in_its_currency and change.can_be_paid else Rejection.NOT_CHARGEABLE


def _changed(booking: Booking, command: ChangeStay, change: PricedChange, now: datetime) -> tuple[Event, ...]:
    """Return the events of a change that is possible: the stay changes now, or once the difference is paid."""
    price, prepaid = change.price, booking.terms is Terms.PREPAID
    stay = StayBefore(
        check_in=command.check_in,
        check_out=command.check_out,
        rooms_count=command.rooms_count,
        amount_minor=price.amount_minor,
        night_amounts_minor=price.night_amounts_minor,
        sale=price.sale,
    )
    if prepaid and change.extra_minor:
        held = change_held(
            booking,
            command.change_id,
            stay,
            hold_expires_at=now + timedelta(seconds=command.hold_seconds),
            held=_held(_more_rooms(booking, command)),
        )
        return (held, payment_requested(booking, change.extra_minor))
    changed = stay_changed(booking, command.change_id, stay)
    return (changed, *(part_refunded(booking, change.back_minor) if prepaid else ()))


def _held(more: dict[date, int]) -> tuple[RoomsHeld, ...]:
    """Return rooms by night as ranges of nights with the same number, as few as possible."""
    ranges: list[RoomsHeld] = []
    for day, rooms in more.items():
        first_night = day
        if ranges and (ranges[-1].end_night, ranges[-1].rooms_count) == (day, rooms):
            first_night = ranges.pop().first_night
        ranges.append(RoomsHeld(first_night=first_night, end_night=day + timedelta(days=1), rooms_count=rooms))
    return tuple(ranges)


def _rejected_event(command: ChangeStay, reason: Rejection) -> ChangeRejected:
    return ChangeRejected(
        room_id=command.room_id,
        booking_id=command.booking_id,
        change_id=command.change_id,
        check_in=command.check_in,
        check_out=command.check_out,
        rooms_count=command.rooms_count,
        reason=reason,
    )
