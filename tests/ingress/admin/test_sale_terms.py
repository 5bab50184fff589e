"""A hotel's taxes and policies and its rooms' rate plans: described by its manager, and in force in every room."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import pytest

from storage.settings import DatabaseSettings
from tests.ingress.conftest import broker_away, ingress_settings, run_ingress
from tests.ingress.house import TODAY, WAIT, House, StandInWorker
from tests.ingress.managers import ROOM, Manager, Worker, open_worker
from tests.support.client import Answer
from tests.support.waiting import wait_until
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import SetSaleTerms
from topics.messages.releases import Release

VAT = {"id": "vat", "name": "VAT", "percent": "7.125", "included": True}
CITY = {"id": "city", "name": "City tax", "amount": "2.00", "per_night": True, "per_person": True, "min_age": 13}
POLICY = {
    "id": "two_days",
    "steps": [{"hours_before": 48, "kept": {"nights": 1}}, {"hours_before": 24, "kept": {"amount": "50.00"}}],
    "early_departure_percent": 50,
}
TERMS: dict[str, Any] = {"taxes": [VAT, CITY], "policies": [POLICY], "infant_max_age": 2}
PLAN: dict[str, Any] = {
    "name": "Saver",
    "meals": "breakfast",
    "payment": "at_hotel",
    "policy_id": "two_days",
    "price_percent": "89.5",
    "price_plus": "-3.50",
    "extra_adult": "25.00",
    "child_bands": [{"up_to_age": 5, "price": 0}, {"up_to_age": 12, "price": "15.00"}],
    "rules": [{"start_date": "2027-12-20", "end_date": "2027-12-31", "min_nights": 3}],
}


RULE = {"start_date": "2027-12-20", "end_date": "2027-12-31"}


@pytest.fixture
async def worker(kafka_settings: KafkaSettings, database: DatabaseSettings) -> AsyncIterator[Worker]:
    async with open_worker(kafka_settings, database) as worker:
        yield worker


class Offer:
    """A hotel with one room, and requests about its sale terms; they wait for their decisions."""

    def __init__(self, house: House, hotel_id: int, room_id: int, manager: int = 1) -> None:
        self.house = house
        self.hotel_id = hotel_id
        self.room_id = room_id
        self.manager = manager

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = self.house.manager_header(self.manager) | WAIT | given
        return await self.house.ask(method, f"/v1/admin/hotels/{self.hotel_id}{path}", body, headers=sent)

    async def terms(self) -> Answer:
        return await self.ask("GET", "/sale-terms")

    async def set_terms(self, body: Any = TERMS, **headers: str) -> Answer:
        return await self.ask("PUT", "/sale-terms", body, **headers)

    async def plans(self) -> Answer:
        return await self.ask("GET", f"/rooms/{self.room_id}/plans")

    async def set_plan(self, plan_id: str, body: Any = PLAN, **headers: str) -> Answer:
        return await self.ask("PUT", f"/rooms/{self.room_id}/plans/{plan_id}", body, **headers)

    async def delete_plan(self, plan_id: str, **headers: str) -> Answer:
        return await self.ask("DELETE", f"/rooms/{self.room_id}/plans/{plan_id}", **headers)

    def on(self, house: House) -> "Offer":
        """Return the same hotel at another ingress."""
        return Offer(house, self.hotel_id, self.room_id, self.manager)


@pytest.fixture
async def offer(house: House, worker: Worker) -> Offer:
    manager = Manager(house)
    hotel_id = await manager.hotel()
    return Offer(house, hotel_id, await manager.room(hotel_id))


async def in_force(worker: Worker, room_id: int) -> dict[str, Any]:
    """Return the sale terms that the ledger has for a room."""
    ((terms,),) = await worker.rows("select terms from room_sale_terms where room_id = %s", room_id)
    found: dict[str, Any] = terms
    return found


async def has_capacity(worker: Worker, room_id: int, capacity: int) -> bool:
    """Return whether a room is sold by this capacity."""
    rows = await worker.rows("select terms -> 'capacity' from room_sale_terms where room_id = %s", room_id)
    return rows == [(capacity,)]


async def test_a_hotel_begins_without_terms_and_its_rooms_with_the_standard_plan(offer: Offer) -> None:
    terms, plans = await offer.terms(), await offer.plans()

    assert (terms.status, terms.headers["ETag"]) == (200, '"v0"')
    assert terms.body == {
        "version": 0,
        "rooms": [{"room_id": offer.room_id, "type": "double", "version": 0}],
        "hotel_id": offer.hotel_id,
        "currency": "EUR",
        "taxes": [],
        "policies": [],
        "infant_max_age": None,
        "updated_at": None,
    }
    assert [(plan["id"], plan["payment"], plan["price_percent"]) for plan in plans.body] == [
        ("standard", "prepaid", "100.0")
    ]


async def test_terms_are_in_force_in_every_room_and_are_read_as_they_were_sent(offer: Offer, worker: Worker) -> None:
    second = await Manager(offer.house).room(offer.hotel_id, type="single", capacity=1)

    changed = await offer.set_terms(If_Match='"v0"')

    assert (changed.status, changed.headers["ETag"]) == (200, '"v1"')
    assert changed.headers["Preference-Applied"] == WAIT["Prefer"]
    assert [(room["room_id"], room["version"]) for room in changed.body["rooms"]] == [(offer.room_id, 1), (second, 1)]
    every = {
        "kind": "tax",
        "percent": None,
        "amount": None,
        "per_night": False,
        "per_person": False,
        "per_room": False,
        "min_age": 0,
        "included": False,
        "collected": "now",
        "start_date": None,
        "end_date": None,
    }
    assert changed.body["taxes"] == [every | VAT, every | CITY]
    assert changed.body["policies"] == [POLICY | {"no_show": {"percent": 100}}]
    assert (await offer.terms()).body == changed.body
    terms = await in_force(worker, second)
    assert (terms["capacity"], terms["infant_max_age"], terms["taxes"][0]["percent_milli"]) == (1, 2, 7125)
    # The terms again, as a client sends them that got them, are no change; an older version is not overwritten.
    again = await offer.set_terms({name: changed.body[name] for name in TERMS})
    assert (again.status, again.body["version"]) == (200, 1)
    assert (await offer.set_terms({}, If_Match='"v0"')).status == 412
    assert (await offer.set_terms({}, If_Match='"v1"')).body["version"] == 2


async def test_plans_are_set_in_order_and_in_force_with_their_policy(offer: Offer, worker: Worker) -> None:
    await offer.set_terms()

    saver = await offer.set_plan("saver")
    strict = await offer.set_plan("strict", {"name": "Strict", "refundable": False})

    assert (saver.status, saver.body["version"], strict.body["version"]) == (200, 2, 3)
    assert saver.body["plan"] == PLAN | {
        "id": "saver",
        "room_id": offer.room_id,
        "refundable": True,
        "price_percent": "89.5",
        "included_adults": 2,
        "child_bands": [{"up_to_age": 5, "price": "0.00"}, {"up_to_age": 12, "price": "15.00"}],
        "rules": [
            PLAN["rules"][0]
            | {"max_nights": None, "advance_days": None}
            | dict.fromkeys(("closed_to_arrival", "closed_to_departure", "stop_sell"), False)
        ],
        "currency": "EUR",
    }
    listed = await offer.plans()
    assert ([plan["id"] for plan in listed.body], listed.headers["ETag"]) == (["standard", "saver", "strict"], '"v3"')
    assert listed.body[1] == saver.body["plan"]
    plans = {plan["id"]: plan for plan in (await in_force(worker, offer.room_id))["plans"]}
    assert (plans["saver"]["times_milli"], plans["saver"]["plus_minor"]) == (895, -350)
    assert plans["saver"]["rules"][0]["end_day"] == "2028-01-01"
    assert plans["saver"]["policy"]["id"] == "two_days"
    # The same plan again is no change; another one keeps its place.
    assert (await offer.set_plan("saver")).body["version"] == 3
    assert (await offer.set_plan("saver", PLAN | {"meals": "none"}, If_Match='"v3"')).body["version"] == 4
    assert [plan["id"] for plan in (await offer.plans()).body] == ["standard", "saver", "strict"]
    assert (await offer.set_plan("saver", If_Match='"v3"')).status == 412


async def test_the_last_plan_of_a_room_stays(offer: Offer, worker: Worker) -> None:
    only = await offer.delete_plan("standard")
    assert (only.status, only.body["reason"]) == (409, "only_plan")
    assert "add another one first" in only.body["detail"]
    await offer.set_plan("saver", PLAN | {"policy_id": None})
    assert (await offer.delete_plan("standard", If_Match='"v9"')).status == 412

    deleted = await offer.delete_plan("standard")

    assert (deleted.status, deleted.headers["ETag"]) == (204, '"v2"')
    assert [plan["id"] for plan in (await in_force(worker, offer.room_id))["plans"]] == ["saver"]
    missing = await offer.delete_plan("standard")
    assert (missing.status, missing.body) == (404, {"detail": "no such rate plan"})
    assert (await offer.delete_plan("saver")).status == 409


async def test_a_policy_that_a_plan_names_stays(offer: Offer) -> None:
    await offer.set_terms()
    await offer.set_plan("saver")

    refused = await offer.set_terms(TERMS | {"policies": []})

    assert (refused.status, refused.body["reason"]) == (409, "policy_in_use")
    assert f"the rate plan saver of room {offer.room_id} names the policy two_days" in refused.body["detail"]
    assert (await offer.terms()).body["version"] == 2
    unknown = await offer.set_plan("other", PLAN | {"policy_id": "none"})
    assert [error["field"] for error in unknown.body["errors"]] == ["policy_id"]
    await offer.set_plan("saver", PLAN | {"policy_id": None})
    assert (await offer.set_terms(TERMS | {"policies": []})).status == 200


async def test_terms_that_make_no_sense_are_refused_and_the_field_is_named(offer: Offer) -> None:
    senseless: list[tuple[dict[str, Any], str]] = [
        ({"taxes": [VAT, CITY | {"amount": "2.005"}]}, "taxes.1.amount"),
        ({"taxes": [CITY, CITY]}, "taxes"),
        ({"taxes": [VAT | {"amount": "1.00"}]}, "taxes.0"),
        ({"taxes": [{"id": "vat", "name": "VAT"}]}, "taxes.0"),
        ({"taxes": [VAT | {"percent": "100.001"}]}, "taxes.0.percent"),
        ({"taxes": [VAT | {"percent": "7.1255"}]}, "taxes.0.percent"),
        ({"taxes": [VAT | {"id": "VAT!"}]}, "taxes.0.id"),
        ({"taxes": [VAT | {"start_date": "2027-01-02", "end_date": "2027-01-01"}]}, "taxes.0"),
        ({"taxes": [CITY | {"amount": "99999999999"}]}, "taxes.0"),
        ({"policies": [POLICY, POLICY]}, "policies"),
        ({"policies": [POLICY | {"steps": [*reversed(POLICY["steps"])]}]}, "policies.0"),  # type: ignore[call-overload]
        ({"policies": [POLICY | {"no_show": {"percent": 1, "nights": 1}}]}, "policies.0.no_show"),
        ({"policies": [POLICY | {"no_show": {"amount": "0.001"}}]}, "policies.0.no_show.amount"),
        ({"policies": [POLICY | {"early_departure_percent": 101}]}, "policies.0.early_departure_percent"),
        ({"taxes": [VAT | {"included": True, "collected": "at_hotel"}]}, "taxes.0"),
        ({"taxes": [VAT | {"per_night": True}]}, "taxes.0"),
        ({"taxes": [VAT | {"per_person": True}]}, "taxes.0"),
        ({"taxes": [VAT | {"per_room": True}]}, "taxes.0"),
        ({"taxes": [CITY | {"per_person": False, "min_age": 13}]}, "taxes.0"),
        ({"infant_max_age": 18}, "infant_max_age"),
        ({"tax": []}, "tax"),
    ]
    for body, field in senseless:
        refused = await offer.set_terms(body)
        assert refused.status == 422, (body, refused)
        assert [error["field"] for error in refused.body["errors"]] == [field], refused
    assert (await offer.terms()).body["version"] == 0


@pytest.mark.parametrize(
    ("tax", "words"),
    [
        (VAT | {"percent": "-1"}, "must not be negative"),
        (VAT | {"percent": "7.1255"}, "at most 12 digits before the point, and three after it"),
        (VAT | {"percent": "7 %"}, "must be a plain number, such as 120.5"),
        (CITY | {"amount": "99999999999"}, "an amount is from 0 to 10000000000.00 EUR, in steps of 0.01 EUR"),
    ],
)
async def test_a_wrong_number_is_refused_in_words_of_its_currency(
    offer: Offer, tax: dict[str, Any], words: str
) -> None:
    refused = await offer.set_terms({"taxes": [tax]})

    assert refused.status == 422
    assert words in refused.body["errors"][0]["message"]


async def test_a_plan_that_makes_no_sense_is_refused_and_the_field_is_named(offer: Offer) -> None:
    senseless: list[tuple[dict[str, Any], str]] = [
        ({"price_percent": "90.55"}, "price_percent"),
        ({"price_percent": -1}, "price_percent"),
        ({"price_plus": "1e3"}, "price_plus"),
        ({"price_plus": "-0.001"}, "price_plus"),
        ({"extra_adult": "-1"}, "extra_adult"),
        ({"child_bands": [{"up_to_age": 5, "price": "0.001"}]}, "child_bands.0.price"),
        ({"child_bands": [{"up_to_age": 18, "price": "1.00"}]}, "child_bands.0.up_to_age"),
        ({"rules": [{"start_date": "2027-01-02", "end_date": "2027-01-01"}]}, "rules.0"),
        ({"rules": [RULE | {"min_nights": 3, "max_nights": 2}]}, "rules.0"),
        ({"rules": [RULE]}, "rules.0"),
        ({"rules": [RULE | {"stop_sell": False}]}, "rules.0"),
        ({"meals": "fish"}, "meals"),
        ({"payment": "later"}, "payment"),
        ({"name": ""}, "name"),
    ]
    for changes, field in senseless:
        refused = await offer.set_plan("saver", PLAN | {"policy_id": None} | changes)
        assert refused.status == 422, (changes, refused)
        assert [error["field"] for error in refused.body["errors"]] == [field], refused
    bands = [{"up_to_age": 12, "price": "1.00"}, {"up_to_age": 5, "price": "1.00"}]
    refused = await offer.set_plan("saver", PLAN | {"policy_id": None, "child_bands": bands})
    assert (refused.status, "age bands ascend" in refused.body["detail"]) == (422, True)
    assert [plan["id"] for plan in (await offer.plans()).body] == ["standard"]


async def test_terms_that_are_too_large_for_a_record_of_the_log_are_refused(
    offer: Offer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pricing.terms.MAX_TERMS_BYTES", 512)
    rules = [
        {"start_date": f"2027-{month:02}-01", "end_date": f"2027-{month:02}-02", "stop_sell": True}
        for month in range(1, 13)
    ]

    refused = await offer.set_plan("saver", {"name": "Saver", "rules": rules})

    assert (refused.status, "use fewer rules" in refused.body["detail"]) == (422, True)
    assert [plan["id"] for plan in (await offer.plans()).body] == ["standard"]


async def test_a_new_room_and_a_changed_capacity_get_the_hotels_terms(offer: Offer, worker: Worker) -> None:
    manager = Manager(offer.house)
    await offer.set_terms()

    second = await manager.room(offer.hotel_id, type="single", capacity=1)
    path = f"/hotels/{offer.hotel_id}/rooms/{second}"
    # The terms were on the log before the room was shown; the decision follows.
    await wait_until(lambda: has_capacity(worker, second, 1))
    wider = await manager.ask("PATCH", path, {"capacity": 3})
    both = await manager.ask("PATCH", path, {"capacity": 4, "total_count": 7})
    same = await manager.ask("PUT", path, ROOM | {"capacity": 4, "total_count": 7})

    assert (wider.status, both.status, same.status) == (200, 200, 200)
    changed = await offer.set_terms()
    assert (changed.body["version"], {room["version"] for room in changed.body["rooms"]}) == (4, {4})
    assert (await in_force(worker, second))["capacity"] == 4


async def test_terms_fix_the_hotels_currency(house: House) -> None:
    manager = Manager(house)
    offer = Offer(house, await manager.hotel(), 0)
    # A hotel without rooms has nothing to wait for.
    assert (await offer.set_terms()).status == 200

    refused = await manager.ask("PATCH", f"/hotels/{offer.hotel_id}", {"currency": "JPY"})

    assert (refused.status, refused.body["reason"]) == (409, "currency_fixed")
    assert "sale terms" in refused.body["detail"]


async def test_another_managers_terms_are_nobodys(offer: Offer) -> None:
    other = Offer(offer.house, offer.hotel_id, offer.room_id, manager=2)
    for answer in (await other.terms(), await other.set_terms(), await other.set_plan("saver")):
        assert (answer.status, answer.body) == (404, {"detail": "no such hotel"})
    assert (await other.plans()).status == 404
    assert (await other.delete_plan("standard")).status == 404
    assert (await Offer(offer.house, offer.hotel_id, 1).set_plan("saver", {"name": "Saver"})).status == 404


async def test_without_waiting_the_answer_is_202_and_names_the_rooms_that_lag(
    house: House, stand_in: StandInWorker
) -> None:
    await stand_in.connection.execute("update hotel set owner_id = 2 where id = 1")
    offer = Offer(house, 1, 1, manager=2)

    answered = await offer.set_terms(Prefer="wait=0")

    assert (answered.status, answered.headers["Location"]) == (202, "/v1/admin/hotels/1/sale-terms")
    assert (answered.headers["ETag"], answered.headers["Retry-After"]) == ('"v1"', "1")
    assert answered.body["rooms"] == [{"room_id": 1, "type": "double", "version": 0}]
    command = (await stand_in.next_command()).message
    assert isinstance(command, SetSaleTerms)
    assert (command.room_id, command.hotel_id, command.terms.version) == (1, 1, 1)
    # The same request again sends the same version again.
    assert (await offer.set_terms(Prefer="wait=0")).status == 202
    assert (await stand_in.next_command()).message == command


async def test_while_the_broker_is_away_the_change_is_stored_and_sent_by_the_same_request_again(
    house: House, stand_in: StandInWorker, database: DatabaseSettings
) -> None:
    await stand_in.connection.execute("update hotel set owner_id = 2 where id = 1")
    offer = Offer(house, 1, 1, manager=2)

    async with run_ingress(ingress_settings(), broker_away(), database, ready=False) as without_broker:
        for _ in range(2):
            away = await offer.on(without_broker).set_terms(Prefer="wait=0")
            assert (away.status, away.body["reason"], away.headers["ETag"]) == (503, "not_sent_yet", '"v1"'), away
            assert "send the same request again" in away.body["detail"]
    assert (await offer.set_terms(Prefer="wait=0", If_Match='"v1"')).status == 202

    command = (await stand_in.next_command()).message
    assert isinstance(command, SetSaleTerms)
    assert (command.terms.version, len(command.terms.taxes)) == (1, 2)


async def test_a_deletion_that_did_not_reach_all_rooms_is_repeated(
    offer: Offer, worker: Worker, kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    await offer.set_plan("saver", PLAN | {"policy_id": None})
    async with run_ingress(ingress_settings(), broker_away(), database, ready=False) as without_broker:
        for _ in range(2):
            away = await offer.on(without_broker).delete_plan("saver", Prefer="wait=0")
            assert (away.status, away.headers["ETag"]) == (503, '"v2"'), away
    assert len((await in_force(worker, offer.room_id))["plans"]) == 2

    again = await offer.delete_plan("saver")

    assert (again.status, again.headers["ETag"]) == (204, '"v2"')
    assert [plan["id"] for plan in (await in_force(worker, offer.room_id))["plans"]] == ["standard"]
    assert (await offer.delete_plan("saver")).status == 404


# A restore of the describing tables from a backup that is older than the log.

BACKUP = "update hotel_sale_terms set version = 1, taxes = '[]', policies = '[]', infant_max_age = null"


async def test_after_a_restore_from_an_older_backup_the_next_change_is_above_the_versions_in_force(
    offer: Offer, worker: Worker
) -> None:
    second = await Manager(offer.house).room(offer.hotel_id, type="single")
    await offer.set_terms({})
    for infant_max_age in range(3):
        await offer.set_terms(TERMS | {"infant_max_age": infant_max_age})
    await worker.connection.execute(BACKUP)

    # The hotel has these terms by its own account, and its rooms are sold by others.
    same = await offer.set_terms({})

    assert (same.status, same.body["version"], {room["version"] for room in same.body["rooms"]}) == (200, 5, {5})
    for room_id in (offer.room_id, second):
        assert "taxes" not in await in_force(worker, room_id)
    # So may a plan be, and a deletion of one that the backup does not have.
    for change in (offer.set_plan("saver", {"name": "Saver"}), offer.delete_plan("strict"), offer.set_terms({})):
        await worker.connection.execute(BACKUP)
        assert (await change).status in {200, 204}
    terms = (await offer.terms()).body
    assert (terms["version"], {room["version"] for room in terms["rooms"]}) == (8, {8})
    assert [plan["id"] for plan in (await in_force(worker, offer.room_id))["plans"]] == ["standard", "saver"]


async def test_without_any_describing_rows_the_next_version_is_above_those_in_force(
    offer: Offer, worker: Worker
) -> None:
    await offer.set_terms()
    await worker.connection.execute("delete from hotel_sale_terms")

    changed = await offer.set_terms({})

    assert (changed.status, changed.body["version"]) == (200, 2)
    assert "taxes" not in await in_force(worker, offer.room_id)


async def test_rooms_whose_newer_terms_the_ledger_does_not_have_yet_refuse_a_change_until_it_is_repeated(
    offer: Offer, worker: Worker
) -> None:
    await offer.set_terms({})
    ((first,),) = await worker.rows("select terms::text from room_sale_terms")
    await offer.set_terms()
    ((second,),) = await worker.rows("select terms::text from room_sale_terms")
    ledger = b"update room_sale_terms set version = %s, terms = %s::jsonb"
    await worker.connection.execute(BACKUP)
    await worker.connection.execute(ledger, (1, first))
    other = {"infant_max_age": 9}

    refused = await offer.set_terms(other)

    assert (refused.status, refused.body["reason"], refused.headers["ETag"]) == (409, "newer_terms", '"v2"')
    assert f"({offer.room_id}): send the same request again" in refused.body["detail"]
    await worker.connection.execute(ledger, (2, second))
    again = await offer.set_terms(other)
    assert (again.status, again.body["version"]) == (200, 3)
    assert (await in_force(worker, offer.room_id))["infant_max_age"] == 9


async def test_during_a_rollout_nothing_is_stored(
    kafka_settings: KafkaSettings, database: DatabaseSettings, house: House, stand_in: StandInWorker
) -> None:
    await stand_in.connection.execute("update hotel set owner_id = 2 where id = 1")
    settings = kafka_settings.model_copy(update={"log_readable_by": Release.V0_1_0})
    async with run_ingress(ingress_settings(), settings, database) as during:
        offer = Offer(during, 1, 1, manager=2)
        block = {"start_date": "2027-01-01", "end_date": "2027-01-02", "reason": "other"}
        for answered in (
            await offer.set_terms(),
            await offer.set_plan("saver", {"name": "Saver"}),
            await offer.delete_plan("standard"),
            await offer.ask("POST", "/rooms/1/blocks", block, Idempotency_Key="once"),
            await during.ask(
                "PATCH",
                f"/v1/admin/inventory/rooms/1?start_date={TODAY + timedelta(days=10)}",
                {"allowance_count": 1},
                headers=during.manager_header(2),
            ),
        ):
            assert (answered.status, answered.body["reason"]) == (503, "release_rolling_out"), answered
            assert "nothing was done" in answered.body["detail"]
        assert (await offer.terms()).body["version"] == 0
        # A hotel that has terms gets no room, and no room of it another capacity, until the end of the rollout.
        assert (await offer.on(house).set_terms(Prefer="wait=0")).status == 202
        assert (await offer.ask("POST", "/rooms", ROOM)).status == 503
        assert (await offer.ask("PATCH", "/rooms/1", {"capacity": 5})).status == 503
        assert (await offer.ask("GET", "/rooms/1")).body["capacity"] == 2
        assert (await offer.ask("PATCH", "/rooms/1", {"type": "twin"})).status == 200


async def test_of_changes_at_once_at_two_processes_the_highest_version_wins_everywhere(
    offer: Offer, worker: Worker, kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    second = await Manager(offer.house).room(offer.hotel_id, type="single")
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(run_ingress(ingress_settings(), kafka_settings, database))
        at_other = offer.on(other)
        changes = [
            request
            for number in range(4)
            for request in (
                offer.set_terms(TERMS | {"infant_max_age": number}),
                at_other.set_plan(f"plan{number}", {"name": f"Plan {number}"}),
                at_other.set_terms(TERMS | {"infant_max_age": 10 + number}),
            )
        ]
        answers = await asyncio.gather(*changes)

    assert {answer.status for answer in answers} <= {200, 202}, answers
    last = await offer.set_terms({name: (await offer.terms()).body[name] for name in TERMS})
    assert (last.status, last.body["version"], {room["version"] for room in last.body["rooms"]}) == (200, 12, {12})
    for room_id in (offer.room_id, second):
        terms = await in_force(worker, room_id)
        assert (terms["version"], terms["infant_max_age"]) == (12, last.body["infant_max_age"])
    plans = {plan["id"] for plan in (await in_force(worker, offer.room_id))["plans"]}
    assert plans == {"standard", "plan0", "plan1", "plan2", "plan3"}
