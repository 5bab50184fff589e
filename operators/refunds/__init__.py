"""Refunds whose money is not back yet: operators list them, let payments try one now, or close one with a reason.

Reads and updates `refund`; writes `CloseRefund` to `booking.commands` with the operator's action as its actor, and
reads its answer from `booking.events`. Payments makes the refunds.
"""

from operators.refunds.close import Closed, close, plan
from operators.refunds.listing import OpenRefund, State, list_refunds, retry
from operators.refunds.refusal import Refused

__all__ = ["Closed", "OpenRefund", "Refused", "State", "close", "list_refunds", "plan", "retry"]
