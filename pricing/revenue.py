"""The revenue of stays whose money is not their own: legs of a trip, and stays of which taxes are collected apart."""

from collections.abc import Sequence
from typing import NamedTuple

from pricing.shares import shares_minor
from topics.messages.sale import Sale


class LegWorth(NamedTuple):
    """A leg of a paid trip: its amount, and what the hotel keeps of it once it ended early (None: it goes on)."""

    amount_minor: int
    kept_minor: int | None = None


def leg_deductions_minor(
    legs: Sequence[LegWorth], *, paid_minor: int, refunded_minor: int, taken_minor: int, closed_minor: int
) -> tuple[int, ...]:
    """Return what left the payments of a trip and was not due to the guest, divided among its legs.

    Money that the ended legs gave up is due to the guest and is nobody's revenue, and so is the amount that changes
    made the stay cheaper by before it was a trip; refunds, lost disputes and refunds that an operator closed count
    against it first. The legs share the rest in proportion to what is kept of each, and none has more than that. A
    refund that was carried out after an operator had closed it counts once.

    Args:
        legs: all legs of the trip.
        paid_minor: the payments of the trip; their sum is the amounts of the legs, or more.
        refunded_minor: the refunds that this product made.
        taken_minor: the refunds by hand and the lost disputes.
        closed_minor: the refunds that an operator closed.
    """
    worth_minor = [leg.amount_minor if leg.kept_minor is None else leg.kept_minor for leg in legs]
    due_minor = max(0, paid_minor - sum(worth_minor))
    closed_minor = min(closed_minor, max(0, due_minor - refunded_minor))
    gone_minor = max(0, refunded_minor + taken_minor + closed_minor - due_minor)
    return shares_minor(min(gone_minor, sum(worth_minor)), worth_minor)


def without_taxes_at_hotel(
    amount_minor: int, night_amounts_minor: Sequence[int], taxes_minor: int
) -> tuple[int, tuple[int, ...]]:
    """Return the amount of a stay, and that of each night, without the taxes that are collected at the hotel anyway.

    The amounts of a stay that is paid at the hotel contain these taxes (`taxes_at_hotel_minor`), and those of a prepaid
    stay do not. The nights keep their proportions.
    """
    left_minor = max(0, amount_minor - taxes_minor)
    return left_minor, shares_minor(left_minor, night_amounts_minor)


def taxes_at_hotel_minor(sale: Sale | None) -> int:
    """Return the taxes and fees in the amount of a stay that the hotel collects whatever the plan is."""
    return 0 if sale is None else sale.at_hotel_taxes_minor
