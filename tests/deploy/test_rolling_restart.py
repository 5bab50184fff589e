"""Every process of ours is restarted, one after another, while guests book through the proxy: nobody notices."""

import asyncio
import time
from itertools import count
from pathlib import Path

import pytest

from storage.audit import audit
from tests.deploy.conftest import deployed

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

_GUESTS = 6


async def test_a_rolling_restart_loses_nothing_and_keeps_nobody_waiting_for_long(tmp_path: Path) -> None:
    async with deployed(tmp_path, {"reservations": 2, "payments": 1, "expiry": 1, "projections": 1}) as house:
        guests, system = house.guests, house.system
        stopped, numbers, took = asyncio.Event(), count(), dict[str, float]()
        async with asyncio.TaskGroup() as load:
            for _ in range(_GUESTS):
                load.create_task(guests.book_until(stopped, numbers))
            for name in [*system.ingress_names, *system.worker_names]:
                began = time.monotonic()
                await system.stop_part(name)
                await system.start_part(name)
                took[name] = time.monotonic() - began
            stopped.set()

        assert guests.surprises == []
        assert len(guests.bookings) > 50
        told = [(await guests.ask("GET", f"/v1/bookings/{id}/status")).body for id in guests.bookings]
        assert {booking["booking_status"] for booking in told} == {"RESERVED"}
        # The other worker takes its rooms over: nobody waits until a process has come back.
        away = min(took["reservations-1"], took["reservations-2"])
        assert max(guests.waits_seconds) < away, (sorted(guests.waits_seconds)[-10:], took)
        report = await audit(house.kafka, house.database, holds=False, progress=lambda read, to_read: None)
        assert report.problems() == []
