"""The log of operators' actions: the one writer and reader of `operator_action`."""

import getpass
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import scalar_row
from psycopg.types.json import Jsonb


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """One action of an operator, as `record` wrote it; `at` is the database's time (UTC)."""

    at: datetime
    who: str
    action: str
    target: str
    details: Mapping[str, Any]


def who(by: str | None = None) -> str:
    """Return the operator's name: the one that is given, or else the login name."""
    if by is not None and by.strip():
        return by.strip()
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        # A container may run under a user id that has no name.
        return f"uid {os.getuid()}"


async def record(
    connection: AsyncConnection, *, who: str, action: str, target: str, details: Mapping[str, Any] | None = None
) -> datetime:
    """Insert an operator's action in the caller's transaction; return its time (UTC).

    `action` is the command's words (`dead-letters replay`), `target` names the object of the action, `details` is JSON.
    """
    made = await connection.cursor(row_factory=scalar_row).execute(
        "insert into operator_action (who, action, target, details) values (%s, %s, %s, %s) returning at",
        (who, action, target, Jsonb(dict(details or {}))),
    )
    at: datetime | None = await made.fetchone()
    assert at is not None
    return at


async def listed(connection: AsyncConnection[Any], *, since: datetime | None = None) -> list[Action]:
    """Return the actions since a time, the newest first. Raises psycopg.Error."""
    found = await connection.execute(
        "select at, who, action, target, details from operator_action"
        " where %(since)s::timestamptz is null or at >= %(since)s order by id desc",
        {"since": since},
    )
    return [
        Action(at=at, who=who, action=action, target=target, details=details)
        for at, who, action, target, details in await found.fetchall()
    ]
