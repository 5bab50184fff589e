"""The clerk of `brute_force` at the desk: arrivals, departures, guests who do not come, and rooms off sale.

Shares nothing with the core but the commands.
"""

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from typing import Any
from uuid import UUID

Fact = dict[str, Any]
ONE_DAY = timedelta(days=1)
#: Minutes by which clocks are ahead of UTC in the nights of the stays.
AHEAD = {"UTC": 0, "America/Vancouver": -7 * 60, "Asia/Kolkata": 5 * 60 + 30}


def hotel_times(sheet: Fact, command: Any) -> tuple[str, time, time]:
    """Return the zone, check-in and check-out that count for the booking."""
    times = sheet["times"] or getattr(command, "stay_times", None)
    if times is None:
        return "UTC", time(15), time(11)
    return times.time_zone, times.check_in_time, times.check_out_time


def wall_time(sheet: Fact, command: Any, now: datetime) -> datetime:
    """Return what the clock on the hotel's wall shows."""
    return now.replace(tzinfo=None) + timedelta(minutes=AHEAD[hotel_times(sheet, command)[0]])


def days_of(first: date, end: date) -> Iterator[date]:
    """Yield the nights of a range."""
    while first < end:
        yield first
        first += ONE_DAY


class Desk:
    """The part of the clerk that sees guests; `Clerk` has the sheets, the shelf and the answers."""

    def __init__(self) -> None:
        #: (room, night) -> the values that the manager set.
        self.shelf: dict[tuple[int, date], Fact] = {}
        #: booking id -> its sheet.
        self.sheets: dict[UUID, Fact] = {}
        #: (room, id) -> the rooms that are off sale, and whether they still are.
        self.blocks: dict[tuple[int, UUID], Fact] = {}

    def _answer(self, message_type: str, **facts: Any) -> None:
        raise NotImplementedError

    def _refuse(self, reason: str) -> None:
        raise NotImplementedError

    def _repeat(self, sheet: Fact) -> None:
        raise NotImplementedError

    def tear_up(self, sheet: Fact, reason: str) -> None:
        """Throw the wish of a change away."""
        raise NotImplementedError

    def _cost_of_leaving(self, sheet: Fact, left: date) -> Fact:
        raise NotImplementedError

    def _cost_of_not_coming(self, sheet: Fact) -> Fact:
        raise NotImplementedError

    def _settle(self, sheet: Fact, policy: Fact | None) -> None:
        """Send back what the policy does not keep of the money that paid for the stay."""
        raise NotImplementedError

    def _check_in(self, sheet: Fact, command: Any, now: datetime) -> None:
        clock = wall_time(sheet, command, now)
        if self._is_of_others(sheet, "CHECKED_IN"):
            return
        if clock >= datetime.combine(sheet["check_out"], hotel_times(sheet, command)[2]):
            self._refuse("stay_over")
        elif clock < datetime.combine(sheet["check_in"], time()):
            self._refuse("before_arrival")
        else:
            self.tear_up(sheet, "stay_began")
            sheet["desk"] = "CHECKED_IN"
            self._answer("booking.checked_in.v1")

    def _is_of_others(self, sheet: Fact, wanted: str) -> bool:
        """Answer a command that comes again, or about a booking that nobody may arrive with."""
        if sheet["desk"] == wanted:
            self._repeat(sheet)
        elif sheet["desk"] is not None or not sheet["sold"] or sheet["ended"] is not None:
            self._refuse("wrong_status")
        else:
            return False
        return True

    def _check_out(self, sheet: Fact, command: Any, now: datetime) -> None:
        if sheet["desk"] == "CHECKED_OUT":
            self._repeat(sheet)
            return
        if sheet["desk"] != "CHECKED_IN":
            self._refuse("wrong_status")
            return
        sheet["desk"] = "CHECKED_OUT"
        left = max(wall_time(sheet, command, now).date(), sheet["check_in"])
        policy = None
        if left < sheet["check_out"]:
            sheet["freed"] = left
            policy = self._cost_of_leaving(sheet, left)
        self._answer("booking.checked_out.v1", freed_from=sheet["freed"], policy=policy)
        self._settle(sheet, policy)

    def _mark_no_show(self, sheet: Fact, command: Any, now: datetime) -> None:
        if self._is_of_others(sheet, "NO_SHOW"):
            return
        clock = wall_time(sheet, command, now)
        if clock - timedelta(days=30) >= datetime.combine(sheet["check_out"], hotel_times(sheet, command)[2]):
            self._refuse("stay_over")
            return
        if clock < datetime.combine(sheet["check_in"], hotel_times(sheet, command)[1]):
            self._refuse("before_arrival")
            return
        self.tear_up(sheet, "stay_began")
        sheet["desk"] = "NO_SHOW"
        sheet["freed"] = sorted((sheet["check_in"], clock.date(), sheet["check_out"]))[1]
        policy = self._cost_of_not_coming(sheet)
        self._answer("booking.no_show.v1", freed_from=sheet["freed"], policy=policy)
        self._settle(sheet, policy)

    # Rooms off sale

    def blocked(self, room_id: int, day: date) -> int:
        """Count the rooms that are off sale, block by block."""
        return sum(
            block["rooms_count"]
            for (room, _), block in self.blocks.items()
            if room == room_id and not block["over"] and block["first_night"] <= day < block["end_night"]
        )

    def left(self, room_id: int, day: date) -> int:
        """Count the rooms that can still be given away, of all that the night has and may have beside."""
        night = self.shelf[room_id, day]
        sold = sum(self.taken(room_id, day))
        return int(night["total_count"] + night["allowance_count"] - sold - self.blocked(room_id, day))

    def taken(self, room_id: int, day: date) -> tuple[int, int]:
        """Count the rooms that are reserved and those that are booked."""
        raise NotImplementedError

    def block_nights(self, command: Any) -> list[Fact]:
        """Write a block down, unless a night of it is full or is not there."""
        known = self.blocks.get((command.room_id, command.block_id))
        wish = {name: getattr(command, name) for name in ("first_night", "end_night", "rooms_count", "reason")}
        no = None
        if known is not None:
            same = {name: known[name] for name in wish} == wish
            return [_nothing(command, None if same else "block_exists")]
        nights = [*days_of(command.first_night, command.end_night)]
        if not nights:
            no = "no_nights"
        elif len(nights) > 1100:
            no = "too_many_nights"
        elif not 0 < command.rooms_count <= 100_000:
            no = "count_out_of_range"
        elif any((command.room_id, day) not in self.shelf for day in nights):
            no = "night_not_open"
        elif min(self.left(command.room_id, day) for day in nights) < command.rooms_count:
            no = "night_not_free"
        if no is not None:
            return [_nothing(command, no)]
        self.blocks[command.room_id, command.block_id] = {**wish, "over": False}
        return [_about(command, "inventory.blocked.v1", wish)]

    def release_block_nights(self, command: Any) -> list[Fact]:
        """Cross a block out."""
        block = self.blocks.get((command.room_id, command.block_id))
        if block is None or block["over"]:
            return [_nothing(command, "no_such_block" if block is None else None)]
        block["over"] = True
        rooms = {name: block[name] for name in ("first_night", "end_night", "rooms_count")}
        return [_about(command, "inventory.block_released.v1", rooms)]


def _about(command: Any, message_type: str, rooms: Fact) -> Fact:
    return {"message_type": message_type, "room_id": command.room_id, "block_id": command.block_id, **rooms}


def _nothing(command: Any, reason: str | None) -> Fact:
    return {
        "message_type": "inventory.unchanged.v1",
        "room_id": command.room_id,
        "command": command.message_type,
        "reason": reason,
    }
