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
from topics.messages.events import BookingConfirmed, BookingRefunded, DisputeClosed, DisputeOpened, RefundFailed
from topics.messages.releases import Release
from topics.messages.values import Terms
from workers.stripe.marks import Marks

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


async def reconciled(
    paid: PaidBookings, *, booking: UUID | None = None, correcting: bool = False, kafka: KafkaSettings | None = None
) -> Reconciled:
    return await reconcile(
        kafka or paid.log.settings,
        paid.database,
        paid.settings,
        booking=booking,
        correcting=correcting,
        operator="a test",
    )


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
    assert "was paid with 200.00 EUR, and the room does not know it" in first.differences[0].description
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


async def test_the_event_of_a_refund_that_reconcile_recorded_names_the_operator(paid: PaidBookings) -> None:
    await paid.checkout(REFUNDED)
    payment = await paid.pay(REFUNDED)
    await paid.deliver_webhooks()
    await paid.work(CancelBooking(room_id=ROOM, booking_id=REFUNDED, user_id=7))
    await paid.rows("delete from refund")
    await paid.refund_by_hand(payment)

    await reconciled(paid, correcting=True)

    (action,) = await paid.rows("select id from operator_action")
    await paid.work()
    refunded = [envelope for envelope, event in await paid.log.events() if isinstance(event, BookingRefunded)]
    assert [envelope.actor for envelope in refunded] == [f"operator/{action['id']}"]


async def test_nothing_to_correct_is_no_action(paid: PaidBookings) -> None:
    await paid.checkout(PAID)
    await paid.pay(PAID)
    await paid.deliver_webhooks()

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


async def test_a_row_that_is_due_again_names_the_operator_until_its_refund_is_made(paid: PaidBookings) -> None:
    await paid.checkout(REFUNDED)
    await paid.pay(REFUNDED)
    await paid.deliver_webhooks()
    await paid.work(CancelBooking(room_id=ROOM, booking_id=REFUNDED, user_id=7))
    await paid.rows("delete from refund")

    found = await reconciled(paid, correcting=True)

    assert (kinds(found), found.left) == ([(REFUNDED, "idle_refund")], ())
    (action,) = await paid.rows("select id from operator_action")
    operator = f"operator/{action['id']}"
    assert await paid.rows("select actor, amount_minor from refund") == [{"actor": operator, "amount_minor": AMOUNT}]
    await paid.call()
    await paid.work()
    assert await paid.rows("select actor from refund") == [{"actor": None}]
    assert await refunds_of(paid) == [(AMOUNT, False, operator)]
    assert kinds(await reconciled(paid)) == []


async def refunds_of(paid: PaidBookings) -> list[tuple[int, bool, str | None]]:
    """Return each refund's amount, whether a person made it, and its actor, as events have them."""
    return [
        (event.amount_minor, event.by_hand, envelope.actor)
        for envelope, event in await paid.log.events()
        if isinstance(event, BookingRefunded)
    ]


@pytest.mark.parametrize("first", ["by hand", "cancel"])
async def test_a_part_refunded_by_hand_and_the_rest_are_events_of_their_own_amounts(
    paid: PaidBookings, first: str
) -> None:
    await paid.checkout(PAID)
    payment = await paid.pay(PAID)
    await paid.deliver_webhooks()
    cancel = CancelBooking(room_id=ROOM, booking_id=PAID, user_id=7)
    if first == "by hand":
        await paid.refund_by_hand(payment, 5_000)
        await paid.work(cancel)
    else:
        await paid.work(cancel)
        await paid.refund_by_hand(payment, 5_000)

    # No webhook comes.
    found = await reconciled(paid, correcting=True)
    assert (kinds(found), found.left) == ([(PAID, "unknown_refund")], ())
    assert "50.00 EUR" in found.differences[0].description
    await paid.work()
    await paid.call()
    await paid.work()

    assert [(amount, by_hand) for amount, by_hand, _ in await refunds_of(paid)] == [(5_000, True), (15_000, False)]
    assert [refund["amount"] for refund in await paid.at_stripe("refunds")] == [5_000, 15_000]
    await nothing_changes(paid)


async def nothing_changes(paid: PaidBookings) -> None:
    """Check that nothing differs, and that mending once more sends nothing."""
    before = [envelope.id for envelope, _ in await paid.log.events()]
    again = await reconciled(paid, correcting=True)
    await paid.work()
    assert kinds(again) == []
    assert [envelope.id for envelope, _ in await paid.log.events()] == before
    report = await audit(paid.log.settings, paid.database)
    assert report.ok, list(report.problems())


async def test_a_command_that_was_sent_before_changes_nothing(paid: PaidBookings) -> None:
    await paid.checkout(PAID)
    payment = await paid.pay(PAID)
    await paid.deliver_webhooks()
    await paid.refund_by_hand(payment, 5_000)

    # Two operators at once, and then the webhook.
    await reconciled(paid, correcting=True)
    await reconciled(paid, correcting=True)
    await paid.deliver_webhooks()

    assert [(amount, by_hand) for amount, by_hand, _ in await refunds_of(paid)] == [(5_000, True)]
    assert await paid.status(PAID) == "CONFIRMED"
    await nothing_changes(paid)


async def test_a_whole_payment_refunded_by_hand_cancels_the_booking(paid: PaidBookings) -> None:
    await paid.checkout(PAID)
    payment = await paid.pay(PAID)
    await paid.deliver_webhooks()
    await paid.refund_by_hand(payment)

    found = await reconciled(paid, correcting=True)
    await paid.work()

    assert (kinds(found), found.left) == ([(PAID, "unknown_refund")], ())
    assert await paid.status(PAID) == "CANCELLED"
    assert await refunds_of(paid) == [(AMOUNT, True, "operator/1")]
    await nothing_changes(paid)


async def test_a_refund_that_failed_unnoticed_is_due_again(paid: PaidBookings) -> None:
    await paid.checkout(REFUNDED)
    await paid.pay(REFUNDED)
    await paid.deliver_webhooks()
    await paid.work(CancelBooking(room_id=ROOM, booking_id=REFUNDED, user_id=7))
    await paid.call()
    await paid.work()
    (made,) = await paid.at_stripe("refunds")
    await paid.act(f"refunds/{made['id']}/fail")

    found = await reconciled(paid, correcting=True)

    assert (kinds(found), found.left) == ([(REFUNDED, "failed_refund"), (REFUNDED, "idle_refund")], ())
    await paid.work()
    await paid.call()
    await paid.work()
    failed = [event for _, event in await paid.log.events() if isinstance(event, RefundFailed)]
    assert [(event.refund_id, event.amount_minor) for event in failed] == [(made["id"], AMOUNT)]
    assert [refund["status"] for refund in await paid.at_stripe("refunds")] == ["failed", "succeeded"]
    await nothing_changes(paid)


@pytest.mark.parametrize("outcome", ["won", "lost"])
async def test_a_dispute_and_its_end_become_events(paid: PaidBookings, outcome: str) -> None:
    await paid.checkout(PAID)
    payment = await paid.pay(PAID)
    await paid.deliver_webhooks()
    dispute = await paid.dispute(payment)

    opened = await reconciled(paid, correcting=True)
    await paid.work()
    assert (kinds(opened), opened.left, opened.disputes) == ([(PAID, "unknown_dispute")], (), 1)
    assert kinds(await reconciled(paid)) == []

    await paid.act(f"disputes/{dispute}/close", {"outcome": outcome})
    closed = await reconciled(paid, booking=PAID, correcting=True)
    await paid.work()

    assert (kinds(closed), closed.left) == ([(PAID, "unknown_dispute")], ())
    events = [event for _, event in await paid.log.events()]
    kinds_of_events = [event.message_type for event in events if isinstance(event, DisputeOpened | DisputeClosed)]
    assert kinds_of_events == [DisputeOpened.message_type, DisputeClosed.message_type]
    assert await paid.rows("select status, amount_minor from payment_dispute") == [
        {"status": outcome, "amount_minor": AMOUNT}
    ]
    await nothing_changes(paid)


async def test_an_inquiry_of_a_bank_takes_no_money_and_is_no_difference(paid: PaidBookings) -> None:
    await paid.checkout(PAID)
    payment = await paid.pay(PAID)
    await paid.deliver_webhooks()
    await paid.dispute(payment, inquiry=True)

    found = await reconciled(paid, correcting=True)

    assert (kinds(found), found.disputes) == ([], 0)


async def test_objects_of_another_installation_are_counted_and_left_alone(paid: PaidBookings) -> None:
    await paid.checkout(PAID)
    payment = await paid.pay(PAID)
    await paid.deliver_webhooks()
    theirs = Marks(paid.settings.payment_mark_key.get_secret_value(), UUID(int=77))
    for number, metadata in enumerate(
        (
            # Theirs with a mark of theirs, about a booking of theirs, and about one with the id of ours.
            {"booking_id": str(HELD), "mark": theirs.mark(HELD, 7)},
            {"booking_id": str(PAID), "mark": theirs.mark(PAID, ROOM)},
            # Theirs of a release without marks.
            {"booking_id": str(UUID(int=4711))},
        )
    ):
        session = await open_elsewhere(paid, {**metadata, "room_id": "7", "attempt": f"{number + 1}"})
        paid_there = await paid.act(f"sessions/{session}/pay", {"card": "4242424242424242"})
        await paid.create_at_stripe(
            "refunds", payment_intent=paid_there["payment_intent"], amount="100", **{"metadata[room_id]": "7"}
        )

    found = await reconciled(paid, correcting=True)

    assert (kinds(found), found.sessions, found.foreign) == ([], 1, 6)
    assert [paid["payment_intent"] for paid in await paid.at_stripe("refunds")].count(payment) == 0


async def open_elsewhere(paid: PaidBookings, metadata: dict[str, str]) -> str:
    """Open a session as another program does; return its id."""
    fields = {
        "mode": "payment",
        "client_reference_id": metadata["booking_id"],
        "line_items[0][quantity]": "1",
        "line_items[0][price_data][currency]": "eur",
        "line_items[0][price_data][unit_amount]": "45000",
        "line_items[0][price_data][product_data][name]": "x",
        "success_url": "https://other.example/ok",
        **{f"metadata[{name}]": value for name, value in metadata.items()},
    }
    return str((await paid.create_at_stripe("checkout/sessions", **fields))["id"])


async def test_a_session_of_0_1_0_without_a_mark_is_ours_by_its_row(paid: PaidBookings) -> None:
    await paid.checkout(PAID)
    await paid.pay(PAID)
    await paid.deliver_webhooks()
    (row,) = await paid.rows("select session_id, payment_intent from checkout_session")
    session = await open_elsewhere(paid, {"booking_id": str(PAID), "room_id": f"{ROOM}", "attempt": "2"})

    before = await reconciled(paid)
    await paid.rows(
        "insert into checkout_session (booking_id, attempt, room_id, status, params, idempotency_key, session_id,"
        " expires_at, causation, correlation) values (%s, 2, %s, 'open', '{}', 'k', %s, now(), 'c', 'c')",
        PAID,
        ROOM,
        session,
    )
    after = await reconciled(paid)

    assert row["payment_intent"] is not None
    assert (kinds(before), before.foreign) == ([], 1)
    # No booking waits for it: it must be closed.
    assert (kinds(after), after.foreign) == ([(PAID, "stale_session")], 0)


async def test_commands_that_a_running_release_cannot_decide_wait_for_the_rollout(paid: PaidBookings) -> None:
    await paid.checkout(PAID)
    payment = await paid.pay(PAID)
    await paid.deliver_webhooks()
    await paid.refund_by_hand(payment, 5_000)
    older = paid.log.settings.model_copy(update={"log_readable_by": Release.V0_1_0})

    found = await reconciled(paid, correcting=True, kafka=older)

    assert kinds(found) == [(PAID, "unknown_refund")]
    assert found.left == found.differences
    assert "LOG_READABLE_BY" in found.differences[0].correction
    assert await refunds_of(paid) == []


async def test_a_session_whose_row_lacks_its_payment_gets_it(paid: PaidBookings) -> None:
    await paid.checkout(PAID)
    payment = await paid.pay(PAID)
    await paid.deliver_webhooks()
    await paid.rows("update checkout_session set payment_intent = null")

    found = await reconciled(paid, correcting=True)

    assert kinds(found) == [(PAID, "stale_session")]
    assert "its row lacks the payment" in found.differences[0].description
    assert await paid.rows("select payment_intent from checkout_session") == [{"payment_intent": payment}]


async def test_money_for_a_booking_that_the_ledger_does_not_have_is_reported(paid: PaidBookings) -> None:
    await paid.checkout(PAID)
    await paid.pay(PAID)
    await paid.rows("delete from booking")

    assert kinds(await reconciled(paid)) == [(PAID, "unknown_booking")]


async def test_bookings_made_before_the_time_asked_for_are_left_out(paid: PaidBookings) -> None:
    await paid.checkout(PAID)
    await paid.pay(PAID)
    later = datetime.now(UTC) + timedelta(seconds=1)

    found = await reconcile(paid.log.settings, paid.database, paid.settings, since=later)

    assert (kinds(found), found.bookings) == ([], 0)


async def test_money_of_ours_stays_ours_when_the_key_of_the_marks_was_changed(paid: PaidBookings) -> None:
    await paid.checkout(PAID)
    await paid.pay(PAID)
    await paid.deliver_webhooks()
    changed = paid.settings.model_copy(update={"payment_mark_key": SecretStr("another key")})

    found = await reconcile(paid.log.settings, paid.database, changed)

    assert (kinds(found), found.sessions, found.foreign) == ([], 1, 0)
