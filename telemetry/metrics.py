"""Every metric of Innkeeper, named once. Processes count in plain numbers; a scrape reads them.

prometheus_client 0.26, the newest release on PyPI, takes a lock for every observation, cannot observe one value several
times, and has no gauge whose labels are known at the scrape alone: its counters cost the ingress 2.4 % of a booking
(ADR 0019). Only the event loop counts here, so no lock is needed; a scrape runs in its own thread and may read a sum
that is one observation ahead of its buckets, which the next scrape corrects.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, Final, TypeVar

from topics import backoff

Labels = tuple[str, ...]
ReadValues = Callable[[], Iterable[tuple[Labels, float]]]

INGRESS: Final = ("ingress",)
RESERVATIONS: Final = ("reservations",)
PAYMENTS: Final = ("payments",)
EXPIRY: Final = ("expiry",)
COORDINATION: Final = ("coordination",)
RECONCILIATION: Final = ("reconciliation",)
LOG_READERS: Final = ("reservations", "payments", "projections", "coordination")
EVENT_READERS: Final = ("payments", "projections", "coordination")
WORKERS: Final = (*LOG_READERS, *EXPIRY, *RECONCILIATION)
ALL: Final = (*INGRESS, *WORKERS)

#: Upper bounds for requests that get their response at once, in seconds.
_ANSWER_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
#: Upper bounds for times that include the way through the log, in seconds.
_LOG_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
#: Upper bounds for times that include a guest's own, in seconds.
_GUEST_BOUNDS: Final = (0.1, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0)
#: Upper bounds for numbers of records.
_RECORD_BOUNDS: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0)


#: Whether this process can be scraped; if not, requests need not be counted.
are_read = True


class Metric:
    """One metric. `services` are the processes that have it; `unit` is the unit of its values."""

    kind: ClassVar[str]

    def __init__(self, name: str, help: str, *, unit: str, services: Sequence[str], labels: Labels = ()) -> None:
        self.name = name
        self.help = help
        self.unit = unit
        self.services = services
        self.labels = labels


class Counter(Metric):
    """A count that only grows while a process runs."""

    kind = "counter"

    def __init__(self, name: str, help: str, *, unit: str, services: Sequence[str], labels: Labels = ()) -> None:
        super().__init__(name, help, unit=unit, services=services, labels=labels)
        self.values: dict[Labels, int] = {} if labels else {(): 0}

    def add(self, count: int = 1, *labels: str) -> None:
        """Add to the count; a count of 0 begins the series, so that its first increase is visible."""
        self.values[labels] = self.values.get(labels, 0) + count


class Gauge(Metric):
    """A value that goes up and down; either set, or read by a function at each scrape."""

    kind = "gauge"

    def __init__(self, name: str, help: str, *, unit: str, services: Sequence[str], labels: Labels = ()) -> None:
        super().__init__(name, help, unit=unit, services=services, labels=labels)
        self._values: dict[Labels, float] = {} if labels else {(): 0.0}
        self._read: ReadValues | None = None

    def set(self, value: float, *labels: str) -> None:
        """Set the value."""
        self._values[labels] = value

    def add(self, change: float, *labels: str) -> None:
        """Change the value."""
        self._values[labels] = self._values.get(labels, 0.0) + change

    def clear(self) -> None:
        """Remove all values: another process exports them now."""
        self._values.clear()

    def set_function(self, read: ReadValues) -> None:
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
        """Count a value, or several equal ones."""
        self.counts[bisect_left(self._bounds, value)] += times
        self.total += value * times


class Histogram(Metric):
    """The distribution of values over buckets; `bounds` are the buckets' upper ends, the last one is open."""

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
        """Return the series with these labels; code that observes often keeps it."""
        series = self.series.get(labels)
        if series is None:
            series = self.series[labels] = Series(self.bounds)
        return series


METRICS: Final[list[Metric]] = []
"""All metrics, in the order of a booking's way through the system."""

Some = TypeVar("Some", bound=Metric)


def _register(metric: Some) -> Some:
    METRICS.append(metric)
    return metric


INFO: Final = _register(
    Gauge(
        "innkeeper_info",
        "Always 1; the labels name the part that this process is.",
        unit="",
        services=ALL,
        labels=("part", "name"),
    )
)

# The ingress.

HTTP_SECONDS: Final = _register(
    Histogram(
        "innkeeper_http_request_seconds",
        "From a request's head to its answer, by operation (as /openapi.json names it) and class of status (`5xx`).",
        unit="seconds",
        services=INGRESS,
        labels=("operation", "answer"),
        bounds=_ANSWER_BOUNDS,
    )
)
HTTP_ANSWERS: Final = _register(
    Counter(
        "innkeeper_http_answers_total",
        "Answers, by status; 499 went to nobody, because the client had hung up.",
        unit="answers",
        services=INGRESS,
        labels=("status",),
    )
)
ACKNOWLEDGED_SECONDS: Final = _register(
    Histogram(
        "innkeeper_acknowledged_seconds",
        "From handing a command or webhook to the producer until the broker has it, or the attempt failed.",
        unit="seconds",
        services=INGRESS,
        bounds=_ANSWER_BOUNDS,
    )
)
QUERY_SECONDS: Final = _register(
    Histogram(
        "innkeeper_query_seconds",
        "One SQL statement of the ingress.",
        unit="seconds",
        services=INGRESS,
        bounds=_ANSWER_BOUNDS,
    )
)
DATABASE_FAILURES: Final = _register(
    Counter(
        "innkeeper_database_failures_total",
        "Requests that the database did not serve, those too that were answered 202, by `reason`: `away`, `busy` (all"
        " connections are in use), `full`,"
        " `locked`, `no right` or `read-only`.",
        unit="requests",
        services=INGRESS,
        labels=("reason",),
    )
)
POOL: Final = _register(
    Gauge(
        "innkeeper_pool_connections",
        "Connections to PostgreSQL, by `state`: `used`, and `most` that may be.",
        unit="connections",
        services=(*INGRESS, *PAYMENTS),
        labels=("state",),
    )
)
READY: Final = _register(
    Gauge(
        "innkeeper_ready",
        "1 while a dependency of the ingress answers: the `broker` to write to (for some partitions at least), the"
        " `events` to read.",
        unit="",
        services=INGRESS,
        labels=("dependency",),
    )
)
WAITING_REQUESTS: Final = _register(
    Gauge("innkeeper_waiting_requests", "Requests that wait for a decision.", unit="requests", services=INGRESS)
)
SEARCH_LOADED: Final = _register(
    Gauge(
        "innkeeper_search_loaded",
        "1 while the search index is loaded, from which searches are answered.",
        unit="",
        services=INGRESS,
    )
)
SEARCH_REFRESH_SECONDS: Final = _register(
    Histogram(
        "innkeeper_search_refresh_seconds",
        "Bringing the search index up to date.",
        unit="seconds",
        services=INGRESS,
        bounds=_ANSWER_BOUNDS,
    )
)

# Workers that read the log.

RECORDS: Final = _register(
    Counter(
        "innkeeper_records_total",
        "Processed records, by topic; a record that is read again counts again.",
        unit="records",
        services=LOG_READERS,
        labels=("topic",),
    )
)
PARTITION_BATCH_RECORDS: Final = _register(
    Histogram(
        "innkeeper_run_records",
        "Records of one partition in a batch.",
        unit="records",
        services=LOG_READERS,
        bounds=_RECORD_BOUNDS,
    )
)
BATCH_RECORDS: Final = _register(
    Histogram(
        "innkeeper_batch_records",
        "Records in a batch, which is one transaction.",
        unit="records",
        services=LOG_READERS,
        bounds=_RECORD_BOUNDS,
    )
)
TRANSACTION_SECONDS: Final = _register(
    Histogram(
        "innkeeper_transaction_seconds",
        "A batch's transaction: lock, decisions, commit, and every wait for a database that was away.",
        unit="seconds",
        services=LOG_READERS,
        bounds=_ANSWER_BOUNDS,
    )
)
PUBLISH_SECONDS: Final = _register(
    Histogram(
        "innkeeper_publish_seconds",
        "Publishing the records that follow from a batch, until the broker has all of them.",
        unit="seconds",
        services=LOG_READERS,
        bounds=_ANSWER_BOUNDS,
    )
)
PUBLISH_RETRIES: Final = _register(
    Counter(
        "innkeeper_publish_retries_total",
        "Times that the broker did not acknowledge committed records, so that they were published again.",
        unit="attempts",
        services=LOG_READERS,
    )
)
DEAD_LETTERS: Final = _register(
    Counter(
        "innkeeper_dead_letters_total",
        "Records that were sent to the dead-letter topic, `dead.letters`.",
        unit="records",
        services=LOG_READERS,
        labels=("consumer", "topic"),
    )
)
LAG: Final = _register(
    Gauge(
        "innkeeper_lag_records",
        "Records of an assigned partition that this process has not applied, as of its last fetch.",
        unit="records",
        services=LOG_READERS,
        labels=("consumer", "topic", "partition"),
    )
)
RETRY_LOOPS: Final = _register(
    Gauge(
        "innkeeper_troubles",
        "Retry loops that wait, by reason: the database is `away`, `full`, `busy`, `locked` or `read-only`, or gives"
        " `no right`; `other`: the broker or Stripe is away. 0 while everything works.",
        unit="waits",
        services=WORKERS,
        labels=("reason",),
    )
)
RETRY_LOOPS.set_function(lambda: [((reason,), count) for reason, count in backoff.waiting().items()])

# Decisions.

DECISIONS: Final = _register(
    Counter(
        "innkeeper_decisions_total",
        "Published decisions, by event type: reserved against rejected is the share of bookings that succeed.",
        unit="events",
        services=RESERVATIONS,
        labels=("event",),
    )
)
REJECTIONS: Final = _register(
    Counter(
        "innkeeper_rejections_total",
        "Bookings that the rules refused, by reason.",
        unit="events",
        services=RESERVATIONS,
        labels=("reason",),
    )
)
DECISION_SECONDS: Final = _register(
    Histogram(
        "innkeeper_decision_seconds",
        "From the broker's time of a command (the 202) until its events are published.",
        unit="seconds",
        services=RESERVATIONS,
        bounds=_LOG_BOUNDS,
    )
)
CONFIRMATION_SECONDS: Final = _register(
    Histogram(
        "innkeeper_confirmation_seconds",
        "From a booking's request (its id has the time) to its published confirmation, with the guest's own time.",
        unit="seconds",
        services=RESERVATIONS,
        bounds=_GUEST_BOUNDS,
    )
)

# Effects of events.

EVENT_SECONDS: Final = _register(
    Histogram(
        "innkeeper_event_seconds",
        "From the broker's time of an event until this role has applied it.",
        unit="seconds",
        services=EVENT_READERS,
        bounds=_LOG_BOUNDS,
    )
)
WEBHOOK_SECONDS: Final = _register(
    Histogram(
        "innkeeper_webhook_seconds",
        "From the broker's time of a webhook of Stripe's until the commands that follow from it are published.",
        unit="seconds",
        services=PAYMENTS,
        bounds=_LOG_BOUNDS,
    )
)
STRIPE_SECONDS: Final = _register(
    Histogram(
        "innkeeper_stripe_call_seconds",
        "One request to Stripe, by method and class of the answer's status; `none` when there was no answer.",
        unit="seconds",
        services=PAYMENTS,
        labels=("method", "answer"),
        bounds=_ANSWER_BOUNDS,
    )
)
STRIPE_FAILURES: Final = _register(
    Gauge(
        "innkeeper_stripe_failures_in_a_row",
        "Requests to Stripe since the last that it answered below 500.",
        unit="requests",
        services=PAYMENTS,
    )
)
STRIPE_CIRCUIT: Final = _register(
    Gauge(
        "innkeeper_stripe_circuit",
        "1 for the `state` of this worker's circuit to Stripe: `closed`, `open` (no calls), `half_open` (one call).",
        unit="",
        services=PAYMENTS,
        labels=("state",),
    )
)
STRIPE_CIRCUIT_OPENINGS: Final = _register(
    Counter(
        "innkeeper_stripe_circuit_openings_total",
        "Times that this worker's circuit to Stripe opened; a probe without an answer does not count again.",
        unit="openings",
        services=PAYMENTS,
    )
)
REFUNDS: Final = _register(
    Gauge(
        "innkeeper_refunds",
        "Unfinished refunds, by `state`: `due` are still to be made, `pending` are on their way at Stripe.",
        unit="refunds",
        services=PAYMENTS,
        labels=("state",),
    )
)
OLDEST_REFUND_DUE_SECONDS: Final = _register(
    Gauge(
        "innkeeper_oldest_refund_due_seconds",
        "For how long the oldest refund has been due that is still to be made, 0 when none is.",
        unit="seconds",
        services=PAYMENTS,
    )
)
REFUNDS_FAILING: Final = _register(
    Gauge(
        "innkeeper_refunds_failing",
        "Refunds that are due and failed or were refused five times or more; they are still tried, after growing pauses"
        " of up to six hours.",
        unit="refunds",
        services=PAYMENTS,
    )
)
OLDEST_REFUND_PENDING_SECONDS: Final = _register(
    Gauge(
        "innkeeper_oldest_refund_pending_seconds",
        "For how long the oldest refund has been on its way at Stripe, ours or one by hand; 0 when none is.",
        unit="seconds",
        services=PAYMENTS,
    )
)
REFUND_FAILURES: Final = _register(
    Counter(
        "innkeeper_refund_failures_total",
        "Refunds that failed after Stripe had taken them; `by_hand`: `true` for those that a person made.",
        unit="refunds",
        services=PAYMENTS,
        labels=("by_hand",),
    )
)
REFUND_REFUSALS: Final = _register(
    Counter(
        "innkeeper_refund_refusals_total",
        "Refunds that Stripe refused or that failed at once, by Stripe's code; each is tried again.",
        unit="calls",
        services=PAYMENTS,
        labels=("code",),
    )
)
DISPUTES_OPEN: Final = _register(
    Gauge("innkeeper_disputes_open", "Disputes of payments that are not decided.", unit="disputes", services=PAYMENTS)
)
INQUIRIES: Final = _register(
    Counter(
        "innkeeper_inquiries_total",
        "Webhooks about inquiries of banks, which take no money of a payment.",
        unit="webhooks",
        services=PAYMENTS,
    )
)
FOREIGN_OBJECTS: Final = _register(
    Counter(
        "innkeeper_foreign_objects_total",
        "Objects in webhooks that are not of this installation and were left alone, by kind (`session`, `refund`).",
        unit="objects",
        services=PAYMENTS,
        labels=("kind",),
    )
)
WITHHELD_COMMANDS: Final = _register(
    Counter(
        "innkeeper_withheld_commands_total",
        "Commands that were not sent, since a worker of the release `LOG_READABLE_BY` could not decide them.",
        unit="commands",
        services=(*PAYMENTS, *COORDINATION),
        labels=("command",),
    )
)
LEADS: Final = _register(
    Gauge("innkeeper_expiry_leads", "1 for the timer that leads, 0 for those that wait.", unit="", services=EXPIRY)
)
HOLDS: Final = _register(
    Gauge(
        "innkeeper_holds",
        "Holds, by `state`: `live` are all, `overdue` those whose time is over; exported by the timer that leads.",
        unit="holds",
        services=EXPIRY,
        labels=("state",),
    )
)
OLDEST_OVERDUE_SECONDS: Final = _register(
    Gauge(
        "innkeeper_oldest_overdue_hold_seconds",
        "For how long the most overdue hold has been over, 0 when none is; exported by the timer that leads.",
        unit="seconds",
        services=EXPIRY,
    )
)
HOLD_COMMANDS: Final = _register(
    Counter("innkeeper_holds_asked_total", "Commands that were sent to end a hold.", unit="commands", services=EXPIRY)
)

# Reconciliation.

RECONCILIATION_LEADS: Final = _register(
    Gauge(
        "innkeeper_reconciliation_leads",
        "1 for the process that reconciles, 0 for those that wait.",
        unit="",
        services=RECONCILIATION,
    )
)
UNRECONCILED_SECONDS: Final = _register(
    Gauge(
        "innkeeper_unreconciled_seconds",
        "Time since the process that leads last read Stripe's list of events, or since it last compared if it cannot"
        " compare because Stripe is away; 0 for those that wait.",
        unit="seconds",
        services=RECONCILIATION,
    )
)
LOST_WEBHOOKS: Final = _register(
    Counter(
        "innkeeper_lost_webhooks_total",
        "Events of Stripe's that no webhook brought, by type; each was put on `stripe.webhooks` from Stripe's list.",
        unit="events",
        services=RECONCILIATION,
        labels=("type",),
    )
)
MONEY_DIFFERENCES: Final = _register(
    Gauge(
        "innkeeper_money_differences",
        "Differences between the money at Stripe and the bookings that the last comparison left to an operator, by"
        " kind.",
        unit="differences",
        services=RECONCILIATION,
        labels=("kind",),
    )
)
MONEY_MENDED: Final = _register(
    Counter(
        "innkeeper_money_mended_total",
        "Differences between the money at Stripe and the bookings that reconciliation mended, by kind.",
        unit="differences",
        services=RECONCILIATION,
        labels=("kind",),
    )
)
