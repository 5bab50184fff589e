"""Prints the record of what operators did, with the time and the operator."""

import json
from datetime import UTC
from typing import Any, Final

from operators.cli.console import err, kafka_settings, moment, open_database, out, print_json, run
from operators.cli.tables import NOT_KNOWN, Field, Row, fitted
from storage import operator_log
from storage.operator_log import Action
from topics.times import to_the_second

_ACTION_FIELDS: Final = (
    Field(name="id", right=True),
    Field(name="at"),
    Field(name="who", yields=1),
    Field(name="action"),
    Field(name="target", yields=2),
    Field(name="details", yields=3, prose=True),
)


def actions_command(*, since: str | None, as_json: bool) -> None:
    """Print what operators did, the newest first."""
    start = None if since is None else moment(since)

    async def find() -> list[Action]:
        async with open_database() as connection:
            return await operator_log.list_actions(connection, since=start)

    found = run(find(), kafka_settings())
    if as_json:
        return print_json(_as_object(action) for action in found)
    if not found:
        when = "" if start is None else f" since {to_the_second(start)}"
        return err.print(f"No operator has done anything{when}, as far as this database knows.")
    return out.print(fitted(_ACTION_FIELDS, [_row(action) for action in found], out.width))


def _as_object(action: Action) -> dict[str, Any]:
    return {
        "id": action.id,
        "at": action.at.astimezone(UTC).isoformat(timespec="milliseconds"),
        "who": action.who,
        "action": action.action,
        "target": action.target,
        "details": action.details,
    }


def _row(action: Action) -> Row:
    details = ", ".join(f"{name}={_short(value)}" for name, value in action.details.items() if value is not None)
    what = (action.who, action.action, action.target, details or NOT_KNOWN)
    return Row(cells=(str(action.id), to_the_second(action.at), *what))


def _short(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
