"""A hotel's promo codes: set by its manager, decided by the code's worker, and read with their uses."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from storage.settings import DatabaseSettings
from tests.ingress.conftest import broker_away, ingress_settings, run_ingress
from tests.ingress.house import WAIT, House
from tests.ingress.managers import Manager, Worker, open_worker
from tests.support.client import Answer
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import SetCode
from topics.messages.releases import Release
from topics.messages.sale import CodeTerms

PERCENT: dict[str, Any] = {
    "percent": "12.5",
    "valid_from": "2026-01-01T00:00:00+02:00",
    "valid_until": "2030-01-01T00:00:00Z",
    "start_date": "2027-06-01",
    "end_date": "2027-08-31",
    "max_uses": 100,
    "max_account_uses": 1,
}
SHOWN: dict[str, Any] = {
    "percent": "12.500",
    "amount": None,
    "currency": None,
    "valid_from": "2025-12-31T22:00:00Z",
    "valid_until": "2030-01-01T00:00:00Z",
    "start_date": "2027-06-01",
    "end_date": "2027-08-31",
    "room_ids": [],
    "max_uses": 100,
    "max_account_uses": 1,
    "active": True,
}


@pytest.fixture
async def worker(kafka_settings: KafkaSettings, database: DatabaseSettings) -> AsyncIterator[Worker]:
    async with open_worker(kafka_settings, database) as worker:
        yield worker


class Codes:
    """Requests of a manager about the promo codes of a hotel with one room; they wait for their decisions."""

    def __init__(self, house: House, hotel_id: int, room_id: int, manager: int = 1) -> None:
        self.house = house
        self.hotel_id = hotel_id
        self.room_id = room_id
        self.manager = manager

    async def ask(self, method: str, path: str = "", body: Any = None, **headers: str) -> Answer:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = self.house.manager_header(self.manager) | WAIT | given
        return await self.house.ask(method, f"/v1/admin/hotels/{self.hotel_id}/codes{path}", body, headers=sent)

    async def add(self, code: str = "SUMMER", **fields: Any) -> Answer:
        return await self.ask("POST", "", {"code": code, **(fields or PERCENT)})

    def by(self, manager: int) -> "Codes":
        """Return the same requests by another account."""
        return Codes(self.house, self.hotel_id, self.room_id, manager)


@pytest.fixture
async def codes(house: House, worker: Worker) -> Codes:
    manager = Manager(house)
    hotel_id = await manager.hotel()
    return Codes(house, hotel_id, await manager.room(hotel_id))


async def test_a_code_is_in_force_and_is_read_as_it_was_sent(codes: Codes) -> None:
    added = await codes.add()

    assert (added.status, added.headers["ETag"]) == (201, '"v1"'), added
    assert added.headers["Location"] == f"/v1/admin/hotels/{codes.hotel_id}/codes/SUMMER"
    assert added.headers["Preference-Applied"] == WAIT["Prefer"]
    shown = dict(added.body)
    assert shown.pop("created_at")
    assert shown == {
        "code": "SUMMER",
        "hotel_id": codes.hotel_id,
        "version": 1,
        "version_in_force": 1,
        "used_count": 0,
        "terms": SHOWN,
    }
    read = await codes.ask("GET", "/summer")
    assert (read.status, read.body, read.headers["ETag"]) == (200, added.body, '"v1"')


async def test_a_discount_in_money_is_of_the_hotels_currency_and_for_rooms_of_the_hotel(codes: Codes) -> None:
    added = await codes.add("TEN", amount="10.00", room_ids=[codes.room_id, codes.room_id])
    assert added.status == 201, added
    terms = added.body["terms"]
    assert (terms["amount"], terms["currency"], terms["percent"]) == ("10.00", "EUR", None)
    assert terms["room_ids"] == [codes.room_id]


async def test_other_terms_raise_the_version_and_the_same_again_do_not(codes: Codes, worker: Worker) -> None:
    await codes.add()

    changed = await codes.ask("PUT", "/SUMMER", {"percent": 20}, If_Match='"v1"')
    again = await codes.ask("PUT", "/SUMMER", {"percent": 20})
    stale = await codes.ask("PUT", "/SUMMER", {"percent": 30}, If_Match='"v1"')

    assert (changed.status, changed.headers["ETag"], changed.body["version_in_force"]) == (200, '"v2"', 2)
    assert (changed.body["terms"]["percent"], changed.body["terms"]["max_uses"]) == ("20.000", None)
    assert (again.status, again.body) == (200, changed.body)
    assert (stale.status, stale.body["reason"]) == (412, "changed_meanwhile")
    assert await worker.rows("select version, terms ->> 'percent_milli' from promo_code") == [(2, "20000")]


async def test_a_deactivated_code_stays_in_the_list_until_it_is_set_again(codes: Codes) -> None:
    await codes.add()
    await codes.add("WINTER", percent=5)

    gone = [await codes.ask("DELETE", "/SUMMER") for _ in range(2)]

    assert [(answer.status, answer.headers["ETag"]) for answer in gone] == [(204, '"v2"')] * 2
    listed = (await codes.ask("GET")).body
    assert [(code["code"], code["version"], code["terms"]["active"]) for code in listed] == [
        ("SUMMER", 2, False),
        ("WINTER", 1, True),
    ]
    assert listed[0]["terms"] == SHOWN | {"active": False}
    assert (await codes.ask("PUT", "/SUMMER", PERCENT)).body["terms"] == SHOWN


async def test_codes_come_in_pages(codes: Codes) -> None:
    for number in range(3):
        await codes.add(f"CODE{number}", percent=5)
    first = await codes.ask("GET", "?limit=2")
    assert [code["code"] for code in first.body] == ["CODE0", "CODE1"]
    (address,) = first.headers["Link"].split(";")[:1]
    rest = await codes.ask("GET", address.strip("<>").partition("/codes")[2])
    assert ([code["code"] for code in rest.body], "Link" in rest.headers) == (["CODE2"], False)


async def test_a_hotel_has_each_code_once_whatever_its_case(codes: Codes, house: House) -> None:
    await codes.add()
    taken = await codes.add("Summer", percent=5)
    assert (taken.status, taken.body["reason"]) == (409, "code_exists")
    other = Codes(house, await Manager(house).hotel(), 0)
    assert (await other.add("summer", percent=5)).status == 201


#: Terms that are wrong, with words of the refusal.
WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "a code has a percent or an amount"),
    ({"percent": 5, "amount": "1.00"}, "a code has a percent or an amount"),
    ({"percent": 0}, "greater than 0"),
    ({"percent": "100.5"}, "less than or equal to 100"),
    ({"amount": "0.001"}, "EUR has 2 digits"),
    ({"amount": "999999999999"}, "at most"),
    ({"amount": 0}, "greater than 0"),
    ({"percent": 5, "room_ids": [999_999]}, "the hotel has no such room: 999999"),
    ({"percent": 5, "start_date": "2027-02-02", "end_date": "2027-02-01"}, "end_date must not be before"),
    (
        {"percent": 5, "valid_from": "2027-02-02T00:00:00Z", "valid_until": "2027-02-02T00:00:00Z"},
        "valid_until must be after",
    ),
    ({"percent": 5, "valid_from": "2027-02-02T00:00:00"}, "timezone"),
    ({"percent": 5, "valid_from": "0001-01-01T00:00:00+14:00"}, "valid_from: must be between 1970 and 2200"),
    ({"percent": 5, "valid_until": "9999-12-31T23:59:59-14:00"}, "valid_until: must be between 1970 and 2200"),
    ({"percent": 5, "max_uses": 0}, "greater than or equal to 1"),
    ({"percent": 5, "max_account_uses": 1_000_001}, "less than or equal to 1000000"),
]


async def test_terms_that_are_wrong_are_refused_in_words(codes: Codes) -> None:
    await codes.add()
    for body, words in WRONG:
        for refused in (
            await codes.ask("PUT", "/SUMMER", body),
            await codes.ask("POST", "", {"code": "NEW", **body}),
        ):
            assert (refused.status, words in refused.body["detail"]) == (422, True), (body, refused)
    assert [(code["code"], code["version"]) for code in (await codes.ask("GET")).body] == [("SUMMER", 1)]


async def test_a_code_is_a_short_word(codes: Codes) -> None:
    for text in ("", "TWO WORDS", "_A", "A" * 41, "ÄPFEL", "A\n"):
        refused = await codes.add(text)
        assert (refused.status, refused.body["errors"][0]["field"]) == (422, "code"), text
        if len(text) <= 40:
            assert refused.body["errors"][0]["message"].startswith("must have 1 to 40 letters, digits"), text


async def test_codes_are_their_hotels_managers_alone(codes: Codes) -> None:
    await codes.add()
    stranger = codes.by(2)
    for refused in (
        await stranger.ask("GET"),
        await stranger.add("NEW", percent=5),
        await stranger.ask("GET", "/SUMMER"),
        await stranger.ask("PUT", "/SUMMER", {"percent": 5}),
        await stranger.ask("DELETE", "/SUMMER"),
        await codes.ask("GET", "/WINTER"),
        await codes.ask("PUT", "/WINTER", {"percent": 5}),
        await codes.ask("DELETE", "/WINTER"),
    ):
        assert refused.status == 404, refused


async def test_a_change_that_the_broker_did_not_take_goes_on_when_it_is_sent_again(
    codes: Codes, database: DatabaseSettings
) -> None:
    async with run_ingress(ingress_settings(), broker_away(), database, ready=False) as away:
        away_codes = Codes(away, codes.hotel_id, codes.room_id)
        unsent = await away_codes.ask("POST", "", {"code": "SUMMER", **PERCENT}, Prefer="wait=0")
        assert (unsent.status, unsent.body["reason"]) == (503, "not_sent_yet")
    pending = await codes.ask("GET", "/SUMMER")
    assert (pending.body["version_in_force"], pending.body["terms"]) == (0, None)
    early = await codes.ask("DELETE", "/SUMMER")
    assert (early.status, early.body["reason"]) == (409, "pending")

    added = await codes.add()

    assert (added.status, added.body["version"], added.body["version_in_force"]) == (201, 2, 2)


async def test_a_request_that_does_not_wait_is_accepted_and_shows_what_is_in_force(
    codes: Codes, worker: Worker
) -> None:
    added = await codes.ask("POST", "", {"code": "SOON", "percent": 5}, Prefer="wait=0")
    assert (added.status, added.headers["Location"]) == (202, f"/v1/admin/hotels/{codes.hotel_id}/codes/SOON")
    assert added.body["version"] == 1


async def test_terms_go_on_above_those_in_force_after_a_restore(codes: Codes, worker: Worker) -> None:
    """The code's row comes from a backup that is older than the log."""
    await codes.add()
    for percent in (6, 7, 8):
        await codes.ask("PUT", "/SUMMER", {"percent": percent})
    await worker.rows("update promo_code_name set version = 1 returning id")

    changed = await codes.ask("PUT", "/SUMMER", {"percent": 9})

    assert (changed.status, changed.body["version"], changed.body["version_in_force"]) == (200, 5, 5)


async def test_newer_terms_of_another_writer_are_a_conflict(codes: Codes, worker: Worker) -> None:
    await codes.add()
    ((code_id,),) = await worker.rows("select id from promo_code_name")
    # The row knows nothing of a version that is on its way.
    await worker._send(
        SetCode(code_id=code_id, hotel_id=codes.hotel_id, terms=CodeTerms(version=9, code="SUMMER", percent_milli=1))
    )

    refused = await codes.ask("PUT", "/SUMMER", {"percent": 9})
    assert (refused.status, refused.body.get("reason")) in ((409, "newer_terms"), (200, None))
    changed = await codes.ask("PUT", "/SUMMER", {"percent": 9})

    assert (changed.status, changed.body["terms"]["percent"]) == (200, "9.000")
    assert changed.body["version_in_force"] == changed.body["version"]


async def test_workers_of_the_release_before_get_no_code(
    codes: Codes, kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    rolling = kafka_settings.model_copy(update={"log_readable_by": Release.V0_1_0})
    async with run_ingress(ingress_settings(), rolling, database) as house:
        refused = await Codes(house, codes.hotel_id, codes.room_id).add()
    assert (refused.status, refused.body["reason"]) == (503, "release_rolling_out")
    assert (await codes.ask("GET")).body == []
