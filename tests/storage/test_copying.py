"""Rows that are inserted by COPY are read again as they were."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
from psycopg.types.json import Json, Jsonb

from storage.copying import copy_rows
from storage.database import connect
from storage.settings import DatabaseSettings

_COLUMNS = {
    "id": "uuid",
    "night": "date",
    "made_at": "timestamptz",
    "amounts": "int8[]",
    "kept": "jsonb",
    "sale": "json",
}
_ID, _NIGHT, _MADE_AT = UUID(int=7), date(2030, 5, 1), datetime(2030, 1, 1, 12, 0, 0, 250, tzinfo=UTC)


@pytest.mark.parametrize(
    ("amounts", "value", "read"),
    [
        ([10_700, -1, 2**63 - 1], ({"name": "Zürich"}, None), ([10_700, -1, 2**63 - 1], {"name": "Zürich"})),
        ([0], ([date(2030, 1, 1)], msgspec.json.encode), ([0], ["2030-01-01"])),
        ([], ({"a": None}, lambda _: '{"a": 2}'), ([], {"a": 2})),
        (None, None, (None, None)),
    ],
)
async def test_a_copied_row_is_read_as_it_was(
    database: DatabaseSettings,
    amounts: list[int] | None,
    value: tuple[Any, Callable[[Any], str | bytes] | None] | None,
    read: tuple[Any, ...],
) -> None:
    policy, sale = (None, None) if value is None else (Jsonb(*value), Json(*value))
    async with await connect(database, "test") as connection:
        columns = ", ".join(f"{name} {type}" for name, type in _COLUMNS.items())
        await connection.execute(f"create temporary table copied ({columns})".encode())
        await copy_rows(connection, "copied", _COLUMNS, [(_ID, _NIGHT, _MADE_AT, amounts, policy, sale)] * 2)
        rows = await (await connection.execute("select * from copied")).fetchall()
    assert rows == [(_ID, _NIGHT, _MADE_AT, *read, read[-1])] * 2
