"""How long a benchmark runs, and how often."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Extent:
    """The length of one run in seconds, how many runs give a median, how many kills a worst case."""

    seconds: float = 8.0
    runs: int = 3
    kills: int = 6

    @property
    def warm_up_seconds(self) -> float:
        """How long each run is preceded by load that does not count."""
        return max(1.0, self.seconds / 4)
