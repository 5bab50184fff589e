"""Reads the read models' tables in the ledger's snapshot, and compares them with the rows that the events give."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import msgspec
import psycopg

from operators.audit.report import Check, Report

#: The rows of one table: values by key, both as the report prints them.
Reads: TypeAlias = dict[str, tuple[Any, ...]]

_ENCODE = msgspec.json.Encoder(order="sorted").encode


@dataclass(frozen=True, kw_only=True)
class ReadModels:
    """The tables in one snapshot. `applied`: by projection and partition the sequence of the last event applied."""

    applied: dict[str, dict[int, int]]
    tables: dict[str, Reads]


_COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "booking_timeline": ("event_id", "type", "time", "causation", "event"),
    "room_night": (
        "hotel_id",
        "total_count",
        "taken_count",
        "price_minor",
        "surge_milli",
        "closed",
        "currency",
        "allowance_count",
        "blocked_count",
    ),
    "room_night_change": ("room_id", "first_night", "end_night"),
    "hotel_min_price": ("min_price_minor", "currency"),
    # Without `payment_intent`: 0.1.0 left it out, and the deductions show whether the right one was taken.
    "reported_stay": (
        "hotel_id",
        "check_in",
        "check_out",
        "rooms_count",
        "amount_minor",
        "currency",
        "night_amounts_minor",
        "deductions",
        "refunds",
        "closings",
        "night_deductions_minor",
        "kept_minor",
        "freed_from",
    ),
    "reported_trip": ("payment_intent", "payments", "leg_ends", "refunds", "deductions", "closings"),
    "daily_report": ("arrivals", "staying", "nights", "revenue_minor", "fees_minor", "currency"),
    "money_movement": (
        "hotel_id",
        "time",
        "kind",
        "payment_intent",
        "object_id",
        "amount_minor",
        "change_minor",
        "currency",
        "pays_booking",
    ),
}
# Without its positions, a row from before 0.1.0 is not on the log.
_OF_BOOKING: Final = "concat('booking ', booking_id, ', partition ', partition, ', sequence ', sequence)"
_KEYS: Final[Mapping[str, str]] = {
    "booking_timeline": _OF_BOOKING,
    "room_night": "'room ' || room_id || ', night ' || date",
    "room_night_change": "'partition ' || partition || ', position ' || position",
    "hotel_min_price": "'hotel ' || hotel_id || ', night ' || date",
    "reported_stay": "'booking ' || booking_id",
    "reported_trip": "'trip ' || trip_id",
    "daily_report": "'hotel ' || hotel_id || ', night ' || date",
    "money_movement": _OF_BOOKING,
}
#: Of each partition the changes of nights at so many positions up to the newest are kept; older ones may be left.
KEPT_CHANGES: Final = 100_000
_EXPRESSIONS: Final = {
    "time": "round(extract(epoch from time) * 1000)::bigint",
    **{name: f"{name}::text" for name in ("first_night", "end_night", "check_in", "check_out", "freed_from")},
}

# The generations of a topic continue one sequence, so the highest of them is the last.
_APPLIED: Final = """
select consumer, partition, max(sequence) from log_cursor where topic = %s group by consumer, partition
"""


async def lock_tables(connection: psycopg.AsyncConnection[Any]) -> None:
    """Keep rebuilds from replacing the tables until the transaction ends.

    Call it before the transaction's first query: in an older snapshot a table that was replaced would look empty.
    """
    await connection.execute(f"lock table {', '.join(_KEYS)} in access share mode".encode())


async def read_models(connection: psycopg.AsyncConnection[Any], events: str) -> ReadModels:
    """Return the tables; `events` is the topic's name on the broker."""
    applied: dict[str, dict[int, int]] = {}
    async for consumer, partition, sequence in await connection.execute(_APPLIED, [events]):
        applied.setdefault(consumer, {})[partition] = sequence
    return ReadModels(applied=applied, tables={table: await _rows(connection, table) for table in _KEYS})


async def _rows(connection: psycopg.AsyncConnection[Any], table: str) -> Reads:
    columns = ", ".join(_EXPRESSIONS.get(name, name) for name in _COLUMNS[table])
    query = f"select {_KEYS[table]}, {columns} from {table}"  # noqa: S608 - made of the names above
    if table == "room_night_change":
        newest = f"select partition, max(position) as newest from {table} group by partition"  # noqa: S608 - a name above
        query += f" join ({newest}) as positions using (partition) where position > newest - {KEPT_CHANGES}"
    rows = await connection.execute(query.encode())
    if table == "booking_timeline":
        return {key: (*values, content(event)) async for key, *values, event in rows}
    return {key: tuple(values) async for key, *values in rows}


def content(event: Any) -> int:
    """Return a hash of an event's data that does not depend on the order of its fields."""
    return hash(_ENCODE(event))


def compare_read_models(expected: Mapping[str, Reads], written: Mapping[str, Reads], report: Report) -> None:
    """Report every row that differs from the row that the events give."""
    for table, columns in _COLUMNS.items():
        for key, row in expected[table].items():
            there = written[table].get(key)
            if there is None:
                report.add(Check.READ_MODELS_MATCH_EVENTS, f"{table}, {key}: on the log but not in the read model")
            elif there != row:
                report.add(Check.READ_MODELS_MATCH_EVENTS, f"{table}, {key}: {_differences(columns, row, there)}")
        for key in written[table].keys() - expected[table].keys():
            report.add(Check.READ_MODELS_MATCH_EVENTS, f"{table}, {key}: in the read model but not on the log")


def _differences(columns: tuple[str, ...], expected: tuple[Any, ...], written: tuple[Any, ...]) -> str:
    return ", ".join(
        f"{column} is another one"
        if column == "event"
        else f"{column} is {there!r} in the read model and {here!r} by the log"
        for column, here, there in zip(columns, expected, written, strict=True)
        if here != there
    )
