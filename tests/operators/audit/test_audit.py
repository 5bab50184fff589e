"""The auditor finds no problem in a correct ledger, and names each fault that was made in it."""

import asyncio
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest
from pydantic import SecretStr

from operators.audit import Check, NoSuchTopic, Report, audit
from storage.settings import DatabaseSettings
from tests.operators import moves
from tests.operators.changed_stays import (
    AT_DESK,
    CANCELLED_CHANGE,
    CHANGED,
    CODE_BACK,
    CODE_REFUSED,
    DISCOUNTED,
    GAVE_UP,
    TOO_LATE,
    WAITING,
)
from tests.operators.decided_ledger import change_ledger, empty_ledger, write_cursors, write_ledger
from tests.operators.decided_log import (
    AT_HOTEL,
    BLOCK,
    CANCELLED,
    CLOSED,
    DIVIDED,
    EXPIRED,
    FIRST,
    FREE,
    GIVEN_BACK,
    HELD,
    LATE,
    LEFT,
    LEFT_EARLY,
    MISSED,
    PAID,
    PRICE,
    REFUNDED,
    REJECTED,
    RELEASED_BLOCK,
    STAYING,
    WALKED,
    DecidedLog,
    decided_log,
    guest_list,
    intent,
    nights_on_sale,
    publish,
    record,
    session,
)
from tests.operators.trips import CANCELLED_TRIP, REFUSED_TRIP, SOLD_TRIP, TRIP, UNPAID_TRIP, leg
from tests.support.stack import Server, fresh_database
from tests.support.waiting import MAX_WAIT_SECONDS
from topics.catalogue import BOOKING_EVENTS
from topics.envelope import Outgoing
from topics.kafka import admin
from topics.kafka.settings import KafkaSettings
from topics.messages.events import (
    EVENTS,
    BlockReleased,
    BookingCancelled,
    BookingConfirmed,
    BookingEvent,
    BookingExpired,
    BookingRefunded,
    BookingRejected,
    BookingReserved,
    CheckoutOpened,
    CommandRepeated,
    DisputeClosed,
    DisputeOpened,
    GuestsAdded,
    GuestsChanged,
    GuestsCheckedIn,
    GuestsCheckedOut,
    GuestsDidNotArrive,
    InventoryChanged,
    InventoryOpened,
    InventoryUnchanged,
    NightsBlocked,
    PaymentDeclined,
    PaymentRequested,
    RefundClosed,
    RefundFailed,
    RefundRequested,
    SaleTermsChanged,
    night_ranges,
)
from topics.messages.sale import NO_SALE_TERMS, AppliedPolicy
from topics.messages.values import (
    BlockReason,
    BookingStatus,
    CancelReason,
    DisputeResult,
    HotelReason,
    RefundClosing,
    RefundReason,
    Rejection,
    Terms,
)

NIGHTS = "no oversold night"
COUNTS = "counts match bookings"
HOLDS = "holds end on time"
CODES = "codes within limits"
DOCUMENTS = "documents add up"
LEDGER = "log matches ledger"
GUESTS = "guest lists are stored"
READS = "read models match events"
UNKNOWN = UUID(int=99)
NEW_GUEST_LIST = guest_list(DIVIDED, 2)
NIGHT = f"room 1, night {FIRST}"
OF_PAID = f"{LEDGER}: *: booking {PAID}:"
OF_STAYING = f"{LEDGER}: *: booking {STAYING}:"
NIGHT_3 = f"room 3, night {FIRST}"


class WrittenLog:
    """A history whose log and ledger are written and agree; most tests begin with it.

    The log is put onto a topic of its own for each test that adds to it; the ledger is written anew after each test
    that changes it.
    """

    def __init__(self, kafka: KafkaSettings, database: DatabaseSettings) -> None:
        self.database = database
        self.kafka = kafka
        self._logs = [kafka]

    async def build(self) -> None:
        await admin.create(self.kafka, [BOOKING_EVENTS])
        await publish(self.kafka, [record(self.kafka, logged) for logged in decided_log().events])
        await write_ledger(self.kafka, self.database, decided_log())

    async def with_a_log_of_its_own(self, history: DecidedLog) -> KafkaSettings:
        kafka = self.kafka.model_copy(update={"topic_prefix": f"{self.kafka.topic_prefix}{len(self._logs)}."})
        self._logs.append(kafka)
        await admin.create(kafka, [BOOKING_EVENTS])
        await write_cursors(kafka, self.database, history)
        return kafka

    async def mend(self) -> None:
        await empty_ledger(self.database)
        await write_ledger(self.kafka, self.database, decided_log())

    async def remove(self) -> None:
        await asyncio.gather(*(admin.delete(kafka, [BOOKING_EVENTS]) for kafka in self._logs))


@pytest.fixture(scope="module")
def written(kafka: Server, postgres: Server, migrated: str) -> Iterator[WrittenLog]:
    settings = KafkaSettings(
        _env_file=None, kafka_url=kafka.url, topic_prefix=f"test-{uuid4().hex[:12]}.", topic_partitions=4
    )
    with fresh_database(postgres.url, migrated) as url:
        history = WrittenLog(settings, DatabaseSettings(_env_file=None, database_url=SecretStr(url)))
        asyncio.run(history.build())
        yield history
        asyncio.run(history.remove())


def payments_of_divided(hand: int = 3_000, disputes: str = "{'dp_1': (5000, 'lost')}") -> str:
    """Return the column `payments` of DIVIDED as a problem shows it."""
    refunds = f"{{'re_hand': ({hand}, True), 're_again': (10000, True)}}"
    payment = f"LedgerPayment(amount={2 * PRICE}, state='refunded', due=0, closed=2000"
    payment += f", retained=0, policy=0, refunds={refunds}"
    return f"{{'{intent(DIVIDED)}': {payment}, failed=('re_rest',), disputes={disputes})}}"


def problems(report: Report, check: str) -> list[str]:
    return [line for line in report.problems() if line.startswith(f"{check}:")]


def check_of(line: str) -> str:
    """Return the name of the check that a problem is listed under."""
    return line.partition(": ")[0]


async def audited(
    kafka: KafkaSettings, database: DatabaseSettings, history: DecidedLog, *records: Outgoing, **options: Any
) -> Report:
    """Put the hotel's log, then `records`, onto the real log, and audit it against what is in the tables."""
    await publish(kafka, [*(record(kafka, logged) for logged in history.events), *records])
    return await audit(kafka, database, max_wait_seconds=0.5, **options)


# Audits that find nothing wrong.


async def test_nothing_is_wrong_where_nothing_was_broken(
    kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    history = decided_log()
    await write_ledger(kafka_settings, database, history)

    report = await audited(kafka_settings, database, history, holds=True)

    assert report.problems() == []
    assert report.ok
    assert report.as_json() == {
        "audit": "ok",
        "checks": {
            NIGHTS: "ok",
            COUNTS: "ok",
            HOLDS: "ok",
            CODES: "ok",
            DOCUMENTS: "ok",
            LEDGER: "ok",
            GUESTS: "ok",
            READS: "ok",
        },
        "problems": [],
        "events": len(history.events),
        "bookings": 62,
        "nights": 43,
    }


async def test_records_of_the_log_are_read_also_without_time_to_wait(
    kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    history = decided_log()
    await write_ledger(kafka_settings, database, history)
    await publish(kafka_settings, [record(kafka_settings, logged) for logged in history.events])

    report = await audit(kafka_settings, database, max_wait_seconds=0)

    assert report.problems() == []


def test_everything_that_can_happen_to_a_booking_happens_in_the_log() -> None:
    history = decided_log()

    status = {booking: history.bookings[booking].status for booking in history.bookings}
    assert status == {
        PAID: "CONFIRMED",
        AT_HOTEL: "CONFIRMED",
        REJECTED: "REJECTED",
        EXPIRED: "EXPIRED",
        LATE: "CONFIRMED",
        REFUNDED: "CANCELLED",
        CANCELLED: "CANCELLED",
        HELD: "RESERVED",
        CLOSED: "CANCELLED",
        FREE: "CONFIRMED",
        DIVIDED: "CANCELLED",
        LEFT_EARLY: "CANCELLED",
        STAYING: "CHECKED_IN",
        LEFT: "CHECKED_OUT",
        MISSED: "NO_SHOW",
        GIVEN_BACK: "CANCELLED",
        WALKED: "CANCELLED",
        CHANGED: "CONFIRMED",
        CANCELLED_CHANGE: "CANCELLED",
        WAITING: "CONFIRMED",
        GAVE_UP: "CONFIRMED",
        TOO_LATE: "CONFIRMED",
        AT_DESK: "CHECKED_OUT",
        DISCOUNTED: "CONFIRMED",
        CODE_REFUSED: "REJECTED",
        CODE_BACK: "CANCELLED",
        TRIP: "CONFIRMED",
        leg(TRIP, 1): "CANCELLED",
        leg(TRIP, 2): "NO_SHOW",
        CANCELLED_TRIP: "CANCELLED",
        leg(CANCELLED_TRIP, 1): "CANCELLED",
        leg(CANCELLED_TRIP, 2): "CANCELLED",
        REFUSED_TRIP: "REJECTED",
        leg(REFUSED_TRIP, 1): "CANCELLED",
        leg(REFUSED_TRIP, 2): "REJECTED",
        SOLD_TRIP: "CONFIRMED",
        leg(SOLD_TRIP, 1): "CONFIRMED",
        leg(SOLD_TRIP, 2): "CONFIRMED",
        UNPAID_TRIP: "EXPIRED",
        leg(UNPAID_TRIP, 1): "CANCELLED",
        leg(UNPAID_TRIP, 2): "CANCELLED",
        **dict.fromkeys(moves.BOUGHT, "CONFIRMED"),
        moves.ENDED: "CANCELLED",
        moves.leg(moves.DOWN): "CONFIRMED",
        moves.leg(moves.UP): "CHECKED_IN",
        moves.leg(moves.BY_HOTEL): "CONFIRMED",
        moves.leg(moves.REFUSED): "REJECTED",
        moves.leg(moves.WITHDRAWN): "CANCELLED",
        moves.leg(moves.UNPAID): "CANCELLED",
        moves.leg(moves.REPLACED): "CANCELLED",
        moves.leg(moves.REPLACED, 2): "CONFIRMED",
        moves.leg(moves.ENDED): "CANCELLED",
        moves.leg(moves.CHANGED_FIRST, 2): "CONFIRMED",
        moves.leg(moves.WAITING): "RESERVED",
    }
    assert {type(logged.event) for logged in history.events} == set(EVENTS) - {InventoryUnchanged}


async def test_a_system_where_nothing_ever_happened_is_all_right(
    kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    report = await audit(kafka_settings, database)

    assert report.as_json()["audit"] == "ok"


async def test_events_published_twice_are_no_problem(kafka_settings: KafkaSettings, database: DatabaseSettings) -> None:
    history = decided_log()
    await write_ledger(kafka_settings, database, history)

    report = await audited(
        kafka_settings, database, history, *(record(kafka_settings, logged) for logged in history.events[-9:])
    )

    assert report.problems() == []


async def test_the_ledger_may_be_ahead_of_the_log_for_a_moment(
    kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    history = decided_log()
    await write_ledger(kafka_settings, database, history)
    records = [record(kafka_settings, logged) for logged in history.events]
    await publish(kafka_settings, records[:-5])
    read = asyncio.Event()

    async def publish_the_rest() -> None:
        await read.wait()
        await publish(kafka_settings, records[-5:])

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(publish_the_rest())
        # However long the broker takes for the rest, the audit is not the one to give up first.
        auditing = tasks.create_task(
            audit(kafka_settings, database, max_wait_seconds=MAX_WAIT_SECONDS, progress=lambda *_: read.set())
        )

    assert auditing.result().problems() == []


async def test_a_decision_made_while_the_audit_reads_is_no_problem(
    kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    history = decided_log()
    await write_ledger(kafka_settings, database, history)
    newer = history.append(BookingCancelled(room_id=2, booking_id=HELD, reason=CancelReason.BY_GUEST))

    def decide(*_: int) -> None:
        with psycopg.connect(database.conninfo()) as connection:
            connection.execute("update log_cursor set sequence = %s where partition = 2", (newer.sequence,))

    report = await audited(kafka_settings, database, history, progress=decide)

    assert report.problems() == []


async def test_there_is_nothing_to_audit_without_a_log(
    kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    nowhere = kafka_settings.model_copy(update={"topic_prefix": "nowhere."})

    with pytest.raises(NoSuchTopic, match=r"nowhere\.booking\.events"):
        await audit(nowhere, database)


# Somebody writes into the tables.


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        pytest.param(
            f"update inventory set booked_count = booked_count - 1 where room_id = 1 and date = '{FIRST}'",
            [
                f"{COUNTS}: {NIGHT}: inventory counts 2 booked and 0 reserved, bookings sum to 3 booked and 0 reserved",
                f"{LEDGER}: {NIGHT}: booked_count is 2 in the ledger and 3 by the log",
            ],
            id="a booked room is not counted",
        ),
        pytest.param(
            f"update inventory set reserved_count = reserved_count + 1 where room_id = 2 and date = '{FIRST}'",
            [
                (f"{COUNTS}: room 2, night {FIRST}: inventory counts 1 booked and 3 reserved, "
                "bookings sum to 1 booked and 2 reserved"),
                f"{LEDGER}: room 2, night {FIRST}: reserved_count is 3 in the ledger and 2 by the log",
            ],
            id="a room is held for nobody",
        ),
        pytest.param(
            f"delete from inventory where room_id = 1 and date = '{FIRST}'",
            [
                f"{COUNTS}: {NIGHT}: not in the inventory, bookings sum to 3 booked and 0 reserved",
                f"{LEDGER}: {NIGHT}: on the log but not in the ledger",
            ],
            id="a night is gone",
        ),
        pytest.param(
            "insert into inventory (room_id, date, hotel_id, total_count, price_minor, currency) "
            "values (3, '2027-01-01', 1, 1, 1, 'EUR')",
            [f"{LEDGER}: room 3, night 2027-01-01: in the ledger but not on the log"],
            id="a night that nobody opened",
        ),
        pytest.param(
            f"update inventory set price_minor = 1, surge_milli = 2000, closed = true, total_count = 11 "
            f"where room_id = 1 and date = '{FIRST}'",
            [
                (f"{LEDGER}: {NIGHT}: total_count is 11 in the ledger and 10 by the log, "
                f"price_minor is 1 in the ledger and {PRICE} by the log, "
                "surge_milli is 2000 in the ledger and 1000 by the log, "
                "closed is True in the ledger and False by the log")
            ],
            id="a night is changed behind its owner's back",
        ),
        pytest.param(
            f"update booking set status = 'CANCELLED' where id = '{AT_HOTEL}'",
            [
                f"{COUNTS}: {NIGHT}: inventory counts 3 booked and 0 reserved, bookings sum to 2 booked and 0 reserved",
                f"{LEDGER}: booking {AT_HOTEL}: status is 'CANCELLED' in the ledger and 'CONFIRMED' by the log",
            ],
            id="a booking has another status",
        ),
        pytest.param(
            f"update booking set status = 'GUESTS_ADDED' where id = '{HELD}'",
            [f"{LEDGER}: booking {HELD}: status is 'GUESTS_ADDED' in the ledger and 'RESERVED' by the log"],
            id="a status that counts the same",
        ),
        pytest.param(
            f"update booking set amount_minor = 1, user_id = 8 where id = '{PAID}'",
            [
                (f"{LEDGER}: booking {PAID}: user_id is 8 in the ledger and 7 by the log, "
                f"amount_minor is 1 in the ledger and {2 * PRICE} by the log")
            ],
            id="a booking costs something else",
        ),
        pytest.param(
            f"update booking set check_out = check_out + 1 where id = '{PAID}'",
            [
                (f"{COUNTS}: room 1, night {FIRST + timedelta(days=2)}: inventory counts 0 booked and 0 reserved, "
                "bookings sum to 1 booked and 0 reserved")
            ],
            id="a stay is a night longer",
        ),
        pytest.param(
            f"delete from booking where id = '{REJECTED}'",
            [f"{LEDGER}: booking {REJECTED}: on the log but not in the ledger"],
            id="a booking is gone",
        ),
        pytest.param(
            f"update booking set id = '{UNKNOWN}' where id = '{REJECTED}'",
            [f"{LEDGER}: booking {UNKNOWN}: in the ledger but not on the log"],
            id="a booking that nobody made",
        ),
        pytest.param(
            f"update booking set rejection = 'no_nights' where id = '{REJECTED}'",
            [f"{LEDGER}: booking {REJECTED}: rejection is 'no_nights' in the ledger and 'sold_out' by the log"],
            id="a refusal has another reason",
        ),
        pytest.param(
            f"delete from booking_guest where booking_id = '{PAID}' and guest_id = 71",
            [f"{LEDGER}: booking {PAID}: guest_ids is (72,) in the ledger and (71, 72) by the log"],
            id="a guest is gone",
        ),
        pytest.param(
            f"update booking set payments = '[]' where id = '{PAID}'",
            [(f"{LEDGER}: booking {PAID}: payments is {{}} in the ledger and "
             f"{{'pi_1': LedgerPayment(amount={2 * PRICE}, state='kept', due=0, closed=0, retained=0, policy=0, "
             "refunds={}, failed=(), disputes={})} by the log")],
            id="a payment is gone",
        ),
        pytest.param(
            f"update booking set payments = jsonb_set(payments, '{{0,refunds,0,1}}', '2999') where id = '{DIVIDED}'",
            [(f"{LEDGER}: booking {DIVIDED}: payments is {payments_of_divided(hand=2_999)} in the ledger and "
              f"{payments_of_divided()} by the log")],
            id="a refund by hand has another amount",
        ),
        pytest.param(
            f"update booking set payments = payments #- '{{0,disputes}}' where id = '{DIVIDED}'",
            [(f"{LEDGER}: booking {DIVIDED}: payments is {payments_of_divided(disputes='{}')} in the ledger and "
              f"{payments_of_divided()} by the log")],
            id="a dispute is gone",
        ),
        pytest.param(
            f"update booking set payments = payments - 0 where id = '{DIVIDED}'",
            [f"{LEDGER}: booking {DIVIDED}: payments is {{}} in the ledger and {payments_of_divided()} by the log"],
            id="a divided payment is gone",
        ),
        pytest.param(
            f"update booking set night_amounts_minor = '{{1, 2}}', stay_times = null where id = '{DIVIDED}'",
            [(f"{LEDGER}: booking {DIVIDED}: night_amounts is (1, 2) in the ledger and ({PRICE}, {PRICE}) by the log, "
              "stay_times is None in the ledger and {'time_zone': 'Europe/Lisbon', 'check_in_time': '15:00:00', "
              "'check_out_time': '11:00:00'} by the log")],
            id="the nights cost something else",
        ),
        pytest.param(
            f"update booking set freed_from = null where id = '{LEFT_EARLY}'",
            [(f"{COUNTS}: room 1, night {FIRST + timedelta(days=3)}: inventory counts 1 booked and 0 reserved, "
              "bookings sum to 0 booked and 0 reserved"),
             (f"{LEDGER}: booking {LEFT_EARLY}: freed_from is None in the ledger and "
              f"'{FIRST + timedelta(days=4)}' by the log")],
            id="a past night counts as free",
        ),
        pytest.param(
            f"update booking set guest_list_id = '{UNKNOWN}' where id = '{DIVIDED}'",
            [f"{GUESTS}: booking {DIVIDED} of room 1: its guest list {UNKNOWN} is not stored",
             (f"{LEDGER}: booking {DIVIDED}: guest_list_id is '{UNKNOWN}' in the ledger and "
              f"'{NEW_GUEST_LIST}' by the log")],
            id="a booking names another list of guests",
        ),
        pytest.param(
            f"update booking set earlier_guest_list_ids = null where id = '{DIVIDED}'",
            [(f"{LEDGER}: booking {DIVIDED}: earlier_guest_list_ids is () in the ledger and "
              f"('{guest_list(DIVIDED, 1)}',) by the log")],
            id="a booking forgot an earlier list of guests",
        ),
        pytest.param(
            f"update inventory set blocked_count = 0 where room_id = 3 and date = '{FIRST}'",
            [f"{COUNTS}: {NIGHT_3}: inventory counts 0 blocked, blocks sum to 1",
             f"{LEDGER}: {NIGHT_3}: blocked_count is 0 in the ledger and 1 by the log"],
            id="a blocked room is not counted",
        ),
        pytest.param(
            f"update inventory set allowance_count = 9 where room_id = 3 and date = '{FIRST}'",
            [f"{LEDGER}: {NIGHT_3}: allowance_count is 9 in the ledger and 2 by the log"],
            id="a night may be sold more often",
        ),
        pytest.param(
            f"update room_block set released = false where id = '{RELEASED_BLOCK}'",
            [f"{COUNTS}: {NIGHT_3}: inventory counts 1 blocked, blocks sum to 3",
             f"{LEDGER}: room 3, block {RELEASED_BLOCK}: released is False in the ledger and True by the log"],
            id="a released block is one again",
        ),
        pytest.param(
            f"update room_block set end_night = end_night + 1, reason = 'group' where id = '{BLOCK}'",
            [(f"{COUNTS}: room 3, night {FIRST + timedelta(days=5)}: inventory counts 0 blocked, blocks sum to 1"),
             (f"{LEDGER}: room 3, block {BLOCK}: end_night is '{FIRST + timedelta(days=6)}' in the ledger and "
              f"'{FIRST + timedelta(days=5)}' by the log, "
              "reason is 'group' in the ledger and 'maintenance' by the log")],
            id="a block is a night longer",
        ),
        pytest.param(
            f"delete from room_block where id = '{BLOCK}'",
            [f"{COUNTS}: {NIGHT_3}: inventory counts 1 blocked, blocks sum to 0",
             f"{LEDGER}: room 3, block {BLOCK}: on the log but not in the ledger"],
            id="a block is gone",
        ),
        pytest.param(
            "update room_sale_terms set version = 2 where room_id = 3",
            [f"{LEDGER}: sale terms of room 3: version is 2 in the ledger and 3 by the log"],
            id="older sale terms",
        ),
        pytest.param(
            "update room_sale_terms set room_id = 1 where room_id = 3",
            [f"{LEDGER}: sale terms of room 1: in the ledger but not on the log",
             f"{LEDGER}: sale terms of room 3: on the log but not in the ledger"],
            id="the sale terms of another room",
        ),
        pytest.param(
            f"update booking set pending_change = null where id = '{WAITING}'",
            [f"{COUNTS}: room 4, night {FIRST}: inventory counts * reserved, bookings sum to * booked and 0 reserved",
             f"{LEDGER}: booking {WAITING}: pending_change is None in the ledger and LedgerChange(*"],
            id="a change that is not paid is gone",
        ),
        pytest.param(
            f"update booking set earlier_stays = null where id = '{CHANGED}'",
            [f"{LEDGER}: booking {CHANGED}: earlier_stays is () in the ledger and (('*"],
            id="the stays before changes are gone",
        ),
        pytest.param(
            f"update booking set accepted_terms = 'other' where id = '{CHANGED}'",
            [f"{LEDGER}: booking {CHANGED}: accepted_terms is 'other' in the ledger and '2026-03' by the log"],
            id="other terms were accepted",
        ),
        pytest.param(
            f"update booking set request_hash = 'other' where id = '{CHANGED}'",
            [f"{LEDGER}: booking {CHANGED}: request_hash is 'other' in the ledger and '{'0f' * 16}' by the log"],
            id="another request made it",
        ),
        pytest.param(
            "update promo_code set used_count = 2",
            ["log matches ledger: promo code 8: used_count is 2 in the ledger and 1 by the log"],
            id="a use of a promo code too many",
        ),
        pytest.param(
            f"update promo_code_use set returned = false where booking_id = '{CODE_BACK}'",
            ["log matches ledger: promo code 8: uses is *(8, False)* in the ledger and *(8, True)* by the log"],
            id="a use of a promo code came back",
        ),
        pytest.param(
            "delete from promo_code",
            ["log matches ledger: promo code 8: hotel_id is 0 in the ledger and 1 by the log, *"],
            id="a promo code is gone",
        ),
        pytest.param(
            f"update hotel_document set amount_minor = 1 where booking_id = '{AT_DESK}'",
            [f"{LEDGER}: document *: amount_minor is 1 in the ledger and {PRICE} by the log"],
            id="an invoice of another amount",
        ),
        pytest.param(
            f"delete from hotel_document where booking_id = '{AT_DESK}'",
            [f"{LEDGER}: document *: on the log but not in the ledger"],
            id="an invoice is gone",
        ),
        pytest.param(
            f"update booking set status = 'CHECKED_OUT' where id = '{STAYING}'",
            [f"{LEDGER}: booking {STAYING}: status is 'CHECKED_OUT' in the ledger and 'CHECKED_IN' by the log"],
            id="guests who are there have left",
        ),
        pytest.param(
            f"update booking set freed_from = check_out where id = '{MISSED}'",
            [f"{COUNTS}: {NIGHT_3}: inventory counts 1 booked and 0 reserved, bookings sum to 2 booked and 0 reserved",
             (f"{LEDGER}: booking {MISSED}: freed_from is '{FIRST + timedelta(days=2)}' in the ledger "
              f"and '{FIRST}' by the log")],
            id="the nights of guests who did not arrive are sold",
        ),
        pytest.param(
            f"update booking set freed_from = null where id = '{LEFT}'",
            [f"{COUNTS}: {NIGHT_3}: inventory counts 1 booked and 0 reserved, bookings sum to 2 booked and 0 reserved",
             f"{LEDGER}: booking {LEFT}: freed_from is None in the ledger and '{FIRST}' by the log"],
            id="the nights of guests who left early are sold",
        ),
        pytest.param(
            f"update booking set policy = jsonb_set(policy, '{{kept_minor}}', '1') where id = '{LEFT}'",
            [(f"{LEDGER}: booking {LEFT}: policy is {{'percent': 50, 'kept_minor': 1}} in the ledger and "
              f"{{'kept_minor': {PRICE}, 'percent': 50}} by the log")],
            id="another amount is kept",
        ),
        pytest.param(
            f"update booking set sale = null where id = '{STAYING}'",
            [f"{LEDGER}: booking {STAYING}: sale is None in the ledger and {{'terms_version': 3"],
            id="a booking forgot its terms",
        ),
        pytest.param(
            f"update booking set payments = payments #- '{{0,retained_minor}}' where id = '{LEFT}'",
            [(f"{LEDGER}: booking {LEFT}: payments is {{'{intent(LEFT)}': LedgerPayment(amount={2 * PRICE}, "
              "state='refunded', due=0, closed=0, retained=0")],
            id="a payment forgot the amount that is kept",
        ),
        pytest.param(
            "update log_cursor set sequence = sequence + 2 where partition = 1",
            [(LEDGER + ": partition 1: the ledger has decided events up to sequence {above}, the log ends at {last}: "
             "the outbox is not published")],
            id="an outbox row was never published",
        ),
        pytest.param(
            "update log_cursor set sequence = sequence - 1 where partition = 1",
            [(LEDGER + ": partition 1: the log goes up to sequence {last}, the ledger has decided events "
             "up to {below}: the rest is not the ledger's")],
            id="the ledger was set back",
        ),
    ],
)  # fmt: skip
async def test_a_ledger_that_somebody_changed_is_named(statement: str, named: list[str], written: WrittenLog) -> None:
    await change_ledger(written.database, statement)

    report = await audit(written.kafka, written.database, max_wait_seconds=0.5)

    await written.mend()
    last = decided_log().last(1)
    for line in named:
        expected = line.replace("{last}", str(last)).replace("{above}", str(last + 2)).replace("{below}", str(last - 1))
        pattern = ".*".join(map(re.escape, expected.split("*")))
        assert any(re.match(pattern, problem) for problem in report.problems()), report.problems()
    assert {check_of(line) for line in report.problems()} == {check_of(line) for line in named} | {LEDGER}


async def test_guest_lists_are_those_of_their_bookings_and_blank_only_when_erased(written: WrittenLog) -> None:
    async def named(*statements: str) -> list[str]:
        await change_ledger(written.database, *statements)
        return problems(await audit(written.kafka, written.database, max_wait_seconds=0.5), GUESTS)

    of_divided = f"where id = '{NEW_GUEST_LIST}'"
    list_of = f"{GUESTS}: booking {DIVIDED} of room 1: its guest list {NEW_GUEST_LIST}"
    blank = await named(f"update guest_list set guests = null {of_divided}")
    erased = await named(f"update guest_list set erased_at = now() {of_divided}")
    of_another = await named(f"update guest_list set booking_id = '{PAID}' {of_divided}")
    gone = await named(f"delete from guest_list {of_divided}")
    await written.mend()

    assert blank == [f"{list_of} is blank, and was not erased"]
    assert erased == []
    assert of_another == [f"{list_of} is that of booking {PAID}"]
    assert gone == [f"{list_of} is not stored"]


async def test_payments_as_0_1_0_wrote_them_are_no_difference(written: WrittenLog) -> None:
    """It kept the state of each payment alone, and the next release kept what it could not know without an id."""
    await change_ledger(
        written.database,
        "update booking set payments = (select jsonb_agg(paid - 'refunds' - 'due_minor')"
        f" from jsonb_array_elements(payments) as paid) where id in ('{PAID}', '{REFUNDED}')",
    )
    as_before = await audit(written.kafka, written.database, max_wait_seconds=0.5)
    await change_ledger(
        written.database,
        f"""update booking set payments = jsonb_set(payments, '{{0,refunds}}', '[["", {2 * PRICE}, false]]')"""
        f" where id = '{REFUNDED}'",
    )
    without_id = await audit(written.kafka, written.database, max_wait_seconds=0.5)
    await change_ledger(
        written.database,
        f"""update booking set payments = jsonb_set(payments, '{{0,refunds}}', '[["", {PRICE}, false]]')"""
        f" where id = '{REFUNDED}'",
    )
    with_another_amount = await audit(written.kafka, written.database, max_wait_seconds=0.5)
    await written.mend()

    assert as_before.problems() == []
    assert without_id.problems() == []
    (line,) = with_another_amount.problems()
    assert line.startswith(f"{LEDGER}: booking {REFUNDED}: payments is ")


async def test_an_inventory_that_is_oversold_is_named(
    kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    history = decided_log()
    await write_ledger(kafka_settings, database, history)
    await change_ledger(
        database,
        "alter table inventory drop constraint never_oversold",
        f"update inventory set total_count = 2 where room_id = 1 and date = '{FIRST}'",
    )

    report = await audited(kafka_settings, database, history)

    assert problems(report, NIGHTS) == [
        f"{NIGHTS}: {NIGHT}: the inventory counts 3 booked, 0 reserved and 0 blocked of 2"
    ]


async def test_an_overdue_hold_is_named_when_asked_for(
    kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    history = decided_log()
    await write_ledger(kafka_settings, database, history)
    await change_ledger(database, f"update booking set hold_expires_at = now() - interval '1 hour' where id = '{HELD}'")

    asked = await audited(kafka_settings, database, history, holds=True)
    not_asked = await audit(kafka_settings, database)

    (line,) = problems(asked, HOLDS)
    assert line.startswith(f"{HOLDS}: booking {HELD} of room 2: RESERVED and its hold is overdue by 36")
    assert problems(not_asked, HOLDS) == []


# Somebody writes onto the log.


def last_minute(history: DecidedLog, event: BookingEvent, *, at_night: bool = False) -> None:
    """Let the event follow the last one of its room; `at_night` after every hold is over."""
    time = history.events[-1].time + timedelta(days=2 if at_night else 0)
    history.append(event, at=time)


def confirmed(booking_id: UUID, room_id: int = 1, **values: Any) -> BookingConfirmed:
    event = BookingConfirmed(room_id=room_id, booking_id=booking_id, amount_minor=2 * PRICE, currency="EUR")
    return msgspec.structs.replace(event, **values)


def refund(booking_id: UUID, payment_intent: str, amount_minor: int = 2 * PRICE) -> RefundRequested:
    return RefundRequested(
        room_id=1,
        booking_id=booking_id,
        session_id=session(booking_id),
        payment_intent=payment_intent,
        amount_minor=amount_minor,
        currency="EUR",
        reason=RefundReason.BOOKING_CANCELLED,
    )


def refunded(booking_id: UUID, amount_minor: int, refund_id: str = "re_new", **values: Any) -> BookingRefunded:
    """Return the event that a refund of the booking's payment was carried out."""
    return BookingRefunded(
        room_id=1,
        booking_id=booking_id,
        payment_intent=intent(booking_id),
        refund_id=refund_id,
        amount_minor=amount_minor,
        **values,
    )


def failed(booking_id: UUID, refund_id: str, amount_minor: int, *, by_hand: bool = False) -> RefundFailed:
    """Return the event that a refund of the booking's payment failed."""
    return RefundFailed(
        room_id=1,
        booking_id=booking_id,
        payment_intent=intent(booking_id),
        refund_id=refund_id,
        amount_minor=amount_minor,
        failure="unknown",
        by_hand=by_hand,
    )


def closed(booking_id: UUID, amount_minor: int) -> RefundClosed:
    """Return the event that an operator closed the refund of the booking's payment."""
    return RefundClosed(
        room_id=1,
        booking_id=booking_id,
        payment_intent=intent(booking_id),
        amount_minor=amount_minor,
        currency="EUR",
        reason=RefundClosing.NOT_POSSIBLE,
    )


def disputed(booking_id: UUID, dispute_id: str) -> DisputeOpened:
    """Return the event that the booking's payment is disputed."""
    return DisputeOpened(
        room_id=1,
        booking_id=booking_id,
        payment_intent=intent(booking_id),
        dispute_id=dispute_id,
        amount_minor=1,
        currency="EUR",
        reason="fraudulent",
    )


def dispute_lost(booking_id: UUID, dispute_id: str) -> DisputeClosed:
    """Return the event that a dispute was lost."""
    return DisputeClosed(
        room_id=1,
        booking_id=booking_id,
        payment_intent=intent(booking_id),
        dispute_id=dispute_id,
        amount_minor=1,
        currency="EUR",
        result=DisputeResult.LOST,
    )


def cancelled(booking_id: UUID, reason: CancelReason, **values: Any) -> BookingCancelled:
    return BookingCancelled(room_id=1, booking_id=booking_id, reason=reason, **values)


def reserved(booking_id: UUID, rooms_count: int = 1, nights: int = 2, first_day: int = 0) -> BookingReserved:
    return BookingReserved(
        room_id=1,
        booking_id=booking_id,
        hotel_id=1,
        check_in=FIRST + timedelta(days=first_day),
        check_out=FIRST + timedelta(days=first_day + nights),
        rooms_count=rooms_count,
        amount_minor=2 * PRICE,
        currency="EUR",
    )


def left(booking_id: UUID, day: int | None = None, kept: int | None = None) -> GuestsCheckedOut:
    """Return the event that guests of room 3 left, so many days after the first one."""
    return GuestsCheckedOut(
        room_id=3,
        booking_id=booking_id,
        freed_from=None if day is None else FIRST + timedelta(days=day),
        policy=None if kept is None else AppliedPolicy(kept_minor=kept),
    )


def missed(booking_id: UUID, day: int = 0, kept: int = 2 * PRICE) -> GuestsDidNotArrive:
    """Return the event that guests of room 1 did not arrive."""
    return GuestsDidNotArrive(
        room_id=1,
        booking_id=booking_id,
        freed_from=FIRST + timedelta(days=day),
        policy=AppliedPolicy(kept_minor=kept),
    )


def blocked(block_id: UUID, rooms_count: int = 1, first_day: int = 0) -> NightsBlocked:
    """Return the event that two nights of room 3 are blocked."""
    return NightsBlocked(
        room_id=3,
        block_id=block_id,
        first_night=FIRST + timedelta(days=first_day),
        end_night=FIRST + timedelta(days=first_day + 2),
        rooms_count=rooms_count,
        reason=BlockReason.OTHER,
    )


def released(block_id: UUID) -> BlockReleased:
    """Return the event that a block of two nights of room 3 is released."""
    nights = {"first_night": FIRST, "end_night": FIRST + timedelta(days=2)}
    return BlockReleased(room_id=3, block_id=block_id, rooms_count=1, **nights)


def at_hotel(event: BookingReserved, at_hotel_minor: int) -> BookingReserved:
    """Return the event with sale terms by which so much is paid at the hotel."""
    sold = decided_log().find(BookingReserved, STAYING).event
    assert isinstance(sold, BookingReserved)
    assert sold.sale is not None
    return msgspec.structs.replace(event, sale=msgspec.structs.replace(sold.sale, at_hotel_minor=at_hotel_minor))


def rejected(booking_id: UUID) -> BookingRejected:
    return BookingRejected(
        room_id=1,
        booking_id=booking_id,
        hotel_id=1,
        check_in=FIRST,
        check_out=FIRST,
        rooms_count=1,
        reason=Rejection.NO_NIGHTS,
    )


@pytest.mark.parametrize(
    ("event", "named"),
    [
        # a night is sold twice.
        (reserved(UNKNOWN, rooms_count=8), f"{NIGHTS}: *: {NIGHT}: 3 booked, 8 reserved and 0 blocked of 10"),
        (
            InventoryChanged(room_id=1, ranges=night_ranges([FIRST]), total_count=2),
            f"{NIGHTS}: *: {NIGHT}: 3 booked, 0 reserved and 0 blocked of 2",
        ),
        (reserved(UNKNOWN, first_day=300), f"{NIGHTS}: *: room 1, night 2027-12-24: reserved but never opened"),
        # inventory.
        (nights_on_sale(1, 5), f"{LEDGER}: *: {NIGHT}: opened a second time"),
        (
            InventoryChanged(room_id=1, ranges=night_ranges([FIRST - timedelta(days=1)]), price_minor=1),
            f"{LEDGER}: *: room 1, night 2027-02-26: changed but never opened",
        ),
        # how a booking begins.
        (reserved(PAID), f"{OF_PAID} it was CONFIRMED: no legal transition"),
        (rejected(EXPIRED), f"{LEDGER}: *: booking {EXPIRED}: it was EXPIRED: no legal transition"),
        (reserved(UNKNOWN, nights=0), f"{LEDGER}: *: booking {UNKNOWN}: reserved without a night"),
        (
            msgspec.structs.replace(reserved(UNKNOWN), terms=Terms.AT_HOTEL),
            f"{LEDGER}: booking {UNKNOWN}: RESERVED without a deadline",
        ),
        # how it goes on.
        (
            GuestsAdded(room_id=1, booking_id=PAID, guest_ids=(1,)),
            f"{OF_PAID} it was CONFIRMED: no legal transition",
        ),
        (
            PaymentRequested(room_id=2, booking_id=HELD, attempt=1, amount_minor=0, currency="EUR"),
            f"{LEDGER}: *: booking {HELD}: it was RESERVED: no legal transition",
        ),
        (
            CheckoutOpened(room_id=1, booking_id=AT_HOTEL, attempt=1, session_id="cs"),
            f"{LEDGER}: *: booking {AT_HOTEL}: it was CONFIRMED: no legal transition",
        ),
        (
            PaymentDeclined(room_id=2, booking_id=HELD, failure="card_declined"),
            f"{LEDGER}: *: booking {HELD}: it was RESERVED: no legal transition",
        ),
        (confirmed(PAID), f"{OF_PAID} it was CONFIRMED: no legal transition"),
        (confirmed(CANCELLED), f"{LEDGER}: *: booking {CANCELLED}: it was CANCELLED: no legal transition"),
        (confirmed(REJECTED), f"{LEDGER}: *: booking {REJECTED}: it was REJECTED: no legal transition"),
        (
            confirmed(EXPIRED),
            f"{LEDGER}: *: booking {EXPIRED}: confirmed from EXPIRED, unpaid: no legal transition",
        ),
        (
            confirmed(EXPIRED, payment_intent="pi", session_id="cs"),
            f"{LEDGER}: *: booking {EXPIRED}: confirmed from EXPIRED, paid: no legal transition",
        ),
        (
            confirmed(HELD, room_id=2, amount_minor=0, late=True),
            f"{LEDGER}: *: booking {HELD}: confirmed from RESERVED, unpaid and late: no legal transition",
        ),
        (
            confirmed(HELD, room_id=2, amount_minor=0),
            f"{LEDGER}: *: booking {HELD}: confirmed from RESERVED, unpaid: no legal transition",
        ),
        (
            confirmed(EXPIRED, amount_minor=1, late=True, payment_intent="pi"),
            f"{LEDGER}: *: booking {EXPIRED}: 1 EUR, reserved for {2 * PRICE} EUR",
        ),
        (
            BookingCancelled(room_id=1, booking_id=EXPIRED, reason=CancelReason.BY_GUEST),
            f"{LEDGER}: *: booking {EXPIRED}: it was EXPIRED: no legal transition",
        ),
        (
            BookingExpired(room_id=1, booking_id=PAID),
            f"{OF_PAID} it was CONFIRMED: no legal transition",
        ),
        (
            BookingExpired(room_id=1, booking_id=UNKNOWN),
            f"{LEDGER}: *: booking {UNKNOWN}: it was never reserved",
        ),
        (
            BookingCancelled(room_id=1, booking_id=HELD, reason=CancelReason.BY_GUEST),
            f"{LEDGER}: *: booking {HELD}: *",  # Of room 2, or not known yet: partitions come in any order.
        ),
        (
            CommandRepeated(
                room_id=1, booking_id=PAID, command="booking.reserve.v1", booking_status=BookingStatus.RESERVED
            ),
            f"{OF_PAID} answered with RESERVED, it is CONFIRMED",
        ),
        # money.
        (refund(AT_HOTEL, "pi_99"), f"{LEDGER}: *: booking {AT_HOTEL}: a refund without a payment"),
        (refund(UNKNOWN, "pi_99"), f"{LEDGER}: *: booking {UNKNOWN}: a refund of a booking that is unknown"),
        (
            refund(PAID, intent(PAID)),
            f"{OF_PAID} CONFIRMED, and the money that pays it goes back",
        ),
        (refund(PAID, intent(PAID), 1), f"{OF_PAID} 1 of {2 * PRICE} goes back"),
        (
            refund(REFUNDED, intent(REFUNDED)),
            f"{LEDGER}: *: booking {REFUNDED}: {intent(REFUNDED)} goes back a second time",
        ),
        (
            BookingRefunded(room_id=1, booking_id=PAID, payment_intent=intent(PAID), refund_id="re", amount_minor=1),
            f"{OF_PAID} 1 went back for {intent(PAID)}, which is kept with {2 * PRICE}",
        ),
        (
            msgspec.structs.replace(refund(UNKNOWN, "pi_99"), booking_id=EXPIRED, total_minor=1),
            f"{LEDGER}: *: booking {EXPIRED}: 1 of pi_99 goes back in all, which paid {2 * PRICE} less *",
        ),
        (
            refunded(EXPIRED, 1),
            f"{LEDGER}: *: booking {EXPIRED}: 1 went back for {intent(EXPIRED)}, which is unknown *",
        ),
        (
            refunded(PAID, 2 * PRICE + 1, by_hand=True),
            f"{LEDGER}: booking {PAID}: {2 * PRICE + 1} of {intent(PAID)} went back, and it paid {2 * PRICE}",
        ),
        *(
            (
                refunded(DIVIDED, 1, id, by_hand=True),
                f"{LEDGER}: *: booking {DIVIDED}: refund {id} of {intent(DIVIDED)} went back a second time",
            )
            for id in ("re_hand", "re_rest")
        ),
        (
            failed(EXPIRED, "re", 1),
            f"{LEDGER}: *: booking {EXPIRED}: a refund failed for {intent(EXPIRED)}, which is *",
        ),
        (failed(DIVIDED, "re_rest", 17_000), f"{LEDGER}: *: booking {DIVIDED}: refund re_rest failed a second time"),
        (
            failed(DIVIDED, "re_hand", 1),
            f"{LEDGER}: *: booking {DIVIDED}: 1 of refund re_hand failed, and 3000 went back",
        ),
        (
            failed(DIVIDED, "re_hand", 3_000),
            f"{LEDGER}: *: booking {DIVIDED}: refund re_hand was made by a person",
        ),
        (
            failed(DIVIDED, "re_hand", 3_000, by_hand=True),
            f"{LEDGER}: booking {DIVIDED}: 3000 of {intent(DIVIDED)} is kept, which pays no booking",
        ),
        (closed(EXPIRED, 1), f"{LEDGER}: *: booking {EXPIRED}: a refund was closed for {intent(EXPIRED)}, *"),
        (closed(DIVIDED, 1), f"{LEDGER}: *: booking {DIVIDED}: a refund of 1 was closed, and 0 is due"),
        (
            disputed(EXPIRED, "d"),
            f"{LEDGER}: *: booking {EXPIRED}: a dispute was opened for {intent(EXPIRED)}, which *",
        ),
        (disputed(DIVIDED, "dp_1"), f"{LEDGER}: *: booking {DIVIDED}: dispute dp_1 was opened a second time"),
        (
            dispute_lost(EXPIRED, "d"),
            f"{LEDGER}: *: booking {EXPIRED}: a dispute was closed for {intent(EXPIRED)}, which is unknown",
        ),
        (dispute_lost(DIVIDED, "dp_1"), f"{LEDGER}: *: booking {DIVIDED}: dispute dp_1 was closed, and it is lost"),
        (dispute_lost(PAID, "dp_9"), f"{OF_PAID} dispute dp_9 was closed, and it is unknown"),
        # guests, nights and reasons.
        (
            GuestsChanged(room_id=1, booking_id=EXPIRED, guest_ids=(1,), guest_list_id=UNKNOWN),
            f"{LEDGER}: *: booking {EXPIRED}: it was EXPIRED: no legal transition",
        ),
        (
            msgspec.structs.replace(reserved(UNKNOWN), night_amounts_minor=(PRICE, PRICE + 1)),
            f"{LEDGER}: *: booking {UNKNOWN}: its nights cost [{PRICE}, {PRICE + 1}], and all of it {2 * PRICE}",
        ),
        (
            msgspec.structs.replace(reserved(UNKNOWN), night_amounts_minor=(2 * PRICE,)),
            f"{LEDGER}: *: booking {UNKNOWN}: its nights cost [{2 * PRICE}], and all of it {2 * PRICE}",
        ),
        *(
            (
                cancelled(AT_HOTEL, CancelReason.BY_HOTEL, freed_from=FIRST + timedelta(days=day)),
                f"{LEDGER}: *: booking {AT_HOTEL}: CONFIRMED, and its nights are free from *",
            )
            for day in (0, 3)
        ),
        (
            cancelled(PAID, CancelReason.BY_GUEST, hotel_reason=HotelReason.OTHER),
            f"{OF_PAID} cancelled by_guest, with the reason of a hotel",
        ),
        (
            cancelled(PAID, CancelReason.REFUNDED_BY_HAND),
            f"{OF_PAID} cancelled as refunded by hand, and {2 * PRICE} of its payment is left",
        ),
        # blocks, sale terms and allowances.
        (blocked(UNKNOWN, rooms_count=6), f"{NIGHTS}: *: {NIGHT_3}: 1 booked, 0 reserved and 7 blocked of 7"),
        (
            InventoryChanged(room_id=3, ranges=night_ranges([FIRST]), total_count=1, allowance_count=0),
            f"{NIGHTS}: *: {NIGHT_3}: 1 booked, 0 reserved and 1 blocked of 1",
        ),
        (
            InventoryChanged(room_id=3, ranges=night_ranges([FIRST]), allowance_count=-1),
            f"{NIGHTS}: *: {NIGHT_3}: 1 booked, 0 reserved and 1 blocked of 4",
        ),
        (blocked(BLOCK), f"{LEDGER}: *: block {BLOCK} of room 3: made a second time"),
        (blocked(UNKNOWN, first_day=300), f"{LEDGER}: *: room 3, night 2027-12-24: blocked but never opened"),
        (
            blocked(UNKNOWN, rooms_count=0),
            f"{LEDGER}: *: block {UNKNOWN} of room 3: 0 rooms from {FIRST} to 2027-03-01",
        ),
        (released(UNKNOWN), f"{LEDGER}: *: block {UNKNOWN} of room 3: released, and never made"),
        (released(RELEASED_BLOCK), f"{LEDGER}: *: block {RELEASED_BLOCK} of room 3: released, and released before"),
        (
            released(BLOCK),
            f"{LEDGER}: *: block {BLOCK} of room 3: other nights or rooms are released than were blocked",
        ),
        (
            SaleTermsChanged(room_id=3, hotel_id=1, terms=msgspec.structs.replace(NO_SALE_TERMS, version=3)),
            f"{LEDGER}: *: room 3: sale terms 3 follow 3",
        ),
        # the days of a stay.
        (
            GuestsCheckedIn(room_id=3, booking_id=LEFT),
            f"{LEDGER}: *: booking {LEFT}: it was CHECKED_OUT: no legal transition",
        ),
        (left(MISSED), f"{LEDGER}: *: booking {MISSED}: it was NO_SHOW: no legal transition"),
        (missed(EXPIRED), f"{LEDGER}: *: booking {EXPIRED}: it was EXPIRED: no legal transition"),
        (
            missed(PAID, day=-1),
            f"{OF_PAID} nobody arrived, and its nights are free from 2027-02-26 on",
        ),
        (
            missed(PAID, day=3),
            f"{OF_PAID} nobody arrived, and its nights are free from 2027-03-02 on",
        ),
        (missed(PAID, kept=0), f"{OF_PAID} NO_SHOW costs 0, by its policy {2 * PRICE}"),
        (missed(PAID, kept=0), f"{LEDGER}: booking {PAID}: NO_SHOW, and its money is kept"),
        (
            left(STAYING, 2, PRICE),
            f"{OF_STAYING} left early, and its nights are free from 2027-03-01 on",
        ),
        (
            left(STAYING, 1, PRICE),
            f"{OF_STAYING} CHECKED_OUT costs {PRICE}, by its policy {PRICE * 3 // 2}",
        ),
        (left(STAYING, None, 1), f"{OF_STAYING} nobody left early, and {{'kept_minor': 1}} is kept"),
        (left(STAYING, 1, PRICE * 3 // 2), f"{LEDGER}: booking {STAYING}: CHECKED_OUT, and its money is kept"),
        # the terms that a stay was sold on.
        (
            at_hotel(reserved(UNKNOWN), PRICE),
            (
                f"{LEDGER}: *: booking {UNKNOWN}: it costs {2 * PRICE} and {PRICE} at the hotel, "
                f"and its lines sum to {2 * PRICE} with 0 at the hotel"
            ),
        ),
        (
            msgspec.structs.replace(at_hotel(reserved(UNKNOWN), 0), amount_minor=PRICE // 2),
            f"{LEDGER}: *: booking {UNKNOWN}: its policy keeps [*] of {PRICE // 2}",
        ),
        (
            cancelled(PAID, CancelReason.BY_GUEST, policy=AppliedPolicy(kept_minor=1)),
            f"{OF_PAID} CONFIRMED, cancelled by_guest, and {{'kept_minor': 1}} is kept",
        ),
        (
            msgspec.structs.replace(
                cancelled(STAYING, CancelReason.BY_GUEST, policy=AppliedPolicy(kept_minor=PRICE)), room_id=3
            ),
            f"{OF_STAYING} CHECKED_IN, cancelled by_guest, and {{'kept_minor': {PRICE}}} is kept",
        ),
        (
            msgspec.structs.replace(cancelled(STAYING, CancelReason.BY_HOTEL), room_id=3),
            f"{LEDGER}: booking {STAYING}: CANCELLED, and its money is kept",
        ),
        (
            msgspec.structs.replace(cancelled(LEFT, CancelReason.BY_HOTEL), room_id=3),
            f"{LEDGER}: *: booking {LEFT}: it was CHECKED_OUT: no legal transition",
        ),
        (
            msgspec.structs.replace(refund(MISSED, intent(MISSED), 1), room_id=3),
            f"{LEDGER}: *: booking {MISSED}: 0 is kept of {intent(MISSED)}, by its policy {PRICE // 2}",
        ),
        # time.
        (
            BookingExpired(room_id=2, booking_id=HELD),
            f"{HOLDS}: *: booking {HELD}: its hold ended * ms early",
        ),
    ],
)
async def test_an_event_that_cannot_happen_is_named(event: BookingEvent, named: str, written: WrittenLog) -> None:
    history = decided_log()
    last_minute(history, event)
    kafka = await written.with_a_log_of_its_own(history)

    report = await audited(kafka, written.database, history)

    check, _, rest = named.partition(": ")
    if rest.startswith("*: "):
        rest = f"partition {event.room_id}, sequence {history.last(event.room_id)}, {event.message_type}: " + rest[3:]
    before, _, after = rest.partition("*")
    assert any(line.startswith(f"{check}: {before}") and line.endswith(after) for line in report.problems()), (
        report.problems()
    )


async def test_a_guest_who_acts_after_the_hold_is_over_is_named(
    kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    history = decided_log()
    last_minute(history, GuestsAdded(room_id=2, booking_id=HELD, guest_ids=(1,)), at_night=True)
    await write_ledger(kafka_settings, database, history)

    report = await audited(kafka_settings, database, history)

    (line,) = problems(report, HOLDS)
    assert f"booking {HELD}: its hold had ended" in line


async def test_a_cancelled_booking_whose_money_is_kept_is_named(
    kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    history = decided_log()
    last_minute(history, BookingCancelled(room_id=1, booking_id=PAID, reason=CancelReason.BY_GUEST))
    await write_ledger(kafka_settings, database, history)

    report = await audited(kafka_settings, database, history)

    assert f"{LEDGER}: booking {PAID}: CANCELLED, and its money is kept" in report.problems()


async def test_a_list_of_guests_that_comes_back_is_named(
    kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    history = decided_log()
    for number in (1, 2, 1):
        list_id = guest_list(PAID, number)
        last_minute(history, GuestsChanged(room_id=1, booking_id=PAID, guest_ids=(71,), guest_list_id=list_id))
    await write_ledger(kafka_settings, database, history)

    report = await audited(kafka_settings, database, history)

    first, _ = problems(report, LEDGER)
    assert first.endswith(f"booking {PAID}: guest list {guest_list(PAID, 1)} comes back, which another had replaced")


async def test_an_event_that_the_ledger_never_decided_is_named(
    kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    history = decided_log()
    await write_ledger(kafka_settings, database, history)
    decided = history.last(2)
    last_minute(history, BookingCancelled(room_id=2, booking_id=HELD, reason=CancelReason.BY_GUEST))

    report = await audited(kafka_settings, database, history)

    assert report.problems() == [
        (
            f"{LEDGER}: partition 2: the log goes up to sequence {decided + 1}, "
            f"the ledger has decided events up to {decided}: the rest is not the ledger's"
        )
    ]


def without_one(history: DecidedLog) -> str:
    lost = history.find(GuestsAdded, PAID)
    history.events.remove(lost)
    return f"sequence {lost.sequence + 1} follows {lost.sequence - 1}: a gap"


def without_the_first(history: DecidedLog) -> str:
    history.events.remove(history.find(InventoryOpened))
    return "sequence 2 follows 0: a gap"


def swapped(history: DecidedLog) -> str:
    first, second = history.find(GuestsAdded, PAID), history.find(PaymentRequested, PAID)
    here, there = history.events.index(first), history.events.index(second)
    history.events[here], history.events[there] = second, first
    return f"sequence {first.sequence} comes after {second.sequence}: out of order"


def different_the_second_time(history: DecidedLog) -> str:
    logged = history.find(GuestsAdded, PAID)
    history.events.append(replace(logged, event=GuestsAdded(room_id=1, booking_id=PAID, guest_ids=(1,))))
    return f"sequence {logged.sequence} is there twice, as different events"


def in_another_partition(history: DecidedLog) -> str:
    logged = history.append(
        CommandRepeated(room_id=2, booking_id=HELD, command="x", booking_status=BookingStatus.RESERVED)
    )
    history.events[-1] = replace(logged, partition=1, sequence=history.last(1) + 1)
    return "room 2 is in partitions 1 and 2: a room belongs to one partition"


@pytest.mark.parametrize(
    "damage", [without_one, without_the_first, swapped, different_the_second_time, in_another_partition]
)
async def test_a_log_that_lacks_events_is_named(damage: Callable[[DecidedLog], str], written: WrittenLog) -> None:
    history = decided_log()
    named = damage(history)
    kafka = await written.with_a_log_of_its_own(history)

    report = await audited(kafka, written.database, history)

    assert any(named in line for line in problems(report, LEDGER)), report.problems()


async def test_records_that_are_no_events_of_ours_are_named(
    kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    history = decided_log()
    await write_ledger(kafka_settings, database, history)
    good = record(kafka_settings, history.events[-1])
    next_one = history.last(2) + 1
    strangers = [
        good._replace(headers=[]),
        good._replace(headers=headers_of(good, ce_sequence=next_one, ce_type="booking.teleported.v1")),
        good._replace(headers=headers_of(good, ce_sequence=next_one + 1), value=b"{"),
        good._replace(headers=headers_of(good, ce_sequence=next_one + 2), value=b"{}"),
        good._replace(headers=headers_of(good, ce_sequence=next_one + 3), value=b"[1]"),
    ]

    report = await audited(kafka_settings, database, history, *strangers)

    found = "\n".join(report.problems())
    assert "a record without a sequence" in found
    assert f"sequence {next_one}, booking.teleported.v1: the audit does not know this type of event" in found
    assert found.count("it cannot be read") == 3


def headers_of(outgoing: Outgoing, **changed: object) -> list[tuple[str, bytes]]:
    return [(name, str(changed[name]).encode() if name in changed else value) for name, value in outgoing.headers]


async def test_a_log_whose_beginning_was_deleted_is_named(
    kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
    from aiokafka.structs import TopicPartition

    history = decided_log()
    await write_ledger(kafka_settings, database, history)
    await publish(kafka_settings, [record(kafka_settings, logged) for logged in history.events])
    operator = AIOKafkaAdminClient(bootstrap_servers=kafka_settings.kafka_url)
    await operator.start()
    try:
        partition = TopicPartition(kafka_settings.topic(BOOKING_EVENTS), 1)
        await operator.delete_records({partition: RecordsToDelete(before_offset=3)})
    finally:
        await operator.close()

    report = await audit(kafka_settings, database, max_wait_seconds=0.5)

    assert f"{LEDGER}: partition 1: the log begins at offset 3: its beginning is gone" in report.problems()


async def test_a_log_that_is_gone_altogether_is_named(
    kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    history = decided_log()
    await write_ledger(kafka_settings, database, history)
    await publish(kafka_settings, [record(kafka_settings, logged) for logged in history.events])
    await admin.delete(kafka_settings, [BOOKING_EVENTS])
    await admin.create(kafka_settings, [BOOKING_EVENTS])

    report = await audit(kafka_settings, database, max_wait_seconds=0.5)

    found = "\n".join(report.problems())
    assert f"{LEDGER}: booking {PAID}: in the ledger but not on the log" in found
    assert f"{LEDGER}: {NIGHT}: in the ledger but not on the log" in found
    assert f"decided events up to sequence {history.last(1)}, the log ends at 0: the outbox is not published" in found


def test_of_very_many_problems_the_first_are_listed_and_the_others_counted() -> None:
    report = Report()
    for number in range(250):
        report.add(Check.LOG_MATCHES_LEDGER, f"problem {number}")
    report.add(Check.NO_OVERSOLD_NIGHT, "sold twice")

    assert len(report.problems()) == 102
    assert report.problems()[-2:] == [f"{NIGHTS}: sold twice", f"{LEDGER}: and 150 more"]
    assert report.as_json()["checks"] == {
        NIGHTS: "failed",
        COUNTS: "ok",
        HOLDS: "ok",
        CODES: "ok",
        DOCUMENTS: "ok",
        LEDGER: "failed",
        GUESTS: "ok",
        READS: "ok",
    }
