"""What a task is about, for its lines in the log: ids alone, kept by reference and read when a line is written."""

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from types import MappingProxyType
from typing import Final

#: Which headers of a record in hand are told with a line, and as what.
_TOLD: Final = {"ce_id": "message_id", "ce_correlationid": "correlation_id", "ce_causationid": "command_id"}
_ids: ContextVar[Mapping[str, str]] = ContextVar("ids", default=MappingProxyType({}))
_headers: ContextVar[Sequence[tuple[str, bytes]]] = ContextVar("headers", default=())


def about(**ids: str) -> None:
    """Say with every line of this task, from here on, what it is about; forgets what it was about before."""
    _ids.set(ids)
    _headers.set(())


def about_record(headers: Sequence[tuple[str, bytes]]) -> None:
    """Say with every line which message of ours this task has in hand, besides."""
    _headers.set(headers)


def ids_of(headers: Sequence[tuple[str, bytes]]) -> dict[str, str]:
    """Return what a line tells of a message of ours: the names of its ids, and the trace that it belongs to."""
    told = {_TOLD[name]: value.decode(errors="replace") for name, value in headers if name in _TOLD and value}
    found = dict(headers)
    # An event's command is what caused it; a command's is itself.
    if "ce_sequence" not in found and "message_id" in told:
        told["command_id"] = told["message_id"]
    subject = (found.get("ce_subject") or b"").decode(errors="replace")
    if len(subject) == 36:
        told["booking_id"] = subject
    traceparent = (found.get("ce_traceparent") or found.get("traceparent") or b"").decode(errors="replace")
    if len(traceparent) == 55:
        told["trace_id"] = traceparent[3:35]
    return told


def bound() -> Mapping[str, str]:
    """Return the ids of what this task is about."""
    return {**ids_of(_headers.get()), **_ids.get()}
