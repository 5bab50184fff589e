"""The length and the number of a benchmark's runs."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Extent:
    """The length of one run in seconds, how many runs give a median, how many kills, restarts, or pauses a worst case.

    `records` surround the booking that is explained; of the trace the first `commands` are replayed, None for all.
    `alone`: the row-lock baseline and the idle agent are left out, and only our own cost is measured.
    """

    seconds: float = 8.0
    runs: int = 3
    kills: int = 6
    pauses: int = 3
    records: int = 1_000_000
    commands: int | None = None
    alone: bool = False

    @property
    def warm_up_seconds(self) -> float:
        """The seconds of load before each run, which do not count."""
        return max(1.0, self.seconds / 4)
