"""A plan is shown with the price that a decision charges, and not shown if a decision refuses it."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from random import Random
from uuid import UUID

import pytest

from ingress.hotels.plans import RoomOnSale, StayRequest, cheapest, offers
from ingress.offers import whole_minor
from pricing.stays import night_price_minor
from topics.messages.commands import ReserveStay
from topics.messages.events import BookingRejected, BookingReserved
from topics.messages.sale import AgeBand, ArrivalRule, Collected, Party, RatePlan, SaleTerms, Tax
from topics.messages.values import StayTimes, Terms, nights_of
from workers.decisions import Night, State, decide
from workers.decisions.state import DEFAULT_STAY_TIMES
from workers.reservations.stay_clock import arrival_clock

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FIRST = date(2026, 3, 10)
CURRENCIES = ("EUR", "JPY", "KWD")


def _plans(chance: Random, step: int) -> Iterator[RatePlan]:
    for name in ("standard", "saver", "family")[: chance.randint(1, 3)]:
        rules = ArrivalRule(
            first_day=FIRST - timedelta(days=chance.randint(0, 3)),
            end_day=FIRST + timedelta(days=chance.randint(1, 9)),
            min_nights=chance.choice([None, None, 2, 4]),
            max_nights=chance.choice([None, None, 3]),
            advance_days=chance.choice([None, None, 9, 10, 11]),
            closed_to_arrival=chance.random() < 0.1,
            closed_to_departure=chance.random() < 0.1,
            stop_sell=chance.random() < 0.1,
        )
        yield RatePlan(
            id=name,
            name=name.title(),
            terms=chance.choice([Terms.PREPAID, Terms.PREPAID, Terms.AT_HOTEL]),
            times_milli=chance.choice([1_000, 900, 1_150, 0]),
            plus_minor=chance.choice([0, -500 * step, 700 * step]),
            included_adults=chance.randint(1, 2),
            extra_adult_minor=chance.choice([0, 1_500 * step]),
            child_bands=(AgeBand(up_to_age=2, nightly_minor=0), AgeBand(up_to_age=12, nightly_minor=800 * step)),
            rules=(rules,) * chance.randint(0, 1),
        )


def _terms(chance: Random, step: int) -> SaleTerms:
    taxes = (
        Tax(id="vat", name="VAT", percent_milli=chance.choice([7_000, 5_500]), included=chance.random() < 0.5),
        Tax(
            id="city",
            name="City tax",
            amount_minor=200 * step,
            per_night=True,
            per_person=True,
            min_age=3,
            collected=chance.choice(list(Collected)),
        ),
    )
    return SaleTerms(
        version=1,
        plans=tuple(_plans(chance, step)),
        taxes=taxes[: chance.randint(0, 2)],
        capacity=chance.choice([None, 2, 4]),
        infant_max_age=chance.choice([None, 2]),
    )


@pytest.mark.parametrize("seed", range(60))
def test_a_plan_costs_the_same_as_in_a_decision(seed: int) -> None:
    chance = Random(seed)
    currency = chance.choice(CURRENCIES)
    step = 10 if currency == "KWD" else 1
    terms = _terms(chance, step)
    people = chance.choice([None, Party(adults=chance.randint(1, 3), child_ages=(4, 1)[: chance.randint(0, 2)])])
    stay = StayRequest(FIRST, FIRST + timedelta(days=chance.randint(1, 4)), chance.randint(1, 2), people)
    nights = {
        day: Night(
            hotel_id=10,
            total_count=5,
            booked_count=0,
            reserved_count=0,
            price_minor=chance.choice([3, 9_990, 12_340]),
            surge_milli=chance.choice([1_000, 1_333]),
            closed=False,
            currency=currency,
        )
        for day in nights_of(stay.check_in, stay.check_out)
    }
    prices = [night_price_minor(night.price_minor, night.surge_milli, step) for night in nights.values()]
    room = RoomOnSale(terms, prices, currency, DEFAULT_STAY_TIMES.check_in_time)

    found = {offer.sale.plan_id: offer for offer in offers(room, stay, NOW.date()) if offer.sale is not None}

    for plan in terms.plans:
        event = _decided(terms, nights, stay, plan.id)
        if isinstance(event, BookingRejected):
            assert plan.id not in found, event.reason
            continue
        offer = found[plan.id]
        assert (offer.amount_minor, offer.terms, offer.sale) == (event.amount_minor, event.terms, event.sale)
    least = cheapest(room, stay, NOW.date())
    standard = terms.plan(None)
    # A request without people names no plan either.
    compared = [offer for id, offer in found.items() if people is not None or (standard and id == standard.id)]
    assert (least and whole_minor(least)) == min(map(whole_minor, compared), default=None)


def _decided(
    terms: SaleTerms, nights: dict[date, Night], stay: StayRequest, plan_id: str
) -> BookingReserved | BookingRejected:
    command = ReserveStay(
        room_id=1,
        booking_id=UUID(int=1),
        user_id=7,
        hotel_id=10,
        check_in=stay.check_in,
        check_out=stay.check_out,
        rooms_count=stay.rooms_count,
        hold_seconds=600,
        plan_id=plan_id,
        party=stay.people,
        stay_times=StayTimes(
            time_zone="UTC",
            check_in_time=DEFAULT_STAY_TIMES.check_in_time,
            check_out_time=DEFAULT_STAY_TIMES.check_out_time,
        ),
    )
    state = State(booking=None, nights=nights, clock=arrival_clock(command, NOW), sale_terms=terms)
    event = decide(state, command, NOW)[0]
    assert isinstance(event, BookingReserved | BookingRejected)
    return event
