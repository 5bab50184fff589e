"""Stripe's words for the states of sessions, refunds and disputes, and ours for the same. Pure.

Reconciliation reads Stripe's lists with these too: a webhook and a list must not disagree about one object.
"""

from collections.abc import Iterable
from typing import Final, Literal

from topics.messages.values import DisputeResult

RefundState = Literal["pending", "succeeded", "failed"]
DisputeState = Literal["open", "won", "lost"]

#: The statuses of sessions that leave nothing to pay.
_PAID: Final = frozenset({"paid", "no_payment_required"})
#: The statuses of refunds whose money stays with the hotel, or came back to it.
_WITHOUT_EFFECT: Final = frozenset({"failed", "canceled"})
#: The statuses of disputes that have ended. In old versions of the API `charge_refunded` was an end without a loss.
_RESULTS: Final = {"won": DisputeResult.WON, "lost": DisputeResult.LOST, "charge_refunded": DisputeResult.WON}
#: The statuses of an inquiry of a bank begin so.
_INQUIRY: Final = "warning_"
_PREVENTED: Final = "prevented"


def is_paid(payment_status: str | None) -> bool:
    """Return whether nothing of a session is left to pay; a session that is `complete` may be unpaid."""
    return payment_status in _PAID


def refund_state(status: str | None) -> RefundState:
    """Return the state of a refund; it is also the name of the transition in the id of its command."""
    if status in _WITHOUT_EFFECT:
        return "failed"
    return "succeeded" if status == "succeeded" else "pending"


def took_money(amounts: Iterable[int]) -> bool:
    """Return whether a dispute's movements of the account's balance took more than they returned."""
    return sum(amounts) < 0


def dispute_result(status: str, *, took_money: bool) -> DisputeResult | None:
    """Return how a dispute ended; None while it is open."""
    if status == _PREVENTED and took_money:
        # The network gave the cardholder the money back by itself.
        return DisputeResult.LOST
    return _RESULTS.get(status)


def is_inquiry(status: str, *, took_money: bool) -> bool:
    """Return whether no money of the payment is held: a bank asks, or the case was ended before it began."""
    return status.startswith(_INQUIRY) or (status == _PREVENTED and not took_money)


def dispute_state(result: DisputeResult | None) -> DisputeState:
    """Return the state of a dispute that ended so, or is open."""
    return "open" if result is None else result.value


def dispute_transition(result: DisputeResult | None) -> str:
    """Return the name of a dispute's transition in the id of its command."""
    return "opened" if result is None else result.value
