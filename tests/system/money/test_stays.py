"""Stays: the hotel cancels, guests change after payment, check-in has passed, nights cost differently."""

import pytest

from tests.support.client import Answer
from tests.support.waiting import wait_until
from tests.system.money.desk import Desk, day
from tests.system.path.guest import Guest, stay

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.system]


async def test_a_hotel_cancels_with_a_reason_and_the_guest_gets_all_back(desk: Desk) -> None:
    inn = await desk.inn()
    paid = await desk.paid(inn)
    path = f"{inn.path}/bookings/{paid.id}/cancel"
    unknown = await inn.host.ask("POST", path, json={"reason": "bored"})
    foreign = await paid.guest.ask("POST", path, json={"reason": "overbooked"})

    cancelled = await inn.host.ask("POST", path, json={"reason": "overbooked"})

    assert (unknown.status, foreign.status, cancelled.status) == (422, 403, 204)
    (event,) = await desk.happened(paid.id, "cancelled")
    assert (event["reason"], event["hotel_reason"]) == ("by_hotel", "overbooked")
    await desk.happened(paid.id, "refunded")
    assert await desk.sums(paid) == (20_000, 20_000, 0)


async def test_the_hotel_sees_who_was_named_and_other_guests_are_a_change_of_their_own(desk: Desk) -> None:
    inn = await desk.inn()
    paid = await desk.paid(inn)
    (guest,) = (await paid.shown())["guests"]
    renamed = await paid.guest.ask("PATCH", f"/v1/users/guests/{guest['id']}", json={"name": "Somebody Else"})
    assert renamed.status == 200, renamed
    assert [each["name"] for each in (await inn.listed(paid.id))["guests"]] == ["Ana"]

    changed = await paid.change_guests("Grace")

    assert changed.status == 200, changed
    assert len(await desk.happened(paid.id, "guests_changed")) == 1
    assert [each["name"] for each in (await inn.listed(paid.id))["guests"]] == ["Grace"]


async def test_after_check_in_a_guest_changes_nothing_and_the_hotel_can_cancel(desk: Desk) -> None:
    # A hotel whose guests are let in at midnight: a stay from today has begun.
    inn = await desk.inn(check_in_time="00:00", check_out_time="23:59", time_zone="UTC")
    paid = await desk.paid(inn, first=0, nights=2)

    refused = [await paid.cancel(), await paid.change_guests("Grace")]

    assert [(answer.status, answer.body["reason"]) for answer in refused] == [(409, "check_in_passed")] * 2
    assert await desk.sums(paid) == (20_000, 0, 0)
    path = f"{inn.path}/bookings/{paid.id}/cancel"
    assert (await inn.host.ask("POST", path, json={"reason": "guest_request"})).status == 204
    await desk.happened(paid.id, "refunded")


async def test_each_night_is_reported_with_its_own_price(desk: Desk) -> None:
    inn = await desk.inn()
    inventory = f"/v1/admin/inventory/rooms/{inn.room.id}"
    changed = await inn.host.ask(
        "PATCH", f"{inventory}?start_date={day(21)}&end_date={day(21)}", json={"price": "900.00"}
    )
    assert changed.status == 200, changed

    await desk.paid(inn, nights=3)

    async def reported() -> bool:
        assert await inn.revenue(20, 22) == ["100.00", "900.00", "100.00"]
        return True

    await wait_until(reported)


async def test_an_account_holds_no_more_than_its_share_of_a_night_unpaid(desk: Desk) -> None:
    inn = await desk.inn(total=20)
    hoarder, other = await desk.house.guest(), await desk.house.guest()

    async def held(guest: Guest, rooms: int) -> Answer:
        body = stay(inn.room, 5, 30) | {"rooms_count": rooms}
        return await guest.ask("POST", "/v1/bookings/init", json=body)

    mine = await held(hoarder, 10)
    assert mine.status == 201, mine
    more = await held(hoarder, 10)
    assert (more.status, more.body["reason"], more.body["unpaid_bookings"]) == (409, "account_share", [mine.body["id"]])
    assert "it may hold 10 rooms of a night unpaid" in more.body["detail"]
    assert (await held(other, 10)).status == 201
    # No room is left: an account that holds some of them itself gets the ids of its bookings, another one gets none.
    sold_out = [await held(guest, 1) for guest in (hoarder, await desk.house.guest())]
    assert [answer.body["reason"] for answer in sold_out] == ["sold_out"] * 2
    assert [answer.body.get("unpaid_bookings") for answer in sold_out] == [[mine.body["id"]], None]


async def test_an_account_has_no_more_than_so_many_unpaid_bookings(desk: Desk) -> None:
    inn = await desk.inn(total=30)
    guest = await desk.house.guest()
    held = [await guest.booked(inn.room, 5 + number, 1) for number in range(10)]

    refused = await guest.book(inn.room, 20, 1)

    assert refused.status == 429, refused
    await guest.ask("POST", f"/v1/bookings/{held[0]}/cancel")
    assert (await guest.book(inn.room, 20, 1)).status == 201
