"""A flood of webhooks: true ones many times over and newest first, and as many that somebody forged.

Stripe may send an event more than once, late and in any order; anybody may send what looks like one. The row lets
guests pay while the stand-in withholds the webhooks, and sends them itself, with forged ones between: by another
secret, with another body under the true signature, an old signature, none, or that of another event. Reconciliation is
stopped meanwhile, so that nothing else brings the events.
"""

import asyncio
import json
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid4

import aiohttp

from sandbox.stripe.webhooks import sign
from sandbox.system import STRIPE_KEY, WEBHOOK_SECRET
from tests.faults.groups import ONE_BROKER
from tests.faults.row import Promise, Row, Scene
from tests.support.client import Client
from tests.support.money import read_events
from tests.support.waiting import wait_until
from tests.system.money.desk import Desk
from tests.system.path.guest import House, open_house
from topics.messages.commands import AddGuests, Command, RequestPayment, ReserveStay

#: The bookings that are paid, each with one webhook that confirms it.
BOOKINGS: Final = 250
#: In each round each webhook is sent twice, and a forged one after each.
ROUNDS: Final = 10
#: Long enough for the pages to open and the flood to end, on a slow machine too.
HOLD_SECONDS: Final = 120
#: Requests on their way at once: Stripe sends webhooks side by side.
AT_ONCE: Final = 64
#: Older than the window in which a signature counts (300 s).
OLD_SECONDS: Final = 600
_MAX_SETTLE_SECONDS: Final = 60.0
_MAX_TRIES: Final = 20
_COMPLETED: Final = "checkout.session.completed"
_PATH: Final = "/webhooks/stripe"
RECONCILIATION: Final = "reconciliation-1"

TAKEN: Final = "the ingress took webhooks that Stripe had signed"
REFUSED: Final = "the ingress refused webhooks that Stripe had not signed"
SETTLED: Final = "payments settled a booking of the flood"


class Delivery(NamedTuple):
    """One request of the flood; `signature` None sends no such header."""

    body: str
    signature: str | None
    forged: bool


Forgery = Callable[[str, str, int], tuple[str, str | None]]
"""A body, another event's body and the time; the forged body and its signature."""


def _by_another_secret(body: str, _: str, now: int) -> tuple[str, str | None]:
    return body, sign(body, "whsec_" + secrets.token_hex(16), now)


def _with_another_body(body: str, _: str, now: int) -> tuple[str, str | None]:
    return body.replace('"amount_total": ', '"amount_total": 1'), sign(body, WEBHOOK_SECRET, now)


def _of_long_ago(body: str, _: str, now: int) -> tuple[str, str | None]:
    return body, sign(body, WEBHOOK_SECRET, now - OLD_SECONDS)


def _unsigned(body: str, _: str, now: int) -> tuple[str, str | None]:
    return body, None


def _by_another_event(body: str, other: str, now: int) -> tuple[str, str | None]:
    return body, sign(other, WEBHOOK_SECRET, now)


FORGERIES: Final[Sequence[Forgery]] = (
    _by_another_secret,
    _with_another_body,
    _of_long_ago,
    _unsigned,
    _by_another_event,
)


def flood(bodies: Sequence[str], rounds: int, chance: random.Random) -> Iterator[Delivery]:
    """Yield each body twice in each round, the newest first, with a forged one after each.

    `bodies` are in the order of their events. A delivery is signed when it is yielded, so it must be sent soon.
    """
    for _ in range(rounds):
        for body in reversed(bodies):
            other = bodies[0] if body != bodies[0] else bodies[-1]
            for _ in range(2):
                now = int(time.time())
                yield Delivery(body, sign(body, WEBHOOK_SECRET, now), forged=False)
                yield Delivery(*chance.choice(FORGERIES)(body, other, now), forged=True)


def faults_of(taken: Counter[tuple[bool, int]], sent: int) -> list[str]:
    """Return what is wrong with the answers, which are counted by whether the webhook was forged, and by status."""
    wrong = [
        f"{count} forged webhooks got the answer {status}"
        for (forged, status), count in sorted(taken.items())
        if forged and status != 400
    ]
    wrong += [
        f"{count} webhooks of Stripe's got the answer {status}"
        for (forged, status), count in sorted(taken.items())
        if not forged and status != 200
    ]
    if taken.total() != sent:
        wrong.append(f"{sent - taken.total()} of {sent} webhooks got no answer")
    return wrong


def confirmed_otherwise(bookings: Sequence[UUID], events: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Return the bookings that have not exactly one event that confirms them."""
    confirmed = Counter(event["booking_id"] for kind, event in events if kind == "booking.confirmed.v1")
    return [f"{id} was confirmed {confirmed[str(id)]} times" for id in bookings if confirmed[str(id)] != 1]


async def comes_in_a_flood(scene: Scene) -> None:
    """Send the flood, and wait until all that is true in it is settled."""
    async with open_house(scene.system) as house:
        desk = Desk(house)
        bookings = await _with_pages(desk)
        for booking in bookings:
            scene.town.promises.booked(str(booking), None)
        await scene.system.stop_part(RECONCILIATION)
        try:
            bodies = await _paid_without_webhooks(house, bookings)
            await _flooded(scene, house, desk, bookings, bodies)
        finally:
            await scene.system.start_part(RECONCILIATION)


async def _with_pages(desk: Desk) -> list[UUID]:
    """Let guests book and ask to pay; return the bookings, once each has its payment page."""
    house, inn = desk.house, await desk.inn(total=BOOKINGS)
    check_in = datetime.now(UTC).date() + timedelta(days=20)
    bookings = [uuid4() for _ in range(BOOKINGS)]
    commands: list[Command] = []
    for booking in bookings:
        about: dict[str, Any] = {"room_id": inn.room.id, "booking_id": booking, "user_id": 1}
        reserve = ReserveStay(
            **about,
            hotel_id=inn.room.hotel_id,
            check_in=check_in,
            check_out=check_in + timedelta(days=1),
            hold_seconds=HOLD_SECONDS,
        )
        commands += [reserve, AddGuests(**about, guest_ids=(1,)), RequestPayment(**about)]
    await house.send(*commands)
    pages = "select count(*) = %s as so from checkout_session where booking_id = any(%s) and status = 'open'"
    await house.eventually(pages, BOOKINGS, bookings)
    return bookings


async def _paid_without_webhooks(house: House, bookings: Sequence[UUID]) -> list[str]:
    """Let guests pay while no webhook is sent; return the bodies of the events that were withheld, in their order."""
    rows = await house.rows("select session_id from checkout_session where booking_id = any(%s)", bookings)
    known = {each["event_id"] for each in await house.stripe("GET", "/_sandbox/deliveries")}
    await house.stripe("POST", "/_sandbox/faults", json={"match": _COMPLETED, "fault": "webhook_never", "times": None})
    try:
        for row in rows:
            await house.stripe("POST", f"/_sandbox/sessions/{row['session_id']}/pay", json={})
    finally:
        await house.stripe("DELETE", "/_sandbox/faults")
    deliveries = await house.stripe("GET", "/_sandbox/deliveries")
    withheld = [each for each in deliveries if each["state"] == "withheld" and each["event_id"] not in known]
    return [await _event(house, each["event_id"]) for each in withheld]


async def _event(house: House, event_id: str) -> str:
    headers = {"Authorization": f"Bearer {STRIPE_KEY}"}
    async with house.session.get(f"{house.system.stripe_url}/v1/events/{event_id}", headers=headers) as response:
        assert response.status == 200, await response.text()
        return json.dumps(await response.json(), ensure_ascii=False, indent=2)


async def _flooded(scene: Scene, house: House, desk: Desk, bookings: Sequence[UUID], bodies: Sequence[str]) -> None:
    clock = asyncio.get_running_loop().time
    sent, answers, slowest = 0, Counter[tuple[bool, int]](), 0.0
    deliveries = flood(bodies, ROUNDS, scene.chance)
    client = Client(house.session, scene.system.url)

    async def sends() -> None:
        nonlocal sent, slowest
        for delivery in deliveries:
            sent += 1
            began = clock()
            status = await _answer(client, delivery)
            slowest = max(slowest, clock() - began)
            if status is not None:
                answers[delivery.forged, status] += 1

    began = clock()
    async with asyncio.TaskGroup() as together:
        for _ in range(AT_ONCE):
            together.create_task(sends())
    flooded = clock()
    scene.problems += faults_of(answers, sent)
    scene.causes[TAKEN] += answers[False, 200]
    scene.causes[REFUSED] += answers[True, 400]
    select = "select count(*) as settled from booking where id = any(%s) and status = 'CONFIRMED'"

    async def all_are_settled() -> bool:
        ((settled,),) = [row.values() for row in await house.rows(select, bookings)]
        scene.causes[SETTLED] = settled
        return bool(settled == len(bookings))

    try:
        await wait_until(all_are_settled, _MAX_SETTLE_SECONDS)
    except AssertionError:
        scene.problems.append(f"{scene.causes[SETTLED]} of {len(bookings)} bookings are confirmed")
    scene.figures["webhooks"] = f"{sent} in {flooded - began:.1f} s, the slowest answer after {slowest:.1f} s"
    scene.figures["all settled"] = f"{clock() - flooded:.1f} s after the last webhook"
    scene.problems += confirmed_otherwise(bookings, await read_events(desk.log))


async def _answer(client: Client, delivery: Delivery) -> int | None:
    """Send a webhook, a true one again as Stripe does until it is taken; return the last status, None without one."""
    headers = {"Content-Type": "application/json; charset=utf-8"}
    if delivery.signature is not None:
        headers["Stripe-Signature"] = delivery.signature
    status = None
    for _ in range(_MAX_TRIES):
        try:
            answer = await client.post(_PATH, data=delivery.body.encode(), headers=headers)
        except (aiohttp.ClientError, TimeoutError):
            continue
        status = answer.status
        if not answer.try_again:
            break
        await asyncio.sleep(float(answer.headers["Retry-After"]))
    return status


ROWS: Final = (
    Row(
        id="F14",
        fault=f"{4 * ROUNDS * BOOKINGS:,} webhooks in seconds, doubled and reversed, half of them forged",
        made_by=f"the webhooks of {BOOKINGS} payments are sent {2 * ROUNDS} times, a forged one after each",
        group=ONE_BROKER,
        promises=(
            Promise.MONEY_IS_EXPLAINED,
            Promise.EVERY_PROMISE_IS_KEPT,
            Promise.NO_STATUS_GOES_BACK,
            Promise.THE_LOG_HAS_NO_GAP,
        ),
        breaks=comes_in_a_flood,
        # Guests' own commands wait in the log behind those that follow from the flood.
        is_crowd=True,
        max_wait_seconds=15.0,
        causes=(TAKEN, REFUSED, SETTLED),
    ),
)
