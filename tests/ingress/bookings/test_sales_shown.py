"""The sale of a booking, the money that comes back when, and the part that was kept: as the guest sees them."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from pricing.sale import PricedStay, price_stay
from tests.ingress.house import STAY_TIMES, TODAY, House, StandInWorker
from topics.messages.sale import (
    AppliedPolicy,
    CancellationPolicy,
    Collected,
    Discount,
    Kept,
    Party,
    PolicyStep,
    RatePlan,
    SaleTerms,
    Tax,
)
from topics.messages.values import SOLD

GUEST, MANAGER = 1, 2
PLAN = RatePlan(
    id="flexible",
    name="Flexible",
    policy=CancellationPolicy(id="half", steps=(PolicyStep(hours_before=48, kept=Kept(percent=50)),)),
)
CITY_TAX = Tax(id="city", name="City tax", amount_minor=300, per_room=True, collected=Collected.AT_HOTEL)
PAID: dict[str, Any] = {"payment_intent": "pi_1", "session_id": "cs_1", "amount_minor": 20_000, "state": "kept"}


def price(check_in_days: int) -> PricedStay:
    """Return the price of two nights of 100.00 that begin so many days from now."""
    return price_stay(
        SaleTerms(version=3, plans=(PLAN,), taxes=(CITY_TAX,)),
        PLAN,
        Party(adults=2, child_ages=(5,)),
        [10_000, 10_000],
        check_in=TODAY + timedelta(days=check_in_days),
        check_in_time=STAY_TIMES.check_in_time,
        rooms_count=1,
        currency="EUR",
    )


async def sold(
    stand_in: StandInWorker, status: str = "CONFIRMED", *, days: int = 10, policy: Any = None, **columns: Any
) -> UUID:
    """Write a booking with a sale."""
    check_in = TODAY + timedelta(days=days)
    row = {
        "check_in": check_in,
        "check_out": check_in + timedelta(days=2),
        "amount_minor": 20_000,
        "payments": json.dumps([PAID]),
        "sale": msgspec.json.encode(price(days).sale).decode(),
        "policy": None if policy is None else msgspec.json.encode(policy).decode(),
        "stay_times": msgspec.json.encode(STAY_TIMES).decode(),
    }
    return await stand_in.add_booking(GUEST, status, **{**row, **columns})


async def shown(house: House, booking_id: UUID, mount: str = "/v1") -> dict[str, Any]:
    body: dict[str, Any] = (await house.get(f"{mount}/bookings/{booking_id}", user=GUEST)).body
    return body


def refunds(booking: dict[str, Any]) -> list[tuple[str, str]]:
    return [(step["refund"], step["kept"]) for step in booking["sale"]["cancellation"]]


async def test_a_booking_shows_what_was_sold_and_what_comes_back_when(house: House, stand_in: StandInWorker) -> None:
    booking = await shown(house, await sold(stand_in))

    sale = booking["sale"]
    assert (booking["amount"], sale["total"], sale["due_at_hotel"]) == ("200.00", "200.00", "3.00")
    assert (sale["plan_id"], sale["plan_name"], sale["meals"], sale["payment"]) == (
        "flexible",
        "Flexible",
        "none",
        "prepaid",
    )
    assert (sale["adults"], sale["children_ages"], sale["terms_version"]) == (2, [5], 3)
    assert [(line["id"], line["amount"], line["collected"]) for line in sale["lines"]] == [
        ("flexible", "200.00", "now"),
        ("city", "3.00", "at_hotel"),
    ]
    assert (sale["no_show_kept"], sale["early_departure_percent"]) == ("200.00", 100)
    assert refunds(booking) == [("200.00", "0.00"), ("100.00", "100.00")]
    check_in = datetime.combine(TODAY + timedelta(days=10), STAY_TIMES.check_in_time)
    assert [step["until_local"] for step in sale["cancellation"]] == [
        f"{check_in - timedelta(hours=48):%Y-%m-%dT%H:%M}",
        f"{check_in:%Y-%m-%dT%H:%M}",
    ]
    assert "policy" not in booking


async def test_a_step_that_is_over_is_shown_no_more_and_a_stay_that_began_shows_none(
    house: House, stand_in: StandInWorker
) -> None:
    # Check-in is in the afternoon of tomorrow.
    assert refunds(await shown(house, await sold(stand_in, days=1))) == [("100.00", "100.00")]
    assert refunds(await shown(house, await sold(stand_in, days=-1))) == []


@pytest.mark.parametrize(
    ("payment", "expected"),
    [
        (PAID | {"refunds": [["re_1", 5_000, True]]}, [("150.00", "0.00"), ("50.00", "100.00")]),
        (PAID | {"refunds": [["re_1", 15_000, True]]}, [("50.00", "0.00"), ("0.00", "100.00")]),
        # The stay became cheaper: a part is due, or an operator ended its refund.
        (PAID | {"due_minor": 5_000}, [("150.00", "0.00"), ("50.00", "100.00")]),
        (PAID | {"closed_minor": 5_000}, [("150.00", "0.00"), ("50.00", "100.00")]),
        (PAID | {"disputes": [["dp_1", 20_000, "lost"]]}, [("0.00", "0.00"), ("0.00", "100.00")]),
        (PAID | {"disputes": [["dp_1", 20_000, "open"]]}, [("200.00", "0.00"), ("100.00", "100.00")]),
    ],
    ids=str,
)
async def test_money_that_went_back_already_does_not_come_back_again(
    house: House, stand_in: StandInWorker, payment: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    booking_id = await sold(stand_in, payments=json.dumps([payment]))

    assert refunds(await shown(house, booking_id)) == expected


async def test_a_cancelled_booking_shows_the_policy_and_what_is_retained(house: House, stand_in: StandInWorker) -> None:
    until = datetime(2030, 1, 2, 3, tzinfo=UTC)
    booking_id = await sold(
        stand_in,
        "CANCELLED",
        cancel_reason="by_guest",
        policy=AppliedPolicy(kept_minor=10_000, percent=50, until=until, zone_data="2026.6"),
        payments=json.dumps([PAID | {"state": "refund_requested", "due_minor": 10_000, "retained_minor": 10_000}]),
    )

    booking = await shown(house, booking_id)

    assert booking["policy"] == {"kept": "100.00", "percent": 50, "until": "2030-01-02T03:00:00Z"}
    assert booking["refunds"] == [
        {
            "paid": "200.00",
            "refunded": "0.00",
            "due": "100.00",
            "retained": "100.00",
            "currency": "EUR",
            "status": "due",
        }
    ]
    # As it was sold.
    assert refunds(booking) == [("200.00", "0.00"), ("100.00", "100.00")]


async def test_a_policy_that_names_no_percentage_and_has_no_end_shows_the_sum_alone(
    house: House, stand_in: StandInWorker
) -> None:
    booking_id = await sold(stand_in, "NO_SHOW", policy=AppliedPolicy(kept_minor=20_000))

    assert (await shown(house, booking_id))["policy"] == {"kept": "200.00"}


async def test_a_booking_without_times_of_its_own_is_shown_by_the_times_of_its_hotel(
    house: House, stand_in: StandInWorker
) -> None:
    with_times = await shown(house, await sold(stand_in))
    assert (await shown(house, await sold(stand_in, stay_times=None)))["sale"] == with_times["sale"]


async def test_a_booking_without_sale_terms_is_shown_as_before(house: House, stand_in: StandInWorker) -> None:
    booking = await shown(house, await stand_in.add_booking(GUEST))

    assert booking.keys().isdisjoint({"sale", "policy"})


async def of_hotel(house: House, stand_in: StandInWorker) -> dict[str, Any]:
    """Return the only booking in the hotel's list."""
    await stand_in.connection.execute("update hotel set owner_id = %s where id = 1", (MANAGER,))
    [booking] = (await house.get("/v1/admin/hotels/1/bookings", headers=house.manager_header(MANAGER))).body
    return dict(booking)


async def test_a_hotel_sees_what_it_sold_and_what_to_collect(house: House, stand_in: StandInWorker) -> None:
    await sold(stand_in)

    booking = await of_hotel(house, stand_in)

    assert booking["sale"] == {
        "plan_id": "flexible",
        "plan_name": "Flexible",
        "meals": "none",
        "payment": "prepaid",
        "adults": 2,
        "children_ages": [5],
        "due_at_hotel": "3.00",
        "lines": [
            line("stay", "flexible", "Flexible", "200.00", "now"),
            line("tax", "city", "City tax", "3.00", "at_hotel"),
        ],
    }
    assert booking.keys().isdisjoint({"policy", "freed_from"})


def line(kind: str, id: str, name: str, amount: str, collected: str) -> dict[str, Any]:
    return {"kind": kind, "id": id, "name": name, "amount": amount, "included": False, "collected": collected}


async def test_guest_and_hotel_see_the_promo_code_and_its_discount(house: House, stand_in: StandInWorker) -> None:
    sale = price(10).sale
    assert sale is not None
    discount = Discount(code_id=1, code="SUMMER", percent_milli=10_000)
    less = msgspec.structs.replace(sale, discount=discount, discount_minor=2_000)
    booking_id = await sold(stand_in, sale=msgspec.json.encode(less).decode())

    of_guest = await house.get(f"/v1/bookings/{booking_id}", user=GUEST)
    listed = await of_hotel(house, stand_in)

    for booking in (of_guest.body, listed):
        assert (booking["sale"]["promo_code"], booking["sale"]["discount"]) == ("SUMMER", "20.00")


async def test_a_hotel_sees_what_it_keeps_of_a_stay_that_ended_early(house: House, stand_in: StandInWorker) -> None:
    await sold(
        stand_in, "NO_SHOW", days=-1, terms="at_hotel", policy=AppliedPolicy(kept_minor=20_000), freed_from=TODAY
    )

    booking = await of_hotel(house, stand_in)

    assert booking["sale"]["payment"] == "at_hotel"
    assert (booking["policy"], booking["freed_from"]) == ({"kept": "200.00"}, TODAY.isoformat())


@pytest.mark.parametrize("status", sorted(SOLD))
async def test_clients_without_a_version_know_a_sold_stay_as_confirmed(
    house: House, stand_in: StandInWorker, status: str
) -> None:
    await stand_in.connection.execute("update hotel set owner_id = %s where id = 1", (MANAGER,))
    booking_id = await sold(stand_in, status)
    manager = house.manager_header(MANAGER)
    for mount, expected in (("", "CONFIRMED"), ("/v1", status)):
        own = (await house.get(f"{mount}/users/myBookings?status={expected}", user=GUEST)).body
        hotels = (await house.get(f"{mount}/admin/hotels/1/bookings?status={expected}", headers=manager)).body
        one = await shown(house, booking_id, mount)
        state = (await house.get(f"{mount}/bookings/{booking_id}/status", user=GUEST)).body
        named = [booking["booking_status"] for booking in (*own, *hotels, one, state)]
        assert named == [expected] * 4, (mount, named)
        assert one["id"] == str(booking_id)
