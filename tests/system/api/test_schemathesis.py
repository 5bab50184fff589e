"""Requests that are generated from the document: every response is one that it documents."""

import asyncio
import json
import os
import sys
from pathlib import Path

import psycopg
import pytest

from tests.support.waiting import wait_until
from tests.system.api.world import Person, World, trip

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.timeout(1800)]


@pytest.mark.system
async def test_a_few_requests_for_each_operation_are_answered_as_documented(world: World) -> None:
    await tried(world, world.host, "examples,fuzzing", "--max-examples", "2")

    await world.unharmed()


@pytest.mark.api
async def test_every_request_that_the_document_allows_or_forbids_is_answered_as_documented(world: World) -> None:
    await tried(world, world.host, "examples,coverage,fuzzing")

    await world.unharmed()


@pytest.mark.api
async def test_the_documents_links_lead_to_bookings_that_are_paid_cancelled_and_paid_back(
    world: World,
) -> None:
    await tried(world, world.rival, "stateful")

    whole = {"booking.reserved.v1", "booking.confirmed.v1", "booking.cancelled.v1", "booking.refunded.v1"}

    missing: set[str] = whole

    async def all_happened() -> bool:
        nonlocal missing
        missing = whole - await event_types(world, world.rival)
        return not missing

    await wait_until(all_happened, message=lambda: f"these happened to some booking: {', '.join(sorted(missing))}")
    await world.unharmed()


async def tried(world: World, host: Person, phases: str, *options: str) -> None:
    """Run these phases of schemathesis as a host, who is a guest, too."""
    room = await world.room_on_sale(host, total_count=1000)
    guest_id, booking_id = await world.saved_guest(host), await world.booked(host, room)
    trip_id = (await world.done(host, "POST", "/v1/trips", trip(room)))["id"]
    code = {"code": "SUMMER", "percent": 10}
    await world.done(host, "POST", f"/v1/admin/hotels/{room.hotel_id}/codes", code)
    known = {
        **room._asdict(),
        "guest_id": guest_id,
        "booking_id": booking_id,
        "trip_id": trip_id,
        "plan_id": "saver",
        "code": "SUMMER",
    }
    process = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).with_name("schemathesis")), "--config-file", "tests/system/api/schemathesis.toml"),
        *("run", f"{world.system.url}/openapi.json", "--no-color", "--phases", phases, *options),
        env=os.environ
        | {
            "INNKEEPER_URL": world.system.url,
            "INNKEEPER_TOKEN": host.token or "",
            "INNKEEPER_KNOWN": json.dumps(known),
            "PYTHONPATH": str(Path.cwd()),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output


async def event_types(world: World, person: Person) -> set[str]:
    """Return the types of all that happened to the person's bookings."""
    async with await psycopg.AsyncConnection.connect(world.system.database_url) as connection:
        rows = await connection.execute(
            "select distinct t.type from booking_timeline t join booking b on b.id = t.booking_id where b.user_id = %s",
            (person.id,),
        )
        return {kind for (kind,) in await rows.fetchall()}
