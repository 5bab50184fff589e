"""The auditor recomputes every read model by its own means, and names each row that differs."""

import pytest

from operators.audit import audit
from storage.settings import DatabaseSettings
from tests.operators.booking_load import FIRST, open_booking_load
from topics.kafka.settings import KafkaSettings

READS = "read models match events"


@pytest.mark.system
async def test_read_models_hold_while_guests_go_on_booking_and_every_changed_row_is_named(
    kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    async with open_booking_load(kafka_settings, database) as load:
        await load.book(200)
        async with load.keeps_booking():
            under_load = await audit(kafka_settings, database)
        await load.kept()
        [(booking, partition, position)] = await load.rows(
            "select (select min(booking_id::text) from booking_timeline where type = 'booking.reserved.v1'),"
            " partition, min(position) from room_night_change group by partition limit 1"
        )
        [(sold, amount)] = await load.rows("select booking_id, amount_minor from reported_stay limit 1")
        [(day, staying)] = await load.rows("select date::text, staying from daily_report where hotel_id = 2 limit 1")
        await load.change(
            "update booking_timeline set event = '{}'"
            f" where booking_id = '{booking}' and type = 'booking.reserved.v1'",
            f"update room_night set price_minor = 1 where (room_id, date) = (1, '{FIRST}')",
            f"delete from room_night_change where (partition, position) = ({partition}, {position})",
            f"insert into hotel_min_price values (1, '{FIRST}'::date - 1, 1, 'EUR')",
            f"update reported_stay set amount_minor = 1 where booking_id = '{sold}'",
            f"update daily_report set staying = 77 where (hotel_id, date) = (2, '{day}')",
        )
        [(price,)] = await load.rows(f"select price_minor from inventory where (room_id, date) = (1, '{FIRST}')")
        damaged = await audit(kafka_settings, database)

    assert under_load.problems() == []
    timeline, *others = damaged.problems()
    assert timeline.startswith(f"{READS}: booking_timeline, booking {booking}, sequence ")
    assert timeline.endswith(": event is another one")
    assert others == [
        f"{READS}: room_night, room 1, night {FIRST}: price_minor is 1 in the read model and {price} by the log",
        f"{READS}: room_night_change, partition {partition}, position {position}: on the log but not in the read model",
        f"{READS}: hotel_min_price, hotel 1, night 2027-04-30: in the read model but not on the log",
        f"{READS}: reported_stay, booking {sold}: amount_minor is 1 in the read model and {amount} by the log",
        f"{READS}: daily_report, hotel 2, night {day}: staying is 77 in the read model and {staying} by the log",
    ]
