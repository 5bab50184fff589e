"""Runs the local stand-in for Stripe: `python -m sandbox.stripe --port 12111 --data FOLDER`."""

import asyncio
import logging
import signal
from pathlib import Path
from typing import Annotated

import typer

from sandbox.stripe.server import running_stripe
from sandbox.stripe.till import Settings

log = logging.getLogger("sandbox.stripe")


def main(  # noqa: PLR0917 - one parameter for each option.
    data: Annotated[Path, typer.Option(help="Folder for the books; they outlive a restart.")],
    port: Annotated[int, typer.Option(help="Port to serve at; 0 takes a free one.")] = 0,
    host: Annotated[str, typer.Option(help="Address to serve at.")] = "127.0.0.1",
    webhook_url: Annotated[str | None, typer.Option(help="Where events are posted; none are without it.")] = None,
    webhook_secret: Annotated[str, typer.Option(help="Secret that signs the events.")] = Settings.webhook_secret,
    key: Annotated[str | None, typer.Option(help="The API key to insist on; else any sk_test_ or rk_test_.")] = None,
    event: Annotated[
        list[str] | None,
        typer.Option(help="A type of event to deliver (repeat it); every type without it."),
    ] = None,
    public_url: Annotated[
        str | None, typer.Option(help="How a browser reaches this server, if not by its address.")
    ] = None,
    late_payment_seconds: Annotated[float, typer.Option(help="How long a delayed payment takes.")] = 5.0,
    late_refund_seconds: Annotated[
        float, typer.Option(help="How long a refund takes that does not succeed at once.")
    ] = 5.0,
) -> None:
    """Stand in for Stripe: its API, its payment page and its webhooks; no money is real."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    settings = Settings(
        webhook_url=webhook_url,
        webhook_secret=webhook_secret,
        key=key,
        events=frozenset(event or ()),
        public_url=public_url,
        late_payment_seconds=late_payment_seconds,
        late_refund_seconds=late_refund_seconds,
    )
    asyncio.run(_serve(data, settings, host, port))


async def _serve(folder: Path, settings: Settings, host: str, port: int) -> None:
    async with running_stripe(folder, settings, host=host, port=port) as running:
        stop = running.till.stopped
        for name in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(name, stop.set)
        log.info("ready %s", running.url)
        await stop.wait()


if __name__ == "__main__":
    typer.run(main)
