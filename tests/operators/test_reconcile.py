"""Money at Stripe is a booking's or goes back; what differs is told with its mend, and lost rows come back."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from pydantic import SecretStr

from operators.audit import audit
from operators.reconcile import Reconciled, reconcile
from operators.restore import restore
from storage.settings import DatabaseSettings
from tests.operators.hotel import AT_HOTEL, HELD, PAID, REFUNDED, stay
from tests.operators.till import AMOUNT, ROOM, Till, open_till
from tests.support.log import open_log
from tests.support.stack import Server, fresh_database
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import CancelBooking
from topics.messages.values import Terms

pytestmark = [pytest.mark.system, pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")]


@pytest.fixture
async def till(kafka_settings: KafkaSettings, database: DatabaseSettings, tmp_path: Path) -> AsyncIterator[Till]:
    async with open_log(kafka_settings) as log, open_till(log, database, tmp_path) as opened:
        yield opened


@pytest.fixture
def new_database(postgres: Server, migrated: str) -> Iterator[DatabaseSettings]:
    """What stands in for the lost one."""
    with fresh_database(postgres.url, migrated) as url:
        yield DatabaseSettings(_env_file=None, database_url=SecretStr(url))


async def reconciled(till: Till, *, booking: UUID | None = None, mending: bool = False) -> Reconciled:
    return await reconcile(till.database, till.settings, booking=booking, mending=mending, who="a test")


def told(found: Reconciled) -> list[tuple[UUID, str]]:
    return [(each.booking_id, each.kind.value) for each in found.differences]


async def test_a_paid_booking_stays_paid_and_a_payment_after_the_restore_confirms(
    till: Till, new_database: DatabaseSettings
) -> None:
    await till.checkout(PAID, HELD)
    await till.pay(PAID)
    await till.tell()
    assert [await till.status(booking) for booking in (PAID, HELD)] == ["CONFIRMED", "PAYMENTS_PENDING"]
    page = "select url from checkout_session where booking_id = %s"
    address = await till.rows(page, HELD)

    # The database is gone for good.
    till.database = new_database
    await restore(till.log.settings, new_database, till.settings, who="a test", without_backup=True)
    await till.work()
    await till.call()

    assert await till.rows(page, HELD) == address
    await till.pay(HELD)
    await till.tell()
    assert [await till.status(booking) for booking in (PAID, HELD)] == ["CONFIRMED", "CONFIRMED"]
    assert len(await till.at_stripe("checkout/sessions")) == 2
    assert await till.at_stripe("refunds") == []
    assert told(await reconciled(till)) == []
    report = await audit(till.log.settings, new_database)
    assert report.ok, list(report.problems())


async def test_money_that_is_where_it_belongs_is_no_difference(till: Till) -> None:
    await till.checkout(PAID, HELD, REFUNDED)
    await till.pay(PAID)
    await till.pay(REFUNDED)
    await till.tell()
    await till.work(stay(AT_HOTEL, terms=Terms.AT_HOTEL), CancelBooking(room_id=ROOM, booking_id=REFUNDED, user_id=7))

    # Its refund is on its way, then it has arrived.
    assert told(await reconciled(till)) == []
    await till.call()
    await till.work()

    found = await reconciled(till)
    assert (told(found), found.bookings, found.sessions, found.refunds) == ([], 4, 3, 1)


async def test_a_payment_of_which_no_webhook_told_is_found_and_confirms(till: Till) -> None:
    await till.checkout(PAID)
    await till.pay(PAID)

    first = await reconciled(till)
    assert told(first) == [(PAID, "unheard_payment")]
    assert f"was paid with {AMOUNT} EUR, and the room never heard" in first.differences[0].says
    assert len(first.left) == 1

    second = await reconciled(till, booking=PAID, mending=True)
    assert second.left == ()
    await till.call()
    await till.work()

    assert await till.status(PAID) == "CONFIRMED"
    assert told(await reconciled(till)) == []


async def test_rows_that_were_lost_come_back(till: Till) -> None:
    await till.checkout(PAID, HELD, REFUNDED)
    await till.pay(PAID)
    await till.pay(REFUNDED)
    await till.tell()
    await till.work(CancelBooking(room_id=ROOM, booking_id=REFUNDED, user_id=7))
    await till.call()
    await till.work()
    tables = (
        # A page that is closed has no address at Stripe any more.
        "select booking_id, status, session_id, case status when 'open' then url end from checkout_session order by 1",
        "select booking_id, payment_intent, status, refund_id, next_attempt_at from refund order by 1, 2",
    )
    before = [await till.rows(table) for table in tables]
    await till.rows("delete from checkout_session")
    await till.rows("delete from refund")

    found = await reconciled(till, mending=True)

    stale = [(id, "stale_session") for id in (PAID, REFUNDED, HELD)] + [(REFUNDED, "stale_refund")]
    assert sorted(told(found)) == sorted(stale)
    assert found.left == ()
    assert [await till.rows(table) for table in tables] == before
    assert told(await reconciled(till)) == []


async def test_money_that_somebody_refunded_by_hand_is_told_and_not_mended(till: Till) -> None:
    await till.checkout(PAID)
    payment = await till.pay(PAID)
    await till.tell()
    await till.refund_by_hand(payment)

    found = await reconciled(till, mending=True)

    assert told(found) == [(PAID, "wrong_sum")]
    assert found.differences[0].says == f"CONFIRMED: Stripe has 0, and it should have {AMOUNT} EUR"
    assert found.left == found.differences


async def test_money_for_a_booking_that_the_ledger_does_not_have_is_told(till: Till) -> None:
    await till.checkout(PAID)
    await till.pay(PAID)
    await till.rows("delete from booking")

    assert told(await reconciled(till)) == [(PAID, "unknown_booking")]


async def test_bookings_made_before_the_time_asked_for_are_left_out(till: Till) -> None:
    await till.checkout(PAID)
    await till.pay(PAID)
    later = datetime.now(UTC) + timedelta(seconds=1)

    found = await reconcile(till.database, till.settings, since=later)

    assert (told(found), found.bookings) == ([], 0)
