"""A hotel's report: its sales, in all and night by night, as JSON and as CSV."""

import csv
import io
from datetime import UTC, date, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import pytest
from aiohttp.test_utils import make_mocked_request
from sqlalchemy import Executable
from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.database import Database
from ingress.http.media import prefers_csv
from storage.projections import daily_report
from storage.projections.report_changes import Changes, Deduction, DeductionKind, End
from storage.reads import walks
from storage.settings import DatabaseSettings
from tests.ingress.house import NOON, House, StandInWorker
from tests.support.client import Answer
from tests.support.hotels import HotelsInTables
from topics.zones import day_at

MANAGER, OTHER_MANAGER = 1, 2
FIRST = date(2027, 3, 1)
REPORT = "/v1/admin/hotels/1/reports"


def night(days: int) -> date:
    return FIRST + timedelta(days=days)


@pytest.fixture
async def desk(stand_in: StandInWorker, house: House) -> StandInWorker:
    """The stand-in that writes the ledger and the read model; hotel 1 belongs to the manager."""
    await stand_in.connection.execute("update hotel set owner_id = %s where id = 1", (MANAGER,))
    return stand_in


async def sell(
    desk: StandInWorker, first: int, end: int, amount_minor: int, rooms_count: int = 1, **columns: Any
) -> UUID:
    """Write a confirmed stay of these days from the first on, and have it counted."""
    dates = {"check_in": night(first), "check_out": night(end)}
    counts = {"amount_minor": amount_minor, "rooms_count": rooms_count}
    booking_id = await desk.add_booking(MANAGER, "CONFIRMED", **dates, **counts, **columns)
    await daily_report.count(desk.connection, Changes(confirmed={booking_id: None}))
    return booking_id


async def on_sale(
    desk: StandInWorker,
    room_id: int,
    first: int,
    end: int,
    total: int,
    *,
    closed: bool = False,
    taken: int = 0,
    hotel: int = 1,
) -> None:
    """Write nights of a room as the projections do."""
    await desk.connection.execute(
        """
        insert into room_night (room_id, date, hotel_id, total_count, taken_count, price_minor, surge_milli, closed,
                                currency)
        select %s, date, %s, %s, %s, 10000, 1000, %s, 'EUR'
        from generate_series(%s::date, %s::date - 1, interval '1 day') as date
        """,
        (room_id, hotel, total, taken, closed, night(first), night(end)),
    )


async def ask(house: House, first: date | None = None, last: date | None = None, **headers: str) -> Answer:
    days = {"start_date": first, "end_date": last}
    query = {name: str(day) for name, day in days.items() if day is not None}
    return await house.get(REPORT, params=query, headers=house.manager_header(MANAGER) | headers)


async def test_a_report_adds_up_what_was_sold_for_its_nights(house: House, desk: StandInWorker) -> None:
    await on_sale(desk, 1, 0, 9, 3)
    await on_sale(desk, 3, 0, 9, 1)
    await sell(desk, -1, 2, 30_000)  # Came before, stays on: two of three nights.
    await sell(desk, 1, 3, 50_001, rooms_count=2)
    await sell(desk, 2, 5, 1_000)  # Goes on after: one of three nights.
    await sell(desk, 3, 4, 77_777)  # After the last day.
    await sell(desk, 0, 1, 88_888, hotel_id=2, room_id=2)

    answered = await ask(house, night(0), night(2))

    assert answered.status == 200
    assert answered.headers["Vary"] == "Accept"
    assert answered.body == {
        "hotel_id": 1,
        "start_date": "2027-03-01",
        "end_date": "2027-03-03",
        "currency": "EUR",
        "total_bookings": 3,
        "total_revenue": "703.35",
        "average_booking_value": "234.45",
        "total_nights": 7,
        "occupancy": 0.5833,
        "average_daily_rate": "100.48",
        "estimated": 3,
        "total_fees": "0.00",
        "by_day": [
            day("2027-03-01", (0, 1, 1), "100.00", 4, occupancy=0.25, average_daily_rate="100.00", estimated=1),
            day("2027-03-02", (1, 2, 3), "350.01", 4, occupancy=0.75, average_daily_rate="116.67", estimated=2),
            day("2027-03-03", (1, 2, 3), "253.34", 4, occupancy=0.75, average_daily_rate="84.45", estimated=2),
        ],
    }


def day(name: str, counts: tuple[int, int, int], revenue: str, rooms: int, **more: object) -> dict[str, object]:
    """Return a day of a report; `counts` are arrivals, bookings and nights."""
    totals = dict(zip(("arrivals", "bookings", "nights"), counts, strict=True))
    return {"date": name, **totals, "revenue": revenue, "rooms": rooms, "estimated": 0, "fees": "0.00", **more}


async def test_a_report_has_the_amount_of_each_night_and_counts_the_bookings_without_them(
    house: House, desk: StandInWorker
) -> None:
    await sell(desk, 0, 3, 110_000, night_amounts_minor=[10_000, 90_000, 10_000])
    await sell(desk, -1, 2, 30_000)  # Came before.
    await sell(desk, 1, 2, 5_000)

    report = (await ask(house, night(0), night(2))).body

    assert [(each["revenue"], each["estimated"]) for each in report["by_day"]] == [
        ("200.00", 1),
        ("1050.00", 2),
        ("100.00", 0),
    ]
    assert (report["total_bookings"], report["estimated"]) == (3, 2)
    assert (report["total_revenue"], report["average_daily_rate"]) == ("1350.00", "225.00")


async def test_the_nights_around_new_year_are_of_two_months(house: House, desk: StandInWorker) -> None:
    eve = (date(2026, 12, 30) - FIRST).days
    await sell(desk, eve, eve + 3, 110_000, night_amounts_minor=[10_000, 90_000, 10_000])

    december = (await ask(house, date(2026, 12, 1), date(2026, 12, 31))).body
    january = (await ask(house, date(2027, 1, 1), date(2027, 1, 31))).body

    assert (december["total_revenue"], december["average_daily_rate"]) == ("1000.00", "500.00")
    assert (january["total_revenue"], january["average_daily_rate"]) == ("100.00", "100.00")


async def test_revenue_is_net_of_what_left_again(house: House, desk: StandInWorker) -> None:
    booking_id = await sell(desk, 0, 3, 110_000, night_amounts_minor=[10_000, 90_000, 10_000])
    refund = Deduction("pi", "re", 11_000, DeductionKind.TAKEN)
    await daily_report.count(desk.connection, Changes(confirmed={booking_id: "pi"}, deductions={booking_id: [refund]}))

    report = (await ask(house, night(0), night(2))).body

    assert (report["total_bookings"], report["total_revenue"]) == (1, "990.00")
    assert (report["average_booking_value"], report["average_daily_rate"]) == ("990.00", "330.00")
    assert [each["revenue"] for each in report["by_day"]] == ["90.00", "810.00", "90.00"]


async def test_a_hotel_that_sold_nothing_has_nothing_to_divide_by(house: House, desk: StandInWorker) -> None:
    await on_sale(desk, 1, 0, 1, 3)

    report = (await ask(house, night(0), night(1))).body

    assert (report["total_bookings"], report["total_revenue"], report["total_nights"]) == (0, "0.00", 0)
    assert (report["average_booking_value"], report["average_daily_rate"], report["occupancy"]) == (None, None, 0.0)
    assert report["by_day"] == [
        day("2027-03-01", (0, 0, 0), "0.00", 3, occupancy=0.0, average_daily_rate=None),
        day("2027-03-02", (0, 0, 0), "0.00", 0, occupancy=None, average_daily_rate=None),
    ]


async def test_a_closed_room_was_for_sale_only_as_far_as_it_is_taken(house: House, desk: StandInWorker) -> None:
    await on_sale(desk, 1, 0, 1, 4)
    await on_sale(desk, 3, 0, 1, 5, closed=True, taken=2)
    await on_sale(desk, 2, 0, 1, 9, hotel=2)
    await sell(desk, 0, 1, 20_000, rooms_count=2, room_id=3)

    report = (await ask(house, night(0), night(0))).body

    assert [(each["rooms"], each["occupancy"]) for each in report["by_day"]] == [(6, 0.3333)]


async def test_a_cancelled_booking_leaves_the_report(house: House, desk: StandInWorker) -> None:
    booking_id = await sell(desk, 0, 1, 10_000)
    await daily_report.count(desk.connection, Changes(ended={booking_id: End(0, None, cancelled=True)}))

    assert (await ask(house, night(0), night(0))).body["total_bookings"] == 0


async def test_fees_are_beside_the_revenue(house: House, desk: StandInWorker) -> None:
    cancelled = await sell(desk, 1, 2, 10_000)
    left_early = await sell(desk, 0, 3, 30_000)
    ended = {cancelled: End(5_000, None, cancelled=True), left_early: End(20_000, night(1), departed=True)}
    await daily_report.count(desk.connection, Changes(ended=ended))

    report = (await ask(house, night(0), night(2))).body

    assert (report["total_bookings"], report["total_revenue"], report["total_fees"]) == (1, "100.00", "150.00")
    assert [(each["revenue"], each["fees"]) for each in report["by_day"]] == [
        ("100.00", "0.00"),
        ("0.00", "150.00"),
        ("0.00", "0.00"),
    ]
    # The nights after the early departure are no part of an estimated booking.
    assert [each["estimated"] for each in report["by_day"]] == [1, 0, 0]


async def test_blocked_rooms_are_not_for_sale_and_an_allowance_adds_no_room(house: House, desk: StandInWorker) -> None:
    await on_sale(desk, 1, 0, 1, 4)
    await desk.connection.execute("update room_night set blocked_count = 3, allowance_count = 1")
    await sell(desk, 0, 1, 20_000, rooms_count=2)

    report = (await ask(house, night(0), night(0))).body

    assert [(each["rooms"], each["occupancy"]) for each in report["by_day"]] == [(1, 2.0)]


WALKS = "/v1/admin/hotels/1/walks"


async def test_the_newest_bookings_of_an_oversold_night_are_listed(house: House, desk: StandInWorker) -> None:
    await desk.connection.execute("delete from inventory where room_id = 1")
    hotels = HotelsInTables(desk.connection)
    # The rooms that there are, and the most that were sold; on the last night one is under repair.
    for number, counts in enumerate(({"booked": 3}, {"booked": 4}, {"booked": 3, "blocked": 1})):
        columns = {f"{name}_count": count for name, count in counts.items()}
        await hotels.night(1, 1, night(number), total_count=3, allowance_count=2, price_minor=1, **columns)
    booked = []
    for number, (first, end, rooms) in enumerate([(0, 3, 1), (1, 2, 1), (0, 3, 2), (0, 3, 1)]):
        status = "CHECKED_IN" if number == 3 else "CONFIRMED"
        dates = {"check_in": night(first), "check_out": night(end)}
        booking_id = await desk.add_booking(MANAGER, status, **dates, rooms_count=rooms)
        created_at = datetime(2026, 1, 1 + number, tzinfo=UTC)
        await desk.connection.execute("update booking set created_at = %s where id = %s", (created_at, booking_id))
        booked.append(str(booking_id))

    headers = house.manager_header(MANAGER)
    days = {"start_date": str(night(0)), "end_date": str(night(2))}
    found = (await house.get(WALKS, params=days, headers=headers)).body

    second, third = found
    about = ("date", "room_id", "room_type", "rooms", "blocked", "booked", "over")
    assert [second[name] for name in about] == [str(night(1)), 1, "double", 3, 0, 4, 1]
    assert [third[name] for name in about] == [str(night(2)), 1, "double", 3, 1, 3, 1]
    # The guests who have arrived stay; the next newest booking has two rooms, of which one is too many.
    assert [[booking["id"] for booking in each["bookings"]] for each in found] == [[booked[2]], [booked[2]]]
    assert second["bookings"][0]["rooms_count"] == 2

    # In pages, each of which names the next.
    one = await house.get(WALKS, params=days | {"limit": "1"}, headers=headers)
    two = await house.get(one.headers["Link"].split("<")[1].split(">")[0], headers=headers)
    assert (one.body, two.body, "Link" in two.headers) == ([second], [third], False)

    assert (await house.get(WALKS, headers=headers)).body == []
    refused = await house.get(WALKS, params={"start_date": str(night(1)), "end_date": str(night(0))}, headers=headers)
    assert refused.status == 422
    assert (await house.get(WALKS, headers=house.manager_header(OTHER_MANAGER))).status == 404
    assert (await house.get(WALKS, user=MANAGER)).status == 403


class CountedRows:
    """A connection that counts the rows that it reads."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self.count = 0

    async def execute(self, statement: Executable) -> list[Any]:
        """Return all rows of a query."""
        rows = list(await self._connection.execute(statement))
        self.count += len(rows)
        return rows


async def test_of_an_oversold_night_no_more_bookings_are_read_than_are_listed(
    house: House, desk: StandInWorker, database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.connection.execute("delete from inventory where room_id = 1")
    counts = {"total_count": 6, "booked_count": 9, "allowance_count": 3}
    for number in range(4):
        await HotelsInTables(desk.connection).night(1, 1, night(number), price_minor=1, **counts)
    for _ in range(9):
        await desk.add_booking(MANAGER, "CONFIRMED", check_in=night(0), check_out=night(4))
    pool = Database(database, pool_size=1)

    async def read() -> tuple[list[int], int]:
        async with pool.reading() as connection:
            counted = CountedRows(connection)
            nights = await walks.oversold_nights(cast("Any", counted), 1, night(0), night(3), limit=2)
        return [len(each.bookings) for each in nights], counted.count

    # Of one night more than a page has, which shows that there is another page.
    assert await read() == ([3, 3, 3], 9)
    monkeypatch.setattr(walks, "MAX_WALKED", 2)
    assert await read() == ([2, 2, 2], 6)
    await pool.close()


async def test_money_has_the_digits_of_the_hotels_currency(house: House, desk: StandInWorker) -> None:
    await desk.connection.execute("update hotel set currency = 'JPY' where id = 1")
    await sell(desk, 0, 2, 10_001, currency="JPY")

    report = (await ask(house, night(0), night(1))).body

    assert (report["currency"], report["total_revenue"], report["average_daily_rate"]) == ("JPY", "10001", "5001")


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Niue"])
async def test_unless_asked_otherwise_the_last_thirty_days_at_the_hotel(
    zone: str, house: House, desk: StandInWorker
) -> None:
    await desk.connection.execute("update hotel set time_zone = %s where id = 1", (zone,))

    before = day_at(zone, datetime.now(UTC))
    report = (await ask(house)).body
    after = day_at(zone, datetime.now(UTC))

    last = date.fromisoformat(report["end_date"])
    assert before <= last <= after
    assert report["start_date"] == str(last - timedelta(days=29))
    assert len(report["by_day"]) == 30


async def test_one_date_alone_is_enough(house: House, desk: StandInWorker) -> None:
    up_to = (await ask(house, last=night(0))).body
    today = day_at(NOON, datetime.now(UTC))
    since = (await ask(house, first=today - timedelta(days=3))).body

    assert (up_to["start_date"], up_to["end_date"]) == (str(night(-29)), str(night(0)))
    assert len(since["by_day"]) == 4


async def test_days_that_make_no_report_are_refused(house: House, desk: StandInWorker) -> None:
    for first, last, message in (
        (night(1), night(0), "must not be after end_date, which is 2027-03-01"),
        (night(0), night(366), "a report is about 366 days at most"),
        (date(1969, 12, 31), date(1970, 1, 1), "must be between 1970 and 2200"),
        (date(9999, 12, 31), None, "must be between 1970 and 2200"),
    ):
        answered = await ask(house, first, last)

        assert answered.status == 422
        assert answered.body["errors"] == [{"field": "start_date", "message": message}]


async def test_a_whole_leap_year_and_the_first_day_of_all_make_reports(house: House, desk: StandInWorker) -> None:
    year = (await ask(house, date(2028, 1, 1), date(2028, 12, 31))).body
    beginning = (await ask(house, last=date(1970, 1, 1))).body

    assert len(year["by_day"]) == 366
    assert beginning["start_date"] == "1969-12-03"


async def test_a_report_of_somebody_elses_hotel_does_not_exist(house: House, desk: StandInWorker) -> None:
    assert (await house.get(REPORT, headers=house.manager_header(OTHER_MANAGER))).status == 404
    assert (await house.get("/v1/admin/hotels/2/reports", headers=house.manager_header(MANAGER))).status == 404
    assert (await house.get(REPORT, user=MANAGER)).status == 403
    assert (await house.get(REPORT)).status == 401


# As CSV.


async def test_a_spreadsheet_gets_the_days(house: House, desk: StandInWorker) -> None:
    await on_sale(desk, 1, 0, 1, 3)
    await sell(desk, 0, 1, 10_000)

    params = {"start_date": str(night(0)), "end_date": str(night(1))}
    headers = house.manager_header(MANAGER) | {"Accept": "text/csv"}
    async with house.session.get(REPORT, params=params, headers=headers) as answered:
        text = await answered.text()

    assert answered.status == 200
    assert answered.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answered.headers["Content-Disposition"] == 'attachment; filename="hotel-1-2027-03-01-2027-03-02.csv"'
    assert answered.headers["Vary"] == "Accept"
    assert (
        text.splitlines()[0]
        == "date,arrivals,bookings,nights,revenue,rooms,occupancy,average_daily_rate,estimated,fees,currency"
    )
    assert list(csv.reader(io.StringIO(text)))[1:] == [
        ["2027-03-01", "1", "1", "1", "100.00", "3", "0.3333", "100.00", "1", "0.00", "EUR"],
        ["2027-03-02", "0", "0", "0", "0.00", "0", "", "", "0", "0.00", "EUR"],
    ]


@pytest.mark.parametrize(
    ("accept", "is_csv"),
    [
        ("*/*", False),
        ("text/html,application/xhtml+xml,*/*;q=0.8", False),
        ("application/json, text/csv", False),
        ("text/csv;q=0.5, application/json", False),
        ("text/csv;q=0, */*", False),
        ("text/csv;q=0", False),
        ("image/png", False),
        ("", False),
        ("text/csv;q=nonsense;;,,;", True),
        ("TEXT/CSV", True),
        ("text/*", True),
        ("text/csv, */*", True),
        ("text/csv ; header=present ; q=0.9, application/json;q=0.8", True),
    ],
)
def test_a_client_gets_what_it_likes_best(accept: str, *, is_csv: bool) -> None:
    assert prefers_csv(make_mocked_request("GET", REPORT, {"Accept": accept})) is is_csv


def test_a_client_without_a_preference_gets_json() -> None:
    assert not prefers_csv(make_mocked_request("GET", REPORT))
