"""The log of operators' actions: the one writer and reader of `operator_action`."""

import getpass
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from psycopg import AsyncConnection
from psycopg.rows import tuple_row
from psycopg.types.json import Jsonb

#: The source of the commands that follow from operators' actions.
SOURCE: Final = "innkeeper/operators"
#: More digits than these may be no bigint, so no row of ours.
_MAX_DIGITS: Final = 18


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """One action of an operator, as `record` wrote it; `id` is its row's, `at` the database's time (UTC)."""

    id: int
    at: datetime
    who: str
    action: str
    target: str
    details: Mapping[str, Any]

    @property
    def actor(self) -> str:
        """Return the actor that an envelope names for this action: `operator/17`."""
        return f"operator/{self.id}"


def id_of_actor(actor: str) -> int | None:
    """Return the action's id, of an actor that `Action.actor` made; None for another actor."""
    kind, _, id = actor.partition("/")
    return int(id) if kind == "operator" and id.isascii() and id.isdigit() and len(id) <= _MAX_DIGITS else None


def operator_name(by: str | None = None) -> str:
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
) -> Action:
    """Insert an operator's action in the caller's transaction, and return it.

    `action` is the command's words (`dead-letters replay`), `target` names the object of the action, `details` is JSON.
    """
    details = dict(details or {})
    inserted = await connection.cursor(row_factory=tuple_row).execute(
        "insert into operator_action (who, action, target, details) values (%s, %s, %s, %s) returning id, at",
        (who, action, target, Jsonb(details)),
    )
    row = await inserted.fetchone()
    assert row is not None
    id, at = row
    return Action(id=id, at=at, who=who, action=action, target=target, details=details)


async def list_actions(connection: AsyncConnection[Any], *, since: datetime | None = None) -> list[Action]:
    """Return the actions since a time, the newest first. Raises psycopg.Error."""
    found = await connection.execute(
        "select id, at, who, action, target, details from operator_action"
        " where %(since)s::timestamptz is null or at >= %(since)s order by id desc",
        {"since": since},
    )
    return [
        Action(id=id, at=at, who=who, action=action, target=target, details=details)
        for id, at, who, action, target, details in await found.fetchall()
    ]
