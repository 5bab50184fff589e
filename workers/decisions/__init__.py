"""The pure core: who gets which night, what a late payment means, when a hold is over. Values in, values out."""

from workers.decisions.decide import decide
from workers.decisions.evolve import evolve
from workers.decisions.state import Booking, Night, Payment, PaymentState, State, live

__all__ = ["Booking", "Night", "Payment", "PaymentState", "State", "decide", "evolve", "live"]
