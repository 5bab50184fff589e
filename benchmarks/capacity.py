"""The limits of each part of the system, computed from measured costs: rooms, partitions, workers, databases.

A worker decides the commands of its partitions, and a room has one partition. So the rate of a role is that of its
busiest worker, whose share of all bookings `busiest_share` finds: rooms are put on partitions by the hash that the log
uses, and are booked by Zipf's law (the k-th most popular room is booked 1/k as often as the first).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from topics.kafka.partitions import partition_of

#: A part that is busy for more of its time than this makes its callers wait.
USED_SHARE: Final = 0.7


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """The CPU time of each part for one booking that is requested and decided, in microseconds of one core."""

    ingress: float
    worker: float
    kafka: float
    postgres: float


#: docs/performance.md, `make bench ARGS=--write-docs` on 2026-11-23: 2 cores of an AMD EPYC, everything on one machine.
HOT: Final = Costs(ingress=138, worker=105, kafka=32, postgres=27)
SPREAD: Final = Costs(ingress=160, worker=104, kafka=39, postgres=28)

#: Bytes of one booking of `spread`, requested and decided, on 2026-11-30: the write-ahead log and the files' growth.
BYTES: Final[Mapping[str, int]] = MappingProxyType(
    {"write-ahead log": 4_070, "booking and its indexes": 1_640, "booking.commands": 610, "booking.events": 1_620}
)


def rate_of_core(microseconds: float) -> float:
    """Return how many bookings a second one core carries, at `USED_SHARE`."""
    return USED_SHARE * 1e6 / microseconds


def busiest_share(*, rooms: int, partitions: int, workers: int) -> float:
    """Return the share of all bookings that the busiest worker decides.

    Partitions are assigned in turn: worker 0 has 0, `workers`, 2 * `workers` and so on. More workers than partitions
    are idle.

    Args:
        rooms: the rooms on sale, at least 1; their ids are 1, 2, 3 and so on, in the order of their popularity.
        partitions: of the topic of commands.
        workers: of the role `reservations`, at least 1.
    """
    load = [0.0] * workers
    for room_id in range(1, rooms + 1):
        load[partition_of(b"%d" % room_id, partitions) % workers] += 1 / room_id
    return max(load) / sum(load)


def rate_of_workers(costs: Costs, *, rooms: int, partitions: int, workers: int) -> float:
    """Return how many bookings a second the workers decide before the busiest of them is at `USED_SHARE` of a core."""
    return rate_of_core(costs.worker) / busiest_share(rooms=rooms, partitions=partitions, workers=workers)
