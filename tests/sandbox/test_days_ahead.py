"""`sandbox up --days-ahead` moves the clock of all parts, and the data of the folder go on from there."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sandbox import days_ahead
from sandbox.__main__ import app
from sandbox.kafka import available
from sandbox.system import Plan, System
from tests.support.stack import LONG_TIMEOUTS
from tests.system.money.desk import Desk, Inn
from tests.system.path.guest import PASSWORD, Guest, House, open_house
from topics.messages.sale import CancellationPolicy, RatePlan, SaleTerms

MISSING = available() or days_ahead.unavailable()
DAYS = 2
HOST = "host@example.org"
TERMS = SaleTerms(
    version=1,
    plans=(
        RatePlan(
            id="flexible",
            name="Flexible",
            policy=CancellationPolicy(id="flexible", early_departure_percent=50),
        ),
    ),
    capacity=2,
)


@asynccontextmanager
async def house(folder: Path, ahead: int) -> AsyncIterator[House]:
    plan = Plan(
        folder=folder,
        partitions=2,
        own_servers=True,
        quiet=True,
        workers={"reservations": 1, "payments": 1, "projections": 1},
        days_ahead=ahead,
        environment={"RATE_LIMITS": "false", **LONG_TIMEOUTS},
    )
    async with System(plan) as system, open_house(system) as opened:
        yield opened


async def logged_in(house: House) -> Guest:
    nobody = Guest(house.session, house.system.url)
    answer = await nobody.ask("POST", "/v1/auth/login", json={"email": HOST, "password": PASSWORD})
    assert answer.status == 200, answer
    return Guest(house.session, house.system.url, answer.body["access_token"])


async def open_inn(desk: Desk) -> Inn:
    """Open a hotel whose owner can log in again after the restart."""
    nobody = Guest(desk.house.session, desk.house.system.url)
    account = {"email": HOST, "password": PASSWORD}
    assert (await nobody.ask("POST", "/v1/auth/signup", json=account)).status == 201
    await (await logged_in(desk.house)).ask("POST", "/v1/users/host")
    desk._host = await logged_in(desk.house)
    inn = await desk.inn(check_in_time="14:00", check_out_time="10:00", time_zone="UTC")
    await desk.sell_by(inn, TERMS)
    return inn


@pytest.mark.system
@pytest.mark.long
@pytest.mark.skipif(MISSING is not None, reason=MISSING or "")
async def test_a_stay_is_paid_today_and_its_guests_come_and_leave_after_the_clock_has_moved(tmp_path: Path) -> None:
    async with house(tmp_path, 0) as today:
        desk = Desk(today)
        inn = await open_inn(desk)
        paid = await desk.paid(inn, first=DAYS, nights=2)
        path = f"{inn.path}/bookings/{paid.id}"
        early = await inn.host.ask("POST", f"{path}/check-in")
        assert early.status == 409, early

    async with house(tmp_path, DAYS) as later:
        desk = Desk(later)
        host = await logged_in(later)
        arrived = await host.ask("POST", f"{path}/check-in")
        assert (arrived.status, arrived.body["booking_status"]) == (200, "CHECKED_IN"), arrived
        left = await host.ask("POST", f"{path}/check-out")
        assert (left.status, left.body["booking_status"]) == (200, "CHECKED_OUT"), left
        # The guests leave on their first day, so that all nights are unused, and half of the price comes back.
        await desk.happened(paid.id, "refunded")
        assert await desk.sums(paid) == (20_000, 10_000, 0)
        times = await later.rows("select now() as database, max(time) as log from booking_timeline")
        stripe = (await later.stripe("GET", "/_sandbox/clock"))["now"]
        clocks = [*times[0].values(), datetime.fromtimestamp(stripe, UTC)]
        moved = [clock - datetime.now(UTC) for clock in clocks]
        assert all(timedelta(days=DAYS, hours=-1) < by <= timedelta(days=DAYS) for by in moved), moved

    with pytest.raises(days_ahead.ClockCannotMove, match=f"are {DAYS} days ahead, and time does not go back"):
        async with System(Plan(folder=tmp_path, own_servers=True, quiet=True)):
            pass


@pytest.mark.parametrize("variable", ["KAFKA_URL", "DATABASE_URL"])
def test_the_clock_of_somebody_elses_servers_is_not_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setattr(days_ahead, "_library", lambda: Path("libfaketime"))
    monkeypatch.setenv(variable, "elsewhere")

    ended = CliRunner().invoke(app, ["up", "--days-ahead", "1", "--data", str(tmp_path / "data")])

    assert ended.exit_code == 1
    assert variable in ended.stderr
    assert not (tmp_path / "data").exists()


def test_without_libfaketime_the_command_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(days_ahead, "_library", lambda: None)

    ended = CliRunner().invoke(app, ["up", "--days-ahead", "1", "--data", str(tmp_path / "data")])

    assert ended.exit_code == 1
    assert "apt-get install faketime" in ended.stderr
    assert not (tmp_path / "data").exists()


def test_tansu_has_nothing_from_before_its_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(days_ahead, "_library", lambda: Path("libfaketime"))
    monkeypatch.setattr("sandbox.up.possible_broker", lambda broker: broker)
    for variable in ("KAFKA_URL", "DATABASE_URL"):
        monkeypatch.delenv(variable, raising=False)

    ended = CliRunner().invoke(app, ["up", "--days-ahead", "1", "--broker", "tansu", "--data", str(tmp_path / "data")])

    assert ended.exit_code == 1
    assert "--days-ahead needs Kafka" in ended.stderr
