"""Decisions about changes to another room type: that room holds the stay first, and then both swap.

The nights of two rooms are decided in two partitions. So the change is opened here, in the booking's partition, and the
other room holds the stay as a leg of the booking, at today's price with the costs of the change. With its answer the
change is priced: it takes place at once, or once the difference is paid. The booking is then a trip with this one leg
(`workers.decisions.trips`); it keeps the money. A change that ends before releases the leg.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from msgspec.structs import replace

from pricing.changes import moved_stay
from pricing.charges import can_be_charged
from topics.messages.commands import ChangeStay, RecordLeg
from topics.messages.events import ChangeOpened, ChangeRejected, Event, StayBefore
from topics.messages.values import MAX_NIGHTS, ChangeEnd, Rejection, Terms
from workers.decisions.answers import repeated
from workers.decisions.booking import change_held, cost_of_cancelling, end_of_change, part_refunded, stay_changed
from workers.decisions.payment import has_begun, payment_requested
from workers.decisions.state import Booking, PendingChange, State


def is_move(booking: Booking, command: ChangeStay) -> bool:
    """Return whether the command asks for another room type."""
    return command.to_room_id not in (None, booking.room_id)


def open_move(
    state: State, booking: Booking, command: ChangeStay, replaced: Sequence[Event], now: datetime
) -> tuple[Event, ...]:
    """Ask the other room to hold the stay, in place of a change that is held; the other room decides all else."""
    reason = _fault(booking, command)
    if reason is not None:
        return (_rejected(booking, command.change_id, command, reason),)
    policy = cost_of_cancelling(state, booking, now)
    kept_now_minor = 0 if policy is None else policy.kept_minor
    sale = booking.sale
    assert command.to_room_id is not None
    opened = ChangeOpened(
        room_id=booking.room_id,
        booking_id=booking.id,
        change_id=command.change_id,
        to_room_id=command.to_room_id,
        user_id=booking.user_id,
        hotel_id=booking.hotel_id,
        check_in=command.check_in,
        check_out=command.check_out,
        rooms_count=command.rooms_count,
        hold_expires_at=now + timedelta(seconds=command.hold_seconds),
        moved=moved_stay(booking.present_stay(), kept_now_minor, by_guest=command.user_id is not None),
        plan_id=command.plan_id or (None if sale is None else sale.plan_id),
        party=command.party or (sale.party if sale is not None and sale.party_binding else None),
        stay_times=booking.stay_times or command.stay_times,
        # The share of an account does not limit the hotel.
        account_share_percent=None if command.user_id is None else command.account_share_percent,
        accepted_terms=booking.accepted_terms,
    )
    return (*replaced, opened)


def _fault(booking: Booking, command: ChangeStay) -> Rejection | None:
    """Return why no room could hold the stay in place of the booking's, if there is a reason."""
    if command.check_in >= command.check_out:
        return Rejection.NO_NIGHTS
    if command.rooms_count < 1:
        return Rejection.NO_ROOMS
    if (command.check_out - command.check_in).days > MAX_NIGHTS:
        return Rejection.NIGHT_NOT_OPEN
    if command.party is not None and len(booking.guest_ids) > command.party.people_count:
        return Rejection.PARTY_TOO_LARGE
    return None if booking.terms is Terms.PREPAID else Rejection.NOT_PREPAID


def record_leg_of_change(
    state: State, booking: Booking, change: PendingChange, command: RecordLeg
) -> tuple[Event, ...]:
    """Price the change by the answer of the other room: the stay moves now, or once the difference is paid."""
    if not change.is_open:
        return repeated(booking, command)
    if has_begun(state, min(booking.check_in, change.stay.check_in)):
        # Its nights cannot be given back or sold any more.
        return end_of_change(booking, ChangeEnd.STAY_BEGAN)
    stay, extra_minor = change.stay, command.amount_minor - booking.amount_minor
    reason = command.rejection
    if reason is None and command.currency != booking.currency:
        reason = Rejection.NOT_CHARGEABLE
    if reason is None and extra_minor > 0 and not can_be_charged(extra_minor, booking.currency):
        reason = Rejection.NOT_CHARGEABLE
    if reason is not None:
        ended = end_of_change(booking, ChangeEnd.NOT_POSSIBLE)
        return (*ended, _rejected(booking, change.id, stay, reason))
    stay = replace(stay, amount_minor=command.amount_minor, night_amounts_minor=command.night_amounts_minor)
    if extra_minor > 0:
        assert booking.hold_expires_at is not None
        held = change_held(
            booking, change.id, stay, hold_expires_at=booking.hold_expires_at, to_room_id=change.to_room_id
        )
        return (held, payment_requested(booking, extra_minor))
    changed = stay_changed(booking, change.id, stay, to_room_id=change.to_room_id)
    return (changed, *part_refunded(booking, -extra_minor))


def _rejected(booking: Booking, change_id: UUID, wanted: ChangeStay | StayBefore, reason: Rejection) -> ChangeRejected:
    return ChangeRejected(
        room_id=booking.room_id,
        booking_id=booking.id,
        change_id=change_id,
        check_in=wanted.check_in,
        check_out=wanted.check_out,
        rooms_count=wanted.rooms_count,
        reason=reason,
    )
