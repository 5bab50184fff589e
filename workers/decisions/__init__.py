"""The pure core: it decides stays, payments, refunds and ends of holds. Values in, values out."""

from workers.decisions.decide import decide
from workers.decisions.evolve import evolve
from workers.decisions.state import (
    Block,
    Booking,
    Night,
    Payment,
    PaymentState,
    RefundMade,
    State,
    StayClock,
    live,
    unpaid,
    unpaid_rooms,
    with_sums,
)

__all__ = [
    "Block",
    "Booking",
    "Night",
    "Payment",
    "PaymentState",
    "RefundMade",
    "State",
    "StayClock",
    "decide",
    "evolve",
    "live",
    "unpaid",
    "unpaid_rooms",
    "with_sums",
]
