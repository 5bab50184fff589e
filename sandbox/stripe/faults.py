"""The fault plan: which calls and webhooks fail, how and how often, so that tests can have a bad day."""

import asyncio
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

import msgspec


class Fault(StrEnum):
    """The kinds of faults."""

    LATENCY = "latency"
    """The request waits `seconds`, or until the plan is cleared, before its work begins."""
    HANG = "hang"
    """The request is never worked upon nor answered; the connection stays open."""
    RESET = "reset"
    """The connection is reset before any work is done."""
    STATUS = "status"
    """The request is answered with the error `status` and no work is done."""
    ANSWER_LOST = "answer_lost"
    """The work is done, then the connection is dropped without an answer."""
    ANSWER_CUT = "answer_cut"
    """The work is done, and the connection ends in the middle of the answer's body."""
    WEBHOOK_DUPLICATE = "webhook_duplicate"
    """The event is delivered twice."""
    WEBHOOK_DELAY = "webhook_delay"
    """The event is delivered after `seconds` of real time."""
    WEBHOOK_NEVER = "webhook_never"
    """The event is never delivered; `GET /v1/events?delivery_success=false` shows it."""
    WEBHOOK_REORDER = "webhook_reorder"
    """The event is held back until a later one was delivered."""
    REFUND_PENDS = "refund_pends"
    """The refund is pending, and succeeds after `seconds`."""
    REFUND_FAILS_LATER = "refund_fails_later"
    """The refund succeeds at first, and fails after `seconds`."""


REQUEST_FAULTS = frozenset({Fault.LATENCY, Fault.HANG, Fault.RESET, Fault.STATUS, Fault.ANSWER_LOST, Fault.ANSWER_CUT})
WEBHOOK_FAULTS = frozenset(
    {
        Fault.WEBHOOK_DUPLICATE,
        Fault.WEBHOOK_DELAY,
        Fault.WEBHOOK_NEVER,
        Fault.WEBHOOK_REORDER,
    }
)
REFUND_FAULTS = frozenset({Fault.REFUND_PENDS, Fault.REFUND_FAILS_LATER})


class Rule(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=False):
    """One line of the plan, as it is posted to `/_sandbox/faults`.

    `match` is a method and a path (`POST /v1/checkout/sessions/*/expire`) or an event's type
    (`checkout.session.*`); `*` matches anything. `times` null means until it is cleared.
    `saved`: whether an idempotency key remembers a `status`: by default as Stripe does it,
    a 5xx yes (the work had begun), anything else no.
    """

    match: str
    fault: Fault
    times: int | None = 1
    seconds: float = 0.0
    status: int = 500
    saved: bool | None = None

    def __post_init__(self) -> None:
        speaks_of_an_event = " /" not in self.match
        if (self.fault in WEBHOOK_FAULTS) != speaks_of_an_event:
            needed = "METHOD /path" if speaks_of_an_event else "an event's type"
            raise ValueError(f"{self.fault} needs `match` to be {needed}")

    @property
    def remembered(self) -> bool:
        """Whether an idempotency key replays the error that this rule makes."""
        server_error = 500
        return self.status >= server_error if self.saved is None else self.saved


@dataclass
class FaultPlan:
    """The rules still to strike. They are in memory alone: a restarted stand-in is healthy."""

    cleared: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the present plan is dropped."""
    _rules: list[Rule] = field(default_factory=list)

    def add(self, body: bytes) -> None:
        """Add one rule or a list of them from JSON; raises msgspec.ValidationError."""
        rules = msgspec.json.decode(body, type=Rule | list[Rule])
        self._rules += rules if isinstance(rules, list) else [rules]

    def clear(self) -> None:
        """Forget every rule, and let go what waits because of one."""
        self._rules.clear()
        self.cleared.set()
        self.cleared = asyncio.Event()

    def strike(self, subject: str, kinds: frozenset[Fault]) -> dict[Fault, Rule]:
        """Use up the first rule of each of `kinds` that matches a request or an event's type."""
        struck: dict[Fault, Rule] = {}
        for rule in self._rules:
            if rule.fault in kinds and fnmatchcase(subject, rule.match):
                struck.setdefault(rule.fault, rule)
        for rule in struck.values():
            if rule.times is not None:
                rule.times -= 1
        self._rules = [rule for rule in self._rules if rule.times is None or rule.times > 0]
        return struck

    def as_json(self) -> Any:
        """List the rules that are left."""
        return msgspec.to_builtins(self._rules)
