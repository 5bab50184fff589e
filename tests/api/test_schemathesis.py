"""Requests that nobody thought of, made from the document: none is answered by anything that it does not say."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest

from tests.api.world import Person, World

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.api, pytest.mark.timeout(600)]


async def test_whatever_the_document_allows_or_forbids_is_answered_as_it_says(world: World) -> None:
    await tried(world, world.host, "examples,coverage,fuzzing")


async def test_the_documents_links_tell_stories_up_to_bookings_that_are_paid_cancelled_and_paid_back(
    world: World,
) -> None:
    await tried(world, world.rival, "stateful")

    assert await count(world, "select count(*) from booking_timeline where type = 'booking.confirmed.v1'")
    assert await count(world, "select count(*) from refund")


async def tried(world: World, host: Person, phases: str) -> None:
    """Let schemathesis try these phases as a host, who is a guest, too."""
    room = await world.room_on_sale(host, total_count=1000)
    guest_id, booking_id = await world.saved_guest(host), await world.booked(host, room)
    known = {**room._asdict(), "guest_id": guest_id, "booking_id": booking_id}
    process = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).with_name("schemathesis")), "--config-file", "tests/api/schemathesis.toml"),
        *("run", f"{world.system.url}/openapi.json", "--no-color", "--phases", phases),
        env=os.environ
        | {
            "INNKEEPER_URL": world.system.url,
            "INNKEEPER_TOKEN": host.token or "",
            "INNKEEPER_KNOWN": json.dumps(known),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    told = (await process.communicate())[0].decode()
    assert process.returncode == 0, told


async def count(world: World, query: LiteralString) -> int:
    async with await psycopg.AsyncConnection.connect(world.system.database_url) as ledger:
        row = await (await ledger.execute(query)).fetchone()
    assert row is not None
    return int(row[0])
