"""Stripe has a bad day: slow, down, failing, flapping, limiting, silent, or its answers, webhooks and refunds are lost.

The stand-in's plan makes each fault for all calls of the product while guests go on booking and paying. No booking
waits for its decision because of it. A payment page may come too late for a hold; then the hold ends, and money that
arrives all the same buys the stay or goes back. While the circuit to Stripe is open, payments asks every 30 s whether
it is back, so that the first page after an outage may come that much later.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import count
from typing import Any, Final

import aiohttp
import psycopg

from operators import refunds
from storage.database import connect
from storage.settings import DatabaseSettings
from tests.faults.breaking import for_seconds
from tests.faults.groups import ONE_BROKER
from tests.faults.row import Promise, Row, Scene
from tests.faults.scene import first_confirmed
from tests.support.money import Entry, read_ledger
from tests.support.program_logs import ProgramLogs
from tests.support.waiting import wait_until
from tests.system.pipeline.visitors import PlanBuyer

#: How long each fault lasts.
FAULT_SECONDS: Final = 15.0
#: Longer than a call to Stripe may take until payments gives it up.
HANG_SECONDS: Final = 20.0
#: A call that is answered after so long is slow, and not given up.
SLOW_SECONDS: Final = 3.0
#: More calls than there are in a row's time.
MANY: Final = 1_000_000
FLAPS: Final = 5
FLAP_SECONDS: Final = 1.5
#: The circuit stays open for 30 s (`STRIPE_CIRCUIT_OPEN_SECONDS`) after the call before the last; then there is a page.
MAX_CIRCUIT_RECOVERY_SECONDS: Final = 45.0
#: How long a refund that fails later counts as made.
FAILS_AFTER_SECONDS: Final = 1.0
FAILED_REFUNDS: Final = 4
MAX_CANCELLING_SECONDS: Final = 60.0
_READY_EVERY_SECONDS: Final = 0.5
_CALLS: Final = "* /v1/*"
_ALL_WEBHOOKS: Final = ("checkout.session.*", "payment_intent.*", "charge.*", "refund.*")
_FAULTS: Final = "/_sandbox/faults"
_OPERATOR: Final = "fault matrix"

STRUCK: Final = "the stand-in struck calls of the product"
GAVE_UP: Final = "payments stopped calling a Stripe that did not answer"
NAMED: Final = "the ingress named Stripe as away"
TRIED_AGAIN: Final = "payments put a failed call off, or stopped calling Stripe"
LIMITED: Final = "payments put a call off that Stripe had refused for its limit"
CUT: Final = "payments noticed an answer that was cut"
PAID_SLOWLY: Final = "a booking was paid and confirmed meanwhile"
FOUND: Final = "reconciliation found an event that no webhook had brought"
FAILED: Final = "a refund failed after it had succeeded"

_MONEY: Final = (
    Promise.MONEY_IS_EXPLAINED,
    Promise.EVERY_PROMISE_IS_KEPT,
    Promise.HOLDS_END_IN_TIME,
    Promise.NO_STATUS_GOES_BACK,
    Promise.IT_RECOVERS,
)
#: The part of a log line of payments by which each cause is seen.
_LINES: Final = {
    GAVE_UP: "Stripe does not answer",
    TRIED_AGAIN: "tried again later|Stripe does not answer",
    LIMITED: "RateLimitError",
    CUT: "RemoteProtocolError",
}


class Stripe:
    """The control interface of the stand-in."""

    def __init__(self, scene: Scene) -> None:
        self._http = scene.town.http
        self._url = scene.system.stripe_url

    async def plan(self, *rules: Mapping[str, Any]) -> None:
        """Add rules to the plan of faults."""
        async with self._http.post(self._url + _FAULTS, json=list(rules)) as response:
            assert response.status == 201, await response.text()

    async def clear(self) -> int:
        """Drop the plan; return how often its rules struck, of those that may strike `MANY` times."""
        async with self._http.get(self._url + _FAULTS) as response:
            left = await response.json()
        async with self._http.delete(self._url + _FAULTS) as response:
            assert response.status == 204
        return strikes(left)

    async def ledger(self) -> list[Entry]:
        """Return the payments of the stand-in's books."""
        return await read_ledger(self._http, self._url)


def strikes(left: Iterable[Mapping[str, Any]]) -> int:
    """Return how often rules struck that may strike `MANY` times, by how often they still may."""
    return sum(MANY - rule["times"] for rule in left)


async def bad_day(
    scene: Scene,
    *rules: Mapping[str, Any],
    causes: Sequence[str],
    seconds: float = FAULT_SECONDS,
    meanwhile: Callable[[], Awaitable[object]] | None = None,
) -> None:
    """Let the rules strike for some seconds, or until `meanwhile` has ended if that is later; note the causes seen."""
    stripe, logs = Stripe(scene), ProgramLogs(scene.system.logs)
    await stripe.plan(*({"times": MANY, **rule} for rule in rules))
    try:
        async with asyncio.TaskGroup() as together:
            together.create_task(for_seconds(seconds))
            if NAMED in causes:
                together.create_task(_look_at_readiness(scene, seconds))
            if meanwhile is not None:
                together.create_task(_ended(meanwhile))
    finally:
        struck = await stripe.clear()
    note(scene, struck, causes, logs)


async def _ended(meanwhile: Callable[[], Awaitable[object]]) -> None:
    await meanwhile()


def note(scene: Scene, struck: int, causes: Iterable[str], logs: ProgramLogs) -> None:
    """Note how often the plan struck, and the lines of payments that explain the row."""
    scene.causes[STRUCK] += struck
    scene.figures["calls that the stand-in struck"] = str(struck)
    for cause in causes:
        if cause in _LINES:
            scene.causes[cause] += len(logs.lines("payments-*", _LINES[cause]))


async def _look_at_readiness(scene: Scene, seconds: float) -> None:
    """Ask the ingress for some seconds whether it is ready; it is, and names Stripe while payments does not call it."""
    clock = asyncio.get_running_loop().time
    until = clock() + seconds
    while clock() < until:
        try:
            async with scene.town.http.get(f"{scene.system.url}/health/ready") as response:
                parts = (await response.json())["parts"]
        except (aiohttp.ClientError, TimeoutError):
            parts = {}
        scene.causes[NAMED] += parts.get("stripe") in {"open", "half open"}
        await for_seconds(_READY_EVERY_SECONDS)


async def pays(scene: Scene) -> None:
    """Book and pay as guests do until one of them is confirmed."""
    seconds = await first_confirmed(scene.town, "payer")
    if seconds is None:
        scene.problems.append("no booking was paid and confirmed during the fault")
    else:
        scene.causes[PAID_SLOWLY] += 1
        scene.figures["from request to confirmed meanwhile"] = f"{seconds:.1f} s"


async def is_slow(scene: Scene) -> None:
    """Let each answer take seconds: the circuit stays closed, and pages open later."""
    logs = ProgramLogs(scene.system.logs)
    rule = {"match": _CALLS, "fault": "latency", "seconds": SLOW_SECONDS}
    await bad_day(scene, rule, causes=(PAID_SLOWLY,), meanwhile=partial(pays, scene))
    _must_not_give_up(scene, logs)


async def is_down(scene: Scene) -> None:
    """Reset each connection."""
    await bad_day(scene, {"match": _CALLS, "fault": "reset"}, causes=(GAVE_UP, NAMED))


async def fails(scene: Scene) -> None:
    """Answer each call with 500, which Stripe repeats for the same key."""
    await bad_day(scene, {"match": _CALLS, "fault": "status", "status": 500}, causes=(TRIED_AGAIN,))


async def flaps(scene: Scene) -> None:
    """Be away and back several times, for about a second each."""
    stripe, logs = Stripe(scene), ProgramLogs(scene.system.logs)
    struck = 0
    for _ in range(FLAPS):
        await stripe.plan({"match": _CALLS, "fault": "reset", "times": MANY})
        try:
            await for_seconds(FLAP_SECONDS)
        finally:
            struck += await stripe.clear()
        await for_seconds(FLAP_SECONDS)
    note(scene, struck, (TRIED_AGAIN,), logs)


async def limits(scene: Scene) -> None:
    """Refuse each call with 429: Stripe answers, so that the circuit stays closed."""
    logs = ProgramLogs(scene.system.logs)
    await bad_day(scene, {"match": _CALLS, "fault": "status", "status": 429}, causes=(LIMITED,))
    _must_not_give_up(scene, logs)


async def hangs(scene: Scene) -> None:
    """Take each call and never answer it."""
    await bad_day(scene, {"match": _CALLS, "fault": "hang"}, causes=(GAVE_UP, NAMED), seconds=HANG_SECONDS)


async def loses_answers(scene: Scene) -> None:
    """Do the work of each call that changes something, and drop the connection."""
    await bad_day(scene, {"match": "POST /v1/*", "fault": "answer_lost"}, causes=(GAVE_UP, NAMED))


async def cuts_answers(scene: Scene) -> None:
    """Do the work of each call, and end the connection in the middle of the answer."""
    await bad_day(scene, {"match": _CALLS, "fault": "answer_cut"}, causes=(GAVE_UP, CUT))


def _must_not_give_up(scene: Scene, logs: ProgramLogs) -> None:
    if lines := logs.lines("payments-*", _LINES[GAVE_UP]):
        scene.problems.append(f"the circuit opened, though Stripe answered: {lines[0]}")


async def never_sends_webhooks(scene: Scene) -> None:
    """Send no webhook at all: reconciliation brings the events from Stripe's list."""
    logs = ProgramLogs(scene.system.logs)
    rules = [{"match": types, "fault": "webhook_never"} for types in _ALL_WEBHOOKS]
    await bad_day(scene, *rules, causes=(PAID_SLOWLY,), meanwhile=partial(pays, scene))
    scene.causes[FOUND] += len(logs.lines("reconciliation-*", "no webhook brought"))


async def lets_refunds_fail(scene: Scene) -> None:
    """Let each refund fail after it had succeeded; the hotel's operator then tries those again."""
    stripe = Stripe(scene)
    rule = {"match": "POST /v1/refunds", "fault": "refund_fails_later", "seconds": FAILS_AFTER_SECONDS}
    await bad_day(scene, rule, causes=(), meanwhile=partial(_cancel_paid_stays, scene, stripe))
    failed = failed_refunds(await stripe.ledger())
    scene.causes[FAILED] += len(failed)
    scene.figures["refunds that failed later"] = str(len(failed))

    async def all_are_back() -> bool:
        await _retry_refunds(scene)
        return not short_of_refunds(await stripe.ledger())

    await wait_until(all_are_back, message="the refunds that failed are made again")


async def _cancel_paid_stays(scene: Scene, stripe: Stripe) -> None:
    """Let guests pay stays and cancel them until some of their refunds have failed."""
    clock = asyncio.get_running_loop().time
    until = clock() + MAX_CANCELLING_SECONDS
    for number in count():
        if len(failed_refunds(await stripe.ledger())) >= FAILED_REFUNDS or clock() > until:
            return
        guests = [
            PlanBuyer(scene.town, random.Random(f"{number}:{each}"), f"cancels-{time.time_ns()}-{each}", until)
            for each in range(FAILED_REFUNDS)
        ]
        await asyncio.gather(*(guest.story() for guest in guests))


def failed_refunds(ledger: Iterable[Entry]) -> list[str]:
    """Return the ids of the refunds that failed."""
    return [refund["id"] for entry in ledger for refund in entry["refund_objects"] if refund["status"] == "failed"]


def short_of_refunds(ledger: Iterable[Entry]) -> list[str]:
    """Return the payments of which less went back than refunds were tried for: the largest that failed."""
    short = []
    for entry in ledger:
        amounts = [refund["amount_minor"] for refund in entry["refund_objects"] if refund["status"] == "failed"]
        if amounts and entry["refunded_minor"] < max(amounts):
            short.append(entry["payment_intent"])
    return short


async def _retry_refunds(scene: Scene) -> None:
    """Make each refund due now that waits because it failed, as `innkeeper refunds retry` does."""
    settings = DatabaseSettings(_env_file=None, database_url=scene.system.database_url)
    try:
        async with await connect(settings, _OPERATOR) as connection:
            for refund in await refunds.list_refunds(connection, open_only=True):
                if refund.state in {refunds.State.DUE, refunds.State.FAILING}:
                    await refunds.retry(connection, refund.payment, operator=_OPERATOR)
    except (refunds.Refused, psycopg.Error):
        return  # Its state has changed meanwhile: the next look decides.


def _row(
    id: str,
    fault: str,
    made_by: str,
    breaks: Callable[[Scene], Awaitable[None]],
    causes: tuple[str, ...],
    *,
    max_recovery_seconds: float = MAX_CIRCUIT_RECOVERY_SECONDS,
) -> Row:
    return Row(
        id=id,
        fault=fault,
        made_by=made_by,
        group=ONE_BROKER,
        promises=_MONEY,
        breaks=breaks,
        # Stripe is no part of a decision.
        max_wait_seconds=5.0,
        max_recovery_seconds=max_recovery_seconds,
        answers=frozenset(),
        causes=causes,
    )


ROWS: Final = (
    _row(
        "F13",
        "Stripe is slow",
        f"the stand-in answers each call after {SLOW_SECONDS:g} s",
        is_slow,
        (STRUCK, PAID_SLOWLY),
        max_recovery_seconds=30.0,
    ),
    _row("F13b", "Stripe is down", "the stand-in resets each connection", is_down, (STRUCK, GAVE_UP, NAMED)),
    _row("F13c", "Stripe fails", "the stand-in answers each call with 500", fails, (STRUCK, TRIED_AGAIN)),
    _row(
        "F13d",
        "Stripe flaps",
        f"the stand-in resets all connections for {FLAP_SECONDS:g} s and serves for as long, {FLAPS} times",
        flaps,
        (STRUCK, TRIED_AGAIN),
    ),
    _row(
        "F13e",
        "Stripe limits calls",
        "the stand-in answers each call with 429",
        limits,
        (STRUCK, LIMITED),
        max_recovery_seconds=30.0,
    ),
    _row("F13f", "Stripe hangs", "the stand-in takes each call and answers none", hangs, (STRUCK, GAVE_UP, NAMED)),
    _row(
        "F13g",
        "Stripe's answers are lost",
        "the stand-in does the work of each POST and resets the connection",
        loses_answers,
        (STRUCK, GAVE_UP, NAMED),
    ),
    _row(
        "F13h",
        "Stripe's answers are cut",
        "the stand-in does the work of each call and ends the connection in the middle of the answer's body",
        cuts_answers,
        (STRUCK, GAVE_UP, CUT),
    ),
    _row(
        "F16",
        "webhooks never come",
        "the stand-in sends none, and Stripe's list of events has them",
        never_sends_webhooks,
        (STRUCK, PAID_SLOWLY, FOUND),
        max_recovery_seconds=30.0,
    ),
    _row(
        "F16b",
        "refunds fail later",
        f"the stand-in lets each refund fail {FAILS_AFTER_SECONDS:g} s after it succeeded; then an operator retries",
        lets_refunds_fail,
        (STRUCK, FAILED),
        max_recovery_seconds=30.0,
    ),
)
