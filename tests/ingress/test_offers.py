"""Offers show lines of a price, and the instants and refunds of a cancellation, by the hotel's clock."""

from datetime import UTC, date, datetime, time
from typing import Any

import msgspec
import pytest

from ingress.http.responses import encode
from ingress.offers import OfferOut, free_until, is_refundable, offer_out, steps_out
from pricing.sale import PricedStay, price_stay
from topics.messages.sale import (
    CancellationPolicy,
    Collected,
    Kept,
    LineKind,
    Meals,
    Party,
    PolicyStep,
    RatePlan,
    SaleTerms,
    Tax,
)
from topics.messages.values import StayTimes, Terms

CHECK_IN = date(2026, 12, 17)
# By the pinned zone data Vancouver has had no winter time since 2026.
VANCOUVER = StayTimes(time_zone="America/Vancouver", check_in_time=time(18), check_out_time=time(11))
POLICY = CancellationPolicy(
    id="flexible",
    steps=(
        PolicyStep(hours_before=48, kept=Kept(nights=1)),
        PolicyStep(hours_before=24, kept=Kept(percent=100)),
    ),
    no_show=Kept(percent=100),
    early_departure_percent=50,
)
TAXES = (
    Tax(id="vat", name="VAT", percent_milli=7_000, included=True),
    Tax(id="city", name="City tax", amount_minor=200, per_night=True, per_person=True, collected=Collected.AT_HOTEL),
    Tax(id="cleaning", name="Cleaning", kind=LineKind.FEE, amount_minor=3_000),
)


def offered(
    check_in: date = CHECK_IN, *, taxes: tuple[Tax, ...] = (), times: StayTimes = VANCOUVER, **plan: Any
) -> PricedStay:
    """Return the price of two nights of 100.00 and 200.00 for two adults and a child of four."""
    described: dict[str, Any] = {"id": "flex", "name": "Flexible", "policy": POLICY} | plan
    sold_by = RatePlan(**described)
    return price_stay(
        SaleTerms(version=3, plans=(sold_by,), taxes=taxes),
        sold_by,
        Party(adults=2, child_ages=(4,)),
        [10_000, 20_000],
        check_in=check_in,
        check_in_time=times.check_in_time,
        rooms_count=1,
        currency="EUR",
    )


def shown(
    priced: PricedStay, check_in: date = CHECK_IN, times: StayTimes = VANCOUVER, now: datetime | None = None
) -> Any:
    return msgspec.json.decode(encode(offer_out(priced, check_in=check_in, stay_times=times, now=now)))


def test_neighbouring_steps_that_cost_the_same_are_shown_as_one() -> None:
    whole = Kept(percent=100)
    steps = tuple(PolicyStep(hours_before=hours, kept=kept) for hours, kept in ((48, Kept(nights=1)), (24, whole)))
    plain = shown(offered(policy=CancellationPolicy(id="plain", steps=steps)))
    split = (*steps[:1], PolicyStep(hours_before=36, kept=Kept(percent=33)), *steps[1:])
    again = (*steps[:1], PolicyStep(hours_before=36, kept=Kept(nights=1)), *steps[1:])
    assert len(plain["cancellation"]) == 3
    assert shown(offered(policy=CancellationPolicy(id="plain", steps=again))) == plain
    assert len(shown(offered(policy=CancellationPolicy(id="plain", steps=split)))["cancellation"]) == 4


def test_an_offer_shows_every_line_and_what_comes_back_when() -> None:
    offer = shown(offered(taxes=TAXES, meals=Meals.BREAKFAST))

    assert offer == {
        "terms_version": 3,
        "plan_id": "flex",
        "plan_name": "Flexible",
        "meals": "breakfast",
        "payment": "prepaid",
        "adults": 2,
        "children_ages": [4],
        "currency": "EUR",
        "total": "330.00",
        "due_at_hotel": "12.00",
        "lines": [
            _line("stay", "flex", "Flexible", "300.00"),
            _line("tax", "vat", "VAT", "19.63", included=True),
            _line("tax", "city", "City tax", "12.00", collected="at_hotel"),
            _line("fee", "cleaning", "Cleaning", "30.00"),
        ],
        "refundable": True,
        "free_until": "2026-12-15T18:00:00-07:00",
        "cancellation": [
            _step("2026-12-15T18:00", "330.00", "0.00"),
            # The first night's share of the whole amount.
            _step("2026-12-16T18:00", "220.00", "110.00"),
            _step("2026-12-17T18:00", "0.00", "330.00"),
        ],
        "no_show_kept": "330.00",
        "early_departure_percent": 50,
        "time_zone": "America/Vancouver",
    }
    assert OfferOut.model_validate(offer).model_dump(mode="json", exclude_unset=True) == offer


def _line(kind: str, id: str, name: str, amount: str, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "id": id, "name": name, "amount": amount, "included": False, "collected": "now"} | more


def _step(local: str, refund: str, kept: str) -> dict[str, str]:
    return {"until": f"{local}:00-07:00", "until_local": local, "refund": refund, "kept": kept}


def test_steps_that_have_ended_are_not_offered() -> None:
    offer = shown(offered(), now=datetime(2026, 12, 16, 2, tzinfo=UTC))

    assert [step["until_local"] for step in offer["cancellation"]] == ["2026-12-16T18:00", "2026-12-17T18:00"]
    assert (offer["refundable"], offer["free_until"]) == (True, None)

    offer = shown(offered(), now=datetime(2026, 12, 17, 2, tzinfo=UTC))
    assert [step["refund"] for step in offer["cancellation"]] == ["0.00"]
    assert offer["refundable"] is False


@pytest.mark.parametrize(
    ("plan", "refundable", "free", "refunds"),
    [
        ({"policy": CancellationPolicy(id="always")}, True, "2026-12-17T18:00:00-07:00", ["300.00"]),
        ({"refundable": False}, False, None, ["0.00"]),
        (
            {"policy": CancellationPolicy(id="late", steps=(PolicyStep(hours_before=0, kept=Kept(percent=100)),))},
            True,
            "2026-12-17T18:00:00-07:00",
            ["300.00"],
        ),
    ],
    ids=["until check-in", "never", "at check-in"],
)
def test_a_plan_is_refundable_by_its_policy(
    plan: dict[str, Any], *, refundable: bool, free: str | None, refunds: list[str]
) -> None:
    offer = shown(offered(**plan))

    assert (offer["refundable"], offer["free_until"]) == (refundable, free)
    assert [step["refund"] for step in offer["cancellation"]] == refunds


def test_a_stay_that_is_paid_at_the_hotel_is_charged_nothing_now() -> None:
    offer = shown(offered(taxes=TAXES, terms=Terms.AT_HOTEL))

    assert (offer["payment"], offer["total"], offer["due_at_hotel"]) == ("at_hotel", "0.00", "342.00")
    assert [(step["refund"], step["kept"]) for step in offer["cancellation"]] == [
        ("0.00", "0.00"),
        ("0.00", "114.00"),
        ("0.00", "342.00"),
    ]


LISBON = StayTimes(time_zone="Europe/Lisbon", check_in_time=time(1, 30), check_out_time=time(11))


@pytest.mark.parametrize(
    ("check_in", "until", "local"),
    [
        # Clocks go from 1:00 to 2:00 on 29 March, so that 1:30 does not exist, and back from 2:00 on 25 October.
        (date(2026, 3, 31), "2026-03-29T02:30:00+01:00", "2026-03-29T01:30"),
        (date(2026, 10, 27), "2026-10-25T01:30:00+01:00", "2026-10-25T01:30"),
    ],
    ids=["a time that is skipped", "a time that comes twice"],
)
def test_the_promise_is_the_wall_time_when_clocks_change(check_in: date, until: str, local: str) -> None:
    offer = shown(offered(check_in, times=LISBON), check_in, LISBON)

    assert (offer["cancellation"][0]["until"], offer["cancellation"][0]["until_local"]) == (until, local)
    assert offer["free_until"] == until


def test_a_later_wall_time_that_is_no_later_instant_is_no_step() -> None:
    policy = CancellationPolicy(
        id="close", steps=tuple(PolicyStep(hours_before=hours, kept=Kept(percent=hours)) for hours in (49, 48))
    )
    priced = offered(date(2026, 3, 31), times=msgspec.structs.replace(LISBON, check_in_time=time(2)), policy=policy)

    steps = steps_out(
        priced, check_in=date(2026, 3, 31), stay_times=msgspec.structs.replace(LISBON, check_in_time=time(2))
    )

    # 1:00 on 29 March is skipped: it is the same instant as 2:00.
    assert [step.until_local for step in steps] == ["2026-03-29T01:00", "2026-03-31T02:00"]


def test_a_price_without_sale_terms_is_refundable_until_check_in() -> None:
    priced = PricedStay("EUR", Terms.PREPAID, 30_000, (10_000, 20_000), None)

    assert is_refundable(priced, check_in=CHECK_IN, stay_times=VANCOUVER)
    assert str(free_until(priced, check_in=CHECK_IN, stay_times=VANCOUVER)) == "2026-12-17 18:00:00-07:00"
    assert steps_out(priced, check_in=CHECK_IN, stay_times=VANCOUVER) == []
