"""Stays that move to another room type: their money compares clean, and a payment without a webhook is found."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import UUID

import pytest
from pydantic import SecretStr

from operators.audit import audit
from operators.reconcile import reconcile
from operators.restore import restore
from storage.database import connect
from storage.holds import FIRST as FIRST_HOLD
from storage.holds import due_holds
from storage.settings import DatabaseSettings
from tests.operators.decided_log import FIRST, LAST, PAID, PRICE, stay
from tests.operators.reconcile.paid_bookings import AMOUNT, ROOM, PaidBookings, open_paid_bookings
from tests.support.log import open_log
from tests.support.stack import Server, fresh_database
from tests.support.waiting import wait_until
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import ChangeStay, ExpireHold, OpenInventory, WithdrawChange
from topics.messages.events import ChangeEnded, StayChanged
from topics.messages.values import ChangeEnd

pytestmark = [pytest.mark.system, pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")]

SUITES = 2
LEG = UUID(int=901)


@pytest.fixture
async def paid(
    kafka_settings: KafkaSettings, database: DatabaseSettings, tmp_path: Path
) -> AsyncIterator[PaidBookings]:
    """A guest has paid two nights of room 1; no room 2 is on sale."""
    async with open_log(kafka_settings) as log, open_paid_bookings(log, database, tmp_path) as opened:
        await opened.checkout(PAID)
        await opened.pay(PAID)
        await opened.deliver_webhooks()
        yield opened


@pytest.fixture
def new_database(postgres: Server, migrated: str) -> Iterator[DatabaseSettings]:
    """The database that replaces the lost one."""
    with fresh_database(postgres.url, migrated) as url:
        yield DatabaseSettings(_env_file=None, database_url=SecretStr(url))


def suites(price_minor: int) -> OpenInventory:
    return OpenInventory(
        room_id=SUITES,
        hotel_id=1,
        first_night=FIRST,
        end_night=LAST,
        total_count=1,
        price_minor=price_minor,
        currency="EUR",
    )


def to_suite(hold_seconds: int = 900) -> ChangeStay:
    booked = stay(PAID)
    return ChangeStay(
        room_id=ROOM,
        booking_id=PAID,
        change_id=LEG,
        user_id=booked.user_id,
        check_in=booked.check_in,
        check_out=booked.check_out,
        rooms_count=1,
        hold_seconds=hold_seconds,
        to_room_id=SUITES,
    )


async def differences(paid: PaidBookings, *, correcting: bool = False) -> list[tuple[UUID, str]]:
    """Compare all bookings with Stripe; return what differs."""
    found = await reconcile(paid.log.settings, paid.database, paid.settings, correcting=correcting, operator="a test")
    assert found.bookings > 0
    return [(each.booking_id, each.kind.value) for each in found.differences]


async def taken(paid: PaidBookings) -> list[tuple[int, int, int]]:
    """Return the rooms booked and reserved, summed over all nights, by room type."""
    query = (
        "select room_id, sum(booked_count)::int as booked, sum(reserved_count)::int as reserved from inventory"
        " group by 1 order by 1"
    )
    return [(row["room_id"], row["booked"], row["reserved"]) for row in await paid.rows(query)]


async def holds(paid: PaidBookings) -> None:
    report = await audit(paid.log.settings, paid.database)
    assert report.ok, list(report.problems())


async def test_a_dearer_move_is_no_difference_and_its_payment_without_a_webhook_is_found(paid: PaidBookings) -> None:
    await paid.work(suites(PRICE + 1_000), to_suite())
    assert await taken(paid) == [(ROOM, 2, 0), (SUITES, 0, 0)]
    # The other room was not asked yet, and the change has no price.
    assert await differences(paid) == []
    await paid.move()
    await paid.call()
    await paid.work()
    assert await taken(paid) == [(ROOM, 2, 0), (SUITES, 0, 2)]
    assert await differences(paid) == []
    await holds(paid)

    await paid.pay(PAID)

    assert await differences(paid) == [(PAID, "unknown_payment")]
    await differences(paid, correcting=True)
    await paid.call()
    await paid.move()
    await paid.call()
    assert await taken(paid) == [(ROOM, 0, 0), (SUITES, 2, 0)]
    assert [await paid.status(booking) for booking in (PAID, LEG)] == ["CONFIRMED", "CONFIRMED"]
    assert await differences(paid) == []
    await holds(paid)


async def test_a_cheaper_move_gives_back_the_difference(paid: PaidBookings) -> None:
    await paid.work(suites(PRICE - 1_000))
    await paid.move(to_suite())

    assert await differences(paid) == []
    await paid.call()
    await paid.work()
    assert [refund["amount"] for refund in await paid.at_stripe("refunds")] == [2_000]
    assert await differences(paid) == []
    await holds(paid)


async def test_a_payment_of_a_move_that_ended_goes_back(paid: PaidBookings) -> None:
    await paid.work(suites(PRICE + 1_000))
    await paid.move(to_suite())
    await paid.call()
    await paid.work()
    await paid.pay(PAID)
    await paid.move(WithdrawChange(room_id=ROOM, booking_id=PAID, change_id=LEG, user_id=stay(PAID).user_id))
    assert await taken(paid) == [(ROOM, 2, 0), (SUITES, 0, 0)]

    await paid.deliver_webhooks()
    await paid.work()
    await paid.call()
    await paid.work()

    refunds = await paid.at_stripe("refunds")
    assert [refund["amount"] for refund in refunds] == [2_000]
    assert [await paid.status(booking) for booking in (PAID, LEG)] == ["CONFIRMED", "CANCELLED"]
    amounts = await paid.rows("select amount_minor from booking where id = %s", PAID)
    assert amounts == [{"amount_minor": AMOUNT}]
    assert await differences(paid) == []
    await holds(paid)


async def test_an_open_move_ends_at_its_deadline_and_its_leg_is_released(paid: PaidBookings) -> None:
    await paid.work(suites(PRICE + 1_000), to_suite(hold_seconds=1))

    async def is_due() -> bool:
        async with await connect(paid.database, "a test") as connection:
            return [hold.booking_id for hold in await due_holds(connection, FIRST_HOLD, margin_seconds=0)] == [PAID]

    await wait_until(is_due, message="the hold is over")
    await paid.move(ExpireHold(room_id=ROOM, booking_id=PAID))

    events = [event for _, event in await paid.log.events()]
    assert [event.reason for event in events if isinstance(event, ChangeEnded)] == [ChangeEnd.EXPIRED]
    assert not any(isinstance(event, StayChanged) for event in events)
    assert [await paid.status(booking) for booking in (PAID, LEG)] == ["CONFIRMED", "CANCELLED"]
    assert await taken(paid) == [(ROOM, 2, 0), (SUITES, 0, 0)]
    assert await differences(paid) == []
    await holds(paid)


async def test_a_move_that_waits_for_its_payment_outlives_the_database(
    paid: PaidBookings, new_database: DatabaseSettings
) -> None:
    await paid.work(suites(PRICE + 1_000))
    await paid.move(to_suite())
    await paid.call()
    await paid.work()
    before = await paid.rows("select pending_change, hold_expires_at from booking where id = %s", PAID)

    paid.database = new_database
    await restore(paid.log.settings, new_database, paid.settings, operator="a test", without_backup=True)
    await paid.move()
    await paid.call()

    assert await paid.rows("select pending_change, hold_expires_at from booking where id = %s", PAID) == before
    await paid.pay(PAID)
    await paid.deliver_webhooks()
    await paid.move()
    assert [await paid.status(booking) for booking in (PAID, LEG)] == ["CONFIRMED", "CONFIRMED"]
    assert await taken(paid) == [(ROOM, 0, 0), (SUITES, 2, 0)]
    assert len(await paid.at_stripe("checkout/sessions")) == 2
    assert await differences(paid) == []
    await holds(paid)
