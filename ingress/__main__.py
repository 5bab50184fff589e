"""`python -m ingress`: runs one ingress process until it is told to stop; `grant` gives an account a role."""

import asyncio
import gc
import logging
import os
import signal
import sys
from typing import Annotated

import typer
import uvloop
from aiohttp import web
from sqlalchemy.exc import OperationalError

from ingress.accounts.grants import GrantedRole, NoSuchAccount, grant
from ingress.application import create_app
from ingress.http.connections import Runner
from ingress.log.broker import WrongTopics
from ingress.settings import IngressSettings
from storage.settings import DatabaseSettings
from topics import telemetry
from topics.console import Json, print_json
from topics.operators import By, who
from topics.settings import KafkaSettings, refused_in_words
from topics.telemetry.settings import TelemetrySettings

log = logging.getLogger("ingress")

_DRAIN_SECONDS = 10.0
_BACKLOG = 1024
cli = typer.Typer(add_completion=False)


@cli.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    port: Annotated[int, typer.Option(help="The port; 0 takes a free one.")] = 8080,
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    name: Annotated[str, typer.Option(help="How this process calls itself in its log.")] = "ingress",
) -> None:
    """Take bookings over HTTP and put them on the log.

    Starts without broker and database and looks for them until they are there (/health/ready tells). SIGTERM and Ctrl-C
    let what was begun come to its end. Settings come from the environment: .env.example lists them.
    """
    if context.invoked_subcommand is not None:
        return
    settings, kafka, database = _settings()
    with refused_in_words():
        telemetry.start(TelemetrySettings(), "ingress", name)
    # The client's own complaints about a broker that is away say nothing that ours do not.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    raise typer.Exit(uvloop.run(_serve(settings, kafka, database, host, port)))


@cli.command("grant")
def grant_command(
    email: Annotated[str, typer.Argument(help="The account's e-mail address, in whatever letters.")],
    role: Annotated[GrantedRole, typer.Argument(help="The role.")],
    *,
    by: By = None,
    as_json: Json = False,
) -> None:
    """Give an account a role, and end. It counts from the account's next login or refresh on.

    Exit status: 0 the account has the role; 67 nobody has signed up with this address; 69 the database is away.
    """
    with refused_in_words():
        database = DatabaseSettings()
    try:
        is_new = uvloop.run(grant(database, email, role, by=who(by)))
    except NoSuchAccount:
        sys.stderr.write(f"Nobody has signed up as {email}.\n")
        raise typer.Exit(os.EX_NOUSER) from None
    except OperationalError as error:
        sys.stderr.write(f"The database is away: {error.orig}\n")
        raise typer.Exit(os.EX_UNAVAILABLE) from None
    if as_json:
        print_json([{"email": email, "role": role, "changed": is_new}])
    elif is_new:
        print(f"{email} is {role} from the next login or refresh on.")
    else:
        print(f"{email} is {role} already.")


async def _serve(
    settings: IngressSettings, kafka: KafkaSettings, database: DatabaseSettings, host: str, port: int
) -> int:
    stopped: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def stop(status: int) -> None:
        if not stopped.done():
            stopped.set_result(status)

    def failed(error: BaseException) -> None:
        if isinstance(error, WrongTopics):
            log.critical("%s", error)
            stop(os.EX_CONFIG)
        else:
            log.critical("stopped by what nobody foresaw", exc_info=error)
            stop(os.EX_SOFTWARE)

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop, os.EX_OK)
    app = create_app(settings, kafka, database, failed=failed)
    runner = Runner(app, drain_seconds=_DRAIN_SECONDS)
    await runner.setup()
    # What has been loaded by now stays; the collector need not walk through it again and again.
    gc.collect()
    gc.freeze()
    try:
        await web.TCPSite(runner, host, port, backlog=_BACKLOG).start()
        bound_host, bound_port = runner.addresses[0][:2]
        log.info("listening at http://%s:%s", bound_host, bound_port)
        return await stopped
    finally:
        log.info("stopping")
        await runner.cleanup()


def _settings() -> tuple[IngressSettings, KafkaSettings, DatabaseSettings]:
    """Read the settings; what is wrong with them is said in plain sentences, without a value in them."""
    with refused_in_words():
        settings, kafka, database = IngressSettings(), KafkaSettings(), DatabaseSettings()
    try:
        settings.refuse_default_database(database)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        raise typer.Exit(os.EX_CONFIG) from None
    return settings, kafka, database


if __name__ == "__main__":
    cli(prog_name="python -m ingress")
