"""The questions of docs/analytics.md: DuckDB's answers from the files, and the database's."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb
import psycopg
import pytest

from storage.settings import DatabaseSettings

ROOT: Final = Path(__file__).parents[3]
PAGE: Final = ROOT / "docs" / "analytics.md"
#: Of a long answer the page shows the beginning.
SHOWN_ROWS: Final = 6

Table = tuple[list[str], list[tuple[Any, ...]]]


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question: its file in examples/, and SQL that asks the ledger's tables for the same rows."""

    name: str
    ledger: str

    @property
    def sql(self) -> str:
        return (ROOT / "examples" / f"{self.name}.sql").read_text()


OCCUPANCY: Final = Question(
    name="occupancy",
    ledger="""
    select hotel_id, date, sum(booked_count), sum(total_count), 100.0 * sum(booked_count) / sum(total_count)
    from inventory group by hotel_id, date
    """,
)
LEAD_TIME: Final = Question(
    name="lead_time",
    ledger="""
    select hotel_id, count(*), percentile_cont(0.5) within group (order by days), avg(days),
           100.0 * sum((days < 7)::int) / count(*), 100.0 * sum((days > 179)::int) / count(*)
    from (select hotel_id, check_in - (created_at at time zone 'UTC')::date as days
          from booking where status <> 'REJECTED') as stays
    group by hotel_id
    """,
)
CANCELLATIONS: Final = Question(
    name="cancellations",
    ledger="""
    select to_char(check_in, 'YYYY-MM') as month, count(*), sum((status = 'CANCELLED')::int),
           100.0 * sum((status = 'CANCELLED')::int) / count(*)
    from booking where status not in ('REJECTED', 'EXPIRED') group by month
    """,
)
REVENUE: Final = Question(
    name="revenue",
    ledger="""
    select to_char(check_in + number::int - 1, 'YYYY-MM') as month, currency, sum(rooms_count),
           sum(night.amount_minor), 0
    from booking cross join lateral unnest(night_amounts_minor) with ordinality as night (amount_minor, number)
    where status = 'CONFIRMED' group by month, currency
    """,
)
QUESTIONS: Final = (OCCUPANCY, LEAD_TIME, CANCELLATIONS, REVENUE)


def asked(sql: str) -> Table:
    """Return what DuckDB answers: the names of the columns, and the rows."""
    answer = duckdb.sql(sql)
    assert answer is not None
    return answer.columns, answer.fetchall()


def check_against(database: DatabaseSettings) -> dict[str, Table]:
    """Ask every question in this folder; return the answers once the ledger gives the same."""
    answers = {question.name: asked(question.sql) for question in QUESTIONS}
    with psycopg.connect(database.conninfo()) as connection:
        for question in QUESTIONS:
            expected = connection.execute(question.ledger.encode()).fetchall()
            _, found = answers[question.name]
            assert found
            # Which of two rows with nearly the same share goes first may differ in the last place of a number.
            assert [_comparable(row) for row in sorted(found)] == [_comparable(row) for row in sorted(expected)]
    return answers


def _comparable(row: Sequence[Any]) -> list[Any]:
    """Numbers of both databases, up to a rounded last place."""
    return [
        value if isinstance(value, str) or hasattr(value, "year") else pytest.approx(float(value), abs=0.051)
        for value in row
    ]


def as_text(table: Table) -> str:
    """Return the answer as the page shows it."""
    columns, rows = table
    shown = (
        [tuple(map(str, row)) for row in rows[:SHOWN_ROWS]]
        if len(rows) > 100
        else [tuple(map(str, row)) for row in rows]
    )
    return "\n".join("| " + " | ".join(line) + " |" for line in (tuple(columns), ("---",) * len(columns), *shown))
