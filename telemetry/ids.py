"""The ids that a task's log lines carry: bound by reference, and read only when a line is written."""

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Final

Headers = Sequence[tuple[str, bytes | None]] | Sequence[tuple[str, bytes]]

#: The fields of a line besides its sentence; fields that libraries add are left out.
NAMES: Final = ("request_id", "booking_id", "command_id", "message_id", "correlation_id", "trace_id")
#: The headers of our messages that become fields of a line, with their names there.
_HEADER_FIELDS: Final = {"ce_id": "message_id", "ce_correlationid": "correlation_id", "ce_causationid": "command_id"}


#: The ids of the task, and the headers of the message that it handles. Every request sets it, so it is a bare tuple.
_bound: ContextVar[tuple[Mapping[str, str], Headers]] = ContextVar("bound")
_NOTHING: Final[tuple[Mapping[str, str], Headers]] = ({}, ())


def about(**ids: str) -> None:
    """Add these ids to every line of this task from here on, in place of those before."""
    _bound.set((ids, ()))


def about_record(headers: Headers) -> None:
    """Add the ids of one of our messages to every line of this task, besides its own."""
    _bound.set((_bound.get(_NOTHING)[0], headers))


def bound() -> Mapping[str, str]:
    """Return the ids of this task's lines."""
    ids, headers = _bound.get(_NOTHING)
    return {**ids_of(headers), **ids}


def request_id() -> str | None:
    """Return the id of the request that this task answers; None where it answers none."""
    return _bound.get(_NOTHING)[0].get("request_id")


def ids_of(headers: Headers) -> dict[str, Any]:
    """Return the fields for one of our messages: its ids, its booking and its trace."""
    # A header of a foreign record may have no value.
    found = {name: value.decode(errors="replace") for name, value in headers if value is not None}
    fields = {_HEADER_FIELDS[name]: value for name, value in found.items() if name in _HEADER_FIELDS}
    # The command of an event is its causation; the command of a command is itself.
    if "ce_sequence" not in found and "ce_id" in found:
        fields["command_id"] = found["ce_id"]
    if len(subject := found.get("ce_subject", "")) == len("00000000-0000-0000-0000-000000000000"):
        fields["booking_id"] = subject
    if trace := found.get("ce_traceparent") or found.get("traceparent"):
        fields["trace_id"] = trace[3:35]
    return fields
