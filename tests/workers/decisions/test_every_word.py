"""Every value of the messages and every transition is reached by a scenario; a new one without one fails here.

A scenario is a test of this folder in a module that uses `given`; it has no arguments but those of `parametrize`.
"""

from collections.abc import Callable, Iterator
from functools import cache, partial
from importlib import import_module
from inspect import getmembers, isfunction, signature
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.support.scenario import Happened, given, recorded
from topics.event_triggers import EVENT_TRIGGERS
from topics.messages.commands import COMMANDS, Command
from topics.messages.events import EVENTS, Event, InventoryChanged
from topics.messages.values import (
    BlockReason,
    BookingStatus,
    CancelReason,
    ChangeEnd,
    CodeRefusal,
    DisputeResult,
    HotelReason,
    InventoryRefusal,
    NightRefusal,
    RefundClosing,
    RefundReason,
    Refusal,
    Rejection,
    Terms,
)
from workers.decisions.states import TRANSITIONS

VALUES = (
    *Rejection,
    *Refusal,
    *InventoryRefusal,
    *CodeRefusal,
    *NightRefusal,
    *RefundReason,
    *RefundClosing,
    *DisputeResult,
    *CancelReason,
    *ChangeEnd,
    *HotelReason,
    *BlockReason,
    *Terms,
    *BookingStatus,
)

_PARAM = type(pytest.param())

#: An event that can answer more commands than this counts as an answer to any.
MAX_NAMED = 3


@cache
def happened() -> tuple[Happened, ...]:
    """Play every scenario of this folder, and return all of their events."""
    with recorded() as events:
        for module in _modules():
            for scenario in _scenarios(module):
                scenario()
    return tuple(events)


def _modules() -> Iterator[ModuleType]:
    """Yield the modules of tests beside this one that use `given` of `tests.support.scenario`."""
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        if path != Path(__file__):
            module = import_module(f"{__package__}.{path.stem}")
            if getattr(module, "given", None) is given:
                yield module


def _scenarios(module: ModuleType) -> Iterator[Callable[[], None]]:
    """Yield the module's tests, each as often as it is parametrized; not those that ask for a fixture."""
    for name, function in getmembers(module, isfunction):
        if name.startswith("test_"):
            for arguments in _arguments(function):
                if arguments.keys() == signature(function).parameters.keys():
                    yield partial(function, **arguments)


def _arguments(function: Callable[..., None]) -> Iterator[dict[str, Any]]:
    """Yield the arguments of every case of a test, from its marks."""
    marks = [mark for mark in getattr(function, "pytestmark", ()) if mark.name == "parametrize"]
    for case in product(*(mark.args[1] for mark in marks)):
        arguments: dict[str, Any] = {}
        for mark, value in zip(marks, case, strict=True):
            names = [mark.args[0]] if isinstance(mark.args[0], str) else mark.args[0]
            values = value.values if isinstance(value, _PARAM) else [value] if len(names) == 1 else value
            arguments |= zip(names, values, strict=True)
        yield arguments


def test_the_scenarios_of_every_module_are_played() -> None:
    played = {module.__name__.rpartition(".")[2]: len(list(_scenarios(module))) for module in _modules()}

    assert min(played.values()) > 0
    assert played.keys() >= {
        "test_reserving",
        "test_holds",
        "test_guests",
        "test_paying",
        "test_cancelling",
        "test_refunds",
        "test_disputes",
        "test_hotel_times",
        "test_inventory",
        "test_at_hotel",
        "test_blocks",
        "test_selling",
        "test_policies",
        "test_codes",
        "test_changing",
        "test_moving",
    }


def _values(event: Event) -> Iterator[object]:
    yield from (getattr(event, field) for field in event.__struct_fields__)
    if isinstance(event, InventoryChanged):
        yield from (night.reason for night in event.refused)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__}.{value.name}")
def test_every_value_occurs_in_a_story(value: object) -> None:
    found = {(type(it), it) for one in happened() for it in (*_values(one.event), one.after) if it is not None}
    if value is BookingStatus.PENDING:
        assert (BookingStatus, value) not in found, "pending is the time before the first event"
    else:
        assert (type(value), value) in found


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.message_type)
def test_every_command_is_decided_in_a_story(command: type[Command]) -> None:
    assert command in {type(one.command) for one in happened()}


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.message_type)
def test_every_event_happens_in_a_story(event: type[Event]) -> None:
    assert event in {type(one.event) for one in happened()}


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.message_type)
def test_an_event_answers_the_commands_that_the_documentation_names(event: type[Event]) -> None:
    documented, found = (
        set(EVENT_TRIGGERS[event].after),
        {type(one.command) for one in happened() if type(one.event) is event},
    )

    assert found <= documented
    # An event that any command about a booking can lead to need not follow from each of them in a scenario.
    assert found == documented or len(documented) > MAX_NAMED


@pytest.mark.parametrize(
    ("event", "before", "after"),
    [
        pytest.param(event, before, after, id=f"{event.message_type}-{before}")
        for event, row in TRANSITIONS.items()
        for before, after in row.items()
    ],
)
def test_every_transition_of_the_table_is_made_in_a_story(
    event: type[Event], before: BookingStatus, after: BookingStatus
) -> None:
    made = {(type(one.event), one.before or BookingStatus.PENDING, one.after) for one in happened()}
    assert (event, before, after) in made
