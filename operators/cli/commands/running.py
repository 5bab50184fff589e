"""`innkeeper ingress`, `worker`, `topics`, `migrate`, `sandbox`: each runs one part and imports no other."""

from typing import Annotated

import typer

from operators.cli.commands.options import PASSES_ON, Role, examples, group

app = group("Run parts of the system.")


@app.command(
    "ingress",
    epilog=examples("innkeeper ingress", "innkeeper ingress --host 0.0.0.0 --port 8080 --name ingress-1"),
)
def ingress_command(
    port: Annotated[int, typer.Option(help="The port; 0 takes a free one.")] = 8080,
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    name: Annotated[str, typer.Option(help="The process's name in its log.")] = "ingress",
) -> None:
    """Take bookings over HTTP and put them on the log.

    Starts without broker and database and connects as soon as they answer (/health/ready is 200 then). After SIGTERM or
    Ctrl-C it answers the requests that it has accepted, and ends. Settings come from the environment: .env.example
    lists them.

    Exit status: 0 stopped; 78 the settings or the topics are wrong; 70 an unexpected error.
    """
    from ingress.process import run

    raise typer.Exit(run(host=host, port=port, name=name))


@app.command(
    "worker",
    epilog=examples("innkeeper worker reservations", "innkeeper worker payments --name payments-1"),
)
def worker_command(
    role: Annotated[Role, typer.Argument(help="The worker's role.")],
    name: Annotated[
        str | None,
        typer.Option(
            help="A stable name, unique among the workers of the role: after a crash the broker keeps this worker's"
            " partitions for a while instead of assigning them to another. While another process of this name is at"
            " work, this one waits 15 seconds and ends with status 70 (not of expiry and reconciliation, of which one"
            " leads)."
        ),
    ] = None,
) -> None:
    """Run one worker of a role. Several of a role may run at once, anywhere; they share its partitions.

    - **reservations** decides every command and keeps bookings, inventory, promo codes and documents.
    - **payments** opens and closes Checkout Sessions, turns Stripe's webhooks into commands, and refunds.
    - **projections** keeps the read models.
    - **expiry** ends holds whose time is over and keeps a year of nights on sale; one of several does it.
    - **coordination** connects rooms, trips, promo codes and hotels' documents: it sends to one what follows from an
      event of another.
    - **reconciliation** makes lost webhooks good, compares the money at Stripe with the bookings and mends what is
      certain; one of several does it.

    Exit status: 0 stopped by SIGTERM or Ctrl-C; 70 the worker cannot go on; 78 the settings are wrong.
    """
    from workers.process import run

    run(role, name)


def _topics(incomplete: str) -> list[str]:
    from topics.__main__ import SUBCOMMANDS

    return [name for name in SUBCOMMANDS if name.startswith(incomplete)]


@app.command("topics", context_settings={**PASSES_ON})
def topics_command(
    arguments: Annotated[list[str] | None, typer.Argument(metavar="COMMAND ...", autocompletion=_topics)] = None,
) -> None:
    """List, create and check the topics; print schemas and access rights."""
    from topics.__main__ import main

    raise typer.Exit(main(arguments or [], program="innkeeper topics"))


@app.command("migrate", context_settings={**PASSES_ON})
def migrate_command(arguments: Annotated[list[str] | None, typer.Argument(metavar="...")] = None) -> None:
    """Bring the database to the newest schema."""
    from storage.__main__ import main

    raise typer.Exit(main(["migrate", *(arguments or [])], program="innkeeper"))


def sandbox_app() -> typer.Typer:
    """Return the group `innkeeper sandbox`, whose commands are in the sandbox."""
    from sandbox.__main__ import app

    return app
