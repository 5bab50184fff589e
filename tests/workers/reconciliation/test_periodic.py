"""The comparison mends what lasts and is certain, and leaves the rest to an operator: a metric, a log line."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import pytest

from operators.explain import explain
from operators.reconcile import reconcile
from storage.settings import DatabaseSettings
from telemetry import metrics
from tests.operators.decided_log import PAID
from tests.operators.reconcile.paid_bookings import PaidBookings
from tests.workers.reconciliation.reconciler import comparison
from topics.kafka.producer import Producer
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import RecordRefund
from topics.messages.releases import Release
from workers.decisions.state import Payment, PaymentState
from workers.reconciliation import periodic
from workers.reconciliation.bookings import Booking, RefundRow
from workers.reconciliation.differences import Difference, Kind, RefundCorrection
from workers.reconciliation.money import Found
from workers.reconciliation.periodic import PeriodicComparison
from workers.reconciliation.settings import ReconciliationSettings
from workers.reconciliation.stripe_client import StripeClient

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

ASKED = "an operator must look at booking"
PAYMENT = Payment("pi_1", "cs_1", 20_000, PaymentState.REFUND_REQUESTED, due_minor=20_000)
BOOKING = Booking(
    id=UUID(int=1),
    room_id=1,
    status="CANCELLED",
    terms="prepaid",
    amount_minor=20_000,
    currency="EUR",
    attempt=1,
    session_id="cs_1",
    created_at=datetime(2026, 12, 1, tzinfo=UTC),
    payments={"pi_1": PAYMENT},
)


def left() -> dict[str, float]:
    """Return the differences that are left to an operator, by kind, as they are exported."""
    return {kind: count for (kind,), count in metrics.MONEY_DIFFERENCES.values().items() if count}


def idle_refund(description: str = "money is due, and nothing sends it", *, status: str | None = None) -> Difference:
    """A difference that a row mends; `status` is that of the present row."""
    was = None if status is None else RefundRow(status=status, refund_id=None, amount_minor=20_000, is_due=False)
    row = RefundCorrection(
        booking=BOOKING, payment=PAYMENT, was=was, status="creating", refund_id=None, amount_minor=20_000, is_due=True
    )
    return Difference(
        booking_id=BOOKING.id, kind=Kind.IDLE_REFUND, description=description, correction="it is due again", rows=(row,)
    )


WRONG_SUM = Difference(booking_id=BOOKING.id, kind=Kind.WRONG_SUM, description="a sum", correction="look at it")


class Scripted(PeriodicComparison):
    """A role that finds given differences, one list a turn, and notes what it mends."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        readable_by: Release = Release.V0_2_0,
        *,
        compare_seconds: float = 0.000_001,
    ) -> None:
        kafka = KafkaSettings(_env_file=None, log_readable_by=readable_by)
        settings = ReconciliationSettings(_env_file=None, reconciliation_compare_seconds=compare_seconds)
        super().__init__(
            kafka,
            DatabaseSettings(_env_file=None),
            settings,
            cast("StripeClient", None),
            cast("Producer", None),
            name="one",
        )
        self.mended: list[Difference] = []
        self.compared = 0
        self._found: Sequence[Difference] = ()

        async def correct(*arguments: Any) -> bool:
            self.mended.append(arguments[3])
            return True

        @asynccontextmanager
        async def connection() -> AsyncIterator[None]:
            yield

        async def connect(*_: Any, **__: Any) -> Any:
            return connection()

        monkeypatch.setattr(periodic, "correct", correct)
        monkeypatch.setattr(periodic, "connect", connect)

    async def _compare(self, found: Found) -> None:
        self.compared += 1
        # Each is in a range of its own.
        for each in self._found:
            await found([each])

    async def finds(self, *differences: Difference, turns: int = 2) -> None:
        """Let so many turns find these differences."""
        self._found = differences
        for _ in range(turns):
            await self.turn()


async def test_a_difference_that_lasts_is_mended_from_the_role_itself(paid: PaidBookings) -> None:
    await paid.checkout(PAID)
    payment = await paid.pay(PAID)
    await paid.deliver_webhooks()
    await paid.refund_by_hand(payment, 5_000)

    async def refunds() -> list[dict[str, Any]]:
        return await paid.rows("select amount_minor from payment_refund")

    async with comparison(paid) as role:
        await role.turn()
        assert await refunds() == []
        await role.turn()
        await paid.work()
        await role.turn()

    assert await refunds() == [{"amount_minor": 5_000}]
    assert left() == {}
    history = await explain(paid.log.settings, paid.database, PAID)
    (step,) = [each for each in history.steps if each.what == RecordRefund.message_type]
    assert (step.source, step.actor) == ("innkeeper/reconciliation", None)
    assert await paid.rows("select 1 as done from operator_action") == []


async def test_a_difference_for_a_person_is_counted_logged_once_and_shown_by_the_command(
    paid: PaidBookings, caplog: pytest.LogCaptureFixture
) -> None:
    await paid.checkout(PAID)
    await paid.pay(PAID)
    await paid.deliver_webhooks()
    # The booking's row is not as its events made it, and no command can mend that.
    await paid.rows("update booking set status = 'CANCELLED'")

    async with comparison(paid) as role:
        for _ in range(4):
            await role.turn()

    assert left() == {"wrong_sum": 1}
    assert caplog.text.count(f"{ASKED} {PAID}") == 1
    shown = await reconcile(paid.log.settings, paid.database, paid.settings)
    assert [each.description in caplog.text for each in shown.differences] == [True]


async def test_a_difference_that_passes_by_itself_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    role = Scripted(monkeypatch)

    await role.finds(idle_refund(), turns=1)
    await role.finds(WRONG_SUM, turns=1)

    assert (role.mended, left()) == ([], {})


async def test_the_first_comparison_comes_a_while_after_the_start_unless_the_list_has_a_gap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    role = Scripted(monkeypatch, compare_seconds=3_600)

    await role.finds(turns=3)
    assert role.compared == 0
    role.in_full = True
    await role.finds(turns=3)

    assert role.compared == 1


async def test_a_difference_that_stays_although_it_was_mended_is_for_an_operator(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    role = Scripted(monkeypatch)

    await role.finds(idle_refund())
    assert (len(role.mended), left()) == (1, {})
    await role.finds(idle_refund(), turns=4)
    assert (len(role.mended), left()) == (1, {"idle_refund": 1})
    await role.finds()
    assert (len(role.mended), left()) == (1, {})
    # Once it was gone, it is a new one.
    await role.finds(idle_refund())

    assert (len(role.mended), left()) == (2, {})
    assert caplog.text.count(ASKED) == 1


@pytest.mark.parametrize("readable_by", [Release.V0_1_0, Release.V0_2_0])
async def test_while_0_1_0_runs_nothing_is_mended(monkeypatch: pytest.MonkeyPatch, readable_by: Release) -> None:
    role = Scripted(monkeypatch, readable_by)

    await role.finds(idle_refund())

    assert left() == ({"idle_refund": 1} if readable_by is Release.V0_1_0 else {})
    assert len(role.mended) == (0 if readable_by is Release.V0_1_0 else 1)


async def test_a_refund_that_0_1_0_gave_up_waits_for_the_day_that_an_operator_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    role = Scripted(monkeypatch)

    await role.finds(idle_refund("of 0.1.0", status="failed"), idle_refund("of this release", status="succeeded"))

    assert [each.description for each in role.mended] == ["of this release"]
    assert left() == {"idle_refund": 1}
