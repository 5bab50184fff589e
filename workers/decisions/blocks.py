"""Decisions about rooms that a hotel takes off sale, and puts on sale again."""

from datetime import datetime

from topics.messages.commands import BlockNights, ReleaseBlock
from topics.messages.events import BlockReleased, Event, InventoryUnchanged, NightsBlocked
from topics.messages.values import MAX_NIGHTS, MAX_ROOMS, InventoryRefusal, nights_of
from workers.decisions.state import State


def block_nights(state: State, command: BlockNights, now: datetime) -> tuple[Event, ...]:
    """Take rooms off sale for every night of the range, if all of them have so many free."""
    if state.block is not None:
        same = (command.first_night, command.end_night, command.rooms_count) == (
            state.block.first_night,
            state.block.end_night,
            state.block.rooms_count,
        )
        return (_unchanged(command, None if same else InventoryRefusal.BLOCK_EXISTS),)
    reason = _refusal(state, command)
    if reason is not None:
        return (_unchanged(command, reason),)
    return (
        NightsBlocked(
            room_id=command.room_id,
            block_id=command.block_id,
            first_night=command.first_night,
            end_night=command.end_night,
            rooms_count=command.rooms_count,
            reason=command.reason,
        ),
    )


def _refusal(state: State, command: BlockNights) -> InventoryRefusal | None:
    count = (command.end_night - command.first_night).days
    if count < 1:
        return InventoryRefusal.NO_NIGHTS
    if count > MAX_NIGHTS:
        return InventoryRefusal.TOO_MANY_NIGHTS
    if not 1 <= command.rooms_count <= MAX_ROOMS:
        return InventoryRefusal.COUNT_OUT_OF_RANGE
    nights = [state.nights.get(day) for day in nights_of(command.first_night, command.end_night)]
    if any(night is None for night in nights):
        return InventoryRefusal.NIGHT_NOT_OPEN
    if any(night is not None and night.free_count < command.rooms_count for night in nights):
        return InventoryRefusal.NIGHT_NOT_FREE
    return None


def release_block(state: State, command: ReleaseBlock, now: datetime) -> tuple[Event, ...]:
    """Put the rooms of a block on sale again."""
    block = state.block
    if block is None or block.room_id != command.room_id:
        return (_unchanged(command, InventoryRefusal.NO_SUCH_BLOCK),)
    if block.released:
        return (_unchanged(command, None),)
    return (
        BlockReleased(
            room_id=command.room_id,
            block_id=block.id,
            first_night=block.first_night,
            end_night=block.end_night,
            rooms_count=block.rooms_count,
        ),
    )


def _unchanged(command: BlockNights | ReleaseBlock, reason: InventoryRefusal | None) -> InventoryUnchanged:
    return InventoryUnchanged(room_id=command.room_id, command=command.message_type, reason=reason)
