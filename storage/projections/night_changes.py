"""The newest changes of nights by position, from which search indexes are refreshed.

`room_nights` adds a row for each event that changed nights, and deletes those that no index reads any more. The
positions of the last `KEPT_POSITIONS` before a partition's newest change are all there; older rows may be left. An
index that is further behind loads all nights, which is faster.
"""

from collections.abc import Sequence
from datetime import date
from typing import Final, NamedTuple

from psycopg import AsyncConnection

#: So many positions of a partition have their rows. Indexes of other processes rely on it: no release makes it smaller.
KEPT_POSITIONS: Final = 100_000
#: Of each partition a batch deletes at most so many old rows and twice those that it adds: more than come, never very
#: many.
_OLDEST: Final = 10


class ChangedNights(NamedTuple):
    """The range of nights within which one event changes some; `position` is its sequence in its partition."""

    partition: int
    position: int
    room_id: int
    first_night: date
    end_night: date


# Arrays travel in binary form (%b). A row exists already if the log is read again over existing rows.
_ADD: Final = """
with added as (
    insert into room_night_change (partition, position, room_id, first_night, end_night)
    select * from unnest(%b::int[], %b::bigint[], %b::bigint[], %b::date[], %b::date[])
    on conflict do nothing
)
delete from room_night_change as change
using unnest(%b::int[], %b::bigint[]) as kept (partition, beyond)
      cross join lateral (
          select position from room_night_change as old
          where old.partition = kept.partition and old.position <= kept.beyond
          order by position limit %s
      ) as oldest
where change.partition = kept.partition and change.position = oldest.position
"""
#: The rows that are there in any case, of the table `{{0}}`: a rebuild compares them.
KEPT: Final = f"""
select change.* from {{0}} as change
join (select partition, max(position) as newest from {{0}} group by partition) as positions using (partition)
where position > newest - {KEPT_POSITIONS}
"""  # noqa: S608 - a number of ours


async def add(connection: AsyncConnection, changes: Sequence[ChangedNights]) -> None:
    """Add the changes of a batch, at least one, and delete the oldest rows, in the caller's transaction."""
    newest: dict[int, int] = {}
    for change in changes:
        newest[change.partition] = max(change.position, newest.get(change.partition, change.position))
    columns = [list(column) for column in zip(*changes, strict=True)]
    beyond = [position - KEPT_POSITIONS for position in newest.values()]
    await connection.execute(_ADD, (*columns, list(newest), beyond, 2 * len(changes) + _OLDEST))
