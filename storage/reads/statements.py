"""A hotel's statement: the movements of money in a range of time, in pages, and their sums.

The index `money_movement_hotel` finds them, so that a statement costs what its own movements cost. Money is integers in
minor units; times are UTC.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, cast, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.models import MoneyMovement


class ByTime(NamedTuple):
    """A position in a statement."""

    time: datetime
    booking_id: UUID
    partition: int
    sequence: int


@dataclass(frozen=True, kw_only=True, slots=True)
class MovementRow:
    """One movement of money; `change_minor` is the change of the balance at Stripe."""

    booking_id: UUID
    partition: int
    sequence: int
    time: datetime
    kind: str
    payment_intent: str
    object_id: str
    amount_minor: int
    change_minor: int
    currency: str


@dataclass(frozen=True, kw_only=True, slots=True)
class MovementSum:
    """The sum of the movements of one kind in one currency."""

    currency: str
    kind: str
    count: int
    amount_minor: int
    change_minor: int


_COLUMNS = tuple(column for column in MoneyMovement.__table__.c if column.key not in {"hotel_id", "pays_booking"})


async def movements(
    connection: AsyncConnection,
    hotel_id: int,
    since: datetime,
    until: datetime,
    *,
    after: ByTime | None = None,
    limit: int | None = None,
) -> Sequence[MovementRow]:
    """Return a hotel's movements of [since, until) by time; `limit` None: all that follow."""
    conditions = [*_within(hotel_id, since, until)]
    key = (MoneyMovement.time, MoneyMovement.booking_id, MoneyMovement.partition, MoneyMovement.sequence)
    if after is not None:
        conditions.append(tuple_(*key) > tuple_(*after))
    rows = await connection.execute(select(*_COLUMNS).where(*conditions).order_by(*key).limit(limit))
    return [MovementRow(**row) for row in rows.mappings()]


async def movement_sums(
    connection: AsyncConnection, hotel_id: int, since: datetime, until: datetime
) -> Sequence[MovementSum]:
    """Return the sums of a hotel's movements of [since, until), by currency and kind."""
    rows = await connection.execute(
        select(
            MoneyMovement.currency,
            MoneyMovement.kind,
            func.count().label("count"),
            cast(func.sum(MoneyMovement.amount_minor), BigInteger).label("amount_minor"),
            cast(func.sum(MoneyMovement.change_minor), BigInteger).label("change_minor"),
        )
        .where(*_within(hotel_id, since, until))
        .group_by(MoneyMovement.currency, MoneyMovement.kind)
    )
    return [MovementSum(**row) for row in rows.mappings()]


def _within(hotel_id: int, since: datetime, until: datetime) -> tuple[ColumnElement[bool], ...]:
    return (MoneyMovement.hotel_id == hotel_id, MoneyMovement.time >= since, MoneyMovement.time < until)
