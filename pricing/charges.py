"""What Stripe can charge in each currency: its unit, the least and the most amount, and the step between amounts."""

from typing import Final

_MOST_MINOR: Final = 99_999_999


def can_be_charged(amount_minor: int, currency: str) -> bool:
    """Return whether a Checkout Session can charge the amount; nothing is charged for 0."""
    return amount_minor == 0 or 50 <= amount_minor <= _MOST_MINOR


def step_minor(currency: str) -> int:
    """Return the step, in minor units, of which every chargeable amount is a multiple."""
    return 10 if currency in {"BHD", "JOD", "KWD", "OMR", "TND"} else 1


def to_stripe(amount_minor: int, currency: str) -> int:
    """Return an amount in the unit in which Stripe counts the currency."""
    return amount_minor


def from_stripe(amount: int, currency: str) -> int:
    """Return an amount that Stripe counts in its own unit in minor units (ISO 4217)."""
    return amount
