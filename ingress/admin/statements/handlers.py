"""The statement of a hotel's money for a month, in pages or as CSV, from the movements that projections keep."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any, Final
from uuid import UUID

from aiohttp import hdrs
from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.admin.statements.models import CurrencyTotal, KindSum, MovementOut, Statement, StatementQuery
from ingress.database import Database, snapshot
from ingress.http.media import CSV, prefers_csv
from ingress.http.models import NoBody
from ingress.http.paging import NEXT_PAGE, Cursors, first_page, link_to_next
from ingress.http.problems import existing
from ingress.http.responses import Response, json_response
from ingress.operations import Access, Example, RequestContext, ResponseSpec, operation
from ingress.stays import month_at, today_at
from pricing.commission import commission_minor
from pricing.currencies import decimal
from pricing.movements import MovementKind
from storage.reads import reports, statements
from storage.reads.reports import ManagedHotel
from storage.reads.statements import ByTime, MovementRow, MovementSum

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_KINDS: Final = tuple(MovementKind)
#: The kinds that a total adds up, besides payments; their changes are below zero where money left.
_REFUNDS: Final = frozenset({MovementKind.REFUND, MovementKind.REFUND_FAILED})
_DISPUTES: Final = frozenset({MovementKind.DISPUTE_OPENED, MovementKind.DISPUTE_WON})

#: A position: microseconds since 1970, booking, partition, sequence.
_positions: Final = Cursors(tuple[int, UUID, int, int])


class Statements:
    """The operation that states the money of a hotel's month."""

    def __init__(self, database: Database, commission_percent: Decimal) -> None:
        self._database = database
        self._commission_percent = commission_percent

    @operation(
        "GET /admin/hotels/{hotel_id}/statement",
        access=Access.MANAGER,
        summary="State the money of a hotel's month",
        responses={
            200: ResponseSpec(
                Statement,
                "The statement; as CSV all movements of the month, a line each after a line of names.",
                {
                    **NEXT_PAGE,
                    "Vary": "`Accept` chooses JSON or CSV.",
                    "Content-Disposition": "CSV: a file's name.",
                },
                {CSV: "The movements: " + ", ".join(MovementOut.model_fields)},
            )
        },
        example=Example(path={"hotel_id": 1}, query={"month": "2026-12", "limit": 100}),
    )
    async def statement(self, context: RequestContext[NoBody, StatementQuery]) -> Response:
        """List the payments, refunds and disputes of one's hotel in a month, with their objects at Stripe and sums.

        A stay that ended early has a line with the amount that the hotel keeps by its policy; it changes no balance.

        A movement belongs to the month, in the hotel's time zone, in which its event happened: a refund counts when it
        was carried out, and a dispute when it was opened. The guests' money arrives in one account at Stripe;
        `kept` less the commission is due to the hotel. Stripe's own fees are not part of the statement.
        """
        query, hotel_id = context.query, context.path["hotel_id"]
        as_csv = prefers_csv(context.request)
        after = _positions.read(query.cursor)

        async def read(
            connection: AsyncConnection,
        ) -> tuple[ManagedHotel, str, Sequence[MovementRow], Sequence[MovementSum]]:
            async with snapshot(connection):
                found = await reports.managed_hotel(connection, hotel_id, context.caller.user_id)
                hotel = existing(found, "hotel")
                month = query.month or today_at(hotel.time_zone).strftime("%Y-%m")
                since, until = month_at(month, hotel.time_zone)
                rows = await statements.movements(
                    connection,
                    hotel_id,
                    since,
                    until,
                    after=None if after is None or as_csv else _position(after),
                    limit=None if as_csv else query.limit + 1,
                )
                sums = () if as_csv else await statements.movement_sums(connection, hotel_id, since, until)
            return hotel, month, rows, sums

        hotel, month, rows, sums = await self._database.read(read)
        if as_csv:
            return _as_csv(hotel_id, month, rows)
        page, last = first_page(rows, query.limit)
        body = Statement(
            hotel_id=hotel_id,
            month=month,
            time_zone=hotel.time_zone,
            commission_percent=f"{self._commission_percent:.2f}",
            totals=_totals(sums, self._commission_percent),
            sums=[_sum(each) for each in _in_order(sums)],
            movements=[_movement(row) for row in page],
        )
        headers = {hdrs.VARY: hdrs.ACCEPT, **link_to_next(context.address_with, last, _cursor)}
        return json_response(200, body, headers)


def _position(given: tuple[int, UUID, int, int]) -> ByTime:
    microseconds, booking_id, partition, sequence = given
    return ByTime(_EPOCH + microseconds * _MICROSECOND, booking_id, partition, sequence)


def _cursor(row: MovementRow) -> str:
    return _positions.write(((row.time - _EPOCH) // _MICROSECOND, row.booking_id, row.partition, row.sequence))


def _in_order(sums: Iterable[MovementSum]) -> list[MovementSum]:
    return sorted(sums, key=lambda each: (each.currency, _KINDS.index(MovementKind(each.kind))))


def _totals(sums: Sequence[MovementSum], percent: Decimal) -> list[CurrencyTotal]:
    return [
        _total(currency, list(of_currency), percent)
        for currency, of_currency in groupby(_in_order(sums), key=lambda each: each.currency)
    ]


def _total(currency: str, sums: Sequence[MovementSum], percent: Decimal) -> CurrencyTotal:
    kept_minor = sum(each.change_minor for each in sums)
    commission = commission_minor(kept_minor, percent)

    def money(amount_minor: int) -> str:
        return decimal(amount_minor, currency)

    return CurrencyTotal(
        currency=currency,
        paid=money(sum(each.change_minor for each in sums if each.kind == MovementKind.PAYMENT)),
        refunded=money(-sum(each.change_minor for each in sums if each.kind in _REFUNDS)),
        disputed=money(-sum(each.change_minor for each in sums if each.kind in _DISPUTES)),
        kept=money(kept_minor),
        kept_by_policy=money(sum(each.amount_minor for each in sums if each.kind == MovementKind.KEPT_BY_POLICY)),
        commission=money(commission),
        due_to_hotel=money(kept_minor - commission),
    )


def _sum(found: MovementSum) -> KindSum:
    return KindSum(
        currency=found.currency,
        kind=found.kind,
        count=found.count,
        amount=decimal(found.amount_minor, found.currency),
        change=decimal(found.change_minor, found.currency),
    )


def _movement(row: MovementRow) -> MovementOut:
    return MovementOut(
        time=row.time,
        booking_id=row.booking_id,
        kind=row.kind,
        amount=decimal(row.amount_minor, row.currency),
        change=decimal(row.change_minor, row.currency),
        currency=row.currency,
        stripe_object=row.object_id,
        payment_intent=row.payment_intent,
    )


def _as_csv(hotel_id: int, month: str, rows: Sequence[MovementRow]) -> Response:
    lines = io.StringIO()
    writer = csv.DictWriter(lines, tuple(MovementOut.model_fields))
    writer.writeheader()
    writer.writerows(_plain(_movement(row)) for row in rows)
    headers: dict[str, str] = {
        hdrs.VARY: hdrs.ACCEPT,
        hdrs.CONTENT_DISPOSITION: f'attachment; filename="hotel-{hotel_id}-{month}.csv"',
    }
    return Response(200, lines.getvalue().encode(), headers, media=f"{CSV}; charset=utf-8")


def _plain(movement: MovementOut) -> Mapping[str, Any]:
    return movement.model_dump(mode="json")
