"""Every command of the documents is run on the whole system, but for those named here with their reason.

tests/sandbox/test_demo.py runs README's requests, tests/system/path/test_examples.py the examples, and
tests/docs/test_code_blocks.py checks commands, options and targets without running them.
"""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.docs.blocks import blocks, calls_of, commands
from tests.support.waiting import MAX_WAIT_SECONDS
from tests.system.path.guest import GOOD_CARD, Guest, House, Room

pytestmark = pytest.mark.system

#: The pages have these in place of the reader's own things.
A_BOOKING = ("BOOKING", "019c1e40-77aa-8b15-8d6e-3c5a7e9f1b2d")
A_PAYMENT = "pi_3PqLbK2eZvKYlo2C"
AN_ADDRESS = ("EMAIL", "ines@example.com", "host@example.com")

_A_NAME = "The sentence names the command, and leaves its arguments out."
_A_PROCESS = "It is a process of the system, which runs until it is stopped: the sandbox starts it."
_A_SYSTEM = "It starts a system of its own: tests/sandbox and tests/system/trace do."
_A_WALK = "It is a line of a page that tests/system/money runs from its first line to the last."
#: Calls that are not run here.
NOT_RUN: Mapping[str, str] = {
    "money ${B": _A_WALK,
    **dict.fromkeys(
        (
            "",
            "dead-letters",
            "dead-letters replay",
            "explain",
            "export",
            "export --format jsonl",
            "money",
            "new-generation",
            "rebuild",
            "rebuild --compare-only",
            "refunds close",
            "refunds close PAYMENT --reason ... --yes",
            "refunds retry PAYMENT",
            "replay",
            "restore",
            "sandbox replay",
            "tail --json",
            "tail --room",
            "topics",
            "topics schema",
        ),
        _A_NAME,
    ),
    **dict.fromkeys(
        (
            "ingress",
            "ingress --host 0.0.0.0 --port 8080 --name ingress-1",
            "worker payments --name payments-1",
            "worker reservations",
        ),
        _A_PROCESS,
    ),
    **dict.fromkeys(
        (
            "sandbox demo",
            "sandbox demo --exit",
            "sandbox fail-over",
            "sandbox replay tests/system/trace/hotel_bookings.csv.gz --rooms 100 --workers 3",
            "sandbox replay tests/system/trace/hotel_bookings.csv.gz --rooms 100 --workers 3 --kill-every 3",
            "sandbox up",
            "sandbox up --brokers 3",
            "sandbox up --days-ahead 3",
            "sandbox up --days-ahead N",
            "sandbox up --port 8081 --workers 2",
            "sandbox up --standby",
        ),
        _A_SYSTEM,
    ),
    "new-generation booking.commands --yes": "The workers of this system would decide its whole log again.",
}
#: Calls that run until Ctrl-C: they are ended so after their first line.
ENDLESS = ("audit --watch --every 300", "lag --watch", "tail booking.events --follow")
_A_PLAN = "dd --yes to do it"
_IN_USE = "Workers are connected to this database"
_NO_DEAD_LETTER = "There is no dead letter 3@17"
#: Calls that end with exit status 1 on this system, and parts of the reasons that they may print: the log has as many
#: records as the tests before have made. All others end with 0.
REFUSED: Mapping[str, tuple[str, ...]] = {
    "dead-letters discard 3@17 --note a test of the partner --yes": (_NO_DEAD_LETTER,),
    "dead-letters replay 3@17 --yes": (_NO_DEAD_LETTER,),
    "dead-letters show 3@17": (_NO_DEAD_LETTER,),
    "dead-letters show 3@17 --json": (_NO_DEAD_LETTER,),
    "new-generation TOPIC": (_A_PLAN,),
    "new-generation booking.commands": (_A_PLAN,),
    "pause payments --reason Stripe is down": (_A_PLAN,),
    f"refunds close {A_PAYMENT} --reason waived_by_guest": (_A_PLAN,),
    "replay booking.commands --from 2h --type booking.*": (_A_PLAN,),
    "replay booking.events --partition 3 --from 1200 --consumer booking_timeline --yes": (
        "Nothing is on booking.events",
        "booking.events has no records in that range",
        "Pause it first (innkeeper pause projections)",
    ),
    "replay stripe.webhooks --from 2026-11-22T10:00 --to 2026-11-22T11:00 --yes": (
        "Nothing is on stripe.webhooks",
        "stripe.webhooks has no records in that range",
    ),
    "rebuild all": (_A_PLAN,),
    "restore --from-export DIR --yes": (_IN_USE,),
    "restore --from-export export": (_IN_USE,),
    "restore --from-export export --yes": (_IN_USE,),
    "restore --from-ledger": (_IN_USE,),
    "restore --from-ledger --from-export DIR --yes": (_IN_USE,),
    "restore --from-ledger --from-export export": (_IN_USE,),
    "restore --from-ledger --from-export export --yes": (_IN_USE,),
    "restore --from-log": (_IN_USE,),
    "restore --from-log --yes": (_IN_USE,),
    "resume payments": (_A_PLAN,),
}
#: Programs in blocks of shell that nothing here runs.
OTHER_PROGRAMS: Mapping[str, str] = {
    "docker": "There is no container engine on every machine with the tests; tests/system/deploy reads the files.",
    "kubectl": "There is no cluster; tests/system/deploy reads the manifests.",
    "kafka-acls.sh": "Kafka's own tool; tests/topics gives the same rights to a secured broker.",
    "kafka-topics.sh": "Kafka's own tool; tests/operators/restore deletes the topics as it would.",
    "make": "It makes and tests the checkout; tests/docs/test_code_blocks.py looks for each target.",
    "make-secrets": "tests/system/deploy runs it.",
    "pg_dump": "A tool of PostgreSQL that the sandbox's wheel lacks; tests/operators restores from such a backup.",
    "pip": "It changes the environment in which the tests run.",
    "psql": "A tool of PostgreSQL that the sandbox's wheel lacks; tests/operators restores into such a database.",
    "pre-commit": "It changes the checkout in which the tests run.",
    "run": ".ci/run runs these tests.",
    "sudo": "It makes a folder on the operator's own machine.",
}
#: Programs that other tests run: README's requests and the examples of the pages.
RUN_ELSEWHERE = ("console.sh", "curl", "date", "echo", "grep", "python", "sed")
#: Pages whose blocks tests run from their first line to the last, functions and all: tests/system/money.
RUN_WHOLE = ("docs/money.md", "docs/rates.md")
#: Words of the shell, and lines of other files, or a formula, that are indented like shell.
NO_PROGRAMS = {
    ".",
    "described.sql",
    "do",
    "done",
    "export",
    "location",
    "null",
    "proxy_pass",
    "rate",
    "set",
    "until",
    "while",
}


def documented() -> list[tuple[str, list[str]]]:
    """Return the different calls of `innkeeper` in the order of the pages, as text and as arguments."""
    return list({" ".join(words[1:]): words[1:] for _, words in commands("innkeeper")}.items())


def test_every_program_of_the_documents_is_run_or_has_a_reason() -> None:
    others = [block for block in blocks("sh") if block.page not in RUN_WHOLE]
    lines = [line for block in others for line in block.code.replace("\\\n", " ").splitlines()]
    programs = {words[0] for line in lines for words in calls_of(line)} - NO_PROGRAMS
    calls = {text for text, _ in documented()}

    assert programs - {"innkeeper", *OTHER_PROGRAMS, *RUN_ELSEWHERE} == set()
    assert {*OTHER_PROGRAMS, *RUN_ELSEWHERE} - programs == set(), "these are in no document any more"
    assert {*NOT_RUN, *ENDLESS, *REFUSED} - calls == set(), "these are in no document any more"


def for_the_house(text: list[str], booking: str, email: str, due: Iterator[str]) -> list[str]:
    """Return a call's arguments with things of the house in place of the pages' examples.

    Each call about a payment gets one of its own out of `due`, the payments whose refunds are due.
    """
    found = dict.fromkeys(A_BOOKING, booking) | dict.fromkeys(AN_ADDRESS, email) | {"COMMAND": "explain"}
    found |= {"TOPIC": "booking.commands"}
    if A_PAYMENT in text:
        found[A_PAYMENT] = next(due)
    return [found.get(word, word) for word in text]


@asynccontextmanager
async def refunds_due(house: House, guest: Guest, room: Room, count: int) -> AsyncIterator[list[str]]:
    """Let Stripe refuse all refunds for want of money; yield payments whose refunds are due for it."""
    payments = []
    await house.stripe("POST", "/_sandbox/balance", json={"available_minor": 0})
    try:
        for _ in range(count):
            booking = await guest.booked(room)
            session = (await guest.checkout(booking)).rpartition("/")[2]
            paid = await house.stripe("POST", f"/_sandbox/sessions/{session}/pay", json={"card": GOOD_CARD})
            payments.append(paid["payment_intent"])
            await guest.becomes(booking, "CONFIRMED")
            assert (await guest.ask("POST", f"/v1/bookings/{booking}/cancel")).status == 204
        refused = "select count(*) = %s as so from refund where payment_intent = any (%s) and refusals > 0"
        await house.eventually(refused, count, payments)
        yield payments
    finally:
        await house.stripe("POST", "/_sandbox/balance", json={"available_minor": None})
    # Refunds that nobody closed are made now: a later one would bring webhooks into other tests.
    due_now = (
        "update refund set next_attempt_at = now() where status = 'creating' and payment_intent = any (%s) returning 1"
    )
    await house.rows(due_now, payments)
    await house.eventually("select count(*) = 0 as so from refund where status = 'creating'")


async def results_of(house: House, asked: list[list[str]], folder: Path) -> list[dict[str, Any]]:
    """Run calls one after the other in a folder; return what each of them ended with."""
    ran = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.docs.calls"),
        cwd=folder,
        env=os.environ | house.system.environment() | {"PYTHONPATH": str(Path(__file__).parents[3])},
        stdin=PIPE,
        stdout=PIPE,
    )
    output, _ = await ran.communicate(json.dumps(asked).encode())
    results = [json.loads(line) for line in output.splitlines()]
    assert len(results) == len(asked), output.decode()
    return results


@pytest.mark.asyncio(loop_scope="package")
async def test_every_command_of_the_documents_runs_on_the_whole_system(house: House, tmp_path: Path) -> None:
    guest, room = await house.guest(), await house.room()
    booking = await guest.booked(room)
    [account] = await house.rows("select email from app_user order by id desc limit 1")
    calls = [(text, words) for text, words in documented() if text not in NOT_RUN and text not in ENDLESS]
    about_payments = sum(A_PAYMENT in words for _, words in calls)
    async with refunds_due(house, guest, room, about_payments) as payments:
        due = iter(payments)
        asked = [for_the_house(words, booking, account["email"], due) for _, words in calls]
        # Some of the pages pause a role and do not resume it.
        asked.append(["resume", "payments", "--yes"])
        results = await results_of(house, asked, tmp_path)

    wrong = [
        f"innkeeper {text}: exit status {result['status']}: {result['output'][-1500:]}"
        for (text, _), result in zip(calls, results, strict=False)
        if result["status"] != (1 if text in REFUSED else 0)
        or not any(reason in result["output"] for reason in REFUSED.get(text, ("",)))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.asyncio(loop_scope="package")
@pytest.mark.parametrize("call", ENDLESS)
async def test_a_command_that_runs_for_ever_begins_at_once_and_ends_with_ctrl_c(house: House, call: str) -> None:
    await house.room()  # Its opening is an event: the log is not empty.
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "operators", *call.split()),
        env=os.environ | house.system.environment() | {"PYTHONUNBUFFERED": "1"},
        stdout=PIPE,
        stderr=STDOUT,
    )
    assert running.stdout is not None
    try:
        async with asyncio.timeout(MAX_WAIT_SECONDS):
            first = await running.stdout.readline()
    finally:
        running.send_signal(signal.SIGINT)
        rest, _ = await running.communicate()

    assert first.strip(), rest.decode()
    assert b"Traceback" not in first + rest
    assert running.returncode in {0, 130}
