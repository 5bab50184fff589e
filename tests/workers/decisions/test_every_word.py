"""Every word of the log and every move of the table is reached by a story; a new one without a story fails here."""

from collections.abc import Callable, Iterator
from functools import cache
from inspect import getmembers, isfunction, signature
from types import ModuleType

import pytest

from tests.support.story import Told, listening
from tests.workers.decisions import (
    test_cancelling,
    test_guests,
    test_holds,
    test_inventory,
    test_paying,
    test_reserving,
)
from topics.event_triggers import EVENT_TRIGGERS
from topics.messages.commands import COMMANDS, Command
from topics.messages.events import EVENTS, Event, InventoryChanged
from topics.messages.values import (
    BookingStatus,
    CancelReason,
    InventoryRefusal,
    NightRefusal,
    RefundReason,
    Refusal,
    Rejection,
    Terms,
)
from workers.decisions.states import TRANSITIONS

STORIES = (test_reserving, test_holds, test_guests, test_paying, test_cancelling, test_inventory)
WORDS = (
    *Rejection,
    *Refusal,
    *InventoryRefusal,
    *NightRefusal,
    *RefundReason,
    *CancelReason,
    *Terms,
    *BookingStatus,
)

#: An event that more commands than these may lead to is an answer to any.
MAX_NAMED = 3


@cache
def told() -> tuple[Told, ...]:
    """Tell every story that needs nothing to be told, and return all that happened in them."""
    with listening() as heard:
        for module in STORIES:
            for story in _stories(module):
                story()
    return tuple(heard)


def _stories(module: ModuleType) -> Iterator[Callable[[], None]]:
    for name, function in getmembers(module, isfunction):
        if name.startswith("test_") and not signature(function).parameters:
            yield function


def _words(event: Event) -> Iterator[object]:
    yield from (getattr(event, field) for field in event.__struct_fields__)
    if isinstance(event, InventoryChanged):
        yield from (night.reason for night in event.refused)


@pytest.mark.parametrize("word", WORDS, ids=lambda word: f"{type(word).__name__}.{word.name}")
def test_every_word_is_said_in_a_story(word: object) -> None:
    said = {(type(said), said) for one in told() for said in (*_words(one.event), one.after) if said is not None}
    if word is BookingStatus.PENDING:
        assert (BookingStatus, word) not in said, "pending is the time before the first event"
    else:
        assert (type(word), word) in said


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.message_type)
def test_every_command_is_decided_in_a_story(command: type[Command]) -> None:
    assert command in {type(one.command) for one in told()}


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.message_type)
def test_every_event_happens_in_a_story(event: type[Event]) -> None:
    assert event in {type(one.event) for one in told()}


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.message_type)
def test_an_event_answers_the_commands_that_the_documentation_names(event: type[Event]) -> None:
    documented, heard = (
        set(EVENT_TRIGGERS[event].after),
        {type(one.command) for one in told() if type(one.event) is event},
    )

    assert heard <= documented
    # What any command about a booking can lead to, not each of them does in a story.
    assert heard == documented or len(documented) > MAX_NAMED


@pytest.mark.parametrize(
    ("event", "before", "after"),
    [
        pytest.param(event, before, after, id=f"{event.message_type}-{before}")
        for event, row in TRANSITIONS.items()
        for before, after in row.items()
    ],
)
def test_every_move_of_the_table_is_made_in_a_story(
    event: type[Event], before: BookingStatus, after: BookingStatus
) -> None:
    made = {(type(one.event), one.before or BookingStatus.PENDING, one.after) for one in told()}
    assert (event, before, after) in made
