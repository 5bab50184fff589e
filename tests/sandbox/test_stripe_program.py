"""The stand-in as a program of its own: it prints when it is ready, ends on a signal, and loses nothing when killed."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from tests.sandbox.stripe_shop import SDK_IS_OLD_FASHIONED, sdk, stay_params
from tests.support.waiting import MAX_WAIT_SECONDS, wait_until

pytestmark = SDK_IS_OLD_FASHIONED


@asynccontextmanager
async def program(folder: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sandbox.stripe", "--data", str(folder), stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    try:
        line = await asyncio.wait_for(process.stderr.readline(), MAX_WAIT_SECONDS)
        word, url = line.decode().split()
        assert word == "ready"
        yield process, url
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_the_money_outlives_a_killed_program(tmp_path: Path) -> None:
    async with program(tmp_path) as (process, url), sdk(url) as client, aiohttp.ClientSession() as http:
        session = await client.v1.checkout.sessions.create_async(stay_params())  # type: ignore[arg-type]
        await (await http.post(f"{url}/_sandbox/sessions/{session.id}/pay")).read()
        process.kill()
        await process.wait()

    async with program(tmp_path) as (_, url), aiohttp.ClientSession() as http:
        ledger = await (await http.get(f"{url}/_sandbox/ledger")).json()

    assert ledger["captured_minor"] == {"eur": 12000}
    assert ledger["payment_intents"][0]["client_reference_id"] == "booking-1"


async def test_the_program_stops_cleanly_on_a_signal_though_a_request_hangs(tmp_path: Path) -> None:
    async with program(tmp_path) as (process, url), aiohttp.ClientSession() as http:
        await (await http.post(f"{url}/_sandbox/faults", json={"match": "GET /v1/events", "fault": "hang"})).read()
        hanging = asyncio.create_task(http.get(f"{url}/v1/events"))
        await wait_until(lambda: _no_fault_is_left(http, url), message="the request hangs")

        process.send_signal(signal.SIGTERM)

        assert await asyncio.wait_for(process.wait(), MAX_WAIT_SECONDS) == 0
        assert isinstance((await asyncio.gather(hanging, return_exceptions=True))[0], aiohttp.ClientError)


async def _no_fault_is_left(http: aiohttp.ClientSession, url: str) -> bool:
    async with http.get(f"{url}/_sandbox/faults") as answer:
        return not await answer.json()
