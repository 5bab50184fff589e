"""Decides one command: `decide(state, command, now) -> events`. No I/O, no clock, no randomness.

Refusals are events; an exception here is a bug. Every command is answered by at least one event, except an
`ExpireHold` that came too early: it has no event, so that it can be sent again.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import msgspec

from topics.messages.commands import (
    AddGuests,
    BlockNights,
    BookingCommand,
    CancelBooking,
    ChangeGuests,
    ChangeInventory,
    ChangeStay,
    CheckIn,
    CheckOut,
    ClaimCode,
    ClosePayment,
    CloseRefund,
    Command,
    ConfirmLeg,
    ConfirmPayment,
    DeclinePayment,
    ExpireHold,
    FailRefund,
    IssueDocument,
    MarkNoShow,
    OpenInventory,
    RecordDispute,
    RecordLeg,
    RecordLegEnd,
    RecordRefund,
    RecordSession,
    ReleaseBlock,
    ReleaseLeg,
    RequestPayment,
    ReserveStay,
    ReserveTrip,
    ReturnCode,
    RoomCommand,
    SetCode,
    SetSaleTerms,
    WithdrawChange,
)
from topics.messages.events import Event
from topics.messages.values import Refusal
from workers.decisions.answers import code_of, refused
from workers.decisions.at_hotel import check_in, check_out, mark_no_show
from workers.decisions.blocks import block_nights, release_block
from workers.decisions.booking import add_guests, change_guests, due_expiry, expire, reserve
from workers.decisions.changes import change_stay, withdraw_change
from workers.decisions.codes import claim_code, return_code, set_code
from workers.decisions.documents import issue_document
from workers.decisions.evolve import after
from workers.decisions.inventory import change_inventory, open_inventory
from workers.decisions.payment import (
    close,
    close_refund,
    confirm,
    decline,
    fail_refund,
    record_dispute,
    record_refund,
    record_session,
    request_payment,
)
from workers.decisions.sale import set_sale_terms
from workers.decisions.state import State
from workers.decisions.trips import (
    barred,
    cancel_any,
    confirm_leg,
    record_leg,
    record_leg_end,
    release_leg,
    reserve_trip,
)


def decide(state: State, command: Command, now: datetime) -> tuple[Event, ...]:
    """Return the events that follow from the command, in order; `now` is the log's time (UTC).

    A command that names a booking whose hold is over expires it first, and is then decided as one about an expired
    booking; a change whose hold is over ends first. A booking of another room counts as unknown here: that room's
    commands decide it.
    """
    if state.booking is None:
        return _RULES[type(command)](state, command, now)
    if _is_of_another_room(state, command):
        if isinstance(command, ReserveStay | ReserveTrip):
            # Requests for different rooms get the same id only by one Idempotency-Key.
            is_keyed = command.request_hash is not None
            return refused(
                None,
                command,
                Refusal.ANOTHER_REQUEST if is_keyed else Refusal.BOOKING_NOT_FOUND,
                code_id=code_of(command),
            )
        state = msgspec.structs.replace(state, booking=None)
    reason = barred(state.booking, command)
    if reason is not None:
        assert isinstance(command, BookingCommand)
        return refused(state.booking, command, reason)
    expired = _due_expiry(state, command, now)
    if not expired:
        return _RULES[type(command)](state, command, now)
    return (*expired, *_RULES[type(command)](after(state, *expired), command, now))


def _is_of_another_room(state: State, command: Command) -> bool:
    return state.booking is not None and isinstance(command, RoomCommand) and state.booking.room_id != command.room_id


def _due_expiry(state: State, command: Command, now: datetime) -> tuple[Event, ...]:
    """Return the event that ends a hold whose deadline has passed, if the command does not ask for that itself."""
    booking = state.booking
    return () if booking is None or isinstance(command, ExpireHold) else due_expiry(booking, now)


_RULES: Final[dict[type[Command], Callable[[State, Any, datetime], tuple[Event, ...]]]] = {
    ReserveStay: reserve,
    AddGuests: add_guests,
    RequestPayment: request_payment,
    RecordSession: record_session,
    ConfirmPayment: confirm,
    DeclinePayment: decline,
    ClosePayment: close,
    CancelBooking: cancel_any,
    ExpireHold: expire,
    RecordRefund: record_refund,
    ChangeGuests: change_guests,
    FailRefund: fail_refund,
    CloseRefund: close_refund,
    RecordDispute: record_dispute,
    OpenInventory: open_inventory,
    ChangeInventory: change_inventory,
    SetSaleTerms: set_sale_terms,
    BlockNights: block_nights,
    ReleaseBlock: release_block,
    CheckIn: check_in,
    CheckOut: check_out,
    MarkNoShow: mark_no_show,
    ChangeStay: change_stay,
    WithdrawChange: withdraw_change,
    SetCode: set_code,
    ClaimCode: claim_code,
    ReturnCode: return_code,
    IssueDocument: issue_document,
    ReserveTrip: reserve_trip,
    RecordLeg: record_leg,
    ConfirmLeg: confirm_leg,
    ReleaseLeg: release_leg,
    RecordLegEnd: record_leg_end,
}
