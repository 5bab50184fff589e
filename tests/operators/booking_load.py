"""A load on eight rooms: guests book without a pause; workers decide and keep the read models meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import date, timedelta
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import psycopg
from aiokafka import AIOKafkaConsumer, TopicPartition
from msgspec.structs import replace

from operators.rebuild import PROJECTIONS
from storage.settings import DatabaseSettings
from tests.support.log import Log, all_partitions, open_log, open_processor
from tests.support.waiting import wait_until
from topics.catalogue import BOOKING_COMMANDS
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import (
    AddGuests,
    CancelBooking,
    ChangeInventory,
    ChangeStay,
    Command,
    ConfirmPayment,
    FailRefund,
    OpenInventory,
    RecordDispute,
    RecordRefund,
    RecordSession,
    RequestPayment,
    ReserveStay,
    WithdrawChange,
)
from topics.messages.values import DisputeResult, Terms
from workers import projections
from workers.reservations import handler
from workers.runtime.role import Role

FIRST = date(2027, 5, 1)
ROOMS = range(1, 9)
PRICE_MINOR = 90_00
TABLES = {
    table.name: ", ".join(column.name for column in table.primary_key.columns)
    for each in PROJECTIONS.values()
    for table in each.tables
}


class BookingLoad:
    """Eight rooms of two hotels, in several partitions. `keeps_booking` is the load."""

    def __init__(self, log: Log, database: DatabaseSettings) -> None:
        self.kafka = log.settings
        self.database = database
        self._log = log
        self._numbers = count(1)
        self._booked: list[tuple[int, UUID]] = []

    async def open(self) -> None:
        """Put nights on sale."""
        await self._log.send(
            *(
                OpenInventory(
                    room_id=room,
                    hotel_id=1 + room % 2,
                    first_night=FIRST,
                    end_night=FIRST + timedelta(days=60),
                    total_count=1000,
                    price_minor=PRICE_MINOR + room,
                    currency="EUR",
                )
                for room in ROOMS
            )
        )

    async def book(self, stays: int) -> None:
        """Let guests book, pay and get money back, some of them change their minds, and managers change prices."""
        await self._log.send(*(command for _ in range(stays) for command in self._next()))

    def _next(self) -> Sequence[Command]:
        number = next(self._numbers)
        room, booking = 1 + number % len(ROOMS), uuid4()
        arrives = FIRST + timedelta(days=number % 50)
        commands: list[Command] = [
            ReserveStay(
                room_id=room,
                booking_id=booking,
                user_id=7,
                hotel_id=1 + room % 2,
                check_in=arrives,
                check_out=arrives + timedelta(days=1 + number % 3),
                rooms_count=1 + number % 2,
                terms=Terms.AT_HOTEL if number % 4 else Terms.PREPAID,
                hold_seconds=3600,
            )
        ]
        self._booked.append((room, booking))
        if number % 4 == 0:
            commands += _paid(number, commands[0])
        if number % 3 == 0:
            commands += _changed(number, commands[0])
        if number % 5 == 0:
            room, booking = self._booked.pop(number % len(self._booked))
            commands.append(CancelBooking(room_id=room, booking_id=booking, user_id=7))
        if number % 20 == 0:
            ends = arrives + timedelta(days=2)
            price_minor, closed = 80_00 + number, number % 40 == 0
            commands.append(
                ChangeInventory(
                    room_id=room, first_night=arrives, end_night=ends, price_minor=price_minor, closed=closed
                )
            )
        return commands

    @asynccontextmanager
    async def keeps_booking(self) -> AsyncIterator[None]:
        """Let guests come without a pause for as long as the block lasts."""
        stop = asyncio.Event()

        async def book_on() -> None:
            while not stop.is_set():
                await self.book(20)

        going = asyncio.create_task(book_on())
        try:
            yield
        finally:
            stop.set()
            await going

    async def kept(self) -> None:
        """Wait until everything on the log is decided, and in the read models."""
        await wait_until(self._is_kept, message="everything is in the read models")

    async def _is_kept(self) -> bool:
        topic = self.kafka.topic(BOOKING_COMMANDS)
        commands = [TopicPartition(topic, number) for number in range(self.kafka.topic_partitions)]
        async with consumer_of(self.kafka, []) as consumer:
            sent = sum((await consumer.end_offsets(commands)).values())
        [(decided,)] = await self.rows("select sum(applied + 1) from log_cursor where consumer = 'reservations'")
        sums = await self.rows("select sum(sequence) from log_cursor group by consumer")
        return decided == sent and len(sums) == 1 + len(PROJECTIONS) and len(set(sums)) == 1

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Ask the database."""
        async with await psycopg.AsyncConnection.connect(self.database.conninfo()) as connection:
            return await (await connection.execute(query.encode())).fetchall()

    async def change(self, *statements: str) -> None:
        """Change the read models without their consumers."""
        async with await psycopg.AsyncConnection.connect(self.database.conninfo()) as connection:
            for statement in statements:
                assert (await connection.execute(statement.encode())).rowcount != 0, statement

    async def read_models(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return every row of every read model."""
        return {table: await self.rows(f"select * from {table} order by {key}") for table, key in TABLES.items()}

    async def left_behind(self) -> list[tuple[Any, ...]]:
        """Return the schemas that a rebuild may have left behind."""
        return await self.rows("select nspname from pg_namespace where nspname like 'rebuild%'")


def _paid(number: int, stay: Command) -> Sequence[Command]:
    """Return the payment of a prepaid stay and what left again of it: refunds by hand, some of which fail, disputes."""
    assert isinstance(stay, ReserveStay)
    booking: dict[str, Any] = {"room_id": stay.room_id, "booking_id": stay.booking_id}
    about: dict[str, Any] = {**booking, "payment_intent": f"pi_{number}"}
    nights = (stay.check_out - stay.check_in).days
    # A stay whose price a manager has changed is not confirmed: its payment has the wrong amount, and is refunded.
    amount_minor = (PRICE_MINOR + stay.room_id) * nights * stay.rooms_count
    refund: dict[str, Any] = {**about, "refund_id": f"re_{number}", "amount_minor": 1_001 + number % 7, "by_hand": True}
    session_id = f"cs_{number}"
    commands: list[Command] = [
        AddGuests(**booking, user_id=7, guest_ids=(number,)),
        RequestPayment(**booking, user_id=7),
        RecordSession(**booking, attempt=1, session_id=session_id),
        ConfirmPayment(**about, session_id=session_id, amount_minor=amount_minor, currency="EUR"),
    ]
    if number % 8 == 0:
        commands.append(RecordRefund(**refund))
    if number % 24 == 0:
        commands.append(FailRefund(**refund, failure="unknown"))
    if number % 28 == 0:
        outcome = DisputeResult.LOST if number % 56 else DisputeResult.WON
        dispute: dict[str, Any] = {**about, "dispute_id": f"dp_{number}", "amount_minor": amount_minor // 2}
        commands += [RecordDispute(**dispute, reason="fraudulent", result=each) for each in (None, outcome)]
    return commands


def _changed(number: int, stay: Command) -> Sequence[Command]:
    """Return a change of a stay: to other days, by a night less, or by a night more, which some guests pay."""
    assert isinstance(stay, ReserveStay)
    booking: dict[str, Any] = {"room_id": stay.room_id, "booking_id": stay.booking_id}
    change = ChangeStay(
        **booking,
        change_id=UUID(int=number),
        user_id=7,
        check_in=stay.check_in,
        check_out=stay.check_out + timedelta(days=1),
        rooms_count=stay.rooms_count,
    )
    kind = number // 3 % 5
    if kind == 0:
        moved = timedelta(days=4)
        return [replace(change, check_in=stay.check_in + moved, check_out=stay.check_out + moved)]
    if kind == 1:
        # A stay of one night has none to give up.
        return [replace(change, check_out=max(stay.check_in + timedelta(days=1), stay.check_out - timedelta(days=1)))]
    if kind == 2:
        return [change, WithdrawChange(**booking, change_id=change.change_id, user_id=7)]
    if kind == 3 or stay.terms is Terms.AT_HOTEL:
        # A dearer stay that is paid at the hotel changes at once; of a prepaid one the difference is not paid.
        return [change]
    session: dict[str, Any] = {**booking, "attempt": 2, "session_id": f"cs_more_{number}"}
    amount_minor = (PRICE_MINOR + stay.room_id) * stay.rooms_count
    payment: dict[str, Any] = {"payment_intent": f"pi_more_{number}", "amount_minor": amount_minor}
    refund: dict[str, Any] = {"refund_id": f"re_more_{number}", "amount_minor": 900, "by_hand": True}
    return [
        change,
        RecordSession(**session),
        ConfirmPayment(**session, **payment, currency="EUR"),
        RecordRefund(**booking, **{**payment, **refund}),
    ]


@asynccontextmanager
async def open_booking_load(kafka: KafkaSettings, database: DatabaseSettings) -> AsyncIterator[BookingLoad]:
    """Put nights on sale with workers that decide and keep the read models."""
    async with open_log(kafka) as log:
        working = [
            asyncio.create_task(_work(role, log, database))
            for role in (handler.build(kafka, database), projections.build(kafka, database))
        ]
        try:
            load = BookingLoad(log, database)
            await load.open()
            yield load
            assert not any(task.done() for task in working), "a worker has given up"
        finally:
            for task in working:
                task.cancel()
            for task in working:
                with suppress(asyncio.CancelledError):
                    await task


async def _work(role: Role, log: Log, database: DatabaseSettings) -> None:
    """Be a worker, without Faust."""
    partitions = [TopicPartition(*partition) for partition in all_partitions(role, log.settings)]
    async with open_processor(role, log, database) as processor, consumer_of(log.settings, partitions) as consumer:
        while True:
            found = await consumer.getmany(timeout_ms=100)
            for partition, offset in (await processor.process(found.values())).items() if found else ():
                consumer.seek(partition, offset)


@asynccontextmanager
async def consumer_of(kafka: KafkaSettings, partitions: Sequence[TopicPartition]) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(**kafka.client_options(), auto_offset_reset="earliest", fetch_max_wait_ms=20)
    await consumer.start()
    try:
        consumer.assign(partitions)
        yield consumer
    finally:
        await consumer.stop()
