"""Changes of paid stays: a dearer one that is paid, one that is not, and a cheaper one; rooms and money follow."""

from datetime import date
from uuid import UUID, uuid4

import pytest

from tests.system.money.desk import Desk, day
from topics.messages.commands import ChangeStay

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.system]


async def test_a_dearer_change_is_held_and_paid_and_a_cheaper_one_is_refunded(desk: Desk) -> None:
    inn = await desk.inn(total=1)
    paid = await desk.paid(inn, first=20, nights=2)
    path, other = f"/v1/bookings/{paid.id}/changes", await desk.house.guest()
    longer = {"check_out_date": day(23)}
    quote = await paid.guest.ask("POST", f"{path}/quote", json=longer)
    assert (quote.status, quote.body["extra"], quote.body["amount"]) == (200, "100.00", "300.00")

    held = await paid.guest.ask("POST", path, json={"quote": quote.body["token"]})

    assert (held.status, held.body["booking_status"], held.body["amount"]) == (200, "CONFIRMED", "200.00")
    assert (held.body["pending_change"]["extra"], held.body["pending_change"]["amount"]) == ("100.00", "300.00")
    # The night is held, and nobody else can book it.
    taken = await other.book(inn.room, 22, 1)
    assert (taken.status, taken.body["reason"]) == (409, "sold_out")
    second = await desk.pay_at(held.body["session_url"], paid.guest, inn, paid.id)
    (changed,) = await desk.happened(paid.id, "changed")
    assert (changed["change_id"], changed["extra_minor"]) == (held.body["pending_change"]["id"], 10_000)
    shown = await paid.shown()
    assert (shown["amount"], shown["check_out_date"]) == ("300.00", day(23))
    assert [stay["amount"] for stay in shown["earlier_stays"]] == ["200.00"]

    shorter = await paid.guest.ask("POST", path, json={"check_in_date": day(22)})

    assert (shorter.status, shorter.body["amount"]) == (200, "100.00"), shorter
    await desk.happened(paid.id, "refunded", 2)
    # The newest payment goes back first.
    assert await desk.sums(second) == (10_000, 10_000, 0)
    assert await desk.sums(paid) == (20_000, 10_000, 0)
    assert (await other.book(inn.room, 20, 2)).status == 201
    assert [stay["amount"] for stay in (await paid.shown())["earlier_stays"]] == ["200.00", "300.00"]
    assert (await desk.operator("money", paid.id, "--stripe"))[0] == 0


async def test_a_change_that_is_not_paid_ends_and_the_booking_is_what_it_was(desk: Desk) -> None:
    inn = await desk.inn(total=1)
    paid = await desk.paid(inn, first=20, nights=2)
    before = await paid.shown()
    (reserved,) = await desk.events(paid.id, "reserved")
    change = ChangeStay(
        room_id=inn.room.id,
        booking_id=UUID(paid.id),
        change_id=uuid4(),
        user_id=reserved["user_id"],
        check_in=date.fromisoformat(day(20)),
        check_out=date.fromisoformat(day(23)),
        rooms_count=1,
        hold_seconds=1,
    )

    await desk.house.send(change)

    (ended,) = await desk.happened(paid.id, "change_ended")
    assert (ended["change_id"], ended["reason"]) == (str(change.change_id), "expired")
    unchanged = ("booking_status", "amount", "check_in_date", "check_out_date", "rooms_count", "guests", "refunds")
    after = await paid.shown()
    assert {name: after.get(name) for name in unchanged} == {name: before.get(name) for name in unchanged}
    assert "pending_change" not in after
    assert "session_url" not in after
    other = await desk.house.guest()
    assert (await other.book(inn.room, 22, 1)).status == 201
    withdrawn = await paid.guest.ask("DELETE", f"/v1/bookings/{paid.id}/changes/{change.change_id}")
    assert (withdrawn.status, withdrawn.body["reason"]) == (409, "no_such_change")
    assert await desk.sums(paid) == (20_000, 0, 0)


async def test_a_manager_changes_a_stay_and_the_guest_gets_the_difference_back(desk: Desk) -> None:
    inn = await desk.inn()
    paid = await desk.paid(inn, first=20, nights=2)

    changed = await inn.host.ask("POST", f"{inn.path}/bookings/{paid.id}/changes", json={"check_out_date": day(21)})

    assert (changed.status, changed.body["amount"]) == (200, "100.00"), changed
    await desk.happened(paid.id, "refunded")
    assert await desk.sums(paid) == (20_000, 10_000, 0)
    assert [stay["amount"] for stay in (await inn.listed(paid.id))["earlier_stays"]] == ["200.00"]
