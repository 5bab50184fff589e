"""One trace from a guest's request to Stripe's webhook if a collector is set; otherwise no cost, not even an import.

The trace is carried by W3C's `traceparent`: in HTTP as a header, on our topics as `ce_traceparent`, on
`stripe.webhooks` as `traceparent`, and at Stripe in the metadata of our objects, which its webhooks bring back.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from telemetry.spans import Tracing

Kind = Literal["server", "client", "producer", "consumer", "internal"]
Attributes = Mapping[str, str | int]

TRACEPARENT: Final = "traceparent"
_WELL_FORMED: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)

#: The last digits of a `traceparent` whose trace is kept: the lowest bit of its flags is set.
_SAMPLED: Final = frozenset("13579bdf")

_tracing: "Tracing | None" = None


def start(endpoint: str, ratio: float, part: str, name: str) -> "Tracing":
    """Send traces to a collector from now on; `ratio` of those that begin here are kept."""
    global _tracing  # noqa: PLW0603 - as logging is, for the whole process
    from telemetry.spans import Tracing, exporting_to  # noqa: PLC0415 - only a process with a collector needs the SDK

    _tracing = Tracing(exporting_to(endpoint), ratio, part, name)
    return _tracing


def use(tracing: "Tracing | None") -> None:
    """Trace with `tracing`, or stop tracing (None): for tests."""
    global _tracing  # noqa: PLW0603 - as above
    _tracing = tracing


def on() -> bool:
    """Return whether this process traces."""
    return _tracing is not None


def well_formed(traceparent: object) -> str | None:
    """Return a foreign `traceparent`, or None when it is not well formed."""
    return traceparent if isinstance(traceparent, str) and _WELL_FORMED.fullmatch(traceparent) else None


def current() -> str | None:
    """Return the `traceparent` of the span that we are in; None when we are in none."""
    return None if _tracing is None else _tracing.current()


@contextmanager
def span(
    name: str, *, kind: Kind = "internal", parent: str | None = None, attributes: Attributes | None = None
) -> Iterator["Span | None"]:
    """Trace the block, as a part of `parent` (a `traceparent`) or of the span that we are in; yield None when off."""
    if _tracing is None:
        yield None
    else:
        with _tracing.inside(name, kind, parent, attributes or {}) as ours:
            yield ours


def begin(name: str, parent: str, attributes: Attributes) -> "Span | None":
    """Begin the span of consuming a message that was sent under `parent`; None when that trace is not kept."""
    if _tracing is None or parent[-1:] not in _SAMPLED:
        return None
    return _tracing.begin(name, parent, attributes)


def end_together(name: str, began_ns: int, spans: Sequence["Span"]) -> None:
    """End spans that were one piece of work, and record that work as a span of its own, linked with each of them."""
    if _tracing is not None:
        _tracing.end_together(name, began_ns, spans)


def traceparent_of(span: "Span") -> str:
    """Return the `traceparent` under which further spans become parts of this one."""
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
