"""Shows one booking's whole way: starts everything, books and pays as a guest would, and shows each hop."""

import asyncio
import contextlib
import os
import random
import secrets
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Final
from uuid import UUID

import aiohttp
from pydantic import SecretStr
from rich.console import Console
from rich.markup import escape

from sandbox.brokers import Broker
from sandbox.client import Unexpected
from sandbox.guest import Guest
from sandbox.hops import Hops, LogFollower, following
from sandbox.host import Host
from sandbox.seed import HOTELS, OWNER_EMAIL, OWNER_PASSWORD, NotOpened, SeededRoom, seed
from sandbox.system import Plan, System
from sandbox.up import INTERRUPTED, in_foreground, possible_broker
from storage.settings import DatabaseSettings
from topics.kafka.settings import KafkaSettings

CARD: Final = "4242424242424242"
_DEMO_NIGHTS: Final = 2
_BOOKED_WITHIN_SECONDS: Final = 300.0
#: The variables that operators' commands read.
_REACHED_BY: Final = ("KAFKA_URL", "DATABASE_URL", "STRIPE_API_KEY", "STRIPE_API_URL")


def demo(*, port: int | None, data: Path, leave: bool) -> int:
    """Start everything, book a room as a guest would over HTTP, and show each hop; return the exit status.

    `port` is the ingress' (None: a free one), `data` the folder of all data; `leave`: end after the booking. Raises
    typer.Exit when this machine can run no broker, or no PostgreSQL.
    """
    console = Console()
    # The servers that the shell's KAFKA_URL and DATABASE_URL name belong to somebody: the demo books nothing there.
    broker = possible_broker(Broker.KAFKA, own_servers=True)
    seen = {"METRICS_PORT": "0", **({"LOG_FORMAT": form} if (form := os.environ.get("LOG_FORMAT")) else {})}
    plan = Plan(folder=data, broker=broker.value, port=port, quiet=True, own_servers=True, environment=seen)
    console.print("Starting the broker, PostgreSQL, a stand-in for Stripe, the workers and the ingress ...")
    console.print(f"[dim]their logs are in {escape(str(data / 'logs'))}[/]", highlight=False)
    show = partial(_show, console=console, began=monotonic(), leave=leave)
    return asyncio.run(in_foreground(System(plan), show, interrupted=INTERRUPTED))


async def _show(system: System, *, console: Console, began: float, leave: bool) -> int:
    kafka = KafkaSettings(kafka_url=system.kafka_url, kafka_idempotent=system.idempotent)
    database = DatabaseSettings(database_url=SecretStr(system.database_url))
    console.print(f"All parts answer after {monotonic() - began:.1f} s.")
    try:
        async with asyncio.timeout(_BOOKED_WITHIN_SECONDS):
            rooms = await seed(kafka, database)
            console.print(f"{len(HOTELS)} hotels with {len(rooms)} rooms are described, a year of nights is on sale.")
            booking_id = await _book(system, kafka, rooms[0], Hops(console))
    except (Unexpected, NotOpened, aiohttp.ClientError) as failure:
        console.print(f"\n[bold red]Not confirmed:[/] {escape(str(failure))}")
        return 1
    except TimeoutError:
        console.print(f"\n[bold red]Not confirmed[/] within {_BOOKED_WITHIN_SECONDS:.0f} s; see {system.logs}")
        return 1
    console.print("\n[bold green]Confirmed.[/]")
    if not leave:
        _print_addresses(system, console, rooms[0], booking_id)
        await _until_interrupted()
    return 0


async def _book(system: System, kafka: KafkaSettings, room: SeededRoom, hops: Hops) -> UUID:
    """Be a guest from the account to the confirmed booking; the booking's id."""
    async with aiohttp.ClientSession() as http, following(kafka, hops) as follower:
        guest = Guest(http, system.url, hops)
        hops.chapter("Before booking")
        hops.begin()
        await guest.sign_up_and_log_in(f"guest-{secrets.token_hex(4)}@example.com", secrets.token_urlsafe(12))
        guest_id = await guest.save_guest("Grace Guest")
        # Some nights of the coming year, so that the demo can be repeated for a long time before one is sold out.
        check_in = datetime.now(UTC).date() + timedelta(days=random.randint(7, 350))
        stay = _stay(room, check_in)
        await guest.search(room.city, stay)
        await guest.look_at(room.hotel_id)
        hops.chapter(f"Booking: {room.type} at {room.hotel_name}, {_DEMO_NIGHTS} nights")
        hops.begin()
        booking_id = await _book_and_pay(guest, follower, hops, stay, guest_id)
        hops.chapter(f"The other side: the host of {room.hotel_name}")
        host = Host(http, system.url, hops)
        await host.log_in(OWNER_EMAIL, OWNER_PASSWORD)
        await host.read_report(room.hotel_id, check_in, check_in + timedelta(days=_DEMO_NIGHTS - 1))
        await host.set_surge(room.id, check_in + timedelta(days=_DEMO_NIGHTS), "1.25")
        return booking_id


async def _book_and_pay(
    guest: Guest, follower: LogFollower, hops: Hops, stay: Mapping[str, object], guest_id: int
) -> UUID:
    booking_id = await guest.book(stay, known=follower.follow)
    await guest.poll_until(booking_id, "RESERVED")
    await follower.until("booking.reserved.v1")
    hops.chapter("The guest")
    await guest.add_guest(booking_id, guest_id)
    hops.chapter("Paying")
    page_url = await guest.ask_for_payment(booking_id)
    await guest.pay(page_url, CARD)
    await guest.poll_until(booking_id, "CONFIRMED")
    await follower.until("booking.confirmed.v1")
    await guest.read_history(booking_id, "booking.confirmed.v1")
    return booking_id


def _stay(room: SeededRoom, check_in: date) -> dict[str, object]:
    return {
        "hotel_id": room.hotel_id,
        "room_id": room.id,
        "check_in_date": check_in.isoformat(),
        "check_out_date": (check_in + timedelta(days=_DEMO_NIGHTS)).isoformat(),
        "rooms_count": 1,
    }


async def _until_interrupted() -> None:
    """Wait for Ctrl-C or SIGTERM, which is how a demo that has shown everything is meant to end."""
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()


def _print_addresses(system: System, console: Console, room: SeededRoom, booking_id: UUID) -> None:
    """Print what there is to try while everything is up."""
    reached = {name: system.environment()[name] for name in _REACHED_BY}
    ours = f'PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"'
    places = {
        "The API": f"{system.url}/docs",
        "A host's login": f"{OWNER_EMAIL}, {OWNER_PASSWORD!r}",
        "Try": f"curl -s {system.url}/v1/hotels/{room.hotel_id}/info",
        "Logs": str(system.logs),
        "Metrics": f"grep -h 'metrics at' {shlex.quote(str(system.logs))}/*.log",
        "As an operator": f"export {ours} {' '.join(f'{name}={shlex.quote(reached[name])}' for name in reached)}",
        "and then": f"innkeeper explain {booking_id}",
    }
    console.print("\n[bold]Everything stays up until Ctrl-C.[/]")
    for name, place in places.items():
        console.print(f"{name:<18} {escape(place)}", highlight=False, soft_wrap=True)
