"""Where a worker reads on when partitions change hands at that very moment."""

from collections.abc import Mapping
from typing import Any, cast

from aiokafka.errors import IllegalStateError
from faust.types import TP

from storage.settings import DatabaseSettings
from topics.settings import KafkaSettings
from workers import reservations
from workers.agent import build_app
from workers.transport import RunConsumer

OURS, ANOTHERS = TP("booking.commands", 0), TP("booking.commands", 1)


class Hands:
    """Stands for the thread that holds the Kafka client, in the moment before it hears of a rebalance."""

    def __init__(self, *ours: TP) -> None:
        self._ours = set(ours)
        self.sought: dict[TP, int] = {}

    def assignment(self) -> set[TP]:
        return {OURS, ANOTHERS}

    async def seek_wait(self, offsets: Mapping[TP, int]) -> None:
        if missing := offsets.keys() - self._ours:
            raise IllegalStateError(f"No current assignment for partitions {missing}")
        self.sought.update(offsets)


def consumer_of(kafka: KafkaSettings, database: DatabaseSettings, hands: Hands) -> RunConsumer:
    app = build_app(reservations.build(kafka, database), kafka, database)
    consumer = cast("RunConsumer", app.consumer)
    consumer._thread = cast("Any", hands)
    return consumer


async def test_a_partition_that_is_taken_away_while_we_go_to_its_place_ends_nothing(
    kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    hands = Hands(OURS)
    consumer = consumer_of(kafka_settings, database, hands)

    await consumer.start_at({OURS: 7, ANOTHERS: 9})
    assert hands.sought == {}

    await consumer.start_at({OURS: 7})
    assert hands.sought == {OURS: 7}
