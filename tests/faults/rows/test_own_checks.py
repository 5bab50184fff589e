"""The checks of rows of networks, proxies, clocks and disks find what they look for; no system runs."""

import asyncio
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web

from sandbox import days_ahead
from tests.faults.row import Scene
from tests.faults.rows import _watching, clocks, disks, network, proxies
from tests.faults.rows._watching import Readiness
from tests.support.namespaces import LOST
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import next_turn, wait_until
from tests.system.deploy.guests import Guests
from tests.system.pipeline import chaos
from tests.system.pipeline.load import Town


def scene_with(tools: dict[str, Any] | None = None, **system: Any) -> Scene:
    """Return a scene whose system has only these attributes."""
    return Scene(
        system=cast("Any", SimpleNamespace(**system)),
        town=cast("Town", SimpleNamespace()),
        guests=cast("Guests", SimpleNamespace(bookings=[])),
        chance=random.Random(1),
        tools=tools or {},
    )


@pytest.fixture(autouse=True)
def _faults_do_not_last(monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(seconds: float) -> None:
        await next_turn()

    for module in (clocks, disks, network, proxies):
        monkeypatch.setattr(module, "for_seconds", at_once)


@asynccontextmanager
async def ingress(parts: dict[str, str], scene: Scene, delay_seconds: float = 0.0) -> AsyncIterator[str]:
    """Serve readiness with these parts, and the time by this machine's clock."""

    async def answer(request: web.Request) -> web.Response:
        if delay_seconds:
            await asyncio.wait([asyncio.create_task(asyncio.Event().wait())], timeout=delay_seconds)
        return web.json_response({"parts": parts}, status=503)

    application = web.Application()
    application.router.add_get("/{any:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        async with aiohttp.ClientSession() as http:
            scene.town.http = http
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_readiness_that_names_a_part_is_a_cause() -> None:
    scene = scene_with()
    async with ingress({"database": "away", "broker": "ready"}, scene) as url:
        await Readiness(scene, url).names("database")
    assert scene.causes == {"readiness named the database": 1}
    assert scene.problems == []


async def test_readiness_that_names_another_part_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_watching, "_NAMED_WITHIN_SECONDS", 0.1)
    scene = scene_with()
    async with ingress({"database": "away", "broker": "ready"}, scene) as url:
        await Readiness(scene, url).names("broker")
    assert scene.problems == ["readiness did not name the broker within 0 s"]
    assert not scene.causes


async def test_readiness_that_is_slow_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_watching, "MAX_READY_SECONDS", 0.01)
    monkeypatch.setattr(_watching, "_BUSY_SECONDS", 0.0)
    scene = scene_with()
    async with ingress({"database": "away"}, scene, delay_seconds=0.1) as url:
        await Readiness(scene, url).names("database")
    [problem] = scene.problems
    assert re.fullmatch(r"readiness took \d+\.\d s to answer", problem)


async def test_a_booking_that_is_accepted_late_after_a_silence_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_watching, "MAX_BACK_SECONDS", 0.0)
    scene = scene_with()
    waiting = asyncio.create_task(_watching.until_accepted(scene))
    await next_turn()
    assert not waiting.done()
    scene.guests.bookings.append("a booking")
    await waiting
    [problem] = scene.problems
    assert re.fullmatch(r"a booking was accepted \d+\.\d s after the silence, 0 s are allowed", problem)


async def test_a_clock_that_is_right_although_it_was_moved_is_a_problem() -> None:
    scene = scene_with(pid=lambda name: os.getpid())
    async with ingress({}, scene) as url:
        cast("Any", scene.system).urls = [url]
        await clocks._see(scene, ["ingress", "payments-1"], 1200)
    of_ingress, of_payments = scene.problems
    assert re.fullmatch(r"the clock of ingress is [-+]\d s ahead, and not \+1200", of_ingress)
    assert of_payments == "payments-1 has the clock of the machine"
    assert not scene.causes


@pytest.mark.skipif(days_ahead.unavailable() is not None, reason=days_ahead.unavailable() or "")
async def test_the_clock_of_a_process_follows_its_file(tmp_path: Path) -> None:
    shifted = clocks.Clocks(tmp_path / "clocks")
    program = "import sys, time\nfor _ in sys.stdin: print(time.time(), flush=True)"
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, **shifted.of("part")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def is_ahead(seconds: int) -> bool:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        return abs(float(process.stdout.readline()) - time.time() - seconds) < 5

    try:
        for seconds in (1200, -3600):
            shifted.shift("part", seconds)
            await wait_until(partial(is_ahead, seconds), message=f"it is {seconds} s ahead")
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_a_hold_that_ends_early_by_the_log_is_a_problem() -> None:
    assert clocks.early(chaos.HOLD_SECONDS - 0.5) == "a hold ended 0.5 s early by the log's time"
    assert clocks.early(chaos.HOLD_SECONDS + 0.5) is None


class FakeNetwork:
    """Counts no packet for a number of impairments, as a network does on which nothing is sent, and one for each later.

    `impaired` are the directions, in order.
    """

    def __init__(self, quiet: int) -> None:
        self.lost: Counter[tuple[str, str]] = Counter()
        self.delayed = self.lost
        self.quiet = quiet
        self.impaired: list[tuple[str, str]] = []
        self.mended: list[tuple[str, str]] = []

    async def impair(self, sender: str, receiver: str, how: Any) -> None:
        self.impaired.append((sender, receiver))
        self.lost[sender, receiver] += len(self.impaired) > self.quiet

    async def mend(self, sender: str, receiver: str) -> None:
        self.mended.append((sender, receiver))


async def test_a_cut_over_which_nothing_was_sent_is_a_problem_and_no_cause() -> None:
    fake = FakeNetwork(quiet=1_000)
    scene = scene_with({"network": fake})

    await network.cut_one_way(scene, "ingress", "kafka")
    await network.cut(scene, "ingress", "kafka", LOST)

    assert scene.problems == [
        "no packet from ingress to kafka was lost",
        "no packet from kafka to ingress was lost",
    ]
    assert not +scene.causes
    assert fake.impaired == fake.mended
    assert Counter(fake.impaired) == {("ingress", "kafka"): 10, ("kafka", "ingress"): 10}


async def test_a_cut_lasts_until_something_is_sent() -> None:
    fake = FakeNetwork(quiet=2)
    scene = scene_with({"network": fake})

    await network.cut_one_way(scene, "payments-1", "stripe")
    await network.cut(scene, "payments-1", "stripe", LOST)

    there, back = ("payments-1", "stripe"), ("stripe", "payments-1")
    assert fake.impaired == fake.mended == [there, there, there, back, there, back]
    assert scene.problems == []
    assert list(scene.causes.values()) == [4]


@pytest.mark.parametrize("way", ["to_server", "to_client", "both"])
async def test_only_the_named_way_is_silent_and_speaks_afterwards(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = TcpProxy("127.0.0.1", 1)
    seen: list[tuple[bool, bool]] = []

    async def look(seconds: float) -> None:
        seen.append((proxy.to_server.is_silent, proxy.to_client.is_silent))

    monkeypatch.setattr(proxies, "for_seconds", look)
    scene = scene_with({proxies.STRIPE: proxy})
    await proxies.silence(scene, [proxies.STRIPE], way=way)

    assert seen == [(way != "to_client", way != "to_server")]
    assert not proxy.to_server.is_silent
    assert not proxy.to_client.is_silent
    # Nobody connected anew, so the row's cause was not seen.
    assert not +scene.causes


async def test_no_reset_is_left_for_the_next_row() -> None:
    proxy = TcpProxy("127.0.0.1", 1)

    await proxies.reset_in_the_middle(scene_with({proxies.STRIPE: proxy}), [proxies.STRIPE])

    for direction in (proxy.to_server, proxy.to_client):
        assert direction.take(bytes(10_000)) == (bytes(10_000), False)


async def test_no_hold_is_watched_any_more_after_a_row_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []

    async def begin_hold(scene: Scene) -> Any:
        return cast("Any", "a hold")

    async def end_hold(*_: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("a hold")

    async def see(*_: Any) -> None:
        await next_turn()
        raise OSError("no clock is seen")

    for name, stand_in in {"_begin_hold": begin_hold, "_end_hold": end_hold, "_see": see}.items():
        monkeypatch.setattr(clocks, name, stand_in)
    shifts: list[tuple[str, int]] = []
    scene = scene_with({"clocks": SimpleNamespace(shift=lambda *shift: shifts.append(shift))})

    with pytest.raises(ExceptionGroup, match="unhandled"):
        await clocks.be_wrong(scene, ["expiry-1"], [1200], hold=True)

    assert ended == ["a hold"]
    assert shifts == [("expiry-1", 1200), ("expiry-1", 0)]


async def test_the_database_follows_the_log_before_the_second_hold_so_that_this_can_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ahead: dict[str, int] = {}
    holds: list[dict[str, int]] = []

    async def begin_hold(scene: Scene) -> None:
        holds.append(dict(ahead))

    async def end_hold(*_: Any) -> None:
        # Expiry looks by the database's time for what is over by the log's.
        await wait_until(lambda: ahead[clocks.OF_LOG] == 1200, message="the log's time is over")

    async def see(*_: Any) -> None:
        await next_turn()

    for name, stand_in in {"_begin_hold": begin_hold, "_end_hold": end_hold, "_see": see}.items():
        monkeypatch.setattr(clocks, name, stand_in)
    scene = scene_with({"clocks": SimpleNamespace(shift=ahead.__setitem__)})

    await clocks.leap_of_the_log(scene)

    assert holds == [{}, {clocks.OF_LOG: 1200, "postgres": 1200}]
    assert ahead == {clocks.OF_LOG: 1200, "postgres": 1200}
    assert scene.log_time_leaps
    assert not scene.problems


async def test_a_disk_that_cannot_be_filled_is_the_failure_that_is_reported(tmp_path: Path) -> None:
    broker = SimpleNamespace(running_pid=1)
    scene = scene_with({"kafka": tmp_path / "gone"}, supervisor={"kafka": broker})

    with pytest.raises(FileNotFoundError) as failed:
        await disks.fill_disks(scene, ["kafka"], None)
    assert failed.value.__context__ is None


@pytest.mark.skipif(disks.no_disk() is not None, reason=disks.no_disk() or "")
def test_a_small_disk_is_full_and_then_gone(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    with disks.small_disk(folder, "1m"):
        disks.fill(folder / "filler")
        assert (folder / "filler").stat().st_size <= 1024**2
        with pytest.raises(OSError, match="No space left"):
            (folder / "more").write_bytes(b"x" * 65_536)
    assert not folder.is_mount()
    assert list(folder.iterdir()) == []
