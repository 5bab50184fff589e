"""`innkeeper actions`: the record of what operators did, as a command shows it."""

import json

import pytest

from operators.cli import console
from storage import operator_log, pauses
from tests.operators.conftest import Ledger, Operator

pytestmark = pytest.mark.system


async def test_operators_actions_are_shown_with_the_newest_first(ledger: Ledger, operator: Operator) -> None:
    await pauses.begin(ledger, "payments", who="carol", reason="an audit")
    await pauses.end(ledger, "payments", who="ines")

    shown = (await operator("actions")).stdout.splitlines()
    listed = [json.loads(line) for line in (await operator("actions", "--json")).stdout.splitlines()]

    first, second = (each["id"] for each in reversed(listed))
    assert first < second
    assert [line.split()[:1] + line.split()[3:] for line in shown[2:]] == [
        [str(second), "UTC", "ines", "resume", "payments", "-"],
        [str(first), "UTC", "carol", "pause", "payments", "reason=an", "audit"],
    ]
    assert [(each["who"], each["action"], each["target"], each["details"]) for each in listed] == [
        ("ines", "resume", "payments", {}),
        ("carol", "pause", "payments", {"reason": "an audit"}),
    ]


async def test_an_operator_may_ask_for_the_last_days_alone(ledger: Ledger, operator: Operator) -> None:
    await operator_log.record(ledger, who="carol", action="replay", target="booking.commands")
    await ledger.execute("update operator_action set at = now() - interval '8 days'")
    await operator_log.record(ledger, who="ines", action="replay", target="stripe.webhooks")

    def who(text: str) -> list[str]:
        return [json.loads(line)["who"] for line in text.splitlines()]

    assert who((await operator("actions", "--json")).stdout) == ["ines", "carol"]
    assert who((await operator("actions", "--since", "7d", "--json")).stdout) == ["ines"]


async def test_a_record_without_actions_is_reported_as_such(ledger: Ledger, operator: Operator) -> None:
    assert (await operator("actions")).stderr == "No operator has done anything, as far as this database knows.\n"
    since = await operator("actions", "--since", "2026-01-01")
    assert since.stderr.startswith("No operator has done anything since 2026-01-01 00:00:00")
    assert (await operator("actions", "--json")).stdout == ""


async def test_a_terminal_of_80_columns_breaks_nothing(
    ledger: Ledger, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    details = {"ranges": {"3": [1, 22]}, "type": "booking.*", "origin": "booking.commands[3]@12345", "records": 22}
    await operator_log.record(
        ledger, who="carol", action="dead-letters replay", target="test.booking.commands", details=details
    )
    monkeypatch.setattr(console.out, "width", 80)

    shown = (await operator("actions")).stdout

    assert max(map(len, shown.splitlines())) <= 80
    words = [word.strip(",;") for word in shown.split()]
    assert {"carol", "test.booking.commands", "origin=booking.commands[3]@12345", "type=booking.*"} <= {*words}
