"""The version of the general terms that a guest accepts, and the business that gets the money."""

import asyncio
from typing import Any

import pytest

from storage.settings import DatabaseSettings
from tests.ingress.conftest import ingress_settings, run_ingress
from tests.ingress.house import STAY, WAIT, House, StandInWorker
from tests.support.client import Answer
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import ReserveStay
from topics.messages.events import BookingReserved
from topics.messages.releases import Release
from topics.messages.values import Terms

GUEST = 1
PLAN = {"adults": 1}


async def init(house: House, *, headers: dict[str, str] | None = None, **fields: Any) -> Answer:
    return await house.post("/v1/bookings/init", STAY | fields, user=GUEST, headers=headers or {})


@pytest.mark.parametrize("fields", [{}, PLAN], ids=["quick", "whole"])
async def test_accepted_terms_go_with_the_command_and_are_shown(
    house: House, stand_in: StandInWorker, fields: dict[str, Any]
) -> None:
    accepted = await init(house, accepted_terms="2026-11", **fields)
    assert accepted.status == 202
    command = (await stand_in.next_command()).message
    assert isinstance(command, ReserveStay)
    assert command.accepted_terms == "2026-11"
    without = await init(house, **fields)
    assert without.status == 202
    message = (await stand_in.next_command()).message
    assert isinstance(message, ReserveStay)
    assert message.accepted_terms is None

    booking_id = await stand_in.add_booking(GUEST, accepted_terms="2026-11")
    plain = await stand_in.add_booking(GUEST)
    shown = await house.get(f"/v1/bookings/{booking_id}", user=GUEST)
    assert shown.body["accepted_terms"] == "2026-11"
    assert "accepted_terms" not in (await house.get(f"/v1/bookings/{plain}", user=GUEST)).body


@pytest.mark.parametrize("fields", [{}, PLAN], ids=["quick", "whole"])
async def test_a_stay_needs_the_version_of_the_terms_that_counts(
    kafka_settings: KafkaSettings,
    database: DatabaseSettings,
    house: House,
    stand_in: StandInWorker,
    fields: dict[str, Any],
) -> None:
    key = {"Idempotency-Key": "before"}
    before = await init(house, headers=key, **fields)
    async with run_ingress(ingress_settings(required_terms="2026-11"), kafka_settings, database) as strict:
        for given in ({}, {"accepted_terms": "2026-10"}, {"accepted_terms": None}):
            refused = await init(strict, **fields, **given)
            assert (refused.status, refused.body["errors"][0]["field"]) == (422, "accepted_terms"), refused
            assert "2026-11" in refused.body["detail"]
        assert (await init(strict, **fields, accepted_terms="2026-11")).status == 202
        quote = await strict.post("/v1/quotes", STAY, user=GUEST)
        assert quote.body["required_terms"] == "2026-11"
        # A request that was accepted before stays accepted.
        again = await init(strict, headers=key, **fields)
        unversioned = await strict.post("/bookings/init", STAY | fields, user=GUEST, headers={"Prefer": "wait=0"})
    assert (again.status, again.body["id"]) == (202, before.body["id"])
    assert unversioned.status == 422


async def test_no_terms_are_required_while_none_can_be_recorded(
    kafka_settings: KafkaSettings, database: DatabaseSettings, house: House, stand_in: StandInWorker
) -> None:
    rolling = kafka_settings.model_copy(update={"log_readable_by": Release.V0_1_0})
    async with run_ingress(ingress_settings(required_terms="2026-11"), rolling, database) as during:
        without, given = await init(during), await init(during, accepted_terms="2026-11")
        quote = await during.post("/v1/quotes", STAY, user=GUEST)
    assert (without.status, given.body["reason"]) == (202, "release_rolling_out")
    assert (quote.status, "required_terms" in quote.body) == (200, False)
    assert "required_terms" not in (await house.post("/v1/quotes", STAY, user=GUEST)).body


async def test_the_business_that_gets_the_money_is_named_in_quotes_and_bookings(
    kafka_settings: KafkaSettings, database: DatabaseSettings, house: House, stand_in: StandInWorker
) -> None:
    prepaid = await stand_in.add_booking(GUEST)
    at_hotel = await stand_in.add_booking(GUEST, "CONFIRMED", terms="at_hotel")
    assert "paid_to" not in (await house.post("/v1/quotes", STAY, user=GUEST)).body
    assert "paid_to" not in (await house.get(f"/v1/bookings/{prepaid}", user=GUEST)).body

    async with run_ingress(ingress_settings(merchant_name="Inns Ltd."), kafka_settings, database) as named:
        quote = await named.post("/v1/quotes", STAY, user=GUEST)
        shown = [await named.get(f"/v1/bookings/{id}", user=GUEST) for id in (prepaid, at_hotel)]
        asking = asyncio.create_task(init(named, headers=WAIT))
        command = await stand_in.next_command()
        assert isinstance(command.message, ReserveStay)
        await stand_in.publish(command, _reserved(command.message))
        reserved = await asking

    assert quote.body["paid_to"] == "Inns Ltd."
    assert [answer.body.get("paid_to") for answer in shown] == ["Inns Ltd.", None]
    assert (reserved.status, reserved.body["paid_to"]) == (201, "Inns Ltd.")


def _reserved(reserve: ReserveStay) -> BookingReserved:
    return BookingReserved(
        room_id=reserve.room_id,
        booking_id=reserve.booking_id,
        user_id=reserve.user_id,
        hotel_id=reserve.hotel_id,
        check_in=reserve.check_in,
        check_out=reserve.check_out,
        rooms_count=reserve.rooms_count,
        amount_minor=34_502,
        currency="EUR",
        terms=Terms.PREPAID,
    )
