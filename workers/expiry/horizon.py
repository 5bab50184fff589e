"""Keeps a year of every room's nights on sale: sends commands that open the nights which a new day lacks.

Reads `hotel`, `room` and `inventory`; writes `OpenInventory` to `booking.commands`, and nothing else. Nights that are
open stay as they are, so an extra command does no harm. The expiry role runs it, holds the lead and retries.
"""

import asyncio
import logging
from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Final
from uuid import UUID, uuid5

from psycopg import AsyncConnection

from storage import pauses
from storage.horizon import ShortRoom, short_rooms, time_zones
from topics.envelope import Outgoing, command_record
from topics.kafka.producer import Producer
from topics.messages.commands import OpenInventory
from topics.zones import day_at
from workers.expiry.retry_schedule import RetrySchedule

CHECK_SECONDS: Final = 180.0
BUSY_SECONDS: Final = 5.0
"""The pause while some rooms lack nights."""
FIRST_HORIZON_PAUSE_SECONDS: Final = 60.0
MAX_HORIZON_PAUSE_SECONDS: Final = 3600.0
MAX_NIGHTS_AWAITED: Final = 5_000
"""Nights whose command was sent once and that are not open yet."""
HORIZON_SOURCE: Final = "innkeeper/horizon"
OPEN_COMMAND_IDS: Final = UUID("6f9a3c02-58a7-5d1b-b0c6-92f4a1d7e835")
"""The name space of the commands' ids: a room and the nights that it lacks always give the same one."""

log = logging.getLogger(__name__)


class Horizon:
    """Sends commands for the nights that each room lacks, and again, ever more rarely, until they are open."""

    def __init__(self, connection: AsyncConnection, producer: Producer, commands_topic: str, *, role: str) -> None:
        self._connection = connection
        self._role = role
        self._producer = producer
        self._commands_topic = commands_topic
        self._schedule: RetrySchedule[UUID] = RetrySchedule(
            first_pause_seconds=FIRST_HORIZON_PAUSE_SECONDS,
            max_pause_seconds=MAX_HORIZON_PAUSE_SECONDS,
            max_awaited=MAX_NIGHTS_AWAITED,
        )
        self._next_at = 0.0

    async def keep(self) -> None:
        """Go through all rooms, if it is time to."""
        clock = asyncio.get_running_loop().time
        if clock() < self._next_at:
            return
        is_busy = await self._sweep(clock())
        self._next_at = clock() + (BUSY_SECONDS if is_busy else CHECK_SECONDS)

    async def _sweep(self, now: float) -> bool:
        """Send commands for the nights that are missing now; return whether to look again soon."""
        todays = await self._todays()
        last, rooms, nights = 0, 0, 0
        with self._schedule.sweep():
            while page := await short_rooms(self._connection, todays, last):
                if await pauses.of(self._connection, self._role):
                    self._schedule.cut_short()
                    return True
                chosen = [room for room in page if self._schedule.is_sent_now(_command_id(room), now, _nights(room))]
                await self._producer.send_all([self._command(room) for room in chosen])
                last, rooms = page[-1].room_id, rooms + len(page)
                nights += sum(map(_nights, chosen))
        if nights:
            log.info("sent commands to open %d nights; %d rooms are short of nights", nights, rooms)
        return nights > 0 or len(self._schedule) < rooms

    async def _todays(self) -> dict[str, date]:
        now, zones = await time_zones(self._connection)
        return dict(_days(now, zones))

    def _command(self, room: ShortRoom) -> Outgoing:
        command = OpenInventory(
            room_id=room.room_id,
            hotel_id=room.hotel_id,
            first_night=room.first_night,
            end_night=room.end_night,
            total_count=room.total_count,
            price_minor=room.base_price_minor,
            currency=room.currency,
        )
        return command_record(
            self._commands_topic, command, id=str(_command_id(room)), source=HORIZON_SOURCE, time=datetime.now(UTC)
        )


def _days(now: datetime, zones: Iterable[str]) -> Iterable[tuple[str, date]]:
    """Yield the present day in each time zone."""
    for zone in zones:
        try:
            yield zone, day_at(zone, now)
        except KeyError:
            # One hotel's bad time zone must not keep all other hotels' nights closed.
            log.error("no such time zone: %r; its hotels' nights are opened by UTC", zone)  # noqa: TRY400 - the cause is known
            yield zone, now.astimezone(UTC).date()


def _command_id(room: ShortRoom) -> UUID:
    return uuid5(OPEN_COMMAND_IDS, f"{room.room_id}:{room.first_night}:{room.end_night}")


def _nights(room: ShortRoom) -> int:
    return (room.end_night - room.first_night).days
