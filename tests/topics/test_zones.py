"""Hotels' time: the pinned zone data alone counts, and instants are exact where clocks change."""

import ast
import os
import re
import subprocess
import sys
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from importlib import resources
from importlib.metadata import version
from pathlib import Path

import pytest

import ingress.stays
from topics import zones

ROOT = Path(__file__).parents[2]
ROOMS = ("ingress", "operators", "pricing", "sandbox", "storage", "telemetry", "topics", "workers")
CHANGED_IN_2026 = (
    "Africa/Casablanca",
    "America/Vancouver",
    "America/Edmonton",
    "America/Winnipeg",
    "America/Havana",
)
WINTER_EVENING = datetime(2027, 1, 15, tzinfo=UTC)


@pytest.fixture
def other_files(tmp_path: Path) -> Path:
    """Return a folder of zone files in which Lisbon has the rules of Tokyo, as an old system might be wrong."""
    tokyo = resources.files("tzdata").joinpath("zoneinfo", "Asia", "Tokyo").read_bytes()
    (tmp_path / "Europe").mkdir()
    (tmp_path / "Europe" / "Lisbon").write_bytes(tokyo)
    return tmp_path


@pytest.fixture
def wrong_system(other_files: Path) -> Iterator[None]:
    """Let the standard library read those files, as it reads a system's."""
    zoneinfo.reset_tzpath((str(other_files),))
    zoneinfo.ZoneInfo.clear_cache()
    zones.zone.cache_clear()
    yield
    zoneinfo.reset_tzpath()
    zoneinfo.ZoneInfo.clear_cache()


@pytest.mark.usefixtures("wrong_system")
def test_the_systems_files_do_not_change_a_hotels_day(monkeypatch: pytest.MonkeyPatch) -> None:
    evening = datetime(2027, 1, 15, 22, 30, tzinfo=UTC)
    monkeypatch.setattr("ingress.stays.time.time", evening.timestamp)
    ingress.stays._day_at.cache_clear()

    assert evening.astimezone(zoneinfo.ZoneInfo("Europe/Lisbon")).date() == date(2027, 1, 16), "the trap is set"
    assert zones.day_at("Europe/Lisbon", evening) == date(2027, 1, 15)
    assert ingress.stays.today_at("Europe/Lisbon") == date(2027, 1, 15)
    assert zones.instant(date(2027, 1, 15), time(15), "Europe/Lisbon") == datetime(2027, 1, 15, 15, tzinfo=UTC)


@pytest.mark.process
@pytest.mark.parametrize("first", ["zoneinfo.ZoneInfo('Europe/Lisbon')", "pass"])
def test_neither_a_setting_nor_an_earlier_import_changes_a_hotels_time(other_files: Path, first: str) -> None:
    script = f"""
import zoneinfo
from datetime import datetime, UTC
{first}
from topics.zones import zone
at = datetime(2027, 1, 15, tzinfo=UTC)
print(at.astimezone(zoneinfo.ZoneInfo('Europe/Lisbon')).hour, at.astimezone(zone('Europe/Lisbon')).hour)
"""
    environment = {**os.environ, "PYTHONTZPATH": str(other_files)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == ["9", "0"]


@pytest.mark.parametrize("name", CHANGED_IN_2026)
def test_zones_that_changed_in_2026_have_their_new_rules(name: str) -> None:
    new_offsets = {
        "Africa/Casablanca": timedelta(0),
        "America/Vancouver": timedelta(hours=-7),
        "America/Edmonton": timedelta(hours=-6),
        "America/Winnipeg": timedelta(hours=-5),
        "America/Havana": timedelta(hours=-4),
    }

    assert WINTER_EVENING.astimezone(zones.zone(name)).utcoffset() == new_offsets[name]


@pytest.mark.parametrize("name", CHANGED_IN_2026)
def test_older_files_of_this_system_are_not_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    systems = _zone_of_the_system(name)
    if (
        systems is None
        or WINTER_EVENING.astimezone(systems).utcoffset() == WINTER_EVENING.astimezone(zones.zone(name)).utcoffset()
    ):
        pytest.skip(f"this system has no files, or new ones, of {name}")
    differing = [at for at in _hours(WINTER_EVENING) if at.astimezone(systems).date() != zones.day_at(name, at)]

    assert len(differing) == 1, "the day differs for an hour"
    monkeypatch.setattr("ingress.stays.time.time", differing[0].timestamp)
    ingress.stays._day_at.cache_clear()
    tonight = ingress.stays.today_at(name)
    assert tonight == zones.day_at(name, differing[0])
    ingress.stays.accept_stay(tonight, tonight + timedelta(days=1), tonight)


def _zone_of_the_system(name: str) -> zoneinfo.ZoneInfo | None:
    for folder in ("/usr/share/zoneinfo", "/usr/lib/zoneinfo", "/usr/share/lib/zoneinfo", "/etc/zoneinfo"):
        path = Path(folder, name)
        if path.is_file():
            with path.open("rb") as file:
                return zoneinfo.ZoneInfo.from_file(file)
    return None


def _hours(first: datetime) -> list[datetime]:
    return [first + timedelta(hours=number, minutes=30) for number in range(24)]


@pytest.mark.parametrize(
    ("name", "day", "wall_time", "expected"),
    [
        # Clocks go from 2:00 to 3:00: 2:30 counts as if they had not, and is shown as 3:30.
        ("Europe/Berlin", date(2027, 3, 28), time(2, 30), datetime(2027, 3, 28, 1, 30, tzinfo=UTC)),
        ("Europe/Berlin", date(2027, 3, 28), time(1, 59), datetime(2027, 3, 28, 0, 59, tzinfo=UTC)),
        ("Europe/Berlin", date(2027, 3, 28), time(3), datetime(2027, 3, 28, 1, tzinfo=UTC)),
        # Clocks go from 3:00 back to 2:00: the first 2:30 counts.
        ("Europe/Berlin", date(2027, 10, 31), time(2, 30), datetime(2027, 10, 31, 0, 30, tzinfo=UTC)),
        ("Europe/Berlin", date(2027, 10, 31), time(3), datetime(2027, 10, 31, 2, tzinfo=UTC)),
        # Midnight itself is skipped in Cairo.
        ("Africa/Cairo", date(2027, 4, 30), time(0), datetime(2027, 4, 29, 22, tzinfo=UTC)),
        # Lord Howe changes by half an hour, at a quarter.
        ("Australia/Lord_Howe", date(2027, 10, 3), time(2, 15), datetime(2027, 10, 2, 15, 45, tzinfo=UTC)),
        ("Australia/Lord_Howe", date(2027, 4, 4), time(1, 45), datetime(2027, 4, 3, 14, 45, tzinfo=UTC)),
        # Samoa skipped a whole day.
        ("Pacific/Apia", date(2011, 12, 30), time(12), datetime(2011, 12, 30, 22, tzinfo=UTC)),
        ("Asia/Kathmandu", date(2027, 1, 1), time(11), datetime(2027, 1, 1, 5, 15, tzinfo=UTC)),
    ],
)
def test_the_instant_of_a_wall_time_is_exact_where_clocks_change(
    name: str, day: date, wall_time: time, expected: datetime
) -> None:
    assert zones.instant(day, wall_time, name) == expected


def test_a_day_begins_at_the_hotels_midnight() -> None:
    midnight = datetime(2027, 1, 15, 0, tzinfo=zones.zone("America/Vancouver"))

    assert zones.day_at("America/Vancouver", midnight - timedelta(microseconds=1)) == date(2027, 1, 14)
    assert zones.day_at("America/Vancouver", midnight) == date(2027, 1, 15)


@pytest.mark.parametrize(
    "name", ["Mars/Olympus", "", "../zones", "/etc/localtime", "Europe", "europe/lisbon", "Factory"]
)
def test_a_name_that_is_no_zone_is_refused(name: str) -> None:
    with pytest.raises(KeyError):
        zones.zone(name)


def test_every_zone_of_the_package_can_be_read() -> None:
    assert len(zones.zone_names()) > 500
    for name in zones.zone_names():
        assert zones.zone(name).key == name


def test_the_version_is_that_of_the_pinned_package() -> None:
    assert version("tzdata") == zones.ZONE_DATA_VERSION
    for lock in ("requirements.lock", "requirements-runtime.lock"):
        assert re.search(rf"^tzdata=={re.escape(zones.ZONE_DATA_VERSION)} ", (ROOT / lock).read_text(), re.MULTILINE)


OTHER_SOURCES_OF_ZONES = {"zoneinfo", "pytz", "dateutil", "tzlocal", "tzdata"}


def test_no_other_module_reads_time_zones() -> None:
    found = {
        str(path.relative_to(ROOT)): names
        for path in _modules()
        if (names := _imports(path.read_text()) & OTHER_SOURCES_OF_ZONES)
    }

    assert found == {"topics/zones.py": {"zoneinfo"}}


def _imports(source: str) -> set[str]:
    names = set[str]()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


#: SQL that lets PostgreSQL choose a day or a zone: its zones are the server's files, and its day is the session's.
ZONES_OF_POSTGRESQL = re.compile(
    r"at\s+time\s+zone"
    r"|\btimezone\s*\("
    r"|\bcurrent_(?:date|time)\b"
    r"|\blocal(?:time|timestamp)\b"
    r"|now\(\)\s*::\s*(?:date|timestamp\b)"
    r"|func\.(?:date|date_trunc|to_char|extract|localtime)\("
    r"|set\s+(?:local\s+)?time\s*zone",
    re.IGNORECASE,
)
#: UTC has no rules; this is the first instant at which any place on Earth has a new day.
ALLOWED_SQL = {"storage/guests.py": 'func.date(func.timezone("UTC", func.now()) - _LAST_TIME_ZONE)'}


@pytest.mark.parametrize(
    "sql",
    [
        "select now() at time zone hotel.time_zone",
        "select now() AT  TIME\nZONE 'Europe/Lisbon'",
        "func.timezone(Hotel.time_zone, func.now())",
        "check_in >= current_date",
        "now()::date",
        "func.date(Booking.created_at)",
        "set time zone 'UTC'",
    ],
)
def test_the_search_finds_zones_of_postgresql(sql: str) -> None:
    assert ZONES_OF_POSTGRESQL.search(sql)


@pytest.mark.parametrize("sql", ["DateTime(timezone=True)", "unnest(%b::date[])", "clock_timestamp()"])
def test_the_search_leaves_other_sql_alone(sql: str) -> None:
    assert not ZONES_OF_POSTGRESQL.search(sql)


def test_postgresqls_zones_are_never_used() -> None:
    sources = {str(path.relative_to(ROOT)): path.read_text() for path in _modules()}
    found = {
        name: sql
        for name, source in sources.items()
        if (sql := ZONES_OF_POSTGRESQL.findall(source.replace(ALLOWED_SQL.get(name, "\0"), "")))
    }

    assert found == {}


def _modules() -> list[Path]:
    return [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
