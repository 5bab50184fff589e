"""The figures of a soak: which series of the samples are judged, by which rule, and why that limit."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from tests.soak import canaries
from tests.soak.judging import BLOCK_MB, Below, Flat, PerBooking, Point, Rule
from tests.soak.samples import Run
from tests.soak.visits import MAX_ANSWER_SECONDS

MB: Final = 1_000_000.0
_SESSIONS: Final = 200
#: A guest's wait is the middle of so many measurements: one that falls into a fault does not count.
_WAITS_TOGETHER: Final = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One series, with its unit and the rule that it is judged by; `panel` is the picture that shows it."""

    panel: str
    name: str
    unit: str
    rule: Rule
    points: tuple[Point, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """A picture of the figures of one kind; `why` explains rule and limit on the page."""

    name: str
    title: str
    unit: str
    why: str
    logarithmic: bool = False


PANELS: Final = (
    Panel(
        name="wait",
        title="From request to decision, as the guest sees it",
        unit="seconds",
        why="A guest books every 5 s and waits for the decision. The limit is for the middle of six such waits:"
        " a fault makes single guests wait, and is not growth. 50 ms an hour would be a second in a day.",
        logarithmic=True,
    ),
    Panel(
        name="memory",
        title="Memory of each process (RSS)",
        unit="MB",
        why="A process that was killed begins again small; only samples of the same process are compared, without its"
        " first"
        " three minutes, in which it fills caches and pools. 10 MB an hour is a tenth of a process.",
    ),
    Panel(
        name="servers",
        title="Memory of Kafka (RSS) and PostgreSQL (private)",
        unit="MB",
        why="Java keeps the heap that it has touched, up to `-Xmx512m`, and needs about 200 MB beside it. PostgreSQL's"
        " sessions share 256 MB of buffers, which fill up; their own memory is the sum over all sessions.",
    ),
    Panel(
        name="descriptors",
        title="Open descriptors of each process",
        unit="descriptors",
        why="Connections that are not closed, and files. Each fault breaks connections: three an hour would be one at"
        " almost"
        " every fault. The servers open files as tables and topics get more of them.",
    ),
    Panel(
        name="threads",
        title="Threads of each process",
        unit="threads",
        why="Pools of threads reach their size in the first minutes.",
    ),
    Panel(
        name="rows",
        title="Rows that somebody deletes, and work that is waiting",
        unit="rows",
        why="Outbox rows are deleted by the next batch of their partition; there are seldom more than one for each"
        " partition"
        " and consumer. Sessions end by logout. Holds end after 15 s, and calls to Stripe within seconds, or half a"
        " minute"
        " after a fault. Nothing here makes a dead letter.",
        logarithmic=True,
    ),
    Panel(
        name="tables",
        title="Tables with their indexes",
        unit="MB",
        why="Bookings, their events and keys are kept for ever, so these grow with bookings: judged are the bytes for"
        " each"
        " booking, and that a booking of the second half takes as much as one of the first. The other tables are"
        " bounded.",
    ),
    Panel(
        name="files",
        title="Topics, write-ahead log and log files",
        unit="MB",
        why="Topics grow with bookings within a run: `booking.commands` is deleted after 7 days, `stripe.webhooks`"
        " after 30,"
        " `booking.events` never. The broker compacts its own topics when a segment of 100 MB is full. `max_wal_size`"
        " is"
        " 2 GB, and the log may be somewhat larger for a moment.",
    ),
)
#: Bounded tables, and how many megabytes an hour they may grow: dead rows wait for autovacuum, which comes each minute.
_BOUNDED_TABLES: Final[Mapping[str, Sequence[str]]] = {
    "outbox": ["outbox"],
    "inventory, room_night": ["inventory", "room_night"],
    "refresh_token": ["refresh_token"],
    "log_cursor": ["log_cursor"],
    "daily_report, hotel_min_price": ["daily_report", "hotel_min_price"],
    "accounts, hotels, rooms": ["app_user", "guest", "hotel", "room", "room_sale_terms", "rate_plan", "promo_code"],
    "circuits, dead letters, and others": ["stripe_circuit", "unattributed_object", "dead_letter"],
}
_BOUNDED: Final = frozenset(name for names in _BOUNDED_TABLES.values() for name in names)
#: Bytes that one booking may take: in each table with its indexes, in all of them, in each topic, and in the logs.
_TABLE_BYTES: Final = 12_000
_ALL_TABLES_BYTES: Final = 30_000
_TOPIC_BYTES: Final = 20_000
_LOG_BYTES: Final = 3_000
_STRIPE_BYTES: Final = 60_000
_SMALL_MB: Final = 1.0
_UNITS: Final = {panel.name: panel.unit for panel in PANELS}
_SERVERS: Final = ("kafka", "postgres")
_ROWS: Final[Mapping[str, tuple[str, Rule]]] = {
    "outbox": ("outbox", Below(ceiling=500)),
    "refresh_token": ("refresh tokens", Flat(per_hour=20, grain=5)),
    "stripe_circuit": ("circuits", Below(ceiling=10)),
    "unattributed_object": ("unattributed objects", Below(ceiling=10)),
    "dead_letter": ("dead letters", Below(ceiling=0)),
    "log_cursor": ("positions of consumers", Flat(per_hour=1, grain=1)),
    "held": ("held bookings", Flat(per_hour=30, grain=20)),
    "calls": ("calls to Stripe that are due", Flat(per_hour=10, grain=5)),
    "sessions": ("connections to PostgreSQL", Flat(per_hour=3, grain=3)),
}


def figures_of(run: Run) -> list[Figure]:
    """Return all figures of a run that have samples, in the order of the panels."""
    found = [
        *_waits(run),
        *_of_processes(run, "memory", "rss", lambda _: Flat(per_hour=10.0, grain=2.0), divisor=MB, servers=False),
        *_of_servers(run),
        *_of_processes(run, "descriptors", "descriptors", _descriptors_rule),
        *_of_processes(run, "threads", "threads", lambda _: Flat(per_hour=2.0, grain=2.0), servers=False),
        *_rows(run),
        _series(
            run,
            "rows",
            "longest transaction, seconds",
            Below(ceiling=60),
            _count("transaction_seconds"),
            unit="seconds",
        ),
        *_tables(run),
        *_files(run),
    ]
    return [figure for figure in found if figure.points]


def stays_of_canaries(run: Run) -> dict[str, float | None]:
    """Return how long the planted rows of each table stayed; None: longer than they may, or to the end."""
    stays = canaries.stays(run.samples, _old_enough(run))
    return {
        table: None if seconds is None or seconds > canaries.MAX_STAY_SECONDS else seconds
        for table, seconds in stays.items()
    }


def _old_enough(run: Run) -> list[Mapping[str, Any]]:
    """Return the plantings, but for the last ones of which no sample could show the end."""
    end = float(run.samples[-1]["at"]) if run.samples else 0.0
    return [line for line in run.planted if float(line["at"]) + canaries.MAX_STAY_SECONDS <= end]


def _descriptors_rule(part: str) -> Rule:
    limits = {"postgres": Flat(per_hour=200.0, grain=100.0), "kafka": Flat(per_hour=60.0, grain=20.0)}
    return limits.get(part, Flat(per_hour=3.0, grain=2.0))


def _waits(run: Run) -> Iterable[Figure]:
    waits = [(float(line["at"]), _seconds(line["seconds"])) for line in run.waits]
    groups = [waits[start : start + _WAITS_TOGETHER] for start in range(0, len(waits), _WAITS_TOGETHER)]
    rules: Mapping[str, tuple[Callable[[Iterable[float]], float], Rule]] = {
        "median of half a minute": (median, Flat(per_hour=0.05, grain=0.02)),
        "longest of half a minute": (max, Below(ceiling=MAX_ANSWER_SECONDS)),
    }
    for name, (chosen, rule) in rules.items():
        points = tuple(
            Point(median(at for at, _ in group) / 3600, chosen(seconds for _, seconds in group)) for group in groups
        )
        yield Figure(panel="wait", name=name, unit="seconds", rule=rule, points=points)


def _seconds(waited: float | None) -> float:
    """Return how long a guest waited; None, a guest who gave up, is longer than may be."""
    return MAX_ANSWER_SECONDS + 1 if waited is None else float(waited)


def _of_processes(
    run: Run,
    panel: str,
    key: str,
    rule: Callable[[str], Rule],
    *,
    divisor: float = 1.0,
    servers: bool = True,
) -> Iterable[Figure]:
    unit = _UNITS[panel]
    for part in _parts(run):
        if servers or part not in _SERVERS:
            yield Figure(
                panel=panel, name=part, unit=unit, rule=rule(part), points=_of_process(run, part, key, divisor)
            )


def _of_servers(run: Run) -> Iterable[Figure]:
    for part, key, rule in (
        ("kafka", "rss", Below(ceiling=900.0)),
        ("postgres", "uss", Flat(per_hour=60.0, grain=8.0)),
    ):
        yield Figure(panel="servers", name=part, unit="MB", rule=rule, points=_of_process(run, part, key, MB))


def _parts(run: Run) -> list[str]:
    names = dict.fromkeys(name for sample in run.samples for name in sample.get("processes", {}))
    return sorted(names)


def _of_process(run: Run, part: str, key: str, divisor: float) -> tuple[Point, ...]:
    return tuple(
        Point(float(sample["at"]) / 3600, float(found[key]) / divisor, str(found["process"]))
        for sample in run.samples
        if (found := sample.get("processes", {}).get(part)) is not None and key in found
    )


def _series(
    run: Run,
    panel: str,
    name: str,
    rule: Rule,
    value: Callable[[Mapping[str, Any]], float | None],
    *,
    unit: str | None = None,
) -> Figure:
    points = tuple(
        Point(float(sample["at"]) / 3600, found, bookings=int(sample["bookings"]))
        for sample in run.samples
        if "bookings" in sample and (found := value(sample)) is not None
    )
    return Figure(panel=panel, name=name, unit=unit or _UNITS[panel], rule=rule, points=points)


def _count(name: str) -> Callable[[Mapping[str, Any]], float | None]:
    return lambda sample: float(sample["counts"][name]) if name in sample["counts"] else None


def _rows(run: Run) -> Iterable[Figure]:
    for key, (name, rule) in _ROWS.items():
        yield _series(run, "rows", name, rule, _count(key), unit="connections" if key == "sessions" else None)


def _tables(run: Run) -> Iterable[Figure]:
    last: Mapping[str, Sequence[int]] = next(
        (sample["tables"] for sample in reversed(run.samples) if "tables" in sample), {}
    )

    def size(names: Iterable[str]) -> Callable[[Mapping[str, Any]], float]:
        return lambda sample: sum(sum(sample["tables"].get(name, ())) for name in names) / MB

    yield _series(run, "tables", "all", PerBooking(limit=_ALL_TABLES_BYTES / MB), size(last))
    for name in sorted(last.keys() - _BOUNDED, key=lambda name: (-sum(last[name]), name)):
        if sum(last[name]) / MB >= _SMALL_MB:
            yield _series(run, "tables", name, PerBooking(limit=_TABLE_BYTES / MB), size([name]))
    for name, names in _BOUNDED_TABLES.items():
        yield _series(run, "tables", name, Flat(per_hour=4.0, grain=BLOCK_MB), size(names))


def _files(run: Run) -> Iterable[Figure]:
    last: Counter[str] = Counter()
    for name, size in next((sample["files"] for sample in reversed(run.samples) if "files" in sample), {}).items():
        last[_grouped(name)] += size

    def size_of(kind: str) -> Callable[[Mapping[str, Any]], float]:
        return lambda sample: sum(size for name, size in sample["files"].items() if _grouped(name) == kind) / MB

    for kind in sorted(last, key=lambda kind: (-last[kind], kind)):
        yield _series(run, "files", kind, _rule_of_file(kind), size_of(kind))


def _grouped(name: str) -> str:
    """Return the kind of a file as the page shows it: all logs but that of the ingress together."""
    return "logs of the other parts" if name.startswith("log of ") and name != "log of ingress" else name


def _rule_of_file(name: str) -> Rule:
    rules: dict[str, Rule] = {
        # Of each of five partitions and more a segment that is full, and one that is not.
        "topic __": Below(ceiling=1_100.0),
        "topic dead.letters": Below(ceiling=1.0),
        "topic ": PerBooking(limit=_TOPIC_BYTES / MB),
        "log": PerBooking(limit=_LOG_BYTES / MB),
        "write-ahead log": Below(ceiling=2_300.0),
        "data of postgres": PerBooking(limit=2 * _ALL_TABLES_BYTES / MB),
        "stand-in for Stripe": PerBooking(limit=_STRIPE_BYTES / MB),
    }
    return next((rule for begin, rule in rules.items() if name.startswith(begin)), Flat(per_hour=5.0, grain=BLOCK_MB))
