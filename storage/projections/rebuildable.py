"""The read models that can be rebuilt: the consumer that keeps each, its tables, and how events become its rows."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, LiteralString, TypeAlias, cast

from psycopg import AsyncConnection
from sqlalchemy import Table as SqlTable

from storage import models
from storage.projections import daily_report, money_movements, night_changes, room_nights, timeline
from storage.projections.positioned_event import PositionedEvent
from topics.envelope import message_types

Apply: TypeAlias = Callable[[AsyncConnection, Sequence[PositionedEvent]], Awaitable[None]]


@dataclass(frozen=True)
class Projection:
    """One read model.

    Attributes:
        name: its consumer's name in `log_cursor`.
        tables: its tables; no other consumer writes them.
        event_types: the message types, in all versions, of the events that change its rows.
        apply: writes events into the tables that the search path finds first.
        compared: by table, the query of the rows that a rebuild compares, if not all; `{0}` is the table's name.
    """

    name: str
    tables: tuple[SqlTable, ...]
    event_types: frozenset[str]
    apply: Apply
    compared: Mapping[str, LiteralString] = field(default_factory=dict)

    @property
    def schema(self) -> str:
        """The schema in which its tables are rebuilt."""
        return f"{SCHEMAS}{self.name}"


#: The beginning of the names of schemas in which a read model is rebuilt.
SCHEMAS: Final = "rebuild_"


def _tables(*of: type[models.Table]) -> tuple[SqlTable, ...]:
    return tuple(cast("SqlTable", each.__table__) for each in of)


PROJECTIONS: Final[Mapping[str, Projection]] = {
    each.name: each
    for each in (
        Projection(
            "booking_timeline", _tables(models.BookingTimeline), message_types(timeline.EVENTS_APPLIED), timeline.apply
        ),
        Projection(
            "room_nights",
            _tables(models.RoomNight, models.RoomNightChange, models.HotelMinPrice),
            message_types(room_nights.EVENTS_APPLIED),
            room_nights.apply,
            {models.RoomNightChange.__tablename__: night_changes.KEPT},
        ),
        Projection(
            "daily_report",
            _tables(models.ReportedStay, models.ReportedTrip, models.DailyReport),
            message_types(daily_report.EVENTS_APPLIED),
            daily_report.apply,
        ),
        Projection(
            "money_movements",
            _tables(models.MoneyMovement),
            message_types(money_movements.EVENTS_APPLIED),
            money_movements.apply,
        ),
    )
}
