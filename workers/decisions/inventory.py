"""Decisions about nights: opening them, and changing their price, surge, closing and total."""

from collections.abc import Sequence
from datetime import date, datetime

from pricing.stays import NO_SURGE_MILLI
from topics.messages.commands import ChangeInventory, OpenInventory
from topics.messages.events import (
    Event,
    InventoryChanged,
    InventoryOpened,
    InventoryUnchanged,
    NightRange,
    RefusedNight,
    night_ranges,
)
from topics.messages.values import (
    MAX_NIGHTS,
    MAX_PRICE_MINOR,
    MAX_ROOMS,
    MAX_SURGE_MILLI,
    InventoryRefusal,
    NightRefusal,
    nights_of,
)
from workers.decisions.state import Night, State


def open_inventory(state: State, command: OpenInventory, now: datetime) -> tuple[Event, ...]:
    """Open those nights of the range that are not open yet, with one event for each range of neighbours."""
    reason = _refusal(
        command.first_night, command.end_night, command.total_count, command.price_minor, surge_milli=NO_SURGE_MILLI
    )
    new = (
        day for day in ([] if reason else nights_of(command.first_night, command.end_night)) if day not in state.nights
    )
    opened = tuple(_opened_event(command, nights) for nights in night_ranges(new))
    return opened or (InventoryUnchanged(room_id=command.room_id, command=command.message_type, reason=reason),)


def _opened_event(command: OpenInventory, nights: NightRange) -> InventoryOpened:
    return InventoryOpened(
        room_id=command.room_id,
        hotel_id=command.hotel_id,
        first_night=nights.first_night,
        end_night=nights.end_night,
        total_count=command.total_count,
        price_minor=command.price_minor,
        currency=command.currency,
    )


def change_inventory(state: State, command: ChangeInventory, now: datetime) -> tuple[Event, ...]:
    """Change the nights of the range; a night that is not open, or would be oversold, keeps its values and is listed.

    With `all_or_none`, a night that would be oversold keeps all others from changing too. A night that is not open
    does not: it has nothing that could change.
    """
    reason = _refusal(
        command.first_night,
        command.end_night,
        command.total_count or 0,
        command.price_minor or 0,
        NO_SURGE_MILLI if command.surge_milli is None else command.surge_milli,
    )
    if reason is None and not 0 <= (command.allowance_count or 0) <= MAX_ROOMS:
        reason = InventoryRefusal.COUNT_OUT_OF_RANGE
    if reason is not None:
        return (InventoryUnchanged(room_id=command.room_id, command=command.message_type, reason=reason),)
    refused = [
        RefusedNight(night=day, reason=night_reason)
        for day in nights_of(command.first_night, command.end_night)
        if (night_reason := _night_refusal(state.nights.get(day), command)) is not None
    ]
    return (
        InventoryChanged(
            room_id=command.room_id,
            ranges=night_ranges(_nights_to_change(command, refused)),
            price_minor=command.price_minor,
            surge_milli=command.surge_milli,
            closed=command.closed,
            total_count=command.total_count,
            allowance_count=command.allowance_count,
            refused=tuple(refused),
        ),
    )


def _nights_to_change(command: ChangeInventory, refused: Sequence[RefusedNight]) -> tuple[date, ...]:
    if command.all_or_none and any(night.reason is not NightRefusal.NOT_OPEN for night in refused):
        return ()
    refused_nights = {night.night for night in refused}
    return tuple(day for day in nights_of(command.first_night, command.end_night) if day not in refused_nights)


def _night_refusal(night: Night | None, command: ChangeInventory) -> NightRefusal | None:
    if night is None:
        return NightRefusal.NOT_OPEN
    total_count = night.total_count if command.total_count is None else command.total_count
    allowance_count = night.allowance_count if command.allowance_count is None else command.allowance_count
    changes = command.total_count is not None or command.allowance_count is not None
    return NightRefusal.TOTAL_BELOW_SOLD if changes and total_count + allowance_count < night.taken_count else None


def _refusal(
    first_night: date, end_night: date, total_count: int, price_minor: int, surge_milli: int
) -> InventoryRefusal | None:
    nights = (end_night - first_night).days
    if nights < 1:
        return InventoryRefusal.NO_NIGHTS
    if nights > MAX_NIGHTS:
        return InventoryRefusal.TOO_MANY_NIGHTS
    if not 0 <= total_count <= MAX_ROOMS:
        return InventoryRefusal.COUNT_OUT_OF_RANGE
    if not 0 <= price_minor <= MAX_PRICE_MINOR:
        return InventoryRefusal.PRICE_OUT_OF_RANGE
    if not 1 <= surge_milli <= MAX_SURGE_MILLI:
        return InventoryRefusal.SURGE_OUT_OF_RANGE
    return None
