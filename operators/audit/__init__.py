"""The auditor: recomputes from the log and the ledger that no room was sold twice and nothing is missing.

It reads `booking.events` from the beginning with a consumer of its own and the tables with SQL of its own, and shares
no code with what it audits. What each check means is in `report.CHECKS`. It may run while the system works: the
ledger's rows are taken at one moment, and the log is compared with them at exactly the events decided by then.
"""

from collections.abc import Callable

from operators.audit.comparison import compare
from operators.audit.ledger import Ledger, decided_sequences, read_ledger
from operators.audit.log import NoSuchTopic, read_log
from operators.audit.mirror import Mirror
from operators.audit.read_models import compare_read_models
from operators.audit.report import CHECKS, Report
from operators.audit.retelling import Retelling
from operators.audit.story import Story
from storage.settings import DatabaseSettings
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS
from topics.kafka.settings import KafkaSettings

__all__ = ["CHECKS", "NoSuchTopic", "Report", "audit"]

PATIENCE_SECONDS = 10.0


async def audit(
    kafka: KafkaSettings,
    database: DatabaseSettings,
    *,
    holds: bool = False,
    patience_seconds: float = PATIENCE_SECONDS,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Check everything and return what was found wrong.

    Args:
        kafka: where `booking.events` is.
        database: where the ledger is.
        holds: whether a hold that is 10 s past its deadline counts as a problem.
        patience_seconds: how long the log may take to show what the ledger decided already.
        progress: called with the events read and the events to read.

    Raises:
        NoSuchTopic: there is no log to audit.
        aiokafka.errors.KafkaError: the broker cannot be reached.
        psycopg.Error: the database cannot be read.
    """
    commands, events = kafka.topic(BOOKING_COMMANDS), kafka.topic(BOOKING_EVENTS)
    report = Report()
    ledger = await read_ledger(database, commands, events, report, holds=holds)
    story, mirror = Story(report), Mirror(ledger.read_models.applied)
    retelling = Retelling(report, story, mirror, ledger.sequences)
    await read_log(
        kafka,
        events,
        retelling,
        ledger.sequences,
        patience_seconds=patience_seconds,
        progress=progress,
    )
    compare(story, ledger, report)
    compare_read_models(mirror.rows(), ledger.read_models.tables, report)
    retelling.tell_the_rest()
    _compare_lengths(retelling, ledger, await decided_sequences(database, commands), report)
    report.counts = {
        "events": retelling.events,
        "bookings": len(ledger.bookings),
        "nights": len(ledger.nights),
    }
    return report


def _compare_lengths(retelling: Retelling, ledger: Ledger, decided_now: dict[int, int], report: Report) -> None:
    """Events follow the commit that decided them: the log lags behind the ledger, never ahead."""
    for partition, decided in sorted(ledger.sequences.items()):
        told = retelling.last_sequence(partition)
        if told < decided:
            report.add(
                "I6",
                f"partition {partition}: the ledger has decided events up to sequence {decided}, "
                f"the log ends at {told}: the outbox is not published",
            )
    for partition in retelling.partitions():
        told, decided = retelling.last_sequence(partition), decided_now.get(partition, 0)
        if told > decided:
            report.add(
                "I6",
                f"partition {partition}: the log goes up to sequence {told}, "
                f"the ledger has decided events up to {decided}: the rest is not the ledger's",
            )
