"""Payments within a second of the end of their holds: each is confirmed or goes back, never both, never neither."""

import pytest

from tests.support.waiting import MAX_WAIT_SECONDS, wait_until
from tests.system.money.desk import Desk
from tests.system.money.late_payments import CALLS_SECONDS, ends_of, pay_near_deadlines

pytestmark = [
    pytest.mark.asyncio(loop_scope="package"),
    pytest.mark.system,
    # Stripe's library hands its form to httpx in a way that httpx no longer likes.
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]


@pytest.mark.parametrize("count", [100, pytest.param(1_000, marks=pytest.mark.long)])
async def test_each_payment_near_its_deadline_is_confirmed_or_goes_back(desk: Desk, count: int) -> None:
    bookings = await pay_near_deadlines(desk, await desk.inn(total=count), count)

    seconds = MAX_WAIT_SECONDS + count * CALLS_SECONDS
    ends = await wait_until(lambda: ends_of(desk, bookings), seconds, "each payment is confirmed or has gone back")
    assert set(ends) <= {"confirmed", "gone back"}
    assert sum(ends.values()) == count
