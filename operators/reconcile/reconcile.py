"""The operator's reconciliation: the comparison of the role `reconciliation`, mended under the operator's name."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from psycopg import AsyncConnection

from storage import operator_log
from storage.database import connect
from storage.settings import DatabaseSettings
from topics.kafka.producer import open_producer
from topics.kafka.settings import KafkaSettings
from workers.reconciliation.corrections import Sender, correct
from workers.reconciliation.differences import Difference
from workers.reconciliation.money import Compared, Progress, compare_money
from workers.reconciliation.stripe_client import open_stripe
from workers.stripe.settings import StripeSettings

_CLIENT: Final = "innkeeper-reconcile"


@dataclass(kw_only=True)
class Reconciled(Compared):
    """The outcome of a comparison; `corrected` has the indexes of the differences that were corrected."""

    differences: tuple[Difference, ...]
    corrected: frozenset[int]

    @property
    def left(self) -> tuple[Difference, ...]:
        """The differences that were not corrected."""
        return tuple(each for number, each in enumerate(self.differences) if number not in self.corrected)


async def reconcile(
    kafka: KafkaSettings,
    database: DatabaseSettings,
    settings: StripeSettings,
    *,
    since: datetime | None = None,
    booking: UUID | None = None,
    correcting: bool = False,
    operator: str = "",
    progress: Progress | None = None,
) -> Reconciled:
    """Compare the money at Stripe with the bookings.

    Args:
        kafka: where commands go, and the oldest release that must be able to decide them.
        database: where the bookings are.
        settings: where Stripe is, and the key to it.
        since: only bookings that were made since then (UTC).
        booking: only this one.
        correcting: whether commands are sent for missing events, and rows that lack Stripe's state are updated.
        operator: the operator's name, for the operator log.
        progress: called with the number of objects that Stripe has listed so far.

    Raises:
        workers.reconciliation.money.NoSuchBooking: the named booking is not in the ledger.
        workers.reconciliation.stripe_client.StripeUnavailable: Stripe does not answer.
        storage.installation.NoInstallation: the database has lost the installation's id.
        psycopg.Error, aiokafka.errors.KafkaError: the database or the broker cannot be used.
    """
    found: list[Difference] = []

    async def note(some: Sequence[Difference]) -> None:
        found.extend(some)

    async with await connect(database, _CLIENT) as connection, open_stripe(settings) as client:
        compared = await compare_money(
            connection,
            client,
            settings,
            readable_by=kafka.log_readable_by,
            since=since,
            booking=booking,
            progress=progress,
            found=note,
        )
        differences = tuple(sorted(found, key=lambda each: each.booking_id))
        corrected = await _correct(kafka, connection, differences, operator) if correcting else frozenset()
    return Reconciled(**asdict(compared), differences=differences, corrected=corrected)


async def _correct(
    kafka: KafkaSettings, connection: AsyncConnection, differences: tuple[Difference, ...], operator: str
) -> frozenset[int]:
    """Mend what is certain; return the indexes of the differences that were mended.

    The action is recorded first: each command that follows from it names it as its actor.
    """
    certain = {number: each for number, each in enumerate(differences) if each.is_certain}
    if not certain:
        return frozenset()
    action = await operator_log.record(
        connection, who=operator, action="reconcile", target="stripe", details={"differences": len(certain)}
    )
    sender = Sender(source=operator_log.SOURCE, actor=action.actor)
    corrected = set()
    async with AsyncExitStack() as opened:
        producer = None
        if any(each.commands for each in certain.values()):
            producer = await opened.enter_async_context(open_producer(kafka, client_id=_CLIENT))
        for number, difference in certain.items():
            if await correct(kafka, connection, producer, difference, sender):
                corrected.add(number)
    return frozenset(corrected)
