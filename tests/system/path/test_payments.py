"""Money that comes twice, late, in the wrong order, or for nothing: a room or the money back, never both or neither."""

from typing import Any, NamedTuple

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.support.waiting import wait_until
from tests.system.path.guest import GOOD_CARD, Guest, House, Room
from topics.catalogue import STRIPE_WEBHOOKS

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.system]

COMPLETED = "checkout.session.completed"


@pytest_asyncio.fixture(scope="module", loop_scope="package", autouse=True)
async def _who_pays_need_not_wait(house: House) -> None:
    """Tests before these may have had thousands of bookings decided, and some holds here are short."""
    await house.payments_are_up_to_date()


async def faults(house: House, *rules: dict[str, Any]) -> None:
    await house.stripe("POST", "/_sandbox/faults", json=list(rules))


async def release(house: House) -> None:
    """Let the webhooks go that were held back."""
    await house.stripe("DELETE", "/_sandbox/faults")


async def waiting_for_payment(house: House, guest: Guest, room: Room) -> tuple[str, str]:
    booking = await guest.booked(room)
    return booking, await guest.checkout(booking)


class Late(NamedTuple):
    """A booking whose hold has ended."""

    guest: Guest
    room: Room
    booking: str
    page: str


class Ended(NamedTuple):
    """Three bookings with holds that ended together. Two were paid, with late webhooks; one of them lost its room."""

    free: Late
    gone: Late
    unpaid: Late


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def ended(house: House, hasty: str) -> Ended:
    """Let holds of the last room end while no webhook arrives, and no page can be closed."""
    await release(house)
    await faults(
        house,
        {"match": COMPLETED, "fault": "webhook_reorder", "times": 2},
        {
            "match": "POST /v1/checkout/sessions/*/expire",
            "fault": "status",
            "status": 503,
            "saved": False,
            "times": None,
        },
    )
    three = Ended(*[await last_room_held(house, hasty) for _ in range(3)])
    for late in (three.free, three.gone):
        assert await late.guest.pay(late.page) == 303
    for late in three:
        await late.guest.becomes(late.booking, "EXPIRED")
    assert (await (await house.guest()).book(three.gone.room)).status == 201
    await release(house)
    return three


async def last_room_held(house: House, hasty: str) -> Late:
    guest, room = await house.guest(hasty), await house.room(total=1)
    return Late(guest, room, *await waiting_for_payment(house, guest, room))


async def test_a_webhook_delivered_twice_confirms_once(house: House) -> None:
    guest, room = await house.guest(), await house.room()
    booking, page = await waiting_for_payment(house, guest, room)
    await faults(house, {"match": COMPLETED, "fault": "webhook_duplicate"})

    await guest.pay(page)

    await guest.becomes(booking, "CONFIRMED")
    # At least: an answer that came too late for Stripe brings the webhook once more.
    await house.eventually(
        "select count(*) >= 1 as so from booking_timeline where booking_id = %s and type = %s",
        booking,
        "booking.command_repeated.v1",
    )
    assert await house.rows(
        "select count(*) n from booking_timeline where booking_id = %s and type = 'booking.confirmed.v1'", booking
    ) == [{"n": 1}]
    assert await house.money(booking) == (24_000, 0)


async def test_a_decline_that_arrives_after_the_payment_undoes_nothing(house: House) -> None:
    guest, room = await house.guest(), await house.room()
    booking, page = await waiting_for_payment(house, guest, room)
    await faults(house, {"match": "payment_intent.payment_failed", "fault": "webhook_reorder"})
    await guest.pay(page, "4000000000000002")

    await guest.pay(page, GOOD_CARD)

    await guest.becomes(booking, "CONFIRMED")
    await house.eventually(
        "select count(*) >= 1 as so from booking_timeline where booking_id = %s and type = %s",
        booking,
        "booking.command_refused.v1",
    )
    assert await guest.status(booking) == "CONFIRMED"


async def test_a_payment_that_arrives_before_its_session_is_recorded_confirms(house: House) -> None:
    guest, room = await house.guest(), await house.room()
    booking = await guest.booked(room)
    added = await guest.ask("POST", "/v1/users/guests", json={"name": "Ana"})
    await guest.ask("POST", f"/v1/bookings/{booking}/addGuests", json=[added.body["id"]])
    # Stripe makes the session, but its answer is lost, so that the guest can pay before we know of it.
    await faults(house, {"match": "POST /v1/checkout/sessions", "fault": "answer_lost", "times": 3})
    await guest.ask("POST", f"/v1/bookings/{booking}/payments", wait=False)
    session = await session_of(house, booking)

    await house.stripe("POST", f"/_sandbox/sessions/{session}/pay", json={"card": GOOD_CARD})

    await guest.becomes(booking, "CONFIRMED")
    assert await house.money(booking) == (24_000, 0)


async def session_of(house: House, booking: str) -> str:
    """Return the id of the booking's session as Stripe has it."""

    async def found() -> str | None:
        headers = {"Authorization": f"Bearer {house.system.environment()['STRIPE_API_KEY']}"}
        url = f"{house.system.stripe_url}/v1/checkout/sessions"
        async with house.session.get(url, headers=headers) as response:
            sessions = (await response.json())["data"]
        return next((session["id"] for session in sessions if session["client_reference_id"] == booking), None)

    return str(await wait_until(found, message="Stripe has a session"))


async def test_a_payment_after_the_hold_ended_has_the_room_if_it_is_still_free(house: House, ended: Ended) -> None:
    late = ended.free

    await late.guest.becomes(late.booking, "CONFIRMED")

    assert await house.money(late.booking) == (24_000, 0)


async def test_a_payment_after_the_hold_ended_goes_back_if_the_room_is_gone(house: House, ended: Ended) -> None:
    late = ended.gone

    await house.eventually(
        "select count(*) = 1 as so from refund where booking_id = %s and status = 'succeeded'", late.booking
    )
    assert await late.guest.status(late.booking) == "EXPIRED"
    assert await house.money(late.booking) == (24_000, 24_000)


async def test_when_a_hold_ends_its_page_takes_no_more_money(house: House, ended: Ended) -> None:
    late = ended.unpaid

    assert await late.guest.status(late.booking) == "EXPIRED"

    await house.eventually(
        "select count(*) = 1 as so from checkout_session where booking_id = %s and status = 'expired'", late.booking
    )
    assert await late.guest.pay(late.page) != 303
    assert await house.money(late.booking) == (0, 0)


async def test_a_cancelled_confirmed_booking_is_refunded_once(house: House) -> None:
    guest, room = await house.guest(), await house.room()
    booking, page = await waiting_for_payment(house, guest, room)
    await guest.pay(page)
    await guest.becomes(booking, "CONFIRMED")

    for _ in range(3):
        assert (await guest.ask("POST", f"/v1/bookings/{booking}/cancel")).status == 204

    statement = "select count(*) = 1 as so from booking_timeline where booking_id = %s and type = 'booking.refunded.v1'"
    await house.eventually(statement, booking)
    assert await guest.status(booking) == "CANCELLED"
    assert await house.money(booking) == (24_000, 24_000)
    assert await house.rows(
        "select sum(booked_count + reserved_count) n from inventory where room_id = %s", room.id
    ) == [{"n": 0}]


async def test_a_payment_of_a_booking_that_was_cancelled_meanwhile_goes_back(house: House) -> None:
    guest, room = await house.guest(), await house.room()
    booking, page = await waiting_for_payment(house, guest, room)
    await faults(house, {"match": COMPLETED, "fault": "webhook_reorder"})
    await guest.pay(page)

    assert (await guest.ask("POST", f"/v1/bookings/{booking}/cancel")).status == 204
    await release(house)

    await house.eventually(
        "select count(*) = 1 as so from refund where booking_id = %s and status = 'succeeded'", booking
    )
    assert await guest.status(booking) == "CANCELLED"
    assert await house.money(booking) == (24_000, 24_000)


async def test_stripes_trouble_delays_a_payment_and_loses_nothing(house: House) -> None:
    guest, room = await house.guest(), await house.room()
    booking = await guest.booked(room)
    await faults(
        house, {"match": "POST /v1/checkout/sessions", "fault": "status", "status": 500, "saved": False, "times": 4}
    )

    page = await guest.checkout(booking)

    await guest.pay(page)
    await guest.becomes(booking, "CONFIRMED")
    assert await house.money(booking) == (24_000, 0)


async def paid(house: House, hotel_keeps: bool = False) -> tuple[Guest, str, str]:  # noqa: FBT001, FBT002 - of a test
    """Return a guest, a booking that the guest paid, and its payment intent."""
    guest, room = await house.guest(), await house.room()
    booking, page = await waiting_for_payment(house, guest, room)
    if hotel_keeps:
        async with await house.connect() as connection:
            await connection.execute(
                "update hotel h set on_full_refund = 'keep' from room r where r.hotel_id = h.id and r.id = %s",
                (room.id,),
            )
    await guest.pay(page)
    await guest.becomes(booking, "CONFIRMED")
    return guest, booking, await payment_of(house, booking)


async def payment_of(house: House, booking: str) -> str:
    [row] = await house.rows("select payments -> 0 ->> 'payment_intent' id from booking where id = %s", booking)
    return str(row["id"])


async def has_event(house: House, booking: str, type: str, count: int = 1) -> None:
    statement = "select count(*) = %s as so from booking_timeline where booking_id = %s and type = %s"
    await house.eventually(statement, count, booking, type)


async def test_after_a_refund_by_hand_the_rest_goes_back_when_the_guest_cancels(house: House) -> None:
    guest, booking, payment = await paid(house)
    await house.stripe("POST", f"/_sandbox/payment_intents/{payment}/refund", json={"amount_minor": 5_000})
    await has_event(house, booking, "booking.refunded.v1")
    assert await guest.status(booking) == "CONFIRMED"

    assert (await guest.ask("POST", f"/v1/bookings/{booking}/cancel")).status == 204

    await has_event(house, booking, "booking.refunded.v1", 2)
    assert await house.money(booking) == (24_000, 24_000)
    events = await house.rows(
        "select event ->> 'amount_minor' amount, coalesce(event ->> 'by_hand', 'false') by_hand from booking_timeline"
        " where booking_id = %s and type = 'booking.refunded.v1' order by sequence",
        booking,
    )
    assert [(int(row["amount"]), row["by_hand"]) for row in events] == [(5_000, "true"), (19_000, "false")]


@pytest.mark.parametrize(("keeps", "status"), [(False, "CANCELLED"), (True, "CONFIRMED")])
async def test_a_hotel_decides_about_a_booking_whose_money_went_back_by_hand(
    house: House,
    keeps: bool,  # noqa: FBT001 - a parameter of the test.
    status: str,
) -> None:
    guest, booking, payment = await paid(house, keeps)

    await house.stripe("POST", f"/_sandbox/payment_intents/{payment}/refund", json={})

    await has_event(house, booking, "booking.refunded.v1")
    await guest.becomes(booking, status)
    assert await house.money(booking) == (24_000, 24_000)


async def test_a_refund_that_fails_later_is_due_again(house: House) -> None:
    guest, room = await house.guest(), await house.room()
    booking, page = await waiting_for_payment(house, guest, room)
    await guest.pay(page, "4000000000005126")
    await guest.becomes(booking, "CONFIRMED")

    assert (await guest.ask("POST", f"/v1/bookings/{booking}/cancel")).status == 204

    await has_event(house, booking, "booking.refund_failed.v1")
    await house.eventually(
        "select status = 'creating' and next_attempt_at > now() and refusals = 1 as so from refund"
        " where booking_id = %s",
        booking,
    )
    assert await house.money(booking) == (24_000, 0)


async def test_a_dispute_that_is_lost_ends_the_refund_and_one_that_is_won_makes_it(house: House) -> None:
    outcomes = {}
    for outcome in ("lost", "won"):
        guest, booking, payment = await paid(house)
        dispute = await house.stripe("POST", f"/_sandbox/payment_intents/{payment}/dispute", json={})
        await has_event(house, booking, "booking.dispute_opened.v1")
        assert (await guest.ask("POST", f"/v1/bookings/{booking}/cancel")).status == 204
        await house.eventually("select count(*) = 1 as so from refund where booking_id = %s and refusals > 0", booking)
        await house.stripe("POST", f"/_sandbox/disputes/{dispute['id']}/close", json={"outcome": outcome})
        await has_event(house, booking, "booking.dispute_closed.v1")
        await house.eventually(
            "select status in ('closed', 'succeeded') as so from refund where booking_id = %s", booking
        )
        outcomes[outcome] = await house.money(booking)

    assert outcomes == {"lost": (24_000, 0), "won": (24_000, 24_000)}


async def test_a_payment_of_another_installation_is_left_alone(house: House) -> None:
    headers = {"Authorization": f"Bearer {house.system.environment()['STRIPE_API_KEY']}"}
    other = "0197a5b2-6c00-8000-8000-00000000f0e1"
    form = {
        "mode": "payment",
        "client_reference_id": other,
        "line_items[0][quantity]": "1",
        "line_items[0][price_data][currency]": "eur",
        "line_items[0][price_data][unit_amount]": "45000",
        "line_items[0][price_data][product_data][name]": "x",
        "success_url": "https://other.example/ok",
        **{
            f"{where}[{name}]": value
            for where in ("metadata", "payment_intent_data[metadata]")
            for name, value in {"booking_id": other, "room_id": "7", "attempt": "1", "mark": "0" * 32}.items()
        },
    }
    url = f"{house.system.stripe_url}/v1/checkout/sessions"
    async with house.session.post(url, data=form, headers=headers) as response:
        session = (await response.json())["id"]

    await house.stripe("POST", f"/_sandbox/sessions/{session}/pay", json={"card": GOOD_CARD})

    await wait_until(lambda: delivered(house, session), message="Stripe reports the payment")
    await webhooks_are_processed(house)
    assert await house.money(other) == (45_000, 0)
    assert await house.rows("select 1 from refund where booking_id = %s", other) == []
    assert await house.rows("select 1 from booking_timeline where booking_id = %s", other) == []


async def delivered(house: House, session: str) -> bool:
    """Return whether the webhook about a session that was paid has arrived."""
    headers = {"Authorization": f"Bearer {house.system.environment()['STRIPE_API_KEY']}"}
    url = f"{house.system.stripe_url}/v1/events?type={COMPLETED}&limit=100"
    async with house.session.get(url, headers=headers) as response:
        events = [each["id"] for each in (await response.json())["data"] if each["data"]["object"]["id"] == session]
    deliveries = await house.stripe("GET", "/_sandbox/deliveries")
    return bool(events) and any(each["event_id"] in events and each["state"] == "delivered" for each in (deliveries))


async def webhooks_are_processed(house: House) -> None:
    """Wait until the payments worker has applied every webhook that is on the log now."""
    topic = house.kafka.topic(STRIPE_WEBHOOKS)
    places = [TopicPartition(topic, partition) for partition in range(house.kafka.topic_partitions)]
    async with AIOKafkaConsumer(bootstrap_servers=house.kafka.kafka_url) as consumer:
        ends = await consumer.end_offsets(places)
    for place, end in ends.items():
        await house.eventually(
            "select coalesce(max(applied), -1) >= %s as so from log_cursor where consumer = 'payments'"
            " and topic = %s and partition = %s",
            end - 1,
            STRIPE_WEBHOOKS.name,
            place.partition,
        )
