"""The load: wrk, a closed loop of 64 clients, each of which sends its next request as soon as it has a response."""

import asyncio
import json
import random
import shutil
from asyncio.subprocess import PIPE
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Final

from benchmarks.stage import HOTEL, BenchmarkFailed, Rooms

CLIENTS: Final = 64
THREADS: Final = 2
MAX_BOOKED_NIGHTS: Final = 3
_WRK_SCRIPT: Final = Path(__file__).parent / "requests.lua"
_BODIES: Final = 10_000
_SEED: Final = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """The result of one run of wrk, with its begin and end (monotonic seconds)."""

    began: float
    ended: float
    requests: int
    p50_ms: float
    p99_ms: float


def missing() -> str | None:
    """Return why there can be no load on this machine, in one sentence; None when there can."""
    if shutil.which("wrk") is None:
        return "wrk is not installed: apt-get install wrk (Debian), brew install wrk (macOS)."
    return None


class Bodies:
    """The request bodies: a file for each run."""

    def __init__(self, folder: Path, rooms: Rooms, *, one_night: bool) -> None:
        """Ask for stays of 1 to 3 nights over all rooms; or, `one_night`, in each run for one night of the first room.

        Each run then has a night of its own, because it may sell most of the stock.
        """
        self._file = folder / "bodies.jsonl"
        self._rooms = rooms
        self._one_night = one_night
        self._runs = 0

    def for_next_run(self) -> Path:
        """Write the bodies of the next run, one a line."""
        chance = random.Random(_SEED)
        with self._file.open("w") as lines:
            for _ in range(1 if self._one_night else _BODIES):
                body = self._first_room() if self._one_night else self._any_room(chance)
                lines.write(json.dumps(body, separators=(",", ":")) + "\n")
        self._runs += 1
        return self._file

    def _first_room(self) -> dict[str, object]:
        return self._body(1, self._runs % self._rooms.nights, 1)

    def _any_room(self, chance: random.Random) -> dict[str, object]:
        nights = chance.randint(1, MAX_BOOKED_NIGHTS)
        return self._body(chance.randint(1, self._rooms.count), chance.randint(0, self._rooms.nights - nights), nights)

    def _body(self, room_id: int, day: int, nights: int) -> dict[str, object]:
        check_in = self._rooms.first_night + timedelta(days=day)
        return {
            "hotel_id": HOTEL,
            "room_id": room_id,
            "check_in_date": check_in.isoformat(),
            "check_out_date": (check_in + timedelta(days=nights)).isoformat(),
            "rooms_count": 1,
        }


async def put_load(url: str, *, token: str, bodies: Path, seconds: float) -> Load:
    """Run wrk against `POST /v1/bookings/init` for whole seconds.

    Raises:
        BenchmarkFailed: a request was refused or got no answer.
    """
    return await run_wrk(url, str(bodies), token, seconds=seconds)


async def run_wrk(url: str, *arguments: str, seconds: float) -> Load:
    """Run wrk with the arguments of its script (`requests.lua`), for whole seconds.

    Raises:
        BenchmarkFailed: a request was refused or got no answer.
    """
    options = [f"-c{CLIENTS}", f"-t{THREADS}", f"-d{max(1, round(seconds))}s", f"-s{_WRK_SCRIPT}", "--timeout", "10s"]
    began = monotonic()
    process = await asyncio.create_subprocess_exec("wrk", *options, url, "--", *arguments, stdout=PIPE)
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    ended = monotonic()
    summaries = [line for line in output.decode().splitlines() if line.startswith("{")]
    if process.returncode != 0 or not summaries:
        raise BenchmarkFailed(f"wrk failed: {output.decode()}")
    summary = json.loads(summaries[-1])
    if summary["refused"] or summary["broken"]:
        raise BenchmarkFailed(f"{url}: {summary['refused']} requests refused, {summary['broken']} without an answer")
    return Load(
        began=began,
        ended=ended,
        requests=summary["requests"],
        p50_ms=summary["p50_ms"],
        p99_ms=summary["p99_ms"],
    )
