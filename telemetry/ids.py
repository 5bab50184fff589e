"""The ids of a task, for its lines in the log: kept by reference and read when a line is written."""

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Final

Headers = Sequence[tuple[str, bytes | None]] | Sequence[tuple[str, bytes]]

#: All that a line has besides its sentence; what libraries add to theirs is left out.
NAMES: Final = ("request_id", "booking_id", "command_id", "message_id", "correlation_id", "trace_id")
#: Headers of a message that a line shows, and the names under which it does.
_SHOWN: Final = {"ce_id": "message_id", "ce_correlationid": "correlation_id", "ce_causationid": "command_id"}


#: The ids of the task, and the headers of the message that it processes. Every request sets it: a bare tuple.
_bound: ContextVar[tuple[Mapping[str, str], Headers]] = ContextVar("bound")
_NOTHING: Final[tuple[Mapping[str, str], Headers]] = ({}, ())


def about(**ids: str) -> None:
    """Write these ids with every line of this task from here on, in place of those before."""
    _bound.set((ids, ()))


def about_record(headers: Headers) -> None:
    """Write the ids of this message too with every line of this task."""
    _bound.set((_bound.get(_NOTHING)[0], headers))


def bound() -> Mapping[str, str]:
    """Return the ids of this task."""
    ids, headers = _bound.get(_NOTHING)
    return {**ids_of(headers), **ids}


def request_id() -> str | None:
    """Return the id of the request that this task answers; None where it answers none."""
    return _bound.get(_NOTHING)[0].get("request_id")


def ids_of(headers: Headers) -> dict[str, Any]:
    """Return what a line shows of a message: its ids, its booking, and the trace that it belongs to."""
    # A foreign header may have no value.
    found = {name: value.decode(errors="replace") for name, value in headers if value is not None}
    shown = {_SHOWN[name]: value for name, value in found.items() if name in _SHOWN}
    # The command of an event is its cause; the command of a command is itself.
    if "ce_sequence" not in found and "ce_id" in found:
        shown["command_id"] = found["ce_id"]
    if len(subject := found.get("ce_subject", "")) == len("00000000-0000-0000-0000-000000000000"):
        shown["booking_id"] = subject
    if trace := found.get("ce_traceparent") or found.get("traceparent"):
        shown["trace_id"] = trace[3:35]
    return shown
