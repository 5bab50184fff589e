"""Changes to another room type over HTTP: requests, waiting, quotes, refusals in words, and how bookings show them."""

import asyncio
import json
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from ingress.log.commands import is_answer
from tests.ingress.bookings.test_changes import (
    CHANGE_ID,
    END,
    FIRST,
    GUEST,
    LATER,
    MANAGER,
    answered,
    ask,
    both,
    held,
    message,
    open_page,
    stay,
)
from tests.ingress.bookings.test_sales_shown import price
from tests.ingress.house import STAY_TIMES, WAIT, House, StandInWorker
from tests.support.hotels import HotelsInTables
from topics.messages.commands import ChangeStay, ReserveStay
from topics.messages.events import (
    ChangeEnded,
    ChangeRejected,
    CheckoutOpened,
    CommandRefused,
    CommandRepeated,
    Event,
    StayBefore,
    StayChanged,
)
from topics.messages.sale import Party
from topics.messages.values import BookingStatus, ChangeEnd, Refusal, Rejection

#: Room type 3 of hotel 1, which sleeps four. Room 2 is of another hotel.
SUITE, OF_ANOTHER_HOTEL, NO_ROOM = 3, 2, 99


@pytest.fixture
async def desk(stand_in: StandInWorker, house: House) -> StandInWorker:
    """The stand-in worker; hotel 1 is the manager's and has a second room type on sale."""
    hotels = HotelsInTables(stand_in.connection)
    assert await hotels.room(1, type="suite", capacity=4) == SUITE
    await hotels.nights(1, SUITE, FIRST, LATER, price_minor=20_000)
    await stand_in.connection.execute("update hotel set owner_id = %s where id = 1", (MANAGER,))
    return stand_in


def moving(*, is_open: bool = False, **fields: Any) -> dict[str, Any]:
    """Return the columns of a booking with a change to the suite, held or open."""
    columns = held(**{"check_out": END, "amount_minor": 40_000} | fields)
    change = json.loads(columns["pending_change"]) | {"to_room_id": SUITE, "extra_minor": 16_000}
    if is_open:
        change |= {"is_open": True, "extra_minor": 0, "stay": stay(END, 0)}
    return columns | {"pending_change": json.dumps(change)}


async def add_leg(desk: StandInWorker, booking_id: UUID, status: str = "RESERVED", **columns: Any) -> None:
    """Write the leg in the suite, as its worker does."""
    await desk.write_booking(
        CHANGE_ID, GUEST, status, room_id=SUITE, trip_id=booking_id, trip_room_id=1, amount_minor=40_000, **columns
    )


def rejected(booking_id: UUID, reason: Rejection) -> ChangeRejected:
    return ChangeRejected(
        room_id=1,
        booking_id=booking_id,
        change_id=CHANGE_ID,
        check_in=FIRST,
        check_out=END,
        rooms_count=1,
        reason=reason,
    )


@both
async def test_a_change_names_the_other_room_and_its_plan(
    house: House, desk: StandInWorker, *, by_manager: bool
) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED")
    answer = await ask(house, booking_id, {"room_id": SUITE, "plan_id": "flexible"}, by_manager=by_manager)
    sent = message(await desk.next_command())
    assert (answer.status, answer.body["change_id"]) == (202, str(sent.change_id))
    assert (sent.room_id, sent.to_room_id, sent.plan_id) == (1, SUITE, "flexible")
    assert (sent.check_in, sent.check_out, sent.rooms_count, sent.stay_times) == (FIRST, END, 1, STAY_TIMES)

    # The booking's own room is no other one.
    assert (await ask(house, booking_id, {"room_id": 1, "rooms_count": 2}, by_manager=by_manager)).status == 202
    assert message(await desk.next_command()).to_room_id is None


NONSENSE: list[tuple[dict[str, Any], int, str]] = [
    ({"room_id": NO_ROOM}, 404, "the hotel has no such room"),
    ({"room_id": OF_ANOTHER_HOTEL}, 404, "the hotel has no such room"),
    ({"plan_id": "flexible"}, 422, "plan_id: counts only with the room_id of another room type"),
    ({"room_id": 1, "plan_id": "flexible"}, 422, "plan_id: counts only with the room_id of another room type"),
    ({"room_id": SUITE, "adults": 5}, 409, "the rooms do not hold so many people"),
    ({"room_id": SUITE, "check_out_date": str(FIRST)}, 422, "check_out_date must be after check_in_date"),
]


@both
@pytest.mark.parametrize("tail", ["", "/quote"])
async def test_a_change_that_makes_no_sense_is_refused_at_once(
    house: House, desk: StandInWorker, tail: str, *, by_manager: bool
) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED")
    for body, status, words in NONSENSE:
        answer = await ask(house, booking_id, body, by_manager=by_manager, tail=tail)
        assert (answer.status, words in json.dumps(answer.body)) == (status, True), (body, answer)


async def test_a_quote_and_another_room_type_exclude_each_other(house: House, desk: StandInWorker) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED")
    answer = await ask(house, booking_id, {"room_id": SUITE, "quote": "any"})
    assert answer.status == 422
    assert answer.body["detail"].startswith("room_id: is not taken with a quote")


async def test_more_people_fit_into_the_other_room(house: House, desk: StandInWorker) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED")
    assert (await ask(house, booking_id, {"adults": 4})).status == 409
    assert (await ask(house, booking_id, {"adults": 4, "room_id": SUITE})).status == 202
    assert message(await desk.next_command()).party == Party(adults=4)


@both
async def test_a_dearer_change_shows_the_other_room_and_where_it_is_paid(
    house: House, desk: StandInWorker, *, by_manager: bool
) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED", **moving())
    await add_leg(
        desk,
        booking_id,
        sale=msgspec.json.encode(price(10).sale).decode(),
        stay_times=msgspec.json.encode(STAY_TIMES).decode(),
    )
    url = await open_page(desk, booking_id)
    opened = CheckoutOpened(room_id=1, booking_id=booking_id, attempt=2, session_id="cs_2")

    answer = await answered(house, desk, booking_id, opened, {"room_id": SUITE}, by_manager=by_manager)

    assert (answer.status, answer.body["session_url"]) == (200, url)
    sale = answer.body["pending_change"].pop("sale")
    assert (sale["plan_id"], sale["total"]) == ("flexible", "400.00")
    shown = {
        "id": str(CHANGE_ID),
        "check_in_date": str(FIRST),
        "check_out_date": str(END),
        "rooms_count": 1,
        "room_id": SUITE,
        "room_type": "suite",
        "amount": "400.00",
        "extra": "160.00",
        "expires_at": "2100-01-01T12:00:00Z",
    }
    assert answer.body["pending_change"] == shown
    own = (await house.get("/v1/users/myBookings", user=GUEST)).body
    of_hotel = (await house.get("/v1/admin/hotels/1/bookings", headers=house.manager_header(MANAGER))).body
    for listed in (own, of_hotel):
        by_id = {booking["id"]: booking for booking in listed}
        assert by_id[str(booking_id)]["pending_change"] == shown
        assert by_id[str(CHANGE_ID)]["trip_id"] == str(booking_id)


async def test_a_change_has_no_price_until_the_other_room_answers(house: House, desk: StandInWorker) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED", **moving(is_open=True))
    pending = (await house.get(f"/v1/bookings/{booking_id}", user=GUEST)).body["pending_change"]
    assert (pending["room_id"], pending["room_type"]) == (SUITE, "suite")
    assert (pending["amount"], pending["extra"], pending["expires_at"]) == (None, None, "2100-01-01T12:00:00Z")
    assert "sale" not in pending

    # The same request again is the same change, which is not decided yet.
    repeated = CommandRepeated(
        room_id=1, booking_id=booking_id, command=ChangeStay.message_type, booking_status=BookingStatus.CONFIRMED
    )
    answer = await answered(house, desk, booking_id, repeated, {"room_id": SUITE})
    assert (answer.status, answer.body["change_id"]) == (202, str(CHANGE_ID))


@both
async def test_the_change_that_is_held_goes_on_when_it_is_asked_for_again(
    house: House, desk: StandInWorker, *, by_manager: bool
) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED", **moving())
    await desk.connection.execute("update room set capacity = 4 where id = 1")
    sale = price(10).sale
    assert sale is not None
    await add_leg(desk, booking_id, sale=msgspec.json.encode(sale).decode())
    people = {"adults": sale.party.adults, "children": [*sale.party.child_ages]}
    for body, is_same in (
        ({"room_id": SUITE, **people}, True),
        ({"room_id": SUITE, "plan_id": "flexible", **people}, True),
        ({"room_id": SUITE, "plan_id": "another", **people}, False),
        ({"room_id": SUITE, "adults": 1, "children": []}, False),
        ({"room_id": SUITE, "rooms_count": 2, **people}, False),
        ({**people}, False),
    ):
        await ask(house, booking_id, body, by_manager=by_manager)
        assert (message(await desk.next_command()).change_id == CHANGE_ID) == is_same, body


@both
@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (Rejection.NOT_PREPAID, "a stay moves to another room type only if it is paid with the booking"),
        (Rejection.NO_SUCH_PLAN, "the other room type has no rate plan of this id"),
        (Rejection.SOLD_OUT, "not so many rooms of the other type are free"),
        (Rejection.NIGHT_NOT_OPEN, "the other room type is not on sale on each night"),
        (Rejection.NIGHT_CLOSED, "the other room type is closed on a night"),
        (Rejection.PARTY_TOO_LARGE, "the rooms of the other type do not hold so many people"),
        (Rejection.NOT_CHARGEABLE, "the difference is smaller or larger than can be charged"),
        (Rejection.MIN_STAY, "the stay is shorter than this rate plan is sold for"),
        (Rejection.ACCOUNT_SHARE, "this account would hold too large a share"),
    ],
)
async def test_a_rejected_change_has_the_reason_in_words(
    house: House, desk: StandInWorker, reason: Rejection, words: str, *, by_manager: bool
) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED")
    # The account's unpaid bookings of the other room count, and those of its own room do not.
    unpaid = await desk.add_booking(GUEST, "RESERVED", room_id=SUITE)
    await desk.add_booking(GUEST, "RESERVED")
    event = rejected(booking_id, reason)
    answer = await answered(house, desk, booking_id, event, {"room_id": SUITE}, by_manager=by_manager)
    assert (answer.status, answer.body["reason"], answer.body["booking_status"]) == (409, reason, "CONFIRMED")
    assert words in answer.body["detail"]
    if reason in (Rejection.SOLD_OUT, Rejection.ACCOUNT_SHARE):
        assert answer.body.get("unpaid_bookings") == (None if by_manager else [str(unpaid)])


async def test_only_its_own_end_answers_a_change(house: House, desk: StandInWorker) -> None:
    """The change that it replaces ends, that one's leg is released, and the reason of a rejection comes later."""
    booking_id = await desk.add_booking(GUEST, "CONFIRMED")
    asking = asyncio.create_task(ask(house, booking_id, {"room_id": SUITE}, headers=WAIT))
    command = await desk.next_command()
    own_id = message(command).change_id
    refused_leg = CommandRefused(
        room_id=SUITE,
        booking_id=CHANGE_ID,
        command="booking.release_leg.v1",
        reason=Refusal.WRONG_STATUS,
        booking_status=BookingStatus.CANCELLED,
    )
    ended = [
        ChangeEnded(room_id=1, booking_id=booking_id, change_id=CHANGE_ID, reason=ChangeEnd.REPLACED),
        refused_leg,
        ChangeEnded(room_id=1, booking_id=booking_id, change_id=own_id, reason=ChangeEnd.NOT_POSSIBLE),
        rejected(booking_id, Rejection.SOLD_OUT),
    ]
    for event in ended:
        await desk.publish(command, event)
    answer = await asking
    assert (answer.status, answer.body["reason"]) == (409, "sold_out")


@both
async def test_a_change_that_ended_because_the_stay_began(
    house: House, desk: StandInWorker, *, by_manager: bool
) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED")
    for reason, word in ((ChangeEnd.STAY_BEGAN, "check_in_passed"), (ChangeEnd.WITHDRAWN, "no_such_change")):
        answer = await answered(
            house,
            desk,
            booking_id,
            lambda command, reason=reason: ChangeEnded(
                room_id=1, booking_id=booking_id, change_id=message(command).change_id, reason=reason
            ),
            {"room_id": SUITE},
            by_manager=by_manager,
        )
        assert (answer.status, answer.body["reason"]) == (409, word)


def test_events_answer_other_commands_whatever_booking_they_are_about() -> None:
    reserve = ReserveStay(
        room_id=1, booking_id=uuid4(), user_id=1, hotel_id=1, check_in=FIRST, check_out=END, rooms_count=1
    )
    event: Event = ChangeEnded(room_id=1, booking_id=uuid4(), change_id=CHANGE_ID, reason=ChangeEnd.WITHDRAWN)
    assert is_answer(reserve, event)


async def moved(desk: StandInWorker) -> UUID:
    """Return a booking whose stay has moved to the suite."""
    leg = {"booking_id": str(CHANGE_ID), "room_id": SUITE, "rooms_count": 1}
    booking_id = await desk.add_booking(
        GUEST,
        "CONFIRMED",
        rooms_count=0,
        amount_minor=40_000,
        legs=json.dumps([leg]),
        earlier_stays=json.dumps([{"change_id": str(CHANGE_ID), "stay": stay(END, 24_000)}]),
    )
    await add_leg(desk, booking_id, "CONFIRMED")
    return booking_id


async def test_a_stay_that_has_moved_is_a_trip_with_one_leg(house: House, desk: StandInWorker) -> None:
    booking_id = await moved(desk)
    shown = (await house.get(f"/v1/bookings/{booking_id}", user=GUEST)).body
    assert (shown["room_id"], shown["rooms_count"], shown["amount"]) == (SUITE, 0, "400.00")
    assert shown["legs"] == [{"id": str(CHANGE_ID), "room_id": SUITE}]
    (before,) = shown["earlier_stays"]
    assert (before["room_id"], before["room_type"], before["amount"]) == (1, "double", "240.00")

    trip = (await house.get(f"/v1/trips/{booking_id}", user=GUEST)).body
    assert [(leg["id"], leg["room_id"], leg["amount"]) for leg in trip["legs"]] == [(str(CHANGE_ID), SUITE, "400.00")]
    own = {each["id"]: each for each in (await house.get("/v1/users/myBookings", user=GUEST)).body}
    assert own[str(booking_id)]["legs"] == shown["legs"]
    assert own[str(CHANGE_ID)]["trip_id"] == str(booking_id)
    of_hotel = (await house.get("/v1/admin/hotels/1/bookings", headers=house.manager_header(MANAGER))).body
    assert [(each["id"], each["room_type"]) for each in of_hotel] == [(str(CHANGE_ID), "suite")]


@both
async def test_a_stay_that_has_moved_is_not_changed_again(
    house: House, desk: StandInWorker, *, by_manager: bool
) -> None:
    booking_id = await moved(desk)
    for body in ({"room_id": 1}, {"rooms_count": 2}):
        for tail in ("", "/quote"):
            answer = await ask(house, booking_id, body, by_manager=by_manager, tail=tail)
            assert (answer.status, answer.body["reason"]) == (409, "has_legs")
            assert "the stay has moved to another room type" in answer.body["detail"]


@both
async def test_a_change_that_was_waited_for_shows_the_leg(
    house: House, desk: StandInWorker, *, by_manager: bool
) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED")

    asking = asyncio.create_task(ask(house, booking_id, {"room_id": SUITE}, by_manager=by_manager, headers=WAIT))
    command = await desk.next_command()
    change_id = message(command).change_id
    await desk.connection.execute(
        "update booking set rooms_count = 0, legs = %s where id = %s",
        (json.dumps([{"booking_id": str(change_id), "room_id": SUITE, "rooms_count": 1}]), booking_id),
    )
    before = StayBefore(check_in=FIRST, check_out=END, rooms_count=1, amount_minor=24_000)
    event = StayChanged(
        room_id=1,
        booking_id=booking_id,
        change_id=change_id,
        check_in=FIRST,
        check_out=END,
        rooms_count=1,
        amount_minor=24_000,
        currency="EUR",
        night_amounts_minor=(),
        before=before,
        to_room_id=SUITE,
    )
    await desk.publish(command, event)
    answer = await asking
    assert (answer.status, answer.body["legs"]) == (200, [{"id": str(change_id), "room_id": SUITE}])


@both
async def test_a_quote_shows_the_price_and_has_no_token(house: House, desk: StandInWorker, *, by_manager: bool) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED")
    quoted = await ask(house, booking_id, {"room_id": SUITE}, by_manager=by_manager, tail="/quote")
    assert quoted.status == 200, quoted
    assert quoted.body == {
        "id": str(booking_id),
        "room_id": SUITE,
        "check_in_date": str(FIRST),
        "check_out_date": str(END),
        "rooms_count": 1,
        "currency": "EUR",
        "amount_before": "240.00",
        "amount": "400.00",
        "extra": "160.00",
        "goes_back": "0.00",
        "kept": "0.00",
    }
    # A change that holds the last rooms of that type already would give them back.
    await desk.connection.execute("update inventory set reserved_count = total_count where room_id = %s", (SUITE,))
    holder = await desk.add_booking(GUEST, "CONFIRMED", **moving())
    for each, status in ((booking_id, 409), (holder, 200)):
        answer = await ask(house, each, {"room_id": SUITE}, by_manager=by_manager, tail="/quote")
        assert answer.status == status, answer
    refused = await ask(house, booking_id, {"room_id": SUITE, "plan_id": "none"}, by_manager=by_manager, tail="/quote")
    assert (refused.status, refused.body["reason"]) == (409, "no_such_plan")
    assert "the other room type has no rate plan of this id" in refused.body["detail"]
