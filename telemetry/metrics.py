"""Every metric, named once. The event loop counts in plain numbers; a scrape reads them.

A lock and a search by labels for every booking, as the usual clients have, cost more than counting a whole batch here.
Only the event loop counts, so nothing needs a lock; a scrape from its own thread may find a sum that is one observation
ahead of its buckets, and the next one finds it right.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, Final, TypeVar

from topics import backoff

Labels = tuple[str, ...]
Read = Callable[[], Iterable[tuple[Labels, float]]]

INGRESS: Final = ("ingress",)
RESERVATIONS: Final = ("reservations",)
PAYMENTS: Final = ("payments",)
EXPIRY: Final = ("expiry",)
LOG_READERS: Final = ("reservations", "payments", "projections")
EVENT_READERS: Final = ("payments", "projections")
WORKERS: Final = (*LOG_READERS, *EXPIRY)
ALL: Final = (*INGRESS, *WORKERS)

#: Upper bounds of times of requests, in seconds.
_QUICK: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
#: Upper bounds of times through the log, in seconds.
_LOG: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
#: Upper bounds of times in which a guest acts too, in seconds.
_HUMAN: Final = (0.1, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0)
#: Upper bounds of numbers of records.
_RECORDS: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0)


#: Whether anybody can scrape this process; if not, nothing is counted for each request.
are_read = True


class Metric:
    """One number: its name, meaning and unit. `services` are the processes that report it."""

    kind: ClassVar[str]

    def __init__(self, name: str, help: str, *, unit: str, services: Sequence[str], labels: Labels = ()) -> None:
        self.name = name
        self.help = help
        self.unit = unit
        self.services = services
        self.labels = labels


class Counter(Metric):
    """Only ever grows while a process lives."""

    kind = "counter"

    def __init__(self, name: str, help: str, *, unit: str, services: Sequence[str], labels: Labels = ()) -> None:
        super().__init__(name, help, unit=unit, services=services, labels=labels)
        self.values: dict[Labels, int] = {} if labels else {(): 0}

    def add(self, count: int = 1, *labels: str) -> None:
        """Count; with 0 the series begins, so that its first increase is seen."""
        self.values[labels] = self.values.get(labels, 0) + count


class Gauge(Metric):
    """Goes up and down; either set, or asked for at each scrape."""

    kind = "gauge"

    def __init__(self, name: str, help: str, *, unit: str, services: Sequence[str], labels: Labels = ()) -> None:
        super().__init__(name, help, unit=unit, services=services, labels=labels)
        self._values: dict[Labels, float] = {} if labels else {(): 0.0}
        self._read: Read | None = None

    def set(self, value: float, *labels: str) -> None:
        """Set the present value."""
        self._values[labels] = value

    def add(self, change: float, *labels: str) -> None:
        """Change the value."""
        self._values[labels] = self._values.get(labels, 0.0) + change

    def clear(self) -> None:
        """Report nothing any more: another process reports it."""
        self._values.clear()

    def set_function(self, read: Read) -> None:
        """Call `read` for the values at each scrape. The scrape's thread calls it, so it may only look at memory."""
        self._read = read

    def values(self) -> dict[Labels, float]:
        """Return the present values."""
        return dict(self._values) if self._read is None else dict(self._read())


class Series:
    """The observations with one set of labels: how many in each bucket, and their sum."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, or so many of the same."""
        self.counts[bisect_left(self._bounds, value)] += times
        self.total += value * times


class Histogram(Metric):
    """How values are spread over buckets; `bounds` are the buckets' upper ends, the last one is open."""

    kind = "histogram"

    def __init__(
        self,
        name: str,
        help: str,
        *,
        unit: str,
        services: Sequence[str],
        bounds: Sequence[float],
        labels: Labels = (),
    ) -> None:
        super().__init__(name, help, unit=unit, services=services, labels=labels)
        self.bounds = bounds
        self.series: dict[Labels, Series] = {} if labels else {(): Series(bounds)}

    def of(self, *labels: str) -> Series:
        """Return the series with these labels; who observes often keeps it."""
        series = self.series.get(labels)
        if series is None:
            series = self.series[labels] = Series(self.bounds)
        return series


METRICS: Final[list[Metric]] = []
"""All of them, in the order of a booking's way."""

Some = TypeVar("Some", bound=Metric)


def _named(metric: Some) -> Some:
    METRICS.append(metric)
    return metric


INFO: Final = _named(
    Gauge("innkeeper_info", "Always 1: which part this process is.", unit="", services=ALL, labels=("part", "name"))
)

# The ingress.

HTTP_SECONDS: Final = _named(
    Histogram(
        "innkeeper_http_request_seconds",
        "From a request's head to its answer, by operation (as /openapi.json names it) and class of status (`5xx`).",
        unit="seconds",
        services=INGRESS,
        labels=("operation", "answer"),
        bounds=_QUICK,
    )
)
HTTP_ANSWERS: Final = _named(
    Counter("innkeeper_http_answers_total", "Answers, by status.", unit="answers", services=INGRESS, labels=("status",))
)
ACKNOWLEDGED_SECONDS: Final = _named(
    Histogram(
        "innkeeper_acknowledged_seconds",
        "From handing a command or webhook to the producer until the broker has it, or until that failed.",
        unit="seconds",
        services=INGRESS,
        bounds=_QUICK,
    )
)
QUERY_SECONDS: Final = _named(
    Histogram(
        "innkeeper_query_seconds",
        "One SQL statement of the ingress.",
        unit="seconds",
        services=INGRESS,
        bounds=_QUICK,
    )
)
POOL: Final = _named(
    Gauge(
        "innkeeper_pool_connections",
        "Connections to PostgreSQL, by `state`: `used`, and `most` that may be.",
        unit="connections",
        services=(*INGRESS, *PAYMENTS),
        labels=("state",),
    )
)
READY: Final = _named(
    Gauge(
        "innkeeper_ready",
        "1 while what the ingress needs is there: the `broker` to write to, the `events` to read.",
        unit="",
        services=INGRESS,
        labels=("dependency",),
    )
)
WAITING_REQUESTS: Final = _named(
    Gauge("innkeeper_waiting_requests", "Requests that wait for a decision.", unit="requests", services=INGRESS)
)
SEARCH_LOADED: Final = _named(
    Gauge("innkeeper_search_loaded", "1 while searches have a copy to be answered from.", unit="", services=INGRESS)
)
SEARCH_REFRESH_SECONDS: Final = _named(
    Histogram(
        "innkeeper_search_refresh_seconds",
        "Bringing the copy that searches read up to date.",
        unit="seconds",
        services=INGRESS,
        bounds=_QUICK,
    )
)

# Readers of the log.

RECORDS: Final = _named(
    Counter(
        "innkeeper_records_total",
        "Records that were processed, by topic; a record that is read again counts again.",
        unit="records",
        services=LOG_READERS,
        labels=("topic",),
    )
)
RUN_RECORDS: Final = _named(
    Histogram(
        "innkeeper_run_records",
        "Records of one partition in a batch.",
        unit="records",
        services=LOG_READERS,
        bounds=_RECORDS,
    )
)
BATCH_RECORDS: Final = _named(
    Histogram(
        "innkeeper_batch_records",
        "Records in a batch, which is one transaction.",
        unit="records",
        services=LOG_READERS,
        bounds=_RECORDS,
    )
)
TRANSACTION_SECONDS: Final = _named(
    Histogram(
        "innkeeper_transaction_seconds",
        "A batch's transaction: lock, decisions, commit, and every wait for a database that was away.",
        unit="seconds",
        services=LOG_READERS,
        bounds=_QUICK,
    )
)
PUBLISH_SECONDS: Final = _named(
    Histogram(
        "innkeeper_publish_seconds",
        "Publishing what a batch led to, until the broker has all of it.",
        unit="seconds",
        services=LOG_READERS,
        bounds=_QUICK,
    )
)
PUBLISH_RETRIES: Final = _named(
    Counter(
        "innkeeper_publish_retries_total",
        "Times that the broker did not take what was committed, so that it was published again.",
        unit="attempts",
        services=LOG_READERS,
    )
)
DEAD_LETTERS: Final = _named(
    Counter(
        "innkeeper_dead_letters_total",
        "Records that were sent to `dead.letters`.",
        unit="records",
        services=LOG_READERS,
        labels=("consumer", "topic"),
    )
)
LAG: Final = _named(
    Gauge(
        "innkeeper_lag_records",
        "Records of a partition assigned to this process that are not applied, as of its last fetch.",
        unit="records",
        services=LOG_READERS,
        labels=("consumer", "topic", "partition"),
    )
)
TROUBLES: Final = _named(
    Gauge(
        "innkeeper_troubles",
        "Things that wait for a database, broker or Stripe that is away; 0 while all goes well.",
        unit="waits",
        services=WORKERS,
    )
)
TROUBLES.set_function(lambda: [((), backoff.waiting())])

# Decisions.

DECISIONS: Final = _named(
    Counter(
        "innkeeper_decisions_total",
        "Decisions that are committed, by event: reserved against rejected is how many bookings succeed.",
        unit="events",
        services=RESERVATIONS,
        labels=("event",),
    )
)
REJECTIONS: Final = _named(
    Counter(
        "innkeeper_rejections_total",
        "Bookings that the rules refused, by reason.",
        unit="events",
        services=RESERVATIONS,
        labels=("reason",),
    )
)
DECISION_SECONDS: Final = _named(
    Histogram(
        "innkeeper_decision_seconds",
        "From the broker's time of a command (the 202) until its events are published.",
        unit="seconds",
        services=RESERVATIONS,
        bounds=_LOG,
    )
)
CONFIRMATION_SECONDS: Final = _named(
    Histogram(
        "innkeeper_confirmation_seconds",
        "From the making of a booking's id, when it was asked for, until it is confirmed: the guest's time too.",
        unit="seconds",
        services=RESERVATIONS,
        bounds=_HUMAN,
    )
)

# Effects of events.

EVENT_SECONDS: Final = _named(
    Histogram(
        "innkeeper_event_seconds",
        "From the broker's time of an event until this role has applied it.",
        unit="seconds",
        services=EVENT_READERS,
        bounds=_LOG,
    )
)
WEBHOOK_SECONDS: Final = _named(
    Histogram(
        "innkeeper_webhook_seconds",
        "From the broker's time of a webhook of Stripe's until the commands that follow are on the log.",
        unit="seconds",
        services=PAYMENTS,
        bounds=_LOG,
    )
)
STRIPE_SECONDS: Final = _named(
    Histogram(
        "innkeeper_stripe_call_seconds",
        "One request to Stripe, by method and class of the answer's status; `none` when there was no answer.",
        unit="seconds",
        services=PAYMENTS,
        labels=("method", "answer"),
        bounds=_QUICK,
    )
)
STRIPE_FAILURES: Final = _named(
    Gauge(
        "innkeeper_stripe_failures_in_a_row",
        "Requests to Stripe since the last that it answered below 500. There is no breaker: each row waits by itself.",
        unit="requests",
        services=PAYMENTS,
    )
)
LEADS: Final = _named(
    Gauge("innkeeper_expiry_leads", "1 for the one timer that leads, 0 for the others.", unit="", services=EXPIRY)
)
HOLDS: Final = _named(
    Gauge(
        "innkeeper_holds",
        "Holds, by `state`: `live` are all, `overdue` those whose time is over; reported by the timer that leads.",
        unit="holds",
        services=EXPIRY,
        labels=("state",),
    )
)
OLDEST_OVERDUE_SECONDS: Final = _named(
    Gauge(
        "innkeeper_oldest_overdue_hold_seconds",
        "For how long the hold that is most overdue has been over, 0 when none is; reported by the timer that leads.",
        unit="seconds",
        services=EXPIRY,
    )
)
HOLDS_ASKED: Final = _named(
    Counter("innkeeper_holds_asked_total", "Holds that were asked to be ended.", unit="commands", services=EXPIRY)
)
