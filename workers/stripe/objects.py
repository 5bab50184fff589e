"""Stripe's objects with the fields that we read, and the booking of each: the same from a webhook and from the API.

Stripe counts amounts in its own unit, and writes currencies in lower case; `amount_minor` has an amount as the log
counts it. Our objects carry `booking_id`, `room_id` and `mark` as metadata, and sessions `attempt`. Anybody can
write the same names into an object: `attributions` decides whether an object is ours.
"""

from typing import Annotated, Final, NamedTuple, TypeVar
from uuid import UUID, uuid5

import msgspec
import stripe

from pricing.charges import from_stripe
from workers.stripe import states
from workers.stripe.marks import MARK, Marks
from workers.stripe.states import RefundState

PAYMENT_COMMAND_IDS: Final = UUID("5f1d5e0c-3d0a-5b7e-9a55-0f6c1d2b7a41")
"""The namespace of the ids of commands that follow from a Stripe object's transition."""

Text = Annotated[str, msgspec.Meta(min_length=1)]
T = TypeVar("T")


class BookingRef(NamedTuple):
    """The booking of an object, its room, and the payment attempt (counted from 1; 0 for a refund)."""

    booking_id: UUID
    room_id: int
    attempt: int = 0

    def metadata(self, marks: Marks) -> dict[str, str]:
        """Return the metadata of our objects, by which a webhook finds the booking."""
        attempt = {"attempt": str(self.attempt)} if self.attempt else {}
        named = {"booking_id": str(self.booking_id), "room_id": str(self.room_id), **attempt}
        return named | {MARK: marks.mark(self.booking_id, self.room_id)}

    def is_same_booking(self, other: "BookingRef") -> bool:
        """Return whether both are of one booking and room; their attempts may differ."""
        return (self.booking_id, self.room_id) == (other.booking_id, other.room_id)


class Attribution(NamedTuple):
    """The booking of an object that is ours.

    `by_hand`: a person made the refund at Stripe. `cancel_if_full`: the hotel then wants the booking cancelled once all
    of its payment went back.
    """

    ref: BookingRef
    by_hand: bool = False
    cancel_if_full: bool = False


class StripeObject(msgspec.Struct, frozen=True, kw_only=True):
    """The fields that all objects have."""

    id: Text
    livemode: bool = False
    metadata: dict[str, str] | None = None

    @property
    def mark(self) -> str | None:
        """The mark that an installation of ours left, or None."""
        return (self.metadata or {}).get(MARK)

    def claimed_ref(self) -> BookingRef | None:
        """Return the booking that the metadata names, which anybody can write; None if it names none."""
        metadata = self.metadata or {}
        try:
            return BookingRef(UUID(metadata["booking_id"]), int(metadata["room_id"]), int(metadata.get("attempt", 0)))
        except (KeyError, ValueError):
            return None

    def has_our_mark(self, marks: Marks) -> bool:
        """Return whether this installation made the object for the booking that its metadata names."""
        ref = self.claimed_ref()
        return ref is not None and self.mark is not None and marks.is_ours(self.mark, ref.booking_id, ref.room_id)

    def is_made_by_us(self, ref: BookingRef, marks: Marks) -> bool:
        """Return whether this installation made the object for this booking.

        Objects of 0.1.0 have no mark: theirs is the booking that they name. Use this only for an object that was found
        by an id of ours.
        """
        claimed = self.claimed_ref()
        if claimed is None or not claimed.is_same_booking(ref):
            return False
        return self.mark is None or self.has_our_mark(marks)


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
        return states.is_paid(self.payment_status)


class PaymentError(msgspec.Struct, frozen=True, kw_only=True):
    """The reason why an attempt to pay failed."""

    code: str | None = None
    decline_code: str | None = None
    charge: str | None = None


class PaymentIntent(StripeObject, frozen=True, kw_only=True):
    """A payment intent: one for each session, with any number of attempts to pay."""

    last_payment_error: PaymentError | None = None


class Refund(StripeObject, frozen=True, kw_only=True):
    """A refund; Stripe gives it no livemode of its own. `amount` is in Stripe's unit."""

    status: str | None = None
    amount: int
    currency: Text
    payment_intent: str | None = None
    failure_reason: str | None = None

    @property
    def amount_minor(self) -> int:
        """The amount in minor units."""
        return from_stripe(self.amount, log_currency(self.currency))

    @property
    def state(self) -> RefundState:
        """The state in our words."""
        return states.refund_state(self.status)


class BalanceTransaction(msgspec.Struct, frozen=True, kw_only=True):
    """Money that a dispute took from the account (negative) or returned to it, in the account's own currency."""

    amount: int


class Dispute(StripeObject, frozen=True, kw_only=True):
    """A dispute of a payment, or an inquiry about one (`warning_...`). `amount` is in Stripe's unit."""

    status: str
    amount: int
    currency: Text
    reason: str = "general"
    payment_intent: str | None = None
    balance_transactions: tuple[BalanceTransaction, ...] = ()

    @property
    def took_money(self) -> bool:
        """Whether the account lacks money because of the dispute as it is now."""
        return states.took_money(transaction.amount for transaction in self.balance_transactions)

    @property
    def amount_minor(self) -> int:
        """The amount in minor units."""
        return from_stripe(self.amount, log_currency(self.currency))


class Refunds(msgspec.Struct, frozen=True, kw_only=True):
    """The refunds that older versions of the API list within a charge."""

    data: tuple[Refund, ...] = ()


class Charge(StripeObject, frozen=True, kw_only=True):
    """A charge that was refunded, in part or whole."""

    payment_intent: str | None = None
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
