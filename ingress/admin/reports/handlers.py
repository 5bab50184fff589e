"""The report of a hotel's sales, night by night, as JSON or CSV, from the read model that the projections keep."""

import csv
import io
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Annotated, Final

from aiohttp import hdrs
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.admin.reports.models import (
    OversoldNightOut,
    Report,
    ReportedDay,
    ReportQuery,
    WalkedBookingOut,
    WalksQuery,
)
from ingress.database import Database
from ingress.http.bodies import refused_field
from ingress.http.media import CSV, prefers_csv
from ingress.http.models import MAX_ID, NoBody
from ingress.http.paging import NEXT_PAGE, Cursors, first_page, link_to_next
from ingress.http.problems import existing
from ingress.http.responses import Response, json_response
from ingress.operations import Access, Example, RequestContext, ResponseSpec, operation
from ingress.stays import today_at
from pricing.currencies import decimal
from pricing.stays import average_minor
from storage.reads import reports
from storage.reads.reports import ManagedHotel, SoldNight
from storage.reads.walks import OversoldNight, oversold_nights

MAX_REPORT_DAYS: Final = 366
_DEFAULT_REPORT_DAYS: Final = 30
_positions: Final = Cursors(tuple[date, Annotated[int, Field(ge=0, le=MAX_ID)]])


class Reports:
    """The operations that report a hotel's sales, and its oversold nights."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @operation(
        "GET /admin/hotels/{hotel_id}/reports",
        access=Access.MANAGER,
        summary="Report a hotel's sales",
        responses={
            200: ResponseSpec(
                Report,
                "The report; as CSV its days alone, a line each after a line of names.",
                {"Vary": "`Accept` chooses JSON or CSV.", "Content-Disposition": "CSV: a file's name."},
                {CSV: "The days: " + ", ".join((*ReportedDay.model_fields, "currency"))},
            )
        },
        example=Example(path={"hotel_id": 1}, query={"start_date": "2026-12-01", "end_date": "2026-12-31"}),
    )
    async def report(self, context: RequestContext[NoBody, ReportQuery]) -> Response:
        """Report bookings, revenue, occupancy and average daily rate of one's hotel, in all and day by day."""

        async def read(connection: AsyncConnection) -> Report:
            found = await reports.managed_hotel(connection, context.path["hotel_id"], context.caller.user_id)
            hotel = existing(found, "hotel")
            first, last = _days(context.query, today_at(hotel.time_zone))
            return _report(hotel, await reports.sold_nights(connection, hotel.id, first, last))

        report = await self._database.read(read)
        if prefers_csv(context.request):
            return _as_csv(report)
        return json_response(200, report, {hdrs.VARY: hdrs.ACCEPT})

    @operation(
        "GET /admin/hotels/{hotel_id}/walks",
        access=Access.MANAGER,
        summary="List the nights that are oversold",
        responses={200: ResponseSpec(list[OversoldNightOut], "By date and room type.", NEXT_PAGE)},
        example=Example(path={"hotel_id": 1}, query={"start_date": "2026-12-01", "end_date": "2026-12-31"}),
    )
    async def walks(self, context: RequestContext[NoBody, WalksQuery]) -> Response:
        """List the nights of one's hotel with more rooms sold than it has, and the newest bookings, which are too many.

        Such nights exist only where the hotel set an allowance, or reduced its rooms. Guests who have arrived are not
        listed.
        """
        query = context.query
        after = _positions.read(query.cursor)

        async def read(connection: AsyncConnection) -> list[OversoldNight]:
            found = await reports.managed_hotel(connection, context.path["hotel_id"], context.caller.user_id)
            hotel = existing(found, "hotel")
            first = query.start_date or today_at(hotel.time_zone)
            last = query.end_date or first + timedelta(days=_DEFAULT_REPORT_DAYS - 1)
            _must_be_a_range(first, last)
            return await oversold_nights(connection, hotel.id, first, last, limit=query.limit, after=after)

        page, after_page = first_page(await self._database.read(read), query.limit)
        headers = link_to_next(context.address_with, after_page, _position)
        return json_response(200, [_oversold(night) for night in page], headers)


def _position(night: OversoldNight) -> str:
    return _positions.write((night.night, night.room_id))


def _oversold(night: OversoldNight) -> OversoldNightOut:
    return OversoldNightOut(
        date=night.night,
        room_id=night.room_id,
        room_type=night.room_type,
        rooms=night.total_count,
        blocked=night.blocked_count,
        booked=night.booked_count,
        over=night.over_count,
        bookings=[
            WalkedBookingOut(
                id=booking.id,
                check_in_date=booking.check_in,
                check_out_date=booking.check_out,
                rooms_count=booking.rooms_count,
                created_at=booking.created_at,
            )
            for booking in night.bookings
        ],
    )


def _days(query: ReportQuery, today: date) -> tuple[date, date]:
    last = query.end_date or today
    first = query.start_date or last - timedelta(days=_DEFAULT_REPORT_DAYS - 1)
    _must_be_a_range(first, last)
    return first, last


def _must_be_a_range(first: date, last: date) -> None:
    """Check the days of a report. Raises `Problem` 422."""
    if first > last:
        raise refused_field("start_date", f"must not be after end_date, which is {last}")
    if (last - first).days >= MAX_REPORT_DAYS:
        raise refused_field("start_date", f"a report is about {MAX_REPORT_DAYS} days at most")


def _report(hotel: ManagedHotel, days: Sequence[SoldNight]) -> Report:
    bookings = days[0].staying + sum(day.arrivals for day in days[1:])
    estimated = days[0].estimated + sum(day.estimated_arrivals for day in days[1:])
    nights, revenue_minor = sum(day.nights for day in days), sum(day.revenue_minor for day in days)
    return Report(
        hotel_id=hotel.id,
        start_date=days[0].night,
        end_date=days[-1].night,
        currency=hotel.currency,
        total_bookings=bookings,
        total_revenue=decimal(revenue_minor, hotel.currency),
        average_booking_value=_average(revenue_minor, bookings, hotel.currency),
        total_nights=nights,
        occupancy=_share(nights, sum(day.rooms for day in days)),
        average_daily_rate=_average(revenue_minor, nights, hotel.currency),
        estimated=estimated,
        total_fees=decimal(sum(day.fees_minor for day in days), hotel.currency),
        by_day=[_reported_day(day, hotel.currency) for day in days],
    )


def _reported_day(day: SoldNight, currency: str) -> ReportedDay:
    return ReportedDay(
        date=day.night,
        arrivals=day.arrivals,
        bookings=day.staying,
        nights=day.nights,
        revenue=decimal(day.revenue_minor, currency),
        rooms=day.rooms,
        occupancy=_share(day.nights, day.rooms),
        average_daily_rate=_average(day.revenue_minor, day.nights, currency),
        estimated=day.estimated,
        fees=decimal(day.fees_minor, currency),
    )


def _average(amount_minor: int, count: int, currency: str) -> str | None:
    return decimal(average_minor(amount_minor, count), currency) if count else None


def _share(part: int, whole: int) -> float | None:
    return (2 * part * 10_000 + whole) // (2 * whole) / 10_000 if whole else None


def _as_csv(report: Report) -> Response:
    lines = io.StringIO()
    writer = csv.DictWriter(lines, (*ReportedDay.model_fields, "currency"))
    writer.writeheader()
    writer.writerows({**day.model_dump(), "currency": report.currency} for day in report.by_day)
    name = f"hotel-{report.hotel_id}-{report.start_date}-{report.end_date}.csv"
    headers: dict[str, str] = {hdrs.VARY: hdrs.ACCEPT, hdrs.CONTENT_DISPOSITION: f'attachment; filename="{name}"'}
    return Response(200, lines.getvalue().encode(), headers, media=f"{CSV}; charset=utf-8")
