"""What we read of Stripe's objects, and whose they are: the same from a webhook and from an answer of the API.

Amounts are integers in minor units of a currency that Stripe writes in lower case and we in capitals. Objects of ours
carry `booking_id` and `room_id` as metadata, and `attempt` on the way in; an object without them is somebody else's.
"""

from typing import Annotated, Final, NamedTuple, TypeVar
from uuid import UUID, uuid5

import msgspec
import stripe

COMMAND_IDS: Final = UUID("5f1d5e0c-3d0a-5b7e-9a55-0f6c1d2b7a41")
"""The name space of the ids of commands that follow from a Stripe object's transition."""

Text = Annotated[str, msgspec.Meta(min_length=1)]
T = TypeVar("T")


class Ours(NamedTuple):
    """Which booking an object is about, and which of its payment attempts (counted from 1; 0: a refund, of none)."""

    booking_id: UUID
    room_id: int
    attempt: int = 0

    def metadata(self) -> dict[str, str]:
        """Return what our objects carry, so that whoever meets them finds the booking."""
        attempt = {"attempt": str(self.attempt)} if self.attempt else {}
        return {"booking_id": str(self.booking_id), "room_id": str(self.room_id), **attempt}


class StripeObject(msgspec.Struct, frozen=True, kw_only=True):
    """What all of them have."""

    id: Text
    livemode: bool = False
    metadata: dict[str, str] | None = None

    def ours(self) -> Ours | None:
        """Return whose the object is; None for somebody else's."""
        metadata = self.metadata or {}
        try:
            return Ours(UUID(metadata["booking_id"]), int(metadata["room_id"]), int(metadata.get("attempt", 0)))
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
        """Whether nothing is owed any more; `complete` alone does not say so."""
        return self.payment_status in {"paid", "no_payment_required"}


class PaymentError(msgspec.Struct, frozen=True, kw_only=True):
    """Why an attempt to pay failed."""

    code: str | None = None
    decline_code: str | None = None
    charge: str | None = None


class PaymentIntent(StripeObject, frozen=True, kw_only=True):
    """What becomes a payment: one for each session, with as many attempts as the guest likes."""

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
    """Return what we read of an answer of Stripe's API.

    Raises:
        msgspec.ValidationError: Stripe's answer lacks what its documentation promises.
    """
    return msgspec.convert(answer.to_dict(for_json=True), kind)


def command_id(subject: str, transition: str) -> str:
    """Return the id of the command that follows from an object's transition, the same whoever tells of it."""
    return str(uuid5(COMMAND_IDS, f"{subject}:{transition}"))


def our_currency(stripes: str) -> str:
    """Return Stripe's currency code as the log writes it."""
    return stripes.upper()
