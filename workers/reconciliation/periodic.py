"""Compares the money at Stripe with the bookings now and then, mends what is certain, and reports the rest.

A difference counts if it is there at two comparisons in a row: a webhook that is on its way must not look like one that
is lost. A difference that mending did not end is left to an operator, as is every one that only a person can judge;
`innkeeper reconcile` shows them with their corrections. Each range of bookings is mended before the next one is
compared; from one comparison to the next only the keys of differences are kept.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from psycopg import AsyncConnection

from storage.database import Limits, connect
from storage.settings import DatabaseSettings
from telemetry import metrics
from topics.kafka.producer import Producer
from topics.kafka.settings import KafkaSettings
from topics.messages.releases import Release
from workers.reconciliation.corrections import Sender, correct
from workers.reconciliation.differences import Difference, Kind, RefundCorrection
from workers.reconciliation.lost_webhooks import RECONCILIATION_SOURCE
from workers.reconciliation.money import Found, compare_money
from workers.reconciliation.settings import ReconciliationSettings
from workers.reconciliation.stripe_client import StripeClient

_SENDER: Final = Sender(source=RECONCILIATION_SOURCE)
_READINGS_BEFORE: Final = 5
"""So many readings of Stripe's list come before the first comparison: first the lost webhooks are made good."""
_STATEMENT_SECONDS: Final = 300.0
"""The longest statement of a comparison, which may read all payments there are."""

log = logging.getLogger(__name__)


class _Key(NamedTuple):
    """The identity of a difference from one comparison to the next."""

    booking_id: UUID
    kind: Kind
    description: str


class PeriodicComparison:
    """The comparisons of one leader."""

    def __init__(
        self,
        kafka: KafkaSettings,
        database: DatabaseSettings,
        settings: ReconciliationSettings,
        client: StripeClient,
        producer: Producer,
        *,
        name: str,
    ) -> None:
        """`name` distinguishes this process in the database's sessions."""
        self._kafka = kafka
        self._database = database
        self._settings = settings
        self._client = client
        self._producer = producer
        self._application = f"innkeeper-reconciliation-{name}-comparison"
        first = min(_READINGS_BEFORE * settings.reconciliation_events_seconds, settings.reconciliation_compare_seconds)
        self._next_at = asyncio.get_running_loop().time() + first
        self._seen_once: frozenset[_Key] | None = None
        self._mended: set[_Key] = set()
        self._reported: frozenset[_Key] = frozenset()
        #: The list of events has a gap: bookings of any age may differ.
        self.in_full = False

    async def turn(self) -> None:
        """Compare if it is time to, or if the turn before saw differences for the first time.

        Raises:
            workers.reconciliation.stripe_client.StripeUnavailable: Stripe does not answer.
            storage.installation.NoInstallation: the database has lost the installation's id.
            psycopg.Error, aiokafka.errors.KafkaError: the database or the broker cannot be used.
        """
        now = asyncio.get_running_loop().time()
        if now < self._next_at and self._seen_once is None and not self.in_full:
            return
        before, seen = self._seen_once, set[_Key]()
        left: dict[_Key, str] = {}

        async def note(differences: Sequence[Difference]) -> None:
            seen.update(map(_key, differences))
            lasting = [each for each in differences if _key(each) in (before or ())]
            left.update((_key(each), each.correction) for each in await self._mend(lasting))

        await self._compare(note)
        if seen and before is None:
            self._seen_once = frozenset(seen)
            return
        # A difference that was mended before and is there again is for an operator until it is gone.
        self._mended &= seen & (before or frozenset())
        self._report(left)
        self._seen_once, self.in_full = None, False
        self._next_at = now + self._settings.reconciliation_compare_seconds

    async def _compare(self, found: Found) -> None:
        since = datetime.now(UTC) - timedelta(days=self._settings.reconciliation_compare_days)
        async with await self._connect() as connection:
            await compare_money(
                connection,
                self._client,
                self._settings,
                readable_by=self._kafka.log_readable_by,
                since=None if self.in_full else since,
                found=found,
            )

    async def _connect(self) -> AsyncConnection:
        limits = Limits(connect_seconds=self._database.database_connect_seconds, statement_seconds=_STATEMENT_SECONDS)
        return await connect(self._database, self._application, limits=limits)

    async def _mend(self, differences: Sequence[Difference]) -> Sequence[Difference]:
        """Mend what is certain; return the rest."""
        if not differences:
            return ()
        left: list[Difference] = []
        async with await self._connect() as connection:
            for each in differences:
                if self._may_mend(each) and await correct(self._kafka, connection, self._producer, each, _SENDER):
                    self._mended.add(_key(each))
                    metrics.MONEY_MENDED.add(1, each.kind)
                    log.warning("booking %s: %s; %s", each.booking_id, each.description, each.correction)
                else:
                    left.append(each)
        return left

    def _may_mend(self, difference: Difference) -> bool:
        if not difference.is_certain or _key(difference) in self._mended:
            return False
        # A worker of 0.1.0 would refund a payment as a whole; and an operator has a day after the rollout to close the
        # refunds that 0.1.0 gave up.
        return self._kafka.log_readable_by is not Release.V0_1_0 and not _was_given_up(difference)

    def _report(self, left: Mapping[_Key, str]) -> None:
        """Export the differences that are left, and log those that are new; `left` has their corrections."""
        counts = Counter(key.kind for key in left)
        for kind in Kind:
            metrics.MONEY_DIFFERENCES.set(counts[kind], kind)
        for key, correction in left.items():
            if key not in self._reported:
                log.error("an operator must look at booking %s: %s; %s", key.booking_id, key.description, correction)
        self._reported = frozenset(left)


def _key(difference: Difference) -> _Key:
    return _Key(difference.booking_id, difference.kind, difference.description)


def _was_given_up(difference: Difference) -> bool:
    return any(
        isinstance(row, RefundCorrection) and row.was is not None and row.was.status == "failed"
        for row in difference.rows
    )
