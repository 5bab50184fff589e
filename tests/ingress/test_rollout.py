"""Requests that wait for the end of a rollout: a worker of 0.1.0 would charge another sum than was shown."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from pricing.charges import CHARGEABLE, has_another_unit
from storage.settings import DatabaseSettings
from tests.ingress.conftest import ingress_settings, run_ingress
from tests.ingress.house import STAY, House, StandInWorker
from tests.support.hotels import HOTEL
from topics.kafka.settings import KafkaSettings
from topics.messages.releases import Release

MANAGER = 2
OTHER_UNITS = ["ISK", "MGA", "UGX"]


@pytest.fixture
async def during_rollout(
    kafka_settings: KafkaSettings, database: DatabaseSettings, house: House
) -> AsyncIterator[House]:
    """An ingress beside which workers of 0.1.0 run."""
    settings = kafka_settings.model_copy(update={"log_readable_by": Release.V0_1_0})
    async with run_ingress(ingress_settings(), settings, database) as new:
        yield new


def require_refused(answered: Any, currency: str) -> None:
    """Require that the request is refused until the end of the rollout."""
    assert (answered.status, answered.body["reason"]) == (503, "release_rolling_out"), answered
    assert f"older workers cannot charge {currency} yet" in answered.body["detail"]
    assert "after the rollout" in answered.body["detail"]
    assert answered.headers["Retry-After"] == "60"


def test_stripe_counts_three_currencies_in_another_unit() -> None:
    assert sorted(currency for currency in CHARGEABLE if has_another_unit(currency)) == OTHER_UNITS
    assert not has_another_unit("KPW")


@pytest.mark.parametrize("currency", OTHER_UNITS)
async def test_no_hotel_gets_a_currency_that_an_older_worker_charges_wrongly(
    during_rollout: House, house: House, currency: str
) -> None:
    manager = house.manager_header(MANAGER)
    require_refused(
        await during_rollout.post("/v1/admin/hotels", {**HOTEL, "currency": currency}, headers=manager), currency
    )
    hotel = (await during_rollout.post("/v1/admin/hotels", HOTEL, headers=manager)).body
    path = f"/v1/admin/hotels/{hotel['id']}"
    put = {**HOTEL, "currency": currency}
    require_refused(await during_rollout.ask("PUT", path, put, headers=manager), currency)
    require_refused(await during_rollout.ask("PATCH", path, {"currency": currency}, headers=manager), currency)
    assert (await during_rollout.get(path, headers=manager)).body["currency"] == "EUR"

    # After the rollout it is taken, and a hotel that has it can be described in the next one.
    assert (await house.ask("PATCH", path, {"currency": currency}, headers=manager)).status == 200
    assert (await during_rollout.ask("PATCH", path, {"stars": 3}, headers=manager)).status == 200
    assert (await during_rollout.ask("PUT", path, put, headers=manager)).status == 200


@pytest.mark.parametrize("currency", OTHER_UNITS)
async def test_no_stay_is_sold_or_paid_that_an_older_worker_charges_wrongly(
    during_rollout: House, house: House, stand_in: StandInWorker, currency: str
) -> None:
    paying = await stand_in.add_booking(1, "GUESTS_ADDED", currency=currency)
    await stand_in.connection.execute("update hotel set currency = %s where id = 1", (currency,))

    require_refused(await during_rollout.post("/v1/bookings/init", STAY, user=1), currency)
    require_refused(await during_rollout.post(f"/v1/bookings/{paying}/payments", user=1), currency)
    assert (await during_rollout.post(f"/v1/bookings/{paying}/cancel", user=1)).status == 202

    assert (await house.post(f"/v1/bookings/{paying}/payments", user=1)).status == 202
    assert (await house.post("/v1/bookings/init", STAY, user=1)).status == 202


async def test_other_currencies_are_sold_during_a_rollout(during_rollout: House, stand_in: StandInWorker) -> None:
    paying = await stand_in.add_booking(1, "GUESTS_ADDED")
    assert (await during_rollout.post("/v1/bookings/init", STAY, user=1)).status == 202
    assert (await during_rollout.post(f"/v1/bookings/{paying}/payments", user=1)).status == 202


async def test_no_stay_is_asked_for_that_an_older_worker_would_reserve_without_its_plan_people_or_quote(
    during_rollout: House, stand_in: StandInWorker
) -> None:
    quoted = await during_rollout.post("/v1/quotes", STAY, user=1)
    assert quoted.status == 200, quoted
    for fields in ({"plan_id": "standard"}, {"adults": 2}, {"quote": quoted.body["offers"][0]["token"]}):
        refused = await during_rollout.post("/v1/bookings/init", STAY | fields, user=1)
        assert (refused.status, refused.body["reason"]) == (503, "release_rolling_out"), fields

    # Nothing of them is on the log.
    assert (await during_rollout.post("/v1/bookings/init", STAY, user=1)).status == 202
    assert (await stand_in.next_command()).message.quoted is None  # type: ignore[attr-defined]
