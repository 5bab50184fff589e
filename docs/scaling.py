"""Makes docs/scaling.md: the limits of each part of the system, and what several systems would need."""

from collections.abc import Iterator
from typing import Final

from benchmarks.capacity import BYTES, HOT, SPREAD, USED_SHARE, busiest_share, rate_of_core, rate_of_workers
from topics.pages import table

#: Numbers of rooms and partitions, and of workers.
_SIZES: Final = ((100, 12), (1_000, 12), (10_000, 12), (10_000, 48), (100_000, 48))
_WORKERS: Final = (1, 2, 4, 8, 12)
_GROWS_BY: Final = {
    "ingress": "more processes",
    "worker": "more workers, up to the number of partitions",
    "kafka": "more brokers",
    "postgres": "a larger machine",
}

_PARTS: Final = f"""\
The rates follow from the CPU time of a booking ([performance](performance.md), 2026-11-23: two cores of an AMD
EPYC). They are for a part that is busy {USED_SHARE:.0%} of its time: beyond that its callers wait. They are
computed. Measure with `make bench` on your own machine.

## The parts

An ingress process and a worker use one core each. More ingress processes need nothing but a load balancer. Workers
divide the partitions of `booking.commands` among them. One room is in one partition: its bookings are decided one
at a time."""

_OF_WORKERS: Final = """\
## Rooms, partitions and workers

The busiest worker sets the rate:

    rate = {rate:,.0f} bookings a second / share of all bookings that the busiest worker decides

The table has both. It puts rooms on partitions by the hash that the log uses, and lets them be booked by Zipf's
law: the k-th most popular room 1/k as often as the first ([benchmarks/capacity.py](../benchmarks/capacity.py))."""

_AFTER_WORKERS: Final = """\
- **One hot room** ends at one core of decisions, however many workers there are. Row locks end there earlier
  ([performance](performance.md), `hot`).
- **The number of partitions is fixed at the start** (`TOPIC_PARTITIONS`). Workers beyond it are idle. Each
  partition costs a cursor row for each consumer, and some files on each broker.

## The database

One PostgreSQL has the ledger: it is the part of which there cannot be two. It does little for a booking, since rows
arrive by COPY, a batch at a time, in one commit. So its write-ahead log, which a disk and a standby must take, is
what grows first."""

_AFTER_DATABASE: Final = """\
Guests' reads go to replicas ([ADR 0016](adr/0016-reads-on-replicas-are-never-old.md)). Search reads the memory of
the ingress ([ADR 0010](adr/0010-search-reads-from-memory.md)). The other roles divide the same partitions among
workers of their own.

## Several systems: shards of hotels

Beyond one database, or for regions that must not wait for each other, hotels are divided among several systems.
**Nothing of this is built.** This is what each part would need. A shard is a whole system, with topics
(`TOPIC_PREFIX`), a database, workers and ingress processes of its own. Nothing is decided across shards: no room,
booking, trip or promo code has two hotels."""

_SHARDS: Final = (
    (
        "hotels",
        (
            "A hotel is assigned to a shard at its creation. Each shard's ids of hotels and rooms begin at its "
            "number times 2^40, so that an id names its shard. To move a hotel, an operator stops its sale, "
            "exports its events and restores them in the other shard."
        ),
    ),
    (
        "routing",
        (
            "The load balancer reads the id of the hotel or room in the path or query. The ingress makes the ids "
            "of bookings: eight bits of their count, or of their hash, would name the shard. `POST "
            "/v1/bookings/init` has its room in the body, so clients would send the hotel in a header, or use the "
            "address that the hotel's page gives."
        ),
    ),
    (
        "search",
        "A front asks each shard for its first page, and merges the pages in the order that was asked for.",
    ),
    (
        "accounts",
        (
            "Accounts move to a service of their own. Tokens are checked without a look-up already, and bookings "
            "have only the account's id. Caps on an account's unpaid bookings count within a shard."
        ),
    ),
    (
        "payments",
        (
            "Nothing changes: objects at Stripe carry the mark of their installation, so shards may share an "
            "account ([ADR 0021](adr/0021-refunds-have-targets-and-objects-marks.md)). Each shard has a webhook "
            "endpoint."
        ),
    ),
    (
        "reports, statements, invoices",
        "Nothing changes: they are by hotel, and a hotel is in one shard.",
    ),
    (
        "operators",
        (
            "`innkeeper` runs with the settings of one shard. `lag` and `audit` run for each; no replay or "
            "restore concerns two."
        ),
    ),
    (
        "analysts",
        "Each shard has a topic of events. Schemas are the same, and ids differ.",
    ),
)


def scaling_page(generated: str) -> str:
    """Return docs/scaling.md."""
    workers = [f"{count} worker{'s' if count > 1 else ''}" for count in _WORKERS]
    parts = (
        "# Scaling",
        generated,
        _PARTS,
        table(("part", "us a booking: hot, spread", "bookings a second and core", "grows by"), _part_rows()),
        _OF_WORKERS.format(rate=rate_of_core(SPREAD.worker)),
        table(("rooms", "partitions", *workers), _worker_rows()),
        _AFTER_WORKERS,
        table(("bytes", "of a booking", "of 1,000 bookings a second in an hour"), _byte_rows()),
        _AFTER_DATABASE,
        table(("part", "with shards"), _SHARDS),
        "A shard that fails takes its hotels with it, and no others.",
    )
    return "\n\n".join(parts) + "\n"


def _part_rows() -> Iterator[tuple[str, ...]]:
    for part, grows_by in _GROWS_BY.items():
        hot, spread = getattr(HOT, part), getattr(SPREAD, part)
        yield part, f"{hot:g}, {spread:g}", f"{rate_of_core(spread):,.0f}", grows_by


def _worker_rows() -> Iterator[tuple[str, ...]]:
    for rooms, partitions in _SIZES:
        yield f"{rooms:,}", str(partitions), *(_rate(rooms, partitions, workers) for workers in _WORKERS)


def _rate(rooms: int, partitions: int, workers: int) -> str:
    rate = rate_of_workers(SPREAD, rooms=rooms, partitions=partitions, workers=workers)
    return f"{rate:,.0f} ({busiest_share(rooms=rooms, partitions=partitions, workers=workers):.0%})"


def _byte_rows() -> Iterator[tuple[str, ...]]:
    for what, count in BYTES.items():
        yield what, f"{count:,}", f"{count * 1_000 * 3_600 / 1e9:.1f} GB"
