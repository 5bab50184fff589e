"""The events of one command in two partitions may have one id and one sequence, and are two steps."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

from operators.explain.history import Request
from operators.explain.search import Search, Topics
from operators.explain.snapshot import TimelineRow
from operators.explain.steps import steps_of
from tests.storage.projections.log import T0, on_the_log
from tests.storage.projections.test_timeline import IN_TWO_PARTITIONS
from topics.envelope import decode_envelope
from topics.kafka.positions import LogPosition

REQUEST = Request(made_at=None, user_id=7, source=None, correlation=None, trace=None)
TOPICS = Topics("booking.commands", "booking.events", "stripe.webhooks")


class RecordsOfEvents:
    """The records of events that were read from the log."""

    def __init__(self, records: list[Any]) -> None:
        self._records = records

    def of(self, topic: str) -> list[Any]:
        return self._records if topic == TOPICS.events else []

    def at(self, position: LogPosition | None) -> Any:
        return next((each for each in self._records if LogPosition.of(each) == position), None)


def row(partition: int, type: str) -> TimelineRow:
    """Return the row of event 2 of a partition, which has the same command in both."""
    return TimelineRow(
        sequence=2, event_id="command:2", type=type, time=T0 + timedelta(seconds=partition), causation="command",
        event={}, topic=TOPICS.events, partition=partition, offset=1, causation_topic=TOPICS.commands,
        causation_partition=partition, causation_offset=5,
    )  # fmt: skip


def explained(rows: list[TimelineRow], records: list[Any]) -> list[tuple[str, bool]]:
    snapshot = SimpleNamespace(timeline=rows)
    search = SimpleNamespace(
        topics=TOPICS, records=RecordsOfEvents(records), snapshot=snapshot, notes=[], dead_letters=[]
    )
    steps = steps_of(cast(Search, search), REQUEST)
    return [(step.what, step.sent_again) for step in steps if step.sequence is not None]


BOTH = [("booking.reserved.v1", False), ("booking.command_refused.v1", False)]


def test_both_rows_are_steps_and_none_follows_from_a_command_that_was_sent_again() -> None:
    assert explained([row(1, "booking.reserved.v1"), row(2, "booking.command_refused.v1")], []) == BOTH


def test_a_record_that_the_timeline_lacks_is_a_step_beside_the_row_of_its_id() -> None:
    record = on_the_log(IN_TWO_PARTITIONS)[2][1].record
    envelope = decode_envelope(record.headers)
    record.headers = [
        (name, b"command:2" if name == "ce_id" else value) for name, value in record.headers if name != "ce_causationid"
    ]
    assert envelope.sequence == 2

    assert explained([row(1, "booking.reserved.v1")], [record]) == BOTH
