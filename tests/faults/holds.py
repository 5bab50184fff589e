"""The holds of stays and trips by the events of the log: each that nobody pays for ends soon after its deadline."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, NamedTuple

from tests.system.pipeline.log import Entry

#: A hold ends so long after its deadline at most, by the pace of expiry on a busy machine, and the fault beside it.
MARGIN_SECONDS: Final = 10.0
#: The events that begin a hold; those of changes have no end of their own on the log.
_BEGINS: Final = frozenset({"booking.reserved", "booking.trip_opened"})
#: The events after which a booking has no hold any more.
_ENDS: Final = frozenset({"booking.confirmed", "booking.cancelled", "booking.trip_rejected", "booking.expired"})


class Expired(NamedTuple):
    """A hold that ended unpaid, and how long after its deadline by the log's time."""

    booking: str
    late_seconds: float


@dataclass
class Holds:
    """The holds as the events so far leave them: their deadlines, by booking."""

    deadlines: dict[str, datetime] = field(default_factory=dict)

    def apply(self, events: Iterable[Entry]) -> list[Expired]:
        """Apply the next events of a partition; return the holds that they end unpaid."""
        expired = []
        for event in events:
            kind = event.type.rpartition(".")[0]
            if kind in _BEGINS and (deadline := event.body.get("hold_expires_at")) is not None:
                self.deadlines[event.body["booking_id"]] = datetime.fromisoformat(deadline)
            elif kind in _ENDS:
                booking = event.body["booking_id"]
                ended = self.deadlines.pop(booking, None)
                if ended is not None and kind == "booking.expired":
                    at = datetime.fromtimestamp(event.timestamp_ms / 1000, UTC)
                    expired.append(Expired(booking, (at - ended).total_seconds()))
        return expired


def ended_late(expired: Iterable[Expired], allowed_seconds: float) -> list[str]:
    """Return a sentence for each hold that ended so late that the fault does not explain it."""
    return [
        f"{booking} ended {late:.1f} s after its hold's deadline, {allowed_seconds:.0f} s are allowed"
        for booking, late in expired
        if late > allowed_seconds
    ]
