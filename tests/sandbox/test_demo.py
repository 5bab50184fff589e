"""`sandbox demo` shows one booking's whole way on the real system, and its exit status is how it ended."""

import asyncio
import io
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest
from aiohttp import web
from rich.console import Console

from sandbox.client import Unexpected
from sandbox.guest import Guest
from sandbox.hops import Hops
from sandbox.kafka import available
from sandbox.ports import free_port
from tests.support.stack import LONG_TIMEOUTS

NO_KAFKA = available()
README = (Path(__file__).parents[2] / "README.md").read_text()
#: A reader waits for less time than a machine may pause.
LONGER = ("wait=5", "wait=30")
SHOWN_OVER_HTTP = (
    r"POST /v1/auth/signup: 201",
    r"POST /v1/users/guests: 201",
    r"Free in Lisbon from [0-9-]{10}: The Lighthouse, 129.00 EUR a night",
    r"GET /v1/hotels/\d+/info: 200",
    r"POST /v1/bookings/init: 202 Accepted, /v1/bookings/[0-9a-f-]{36}/status",
    r"The status is RESERVED",
    r"POST the page's form: 303",
    r"The status is CONFIRMED",
    r"reserved, guests added, payment requested, checkout opened, confirmed",
    r"Sold from [0-9-]{10} to [0-9-]{10}: 1 bookings, 258.00 EUR",
    r"The night of [0-9-]{10} costs 129.00 x 1.250 from now on",
)
SHOWN_TO_CURL = (
    r'"email":"grace@example.com"',
    r'"name":"The Lighthouse"',
    r'"booking_status":"GUESTS_ADDED".*"guests":\[\{"id":\d+,"name":"Grace"',
    r'"booking_status":"PAYMENTS_PENDING","session_url":"http',
    r'(?s)"booking_status":"CONFIRMED"\}.*"booking_status":"CANCELLED".*booking\.refunded\.v1',
)
SHOWN_ON_THE_LOG = {
    "booking.commands": [
        "booking.reserve.v1",
        "booking.add_guests.v1",
        "booking.request_payment.v1",
        "booking.record_session.v1",
        "booking.confirm_payment.v1",
        "document.issue.v1",
    ],
    "booking.events": [
        "booking.reserved.v1",
        "booking.guests_added.v1",
        "booking.payment_requested.v1",
        "booking.checkout_opened.v1",
        "booking.confirmed.v1",
        "document.issued.v1",
    ],
    "stripe.webhooks": ["checkout.session.completed"],
}


@pytest.mark.system
@pytest.mark.skipif(NO_KAFKA is not None, reason=NO_KAFKA or "")
async def test_a_newcomer_sees_a_room_booked_and_books_another_with_the_lines_of_the_readme(tmp_path: Path) -> None:
    port = free_port()
    async with demo(tmp_path, port) as process:
        printed = await _until_it_stays_up(process)
        assert [pattern for pattern in SHOWN_OVER_HTTP if not re.search(pattern, printed)] == [], printed
        hops = re.findall(r"([\w.]+), partition \d+, offset \d+: ([\w.]+)", printed)
        assert {name: [kind for topic, kind in hops if topic == name] for name in SHOWN_ON_THE_LOG} == SHOWN_ON_THE_LOG

        [lines] = re.findall(r"```sh\n(.+?)```", README, re.DOTALL)
        assert (lines.count("\n"), lines.count("127.0.0.1:8080"), lines.count(LONGER[0])) == (14, 1, 1)
        shell = await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", lines.replace("127.0.0.1:8080", f"127.0.0.1:{port}").replace(*LONGER)),
            stdout=PIPE,
            stderr=PIPE,
        )
        answers, complaints = (each.decode() for each in await shell.communicate())
        export, then = (printed.partition(f"{name} ")[2].splitlines()[0] for name in ("As an operator", "and then"))
        operator = await asyncio.create_subprocess_exec(
            *("bash", "-euc", f"{export}\n{then}\ninnkeeper topics check\ninnkeeper reconcile"), stdout=PIPE
        )
        explained = (await operator.communicate())[0].decode()
    assert operator.returncode == 0, explained
    assert "booking.confirmed.v1" in explained
    assert (shell.returncode, complaints) == (0, ""), answers + complaints
    assert [pattern for pattern in SHOWN_TO_CURL if not re.search(pattern, answers)] == [], answers
    assert process.returncode == 0


@asynccontextmanager
async def demo(folder: Path, port: int) -> AsyncIterator[Process]:
    """Run the demo until the end of the block, in a shell that knows other servers, and end it as Ctrl-C would."""
    elsewhere = {"KAFKA_URL": "127.0.0.1:1", "DATABASE_URL": "postgresql://somebody:s@127.0.0.1:1/else"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sandbox", "demo", "--port", str(port), "--data", str(folder / "demo")),
        env={**os.environ, **elsewhere, **LONG_TIMEOUTS, "PYTHONUNBUFFERED": "1"},
        stdout=PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        await process.wait()


async def _until_it_stays_up(process: Process) -> str:
    """Return the output of the demo until all is there to be tried."""
    assert process.stdout is not None
    printed = ""
    while "and then" not in printed:
        line = await process.stdout.readline()
        assert line, f"the demo ended: {printed}"
        printed += line.decode()
    return printed


async def rejected_status(_: web.Request) -> web.Response:
    return web.json_response({"booking_status": "REJECTED", "reason": "sold_out"})


@pytest.fixture
async def url_of_a_full_house() -> AsyncIterator[str]:
    """The address of a server that refuses every booking."""
    app = web.Application()
    app.router.add_get("/v1/bookings/{id}/status", rejected_status)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}"
    await runner.cleanup()


async def test_a_guest_who_is_refused_does_not_wait_for_a_room(url_of_a_full_house: str) -> None:
    async with aiohttp.ClientSession() as http:
        guest = Guest(http, url_of_a_full_house, Hops(Console(file=io.StringIO())))

        with pytest.raises(Unexpected, match="sold_out"):
            await guest.poll_until(uuid4(), "CONFIRMED")
