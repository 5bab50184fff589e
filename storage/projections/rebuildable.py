"""The read models that can be made anew: the consumer that keeps each, its tables, and how events become its rows."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

from psycopg import AsyncConnection
from sqlalchemy import Table as SqlTable

from storage import models
from storage.projections import daily_report, room_nights, timeline
from storage.projections.positioned_event import Heard
from topics.envelope import wire_names

Fold: TypeAlias = Callable[[AsyncConnection, Sequence[Heard]], Awaitable[None]]


@dataclass(frozen=True)
class Projection:
    """`name` is its consumer's in `log_cursor`; `fold` writes into the tables that the search path finds first.

    `takes`: what events of these names make of the rows is all that there is in them.
    """

    name: str
    tables: tuple[SqlTable, ...]
    takes: frozenset[str]
    fold: Fold

    @property
    def schema(self) -> str:
        """Where its tables are made anew."""
        return f"{SCHEMAS}{self.name}"


#: What the names of schemas in which something is made anew begin with.
SCHEMAS: Final = "rebuild_"


def _tables(*of: type[models.Table]) -> tuple[SqlTable, ...]:
    return tuple(cast("SqlTable", each.__table__) for each in of)


PROJECTIONS: Final[Mapping[str, Projection]] = {
    each.name: each
    for each in (
        Projection("booking_timeline", _tables(models.BookingTimeline), wire_names(timeline.TAKES), timeline.fold),
        Projection(
            "room_nights",
            _tables(models.RoomNight, models.RoomNightChange, models.HotelMinPrice),
            wire_names(room_nights.TAKES),
            room_nights.fold,
        ),
        Projection(
            "daily_report",
            _tables(models.ReportedStay, models.DailyReport),
            wire_names(daily_report.TAKES),
            daily_report.fold,
        ),
    )
}
