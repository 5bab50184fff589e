"""Money at Stripe is a booking's or goes back; each difference has a correction, and lost rows come back."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from pydantic import SecretStr

from operators.audit import audit
from operators.explain import Kind, explain
from operators.reconcile import Reconciled, reconcile
from operators.restore import restore
from storage.settings import DatabaseSettings
from tests.operators.decided_log import AT_HOTEL, HELD, PAID, REFUNDED, stay
from tests.operators.explain.test_page import page
from tests.operators.reconcile.paid_bookings import AMOUNT, ROOM, PaidBookings, open_paid_bookings
from tests.support.log import open_log
from tests.support.stack import Server, fresh_database
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import CancelBooking, ConfirmPayment
from topics.messages.events import BookingConfirmed, BookingRefunded
from topics.messages.values import Terms

pytestmark = [pytest.mark.system, pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")]


@pytest.fixture
async def paid(
    kafka_settings: KafkaSettings, database: DatabaseSettings, tmp_path: Path
) -> AsyncIterator[PaidBookings]:
    async with open_log(kafka_settings) as log, open_paid_bookings(log, database, tmp_path) as opened:
        yield opened


@pytest.fixture
def new_database(postgres: Server, migrated: str) -> Iterator[DatabaseSettings]:
    """The database that replaces the lost one."""
    with fresh_database(postgres.url, migrated) as url:
        yield DatabaseSettings(_env_file=None, database_url=SecretStr(url))


async def reconciled(paid: PaidBookings, *, booking: UUID | None = None, correcting: bool = False) -> Reconciled:
    return await reconcile(paid.database, paid.settings, booking=booking, correcting=correcting, operator="a test")


def kinds(found: Reconciled) -> list[tuple[UUID, str]]:
    return [(each.booking_id, each.kind.value) for each in found.differences]


async def test_a_paid_booking_stays_paid_and_a_payment_after_the_restore_confirms(
    paid: PaidBookings, new_database: DatabaseSettings
) -> None:
    await paid.checkout(PAID, HELD)
    await paid.pay(PAID)
    await paid.deliver_webhooks()
    assert [await paid.status(booking) for booking in (PAID, HELD)] == ["CONFIRMED", "PAYMENTS_PENDING"]
    page = "select url from checkout_session where booking_id = %s"
    address = await paid.rows(page, HELD)

    # The database is gone for good.
    paid.database = new_database
    await restore(paid.log.settings, new_database, paid.settings, operator="a test", without_backup=True)
    await paid.work()
    await paid.call()

    assert await paid.rows(page, HELD) == address
    await paid.pay(HELD)
    await paid.deliver_webhooks()
    assert [await paid.status(booking) for booking in (PAID, HELD)] == ["CONFIRMED", "CONFIRMED"]
    assert len(await paid.at_stripe("checkout/sessions")) == 2
    assert await paid.at_stripe("refunds") == []
    assert kinds(await reconciled(paid)) == []
    report = await audit(paid.log.settings, new_database)
    assert report.ok, list(report.problems())


async def test_money_that_is_where_it_belongs_is_no_difference(paid: PaidBookings) -> None:
    await paid.checkout(PAID, HELD, REFUNDED)
    await paid.pay(PAID)
    await paid.pay(REFUNDED)
    await paid.deliver_webhooks()
    await paid.work(stay(AT_HOTEL, terms=Terms.AT_HOTEL), CancelBooking(room_id=ROOM, booking_id=REFUNDED, user_id=7))

    # Its refund is on its way, then it has arrived.
    assert kinds(await reconciled(paid)) == []
    await paid.call()
    await paid.work()

    found = await reconciled(paid)
    assert (kinds(found), found.bookings, found.sessions, found.refunds) == ([], 4, 3, 1)


async def test_a_payment_without_a_webhook_is_found_and_confirms(paid: PaidBookings) -> None:
    await paid.checkout(PAID)
    await paid.pay(PAID)

    first = await reconciled(paid)
    assert kinds(first) == [(PAID, "unknown_payment")]
    assert f"was paid with {AMOUNT} EUR, and the room does not know it" in first.differences[0].description
    assert len(first.left) == 1

    second = await reconciled(paid, booking=PAID, correcting=True)
    assert second.left == ()
    await paid.call()
    await paid.work()

    assert await paid.status(PAID) == "CONFIRMED"
    assert kinds(await reconciled(paid)) == []


async def test_commands_of_a_correction_name_the_operator_and_later_ones_do_not(paid: PaidBookings) -> None:
    await paid.checkout(PAID)
    await paid.pay(PAID)
    await reconciled(paid, correcting=True)
    (action,) = await paid.rows("select id, who, action from operator_action")

    await paid.call()
    await paid.work(CancelBooking(room_id=ROOM, booking_id=PAID, user_id=7))
    await paid.call()
    await paid.work()

    assert (action["who"], action["action"]) == ("a test", "reconcile")
    operator = f"operator/{action['id']}"
    history = await explain(paid.log.settings, paid.database, PAID)
    actors = {(step.kind, step.what): step.actor for step in history.steps if step.actor is not None}
    assert actors == {
        (Kind.COMMAND, ConfirmPayment.message_type): operator,
        (Kind.EVENT, BookingConfirmed.message_type): operator,
    }
    (line,) = (line for line in page(history, is_terminal=False) if f"by {operator}" in line)
    assert ConfirmPayment.message_type in line
    # The refund of the cancelled booking is no correction, although its row follows from the same session.
    assert await paid.rows("select actor from checkout_session union all select actor from refund") == [
        {"actor": None},
        {"actor": None},
    ]


async def test_a_correction_of_a_refund_names_the_operator_until_its_command_is_sent(paid: PaidBookings) -> None:
    await paid.checkout(REFUNDED)
    payment = await paid.pay(REFUNDED)
    await paid.deliver_webhooks()
    await paid.work(CancelBooking(room_id=ROOM, booking_id=REFUNDED, user_id=7))
    await paid.rows("delete from refund")
    await paid.refund_by_hand(payment)

    await reconciled(paid, correcting=True)

    (action,) = await paid.rows("select id from operator_action")
    assert await paid.rows("select actor from refund") == [{"actor": f"operator/{action['id']}"}]
    await paid.call()
    await paid.work()
    assert await paid.rows("select actor from refund") == [{"actor": None}]
    refunded = [envelope for envelope, event in await paid.log.events() if isinstance(event, BookingRefunded)]
    assert [envelope.actor for envelope in refunded] == [f"operator/{action['id']}"]


async def test_nothing_to_correct_is_no_action(paid: PaidBookings) -> None:
    await paid.checkout(PAID)
    payment = await paid.pay(PAID)
    await paid.deliver_webhooks()
    await paid.refund_by_hand(payment)

    await reconciled(paid, correcting=True)

    assert await paid.rows("select id from operator_action") == []


async def test_rows_that_were_lost_come_back(paid: PaidBookings) -> None:
    await paid.checkout(PAID, HELD, REFUNDED)
    await paid.pay(PAID)
    await paid.pay(REFUNDED)
    await paid.deliver_webhooks()
    await paid.work(CancelBooking(room_id=ROOM, booking_id=REFUNDED, user_id=7))
    await paid.call()
    await paid.work()
    tables = (
        # A page that is closed has no address at Stripe any more.
        "select booking_id, status, session_id, case status when 'open' then url end from checkout_session order by 1",
        "select booking_id, payment_intent, status, refund_id, next_attempt_at from refund order by 1, 2",
    )
    before = [await paid.rows(table) for table in tables]
    await paid.rows("delete from checkout_session")
    await paid.rows("delete from refund")

    found = await reconciled(paid, correcting=True)

    stale = [(id, "stale_session") for id in (PAID, REFUNDED, HELD)] + [(REFUNDED, "stale_refund")]
    assert sorted(kinds(found)) == sorted(stale)
    assert found.left == ()
    assert [await paid.rows(table) for table in tables] == before
    assert kinds(await reconciled(paid)) == []


async def test_money_that_was_refunded_by_hand_is_reported_and_not_corrected(paid: PaidBookings) -> None:
    await paid.checkout(PAID)
    payment = await paid.pay(PAID)
    await paid.deliver_webhooks()
    await paid.refund_by_hand(payment)

    found = await reconciled(paid, correcting=True)

    assert kinds(found) == [(PAID, "wrong_sum")]
    assert found.differences[0].description == f"CONFIRMED: Stripe has 0, and it should have {AMOUNT} EUR"
    assert found.left == found.differences


async def test_money_for_a_booking_that_the_ledger_does_not_have_is_reported(paid: PaidBookings) -> None:
    await paid.checkout(PAID)
    await paid.pay(PAID)
    await paid.rows("delete from booking")

    assert kinds(await reconciled(paid)) == [(PAID, "unknown_booking")]


async def test_bookings_made_before_the_time_asked_for_are_left_out(paid: PaidBookings) -> None:
    await paid.checkout(PAID)
    await paid.pay(PAID)
    later = datetime.now(UTC) + timedelta(seconds=1)

    found = await reconcile(paid.database, paid.settings, since=later)

    assert (kinds(found), found.bookings) == ([], 0)
