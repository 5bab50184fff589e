"""`python -m sandbox.kafka`: fetch the broker's jars, or run one broker in the foreground."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from sandbox.kafka import jars
from sandbox.kafka.broker import Kafka, archive_classes
from sandbox.kafka.secured import SecuredKafka

app = typer.Typer(no_args_is_help=True, help=__doc__)


@app.command()
def fetch() -> None:
    """Fetch Apache Kafka's jars with Maven into the sandbox's cache, unless they are there.

    A machine without Java or Maven gets a message and no error, for Tansu can be used instead of Kafka.
    """
    reason = jars.available()
    if reason is not None:
        print(f"{reason} Until then the sandbox can only use Tansu.", file=sys.stderr)
        return
    jars.fetch()
    asyncio.run(archive_classes())
    print(f"Apache Kafka {jars.version()} is in {jars.folder()}", file=sys.stderr)


@app.command()
def up(
    data: Annotated[Path, typer.Option(help="The folder that holds the broker's data.")],
    port: Annotated[int | None, typer.Option(help="Default: a free one.")] = None,
    secured: Annotated[
        bool, typer.Option("--secured", help="Ask everybody for a name; each role's variables are in DATA/clients.")
    ] = False,
) -> None:
    """Run one broker until Ctrl-C; prints its address when it answers."""
    asyncio.run(_run(SecuredKafka(data, port) if secured else Kafka(data, port)))


async def _run(kafka: Kafka) -> None:
    stop = asyncio.Event()
    for how in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(how, stop.set)
    async with kafka:
        print(kafka.url, flush=True)
        await stop.wait()


if __name__ == "__main__":
    app()
