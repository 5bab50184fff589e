"""Every process of ours is restarted, one after another, while guests book through the proxy: nobody notices."""

import asyncio
from itertools import count
from pathlib import Path

import pytest

from operators.audit import audit
from tests.system.deploy.conftest import deployed

pytestmark = [pytest.mark.system, pytest.mark.long, pytest.mark.timeout(900)]

_GUESTS = 6


async def test_a_rolling_restart_loses_nothing_and_keeps_nobody_waiting_until_a_process_is_back(tmp_path: Path) -> None:
    async with deployed(tmp_path, {"reservations": 2, "payments": 1, "expiry": 1, "projections": 1}) as house:
        guests, system = house.guests, house.system
        stopped, numbers = asyncio.Event(), count()
        async with asyncio.TaskGroup() as load:
            for _ in range(_GUESTS):
                load.create_task(guests.book_until(stopped, numbers))
            for name in [*system.ingress_names, *system.worker_names]:
                await system.stop_part(name)
                # The others take its work over.
                await guests.every_room_decides()
                await system.start_part(name)
            stopped.set()

        assert guests.surprises == []
        statuses = [
            (await guests.ask_until_answered("GET", f"/v1/bookings/{id}/status")).body["booking_status"]
            for id in guests.bookings
        ]
        assert set(statuses) == {"RESERVED"}
        report = await audit(house.kafka, house.database, holds=False, progress=lambda read, to_read: None)
        assert report.problems() == []
