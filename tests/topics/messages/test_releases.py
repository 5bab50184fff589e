"""During a rollout every event and command is one that the older release can read.

`release_0_1_0.json` has the message types of 0.1.0 and, for each field with words, the words that it knows. It was made
from the schemas that 0.1.0 published and never changes.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.scenario import given
from tests.workers.decisions.test_every_word import happened
from tests.workers.decisions.words import (
    BOUGHT,
    CANCEL,
    CHANGE_GUESTS,
    CLOSE_REFUND,
    DISPUTE,
    FAIL_REFUND,
    GUESTS,
    HAND_REFUND,
    RECORD_REFUND,
    RESERVE,
    RESERVED,
    ROOM,
    SECOND_DAY,
    but,
    march,
    refused,
    rejected,
)
from tests.workers.decisions.words_at_hotel import ARRIVE, BLOCK, NO_SHOW
from tests.workers.decisions.words_of_sale import SET_TERMS
from topics.messages.commands import COMMANDS, ChangeInventory, Command, RecordRefund, ReserveStay
from topics.messages.events import ChangeEnded, Event, StayChanged, TripCancelRequested
from topics.messages.releases import Release, can_decide, readable_event
from topics.messages.upcasting import written_as_older
from topics.messages.values import BookingStatus, CancelReason, RefundReason, Refusal, Rejection

KNOWN: dict[str, dict[str, list[str]]] = json.loads((Path(__file__).parent / "release_0_1_0.json").read_text())
OLDER, PRESENT = Release.V0_1_0, list(Release)[-1]
NEW_COMMANDS = (CHANGE_GUESTS, FAIL_REFUND, CLOSE_REFUND, DISPUTE, SET_TERMS, BLOCK, ARRIVE, NO_SHOW)


def unknown_to_0_1_0(event: Event) -> Iterator[str]:
    """Yield, in words, what 0.1.0 cannot read of an event."""
    words = KNOWN.get(event.message_type)
    if words is None:
        yield f"the type {event.message_type}"
        return
    value = msgspec.to_builtins(event)
    for path, known in words.items():
        yield from (f"{path} {word}" for word in _values(value, path.split(".")) if word not in {*known, None})


def _values(value: Any, path: list[str]) -> Iterator[Any]:
    name, *rest = path
    if name.endswith("[]"):
        for item in value[name.removesuffix("[]")]:
            yield from _values(item, rest) if rest else [item]
    else:
        yield from _values(value[name], rest) if rest else [value[name]]


def test_every_event_that_a_command_of_0_1_0_can_lead_to_is_readable_for_it() -> None:
    downcasts = written_as_older(1)
    checked = 0
    for one in happened():
        # While 0.1.0 reads the log no booking has a policy, because no room has sale terms, none has a change, and none
        # is a trip.
        of_a_change = getattr(one.event, "reason", None) in (RefundReason.STAY_CHANGED, RefundReason.CHANGE_ENDED)
        later = of_a_change or isinstance(one.event, ChangeEnded | StayChanged | TripCancelRequested)
        later = later or getattr(one.event, "retained_minor", 0) > 0
        if can_decide(OLDER, one.command) and not later:
            event = readable_event(OLDER, one.event)
            downcast = downcasts.get(type(event))
            assert list(unknown_to_0_1_0(event if downcast is None else downcast(event))) == []
            checked += 1
    assert checked > 400


def test_a_word_or_type_that_0_1_0_cannot_read_is_found() -> None:
    assert list(unknown_to_0_1_0(refused(CANCEL, Refusal.STAY_OVER, BookingStatus.CONFIRMED))) == ["reason stay_over"]
    assert list(unknown_to_0_1_0(rejected(RESERVE, Rejection.ACCOUNT_SHARE))) == ["reason account_share"]
    for command in NEW_COMMANDS:
        answers = given(*BOUGHT).when(command).answer
        assert all(list(unknown_to_0_1_0(event)) for event in answers if "command" not in event.message_type)


@pytest.mark.parametrize("reason", Refusal)
def test_every_refusal_has_a_word_of_0_1_0(reason: Refusal) -> None:
    event = refused(CANCEL, reason, BookingStatus.CONFIRMED)
    readable = readable_event(OLDER, event)
    assert list(unknown_to_0_1_0(readable)) == []
    assert (readable == event) == (reason.value in KNOWN[event.message_type]["reason"])


@pytest.mark.parametrize("reason", Rejection)
def test_every_rejection_has_a_word_of_0_1_0(reason: Rejection) -> None:
    event = rejected(RESERVE, reason)
    readable = readable_event(OLDER, event)
    assert list(unknown_to_0_1_0(readable)) == []
    assert (readable == event) == (reason.value in KNOWN[event.message_type]["reason"])


def test_0_1_0_gets_no_values_that_its_tables_would_lose() -> None:
    assert readable_event(OLDER, RESERVED) == but(RESERVED, night_amounts_minor=())
    assert readable_event(OLDER, GUESTS) == but(GUESTS, guest_list_id=None)
    by_hotel = but(CANCEL, user_id=None, reason=CancelReason.BY_HOTEL)
    cancelled, _ = given(*BOUGHT).when(by_hotel, at=SECOND_DAY).answer
    assert readable_event(OLDER, cancelled) == but(cancelled, freed_from=None)


def test_the_ledger_applies_the_event_that_0_1_0_reads() -> None:
    by_hotel = but(CANCEL, user_id=None, reason=CancelReason.BY_HOTEL)
    cancelled, _ = given(*BOUGHT).when(by_hotel, at=SECOND_DAY).answer
    scenario = given(*BOUGHT, readable_event(OLDER, cancelled))
    for day in (10, 11):
        scenario.with_night(ROOM, march(day), booked_count=0)


def test_the_present_release_reads_every_event_as_it_is() -> None:
    assert all(readable_event(PRESENT, one.event) is one.event for one in happened())


@pytest.mark.parametrize("kind", COMMANDS, ids=lambda kind: kind.message_type)
def test_a_command_is_sent_to_0_1_0_if_it_knows_the_type(kind: type[Command]) -> None:
    commands = [one.command for one in happened() if type(one.command) is kind]
    assert commands
    for command in commands:
        assert can_decide(OLDER, command) == (kind.message_type in KNOWN and not _has_what_0_1_0_ignores(command))
        assert can_decide(PRESENT, command)


def _has_what_0_1_0_ignores(command: Command) -> bool:
    """Return whether the command has a field that changes its meaning and that 0.1.0 does not know."""
    fields = (
        *("by_hand", "allowance_count", "plan_id", "party", "quoted", "discount", "code_rejection", "at_desk"),
        *("guest_list_id", "accepted_terms", "trip_id", "moved"),
    )
    if not isinstance(command, RecordRefund | ChangeInventory | ReserveStay):
        return False
    values = [getattr(command, name, None) for name in fields]
    return any(value is not None and value is not False for value in values)


def test_0_1_0_would_refuse_a_refund_by_hand_that_the_present_release_records() -> None:
    assert can_decide(OLDER, RECORD_REFUND)
    assert not can_decide(OLDER, HAND_REFUND)
