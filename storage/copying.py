"""Inserts rows by binary COPY, several times faster than INSERT."""

from collections.abc import Iterable, Mapping
from typing import Any

from psycopg import AsyncConnection


async def copy_rows(
    connection: AsyncConnection, table: str, columns: Mapping[str, str], rows: Iterable[tuple[Any, ...]]
) -> None:
    """Insert rows; `columns` maps their names, in order, to their types."""
    statement = f"copy {table} ({', '.join(columns)}) from stdin (format binary)"
    async with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(list(columns.values()))
        for row in rows:
            await copy.write_row(row)
