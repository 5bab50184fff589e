"""Legs share the money that left their trip's payment, also while workers of their own read the trip and its legs."""

from collections.abc import Sequence
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from storage.settings import DatabaseSettings
from tests.storage.projections.log import rows
from tests.storage.projections.test_daily_report import Stay, apply, at_once, everything, forget, write_ledger
from topics.messages.events import BookingConfirmed, BookingEvent, LegEnded
from topics.messages.values import RefundReason

TRIP = Stay(id=UUID(int=9), amount_minor=30_000)
LEGS = (
    Stay(id=UUID(int=1), room_id=1, amount_minor=20_000, night_amounts_minor=[5_000, 15_000]),
    Stay(id=UUID(int=2), room_id=2, amount_minor=10_000, night_amounts_minor=[5_000, 5_000]),
)


def confirmed(leg: Stay) -> BookingConfirmed:
    """Return the confirmation of a leg, which nobody paid."""
    return BookingConfirmed(
        room_id=leg.room_id, booking_id=leg.id, amount_minor=leg.amount_minor, currency=leg.currency
    )


async def write_trip(database: DatabaseSettings) -> None:
    """Write the trip and its legs as the ledger has them."""
    await write_ledger(database, TRIP, *LEGS)
    legs = [
        {
            "booking_id": str(leg.id),
            "room_id": leg.room_id,
            "rooms_count": 1,
            "state": "held",
            "amount_minor": leg.amount_minor,
        }
        for leg in LEGS
    ]
    async with await AsyncConnection.connect(database.conninfo()) as connection:
        await connection.execute("update booking set legs = %s where id = %s", (Jsonb(legs), TRIP.id))
        await connection.execute(
            "update booking set trip_id = %s where id = any(%s)", (TRIP.id, [leg.id for leg in LEGS])
        )


async def deductions(database: DatabaseSettings) -> Sequence[tuple[int, list[int] | None]]:
    return await rows(database, "select amount_minor, night_deductions_minor from reported_stay order by booking_id")


async def test_a_refund_by_hand_falls_on_each_leg_and_comes_back_when_it_fails(database: DatabaseSettings) -> None:
    await write_trip(database)
    await apply(database, [TRIP.confirmed()], [confirmed(leg) for leg in LEGS])
    before = await everything(database)

    await apply(database, [TRIP.refunded("re_1", 3_000)])
    assert await deductions(database) == [(20_000, [500, 1_500]), (10_000, [500, 500])]

    await apply(database, [TRIP.refund_failed("re_1", 3_000)])
    assert await everything(database) == before


async def test_a_trip_that_was_paid_before_there_were_rows_of_trips_gets_its_row_by_a_rebuild(
    database: DatabaseSettings,
) -> None:
    await write_trip(database)
    history = [TRIP.confirmed(), *(confirmed(leg) for leg in LEGS)]
    await apply(database, history)
    await forget(database, "reported_trip")
    refunds = [TRIP.refunded("re_1", 3_000), TRIP.refunded("re_2", 1_500)]
    await apply(database, refunds)

    await forget(database, "daily_report, reported_stay, reported_trip")
    await apply(database, [*history, *refunds])

    assert await deductions(database) == [(20_000, [750, 2_250]), (10_000, [750, 750])]


async def test_the_legs_that_go_on_have_the_larger_part(database: DatabaseSettings) -> None:
    await write_trip(database)
    ended = LegEnded(
        room_id=1, booking_id=TRIP.id, leg_id=LEGS[0].id, kept_minor=5_000, reason=RefundReason.BOOKING_CANCELLED
    )
    history: list[BookingEvent] = [
        TRIP.confirmed(),
        *(confirmed(leg) for leg in LEGS),
        LEGS[0].cancelled(kept_minor=5_000),
        ended,
        TRIP.refunded("re_ours", 15_000, by_hand=False),
    ]

    await apply(database, history, [TRIP.refunded("re_1", 1_500)])

    # 50.00 are kept of the one, and 100.00 of the other.
    assert await rows(database, "select sum(revenue_minor)::int, sum(fees_minor)::int from daily_report") == [
        (9_000, 4_500)
    ]


async def test_a_worker_that_confirms_a_leg_waits_for_the_one_that_deducts_from_its_trip(
    database: DatabaseSettings,
) -> None:
    await write_trip(database)
    await apply(database, [TRIP.confirmed()], [confirmed(LEGS[0])])

    await at_once(database, [TRIP.refunded("re_1", 3_000)], [confirmed(LEGS[1])])

    assert await deductions(database) == [(20_000, [500, 1_500]), (10_000, [500, 500])]


async def test_a_worker_that_reads_a_leg_first_waits_for_the_one_that_reads_its_trip_first(
    database: DatabaseSettings,
) -> None:
    await write_trip(database)

    await at_once(database, [TRIP.confirmed(), TRIP.refunded("re_1", 3_000)], [confirmed(leg) for leg in LEGS])

    assert await deductions(database) == [(20_000, [500, 1_500]), (10_000, [500, 500])]
