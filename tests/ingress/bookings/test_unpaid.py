"""The cap on an account's unpaid bookings: requests that are not decided yet count too."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from ingress.bookings import unpaid
from ingress.bookings.unpaid import UnpaidCap
from ingress.database import Database
from ingress.http.problems import Problem
from storage.reads.unpaid import UNPAID_OF_EACH, unpaid_bookings
from storage.settings import DatabaseSettings
from tests.ingress.conftest import broker_away, ingress_settings, run_ingress
from tests.ingress.house import STAY, TODAY, House, StandInWorker
from tests.support.client import Answer
from tests.support.waiting import wait_until
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import ReserveStay

MOST = 3
INIT = "/v1/bookings/init"


@pytest.fixture
async def house(kafka_settings: KafkaSettings, database: DatabaseSettings, house: House) -> AsyncIterator[House]:
    """An ingress with a low cap. Readings are used for long, so that a test sees what is counted beside them."""
    settings = ingress_settings(max_unpaid_bookings=MOST, room_facts_seconds=600)
    async with run_ingress(settings, kafka_settings, database) as capped:
        yield capped


async def at_once(house: House, count: int, user: int = 1) -> list[Answer]:
    """Ask for stays at once."""
    return list(await asyncio.gather(*(house.post(INIT, STAY, user=user) for _ in range(count))))


async def hold(stand_in: StandInWorker, status: str = "RESERVED", **columns: Any) -> UUID:
    """Write a booking of user 1 whose hold ends in an hour."""
    end = datetime.now(UTC) + timedelta(hours=1)
    return await stand_in.add_booking(1, status, **{"hold_expires_at": end} | columns)


async def test_of_many_requests_at_once_no_more_pass_than_the_cap(house: House, stand_in: StandInWorker) -> None:
    answered = await at_once(house, 20)

    accepted = [answer.body["id"] for answer in answered if answer.status == 202]
    refused = [answer for answer in answered if answer.status == 429]
    assert (len(accepted), len(refused)) == (MOST, 20 - MOST)
    for answer in refused:
        assert answer.body["reason"] == "too_many_unpaid"
        assert answer.body["unpaid_bookings"] == sorted(accepted)
        assert "pay or cancel" in answer.body["detail"]
        assert "paid at the hotel can only be cancelled" in answer.body["detail"]
        assert answer.headers["Retry-After"] == "1"
    assert {(await stand_in.next_command()).envelope.subject for _ in range(MOST)} == set(accepted)
    assert {answer.status for answer in await at_once(house, MOST, user=2)} == {202}


async def test_the_leg_that_holds_a_change_to_another_room_type_does_not_count(
    house: House, stand_in: StandInWorker
) -> None:
    changed = await stand_in.add_booking(1, "CONFIRMED")
    await hold(stand_in, trip_id=changed, trip_room_id=1, hold_expires_at=None)
    assert {answer.status for answer in await at_once(house, MOST)} == {202}


async def test_a_guest_resumes_or_replaces_their_own_hold(house: House, stand_in: StandInWorker) -> None:
    mine = [await hold(stand_in) for _ in range(MOST)]
    refused = await house.post(INIT, STAY, user=1)
    assert (refused.status, refused.body["unpaid_bookings"]) == (429, sorted(map(str, mine)))
    assert 1 < int(refused.headers["Retry-After"]) <= 3600

    listed = (await house.get("/v1/users/myBookings?status=RESERVED", user=1)).body
    assert {booking["id"] for booking in listed} == set(refused.body["unpaid_bookings"])
    assert (await house.post(f"/v1/bookings/{mine[0]}/payments", user=1)).status == 202

    await stand_in.connection.execute("update booking set status = 'CANCELLED' where id = %s", (mine[0],))
    assert (await house.post(INIT, STAY, user=1)).status == 202
    assert (await house.post(INIT, STAY, user=1)).status == 429


COUNTED: list[tuple[str, dict[str, Any], int]] = [
    ("RESERVED", {}, 429),
    ("GUESTS_ADDED", {}, 429),
    ("PAYMENTS_PENDING", {}, 429),
    ("CONFIRMED", {"terms": "at_hotel", "hold_expires_at": None}, 429),
    ("CONFIRMED", {"hold_expires_at": None}, 202),
    ("CANCELLED", {}, 202),
    ("EXPIRED", {}, 202),
    ("REJECTED", {}, 202),
    # The deadline has passed, and the timer has not ended the hold yet.
    ("RESERVED", {"hold_expires_at": datetime(2026, 1, 1, tzinfo=UTC)}, 202),
    (
        "CONFIRMED",
        {"terms": "at_hotel", "hold_expires_at": None, "check_in": TODAY - timedelta(2), "check_out": TODAY},
        202,
    ),
]


@pytest.mark.parametrize(("status", "columns", "expected"), COUNTED, ids=str)
async def test_bookings_count_that_hold_nights_unpaid(
    house: House, stand_in: StandInWorker, status: str, columns: dict[str, Any], expected: int
) -> None:
    for _ in range(MOST):
        await hold(stand_in, status, **columns)
    assert (await house.post(INIT, STAY, user=1)).status == expected


async def test_an_accepted_request_that_is_sent_again_is_not_refused(house: House, stand_in: StandInWorker) -> None:
    key = {"Idempotency-Key": "first"}
    first = await house.post(INIT, STAY, user=1, headers=key)
    assert len([answer for answer in await at_once(house, 5) if answer.status == 202]) == MOST - 1

    again = await house.post(INIT, STAY, user=1, headers=key)

    assert (again.status, again.body) == (202, first.body)
    assert (await house.post(INIT, STAY, user=1, headers={"Idempotency-Key": "another"})).status == 429


async def test_one_request_many_times_at_once_counts_once(house: House, stand_in: StandInWorker) -> None:
    for _ in range(MOST - 1):
        await hold(stand_in)
    key = {"Idempotency-Key": "abc"}
    answered = await asyncio.gather(*(house.post(INIT, STAY, user=1, headers=key) for _ in range(50)))
    assert {answer.status for answer in answered} == {202}
    assert len({answer.body["id"] for answer in answered}) == 1
    refused = await house.post(INIT, STAY, user=1)
    assert (refused.status, len(refused.body["unpaid_bookings"])) == (429, MOST)


@pytest.mark.parametrize("other", ["/bookings/init", "/v2/bookings/init"])
async def test_one_key_on_two_mounts_is_two_requests_and_counts_twice(
    house: House, stand_in: StandInWorker, other: str
) -> None:
    for _ in range(MOST - 1):
        await hold(stand_in)
    headers = {"Idempotency-Key": "abc", "Prefer": "wait=0"}
    answered = await asyncio.gather(*(house.post(path, STAY, user=1, headers=headers) for path in (INIT, other) * 5))
    assert len({answer.body["id"] for answer in answered if answer.status == 202}) == 1
    assert sorted(answer.status for answer in answered) == [202] * 5 + [429] * 5


async def test_a_request_that_is_repeated_or_refused_counts_once_or_not_at_all(
    house: House, stand_in: StandInWorker
) -> None:
    key = {"Idempotency-Key": "first"}
    for _ in range(2 * MOST):
        assert (await house.post(INIT, STAY, user=1, headers=key)).status == 202
        assert (await house.post(INIT, STAY | {"rooms_count": 2}, user=1, headers=key)).status == 422
        assert (await house.post(INIT, STAY | {"room_id": 99}, user=1)).status == 404
    assert sorted(answer.status for answer in await at_once(house, MOST)) == [202] * (MOST - 1) + [429]


async def test_a_request_that_the_broker_did_not_get_counts_no_more(
    database: DatabaseSettings, house: House, stand_in: StandInWorker
) -> None:
    settings = ingress_settings(max_unpaid_bookings=MOST, room_facts_seconds=600)
    async with run_ingress(settings, broker_away(), database, ready=False) as alone:
        answered = [await alone.post(INIT, STAY, user=1) for _ in range(2 * MOST)]
    assert {answer.status for answer in answered} == {503}


async def test_a_decided_request_counts_by_its_booking(house: House, stand_in: StandInWorker) -> None:
    """A hold counts, a refused one does not: the ledger is read again before a guest is refused."""
    accepted = await at_once(house, MOST)
    for answer, status in zip(accepted, ("RESERVED", "REJECTED", "REJECTED"), strict=True):
        end = datetime.now(UTC) + timedelta(hours=1) if status == "RESERVED" else None
        await stand_in.write_booking(UUID(answer.body["id"]), 1, status, hold_expires_at=end)

    assert sorted(answer.status for answer in await at_once(house, MOST)) == [202, 202, 429]


async def test_no_cap_counts_nothing(
    kafka_settings: KafkaSettings, database: DatabaseSettings, stand_in: StandInWorker, house: House
) -> None:
    for _ in range(MOST):
        await hold(stand_in)
    async with run_ingress(ingress_settings(max_unpaid_bookings=0), kafka_settings, database) as uncapped:
        assert {answer.status for answer in await at_once(uncapped, 20)} == {202}


async def test_the_share_of_an_account_goes_with_the_request_unless_it_is_all(
    kafka_settings: KafkaSettings, database: DatabaseSettings, stand_in: StandInWorker, house: House
) -> None:
    for percent, sent in ((1, 1), (50, 50), (100, None)):
        settings = ingress_settings(max_account_share_percent=percent)
        async with run_ingress(settings, kafka_settings, database) as one:
            assert (await one.post(INIT, STAY, user=2)).status == 202
        command = (await stand_in.next_command()).message
        assert isinstance(command, ReserveStay)
        assert command.account_share_percent == sent


# The cap without HTTP.


@pytest.fixture
async def pool(database: DatabaseSettings) -> AsyncIterator[Database]:
    """The database."""
    pool = Database(database, pool_size=2)
    yield pool
    await pool.close()


class Clock:
    """A clock for the cap that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        """Return the time, a little later each time."""
        self.now += 0.001
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The cap's clock."""
    clock = Clock()
    monkeypatch.setattr(unpaid, "time", clock)
    return clock


def capped(pool: Database) -> UnpaidCap:
    """Return a cap of the usual kind."""
    return UnpaidCap(pool, most=MOST, reading_seconds=5.0, undecided_seconds=900.0)


async def passes(cap: UnpaidCap, user_id: int = 1, booking_id: UUID | None = None) -> bool:
    """Whether one more request of the user passes."""
    booking_id = booking_id or uuid4()
    try:
        await cap.admit(user_id, booking_id)
    except Problem as problem:
        if problem.status != 429:
            raise
        return False
    cap.accepted(user_id, booking_id, booking_id)
    return True


async def test_many_accounts_at_once_share_a_query_and_later_requests_need_none(
    pool: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    cap, queries = capped(pool), list[set[int]]()

    async def counted(connection: Any, user_ids: Any, *others: Any, **named: Any) -> Any:
        queries.append(set(user_ids))
        return await unpaid_bookings(connection, user_ids, *others, **named)

    monkeypatch.setattr(unpaid, "unpaid_bookings", counted)
    for _ in range(2):
        assert all(await asyncio.gather(*(passes(cap, user_id) for user_id in range(1, 201))))
    assert len(queries) <= 2
    assert set.union(*queries) == set(range(1, 201))


async def test_an_account_with_many_bookings_is_counted_by_the_index_of_unpaid_ones(
    pool: Database, stand_in: StandInWorker
) -> None:
    await hold(stand_in)
    await stand_in.connection.execute(
        "insert into booking select (jsonb_populate_record(b, jsonb_build_object('id', gen_random_uuid(), 'status', "
        "'CANCELLED'))).* from booking b cross join generate_series(1, 5000)"
    )
    await stand_in.connection.execute("analyze booking")
    async with pool.reading() as connection:
        plan = await connection.execute(
            text(f"explain {UNPAID_OF_EACH.text}"),
            {"user_ids": [1], "undecided": [uuid4()], "most": MOST, "today": datetime.now(UTC).date()},
        )
        lines = "\n".join(line for (line,) in plan)
        found = await unpaid_bookings(connection, [1, 2], [], most=MOST)
    assert "booking_unpaid" in lines, lines
    assert "Seq Scan on booking" not in lines, lines
    assert [len(found.unpaid.get(user_id, {})) for user_id in (1, 2)] == [1, 0]


async def test_requests_that_are_never_decided_stop_counting_and_are_forgotten(pool: Database, clock: Clock) -> None:
    cap = capped(pool)
    assert [await passes(cap) for _ in range(MOST + 1)] == [True] * MOST + [False]
    clock.now += 800
    assert not await passes(cap)
    clock.now += 101
    assert await passes(cap, user_id=2)
    assert len(cap) == 1
    assert [await passes(cap) for _ in range(MOST + 1)] == [True] * MOST + [False]


async def test_a_decision_that_another_accounts_reading_finds_is_not_counted_twice_or_lost(
    pool: Database, clock: Clock, stand_in: StandInWorker
) -> None:
    cap, mine = capped(pool), uuid4()
    clock.now = 1.0
    assert await passes(cap, 1, mine)
    clock.now += 4.5
    # This reading of the account is young when its booking is found in the ledger.
    assert await passes(cap, user_id=2)
    await stand_in.write_booking(mine, 1, "RESERVED", hold_expires_at=datetime.now(UTC) + timedelta(hours=1))
    clock.now += 1
    assert await passes(cap, user_id=3)
    assert [await passes(cap) for _ in range(MOST)] == [True] * (MOST - 1) + [False]


async def test_a_request_that_was_not_acknowledged_counts_for_a_minute(pool: Database, clock: Clock) -> None:
    cap, lost = capped(pool), [uuid4() for _ in range(MOST)]
    for booking_id in lost:
        assert await passes(cap, 1, booking_id)
        cap.unanswered(1, booking_id)
    assert not await passes(cap)
    clock.now += 61
    assert await passes(cap)


async def test_a_database_that_is_away_for_a_moment_loses_no_count(
    pool: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    cap = capped(pool)
    assert await passes(cap)
    clock.now += 6

    async def away(*_: Any, **__: Any) -> Any:
        raise ConnectionError("away")

    with monkeypatch.context() as patch:
        patch.setattr(unpaid, "unpaid_bookings", away)
        with pytest.raises(ConnectionError):
            await cap.admit(2, uuid4())
    assert [await passes(cap) for _ in range(MOST)] == [True] * (MOST - 1) + [False]
    clock.now += 901
    assert await passes(cap, user_id=2)
    clock.now += 6
    assert await passes(cap, user_id=3)
    assert len(cap) == 2


async def test_a_guest_who_leaves_while_the_ledger_is_read_ends_nobody_elses_reading(
    pool: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    cap = capped(pool)
    read, begun, resume = unpaid_bookings, asyncio.Event(), asyncio.Event()

    async def slowly(*args: Any, **options: Any) -> Any:
        begun.set()
        await resume.wait()
        return await read(*args, **options)

    monkeypatch.setattr(unpaid, "unpaid_bookings", slowly)
    first = asyncio.create_task(cap.admit(1, uuid4()))
    await begun.wait()
    second = asyncio.create_task(passes(cap, 2))
    first.cancel()
    resume.set()
    assert await second
    await wait_until(first.cancelled)
