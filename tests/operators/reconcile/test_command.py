"""`innkeeper reconcile` as an operator sees it."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.settings import DatabaseSettings
from tests.operators.conftest import Operator
from tests.operators.decided_log import PAID
from tests.operators.reconcile.paid_bookings import PaidBookings, open_paid_bookings
from tests.operators.reconcile.test_reconcile import open_elsewhere
from tests.support.log import open_log
from topics.kafka.settings import KafkaSettings

pytestmark = [pytest.mark.system, pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")]


@pytest.fixture
async def paid(
    kafka_settings: KafkaSettings, database: DatabaseSettings, tmp_path: Path
) -> AsyncIterator[PaidBookings]:
    async with open_log(kafka_settings) as log, open_paid_bookings(log, database, tmp_path) as opened:
        yield opened


async def test_an_operator_sees_each_difference_mends_it_and_sees_none(
    paid: PaidBookings, environment: dict[str, str]
) -> None:
    operator = Operator({**environment, "STRIPE_API_URL": paid.stand_in.url})
    await paid.checkout(PAID)
    payment = await paid.pay(PAID)
    await paid.deliver_webhooks()
    refund = await paid.refund_by_hand(payment, 5_000)
    await open_elsewhere(paid, {"booking_id": str(PAID), "room_id": "1", "attempt": "2", "mark": "another"})

    seen = await operator("reconcile")
    mended = await operator("reconcile", "--yes", "--json")
    await paid.work()
    after = await operator("reconcile")

    assert (seen.exit_code, mended.exit_code, after.exit_code) == (1, 0, 0), seen.output + mended.output + after.output
    assert f"differs  {PAID}  {refund}, 50.00 EUR of {payment}, was made by hand at Stripe" in seen.stdout
    assert "1 object of other installations left alone." in seen.stderr
    assert "Add --yes" in seen.stderr
    difference, summary = map(json.loads, mended.stdout.splitlines())
    assert (difference["kind"], difference["corrected"]) == ("unknown_refund", True)
    assert summary == {
        "bookings": 1,
        "sessions": 1,
        "refunds": 1,
        "disputes": 0,
        "of_other_installations": 1,
        "differences": 1,
        "left": 0,
    }
    assert after.stdout == ""
    assert "1 booking, 1 session, 1 refund and 0 disputes at Stripe: 0 differences are left" in after.stderr


async def test_a_database_without_its_installation_compares_nothing(
    paid: PaidBookings, environment: dict[str, str]
) -> None:
    await paid.rows("delete from installation")

    result = await Operator({**environment, "STRIPE_API_URL": paid.stand_in.url})("reconcile")

    assert result.exit_code == 2
    assert "installation" in result.stderr
