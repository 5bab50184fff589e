"""A hotel's statement: the movements of money of a month in the hotel's time zone, their sums, and what is due."""

import csv
import io
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest

from tests.ingress.house import House, StandInWorker
from tests.support.client import Answer

MANAGER, OTHER_MANAGER = 1, 2
STATEMENT = "/v1/admin/hotels/1/statement"


@pytest.fixture
async def desk(stand_in: StandInWorker, house: House) -> AsyncIterator[StandInWorker]:
    """The stand-in that writes the read model; hotel 1, in Auckland, belongs to the manager."""
    await stand_in.connection.execute(
        "update hotel set owner_id = %s, time_zone = 'Pacific/Auckland' where id = 1", (MANAGER,)
    )
    yield stand_in
    await stand_in.connection.execute("truncate money_movement")


async def moved(
    desk: StandInWorker,
    number: int,
    at: str,
    kind: str,
    amounts: tuple[int, int],
    *,
    currency: str = "EUR",
    hotel: int | None = 1,
) -> None:
    """Write a movement as the projections do: `amounts` are its amount and its change."""
    object_id = {"payment": "pi_", "refund_closed": "pi_", "kept_by_policy": "pi_"}.get(
        kind, "re_" if "refund" in kind else "dp_"
    )
    await desk.connection.execute(
        "insert into money_movement (booking_id, partition, sequence, hotel_id, time, kind, payment_intent, object_id,"
        " amount_minor, change_minor, currency) values (%s, 0, %s, %s, %s, %s, 'pi_1', %s, %s, %s, %s)",
        (UUID(int=number), number, hotel, datetime.fromisoformat(at), kind, f"{object_id}{number}", *amounts, currency),
    )


async def ask(
    house: House,
    month: str | None = None,
    *,
    user: int = MANAGER,
    accept: str = "*/*",
    query: Mapping[str, str] | None = None,
) -> Answer:
    params = {**(query or {}), **({} if month is None else {"month": month})}
    return await house.get(STATEMENT, params=params, headers=house.manager_header(user) | {"Accept": accept})


async def test_a_statement_has_the_month_where_the_hotel_is(house: House, desk: StandInWorker) -> None:
    # December begins in Auckland at 11:00 UTC of 30 November, and ends at 11:00 UTC of 31 December.
    await moved(desk, 1, "2026-11-30T10:59:59.999+00:00", "payment", (1, 1))
    await moved(desk, 2, "2026-11-30T11:00:00+00:00", "payment", (20_000, 20_000))
    await moved(desk, 3, "2026-12-05T08:00:00.250+00:00", "refund", (5_000, -5_000))
    await moved(desk, 4, "2026-12-31T10:59:59+00:00", "dispute_opened", (15_000, -15_000))
    await moved(desk, 5, "2026-12-31T11:00:00+00:00", "payment", (1, 1))
    await moved(desk, 6, "2026-12-10T00:00:00+00:00", "payment", (77, 77), hotel=2)
    await moved(desk, 7, "2026-12-10T00:00:00+00:00", "payment", (77, 77), hotel=None)

    answered = await ask(house, "2026-12")

    assert answered.status == 200, answered
    assert answered.body == {
        "hotel_id": 1,
        "month": "2026-12",
        "time_zone": "Pacific/Auckland",
        "commission_percent": "0.00",
        "totals": [
            {
                "currency": "EUR",
                "paid": "200.00",
                "refunded": "50.00",
                "disputed": "150.00",
                "kept": "0.00",
                "kept_by_policy": "0.00",
                "commission": "0.00",
                "due_to_hotel": "0.00",
            }
        ],
        "sums": [
            {"currency": "EUR", "kind": "payment", "count": 1, "amount": "200.00", "change": "200.00"},
            {"currency": "EUR", "kind": "refund", "count": 1, "amount": "50.00", "change": "-50.00"},
            {"currency": "EUR", "kind": "dispute_opened", "count": 1, "amount": "150.00", "change": "-150.00"},
        ],
        "movements": [
            {
                "time": time,
                "booking_id": str(UUID(int=number)),
                "kind": kind,
                "amount": amount,
                "change": change,
                "currency": "EUR",
                "stripe_object": object_id,
                "payment_intent": "pi_1",
            }
            for number, time, kind, amount, change, object_id in (
                (2, "2026-11-30T11:00:00Z", "payment", "200.00", "200.00", "pi_2"),
                (3, "2026-12-05T08:00:00.250000Z", "refund", "50.00", "-50.00", "re_3"),
                (4, "2026-12-31T10:59:59Z", "dispute_opened", "150.00", "-150.00", "dp_4"),
            )
        ],
    }


async def test_currencies_are_summed_apart_and_failed_refunds_and_won_disputes_count_back(
    house: House, desk: StandInWorker
) -> None:
    at = "2026-12-05T08:00:00+00:00"
    await moved(desk, 1, at, "payment", (10_005, 10_005))
    await moved(desk, 2, at, "refund", (5_000, -5_000))
    await moved(desk, 3, at, "refund_failed", (5_000, 5_000))
    await moved(desk, 4, at, "dispute_opened", (10_005, -10_005))
    await moved(desk, 5, at, "dispute_won", (10_005, 10_005))
    await moved(desk, 6, at, "refund_closed", (5_000, 0))
    await moved(desk, 7, at, "refund", (300, -300), currency="JPY")

    totals = (await ask(house, "2026-12")).body["totals"]

    assert [(each["currency"], each["paid"], each["refunded"], each["disputed"], each["kept"]) for each in totals] == [
        ("EUR", "100.05", "0.00", "0.00", "100.05"),
        ("JPY", "0", "300", "0", "-300"),
    ]


async def test_money_that_a_policy_kept_is_a_line_and_a_sum_and_changes_no_balance(
    house: House, desk: StandInWorker
) -> None:
    await moved(desk, 1, "2026-12-05T08:00:00+00:00", "payment", (20_000, 20_000))
    await moved(desk, 2, "2026-12-06T08:00:00+00:00", "kept_by_policy", (5_000, 0))
    await moved(desk, 3, "2026-12-06T08:00:01+00:00", "refund", (15_000, -15_000))

    body = (await ask(house, "2026-12")).body

    assert [(each["kind"], each["amount"], each["change"]) for each in body["movements"]] == [
        ("payment", "200.00", "200.00"),
        ("kept_by_policy", "50.00", "0.00"),
        ("refund", "150.00", "-150.00"),
    ]
    assert [each["kind"] for each in body["sums"]] == ["payment", "kept_by_policy", "refund"]
    (total,) = body["totals"]
    assert (total["refunded"], total["kept"], total["kept_by_policy"]) == ("150.00", "50.00", "50.00")


async def test_pages_go_through_all_movements_and_each_has_the_sums_of_the_month(
    house: House, desk: StandInWorker
) -> None:
    for number in range(1, 8):
        # Three movements of one moment are in the order of their bookings.
        await moved(desk, number, f"2026-12-0{min(number, 5)}T08:00:00+00:00", "payment", (number, number))

    numbers: list[int] = []
    paid: set[str] = set()
    cursor: str | None = None
    while True:
        page = {"limit": "2"} if cursor is None else {"limit": "2", "cursor": cursor}
        answered = await ask(house, "2026-12", query=page)
        numbers += [UUID(each["booking_id"]).int for each in answered.body["movements"]]
        paid.add(answered.body["totals"][0]["paid"])
        if "Link" not in answered.headers:
            break
        cursor = parse_qs(urlsplit(answered.headers["Link"].partition(">")[0]).query)["cursor"][0]

    assert (numbers, paid) == ([1, 2, 3, 4, 5, 6, 7], {"0.28"})


async def test_csv_has_all_movements_of_the_month(house: House, desk: StandInWorker) -> None:
    for number in range(1, 4):
        await moved(desk, number, f"2026-12-0{number}T08:00:00+00:00", "payment", (number * 100, number * 100))

    answered = await ask(house, "2026-12", accept="text/csv", query={"limit": "1"})

    assert answered.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answered.headers["Content-Disposition"] == 'attachment; filename="hotel-1-2026-12.csv"'
    assert "Link" not in answered.headers
    lines = list(csv.DictReader(io.StringIO(answered.body)))
    assert [(line["time"], line["amount"], line["stripe_object"]) for line in lines] == [
        ("2026-12-01T08:00:00Z", "1.00", "pi_1"),
        ("2026-12-02T08:00:00Z", "2.00", "pi_2"),
        ("2026-12-03T08:00:00Z", "3.00", "pi_3"),
    ]


async def test_the_present_month_is_the_default_and_an_empty_one_is_no_error(house: House, desk: StandInWorker) -> None:
    answered = await ask(house)

    assert (answered.status, answered.body["totals"], answered.body["movements"]) == (200, [], [])
    assert answered.body["month"][:2] == str(datetime.now(UTC).year)[:2]


@pytest.mark.parametrize("month", ["2026-13", "2026-1", "202612", "2026-12-01", "\u0662026-12", "1969-12"])
async def test_another_text_is_no_month(house: House, desk: StandInWorker, month: str) -> None:
    assert (await ask(house, month)).status == 422


async def test_only_the_hotels_manager_sees_it(house: House, desk: StandInWorker) -> None:
    assert (await ask(house, "2026-12", user=OTHER_MANAGER)).status == 404
    assert (await house.get(STATEMENT, headers=house.user_header(MANAGER))).status == 403
    assert (await house.get(STATEMENT)).status == 401
