"""A comparison in ranges finds what one range finds, and holds no more than a range at a time."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import pytest
from psycopg import AsyncConnection

from operators.reconcile import Reconciled, reconcile
from tests.operators.reconcile.paid_bookings import PaidBookings
from workers.reconciliation import bookings, money
from workers.reconciliation.staging import Staging

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

TEN = tuple(UUID(int=(7 << 76) | (2 << 62) | number) for number in range(1, 11))


async def test_ranges_of_three_find_the_same_in_ten_bookings_as_one_range(
    paid: PaidBookings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await paid.checkout(*TEN)
    payments = [await paid.pay(booking) for booking in TEN[:8]]
    await paid.deliver_webhooks()
    # The refunds are younger than every session, and the first bookings have the youngest ones.
    for payment in reversed(payments[:5]):
        await paid.refund_by_hand(payment, 5_000)
        await paid.refund_by_hand(payment, 1_000)
    await paid.dispute(payments[0])
    await paid.pay(TEN[8])
    await paid.rows("update checkout_session set status = 'open' where booking_id = %s", TEN[7])
    await paid.rows("delete from booking where id = %s", TEN[6])

    whole = await reconciled(paid)
    sizes = sizes_of(monkeypatch)
    monkeypatch.setattr(money, "MAX_TOGETHER", 3)
    in_ranges = await reconciled(paid)

    assert in_ranges == whole
    assert (whole.bookings, whole.sessions, whole.refunds, whole.disputes, whole.foreign) == (9, 10, 10, 1, 0)
    kinds = [each.kind.value for each in whole.differences]
    assert sorted(kinds) == sorted(
        ["unknown_refund"] * 10 + ["unknown_dispute", "unknown_payment", "unknown_booking", "stale_session"]
    )
    assert max(sizes) == 3
    # Nine bookings, and ten sessions, ten refunds and a dispute in batches.
    assert len(sizes) >= 3 + 4 + 4 + 1


async def reconciled(paid: PaidBookings) -> Reconciled:
    return await reconcile(paid.log.settings, paid.database, paid.settings)


def sizes_of(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which each reading adds how many bookings, or objects, it holds at once."""
    sizes: list[int] = []
    read, add = bookings._read, Staging.add_objects

    async def reading(connection: AsyncConnection, ids: Sequence[UUID]) -> Any:
        sizes.append(len(ids))
        return await read(connection, ids)

    async def adding(staging: Staging, objects: Iterable[Any]) -> None:
        some = list(objects)
        sizes.append(len(some))
        await add(staging, some)

    monkeypatch.setattr(bookings, "_read", reading)
    monkeypatch.setattr(Staging, "add_objects", adding)
    return sizes


async def test_a_booking_that_changed_while_stripe_was_read_is_no_difference(
    paid: PaidBookings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await paid.checkout(TEN[0])
    await paid.pay(TEN[0])
    create = money._Reading.all

    async def changed_afterwards(reading: Any, progress: money.Progress) -> None:
        await create(reading, progress)
        await paid.deliver_webhooks()

    before = await reconciled(paid)
    monkeypatch.setattr(money._Reading, "all", changed_afterwards)
    during = await reconciled(paid)

    assert [each.kind.value for each in before.differences] == ["unknown_payment"]
    assert dataclasses.astuple(during)[:2] == (1, 1)
    assert during.differences == ()
