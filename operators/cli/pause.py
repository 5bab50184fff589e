"""Pauses a role on all machines at once, resumes it, and prints the pauses."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any, Final, TypeVar

from operators.cli.commands.options import Role
from operators.cli.console import err, fail, kafka_settings, open_database, out, print_json, run
from storage import pauses
from storage.operator_log import operator_name
from storage.pauses import Connection, Pause

T = TypeVar("T")


_MEANWHILE: Final = {
    Role.RESERVATIONS: "bookings are still accepted, and none of them is decided",
    Role.PAYMENTS: "no Checkout Session is opened or closed, nothing is refunded, and webhooks wait on the log",
    Role.PROJECTIONS: "search, timelines and reports stay as they are",
    Role.EXPIRY: "holds whose time is over keep their rooms, and no nights go on sale",
    Role.COORDINATION: "bookings with a promo code wait, no use of a code comes back, and no invoice is issued",
    Role.RECONCILIATION: "a lost webhook stays lost, and money at Stripe is not compared with the bookings",
}

_NOT_DONE: Final = "Nothing was done: add --yes to do it."


def pause_command(role: Role, *, reason: str | None, by: str | None, yes: bool, as_json: bool) -> None:
    """Pause a role, or without `yes` only print what would be done."""

    async def begin(connection: Connection) -> tuple[Pause | None, bool]:
        if yes:
            return await pauses.begin(connection, role, who=operator_name(by), reason=reason)
        pause = await pauses.of(connection, role)
        return pause, pause is None

    pause, changes = _run(begin)
    _print_json(role, pause, changes=changes, done=yes, as_json=as_json)
    if not yes:
        would = f"{role} would be paused until `innkeeper resume {role}`: {_MEANWHILE[role]}"
        err.print(f"{would if pause is None else f'{pause} already'}.", markup=False)
        fail(_NOT_DONE)
    if not as_json:
        err.print(f"{pause}." if changes else f"{pause}; nothing was changed.", markup=False)


def resume_command(role: Role, *, by: str | None, yes: bool, as_json: bool) -> None:
    """End a role's pause, or without `yes` only print what would be done."""

    async def end(connection: Connection) -> tuple[Pause | None, bool]:
        before = await pauses.of(connection, role)
        if not yes:
            return before, before is not None
        changes = await pauses.end(connection, role, who=operator_name(by))
        return None, changes

    pause, changes = _run(end)
    _print_json(role, pause, changes=changes, done=yes, as_json=as_json)
    if not yes:
        if pause is not None:
            err.print(f"{pause}. All its processes would continue where they stopped.", markup=False)
        else:
            err.print(f"{role} is not paused.", markup=False)
        fail(_NOT_DONE)
    if not as_json:
        err.print(f"{role} continues." if changes else f"{role} was not paused.", markup=False)


def paused_command(*, as_json: bool) -> None:
    """Print which roles are paused, since when, by whom and why."""
    found = _run(pauses.list_pauses)
    if as_json:
        print_json(_plain(pause) for pause in found)
        return
    for pause in found:
        out.print(f"{pause}.", markup=False)
    if not found:
        err.print("No role is paused.")


def _print_json(role: Role, pause: Pause | None, *, changes: bool, done: bool, as_json: bool) -> None:
    """Print the state of the role; `changes`: whether this call changed it or, without --yes, would."""
    if as_json:
        print_json(
            [{"role": role, "done": done, "changes": changes, "pause": None if pause is None else _plain(pause)}]
        )


def _plain(pause: Pause) -> dict[str, Any]:
    return {**asdict(pause), "at": pause.at.isoformat()}


def _run(work: Callable[[Connection], Awaitable[T]]) -> T:
    async def with_database() -> T:
        async with open_database() as connection:
            return await work(connection)

    return run(with_database(), kafka_settings())
