"""Who operates the system, and what they did to it: the one writer and reader of `operator_action`."""

import getpass
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """Something that an operator did, as `record` was told of it; `at` by the database's clock."""

    at: datetime
    who: str
    action: str
    target: str
    details: Mapping[str, Any]


def who(by: str | None = None) -> str:
    """Return who does this: the name given, or else the login name."""
    if by is not None and by.strip():
        return by.strip()
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        # A container may run as a user that nobody gave a name.
        return f"uid {os.getuid()}"


async def record(
    connection: AsyncConnection, *, who: str, action: str, target: str, details: Mapping[str, Any] | None = None
) -> None:
    """Write down what an operator does, in the caller's transaction.

    `action` is the command's words (`dead-letters replay`), `target` what it is done to, `details` JSON.
    """
    await connection.execute(
        "insert into operator_action (who, action, target, details) values (%s, %s, %s, %s)",
        (who, action, target, Jsonb(dict(details or {}))),
    )


async def listed(connection: AsyncConnection[Any], *, since: datetime | None = None) -> list[Action]:
    """Return what was done, the newest first. Raises psycopg.Error."""
    found = await connection.execute(
        "select at, who, action, target, details from operator_action"
        " where %(since)s::timestamptz is null or at >= %(since)s order by id desc",
        {"since": since},
    )
    return [
        Action(at=at, who=who, action=action, target=target, details=details)
        for at, who, action, target, details in await found.fetchall()
    ]
