"""Messages that come twice, late and in another order, and records that nobody can read.

**Copies.** An injector beside the brokers reads what the product writes to its topics, and writes copies: some at once,
some seconds later, behind others that followed the original, and at last the oldest records of the log, the last first.
More than that no broker of ours does to a message. It delivers at least once, so a record may be on the log twice (a
producer whose acknowledgement was lost; an outbox that was published again) and may be read twice. It does not lose or
withhold an acknowledged record, and within a partition it changes no order, so an injector cannot take a record away
either. A message is truly delayed only before it is on the log: webhooks are, by the stand-in for Stripe. A worker that
was away reads a command late; that is another row (F6), and the command is decided as any other, by the log's time.

**Poison.** Commands and webhooks that cannot be read become dead letters with their reasons, and their neighbours are
decided. On `booking.events` only the product writes, and an event is never skipped: there a record that cannot be read
ends each reader with status 70 until an operator decides, as does a message of an unknown version on any topic. That is
no row, because it does not end by itself; `tests/workers/runtime/test_batch_processor.py` has tests of both.
"""

import asyncio
import heapq
import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid4

from aiokafka import AIOKafkaConsumer

from tests.faults.groups import ONE_BROKER
from tests.faults.row import Promise, Row, Scene
from tests.faults.scene import first_confirmed
from tests.support.waiting import wait_until
from tests.system.money.desk import Desk
from tests.system.path.guest import House, open_house
from tests.system.pipeline.load import Room
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS, STRIPE_WEBHOOKS, Topic
from topics.envelope import Envelope, Outgoing, command_record, encode_headers
from topics.kafka.positions import LogPosition
from topics.kafka.producer import Producer
from topics.messages.commands import ReserveStay

COPYING_SECONDS: Final = 15.0
COPIED_SHARE: Final = 0.7
#: The longest delay of a copy while the injector runs.
MAX_DELAY_SECONDS: Final = 5.0
#: The oldest records of each topic that are copied at the end.
OLD_RECORDS: Final = 1_000
WEBHOOK_DELAY_SECONDS: Final = 5.0
COPIED_TOPICS: Final[tuple[Topic, ...]] = (BOOKING_COMMANDS, BOOKING_EVENTS, STRIPE_WEBHOOKS)
_FETCH_MS: Final = 50
_READ_MS: Final = 500

#: Larger than any command that is decided, and small enough for a broker.
LARGE_BYTES: Final = 5 * 2**20
_MAX_SECONDS: Final = 60.0

COPIED: Final = "a copy of a record was put on each topic"
REPEATED: Final = "a repeated command got the answer of a repetition"
DELAYED: Final = "the stand-in delayed and doubled webhooks"
LETTERS: Final = "innkeeper dead-letters showed each record that nobody can read, with its reason"
NEIGHBOURS: Final = "the neighbours of such records were decided"
PAID: Final = "a payment was confirmed by a webhook behind those that nobody can read"


class Copy(NamedTuple):
    """A record that is due to be written again, at a time of the event loop's clock."""

    due_at: float
    number: int
    record: Outgoing


@dataclass
class Injector:
    """Chooses which records are copied, and when; a copy is not copied again."""

    chance: random.Random
    ours: set[LogPosition] = field(default_factory=set)
    copied: Counter[str] = field(default_factory=Counter)
    _due: list[Copy] = field(default_factory=list)
    _numbers: Iterable[int] = field(default_factory=count)

    def see(self, record: Any, now: float) -> None:
        """Look at a record of the log, which `now` decides about."""
        if LogPosition(record.topic, record.partition, record.offset) in self.ours:
            return
        if self.chance.random() < COPIED_SHARE:
            # Every second copy is made at once; the others come behind what followed their originals.
            delay = self.chance.choice([0.0, self.chance.uniform(0.0, MAX_DELAY_SECONDS)])
            heapq.heappush(self._due, Copy(now + delay, next(iter(self._numbers)), copy_of(record)))

    def take_due(self, now: float) -> list[Outgoing]:
        """Return the copies that are due, in the order in which they became it."""
        due = []
        while self._due and self._due[0].due_at <= now:
            due.append(heapq.heappop(self._due).record)
        return due

    async def write(self, producer: Producer, copies: Sequence[Outgoing]) -> None:
        """Write copies, and remember where they are."""
        if copies:
            self.ours.update(await producer.send_all(copies))
            self.copied.update(copy.topic for copy in copies)


def copy_of(record: Any) -> Outgoing:
    """Return a record with the same bytes, for the same partition."""
    return Outgoing(record.topic, record.key or b"", record.value or b"", list(record.headers), record.partition)


async def copies_everything(scene: Scene) -> None:
    """Copy records as they come, and then the oldest ones in reverse order; delay and double webhooks meanwhile."""
    async with open_house(scene.system) as house:
        injector, topics = Injector(scene.chance), [house.kafka.topic(topic) for topic in COPIED_TOPICS]
        before = await _repetitions(house)
        await _delay_webhooks(house)
        try:
            await _copy_as_they_come(house, injector, topics)
        finally:
            left = await house.stripe("GET", "/_sandbox/faults")
            await house.stripe("DELETE", "/_sandbox/faults")
        scene.causes[DELAYED] += sum(_MANY - rule["times"] for rule in left)
        old_seconds = await _copy_the_oldest(house, injector, topics)

        async def repetitions_are_answered() -> bool:
            scene.causes[REPEATED] = await _repetitions(house) - before
            return scene.causes[REPEATED] > 0

        await wait_until(repetitions_are_answered, _MAX_SECONDS)
    note_copies(scene, injector.copied, topics)
    scene.figures["the latest copy"] = f"{old_seconds:.0f} s after its original"


def note_copies(scene: Scene, copied: Mapping[str, int], topics: Sequence[str]) -> None:
    """Note how much was copied; the cause was seen only if each topic has copies."""
    scene.causes[COPIED] += min(copied.get(topic, 0) for topic in topics)
    scene.figures["copies"] = ", ".join(f"{copied.get(topic, 0)} on {topic}" for topic in topics)


_MANY: Final = 1_000_000


async def _delay_webhooks(house: House) -> None:
    delay = {"match": "checkout.session.*", "fault": "webhook_delay", "seconds": WEBHOOK_DELAY_SECONDS, "times": _MANY}
    double = {"match": "*", "fault": "webhook_duplicate", "times": _MANY}
    await house.stripe("POST", "/_sandbox/faults", json=[delay, double])


async def _repetitions(house: House) -> int:
    select = "select count(*) as known from booking_timeline where type = 'booking.command_repeated.v1'"
    return int((await house.rows(select))[0]["known"])


async def _copy_as_they_come(house: House, injector: Injector, topics: Sequence[str]) -> None:
    """Read and copy in turn: a copy is known as one of ours before it can be read."""
    clock = asyncio.get_running_loop().time
    consumer = AIOKafkaConsumer(
        *topics, bootstrap_servers=house.kafka.kafka_url, group_id=None, auto_offset_reset="latest"
    )
    await consumer.start()
    try:
        await consumer.seek_to_end()
        ends_at = clock() + COPYING_SECONDS
        while clock() < ends_at + MAX_DELAY_SECONDS:
            for records in (await consumer.getmany(timeout_ms=_FETCH_MS)).values():
                for record in records:
                    if clock() < ends_at:
                        injector.see(record, clock())
            await injector.write(house._producer, injector.take_due(clock()))
    finally:
        await consumer.stop()


async def _copy_the_oldest(house: House, injector: Injector, topics: Sequence[str]) -> float:
    """Copy the oldest records of each topic, the last of them first; return the age of the oldest in seconds."""
    oldest: list[Any] = []
    for topic in topics:
        consumer = AIOKafkaConsumer(
            topic, bootstrap_servers=house.kafka.kafka_url, group_id=None, auto_offset_reset="earliest"
        )
        await consumer.start()
        try:
            await consumer.seek_to_beginning()
            found: list[Any] = []
            while len(found) < OLD_RECORDS and (batches := await consumer.getmany(timeout_ms=_READ_MS)):
                found += [record for records in batches.values() for record in records]
            oldest += found[:OLD_RECORDS]
        finally:
            await consumer.stop()
    oldest.sort(key=lambda record: record.timestamp, reverse=True)
    await injector.write(house._producer, [copy_of(record) for record in oldest])
    return float(datetime.now(UTC).timestamp() - oldest[-1].timestamp / 1000)


class Poison(NamedTuple):
    """A record that nobody can read, and a part of the reason that operators are shown."""

    record: Outgoing
    reason: str


def poison_commands(topic: str, room: Room, other_room_id: int) -> list[Poison]:
    """Return commands of one room that nobody can read."""
    key = b"%d" % room.id
    whole = _stay(topic, room)
    padded = json.dumps({**json.loads(whole.value), "padding": "x" * LARGE_BYTES}).encode()
    return [
        Poison(whole._replace(value=b'{"room_id": '), "Undecodable: booking.reserve.v1"),
        Poison(whole._replace(headers=_headers("booking.dance.v1")), "UnknownType: booking.dance.v1"),
        Poison(_event(topic, room, key), "booking.expired.v1 does not belong on booking.commands"),
        Poison(whole._replace(key=b"%d" % other_room_id), "is not decided in this partition"),
        Poison(whole._replace(value=padded), "larger than"),
        Poison(whole._replace(headers=[]), "header 'ce_id' is missing"),
    ]


def poison_webhooks(topic: str, room: Room) -> list[Poison]:
    """Return webhooks in the partition of one room that nobody can read."""
    key = b"%d" % room.id
    bodies: dict[bytes, str] = {
        b"{": "no event of Stripe's",
        b'{"id": "evt_1", "type": "checkout.session.completed", "livemode": false}': "no event of Stripe's",
        b'{"id": "evt_2", "type": "checkout.session.completed", "livemode": false, "data": {"object": {}}}': (
            "checkout.session.completed evt_2"
        ),
        b'"' + b"x" * LARGE_BYTES: "no event of Stripe's",
        b"\xff\xfe": "no event of Stripe's",
    }
    return [Poison(Outgoing(topic, key, body, []), reason) for body, reason in bodies.items()]


def _stay(topic: str, room: Room, booking_id: UUID | None = None) -> Outgoing:
    check_in = datetime.now(UTC).date() + timedelta(days=20)
    command = ReserveStay(
        room_id=room.id,
        booking_id=booking_id or uuid4(),
        user_id=1,
        hotel_id=room.hotel_id,
        check_in=check_in,
        check_out=check_in + timedelta(days=1),
        hold_seconds=5,
    )
    return command_record(topic, command, id=str(uuid4()), source="test", time=datetime.now(UTC))


def _headers(message_type: str) -> list[tuple[str, bytes]]:
    now = datetime.now(UTC)
    return encode_headers(Envelope(id=str(uuid4()), type=message_type, source="test", subject="poison", time=now))


def _event(topic: str, room: Room, key: bytes) -> Outgoing:
    fields = {"room_id": room.id, "booking_id": str(uuid4())}
    return Outgoing(topic, key, json.dumps(fields).encode(), _headers("booking.expired.v1"))


async def poisons_each_topic(scene: Scene) -> None:
    """Put records that nobody can read between commands and webhooks that everybody can."""
    async with open_house(scene.system) as house:
        desk = Desk(house)
        # Guests who try whether the system works ask for the first of them.
        room, other = scene.town.rooms[-1], scene.town.rooms[-2]
        commands = house.kafka.topic(BOOKING_COMMANDS)
        neighbours: list[UUID] = []
        expected: dict[str, str] = {}
        for poison in poison_commands(commands, room, other.id):
            neighbours += [uuid4(), uuid4()]
            before, after = (_stay(commands, room, booking) for booking in neighbours[-2:])
            _, position, _ = await house._producer.send_all([before, poison.record, after])
            expected[str(position)] = poison.reason
        for poison in poison_webhooks(house.kafka.topic(STRIPE_WEBHOOKS), room):
            (position,) = await house._producer.send_all([poison.record])
            expected[str(position)] = poison.reason
        for booking in neighbours:
            scene.town.promises.booked(str(booking), None)
        # Its webhooks are in the partition of those that nobody can read, behind them.
        if await first_confirmed(scene.town, "payer") is not None:
            scene.causes[PAID] += 1
        await _until_decided(scene, house, neighbours)
        await _until_shown(scene, desk, expected)


async def _until_decided(scene: Scene, house: House, bookings: Sequence[UUID]) -> None:
    decided = "select count(*) as known from booking where id = any(%s)"

    async def all_are() -> bool:
        scene.causes[NEIGHBOURS] = (await house.rows(decided, bookings))[0]["known"]
        return scene.causes[NEIGHBOURS] == len(bookings)

    try:
        await wait_until(all_are, _MAX_SECONDS)
    except AssertionError:
        scene.problems.append(f"{scene.causes[NEIGHBOURS]} of {len(bookings)} neighbours were decided")


async def _until_shown(scene: Scene, desk: Desk, expected: Mapping[str, str]) -> None:
    problems: list[str] = []

    async def each_is() -> bool:
        status, out = await desk.operator("dead-letters", "list", "--json")
        lines = [line for line in out.splitlines() if line.startswith("{")]
        problems[:] = [out] if status else unexplained_letters(expected, map(json.loads, lines))
        return not problems

    try:
        await wait_until(each_is, _MAX_SECONDS)
        scene.causes[LETTERS] += len(expected)
    except AssertionError:
        scene.problems += problems
    scene.figures["records that nobody can read"] = str(len(expected))


def unexplained_letters(expected: Mapping[str, str], listed: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the records that are no dead letter, or one with another reason; both by their positions."""
    reasons = {letter["origin"]: letter["reason"] for letter in listed}
    wrong = []
    for origin, reason in expected.items():
        if origin not in reasons:
            wrong.append(f"{origin} is no dead letter")
        elif reason not in reasons[origin]:
            wrong.append(f"{origin} is a dead letter because of {reasons[origin]!r}, not {reason!r}")
    return wrong


ROWS: Final = (
    Row(
        id="F11",
        fault="duplicates, swaps and delays of any message",
        made_by="an injector that copies records between the topics, and a stand-in that delays and doubles webhooks",
        group=ONE_BROKER,
        promises=(
            Promise.EVERY_PROMISE_IS_KEPT,
            Promise.ONE_KEY_ONE_BOOKING,
            Promise.MONEY_IS_EXPLAINED,
            Promise.THE_LOG_HAS_NO_GAP,
            Promise.READ_MODELS_AGREE,
            Promise.TRIPS_ARE_WHOLE,
        ),
        breaks=copies_everything,
        max_wait_seconds=10.0,
        answers=frozenset(),
        causes=(COPIED, REPEATED, DELAYED),
    ),
    Row(
        id="F12",
        fault="poison: no JSON, unknown types, foreign types, wrong keys, no headers, 5 MB",
        made_by="a producer that writes such records to booking.commands and stripe.webhooks, between good ones",
        group=ONE_BROKER,
        promises=(
            Promise.DEAD_LETTERS_ARE_EXPLAINED,
            Promise.EVERY_PROMISE_IS_KEPT,
            Promise.MONEY_IS_EXPLAINED,
            Promise.IT_RECOVERS,
        ),
        breaks=poisons_each_topic,
        max_wait_seconds=10.0,
        answers=frozenset(),
        causes=(LETTERS, NEIGHBOURS, PAID),
    ),
)
