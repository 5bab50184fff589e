"""The day the database is lost, with whole processes: an operator restores it, and no guest who booked notices.

Everything but the broker and Stripe is killed in the middle of its work, and PostgreSQL's folder is deleted. A backup
of the day before brings back accounts, hotels and rooms, and the log all the rest.
"""

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import aiohttp
import psycopg
import pytest

from operators.restore.sequences import continue_after_the_log
from operators.restore.target import FROM_A_BACKUP, FROM_THE_LOG
from sandbox.kafka import available
from sandbox.postgres.server import program
from sandbox.system import Plan, System
from storage.models import Table
from storage.settings import DatabaseSettings
from tests.ingress.managers import HOTEL, ROOM
from tests.storage.test_tool import Ended, run
from tests.support.caps import WITHOUT_CAPS
from tests.support.client import Answer
from tests.support.waiting import wait_until
from tests.system.path.guest import Guest, House, Room, open_house

NO_KAFKA = available()
pytestmark = [
    pytest.mark.skipif(NO_KAFKA is not None, reason=NO_KAFKA or ""),
    # The short form: test_restore.py and test_command.py restore what they need for each claim.
    pytest.mark.system,
    pytest.mark.long,
    pytest.mark.timeout(900),
]

REPEATED: Final = "booking.command_repeated.v1"
#: Ana's stays in the quiet room, of two nights each, by their state when everything is lost.
FIRST_NIGHTS: Final = {
    name: 10 + 2 * number
    for number, name in enumerate(("held", "waiting", "absent", "paid", "leaving", "refunded", "cancelled"))
}
#: Those that something happens to before anybody looks: paid while all is down, and a cancellation that was accepted.
CHANGING: Final = {"absent", "leaving"}
#: The rows made after the backup: an account that books.
MISSING: Final = {"accounts": 1, "guests": 0, "guest lists": 0, "hotels": 0, "rooms": 0, "promo codes": 0}
#: So many guests book for as long as somebody answers.
STREAMS: Final = 4
#: The busy room's night.
BUSY: Final = 60
BUSY_TOTAL: Final = 25


@pytest.fixture(autouse=True)
def _no_process_is_left_behind() -> None:
    """The system's own supervisor ends and starts processes in the middle of this test, and ends them all."""


async def test_a_lost_database_is_restored_by_an_operator_and_every_guest_continues_where_they_were(
    tmp_path: Path,
) -> None:
    async with open_hotel(tmp_path) as hotel:
        stays = await every_state(hotel)
        await hotel.back_up()
        late = await after_the_backup(hotel, stays)
        before = {name: await stay.complete() for name, stay in stays.items()}
        nights = await hotel.nights(hotel.quiet)

        accepted = await lose_everything(hotel, stays["leaving"])
        restored = await restore(hotel)
        assert {each["rows"]: each["missing"] for each in restored["backup_check"]} == MISSING
        # No process of ours is running to receive the webhook: Stripe sends it again later.
        assert await hotel.ana.pay(stays["absent"].page) == 303
        await hotel.start_again()

        await assert_all_is_shown_as_before(hotel, stays, before, nights)
        await assert_what_was_accepted_is_decided(hotel, accepted, restored)
        await assert_the_guests_can_continue(hotel, stays, before)
        await assert_nobody_gets_what_belongs_to(late, hotel)
        await assert_ledger_and_money_are_right(hotel)


async def test_numbers_go_on_behind_all_that_the_log_and_the_backup_name(database: DatabaseSettings) -> None:
    async with await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as connection:

        async def next_number(table: str, columns: str, values: str) -> int:
            made = await connection.execute(f"insert into {table} ({columns}) values ({values}) returning id".encode())
            return int((await made.fetchone() or (0,))[0])

        # A backup of rows without their sequences, and events about a room that was described after it.
        await connection.execute("insert into app_user (id, email, password_hash) values (5, 'ana', '')")
        await connection.execute("insert into hotel (id, name, city, currency) values (3, 'Mill', 'Porto', 'EUR')")
        await connection.execute(
            "insert into inventory (room_id, hotel_id, date, total_count, price_minor, currency)"
            " values (7, 2, '2030-01-01', 1, 1, 'EUR')"
        )
        await connection.execute("select setval('guest_id_seq', 40)")

        await continue_after_the_log(connection, last_action=16)

        assert await next_number("app_user", "email, password_hash", "'ben', ''") > 5
        assert await next_number("hotel", "name, city, currency", "'Inn', 'Porto', 'EUR'") == 4
        room = "hotel_id, type, base_price_minor, total_count, capacity"
        assert await next_number("room", room, "3, 'double', 1, 1, 2") == 8
        assert await next_number("guest", "user_id, name", "5, 'Ana'") == 41
        assert await next_number("operator_action", "who, action, target, details", "'ines', 'pause', '', '{}'") == 17


def test_every_table_comes_from_the_log_or_from_the_backup() -> None:
    assert sorted([*FROM_THE_LOG, *FROM_A_BACKUP]) == sorted(Table.metadata.tables)


# The hotel, and the bookings in it.


@dataclass
class Stay:
    """A booking as its guest sees it. `last`: the event that its history ends with once all that is to come came."""

    guest: Guest
    id: str
    last: str
    page: str = ""

    async def complete(self) -> dict[str, Any]:
        """Return the booking, once its history is complete."""
        found: dict[str, Any] = {}

        async def there() -> bool:
            nonlocal found
            found = (await self.guest.ask("GET", f"/v1/bookings/{self.id}")).body
            # A webhook that Stripe sends twice, as after a restore, is in the history twice, without effect.
            found["timeline"] = [each for each in found["timeline"] if each["type"] != REPEATED]
            is_payable = bool(found.get("session_url")) == bool(self.page)
            return is_payable and [each["type"] for each in found["timeline"]][-1:] == [f"booking.{self.last}.v1"]

        await wait_until(there, message=lambda: f"{self.last} is not the last event of {found}")
        return found


@dataclass
class Hotel:
    """A running system, with a host, a guest in a hurry (whose holds are short) and one who is not."""

    house: House
    host: Guest
    ana: Guest
    hasty: Guest
    quiet: Room
    busy: Room
    streams: Sequence[Guest] = field(default_factory=list)

    @property
    def system(self) -> System:
        return self.house.system

    @property
    def programs(self) -> Sequence[str]:
        """All that speaks to the database."""
        return [*self.system.ingress_names, *self.system.worker_names]

    async def nights(self, room: Room) -> dict[date, dict[str, Any]]:
        """Return a room's nights of three months as the host sees them."""
        path = f"/v1/admin/inventory/rooms/{room.id}?start_date={day(0)}&end_date={day(90)}"
        answer = await self.host.ask("GET", path)
        assert answer.status == 200, answer
        return {date.fromisoformat(night["date"]): night for night in answer.body}

    async def change(self, room: Room, first: int, last: int, **changes: Any) -> None:
        """Change nights as the host does."""
        path = f"/v1/admin/inventory/rooms/{room.id}?start_date={day(first)}&end_date={day(last)}"
        answer = await self.host.ask("PATCH", path, json=changes)
        assert answer.status == 200, answer
        assert {night["refused"] for night in answer.body} == {None}

    async def back_up(self) -> None:
        """Keep what only the database knows, as every night."""
        tables = [f"--table={table}" for table in FROM_A_BACKUP]
        await postgresql("pg_dump", "--data-only", *tables, f"--file={self._backup}", self.system.database_url)

    async def load_backup(self) -> None:
        """Bring back what was kept, and with it the id by which payments knows its objects at Stripe."""
        await postgresql("psql", "--no-psqlrc", "--command=delete from installation", self.system.database_url)
        script = ("--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1", f"--file={self._backup}")
        await postgresql("psql", "--no-psqlrc", *script, self.system.database_url)

    async def start_again(self) -> None:
        """Start workers and ingress."""
        await asyncio.gather(*(self.system.start_part(name) for name in self.programs))

    async def operator(self, *arguments: str) -> Ended:
        """Run `innkeeper` as an operator does."""
        return await run(self.system.environment(), *arguments)

    @property
    def _backup(self) -> Path:
        return self.system.folder / "backup.sql"


@asynccontextmanager
async def open_hotel(folder: Path, **environment: str) -> AsyncIterator[Hotel]:
    """Start everything, and put two rooms on sale; `environment` has further settings."""
    plan = Plan(
        folder=folder,
        partitions=4,
        own_servers=True,
        quiet=True,
        ingress=2,
        environment={"RATE_LIMITS": "false", **WITHOUT_CAPS, **environment},
        of_one={"ingress-2": {"HOLD_SECONDS": "1"}},
    )
    async with System(plan) as system, open_house(system) as house:
        host, ana, *streams = await asyncio.gather(*(house.guest() for _ in range(2 + STREAMS)))
        host = Guest(house.session, host.url, (await host.ask("POST", "/v1/users/host")).body["access_token"])
        hotel_id = made(await host.ask("POST", "/v1/admin/hotels", json=HOTEL))
        rooms = [
            made(await host.ask("POST", f"/v1/admin/hotels/{hotel_id}/rooms", json=ROOM | {"total_count": total}))
            for total in (5, BUSY_TOTAL)
        ]
        quiet, busy = (Room(hotel_id, id) for id in rooms)
        assert (await host.ask("PATCH", f"/v1/admin/hotels/{hotel_id}/activate")).status == 204
        hasty = Guest(house.session, system.urls[1], ana.token)
        hotel = Hotel(house, host, ana, hasty, quiet, busy, streams)
        await hotel.change(quiet, 26, 27, surge_factor="1.5")
        await hotel.change(quiet, 30, 31, closed=True)
        yield hotel


async def every_state(hotel: Hotel) -> dict[str, Stay]:
    """Bring bookings into every state that there is."""
    ana, room = hotel.ana, hotel.quiet
    stays = {name: Stay(ana, await ana.booked(room, first), "reserved") for name, first in FIRST_NIGHTS.items()}
    for name in ("waiting", "absent", "paid", "leaving", "refunded"):
        stays[name].page, stays[name].last = await ana.checkout(stays[name].id), "checkout_opened"
    for name in ("paid", "leaving", "refunded"):
        assert await ana.pay(stays[name].page) == 303
        await ana.becomes(stays[name].id, "CONFIRMED")
        stays[name].page, stays[name].last = "", "confirmed"
    for name, last in (("cancelled", "cancelled"), ("refunded", "refunded")):
        assert (await ana.ask("POST", f"/v1/bookings/{stays[name].id}/cancel")).status == 204
        stays[name].last = last
    stays["expired"] = Stay(ana, await hotel.hasty.booked(room, 40), "expired")
    refused = await ana.book(room, 30)
    assert refused.status == 409, refused
    stays["refused"] = Stay(ana, refused.body["id"], "rejected")
    return stays


async def after_the_backup(hotel: Hotel, stays: dict[str, Stay]) -> Guest:
    """Do what the backup does not know: a price, a booking, and an account that books; return the account."""
    await hotel.change(hotel.quiet, 50, 51, price="99.00", total_count=2)
    late = await hotel.house.guest()
    stays["late"] = Stay(late, await late.booked(hotel.quiet, 50), "reserved")
    return late


# The loss, and what an operator does.


@dataclass
class Accepted:
    """Bookings that were answered with 202, by guest; `undecided` commands at least were sent to nobody."""

    bookings: list[tuple[Guest, str]] = field(default_factory=list)
    undecided: int = 0


async def lose_everything(hotel: Hotel, leaving: Stay, *servers: str) -> Accepted:
    """Kill all that speaks to the database, and delete these servers, in the middle of a storm of bookings."""
    servers = servers or ("postgres",)
    accepted = Accepted()
    storm = [asyncio.create_task(book_until_nobody_answers(guest, hotel.busy, accepted)) for guest in hotel.streams]
    await hotel.house.eventually("select count(*) >= 10 as so from booking where room_id = %s", hotel.busy.id)
    await hotel.system.kill_part("reservations-1")
    by_then = len(accepted.bookings)
    cancelling = await leaving.guest.ask("POST", f"/v1/bookings/{leaving.id}/cancel", wait=False)
    assert cancelling.status == 202, cancelling
    await wait_until(
        lambda: len(accepted.bookings) >= by_then + 30, message="bookings are accepted that nobody decides"
    )
    await hotel.system.supervisor.kill(*hotel.programs, *servers)
    await asyncio.gather(*storm)
    for server in servers:
        shutil.rmtree(hotel.system.folder / server)
    # One of each guest was under way when the worker was killed, and may be decided; the cancellation was sent later.
    accepted.undecided = len(accepted.bookings) - by_then - STREAMS + 1
    return accepted


async def book_until_nobody_answers(guest: Guest, room: Room, accepted: Accepted) -> None:
    """Ask for the same night again and again, without waiting for what is decided."""
    while True:
        try:
            answer = await guest.book(room, BUSY, 1, wait=False)
        except aiohttp.ClientError:
            return
        # A 503 is a broker or a database that the ingress has lost already.
        if answer.status == 202:
            accepted.bookings.append((guest, answer.body["id"]))


async def restore(hotel: Hotel) -> Mapping[str, Any]:
    """Restore the database as the README describes it; return its report."""
    await hotel.system.start_part("postgres")
    migrated = await hotel.operator("migrate")
    assert migrated.status == 0, migrated.err
    await hotel.load_backup()
    began = time.monotonic()
    done = await hotel.operator("restore", "--from-log", "--yes", "--by", "Olga", "--json")
    seconds = time.monotonic() - began
    assert done.status == 0, done.err
    found: dict[str, Any] = json.loads(done.out)
    (hotel.system.folder / "restored.json").write_text(json.dumps(found | {"seconds": round(seconds, 2)}))
    return found


async def postgresql(name: str, *arguments: str) -> None:
    """Run one of PostgreSQL's own programs to its end."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(str(program(name)), *arguments, stdout=pipe, stderr=pipe)
    _, err = await process.communicate()
    assert process.returncode == 0, err.decode()


# The claims that must hold afterwards.


async def assert_all_is_shown_as_before(
    hotel: Hotel, stays: Mapping[str, Stay], before: Mapping[str, Any], nights: Mapping[date, Any]
) -> None:
    """Each booking, its history, its page and its nights are as they were, but for the bookings that change."""
    for name in stays.keys() - CHANGING:
        assert await stays[name].complete() == before[name], name
    after = await hotel.nights(hotel.quiet)
    moving = {day(FIRST_NIGHTS[name] + n) for name in CHANGING for n in range(2)}
    assert len(nights) == 91
    assert {night: after[night] for night in after.keys() - moving} == {
        night: nights[night] for night in nights.keys() - moving
    }


async def assert_what_was_accepted_is_decided(hotel: Hotel, accepted: Accepted, restored: Mapping[str, Any]) -> None:
    """Every booking that was answered with 202 is decided, and the night is sold to its last room and no further."""
    assert restored["undecided"] >= accepted.undecided > 0, restored
    statuses: list[str] = []

    async def decided() -> bool:
        nonlocal statuses
        statuses = await asyncio.gather(*(guest.status(id) for guest, id in accepted.bookings))
        return "PENDING" not in statuses

    await wait_until(decided, message="everything that was accepted is decided")
    assert set(statuses) == {"RESERVED", "REJECTED"}
    # A booking may be there whose answer was lost with the ingress, at most one for each stream.
    assert BUSY_TOTAL - STREAMS <= statuses.count("RESERVED") <= BUSY_TOTAL
    night = (await hotel.nights(hotel.busy))[day(BUSY)]
    assert (night["booked_count"], night["reserved_count"], night["total_count"]) == (0, BUSY_TOTAL, BUSY_TOTAL)


async def assert_the_guests_can_continue(hotel: Hotel, stays: Mapping[str, Stay], before: Mapping[str, Any]) -> None:
    """Guests with an open page can pay or have paid, the cancelled one has a refund, and rooms keep their prices."""
    house, ana = hotel.house, hotel.ana
    assert await ana.pay(stays["waiting"].page) == 303
    for name in ("waiting", "absent"):
        await ana.becomes(stays[name].id, "CONFIRMED")
        assert (before[name]["amount"], await house.money(stays[name].id)) == ("240.00", (24_000, 0)), name
    await ana.becomes(stays["leaving"].id, "CANCELLED")
    refunded = "select count(*) = 1 as so from booking_timeline where booking_id = %s and type = 'booking.refunded.v1'"
    await house.eventually(refunded, stays["leaving"].id)
    assert await house.money(stays["leaving"].id) == (24_000, 24_000)
    nights = await hotel.nights(hotel.quiet)
    sold = {name: nights[day(FIRST_NIGHTS[name])] for name in ("waiting", "absent", "leaving")}
    assert {name: (night["booked_count"], night["reserved_count"]) for name, night in sold.items()} == {
        "waiting": (1, 0),
        "absent": (1, 0),
        "leaving": (0, 0),
    }

    dear, closed, cheap, full = [await ana.book(hotel.quiet, first) for first in (26, 30, 50, 50)]
    assert (dear.status, dear.body["amount"]) == (201, "360.00"), dear
    assert (cheap.status, cheap.body["amount"]) == (201, "198.00"), cheap
    assert (closed.status, full.status) == (409, 409), (closed, full)
    assert await ana.pay(await ana.checkout(dear.body["id"])) == 303
    await ana.becomes(dear.body["id"], "CONFIRMED")


async def assert_nobody_gets_what_belongs_to(late: Guest, hotel: Hotel) -> None:
    """An account that the backup did not know leaves its bookings to nobody: its number is not given a second time."""
    newcomer = await hotel.house.guest()

    listed = await newcomer.ask("GET", "/v1/users/myBookings")

    assert (listed.status, listed.body) == (200, []), listed
    assert len((await late.ask("GET", "/v1/users/myBookings")).body) == 1


async def assert_ledger_and_money_are_right(hotel: Hotel) -> None:
    for ended in await asyncio.gather(hotel.operator("audit"), hotel.operator("reconcile")):
        assert ended.status == 0, ended.out + ended.err
    [oversold] = await hotel.house.rows(
        "select count(*) n from inventory where booked_count + reserved_count > total_count"
    )
    assert oversold["n"] == 0


def made(answer: Answer) -> int:
    """Return the id of what was made."""
    assert answer.status == 201, answer
    return int(answer.body["id"])


def day(number: int) -> date:
    """Return the day so many days from now."""
    return datetime.now(UTC).date() + timedelta(days=number)
