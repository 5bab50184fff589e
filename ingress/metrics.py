"""The ingress' own metrics: how long its responses and its SQL statements take."""

import time
from typing import Any, Final

from sqlalchemy import Engine, event

from telemetry import metrics
from telemetry.metrics import Labels, Series

_QUERIES: Final = metrics.QUERY_SECONDS.of()
_responses: Final = metrics.HTTP_ANSWERS.values
# The series in which a response counts, by handler and status: looked up once, not for each response.
_counted: Final[dict[tuple[object, int], tuple[Series, Labels]]] = {}


def count_response(handler: object, status: int, seconds: float) -> None:
    """Count a response and the time that it took. Pages and unknown paths, which are no operation, count as `none`."""
    series, labels = _counted.get((handler, status)) or _series(handler, status)
    series.observe(seconds)
    _responses[labels] += 1


def _series(handler: object, status: int) -> tuple[Series, Labels]:
    row = getattr(getattr(handler, "__self__", None), "row", None)
    # Each unknown path is answered by a handler of its own, and a client can ask for any number of them.
    key = ("none" if row is None else handler, status)
    if key not in _counted:
        metrics.HTTP_ANSWERS.add(0, str(status))
        operation = "none" if row is None else row.id
        _counted[key] = (metrics.HTTP_SECONDS.of(operation, f"{status // 100}xx"), (str(status),))
    return _counted[key]


def measure_statements(engine: Engine) -> None:
    """Measure every statement that goes through this engine."""

    def begins(*arguments: Any) -> None:
        arguments[4]._innkeeper_began = time.perf_counter()  # noqa: SLF001 - ours, on SQLAlchemy's context

    def ends(*arguments: Any) -> None:
        _QUERIES.observe(time.perf_counter() - arguments[4]._innkeeper_began)  # noqa: SLF001 - as above

    event.listen(engine, "before_cursor_execute", begins)
    event.listen(engine, "after_cursor_execute", ends)
