"""Changes of stays: the requests of guests and managers, the commands that follow, and how bookings show changes."""

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from ingress.application import DATABASE
from ingress.tokens import ChangeQuote, QuoteTokens
from tests.ingress.bookings.test_sales_shown import price
from tests.ingress.conftest import ingress_settings
from tests.ingress.house import STAY, STAY_TIMES, TODAY, WAIT, House, LoggedCommand, StandInWorker
from tests.support.client import Answer
from tests.support.hotels import HotelsInTables
from topics.messages.commands import ChangeStay, WithdrawChange
from topics.messages.events import (
    BookingEvent,
    ChangeEnded,
    ChangeRejected,
    CheckoutOpened,
    CommandRefused,
    CommandRepeated,
    PaymentDeclined,
    StayBefore,
    StayChanged,
)
from topics.messages.sale import CancellationStep, Party
from topics.messages.values import MAX_CHANGES, MAX_PAYMENTS_ASKED, BookingStatus, ChangeEnd, Refusal, Rejection

GUEST, MANAGER, OTHER_MANAGER = 1, 2, 3
FIRST, END = (date.fromisoformat(str(STAY[name])) for name in ("check_in_date", "check_out_date"))
LATER = END + timedelta(days=1)
EXPIRES_AT = datetime(2100, 1, 1, 12, tzinfo=UTC)
CHANGE_ID = UUID("01980000-0000-5000-8000-000000000001")


def stay(check_out: date = LATER, amount_minor: int = 36_000, **fields: Any) -> dict[str, Any]:
    """Return a stay as the ledger writes it."""
    before = StayBefore(check_in=FIRST, check_out=check_out, rooms_count=1, amount_minor=amount_minor, **fields)
    written: dict[str, Any] = msgspec.to_builtins(before)
    return written


def held(**fields: Any) -> dict[str, Any]:
    """Return the columns of a booking with a change that waits for its payment."""
    change = {"id": str(CHANGE_ID), "stay": stay(**fields), "extra_minor": 12_000, "attempt": 2}
    return {"pending_change": json.dumps(change), "hold_expires_at": EXPIRES_AT, "payment_attempt": 2}


HELD_SHOWN = {
    "id": str(CHANGE_ID),
    "check_in_date": str(FIRST),
    "check_out_date": str(LATER),
    "rooms_count": 1,
    "amount": "360.00",
    "extra": "120.00",
    "expires_at": "2100-01-01T12:00:00Z",
}


def changed(booking_id: UUID, change_id: UUID) -> StayChanged:
    """Return the event of a change."""
    before = StayBefore(check_in=FIRST, check_out=END, rooms_count=1, amount_minor=24_000)
    return StayChanged(
        room_id=1,
        booking_id=booking_id,
        change_id=change_id,
        check_in=FIRST,
        check_out=LATER,
        rooms_count=1,
        amount_minor=36_000,
        currency="EUR",
        night_amounts_minor=(12_000,) * 3,
        before=before,
    )


@pytest.fixture
async def desk(stand_in: StandInWorker, house: House) -> StandInWorker:
    """The stand-in worker; hotel 1 is the manager's."""
    await stand_in.connection.execute("update hotel set owner_id = %s where id = 1", (MANAGER,))
    return stand_in


def path_of(booking_id: UUID, *, by_manager: bool) -> str:
    return f"/v1{'/admin/hotels/1' if by_manager else ''}/bookings/{booking_id}/changes"


async def ask(
    house: House,
    booking_id: UUID,
    body: Any = None,
    *,
    by_manager: bool = False,
    method: str = "POST",
    tail: str = "",
    headers: Mapping[str, str] = {},
) -> Answer:
    caller = house.manager_header(MANAGER) if by_manager else house.user_header(GUEST)
    path = path_of(booking_id, by_manager=by_manager) + tail
    return await house.ask(method, path, body, headers=caller | dict(headers))


async def answered(
    house: House, desk: StandInWorker, booking_id: UUID, event: Any, body: Any, *, by_manager: bool = False
) -> Answer:
    """Ask for a change and wait; the event answers it, and may be made from the command."""
    asking = asyncio.create_task(ask(house, booking_id, body, by_manager=by_manager, headers=WAIT))
    command = await desk.next_command()
    await desk.publish(command, event if isinstance(event, BookingEvent) else event(command))
    return await asking


def message(command: LoggedCommand) -> ChangeStay:
    assert isinstance(command.message, ChangeStay)
    return command.message


both = pytest.mark.parametrize("by_manager", [False, True], ids=["guest", "manager"])


@both
async def test_a_change_keeps_what_is_left_out_and_a_repeated_request_is_the_same_change(
    house: House, desk: StandInWorker, *, by_manager: bool
) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED")
    body = {"check_out_date": str(LATER)}

    answers = [
        await ask(house, booking_id, body, by_manager=by_manager, headers={"Idempotency-Key": "once"}) for _ in range(2)
    ]

    first, second = await desk.next_command(), await desk.next_command()
    assert first.envelope.id == second.envelope.id
    sent = message(first)
    assert sent == message(second)
    assert sent == ChangeStay(
        room_id=1,
        booking_id=booking_id,
        change_id=sent.change_id,
        user_id=None if by_manager else GUEST,
        check_in=FIRST,
        check_out=LATER,
        rooms_count=1,
        stay_times=STAY_TIMES,
        account_share_percent=None if by_manager else 50,
    )
    for answer in answers:
        assert answer.status == 202
        assert answer.body == {
            "id": str(booking_id),
            "booking_status": "CONFIRMED",
            "change_id": str(sent.change_id),
        }
        where = "/v1/admin/hotels/1/bookings" if by_manager else f"/v1/bookings/{booking_id}"
        assert answer.headers["Location"] == where


async def test_each_request_without_a_key_is_a_change_of_its_own(house: House, desk: StandInWorker) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED")
    for _ in range(2):
        await ask(house, booking_id, {"rooms_count": 2})
    first, second = message(await desk.next_command()), message(await desk.next_command())
    assert first.change_id != second.change_id
    assert (first.rooms_count, first.check_in, first.check_out) == (2, FIRST, END)


PEOPLE: list[tuple[dict[str, Any], Party]] = [
    ({"adults": 1}, Party(adults=1, child_ages=(5,))),
    ({"children": [7, 9]}, Party(adults=2, child_ages=(7, 9))),
    ({"children": []}, Party(adults=2)),
    ({"adults": 1, "children": []}, Party(adults=1)),
]


@pytest.mark.parametrize(("body", "party"), PEOPLE, ids=str)
async def test_people_who_are_left_out_are_those_of_the_booking(
    house: House, desk: StandInWorker, body: dict[str, Any], party: Party
) -> None:
    sale = msgspec.json.encode(price(10).sale).decode()
    booking_id = await desk.add_booking(GUEST, "CONFIRMED", sale=sale)
    await desk.connection.execute("update room set capacity = 4 where id = 1")
    assert (await ask(house, booking_id, body)).status == 202
    assert message(await desk.next_command()).party == party


NONSENSE: list[tuple[dict[str, Any], int, str]] = [
    ({"check_out_date": str(FIRST)}, 422, "check_out_date must be after check_in_date"),
    ({"check_in_date": str(TODAY - timedelta(days=1))}, 422, "check_in_date is in the past"),
    ({"check_out_date": str(FIRST + timedelta(days=31))}, 422, "a stay is at most 30 nights"),
    ({"children": [4]}, 422, "is needed with children"),
    ({"rooms_count": 11}, 422, "rooms_count"),
    ({"check_in": str(FIRST)}, 422, "check_in"),
    ({"adults": 3}, 409, "the rooms do not hold so many people"),
]


@both
async def test_a_change_that_makes_no_sense_is_refused_at_once(
    house: House, desk: StandInWorker, *, by_manager: bool
) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED")
    for body, status, words in NONSENSE:
        answer = await ask(house, booking_id, body, by_manager=by_manager)
        assert answer.status == status, (body, answer)
        assert words in json.dumps(answer.body)


async def test_a_stay_keeps_a_place_for_each_guest_who_is_named(house: House, desk: StandInWorker) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED", rooms_count=2)
    for name in ("Ada", "Grace", "Mary"):
        guest = (await house.post("/v1/users/guests", {"name": name}, user=GUEST)).body["id"]
        await desk.connection.execute("insert into booking_guest values (%s, %s)", (booking_id, guest))

    refused = [await ask(house, booking_id, body) for body in ({"rooms_count": 1}, {"adults": 2})]

    for answer in refused:
        assert (answer.status, answer.body["reason"]) == (409, "too_many_guests")
        assert "3 guests are named, and the stay would have place for 2" in answer.body["detail"]
    assert (await ask(house, booking_id, {"adults": 3})).status == 202


async def test_a_stay_that_has_begun_and_a_closed_hotel(house: House, desk: StandInWorker) -> None:
    began = await desk.add_booking(GUEST, "CONFIRMED", check_in=TODAY - timedelta(days=1))
    # The log refuses it, in its own words.
    assert (await ask(house, began, {"check_out_date": str(END - timedelta(days=1))})).status == 202
    booking_id = await desk.add_booking(GUEST, "CONFIRMED")
    await desk.connection.execute("update hotel set active = false where id = 1")

    async def closed() -> Answer:
        return await ask(house, booking_id, {"check_out_date": str(LATER)})

    answer = await closed()
    while answer.status == 202:
        # The facts of a room are remembered for a moment.
        answer = await closed()
    assert (answer.status, answer.body["reason"]) == (409, "hotel_not_active")
    by_manager = await ask(house, booking_id, {"check_out_date": str(LATER)}, by_manager=True)
    assert by_manager.status == 202


async def test_a_change_that_was_waited_for_shows_the_booking(house: House, desk: StandInWorker) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED")

    def event(command: LoggedCommand) -> StayChanged:
        return changed(booking_id, message(command).change_id)

    asking = asyncio.create_task(ask(house, booking_id, {"check_out_date": str(LATER)}, headers=WAIT))
    command = await desk.next_command()
    before = [{"change_id": str(CHANGE_ID), "stay": stay(END, 24_000)}]
    await desk.connection.execute(
        "update booking set check_out = %s, amount_minor = 36000, earlier_stays = %s where id = %s",
        (LATER, json.dumps(before), booking_id),
    )
    await desk.publish(command, event(command))
    answer = await asking

    assert (answer.status, answer.headers["Preference-Applied"]) == (200, WAIT["Prefer"])
    assert (answer.body["check_out_date"], answer.body["amount"]) == (str(LATER), "360.00")
    assert answer.body["earlier_stays"] == [
        {
            "change_id": str(CHANGE_ID),
            "check_in_date": str(FIRST),
            "check_out_date": str(END),
            "rooms_count": 1,
            "amount": "240.00",
        }
    ]
    assert "pending_change" not in answer.body


async def open_page(desk: StandInWorker, booking_id: UUID, attempt: int = 2, status: str = "open") -> str:
    """Write the row of a page to pay at; return its address."""
    url = f"https://pay.example/{attempt}"
    await desk.connection.execute(
        "insert into checkout_session (booking_id, attempt, room_id, status, params, idempotency_key, url, expires_at, "
        "causation, correlation) values (%s, %s, 1, %s, '{}', %s, %s, now(), 'c', 'c')",
        (booking_id, attempt, status, f"{booking_id}:{attempt}", url),
    )
    return url


@both
async def test_a_dearer_change_shows_where_it_is_paid(house: House, desk: StandInWorker, *, by_manager: bool) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED", **held())
    # The page of the first payment stays open for a while.
    await open_page(desk, booking_id, attempt=1)
    url = await open_page(desk, booking_id)
    opened = CheckoutOpened(room_id=1, booking_id=booking_id, attempt=2, session_id="cs_2")

    answer = await answered(house, desk, booking_id, opened, {"check_out_date": str(LATER)}, by_manager=by_manager)

    assert answer.status == 200, answer
    assert answer.body["pending_change"] == HELD_SHOWN
    assert (answer.body["check_out_date"], answer.body["amount"]) == (str(END), "240.00")
    assert answer.body["session_url"] == url


async def test_a_change_that_waits_is_paid_at_the_page_of_its_own_attempt(house: House, desk: StandInWorker) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED", **held())
    await open_page(desk, booking_id, attempt=1)

    async def paid() -> Answer:
        asking = asyncio.create_task(house.post(f"/v1/bookings/{booking_id}/payments", user=GUEST, headers=WAIT))
        repeated = CommandRepeated(
            room_id=1,
            booking_id=booking_id,
            command="booking.request_payment.v1",
            booking_status=BookingStatus.CONFIRMED,
        )
        await desk.publish(await desk.next_command(), repeated)
        return await asking

    # No page of the change is open yet.
    assert (await paid()).status == 202
    url = await open_page(desk, booking_id)
    page = await paid()
    assert (page.status, page.body["session_url"], page.body["booking_status"]) == (200, url, "CONFIRMED")


async def test_a_paid_booking_without_a_change_shows_no_page(house: House, desk: StandInWorker) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED", payment_attempt=1)
    await open_page(desk, booking_id, attempt=1)
    assert "session_url" not in (await house.get(f"/v1/bookings/{booking_id}", user=GUEST)).body


async def test_a_booking_shows_what_it_becomes_and_what_it_was(house: House, desk: StandInWorker) -> None:
    after = price(10)
    change = held(check_out=END, amount_minor=after.amount_minor + 12_000, sale=after.sale)
    booking_id = await desk.add_booking(
        GUEST,
        "CONFIRMED",
        **change,
        sale=msgspec.json.encode(after.sale).decode(),
        stay_times=msgspec.json.encode(STAY_TIMES).decode(),
        earlier_stays=json.dumps([{"change_id": str(CHANGE_ID), "stay": stay(END, 24_000)}]),
        failure="session_refused:amount_too_large",
    )
    event = {"change_id": str(CHANGE_ID)}
    await desk.connection.execute(
        "insert into booking_timeline (booking_id, partition, sequence, event_id, type, time, event, causation) "
        "values (%s, 0, 1, %s, 'booking.changed.v1', %s, %s, 'c')",
        (booking_id, str(uuid4()), EXPIRES_AT, json.dumps(event)),
    )

    for mount in ("/v1", "/v2", ""):
        shown = (await house.get(f"{mount}/bookings/{booking_id}", user=GUEST)).body
        pending = shown["pending_change"]
        assert (pending["amount"], pending["extra"]) == ("320.00", "120.00")
        assert (pending["sale"]["plan_id"], pending["sale"]["total"]) == ("flexible", "320.00")
        assert pending["reason"] == "session_refused"
        assert "amount too large" in pending["detail"]
        assert [each["changed_at"] for each in shown["earlier_stays"]] == ["2100-01-01T12:00:00Z"]
        # The deadline is the change's, not the booking's.
        assert shown["hold_expires_at"] is None
        assert "reason" not in shown


async def test_lists_show_changes(house: House, desk: StandInWorker) -> None:
    plain = await desk.add_booking(GUEST, "CONFIRMED")
    earlier = json.dumps([{"change_id": str(CHANGE_ID), "stay": stay(END, 24_000)}])
    booking_id = await desk.add_booking(GUEST, "CONFIRMED", **held(), earlier_stays=earlier)

    own = (await house.get("/v1/users/myBookings", user=GUEST)).body
    of_hotel = (await house.get("/v1/admin/hotels/1/bookings", headers=house.manager_header(MANAGER))).body

    for listed in (own, of_hotel):
        by_id = {booking["id"]: booking for booking in listed}
        assert by_id[str(booking_id)]["pending_change"] == HELD_SHOWN
        assert "pending_change" not in by_id[str(plain)]
    by_id = {booking["id"]: booking for booking in of_hotel}
    assert [each["amount"] for each in by_id[str(booking_id)]["earlier_stays"]] == ["240.00"]
    assert by_id[str(booking_id)]["hold_expires_at"] is None
    assert "earlier_stays" not in by_id[str(plain)]


@both
async def test_a_rejected_change_has_the_reason_in_words(
    house: House, desk: StandInWorker, *, by_manager: bool
) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED")
    # The account holds rooms of these nights unpaid: the guest sees which, and no manager does.
    unpaid = await desk.add_booking(GUEST, "RESERVED")
    rejected = ChangeRejected(
        room_id=1,
        booking_id=booking_id,
        change_id=CHANGE_ID,
        check_in=FIRST,
        check_out=LATER,
        rooms_count=1,
        reason=Rejection.SOLD_OUT,
    )
    answer = await answered(house, desk, booking_id, rejected, {"check_out_date": str(LATER)}, by_manager=by_manager)
    assert (answer.status, answer.body["reason"], answer.body["booking_status"]) == (409, "sold_out", "CONFIRMED")
    assert answer.body.get("unpaid_bookings") == (None if by_manager else [str(unpaid)])


#: Reasons with the words for guests and for managers.
REFUSALS = [
    (Refusal.WRONG_STATUS, ("the booking's status does not allow it",) * 2),
    (Refusal.CHECK_IN_PASSED, ("the hotel alone can cancel the stay", "the first night of the stay")),
    (Refusal.TOO_MANY_CHANGES, ("or ask the hotel", "changed too often: cancel it and book again")),
]


@both
@pytest.mark.parametrize(("reason", "words"), REFUSALS)
async def test_a_refused_change_has_the_reason_in_words(
    house: House, desk: StandInWorker, reason: Refusal, words: tuple[str, str], *, by_manager: bool
) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED")
    refused = CommandRefused(
        room_id=1,
        booking_id=booking_id,
        command=ChangeStay.message_type,
        reason=reason,
        booking_status=BookingStatus.CONFIRMED,
    )
    answer = await answered(house, desk, booking_id, refused, {"rooms_count": 2}, by_manager=by_manager)
    assert (answer.status, answer.body["reason"]) == (409, reason)
    assert words[by_manager] in answer.body["detail"]
    assert ("ask the hotel" in answer.body["detail"]) == (not by_manager and reason is Refusal.TOO_MANY_CHANGES)


@both
async def test_the_change_that_is_held_goes_on_when_it_is_asked_for_again(
    house: House, desk: StandInWorker, *, by_manager: bool
) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED", **held())
    for body, is_same in (
        ({"check_out_date": str(LATER)}, True),
        ({"check_out_date": str(LATER), "rooms_count": 1}, True),
        ({"check_out_date": str(LATER), "rooms_count": 2}, False),
        ({"check_out_date": str(LATER + timedelta(days=1))}, False),
    ):
        answer = await ask(house, booking_id, body, by_manager=by_manager)
        sent = message(await desk.next_command())
        assert (answer.status, answer.body["change_id"]) == (202, str(sent.change_id))
        assert (sent.change_id == CHANGE_ID) == is_same, body


async def test_a_held_change_for_other_people_is_another_one(house: House, desk: StandInWorker) -> None:
    await desk.connection.execute("update room set capacity = 4 where id = 1")
    sale = price(10).sale
    booking_id = await desk.add_booking(GUEST, "CONFIRMED", sale=msgspec.json.encode(sale).decode(), **held(sale=sale))
    for people, is_same in (({}, True), ({"adults": 2, "children": [5]}, True), ({"adults": 1}, False)):
        await ask(house, booking_id, {"check_out_date": str(LATER), **people})
        assert (message(await desk.next_command()).change_id == CHANGE_ID) == is_same, people


async def test_a_page_that_came_late_is_no_refusal(house: House, desk: StandInWorker) -> None:
    booking_id = await desk.add_booking(GUEST, "PAYMENTS_PENDING", payment_attempt=1)
    url = await open_page(desk, booking_id, attempt=1)
    asking = asyncio.create_task(house.post(f"/v1/bookings/{booking_id}/payments", user=GUEST, headers=WAIT))
    stale = CommandRefused(
        room_id=1,
        booking_id=booking_id,
        command="booking.record_session.v1",
        reason=Refusal.STALE_SESSION,
        booking_status=BookingStatus.PAYMENTS_PENDING,
    )
    await desk.publish(await desk.next_command(), stale)
    page = await asking
    assert (page.status, page.body["session_url"]) == (200, url)


async def test_a_declined_change_has_the_reason_in_words(house: House, desk: StandInWorker) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED", **held(), failure="card_declined")
    pending = (await house.get(f"/v1/bookings/{booking_id}", user=GUEST)).body["pending_change"]
    assert (pending["reason"], pending["detail"]) == ("card_declined", "card declined")


async def test_a_quote_of_a_change_counts_the_rooms_that_the_account_holds_unpaid(
    house: House, desk: StandInWorker
) -> None:
    await HotelsInTables(desk.connection).night(1, 1, END)
    await desk.connection.execute("update inventory set total_count = 6")
    booking_id = await desk.add_booking(GUEST, "CONFIRMED")
    body = {"check_out_date": str(LATER)}
    assert (await ask(house, booking_id, body, tail="/quote")).status == 200

    # Half of the six rooms are the account's share.
    await desk.add_booking(GUEST, "RESERVED", check_in=END, check_out=LATER, rooms_count=1)
    await desk.add_booking(GUEST, "RESERVED", check_in=FIRST, check_out=END, rooms_count=3)
    other = held()
    other["pending_change"] = json.dumps(
        json.loads(other["pending_change"])
        | {"held": [{"first_night": str(END), "end_night": str(LATER), "rooms_count": 1}]}
    )
    await desk.add_booking(GUEST, "CONFIRMED", **other)
    assert (await ask(house, booking_id, body, tail="/quote")).status == 200
    await desk.add_booking(GUEST, "CONFIRMED", terms="at_hotel", check_in=END, check_out=LATER)

    refused = await ask(house, booking_id, body, tail="/quote")
    assert (refused.status, refused.body["reason"]) == (409, "account_share")
    earlier = json.dumps([{"change_id": str(CHANGE_ID), "stay": stay(END, 24_000)}] * MAX_CHANGES)
    for fields in ({"earlier_stays": earlier}, {"payment_attempt": MAX_PAYMENTS_ASKED}):
        often = await desk.add_booking(GUEST, "CONFIRMED", **fields)
        for by_manager in (False, True):
            refused = await ask(house, often, body, tail="/quote", by_manager=by_manager)
            assert (refused.status, refused.body["reason"]) == (409, "too_many_changes")
            assert ("or ask the hotel" in refused.body["detail"]) == (not by_manager)
            assert "20 changes of a stay may take place" in refused.body["detail"]


async def test_a_page_that_stripe_refuses_leaves_a_confirmed_booking(house: House, desk: StandInWorker) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED", **held())
    declined = PaymentDeclined(room_id=1, booking_id=booking_id, failure="session_refused")
    answer = await answered(house, desk, booking_id, declined, {"rooms_count": 2})
    assert (answer.status, answer.body["reason"]) == (409, "session_refused")
    assert answer.body["booking_status"] == "CONFIRMED"


async def test_a_request_that_changes_nothing_shows_the_booking_as_it_is(house: House, desk: StandInWorker) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED")
    repeated = CommandRepeated(
        room_id=1, booking_id=booking_id, command=ChangeStay.message_type, booking_status=BookingStatus.CONFIRMED
    )
    answer = await answered(house, desk, booking_id, repeated, {})
    assert (answer.status, answer.body["check_out_date"]) == (200, str(END))


async def test_a_quote_of_a_change_names_the_difference_or_the_reason(house: House, desk: StandInWorker) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED", check_out=FIRST + timedelta(days=1))
    path = f"{path_of(booking_id, by_manager=False)}/quote"

    quoted = await house.post(path, {"check_out_date": str(END)}, user=GUEST)

    # The second night costs 110.01 with a surge of 1.5.
    assert quoted.status == 200, quoted
    assert quoted.body.pop("token").count(".") == 2
    assert datetime.fromisoformat(quoted.body.pop("good_until")) > datetime.now(UTC)
    assert quoted.body == {
        "id": str(booking_id),
        "check_in_date": str(FIRST),
        "check_out_date": str(END),
        "rooms_count": 1,
        "currency": "EUR",
        "amount_before": "240.00",
        "amount": "405.02",
        "extra": "165.02",
        "goes_back": "0.00",
        "kept": "0.00",
    }
    refused = await house.post(path, {"check_out_date": str(LATER)}, user=GUEST)
    assert (refused.status, refused.body["reason"]) == (409, "night_not_open")
    assert (await house.post(path, {"check_out_date": str(FIRST)}, user=GUEST)).status == 422
    assert (await house.post(path, {}, user=MANAGER)).status == 404
    same = await house.post(path, {}, user=GUEST)
    assert (same.body["amount"], same.body["extra"]) == ("240.00", "0.00")


async def quoted_to(house: House, booking_id: UUID, body: dict[str, Any], *, by_manager: bool) -> dict[str, Any]:
    answer = await ask(house, booking_id, body, by_manager=by_manager, tail="/quote")
    assert answer.status == 200, answer
    shown: dict[str, Any] = answer.body
    return shown


@both
async def test_a_change_with_a_quote_is_sent_at_its_price(
    house: House, desk: StandInWorker, *, by_manager: bool
) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED", check_out=FIRST + timedelta(days=1))
    quote = await quoted_to(house, booking_id, {"check_out_date": str(END)}, by_manager=by_manager)

    for body in ({}, {"check_out_date": str(END), "rooms_count": 1}):
        answer = await ask(house, booking_id, {**body, "quote": quote["token"]}, by_manager=by_manager)
        assert answer.status == 202, answer
        sent = message(await desk.next_command())
        assert (sent.check_in, sent.check_out, sent.rooms_count) == (FIRST, END, 1)
        assert sent.quoted is not None
        assert (sent.quoted.amount_minor, sent.quoted.earlier_count) == (405_02, 0)
        assert sent.quoted.good_until == datetime.fromisoformat(quote["good_until"])
    assert message_without_quote(await ask(house, booking_id, {"rooms_count": 2}), await desk.next_command())


def message_without_quote(answer: Answer, command: LoggedCommand) -> bool:
    return answer.status == 202 and message(command).quoted is None


async def test_a_manager_is_quoted_what_a_change_by_the_hotel_costs(house: House, desk: StandInWorker) -> None:
    """The hotel keeps nothing of what a change gives up, and changes the stay after check-in too."""
    await desk.connection.execute("update room set capacity = 4 where id = 1")
    sale = price(10).sale
    assert sale is not None
    kept = msgspec.structs.replace(sale, plan_id="standard", steps=(CancellationStep(kept_minor=12_000),))
    booking_id = await desk.add_booking(
        GUEST,
        "CONFIRMED",
        sale=msgspec.json.encode(kept).decode(),
        stay_times=msgspec.json.encode(STAY_TIMES).decode(),
    )
    shorter = {"check_out_date": str(FIRST + timedelta(days=1))}
    guests = await quoted_to(house, booking_id, shorter, by_manager=False)
    managers = await quoted_to(house, booking_id, shorter, by_manager=True)
    assert guests["kept"] != "0.00"
    assert managers["kept"] == "0.00"


@both
async def test_a_quote_of_a_change_is_for_its_booking_stay_and_account(
    house: House, desk: StandInWorker, *, by_manager: bool
) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED", check_out=FIRST + timedelta(days=1))
    other_id = await desk.add_booking(GUEST, "CONFIRMED", check_out=FIRST + timedelta(days=1))
    quote = (await quoted_to(house, booking_id, {"check_out_date": str(END)}, by_manager=by_manager))["token"]

    for where, body, field in (
        (other_id, {}, "quote"),
        (booking_id, {"check_out_date": str(LATER)}, "check_out_date"),
        (booking_id, {"rooms_count": 2}, "rooms_count"),
        (booking_id, {"adults": 2}, "adults"),
        (booking_id, {"quote": f"{quote}x"}, "quote"),
    ):
        answer = await ask(house, where, {"quote": quote, **body}, by_manager=by_manager)
        assert answer.status == 422, (body, answer)
        assert answer.body["detail"].startswith(field), answer
    # A guest's quote has the costs of a guest's change, and a manager's has none.
    assert (await ask(house, booking_id, {"quote": quote}, by_manager=not by_manager)).status == 403
    # A quote of a stay is none of a change.
    body = {**STAY, "check_out_date": str(END), "quote": quote}
    assert (await house.post("/v1/bookings/init", body, user=GUEST)).status == 422


async def test_a_quote_that_has_expired_is_refused_in_the_words_of_a_stays_quote(
    house: House, desk: StandInWorker
) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED", check_out=FIRST + timedelta(days=1))
    quote = (await quoted_to(house, booking_id, {"check_out_date": str(END)}, by_manager=False))["token"]
    tokens = QuoteTokens(ingress_settings(), house.app[DATABASE].installation_id)
    read = await tokens.read(quote, ChangeQuote)
    assert read is not None
    yesterday = msgspec.structs.replace(read.quoted, good_until=datetime.now(UTC) - timedelta(days=1))
    old = await tokens.issue(msgspec.structs.replace(read, quoted=yesterday))

    at_once = await ask(house, booking_id, {"quote": old})
    rejected = ChangeRejected(
        room_id=1,
        booking_id=booking_id,
        change_id=CHANGE_ID,
        check_in=FIRST,
        check_out=END,
        rooms_count=1,
        reason=Rejection.QUOTE_EXPIRED,
    )
    by_the_log = await answered(house, desk, booking_id, rejected, {"quote": quote})
    for answer in (at_once, by_the_log):
        assert (answer.status, answer.body["reason"]) == (409, "quote_expired")
        assert answer.body["detail"] == "refused: the quote has expired: ask for a new one"


async def test_the_held_change_at_another_price_is_another_one(house: House, desk: StandInWorker) -> None:
    one_night = FIRST + timedelta(days=1)
    booking_id = await desk.add_booking(GUEST, "CONFIRMED", check_out=one_night, **held(check_out=END))
    quote = (await quoted_to(house, booking_id, {"check_out_date": str(END)}, by_manager=False))["token"]
    for body, is_same in (({"check_out_date": str(END)}, True), ({"quote": quote}, False)):
        await ask(house, booking_id, body)
        assert (message(await desk.next_command()).change_id == CHANGE_ID) == is_same, body
    await desk.connection.execute(
        "update booking set pending_change = %s where id = %s",
        (held(check_out=END, amount_minor=405_02)["pending_change"], booking_id),
    )
    await ask(house, booking_id, {"quote": quote})
    assert message(await desk.next_command()).change_id == CHANGE_ID


@both
async def test_a_change_that_waits_is_withdrawn(house: House, desk: StandInWorker, *, by_manager: bool) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED", **held())
    tail = f"/{CHANGE_ID}"

    accepted = await ask(house, booking_id, by_manager=by_manager, method="DELETE", tail=tail)
    assert (accepted.status, accepted.body["booking_status"]) == (202, "CONFIRMED")
    user_id = None if by_manager else GUEST
    expected = WithdrawChange(room_id=1, booking_id=booking_id, change_id=CHANGE_ID, user_id=user_id)
    assert (await desk.next_command()).message == expected

    for event, status in (
        (ChangeEnded(room_id=1, booking_id=booking_id, change_id=CHANGE_ID, reason=ChangeEnd.WITHDRAWN), 204),
        (
            CommandRefused(
                room_id=1,
                booking_id=booking_id,
                command=WithdrawChange.message_type,
                reason=Refusal.NO_SUCH_CHANGE,
                booking_status=BookingStatus.CONFIRMED,
            ),
            409,
        ),
    ):
        asking = asyncio.create_task(
            ask(house, booking_id, by_manager=by_manager, method="DELETE", tail=tail, headers=WAIT)
        )
        await desk.publish(await desk.next_command(), event)
        assert (await asking).status == status


async def test_changes_are_those_of_ones_own_bookings(house: House, desk: StandInWorker) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED")
    body = {"rooms_count": 2}
    for path in (path_of(booking_id, by_manager=False), path_of(uuid4(), by_manager=False)):
        assert (await house.post(path, body, user=MANAGER)).status == 404
        assert (await house.ask("DELETE", f"{path}/{CHANGE_ID}", user=MANAGER)).status == 404
    path = path_of(booking_id, by_manager=True)
    other = house.manager_header(OTHER_MANAGER)
    assert (await house.post(path, body, headers=other)).status == 404
    assert (await house.post(f"{path}/quote", body, headers=other)).status == 404
    assert (await house.post(f"{path}/quote", body, user=GUEST)).status == 403
    assert (await house.ask("DELETE", f"{path}/{CHANGE_ID}", headers=other)).status == 404
    assert (await house.post(path, body, user=GUEST)).status == 403
