"""Changes of nights that no search index reads any more are deleted, a few in each batch, and missed by nobody."""

from datetime import timedelta
from uuid import UUID

import msgspec
import pytest
from psycopg import AsyncConnection

from ingress.hotels.search.index import _continues
from operators.audit.expected_read_models import ExpectedReadModels, Record
from operators.audit.read_models import read_models
from storage.projections.night_changes import KEPT_POSITIONS, ChangedNights, add
from storage.projections.rebuildable import PROJECTIONS
from storage.projections.room_nights import NightsEvent, apply_to_nights
from storage.projections.shadow import open_shadow
from storage.reads.search import IndexPosition
from storage.settings import DatabaseSettings
from tests.storage.projections.log import T0, changed, night, opened, rows
from topics.catalogue import BOOKING_EVENTS
from topics.messages.events import Event

LAST = KEPT_POSITIONS + 10
#: The newest position of which the row is deleted once position `LAST` is there.
GONE = LAST - KEPT_POSITIONS
OPENED, CHANGED = opened(1, 0, 2, 9_000), changed(1, [0], price_minor=8_000)
HISTORY: tuple[tuple[int, Event], ...] = ((1, OPENED), (GONE, CHANGED), (GONE + 1, CHANGED), (LAST, CHANGED))


async def apply(connection: AsyncConnection, history: tuple[tuple[int, Event], ...] = HISTORY) -> None:
    """Apply each event as a batch of its own, given with its position in partition 1."""
    for position, event in history:
        await apply_to_nights(connection, [NightsEvent(event, 1, position)])


async def positions(database: DatabaseSettings, partition: int = 1) -> list[int]:
    query = f"select position from room_night_change where partition = {partition} order by position"
    return [position for (position,) in await rows(database, query)]


def change(partition: int, position: int) -> ChangedNights:
    return ChangedNights(partition, position, 1, night(0), night(1))


async def test_changes_before_the_newest_positions_are_deleted_and_no_others(database: DatabaseSettings) -> None:
    async with await AsyncConnection.connect(database.conninfo()) as connection:
        await add(connection, [change(2, 1)])
        await apply(connection)

    assert await positions(database) == [GONE + 1, LAST]
    assert await positions(database, 2) == [1]


async def test_very_many_old_changes_are_deleted_a_few_in_each_batch(database: DatabaseSettings) -> None:
    async with await AsyncConnection.connect(database.conninfo()) as connection:
        await add(connection, [change(1, number) for number in range(1, 21)])
        await add(connection, [change(1, LAST + 100)])
        few = await connection.execute("select count(*) from room_night_change")
        assert await few.fetchone() == (21 - 12,)
        await add(connection, [change(1, LAST + 101)])

    assert await positions(database) == [LAST + 100, LAST + 101]


@pytest.mark.parametrize(("behind", "continues"), [(KEPT_POSITIONS, True), (KEPT_POSITIONS + 1, False)])
@pytest.mark.parametrize("is_known", [True, False], ids=["a partition", "a new partition"])
def test_a_search_index_that_is_further_behind_is_loaded_again(behind: int, *, continues: bool, is_known: bool) -> None:
    """It would miss the changes that are deleted."""
    begin = 7 if is_known else 0
    at = IndexPosition(1, "topic", 1, begin)
    before = {1: at} if is_known else {}

    assert _continues(before, {1: at._replace(sequence=begin + behind)}) is continues


async def test_a_rebuild_does_not_compare_changes_that_are_or_will_be_deleted(database: DatabaseSettings) -> None:
    async with await AsyncConnection.connect(database.conninfo(), autocommit=True) as connection:
        await connection.execute(
            "insert into log_cursor (consumer, topic, partition, generation) values ('room_nights', %s, 1, 1)",
            (BOOKING_EVENTS.name,),
        )
        await apply(connection)
        await connection.execute("insert into room_night_change select 1, 2, 1, %s, %s", (night(0), night(1)))
    async with open_shadow(database, PROJECTIONS["room_nights"], BOOKING_EVENTS.name) as shadow:
        await apply(shadow.connection)
        async with shadow.connection.transaction():
            assert [table.different for table in await shadow.compare()] == [0, 0, 0]
        await shadow.connection.execute("delete from room_night_change where position = %s", (GONE + 1,))
        async with shadow.connection.transaction():
            assert [table.different for table in await shadow.compare()] == [0, 1, 0]


async def test_the_audit_expects_the_changes_of_the_newest_positions_alone(database: DatabaseSettings) -> None:
    auditor = ExpectedReadModels({"room_nights": {1: LAST}})
    for position, event in HISTORY:
        time = (T0 + timedelta(seconds=position)).isoformat()
        value = msgspec.json.encode(event)
        auditor.apply(Record(1, position, str(UUID(int=position)), event.message_type, time, None, value))
    async with await AsyncConnection.connect(database.conninfo()) as connection:
        await apply(connection)
        await connection.execute("insert into room_night_change select 1, 2, 1, %s, %s", (night(0), night(1)))
        written = (await read_models(connection, BOOKING_EVENTS.name)).tables["room_night_change"]

    assert auditor.rows()["room_night_change"] == written
    assert list(written) == [f"partition 1, position {position}" for position in (GONE + 1, LAST)]
