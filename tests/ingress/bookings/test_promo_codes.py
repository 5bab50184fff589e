"""Promo codes on quotes and requests for a stay: the ingress finds the code, and the log decides its use."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from storage.settings import DatabaseSettings
from tests.ingress.conftest import ingress_settings, run_ingress
from tests.ingress.house import STAY, STAY_TIMES, TODAY, WAIT, House, LoggedCommand, StandInWorker
from tests.ingress.managers import Worker, open_worker
from tests.support.client import Answer
from tests.support.waiting import wait_until
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import ClaimCode, ReserveStay
from topics.messages.events import BookingRejected, BookingReserved, CodeUnchanged
from topics.messages.releases import Release
from topics.messages.values import Rejection

ARRIVAL = TODAY + timedelta(days=10)
GUEST, OTHER = 1, 2


@pytest.fixture
async def worker(kafka_settings: KafkaSettings, database: DatabaseSettings, house: House) -> AsyncIterator[Worker]:
    """A worker that decides; hotel 1 is the guest's own."""
    async with open_worker(kafka_settings, database) as worker:
        await worker.rows("update hotel set owner_id = %s where id = 1 returning id", GUEST)
        yield worker


async def add_code(house: House, code: str = "SUMMER", **terms: Any) -> None:
    """Add a code to hotel 1, and wait until it is in force."""
    body = {"code": code, **({"percent": 10} | terms)}
    added = await house.post("/v1/admin/hotels/1/codes", body, headers=house.manager_header(GUEST) | WAIT)
    assert added.status == 201, added


async def quote(house: House, *, user: int = GUEST, **changes: Any) -> Answer:
    return await house.post("/v1/quotes", STAY | changes, user=user)


async def known_code(stand_in: StandInWorker, text: str = "SUMMER") -> int:
    """Write the name of a code of hotel 1; return its id."""
    found = await stand_in.connection.execute(
        "insert into promo_code_name (hotel_id, code) values (1, %s) returning id", (text,)
    )
    ((code_id,),) = await found.fetchall()
    return int(code_id)


async def init(house: House, *, headers: dict[str, str] | None = None, **fields: Any) -> Answer:
    return await house.post("/v1/bookings/init", STAY | fields, user=GUEST, headers=headers or {})


@pytest.mark.usefixtures("worker")
async def test_a_quote_has_the_discount_in_its_price(house: House) -> None:
    await add_code(house)

    (plain,) = (await quote(house)).body["offers"]
    (less,) = (await quote(house, promo_code="summer")).body["offers"]

    # Two nights, 180.00 and 165.02, less a tenth.
    assert (plain["total"], less["total"]) == ("345.02", "310.52")
    assert [line["amount"] for line in less["lines"]] == ["310.52"]
    assert (less["promo_code"], less["discount"]) == ("SUMMER", "34.50")
    assert {"promo_code", "discount"}.isdisjoint(plain)


@pytest.mark.usefixtures("worker")
async def test_a_code_that_does_not_count_for_the_stay_gets_no_quote(house: House) -> None:
    for code, terms in (
        ("LATER", {"valid_from": "2199-01-01T00:00:00Z"}),
        ("OVER", {"valid_until": "2020-01-01T00:00:00Z"}),
        ("AFTER", {"start_date": str(ARRIVAL + timedelta(days=1))}),
        ("BEFORE", {"end_date": str(ARRIVAL)}),
        ("OFF", {"active": False}),
    ):
        await add_code(house, code, **terms)
        refused = await quote(house, promo_code=code)
        assert (refused.status, refused.body["reason"]) == (409, "code_not_valid"), code
        assert "does not count for this stay" in refused.body["detail"]
    await add_code(house, start_date=str(ARRIVAL), end_date=str(ARRIVAL + timedelta(days=1)), room_ids=[1])
    assert (await quote(house, promo_code="SUMMER")).status == 200


async def test_a_code_without_uses_left_gets_no_quote(house: House, worker: Worker) -> None:
    await add_code(house, max_uses=2, max_account_uses=1)
    await worker.rows(
        "insert into promo_code_use (code_id, booking_id, user_id, returned)"
        " select id, gen_random_uuid(), %s, returned from promo_code, unnest(array[false, true]) as returned"
        " returning code_id",
        GUEST,
    )

    by_account = await quote(house, promo_code="SUMMER")
    by_another = await quote(house, promo_code="SUMMER", user=OTHER)
    await worker.rows("update promo_code set used_count = 2 returning id")
    used_up = await quote(house, promo_code="SUMMER", user=OTHER)

    assert (by_account.status, by_account.body["reason"]) == (409, "code_used_by_account")
    assert by_another.status == 200
    assert (used_up.status, used_up.body["reason"]) == (409, "code_used_up")


@pytest.mark.usefixtures("worker")
async def test_an_amount_in_another_currency_than_the_nights_gets_no_quote(house: House, worker: Worker) -> None:
    await add_code(house, percent=None, amount="10.00")
    assert (await quote(house, promo_code="SUMMER")).body["offers"][0]["total"] == "335.02"
    await worker.rows("update inventory set currency = 'CHF' returning room_id")
    refused = await quote(house, promo_code="SUMMER")
    assert (refused.status, refused.body["reason"]) == (409, "code_not_valid")


@pytest.mark.parametrize("path", ["/v1/quotes", "/v1/bookings/init"])
async def test_an_unknown_code_is_refused_at_once(house: House, stand_in: StandInWorker, path: str) -> None:
    await stand_in.connection.execute("insert into promo_code_name (hotel_id, code) values (2, 'SUMMER')")
    for code in ("SUMMER", "no words' end; %s", "ä"):
        refused = await house.post(path, STAY | {"promo_code": code}, user=GUEST, headers={"Idempotency-Key": "k"})
        assert (refused.status, refused.body["reason"]) == (409, "no_such_code"), refused
    for wrong in ("", "a" * 41, "a\x00b", 5):
        assert (await house.post(path, STAY | {"promo_code": wrong}, user=GUEST)).status == 422
    # A room or a hotel that does not exist is that, first of all.
    missing = await house.post(path, STAY | {"promo_code": "SUMMER", "room_id": 99}, user=GUEST)
    assert (missing.status, missing.body["detail"]) == (404, "the hotel has no such room")


async def test_a_stay_with_a_code_claims_its_use_and_is_answered_by_its_room(
    house: House, stand_in: StandInWorker
) -> None:
    code_id = await known_code(stand_in)
    asking = asyncio.create_task(init(house, headers=WAIT, promo_code="suMMer"))
    command = await stand_in.next_command()

    message = command.message
    assert isinstance(message, ClaimCode)
    reserve = message.reserve
    assert reserve is not None
    assert (message.code_id, command.key) == (code_id, b"%d" % code_id)
    assert (reserve.user_id, reserve.room_id, reserve.discount, reserve.stay_times) == (GUEST, 1, None, STAY_TIMES)
    await stand_in.publish(command, _reserved(reserve))

    answer = await asking
    assert (answer.status, answer.body["id"], answer.body["amount"]) == (201, str(reserve.booking_id), "310.52")


async def test_a_refused_use_is_answered_with_its_reason_in_words(house: House, stand_in: StandInWorker) -> None:
    await known_code(stand_in)
    asking = asyncio.create_task(init(house, headers=WAIT, promo_code="SUMMER"))
    command = await stand_in.next_command()
    assert isinstance(command.message, ClaimCode)
    reserve = command.message.reserve
    assert reserve is not None
    rejected = BookingRejected(
        room_id=1,
        booking_id=reserve.booking_id,
        user_id=GUEST,
        hotel_id=1,
        check_in=reserve.check_in,
        check_out=reserve.check_out,
        rooms_count=1,
        reason=Rejection.CODE_USED_UP,
    )
    await stand_in.publish(command, rejected)
    answer = await asking
    assert (answer.status, answer.body["reason"], answer.body["booking_status"]) == (409, "code_used_up", "REJECTED")
    assert "used as often as it may be" in answer.body["detail"]


async def test_a_repeated_request_is_one_claim_and_is_pending_until_its_room_has_decided(
    house: House, stand_in: StandInWorker
) -> None:
    await known_code(stand_in)
    key = {"Idempotency-Key": "once"}
    first = await init(house, headers=key, promo_code="SUMMER")
    assert (first.status, first.body["booking_status"]) == (202, "PENDING")
    claim = await stand_in.next_command()

    async def repeated() -> Answer:
        asking = asyncio.create_task(init(house, headers=WAIT | key, promo_code="SUMMER"))
        again = await stand_in.next_command()
        assert (again.envelope.id, again.message) == (claim.envelope.id, claim.message)
        await _publish_unchanged(stand_in, again)
        return await asking

    pending = await repeated()
    assert (pending.status, pending.body["id"]) == (202, first.body["id"])
    await stand_in.write_booking(UUID(first.body["id"]), GUEST, "RESERVED")
    decided = await repeated()
    assert (decided.status, decided.body["id"], decided.body["booking_status"]) == (201, first.body["id"], "RESERVED")
    other = await init(house, headers=key)
    assert other.status == 422


async def _publish_unchanged(stand_in: StandInWorker, command: LoggedCommand) -> None:
    assert isinstance(command.message, ClaimCode)
    unchanged = CodeUnchanged(code_id=command.message.code_id, command=ClaimCode.message_type)
    await stand_in.publish(command, unchanged)


async def test_requests_with_a_code_count_as_unpaid_bookings(
    kafka_settings: KafkaSettings, database: DatabaseSettings, house: House, stand_in: StandInWorker
) -> None:
    await known_code(stand_in)
    async with run_ingress(ingress_settings(max_unpaid_bookings=1), kafka_settings, database) as strict:
        assert (await init(strict, promo_code="WRONG")).status == 409
        assert (await init(strict, promo_code="SUMMER")).status == 202
        refused = await init(strict, promo_code="SUMMER")
    assert (refused.status, refused.body["reason"]) == (429, "too_many_unpaid")


async def test_a_quote_is_bound_to_its_code_which_init_claims(house: House, worker: Worker) -> None:
    await add_code(house)
    await add_code(house, "WINTER")
    ((summer,),) = await worker.rows("select id from promo_code_name where code = 'SUMMER'")
    token = (await quote(house, promo_code="Summer")).body["offers"][0]["token"]
    plain = (await quote(house)).body["offers"][0]["token"]

    for wrong in ({"quote": token, "promo_code": "WINTER"}, {"quote": plain, "promo_code": "SUMMER"}):
        refused = await init(house, **wrong)
        assert (refused.status, refused.body["errors"][0]["field"]) == (422, "promo_code")

    for fields in ({"quote": token}, {"quote": token, "promo_code": "SUMMER"}):
        accepted = await init(house, **fields)
        assert accepted.status == 202, accepted
    uses = await _uses(worker, 2)
    assert uses == [(summer, GUEST)] * 2


async def _uses(worker: Worker, count: int) -> list[tuple[int, int]]:
    async def there() -> list[tuple[Any, ...]]:
        rows = list(await worker.rows("select code_id, user_id from promo_code_use"))
        return rows if len(rows) == count else []

    found: list[tuple[int, int]] = await wait_until(there)
    return found


async def test_workers_of_the_release_before_get_no_claim(
    kafka_settings: KafkaSettings, database: DatabaseSettings, house: House, stand_in: StandInWorker
) -> None:
    await known_code(stand_in)
    rolling = kafka_settings.model_copy(update={"log_readable_by": Release.V0_1_0})
    async with run_ingress(ingress_settings(), rolling, database) as old:
        refused = await init(old, promo_code="SUMMER")
    assert (refused.status, refused.body["reason"]) == (503, "release_rolling_out")


def _reserved(reserve: ReserveStay) -> BookingReserved:
    return BookingReserved(
        room_id=reserve.room_id,
        booking_id=reserve.booking_id,
        user_id=reserve.user_id,
        hotel_id=reserve.hotel_id,
        check_in=reserve.check_in,
        check_out=reserve.check_out,
        rooms_count=reserve.rooms_count,
        amount_minor=31_052,
        currency="EUR",
    )
