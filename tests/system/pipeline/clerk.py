"""A seeded clerk who writes commands straight onto the log, and keeps a list of those that the broker acknowledged."""

import asyncio
import contextlib
import json
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Final
from uuid import UUID

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from tests.system.pipeline.log import command_headers

FIRST_NIGHT: Final = date(2030, 3, 1)
NIGHTS: Final = 10
COMMANDS_TOPIC: Final = "booking.commands"
#: Rooms by number, and how many of each there are: one that everybody wants, some scarce, some plentiful.
STOCK: Final = {1: 400, 2: 40, 3: 40, 4: 5_000, 5: 5_000, 6: 5_000, 7: 5_000, 8: 5_000}
_HOT_SHARE: Final = 0.3
#: One in so many bookings holds its rooms for a few seconds only, to be ended by the clerk.
_SHORT_HOLD_SECONDS: Final = 2


@dataclass
class Clerk:
    """Writes commands at a pace, again and again until the broker has each of them."""

    kafka_url: str
    chance: random.Random
    acknowledged: Counter[str] = field(default_factory=Counter)
    poisoned: Counter[str] = field(default_factory=Counter)
    _bookings: list[dict[str, Any]] = field(default_factory=list)
    _producer: AIOKafkaProducer | None = None
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _sent: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)

    async def open_rooms(self) -> None:
        """Put all rooms on sale."""
        for room, total in STOCK.items():
            await self._write(
                self._new_id(),
                "inventory.open.v1",
                {
                    "room_id": room,
                    "hotel_id": 1,
                    "first_night": FIRST_NIGHT.isoformat(),
                    "end_night": (FIRST_NIGHT + timedelta(days=NIGHTS)).isoformat(),
                    "total_count": total,
                    "price_minor": 10_000,
                    "currency": "EUR",
                },
            )

    async def work(self, seconds: float, per_second: float) -> None:
        """Write commands for so long; return when the broker has acknowledged every one."""
        clock = asyncio.get_running_loop().time
        began, done = clock(), 0
        while (now := clock() - began) < seconds:
            while done < now * per_second:
                self._start(self._one_command())
                done += 1
            await asyncio.sleep(0.02)
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Let the broker go."""
        for task in self._tasks:
            task.cancel()
        if self._producer is not None:
            await self._drop(self._producer)

    def _start(self, work: tuple[str, str, dict[str, Any]] | bytes) -> None:
        task = asyncio.create_task(self._poison(work) if isinstance(work, bytes) else self._write(*work))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.result()

    def _one_command(self) -> tuple[str, str, dict[str, Any]] | bytes:
        dice = self.chance.random()
        if dice < 0.02 and self._sent:
            return self.chance.choice(self._sent)
        if dice < 0.022 and self.poisoned.total() < 6:
            return self.chance.randbytes(20)
        if dice < 0.6 or not self._bookings:
            command = self._reservation()
        else:
            command = self._follow_up(self.chance.choice(self._bookings[-300:]))
        self._sent.append(command)
        return command

    def _reservation(self) -> tuple[str, str, dict[str, Any]]:
        chance = self.chance
        first = chance.randrange(NIGHTS - 1)
        nights = chance.randint(1, min(3, NIGHTS - first))
        room = 1 if chance.random() < _HOT_SHARE else chance.choice(list(STOCK))
        check_in = FIRST_NIGHT + timedelta(days=first)
        fields = {
            "room_id": room,
            "booking_id": self._new_id(),
            "user_id": chance.randint(1, 50),
            "hotel_id": 1,
            "check_in": check_in.isoformat(),
            "check_out": (check_in + timedelta(days=nights)).isoformat(),
            "rooms_count": chance.choice([1, 1, 1, 2]),
            "hold_seconds": _SHORT_HOLD_SECONDS if chance.random() < 0.2 else 900,
            "terms": "at_hotel" if chance.random() < 0.2 else "prepaid",
        }
        self._bookings.append(fields)
        return self._new_id(), "booking.reserve.v1", fields

    def _follow_up(self, booking: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
        named = {"room_id": booking["room_id"], "booking_id": booking["booking_id"]}
        mine = {**named, "user_id": booking["user_id"]}
        message_type, fields = self.chance.choice(
            [
                ("booking.cancel.v1", {**mine, "reason": "by_guest"}),
                ("booking.expire_hold.v1", named),
                ("booking.expire_hold.v1", named),
                ("booking.add_guests.v1", {**mine, "guest_ids": [booking["user_id"]]}),
                ("booking.add_guests.v1", {**mine, "guest_ids": [booking["user_id"], booking["user_id"] + 1000]}),
                ("booking.request_payment.v1", mine),
            ]
        )
        return self._new_id(), message_type, fields

    def _new_id(self) -> str:
        return str(UUID(int=self.chance.getrandbits(128), version=4))

    async def _write(self, id: str, message_type: str, fields: dict[str, Any]) -> None:
        """Produce a command until the broker acknowledges it; a failed try may be on the log all the same."""
        headers = command_headers(id, message_type, fields)
        await self._produce(str(fields["room_id"]).encode(), json.dumps(fields).encode(), headers)
        self.acknowledged[id] += 1

    async def _poison(self, garbage: bytes) -> None:
        await self._produce(b"%d" % self.chance.choice(list(STOCK)), garbage, [])
        self.poisoned[garbage.hex()] += 1

    async def _produce(self, key: bytes, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        while True:
            producer: AIOKafkaProducer | None = None
            try:
                producer = await self._open()
                await producer.send_and_wait(COMMANDS_TOPIC, value, key=key, headers=headers)
            except (KafkaError, OSError, asyncio.CancelledError) as error:
                if isinstance(error, asyncio.CancelledError) and (me := asyncio.current_task()) and me.cancelling():
                    raise
                if producer is not None:
                    await self._drop(producer)
                await asyncio.sleep(0.2)
            else:
                return

    async def _open(self) -> AIOKafkaProducer:
        async with self._opening:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self.kafka_url, acks="all", enable_idempotence=True, request_timeout_ms=5000
                )
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer

    async def _drop(self, producer: AIOKafkaProducer) -> None:
        """Forget a producer that failed, so that the next try has a new one."""
        if id(producer) != id(self._producer):
            return
        self._producer = None
        with contextlib.suppress(KafkaError, OSError, TimeoutError):
            async with asyncio.timeout(5):
                await producer.stop()
