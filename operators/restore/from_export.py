"""Restores a system whose database and log are lost: from exported files, and a backup of what is not on the log.

The files are checked, their events put back on the empty log, and the ledger restored from that log. Each step may be
interrupted and begun again; workers and ingress do not start between the steps.
"""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from operators.restore import exported, refill, target
from operators.restore.exported import Checked, LoggedEvent, Progress
from operators.restore.restore import PutBack, Restored, require_backup_of, restore
from operators.restore.target import NotRestored
from storage.settings import DatabaseSettings
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS, STRIPE_WEBHOOKS
from topics.kafka import admin
from topics.kafka.log_reader import NoSuchTopic
from topics.kafka.settings import KafkaSettings
from workers.payments.settings import PaymentSettings

_NEEDED: Final = (BOOKING_COMMANDS, BOOKING_EVENTS, STRIPE_WEBHOOKS)


@dataclass(frozen=True, kw_only=True)
class Steps:
    """The reports of progress: bytes checked, events put back on the log, and events applied to the ledger."""

    check: Progress
    refill: Progress
    restore: Progress


async def check(kafka: KafkaSettings, folder: Path, progress: Progress) -> Checked:
    """Check the files of a folder. Raises NotRestored, with what is wrong with them."""
    files = exported.find(folder, kafka.topic(BOOKING_EVENTS))
    return exported.check(files, kafka.topic_partitions, progress)


async def plan(
    kafka: KafkaSettings, database: DatabaseSettings, folder: Path, *, without_backup: bool, progress: Progress
) -> Checked:
    """Check files, database and topics, and change nothing. Takes and raises what `restore_from_export` does."""
    await _check_target(kafka, database, without_backup=without_backup)
    checked = await check(kafka, folder, progress)
    await refill.check(kafka, one_by_one(exported.events(checked.files, kafka.topic_partitions, checked.replaced)))
    return checked


async def restore_from_export(
    kafka: KafkaSettings,
    database: DatabaseSettings,
    payments: PaymentSettings,
    folder: Path,
    *,
    operator: str,
    without_backup: bool,
    steps: Steps,
) -> Restored:
    """Put the events of exported files on the empty log, and restore the ledger from it.

    Args:
        kafka: where the new, empty topics are.
        database: a migrated database whose ledger is empty.
        payments: the settings that are parameters of Stripe calls.
        folder: the files of `innkeeper export --format jsonl`.
        operator: the operator's name, for the operator log.
        without_backup: restore although there are no accounts, hotels or rooms.
        steps: the reports of progress.

    Raises:
        NotRestored: files, database or log cannot be used for it.
        topics.kafka.admin.TopicsFailed, aiokafka.errors.KafkaError, psycopg.Error: as `restore`.
    """
    await _check_target(kafka, database, without_backup=without_backup)
    checked = await check(kafka, folder, steps.check)
    async with await target.connect(database) as connection, target.alone(connection):
        events = one_by_one(exported.events(checked.files, kafka.topic_partitions, checked.replaced))
        await refill.refill(kafka, events, lambda done: steps.refill(done, checked.events))
        await refill.finish(kafka)
        return await restore(
            kafka,
            database,
            payments,
            operator=operator,
            without_backup=without_backup,
            put_back=PutBack(newest=checked.newest),
            progress=steps.restore,
        )


async def one_by_one(events: Iterable[LoggedEvent]) -> AsyncIterator[LoggedEvent]:
    """Yield the events of files."""
    for event in events:
        yield event


async def _check_target(kafka: KafkaSettings, database: DatabaseSettings, *, without_backup: bool) -> None:
    """Refuse what the restore would refuse only after the log was filled."""
    async with await target.connect(database) as connection:
        await target.check(connection, with_ingress=False)
        await require_backup_of(connection, without_backup=without_backup)
    await require_topics(kafka)


async def require_topics(kafka: KafkaSettings) -> None:
    """Refuse a broker that lacks our topics.

    Raises:
        NoSuchTopic: a topic does not exist.
        NotRestored: one has another number of partitions than the settings.
    """
    names = [kafka.topic(topic) for topic in _NEEDED]
    counts = await admin.partition_counts(kafka, names)
    for name in names:
        if name not in counts:
            raise NoSuchTopic(f"The topic {name} does not exist. Create it: innkeeper topics create.")
        if counts[name] != kafka.topic_partitions:
            raise NotRestored(f"{name} has {counts[name]} partitions: set TOPIC_PARTITIONS={counts[name]}.")
