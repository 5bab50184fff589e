"""Stripe's objects with the fields that we read, and the booking of each: the same from a webhook and from the API.

Amounts are integers in minor units of a currency that Stripe writes in lower case and we in capitals. Our objects carry
`booking_id` and `room_id` as metadata, and sessions `attempt`; an object without them was not made by us.
"""

from typing import Annotated, Final, NamedTuple, TypeVar
from uuid import UUID, uuid5

import msgspec
import stripe

PAYMENT_COMMAND_IDS: Final = UUID("5f1d5e0c-3d0a-5b7e-9a55-0f6c1d2b7a41")
"""The namespace of the ids of commands that follow from a Stripe object's transition."""

Text = Annotated[str, msgspec.Meta(min_length=1)]
T = TypeVar("T")


class BookingRef(NamedTuple):
    """The booking of an object, its room, and the payment attempt (counted from 1; 0 for a refund)."""

    booking_id: UUID
    room_id: int
    attempt: int = 0

    def metadata(self) -> dict[str, str]:
        """Return the metadata of our objects, by which a webhook finds the booking."""
        attempt = {"attempt": str(self.attempt)} if self.attempt else {}
        return {"booking_id": str(self.booking_id), "room_id": str(self.room_id), **attempt}


class StripeObject(msgspec.Struct, frozen=True, kw_only=True):
    """The fields that all objects have."""

    id: Text
    livemode: bool = False
    metadata: dict[str, str] | None = None

    def booking_ref(self) -> BookingRef | None:
        """Return the booking of the object; None for one that we did not make."""
        metadata = self.metadata or {}
        try:
            return BookingRef(UUID(metadata["booking_id"]), int(metadata["room_id"]), int(metadata.get("attempt", 0)))
        except (KeyError, ValueError):
            return None


class Session(StripeObject, frozen=True, kw_only=True):
    """A Checkout Session."""

    status: str | None = None
    payment_status: str | None = None
    amount_total: int | None = None
    currency: str | None = None
    client_reference_id: str | None = None
    payment_intent: str | None = None
    url: str | None = None

    @property
    def paid(self) -> bool:
        """Whether nothing is left to pay; `complete` alone does not mean that."""
        return self.payment_status in {"paid", "no_payment_required"}


class PaymentError(msgspec.Struct, frozen=True, kw_only=True):
    """The reason why an attempt to pay failed."""

    code: str | None = None
    decline_code: str | None = None
    charge: str | None = None


class PaymentIntent(StripeObject, frozen=True, kw_only=True):
    """A payment intent: one for each session, with any number of attempts to pay."""

    last_payment_error: PaymentError | None = None


class Refund(StripeObject, frozen=True, kw_only=True):
    """A refund; Stripe gives it no livemode of its own."""

    status: str | None = None
    amount: int
    payment_intent: str | None = None
    failure_reason: str | None = None


class Refunds(msgspec.Struct, frozen=True, kw_only=True):
    """The refunds that older versions of the API list within a charge."""

    data: tuple[Refund, ...] = ()


class Charge(StripeObject, frozen=True, kw_only=True):
    """A charge that was refunded, in part or whole."""

    refunds: Refunds | None = None


def read(answer: stripe.StripeObject, kind: type[T]) -> T:
    """Return an answer of Stripe's API as one of our types.

    Raises:
        msgspec.ValidationError: the answer lacks a field that Stripe's documentation promises.
    """
    return msgspec.convert(answer.to_dict(for_json=True), kind)


def command_id(subject: str, transition: str) -> str:
    """Return the id of the command that follows from an object's transition, wherever we learn of it."""
    return str(uuid5(PAYMENT_COMMAND_IDS, f"{subject}:{transition}"))


def log_currency(stripe_currency: str) -> str:
    """Return Stripe's currency code as the log writes it."""
    return stripe_currency.upper()
