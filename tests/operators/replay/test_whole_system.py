"""Everything is replayed on a whole system: no booking, no night and no money is any different afterwards."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from aiokafka import TopicPartition

from sandbox.system import Plan, System
from storage import pauses
from tests.support.caps import WITHOUT_CAPS
from tests.support.waiting import wait_until
from tests.system.path.guest import Guest, House, Room, open_house
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS, CATALOGUE, STRIPE_WEBHOOKS
from topics.envelope import Outgoing
from topics.kafka.log_reader import end_offsets
from topics.kafka.producer import open_producer
from topics.messages.commands import ChangeInventory, ReserveStay

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.system, pytest.mark.timeout(900)]

POISON = b"\xff no command"


@dataclass(frozen=True)
class CommandResult:
    """A command's exit status and output."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    plan = Plan(
        folder=tmp_path_factory.mktemp("system"),
        partitions=4,
        own_servers=True,
        quiet=True,
        environment={"RATE_LIMITS": "false", **WITHOUT_CAPS},
    )
    async with System(plan) as system, open_house(system) as opened:
        yield opened


async def command(house: House, *arguments: str) -> CommandResult:
    """Run a command of `innkeeper`, as an operator does."""
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "operators",
        *arguments,
        env={**os.environ, **house.system.environment(), "LOGNAME": "ines"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await running.communicate()
    assert running.returncode is not None
    return CommandResult(running.returncode, out.decode(), err.decode())


async def make_bookings(house: House) -> None:
    """Make one booking of every kind: paid, paid and cancelled, expired, rejected, waiting for its payment."""
    guest, room, full = await house.guest(), await house.room(), await house.room(total=1)
    paid, cancelled, waiting = [await guest.booked(room, first) for first in (10, 20, 30)]
    pages = [await guest.checkout(booking) for booking in (paid, cancelled, waiting)]
    for booking, page in ((paid, pages[0]), (cancelled, pages[1])):
        await guest.pay(page)
        await guest.becomes(booking, "CONFIRMED")
    assert (await guest.ask("POST", f"/v1/bookings/{cancelled}/cancel")).status == 204
    await guest.booked(full)
    await refused(guest, full)
    expiring = ReserveStay(room_id=room.id, booking_id=uuid4(), **_stay(room), hold_seconds=1)
    await house.send(expiring)
    await house.eventually(
        "select count(*) = 1 as so from booking where id = %s and status = 'EXPIRED'", expiring.booking_id
    )
    await house.eventually("select count(*) = 1 as so from refund where status = 'succeeded'")
    await house.eventually("select count(*) = 1 as so from booking_timeline where type = 'booking.refunded.v1'")


async def refused(guest: Guest, room: Room) -> None:
    assert (await guest.book(room)).status == 409


def _stay(room: Room) -> dict[str, Any]:
    today = datetime.now(UTC).date()
    return {
        "hotel_id": room.hotel_id,
        "check_in": today + timedelta(days=40),
        "check_out": today + timedelta(days=42),
    }


async def everything(house: House) -> dict[str, Any]:
    """Return all that a replay must not change."""
    tables = {
        "booking": "select * from booking order by id",
        "inventory": "select * from inventory order by room_id, date",
        "guests": "select * from booking_guest order by 1, 2",
        "sessions": "select booking_id, attempt, status, session_id from checkout_session order by 1, 2",
        "refunds": "select payment_intent, status, refund_id, amount_minor from refund order by 1",
        "room_night": "select * from room_night order by room_id, date",
        "daily_report": "select * from daily_report order by hotel_id, date",
        "history": (
            "select booking_id, type, event from booking_timeline"
            " where type <> all('{booking.command_repeated.v1,booking.command_refused.v1}')"
            # Each partition has sequences of its own.
            " order by booking_id, sequence"
        ),
    }
    found = {name: await house.rows(query) for name, query in tables.items()}
    return {**found, "money": (await house.stripe("GET", "/_sandbox/ledger"))["payment_intents"]}


async def caught_up(house: House) -> None:
    """Wait until no consumer is behind, and the broker has all that followed."""

    async def so() -> bool:
        ends = await end_offsets(house.kafka, [house.kafka.topic(topic) for topic in CATALOGUE])
        reached = await house.rows("select topic, partition, least(applied, published) as at from log_cursor")
        return all(ends[TopicPartition(row["topic"], row["partition"])][1] == row["at"] + 1 for row in reached)

    await wait_until(so, message="no consumer is behind")
    # The consumers checked first may meanwhile have read records that the last one published.
    await wait_until(so, message="no consumer is behind")


@pytest.mark.long
async def test_everything_replayed_changes_nothing(house: House) -> None:
    await make_bookings(house)
    await caught_up(house)
    before = await everything(house)
    assert {row["status"] for row in before["booking"]} == {
        "CONFIRMED",
        "CANCELLED",
        "EXPIRED",
        "REJECTED",
        "PAYMENTS_PENDING",
        "RESERVED",
    }

    would = await command(house, "replay", "booking.commands", "--from", "1d")
    assert would.status == 1
    assert "Would send them again" in would.err
    for topic in ("booking.commands", "stripe.webhooks"):
        reported = await command(house, "replay", topic, "--from", "1d", "--yes", "--json")
        assert reported.status == 0, reported.err
        (summary,) = reported.json
        assert summary["sent"] == summary["records"] > 0
        assert summary["commands"] > 0
        assert (summary["changed"], summary["events"]) == (0, {})
    await caught_up(house)
    assert await everything(house) == before

    await replay_events(house, "projections", "booking_timeline", "daily_report")
    await replay_events(house, "payments", "payments")
    assert await everything(house) == before
    actions = await house.rows("select distinct who, action from operator_action where action like 'replay%%'")
    assert {(row["who"], row["action"]) for row in actions} == {("ines", "replay"), ("ines", "replay ended")}


async def replay_events(house: House, role: str, *consumers: str) -> None:
    """Let consumers of the role read all events again."""
    again = ("replay", "booking.events", "--from", "1d", "--yes", "--consumer")
    running = await command(house, *again, consumers[0])
    assert running.status == 1
    assert f"{role} runs. Pause it first" in running.err
    async with await house.connect() as connection:
        await pauses.begin(connection, role, who="ines", reason=None)
        # A pause that ends before the worker has asked for it never was.
        log = house.system.logs / f"{role}-1.log"
        await wait_until(lambda: f"{role} is paused since" in log.read_text(), message=f"{role} is held")
        for consumer in consumers:
            reported = await command(house, *again, consumer)
            assert reported.status == 0, reported.err
            assert "The effect: " in reported.err
            [cursor] = await house.rows(
                "select max(applied) as at from log_cursor where consumer = %s and topic = %s",
                consumer,
                house.kafka.topic(BOOKING_EVENTS),
            )
            assert cursor["at"] == -1
        await pauses.end(connection, role, who="ines")
    await caught_up(house)


async def test_changes_of_a_replay_are_counted(house: House) -> None:
    room = await house.room(price_minor=10_000)
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    for price_minor in (20_000, 30_000):
        await house.send(
            ChangeInventory(
                room_id=room.id, first_night=tomorrow, end_night=tomorrow + timedelta(days=1), price_minor=price_minor
            )
        )
    price = "select count(*) = 1 as so from room_night where price_minor = %s and room_id = %s and date = %s"
    await house.eventually(price, 30_000, room.id, tomorrow)
    await caught_up(house)
    of_the_room = ("--from-beginning", "--type", "inventory.change.v1", "--room", str(room.id), "--json")
    first = (await command(house, "tail", "booking.commands", *of_the_room)).json[0]

    refused = await command(house, "replay", "booking.commands", "--from", "1d", "--yes")
    assert refused.status == 1
    assert "2 of them are inventory.change.v1: they set prices" in refused.err
    offset = str(first["kafkaoffset"])
    one = ("--partition", str(first["kafkapartition"]), "--from", offset, "--to", offset, "--type", "*")
    reported = await command(house, "replay", "booking.commands", *one, "--yes", "--json")

    (summary,) = reported.json
    assert (summary["sent"], summary["changed"]) == (1, 1)
    assert list(summary["events"]) == ["inventory.changed.v1"]
    await house.eventually(price, 20_000, room.id, tomorrow)


async def test_poison_is_shown_and_replayed_and_comes_back(house: House) -> None:
    topics = [house.kafka.topic(topic) for topic in (BOOKING_COMMANDS, STRIPE_WEBHOOKS)]
    async with open_producer(house.kafka, client_id="test") as producer:
        await producer.send_all(
            [Outgoing(topic, b"7", POISON, [("ce_type", b"booking.reserve.v1")]) for topic in topics]
        )
    await house.eventually("select count(*) = 2 as so from dead_letter")

    async def listed() -> list[Any]:
        reported = (await command(house, "dead-letters", "list", "--json")).json
        # They are published after they are counted, each by its own worker.
        assert len(reported) == len(topics)
        return reported

    found = await wait_until(listed)
    assert {each["topic"] for each in found} == {"booking.commands", "stripe.webhooks"}
    for dead_letter in found:
        assert dead_letter["reason"]
        shown = await command(house, "dead-letters", "show", dead_letter["id"], "--json")
        assert shown.json[0]["value"] == f"hex {POISON.hex()}"
        replayed = await command(house, "dead-letters", "replay", dead_letter["id"], "--wait", "120", "--yes", "--json")
        assert replayed.status == 1
        assert replayed.json[0]["dead_letter_again"] == dead_letter["reason"]
        twice = await command(house, "dead-letters", "replay", dead_letter["id"], "--yes")
        assert "was replayed by ines" in twice.err
    await house.eventually("select count(*) = 4 as so from dead_letter")
    # A replay of everything leaves dead letters out.
    nothing = await command(house, "replay", "stripe.webhooks", "--from", "1d", "--type", "booking.*")
    assert nothing.status == 1
    assert "dead-letters list" in nothing.err
