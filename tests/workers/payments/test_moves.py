"""The payment of a change to another room type: its page, its session, and the money of one that ended."""

from datetime import date
from typing import Any
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest
from msgspec.structs import replace
from psycopg.types.json import Jsonb

from storage import payments
from storage.payments import Stay, StayChange
from tests.support.stack import Server
from tests.workers.payments.desk import (
    CHANGE_ID,
    ROOM,
    Desk,
    change_ended,
    payment_requested,
    refund_requested,
    stay_changed,
)
from tests.workers.payments.test_page import PLAN, sold
from topics.kafka.settings import KafkaSettings
from topics.messages.events import StayBefore
from topics.messages.sale import CancellationPolicy, Sale
from topics.messages.values import RefundReason
from workers.decisions.state import PendingChange

SUITES = ROOM + 1
_NIGHTS: dict[str, Any] = {"check_in": date(2030, 12, 24), "check_out": date(2030, 12, 28), "rooms_count": 2}
WANTED = StayBefore(**_NIGHTS, amount_minor=32_000, night_amounts_minor=(8_000,) * 4)
OPEN = PendingChange(
    id=CHANGE_ID,
    stay=replace(WANTED, amount_minor=0, night_amounts_minor=()),
    extra_minor=0,
    to_room_id=SUITES,
    is_open=True,
)
HELD = PendingChange(id=CHANGE_ID, stay=WANTED, extra_minor=8_000, to_room_id=SUITES)
ASKED = replace(HELD, attempt=2)


@pytest.fixture
def kafka_settings(kafka: Server) -> KafkaSettings:
    """The consumer is called directly here: no topics are needed."""
    return KafkaSettings(_env_file=None, kafka_url=kafka.url)


def sale_of(policy_id: str) -> Sale:
    """Return the conditions of a stay whose plan is named after its policy, which keeps nothing."""
    plan = replace(PLAN, name=policy_id.title(), policy=CancellationPolicy(id=policy_id))
    sale = sold(plan, ())[1].sale
    assert sale is not None
    return sale


async def has(desk: Desk, booking_id: UUID, change: PendingChange | None, leg_sale: Sale | None = None) -> None:
    """Let a booking of the ledger have this change; one that is held has its leg in the other room."""
    await desk.add_to_ledger(booking_id)
    await desk.connection.execute(
        "insert into room (id, hotel_id, type, base_price_minor, total_count, capacity) overriding system value"
        " values (%s, 3, 'Suite', 9000, 5, 2) on conflict do nothing",
        (SUITES,),
    )
    await desk.connection.execute(
        "update booking set sale = %s, pending_change = %s where id = %s",
        (_json(sale_of("old")), None if change is None else _json(change), booking_id),
    )
    if change is not None and change.to_room_id is not None and not change.is_open:
        await desk.add_to_ledger(change.id)
        await desk.connection.execute(
            "update booking set room_id = %s, status = 'RESERVED', trip_id = %s, trip_room_id = %s, sale = %s"
            " where id = %s",
            (SUITES, booking_id, ROOM, None if leg_sale is None else _json(leg_sale), change.id),
        )


def _json(value: object) -> Jsonb:
    return Jsonb(msgspec.to_builtins(value))


async def words(desk: Desk, booking_id: UUID) -> Stay:
    """Return the words for the page, as payments reads them."""
    # The desk's own connection has rows of another kind.
    async with await psycopg.AsyncConnection.connect(desk.database.conninfo()) as connection:
        return (await payments.stays(connection, [booking_id]))[booking_id]


def changed(**values: Any) -> StayChange:
    return StayChange(**{**_NIGHTS, "attempt": 0, **values})


NEW, ORDINARY = sale_of("new"), sale_of("ordinary")


@pytest.mark.parametrize(
    ("change", "leg_sale", "expected"),
    [
        pytest.param(OPEN, None, changed(room_type="Suite"), id="open"),
        pytest.param(HELD, NEW, changed(room_type="Suite", sale=NEW), id="held"),
        pytest.param(ASKED, NEW, changed(attempt=2, room_type="Suite", sale=NEW), id="to be paid"),
        pytest.param(ASKED, None, changed(attempt=2, room_type="Suite"), id="the other room has no conditions"),
        pytest.param(
            replace(ASKED, to_room_id=None, stay=replace(WANTED, sale=ORDINARY)),
            None,
            changed(attempt=2, sale=ORDINARY),
            id="of the same room type",
        ),
        pytest.param(None, None, None, id="no change"),
    ],
)
async def test_the_words_of_a_change_are_those_of_its_room_and_of_the_leg_there(
    desk: Desk, change: PendingChange | None, leg_sale: Sale | None, expected: StayChange | None
) -> None:
    booking_id = uuid4()
    await has(desk, booking_id, change, leg_sale)

    stay = await words(desk, booking_id)

    assert (stay.room_type, stay.sale, stay.legs) == ("Double room", sale_of("old"), ())
    assert stay.change == expected


async def test_the_page_of_a_dearer_move_names_the_other_room_type_and_its_conditions(desk: Desk) -> None:
    booking_id = uuid4()
    await has(desk, booking_id, ASKED, NEW)

    await desk.read_events(payment_requested(booking_id, 2, 8_000))

    (row,) = await desk.sessions(booking_id)
    (line,) = row["params"]["line_items"]
    assert line["price_data"]["unit_amount"] == 8_000
    assert line["price_data"]["product_data"] == {
        "name": "Sea View, Double room",
        "description": "Additional amount for a change of the stay, now 24 Dec 2030 - 27 Dec 2030, 3 nights, 2 rooms,"
        " to Suite, 24 Dec 2030 - 28 Dec 2030, 4 nights, 2 rooms, New, half board",
    }
    terms = row["params"]["custom_text"]["submit"]["message"]
    assert terms == "Cancellation by the hotel's clock: free until check-in."


@pytest.mark.parametrize("end", [change_ended, stay_changed], ids=["ended", "moved for nothing"])
async def test_a_move_that_ends_unpaid_closes_its_session_and_nobody_elses(desk: Desk, end: Any) -> None:
    ended, other = uuid4(), uuid4()
    await has(desk, ended, ASKED, NEW)
    await has(desk, other, replace(ASKED, id=uuid4()), NEW)
    await desk.read_events(payment_requested(ended, 2, 8_000), payment_requested(other, 2, 8_000))
    await desk.connection.execute("update checkout_session set status = 'open', next_attempt_at = null")

    await has(desk, ended, None)
    await desk.read_events(replace(end(ended), to_room_id=SUITES))

    (closing,), (open_,) = await desk.sessions(ended), await desk.sessions(other)
    assert (closing["status"], open_["status"]) == ("closing", "open")
    assert closing["next_attempt_at"] is not None


async def test_the_payment_of_a_stay_that_moved_is_noted_and_that_of_a_move_that_ended_goes_back(desk: Desk) -> None:
    moved, ended = uuid4(), uuid4()
    for booking_id in (moved, ended):
        await has(desk, booking_id, replace(ASKED, id=uuid4()), NEW)
        await desk.read_events(payment_requested(booking_id, 2, 8_000))
    await desk.connection.execute(
        "update checkout_session set session_id = 'cs_' || booking_id, status = 'open', next_attempt_at = null"
    )

    await desk.read_events(replace(stay_changed(moved, f"cs_{moved}", "pi_2"), to_room_id=SUITES))
    too_late = replace(
        refund_requested(ended, "pi_3", 8_000, 8_000), reason=RefundReason.CHANGE_ENDED, session_id=f"cs_{ended}"
    )
    await desk.read_events(replace(change_ended(ended), to_room_id=SUITES), too_late)

    found = [row["payment_intent"] for id in (moved, ended) for row in await desk.sessions(id)]
    assert found == ["pi_2", "pi_3"]
    assert await desk.refunds(moved) == []
    (refund,) = await desk.refunds(ended)
    assert (refund["status"], refund["amount_minor"], refund["reason"]) == ("creating", 8_000, "change_ended")
    assert refund["next_attempt_at"] is not None
