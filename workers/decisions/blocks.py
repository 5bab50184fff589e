"""Decisions about rooms that a hotel takes off sale, and puts on sale again."""

from datetime import datetime

from topics.messages.commands import BlockNights, ReleaseBlock
from topics.messages.events import BlockReleased, Event, InventoryUnchanged, NightsBlocked
from topics.messages.values import MAX_NIGHTS, MAX_ROOMS, InventoryRefusal, nights_of
from workers.decisions.state import Block, State


def block_nights(state: State, command: BlockNights, now: datetime) -> tuple[Event, ...]:
    """Take rooms off sale for every night of the range, if all of them have so many free.

    A closed night can be blocked, too. A block that was released is not made again: the command may be a repeated one.
    """
    if state.block is not None:
        return (_unchanged(command, None if _is_same(state.block, command) else InventoryRefusal.BLOCK_EXISTS),)
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


def _is_same(block: Block, command: BlockNights) -> bool:
    """Return whether the command has made this block."""
    made = (block.first_night, block.end_night, block.rooms_count, block.reason)
    return made == (command.first_night, command.end_night, command.rooms_count, command.reason)


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
    if block is None:
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
