"""The auditor: recomputes from the log and the ledger that no room was sold twice and nothing is missing.

It reads `booking.events` from the beginning with a consumer of its own and the tables with SQL of its own, and shares
no code with what it audits. `report.Check` explains the checks. It may run while the system works: it reads all tables
in one snapshot, and compares the log with them at exactly the events that had been decided by then.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

from operators.audit.comparison import compare
from operators.audit.expected_ledger import ExpectedLedger
from operators.audit.expected_read_models import ExpectedReadModels
from operators.audit.expected_trips import faults_of_trips
from operators.audit.ledger import Ledger, decided_sequences, read_ledger
from operators.audit.log import NoSuchTopic, read_log
from operators.audit.log_replay import LogReplay
from operators.audit.money_kept import faults_of_documents, followed
from operators.audit.read_models import compare_read_models
from operators.audit.report import Check, Report
from storage.settings import DatabaseSettings
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS
from topics.kafka.settings import KafkaSettings

__all__ = ["Check", "NoSuchTopic", "Report", "audit"]

MAX_WAIT_SECONDS = 10.0


async def audit(
    kafka: KafkaSettings,
    database: DatabaseSettings,
    *,
    holds: bool = False,
    max_wait_seconds: float = MAX_WAIT_SECONDS,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Make every check and return the problems.

    Args:
        kafka: where `booking.events` is.
        database: where the ledger is.
        holds: whether a hold that is 10 s past its deadline counts as a problem.
        max_wait_seconds: how long to wait for events on the log that the ledger has decided already.
        progress: called with the events read and the events to read.

    Raises:
        NoSuchTopic: there is no log to audit.
        aiokafka.errors.KafkaError: the broker cannot be reached.
        psycopg.Error: the database cannot be read.
    """
    commands, events = kafka.topic(BOOKING_COMMANDS), kafka.topic(BOOKING_EVENTS)
    report = Report()
    before = await followed(kafka, database)
    ledger = await read_ledger(database, commands, events, report, holds=holds)
    read = _Reading(kafka, events, ledger, max_wait_seconds, progress)
    replay, expected, read_models = await read(found := deepcopy(report), {})
    if replaced := replay.replaced():
        # The ledger follows from the later events.
        replay, expected, read_models = await read(found := deepcopy(report), replaced)
        for sentence in _sentences(replaced):
            found.add(Check.LOG_MATCHES_LEDGER, sentence)
    report = found
    # A log without its end comes first: the differences of its bookings follow from that.
    _compare_lengths(replay, ledger, await decided_sequences(database, commands), report)
    compare(expected, ledger, report)
    decided = before.decided(ledger.applied)
    for fault in faults_of_documents(expected.bookings, expected.documents, decided):
        report.add(Check.DOCUMENTS_ADD_UP, fault)
    for fault in faults_of_trips(expected.bookings, decided):
        report.add(Check.LOG_MATCHES_LEDGER, fault)
    compare_read_models(read_models.rows(), ledger.read_models.tables, report)
    replay.apply_undecided()
    report.counts = {
        "events": replay.events,
        "bookings": len(ledger.bookings),
        "nights": len(ledger.nights),
    }
    return report


@dataclass(frozen=True)
class _Reading:
    """Reads the log and computes from it what there should be."""

    kafka: KafkaSettings
    topic: str
    ledger: Ledger
    max_wait_seconds: float
    progress: Callable[[int, int], None] | None

    async def __call__(
        self, report: Report, replaced: Mapping[int, Sequence[tuple[int, int]]]
    ) -> tuple[LogReplay, ExpectedLedger, ExpectedReadModels]:
        """Add what is wrong to `report`; leave out the events that are `replaced`, as `LogReplay` does."""
        sequences = self.ledger.sequences
        expected, read_models = ExpectedLedger(report), ExpectedReadModels(self.ledger.read_models.applied)
        replay = LogReplay(report, expected, read_models, sequences, replaced)
        await read_log(
            self.kafka,
            self.topic,
            replay,
            sequences,
            max_wait_seconds=self.max_wait_seconds,
            progress=self.progress,
        )
        return replay, expected, read_models


def _sentences(replaced: Mapping[int, Sequence[tuple[int, int]]]) -> Iterator[str]:
    for partition, found in replaced.items():
        for sequence, offset in found:
            yield (
                f"partition {partition}, offset {offset}: sequence {sequence} is there twice, as different events: a"
                " failover lost a decision that was published, and it was made again otherwise. The ledger has the"
                " later one; make read models that differ anew: innkeeper rebuild all"
            )


def _compare_lengths(replay: LogReplay, ledger: Ledger, decided_now: dict[int, int], report: Report) -> None:
    """Compare the last sequences: events are published after the commit, so the log is never ahead of the ledger."""
    for partition, decided in sorted(ledger.sequences.items()):
        last = replay.last_sequence(partition)
        if last < decided:
            report.add(
                Check.LOG_MATCHES_LEDGER,
                f"partition {partition}: the ledger has decided events up to sequence {decided}, "
                f"the log ends at {last}: the outbox is not published",
            )
    for partition in replay.partitions():
        last, decided = replay.last_sequence(partition), decided_now.get(partition, 0)
        if last > decided:
            report.add(
                Check.LOG_MATCHES_LEDGER,
                f"partition {partition}: the log goes up to sequence {last}, "
                f"the ledger has decided events up to {decided}: the rest is not the ledger's",
            )
