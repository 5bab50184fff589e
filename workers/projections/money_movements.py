"""Keeps a row for each movement of money: payments, refunds and disputes, by hotel and time."""

from collections.abc import Sequence

from psycopg import AsyncConnection

from storage.projections import money_movements
from topics.catalogue import BOOKING_EVENTS, Topic
from topics.envelope import Outgoing
from workers.projections.positioned_events import positioned_events
from workers.runtime.role import PartitionBatch


class MoneyMovements:
    """Keeps the movements of money."""

    name = "money_movements"
    topics: tuple[Topic, ...] = (BOOKING_EVENTS,)

    async def handle(
        self, connection: AsyncConnection, batches: Sequence[PartitionBatch]
    ) -> Sequence[Sequence[Outgoing]]:
        """Append the movements of the batches."""
        await money_movements.apply(connection, positioned_events(batches))
        return [() for _ in batches]

    def forget(self) -> None:
        """Nothing is kept in memory."""
