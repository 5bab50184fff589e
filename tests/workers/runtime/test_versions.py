"""Workers of two releases take turns over one log, and write different versions of the same event."""

from datetime import date
from typing import Any

from operators.audit import audit
from storage.settings import DatabaseSettings
from tests.support.log import Log, open_processor, process_all
from tests.workers.runtime.test_batch_processor import ROOM, nights_on_sale, stay
from topics.catalogue import BOOKING_EVENTS
from topics.messages.commands import ChangeInventory
from workers import projections
from workers.reservations import handler


def change(first: int, end: int, **values: int | bool) -> ChangeInventory:
    return ChangeInventory(room_id=ROOM, first_night=date(2027, 5, first), end_night=date(2027, 5, end), **values)  # type: ignore[arg-type]


async def test_a_log_with_both_versions_is_one_story_to_everybody_who_reads_it(
    log: Log, database: DatabaseSettings
) -> None:
    # Given workers that write the older version, the newer, and the older again.
    await log.send(nights_on_sale())
    for version, command in (
        (1, change(1, 8, price_minor=9_000)),
        (2, change(3, 6, surge_milli=1500, total_count=4)),
        (1, change(5, 11, closed=True)),
    ):
        await log.send(command, stay())
        settings = log.settings.model_copy(update={"inventory_changed_version": version})
        role = handler.build(settings, database)
        async with open_processor(role, log, database) as processor:
            await process_all(processor, role, log)

    # When the read models follow.
    readers = projections.build(log.settings, database)
    async with open_processor(readers, log, database) as processor:
        await process_all(processor, readers, log)

    # Then both versions are on the log, and everything agrees: ledger, read models, and the auditor's own reading.
    message_types = [dict(each.headers)["ce_type"].decode() for each in await records(log)]
    assert [message_type for message_type in message_types if message_type.startswith("inventory.changed")] == [
        "inventory.changed.v1",
        "inventory.changed.v2",
        "inventory.changed.v1",
    ]
    report = await audit(log.settings, database)
    assert report.problems() == []
    assert report.counts["nights"] == 10


async def records(log: Log) -> list[Any]:
    return [each for found in (await log.read(BOOKING_EVENTS)).values() for each in found]
