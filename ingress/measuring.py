"""What the ingress tells of itself beside a request's way: how long its answers and its statements take."""

import time
from typing import Any, Final

from sqlalchemy import Engine, event

from telemetry import metrics
from telemetry.metrics import Labels, Series

_QUERIES: Final = metrics.QUERY_SECONDS.of()
_answers: Final = metrics.HTTP_ANSWERS.values
# Where an answer counts, by handler and status: looked up once, not for each answer.
_counted: Final[dict[tuple[object, int], tuple[Series, Labels]]] = {}


def count_answer(handler: object, status: int, seconds: float) -> None:
    """Count an answer and the time that it took. What no operation answers (pages, unknown paths) counts as `none`."""
    series, labels = _counted.get((handler, status)) or _place(handler, status)
    series.observe(seconds)
    _answers[labels] += 1


def _place(handler: object, status: int) -> tuple[Series, Labels]:
    row = getattr(getattr(handler, "__self__", None), "_row", None)
    # Unknown paths are each answered by a handler of their own, and there are as many as somebody likes to ask for.
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
