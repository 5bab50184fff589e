"""Delivers events to the webhook endpoint, signed, and tries again until they are taken.

The books have every undelivered event, so that a restarted stand-in goes on delivering. As with
Stripe, events travel side by side: they may arrive in another order, and more than once.
"""

import asyncio
import hashlib
import hmac
import json
import logging
import time

import aiohttp

from sandbox.stripe.books import Delivery
from sandbox.stripe.till import Till
from sandbox.stripe.timers import wait

log = logging.getLogger(__name__)

_AT_ONCE = 16
_GIVE_UP_SECONDS = 3 * 24 * 60 * 60


async def deliver_webhooks(till: Till) -> None:
    """Deliver what is due when it is due, until cancelled."""
    woken = asyncio.Event()
    till.books.wakes(woken.set)
    on_their_way: dict[int, asyncio.Task[None]] = {}
    timeout = aiohttp.ClientTimeout(total=till.settings.webhook_timeout_seconds)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        try:
            while True:
                woken.clear()
                _raise_what_failed(on_their_way)
                # One moment for both: an event that became due in between would be neither due nor next.
                now = till.steady()
                _start_due(till, http, on_their_way, woken, now)
                next_at = till.books.next_delivery_at(now)
                await wait(woken, None if next_at is None else next_at - till.steady())
        finally:
            for task in on_their_way.values():
                task.cancel()
            await asyncio.gather(*on_their_way.values(), return_exceptions=True)


def sign(body: str, secret: str, at: int) -> str:
    """Make the `Stripe-Signature` header of one delivery (docs.stripe.com/webhooks/signature)."""
    signature = hmac.new(secret.encode(), f"{at}.{body}".encode(), hashlib.sha256).hexdigest()
    return f"t={at},v1={signature}"


def _start_due(
    till: Till,
    http: aiohttp.ClientSession,
    on_their_way: dict[int, asyncio.Task[None]],
    woken: asyncio.Event,
    now: float,
) -> None:
    due = till.books.due_deliveries(now, limit=_AT_ONCE + len(on_their_way))
    waiting = [delivery for delivery in due if delivery.id not in on_their_way]
    for delivery in waiting[: _AT_ONCE - len(on_their_way)]:
        task = asyncio.create_task(_deliver(till, http, delivery))
        task.add_done_callback(lambda _: woken.set())
        on_their_way[delivery.id] = task


def _raise_what_failed(on_their_way: dict[int, asyncio.Task[None]]) -> None:
    """Forget the tasks that are done; one that raised is a bug and ends the courier."""
    for delivery_id, task in list(on_their_way.items()):
        if task.done():
            del on_their_way[delivery_id]
            task.result()


async def _deliver(till: Till, http: aiohttp.ClientSession, delivery: Delivery) -> None:
    taken, answer = await _post(till, http, delivery)
    now = till.steady()
    with till.books.transaction():
        if taken:
            till.books.delivered(delivery, answer, now)
        else:
            till.books.not_delivered(delivery, answer, _again_at(till, delivery, now))
    if not taken:
        log.warning("%s %s not taken: %s", delivery.event_id, delivery.event_type, answer)


async def _post(till: Till, http: aiohttp.ClientSession, delivery: Delivery) -> tuple[bool, str]:
    """Post an event; gives whether it was taken (2xx), and the answer in words."""
    event = till.get("event", delivery.event_id)
    body = json.dumps(event, ensure_ascii=False, indent=2)
    url = till.settings.webhook_url
    if url is None:
        return False, "there is no webhook endpoint any more"
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "Stripe-Signature": sign(body, till.settings.webhook_secret, int(time.time())),
        "User-Agent": "Stripe/1.0 (local stand-in)",
    }
    try:
        async with http.post(url, data=body.encode(), headers=headers, allow_redirects=False) as answer:
            return 200 <= answer.status < 300, f"HTTP {answer.status}"
    except (aiohttp.ClientError, TimeoutError) as error:
        return False, f"{type(error).__name__}: {error}"


def _again_at(till: Till, delivery: Delivery, now: float) -> float | None:
    """Choose the next attempt's time: twice as long each time, and never after three days."""
    if now - delivery.first_at > _GIVE_UP_SECONDS:
        return None
    seconds = till.settings.first_retry_seconds * 2.0 ** min(delivery.attempts, 30)
    return now + min(seconds, till.settings.longest_retry_seconds)
