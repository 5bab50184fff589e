"""The state that all parts of the stand-in share: books, clock, faults, settings, and events."""

import asyncio
import secrets
import string
import time
from dataclasses import dataclass, field
from typing import Any, Final

from sandbox.stripe.books import Books, Json
from sandbox.stripe.clock import Clock
from sandbox.stripe.faults import WEBHOOK_FAULTS, Fault, FaultPlan
from sandbox.stripe.refused import no_such

API_VERSION = "2026-10-28.endive"
"""The version of the API that the SDK this project pins was generated for."""

# Stripe leaves these fields out of an object and gives them no null; the SDK's types do not show the difference.
_LEFT_OUT: Final = {
    "charge": frozenset({"presentment_details", "radar_options", "transfer"}),
    "checkout.session": frozenset(
        {
            "branding_settings",
            "excluded_payment_method_types",
            "line_items",
            "name_collection",
            "phone_number_collection",
            "presentment_details",
            "redirect_on_completion",
            "return_url",
            "tax_id_collection",
        }
    ),
    "item": frozenset({"discounts", "taxes"}),
    "payment_intent": frozenset({"amount_details", "hooks", "payment_details", "presentment_details"}),
    "refund": frozenset(
        {
            "description",
            "destination_details",
            "failure_balance_transaction",
            "failure_reason",
            "instructions_email",
            "next_action",
            "pending_reason",
            "presentment_details",
        }
    ),
}

_ALPHABET = string.ascii_letters + string.digits


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the stand-in is set up.

    `key` None takes any key that begins with `sk_test_` or `rk_test_`. Without a `webhook_url`
    no event is delivered. `events` empty means every type is delivered. Delays of payments and
    refunds follow the stand-in's clock, those of webhooks real time. `statement_prefix` is the
    account's part of the words on a card's statement, of 2 to 10 characters.
    """

    webhook_url: str | None = None
    webhook_secret: str = "whsec_sandbox"  # noqa: S105 - of the sandbox alone
    key: str | None = None
    events: frozenset[str] = frozenset()
    public_url: str | None = None
    statement_prefix: str = "INNKEEPER"
    late_payment_seconds: float = 5.0
    late_refund_seconds: float = 5.0
    #: Longer than a machine pauses: an event that was taken in that time would come twice.
    webhook_timeout_seconds: float = 30.0
    first_retry_seconds: float = 0.5
    longest_retry_seconds: float = 30.0


@dataclass(frozen=True, kw_only=True)
class Cause:
    """The API request behind a change; a guest at the payment page and a timer have none."""

    request_id: str | None = None
    idempotency_key: str | None = None


NOBODY = Cause()


@dataclass(kw_only=True)
class Till:
    """The stand-in's state, handed to every function that acts upon it."""

    books: Books
    settings: Settings
    clock: Clock = field(default_factory=Clock)
    faults: FaultPlan = field(default_factory=FaultPlan)
    url: str = ""
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by a signal, or by a background worker that met a bug: the stand-in then ends."""

    _epoch: float = field(default_factory=lambda: time.time() - time.monotonic())

    def now(self) -> int:
        """Whole seconds since the epoch, as Stripe gives times."""
        return int(self.clock.now())

    def steady(self) -> float:
        """Return the seconds since the epoch by a clock that never leaps: webhooks are on their way by it."""
        return self._epoch + time.monotonic()

    def get(self, kind: str, object_id: str, *, param: str = "id") -> Json:
        """Read an object; raises Refused (404) if there is none."""
        found = self.books.find(kind, object_id)
        if found is None:
            raise no_such(kind, object_id, param=param)
        return found

    def emit(self, event_type: str, about: Json, cause: Cause = NOBODY, *, previous: Json | None = None) -> None:
        """Record an event with a picture of the object as it is now, and put it on its way.

        `previous` has the values before the change of the fields that an `*.updated` event is about.
        """
        wanted = self.settings.webhook_url is not None and (
            not self.settings.events or event_type in self.settings.events
        )
        event: Json = {
            "id": new_id("evt_"),
            "object": "event",
            "api_version": API_VERSION,
            "created": self.now(),
            "data": {"object": shown(about)} | ({} if previous is None else {"previous_attributes": previous}),
            "livemode": False,
            "pending_webhooks": int(wanted),
            "request": {"id": cause.request_id, "idempotency_key": cause.idempotency_key},
            "type": event_type,
        }
        self.books.put(event)
        if wanted:
            self._send(event)

    def _send(self, event: Json) -> None:
        faults = self.faults.strike(event["type"], WEBHOOK_FAULTS)
        now = self.steady()
        state, due_at = "pending", now
        if Fault.WEBHOOK_NEVER in faults:
            state = "withheld"
        elif Fault.WEBHOOK_REORDER in faults:
            state = "held"
        if Fault.WEBHOOK_DELAY in faults:
            due_at += faults[Fault.WEBHOOK_DELAY].seconds
        for _ in range(2 if Fault.WEBHOOK_DUPLICATE in faults else 1):
            self.books.send(event, state=state, at=due_at, first_at=now)


def new_id(prefix: str, length: int = 24) -> str:
    """Make an id as Stripe makes them: a prefix that names the kind, then letters and digits."""
    return prefix + "".join(secrets.choice(_ALPHABET) for _ in range(length))


def shown(stored: Json) -> Json:
    """Give an object as the API shows it, without the fields that begin with an underscore: they are ours alone."""
    left_out = _LEFT_OUT.get(stored.get("object", ""), frozenset())
    return {
        name: value
        for name, value in stored.items()
        if not name.startswith("_") and not (value is None and name in left_out)
    }


def nulls_of(sdk_type: Any) -> Json:
    """Give null for every field that may be null or left out by the SDK's type of an object.

    A caller then finds every documented field, whether the stand-in fills it or not; `shown` leaves out those that
    Stripe leaves out.
    """
    return {
        name: None
        for name, annotation in sdk_type.__annotations__.items()
        if "Optional[" in str(annotation) or "NoneType" in str(annotation)
    }
