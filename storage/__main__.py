"""`innkeeper migrate`, or `python -m storage migrate`: brings the database to the newest schema, once it answers."""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

import psycopg

from storage.database import connect_sync
from storage.settings import DatabaseSettings
from topics.kafka.settings import exit_on_invalid_settings

#: Exit status: the database does not answer.
_COULD_NOT: Final = 2
#: The command's help, without its options.
DESCRIPTION: Final = """\
Bring the database to the newest schema.

Repeatable, and safe to run from several processes at once: one migrates, the others wait and find nothing to do.

Exit status: 0 the schema is the newest; 2 the database does not answer."""
#: The words after the program's name, as the command's help shows them.
EXAMPLES: Final = ("migrate", "migrate --wait 60", "migrate --json")


def main(arguments: Sequence[str] | None = None, program: str = "python -m storage") -> int:
    """Run one command and return its exit status."""
    options = parser(program).parse_args(arguments)
    return _migrate(options.wait, as_json=options.as_json)


def parser(program: str) -> argparse.ArgumentParser:
    """Return the command line's parser; `program` is the name that its help shows."""
    command_line = argparse.ArgumentParser(program, description="The database of the bookings.")
    examples = "\n".join(["Examples:", *(f"  {program} {each}" for each in EXAMPLES)])
    migrate = command_line.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "migrate",
        help="Bring the database to the newest schema.",
        description=DESCRIPTION,
        epilog=f"{examples}\n\nDATABASE_URL names the database.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    wait = "How long to wait for a database that does not answer yet."
    migrate.add_argument("--wait", type=float, default=0.0, metavar="SECONDS", help=wait)
    migrate.add_argument("--json", action="store_true", dest="as_json", help="One JSON object, for programs.")
    return command_line


def _migrate(wait_seconds: float, *, as_json: bool) -> int:
    # Alembic and SQLAlchemy take most of a second to load, and `--help` needs neither.
    from storage.migrate import upgrade
    from storage.projections.shadow import sweep

    with exit_on_invalid_settings():
        settings = DatabaseSettings()
    if not _answers(settings, wait_seconds):
        return _COULD_NOT
    migrated = upgrade()
    asyncio.run(sweep(settings))
    if as_json:
        print(json.dumps(asdict(migrated), separators=(",", ":")))
    elif migrated.was == migrated.now:
        _print(f"The schema was the newest already, v{migrated.now}.")
    else:
        was = "nothing" if migrated.was is None else f"v{migrated.was}"
        _print(f"The schema was brought from {was} to v{migrated.now}, the newest.")
    return 0


def _answers(settings: DatabaseSettings, seconds: float) -> bool:
    """Return whether the database answers within some seconds; write the reason to stderr where it does not."""
    deadline = time.monotonic() + seconds
    is_waiting = False
    while True:
        try:
            connect_sync(settings, "innkeeper migrate").close()
        except psycopg.OperationalError as error:
            reason = str(error).strip()
            if time.monotonic() >= deadline:
                _print(f"The database does not answer: {reason}")
                return False
            if not is_waiting:
                _print(f"Waiting up to {seconds:g} s for the database: {reason}")
                is_waiting = True
            time.sleep(min(0.25, max(0.0, deadline - time.monotonic())))
        else:
            return True


def _print(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")


if __name__ == "__main__":
    sys.exit(main())
