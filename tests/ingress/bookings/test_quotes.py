"""Quotes over HTTP, and bookings by plan, people and quote, with a reservations worker that decides."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import jwt
import msgspec
import pytest

from ingress.application import DATABASE
from ingress.bookings import acceptance
from ingress.bookings.models import MAX_QUOTE_LENGTH
from ingress.tokens import ChangeQuote, Quote, QuoteTokens
from storage.settings import DatabaseSettings
from tests.ingress.conftest import ingress_settings, run_ingress
from tests.ingress.house import STAY, STAY_TIMES, TODAY, WAIT, House
from tests.ingress.managers import Worker, open_worker
from tests.support.client import Answer
from tests.support.waiting import wait_until
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import ChangeInventory, SetSaleTerms
from topics.messages.sale import (
    ArrivalRule,
    CancellationPolicy,
    CancellationStep,
    Collected,
    Kept,
    LineKind,
    Meals,
    Party,
    PolicyStep,
    PriceLine,
    Quoted,
    RatePlan,
    Sale,
    SaleTerms,
    Tax,
)
from topics.messages.values import StayTimes, Terms

ARRIVAL = TODAY + timedelta(days=10)
POLICY = CancellationPolicy(id="half", steps=(PolicyStep(hours_before=48, kept=Kept(percent=50)),))
STANDARD = RatePlan(id="standard", name="Flexible", policy=POLICY, extra_adult_minor=1_000)
LATER = RatePlan(
    id="later", name="Breakfast, paid there", meals=Meals.BREAKFAST, terms=Terms.AT_HOTEL, plus_minor=1_500
)
LONG = RatePlan(
    id="long",
    name="Three nights",
    refundable=False,
    times_milli=900,
    rules=(ArrivalRule(first_day=TODAY, end_day=TODAY + timedelta(days=300), min_nights=3),),
)
TERMS = SaleTerms(
    version=4,
    plans=(STANDARD, LATER, LONG),
    taxes=(
        Tax(id="vat", name="VAT", percent_milli=7_000, included=True),
        Tax(id="cleaning", name="Cleaning", kind=LineKind.FEE, amount_minor=1_000, per_room=True),
        Tax(
            id="city",
            name="City tax",
            amount_minor=200,
            per_night=True,
            per_person=True,
            min_age=16,
            collected=Collected.AT_HOTEL,
        ),
    ),
    capacity=3,
    infant_max_age=2,
)


@pytest.fixture
async def worker(kafka_settings: KafkaSettings, database: DatabaseSettings) -> AsyncIterator[Worker]:
    async with open_worker(kafka_settings, database) as worker:
        yield worker


async def set_terms(worker: Worker, terms: SaleTerms = TERMS) -> None:
    """Sell room 1 by these terms."""
    await worker._send(SetSaleTerms(room_id=1, hotel_id=1, terms=terms))

    async def are_in_force() -> bool:
        return await worker.rows("select version from room_sale_terms where room_id = 1") == [(terms.version,)]

    await wait_until(are_in_force)


async def change_price(worker: Worker, price_minor: int) -> None:
    """Change the price of all nights, as a manager does."""
    await worker._send(
        ChangeInventory(room_id=1, first_night=ARRIVAL, end_night=ARRIVAL + timedelta(days=2), price_minor=price_minor)
    )

    async def has_changed() -> bool:
        return set(await worker.rows("select price_minor from inventory where room_id = 1")) == {(price_minor,)}

    await wait_until(has_changed)


async def quoted(house: House, *, user: int = 1, **changes: Any) -> dict[str, Any]:
    """Return the quote of the stay."""
    answer = await house.post("/v1/quotes", STAY | changes, user=user)
    assert answer.status == 200, answer
    body: dict[str, Any] = answer.body
    return body


async def token(house: House, **changes: Any) -> str:
    """Return the token of the standard plan's offer."""
    return str((await quoted(house, plan_id="standard", **changes))["offers"][0]["token"])


async def init(house: House, *, user: int = 1, headers: dict[str, str] | None = None, **fields: Any) -> Answer:
    return await house.post("/v1/bookings/init", STAY | fields, user=user, headers=WAIT | (headers or {}))


async def test_a_quote_has_a_breakdown_and_the_costs_of_a_cancellation_by_each_plan(
    house: House, worker: Worker
) -> None:
    await set_terms(worker)

    quote = await quoted(house, adults=2, children=[4, 1])

    assert {name: quote[name] for name in STAY} == STAY
    assert (quote["currency"], quote["rooms_count"]) == ("EUR", 1)
    # The third plan is sold for three nights and more.
    standard, later = quote["offers"]
    # Two nights, 18,000 and 16,501.5 half-up: the children cost nothing.
    assert standard["lines"] == [
        line("stay", "standard", "Flexible", "345.02"),
        line("tax", "vat", "VAT", "22.57", included=True),
        line("fee", "cleaning", "Cleaning", "10.00"),
        line("tax", "city", "City tax", "8.00", collected="at_hotel"),
    ]
    assert (standard["payment"], standard["total"], standard["due_at_hotel"]) == ("prepaid", "355.02", "8.00")
    assert (standard["terms_version"], standard["adults"], standard["children_ages"]) == (4, 2, [4, 1])
    check_in = datetime.combine(ARRIVAL, STAY_TIMES.check_in_time)
    assert [(step["until_local"], step["refund"], step["kept"]) for step in standard["cancellation"]] == [
        (f"{check_in - timedelta(hours=48):%Y-%m-%dT%H:%M}", "355.02", "0.00"),
        (f"{check_in:%Y-%m-%dT%H:%M}", "177.51", "177.51"),
    ]
    until = datetime.fromisoformat(standard["cancellation"][0]["until"])
    assert until.utcoffset() is not None
    assert until.replace(tzinfo=None) == check_in - timedelta(hours=48)
    assert (later["meals"], later["payment"], later["total"]) == ("breakfast", "at_hotel", "0.00")
    # 345.02 and twice 15.00 for the meals, 10.00 and 8.00.
    assert later["due_at_hotel"] == "393.02"


def line(kind: str, id: str, name: str, amount: str, *, included: bool = False, collected: str = "now") -> Any:
    return {
        "kind": kind,
        "id": id,
        "name": name,
        "amount": amount,
        "included": included,
        "collected": collected,
    }


async def test_a_room_without_sale_terms_is_quoted_at_its_price_and_refundable_until_check_in(
    house: House, worker: Worker
) -> None:
    (offer,) = (await quoted(house))["offers"]

    assert (offer["plan_id"], offer["terms_version"], offer["total"], offer["adults"]) == ("standard", 0, "345.02", 2)
    assert [(step["refund"], step["kept"]) for step in offer["cancellation"]] == [("345.02", "0.00")]
    booked = await init(house, quote=offer["token"])
    assert (booked.status, booked.body["amount"], booked.body["sale"]["plan_id"]) == (201, "345.02", "standard")
    # A plain request means what it meant before.
    plain = await init(house)
    assert (plain.status, plain.body["amount"], "sale" in plain.body) == (201, "345.02", False)


async def test_a_quote_shows_its_amounts_in_the_wanted_currency_too_and_charges_its_own(
    kafka_settings: KafkaSettings, database: DatabaseSettings, house: House, worker: Worker, tmp_path: Path
) -> None:
    await set_terms(worker)
    rates = tmp_path / "rates.json"
    rates.write_text('{"base": "EUR", "date": "2026-11-27", "source": "a bank", "rates": {"USD": 2}}')
    async with run_ingress(ingress_settings(exchange_rates=str(rates)), kafka_settings, database) as with_rates:
        standard, later = (await quoted(with_rates, currency="USD"))["offers"]
        (own, _) = (await quoted(with_rates, currency="EUR"))["offers"]
        booked = await init(with_rates, quote=standard["token"])
    refused = await house.post("/v1/quotes", STAY | {"currency": "USD"}, user=1)

    assert (standard["currency"], standard["total"], standard["due_at_hotel"]) == ("EUR", "355.02", "8.00")
    assert standard["approximate"] == {
        "currency": "USD",
        "total": "710.04",
        "due_at_hotel": "16.00",
        "rate_date": "2026-11-27",
        "rate_source": "a bank",
    }
    assert (later["approximate"]["total"], later["approximate"]["due_at_hotel"]) == ("0.00", "786.04")
    assert "approximate" not in own
    assert (booked.status, booked.body["amount"]) == (201, "355.02")
    assert (refused.status, "has no exchange rates" in refused.body["detail"]) == (422, True)


REFUSED: list[tuple[dict[str, Any], int, str, str]] = [
    ({"plan_id": "none"}, 409, "no_such_plan", "the room has no such rate plan"),
    ({"plan_id": "long"}, 409, "min_stay", "3 nights at least"),
    ({"adults": 4}, 409, "party_too_large", "ask for more rooms"),
    ({"adults": 1, "children": [3, 3, 3]}, 409, "party_too_large", "ask for more rooms"),
    ({"rooms_count": 10, "adults": 25}, 200, "", ""),
    ({"rooms_count": 4, "check_out_date": str(ARRIVAL + timedelta(days=3))}, 409, "night_not_open", "night not open"),
    ({"adults": 0}, 422, "", "adults"),
    ({"children": [3]}, 422, "", "a party needs an adult"),
    ({"adults": 2, "children": [18]}, 422, "", "children.0"),
    ({"adults": 2, "children": [-1]}, 422, "", "children.0"),
    ({"adults": 150, "children": [1] * 51}, 422, "", "at most 200 people"),
    ({"plan_id": "x" * 41}, 422, "", "plan_id"),
    ({"room_id": 2}, 404, "", "no such room"),
    ({"hotel_id": 2, "room_id": 2}, 409, "hotel_not_active", "takes no bookings"),
    ({"quote": "x"}, 422, "", "quote"),
]


async def test_a_stay_that_cannot_be_sold_has_no_quote_and_the_reason_in_words(house: House, worker: Worker) -> None:
    await set_terms(worker)
    for changes, status, reason, words in REFUSED:
        answer = await house.post("/v1/quotes", STAY | changes, user=1)
        assert (answer.status, answer.body.get("reason", "")) == (status, reason), (changes, answer)
        assert words in answer.body.get("detail", ""), (changes, answer)
    assert (await house.post("/v1/quotes", STAY)).status == 401


async def test_a_booking_is_refused_for_the_same_reasons_in_the_same_words(house: House, worker: Worker) -> None:
    await set_terms(worker)
    for changes, status, reason, words in REFUSED:
        if status == 409 and reason != "hotel_not_active":
            refused = await init(house, **changes)
            assert (refused.status, refused.body["reason"]) == (409, reason), (changes, refused)
            assert words in refused.body["detail"], (changes, refused)
            shown = await house.get(f"/v1/bookings/{refused.body['id']}/status", user=1)
            assert (shown.body["booking_status"], shown.body["reason"]) == ("REJECTED", reason)


async def test_nights_that_are_sold_or_closed_have_no_quote(house: House, worker: Worker) -> None:
    await set_terms(worker)
    await worker.rows("update inventory set booked_count = 7, blocked_count = 2 where room_id = 1 returning 1")
    assert [len((await quoted(house))["offers"]), (await reason(house, rooms_count=2))] == [2, "sold_out"]
    await worker.rows("update inventory set allowance_count = 1 where room_id = 1 returning 1")
    assert len((await quoted(house, rooms_count=2))["offers"]) == 2
    await worker.rows("update inventory set closed = true where date = %s returning 1", ARRIVAL)
    assert await reason(house) == "night_closed"


async def test_a_price_that_cannot_be_charged_is_not_quoted_and_one_that_is_paid_at_the_hotel_is(
    house: House, worker: Worker
) -> None:
    await set_terms(worker)
    await worker.rows("update inventory set price_minor = 900000000 where room_id = 1 returning 1")

    (later,) = (await quoted(house))["offers"]

    assert later["plan_id"] == "later"
    refused = await house.post("/v1/quotes", STAY | {"plan_id": "standard"}, user=1)
    assert (refused.status, refused.body["reason"]) == (409, "not_chargeable")
    assert "must be from 0.50 to 999999.99 EUR" in refused.body["detail"]


async def test_the_least_charge_does_not_count_for_the_quote_of_a_leg(house: House, worker: Worker) -> None:
    await worker.rows("update inventory set price_minor = 10, surge_milli = 1000 where room_id = 1 returning 1")
    assert await reason(house) == "not_chargeable"
    (offer,) = (await quoted(house, in_trip=True))["offers"]
    assert offer["total"] == "0.20"
    # It cannot be paid as a stay of its own.
    refused = await init(house, quote=offer["token"])
    assert (refused.status, refused.body["reason"]) == (409, "not_chargeable")


async def reason(house: House, **changes: Any) -> str:
    answer = await house.post("/v1/quotes", STAY | changes, user=1)
    assert answer.status == 409, answer
    return str(answer.body["reason"])


async def test_a_quoted_price_counts_although_the_price_and_the_terms_changed(house: House, worker: Worker) -> None:
    await set_terms(worker)
    quote = await token(house, adults=3, children=[1])
    await change_price(worker, 50_000)
    await set_terms(worker, msgspec.structs.replace(TERMS, version=5, taxes=()))

    booked = await init(house, quote=quote)

    # Two nights with a third adult, and the fee.
    assert (booked.status, booked.body["amount"]) == (201, "375.02")
    sale = booked.body["sale"]
    assert (sale["terms_version"], sale["adults"], sale["children_ages"], sale["due_at_hotel"]) == (4, 3, [1], "12.00")
    shown = (await house.get(f"/v1/bookings/{booked.body['id']}", user=1)).body
    assert shown["sale"] == sale
    assert (await init(house)).body["amount"] == "1500.00"


async def test_a_quote_of_a_plan_that_is_stopped_meanwhile_is_refused(house: House, worker: Worker) -> None:
    await set_terms(worker)
    quote = await token(house)
    stop = ArrivalRule(first_day=ARRIVAL, end_day=ARRIVAL + timedelta(days=1), stop_sell=True)
    stopped = msgspec.structs.replace(STANDARD, rules=(stop,))
    await set_terms(worker, msgspec.structs.replace(TERMS, version=5, plans=(stopped, LATER)))

    refused = await init(house, quote=quote)

    assert (refused.status, refused.body["reason"]) == (409, "stop_sell")
    assert [offer["plan_id"] for offer in (await quoted(house))["offers"]] == ["later"]


async def test_a_booking_by_a_plan_that_is_paid_at_the_hotel_is_confirmed_at_once(house: House, worker: Worker) -> None:
    await set_terms(worker)

    booked = await init(house, plan_id="later", adults=1)

    assert (booked.status, booked.body["booking_status"]) == (201, "CONFIRMED")
    assert (booked.body["sale"]["total"], booked.body["sale"]["due_at_hotel"]) == ("0.00", "389.02")


@pytest.mark.parametrize(
    "changes",
    [
        {"rooms_count": 2},
        {"check_out_date": str(ARRIVAL + timedelta(days=1))},
        {"plan_id": "later"},
        {"adults": 1},
        {"adults": 2, "children": [3]},
    ],
    ids=str,
)
async def test_a_quote_is_of_one_stay_alone(house: House, worker: Worker, changes: dict[str, Any]) -> None:
    quote = await token(house)

    refused = await init(house, quote=quote, **changes)

    assert (refused.status, "is not that of the quote" in refused.body["detail"]) == (422, True)
    assert (await init(house, quote=quote, plan_id="standard", adults=2)).status == 201


async def test_a_token_that_was_altered_or_is_another_accounts_books_nothing(house: House, worker: Worker) -> None:
    quote = await token(house)
    claims = jwt.decode(quote, options={"verify_signature": False})
    claims["quote"]["quoted"]["amount_minor"] = 1
    access_token = house.user_header(1)["Authorization"].removeprefix("Bearer ")
    for altered in (
        quote[:-2],
        jwt.encode(claims, "some other key that is long enough for HS256", algorithm="HS256"),
        jwt.encode(claims, None, algorithm="none"),
        access_token,
        "nothing",
        "a.b.c",
        "\N{SNOWMAN}.\x00.\N{SNOWMAN}",
    ):
        refused = await init(house, quote=altered)
        assert (refused.status, "no quote of ours" in refused.body["detail"]) == (422, True), refused

    stolen = await init(house, user=2, quote=quote)

    assert (stolen.status, stolen.body["detail"]) == (403, "the quote was given to another account")
    assert await worker.rows("select count(*) from booking") == [(0,)]
    # A quote is no access token either.
    assert (await house.get("/v1/users/myBookings", headers={"Authorization": f"Bearer {quote}"})).status == 401


async def expired(house: House, quote: str) -> str:
    """Return the token as it was signed a day before."""
    tokens = QuoteTokens(ingress_settings(), house.app[DATABASE].installation_id)
    read = await tokens.read(quote, Quote)
    assert read is not None
    yesterday = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    return await tokens.issue(
        msgspec.structs.replace(read, quoted=msgspec.structs.replace(read.quoted, good_until=yesterday))
    )


async def test_an_expired_quote_sends_no_command_and_a_repeated_request_stays_one_booking(
    house: House, worker: Worker
) -> None:
    quote = await token(house)

    refused = await init(house, quote=await expired(house, quote))

    assert (refused.status, refused.body["reason"]) == (409, "quote_expired")
    assert await worker.rows("select count(*) from booking") == [(0,)]
    assert (await quoted(house))["good_until"] > datetime.now(UTC).isoformat()


async def test_a_quote_that_expired_by_the_logs_time_is_refused_although_the_ingress_took_it(
    house: House, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    quote = await expired(house, await token(house))

    class Late(datetime):
        """The clock of an ingress that is two days late."""

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) - timedelta(days=2)

    monkeypatch.setattr(acceptance, "datetime", Late)

    refused = await init(house, quote=quote)

    assert (refused.status, refused.body["reason"]) == (409, "quote_expired")
    assert refused.body["detail"] == "refused: the quote has expired: ask for a new one"
    assert await worker.rows("select status, rejection from booking") == [("REJECTED", "quote_expired")]


async def test_a_request_that_is_repeated_after_its_quote_expired_is_the_same_booking(
    house: House, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    quote, key = await token(house), {"Idempotency-Key": "once"}
    first = await init(house, quote=quote, headers=key)

    class Early(datetime):
        """The clock of an ingress after the quote has expired."""

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(days=2)

    monkeypatch.setattr(acceptance, "datetime", Early)
    again = await init(house, quote=quote, headers=key)

    assert (first.status, again.status, again.body["id"]) == (201, 201, first.body["id"])
    assert (await init(house, quote=quote)).body["reason"] == "quote_expired"


async def test_the_quote_of_another_installation_with_the_same_key_books_nothing(
    kafka_settings: KafkaSettings, database: DatabaseSettings, house: House, worker: Worker
) -> None:
    theirs = await token(house)
    await worker.rows("update installation set id = %s returning 1", uuid4())
    async with run_ingress(ingress_settings(), kafka_settings, database) as copy:
        refused = await init(copy, quote=theirs)
        assert (refused.status, "no quote of ours" in refused.body["detail"]) == (422, True)
        assert (await init(copy, quote=await token(copy))).status == 201


async def test_a_stay_keeps_the_hotels_clock_of_its_quote(house: House, worker: Worker) -> None:
    await set_terms(worker)
    quote = await quoted(house, plan_id="standard")
    await worker.rows("update hotel set check_in_time = '09:00', check_out_time = '08:00' where id = 1 returning 1")

    async def is_known() -> bool:
        return steps(await quoted(house, plan_id="standard")) != steps(quote)

    await wait_until(is_known)
    booked = await init(house, quote=quote["offers"][0]["token"])

    assert (booked.status, booked.body["sale"]["cancellation"]) == (201, quote["offers"][0]["cancellation"])
    assert await worker.rows("select stay_times ->> 'check_in_time', stay_times ->> 'check_out_time' from booking") == [
        (f"{STAY_TIMES.check_in_time}", f"{STAY_TIMES.check_out_time}")
    ]


def steps(quote: dict[str, Any]) -> list[str]:
    return [step["until_local"] for step in quote["offers"][0]["cancellation"]]


async def test_people_fit_into_a_room_without_sale_terms_or_are_refused_at_once(house: House, worker: Worker) -> None:
    for people in ({"adults": 3}, {"adults": 2, "children": [0]}, {"adults": 200}):
        for refused in (await house.post("/v1/quotes", STAY | people, user=1), await init(house, **people)):
            assert (refused.status, refused.body["reason"]) == (409, "party_too_large"), (people, refused)
            assert "ask for more rooms" in refused.body["detail"]
    assert await worker.rows("select count(*) from booking") == [(0,)]
    booked = await init(house, adults=2, children=[0], rooms_count=2)
    assert (booked.status, booked.body["sale"]["children_ages"]) == (201, [0])
    assert len((await quoted(house, adults=3, rooms_count=2))["offers"]) == 1


async def people(house: House, count: int) -> list[int]:
    """Save guests in the address book of account 1."""
    saved = [await house.post("/v1/users/guests", {"name": f"Guest {number}"}, user=1) for number in range(count)]
    return [guest.body["id"] for guest in saved]


async def guests_named(house: House, booking: Answer, guest_ids: list[int]) -> Answer:
    path = f"/v1/bookings/{booking.body['id']}"
    if booking.body["booking_status"] == "CONFIRMED":
        return await house.ask("PUT", f"{path}/guests", guest_ids, user=1, headers=WAIT)
    return await house.post(f"{path}/addGuests", guest_ids, user=1, headers=WAIT)


@pytest.mark.parametrize("plan_id", ["standard", "later"])
async def test_as_many_guests_are_named_as_were_sold_a_place_with_infants(
    house: House, worker: Worker, plan_id: str
) -> None:
    await set_terms(worker)
    guests = await people(house, 5)
    parties: list[tuple[int, list[int]]] = [(3, [1]), (1, [])]
    for adults, children in parties:
        booked = await init(house, plan_id=plan_id, adults=adults, children=children)
        count = adults + len(children)

        refused = await guests_named(house, booked, guests[: count + 1])
        named = await guests_named(house, booked, guests[:count])

        assert refused.status == 422, refused
        assert f"the stay was sold for {count} in all" in refused.body["detail"]
        assert (named.status, len(named.body["guests"])) == (200, count), named
        assert (await guests_named(house, booked, guests[:1])).status == 200


async def test_guests_of_a_stay_that_nobody_was_named_for_fill_the_rooms_unless_the_price_depends_on_them(
    house: House, worker: Worker
) -> None:
    single = RatePlan(id="standard", name="For one", included_adults=1)
    await set_terms(worker, SaleTerms(version=1, plans=(single,), capacity=2))
    flat, guests = await init(house), await people(house, 3)
    await set_terms(
        worker, SaleTerms(version=2, plans=(msgspec.structs.replace(single, extra_adult_minor=1_000),), capacity=2)
    )
    by_people = await init(house)

    assert [(await guests_named(house, flat, guests[:count])).status for count in (1, 2, 3)] == [200, 200, 422]
    assert [(await guests_named(house, by_people, guests[:count])).status for count in (1, 2)] == [200, 422]


async def test_the_interface_without_a_version_takes_plans_and_quotes_too(house: House, worker: Worker) -> None:
    await set_terms(worker)
    quote = await token(house, adults=1)

    booked = await house.post("/bookings/init", STAY | {"quote": quote}, user=1, headers=WAIT)

    assert (booked.status, booked.body["sale"]["adults"], booked.body["amount"]) == (200, 1, "355.02")


async def test_the_largest_quote_fits_into_a_request() -> None:
    name, day = "\N{GRINNING FACE}" * 100, date(2030, 1, 1)
    lines = [PriceLine(kind=LineKind.TAX, id="x" * 40, name=name, amount_minor=10**12, included=True)] * 31
    step = CancellationStep(until=datetime.combine(day, STAY_TIMES.check_in_time), kept_minor=10**12, percent=100)
    sale = Sale(
        terms_version=2**63 - 1,
        plan_id="x" * 40,
        plan_name=name,
        meals=Meals.ALL_INCLUSIVE,
        party=Party(adults=100, child_ages=(10,) * 100),
        lines=tuple(lines),
        at_hotel_minor=10**12,
        steps=(step,) * 11,
        no_show_kept_minor=10**12,
        early_departure_percent=100,
    )
    quote = Quote(
        user_id=2**63 - 1,
        hotel_id=2**63 - 1,
        room_id=2**63 - 1,
        check_in=day,
        check_out=day,
        rooms_count=10,
        stay_times=StayTimes(
            time_zone="America/Argentina/ComodRivadavia", check_in_time=time(23, 59), check_out_time=time(23, 59)
        ),
        quoted=Quoted(
            good_until=datetime.now(UTC),
            terms=Terms.AT_HOTEL,
            sale=sale,
            currency="EUR",
            amount_minor=10**12,
            night_amounts_minor=(10**12,) * 30,
        ),
    )
    tokens = tokens_of(UUID(int=1))

    issued = await tokens.issue(quote)

    assert len(issued) <= MAX_QUOTE_LENGTH
    assert await tokens.read(issued, Quote) == quote
    assert await tokens.read(issued, ChangeQuote) is None
    assert await tokens.read(str(uuid4()), Quote) is None
    # Another installation with the same key.
    assert await tokens_of(UUID(int=2)).read(issued, Quote) is None


def tokens_of(installation: UUID) -> QuoteTokens:
    async def installation_id() -> UUID:
        return installation

    return QuoteTokens(ingress_settings(), installation_id)
