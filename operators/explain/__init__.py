"""Explains one booking: its whole life, with the place of each record on the log, and what is awaited now.

Reads the tables in one snapshot and a few hundred records of the log, however long that is; changes nothing. What the
operator's command prints and what the ingress answers to operators is the same.
"""

from operators.explain.explanation import NoSuchBooking, explain
from operators.explain.life import Awaited, Kind, Life, Place, Request, Sender, Stay, Step, StripeObject
from operators.explain.repeats import ANSWERS

__all__ = [
    "ANSWERS",
    "Awaited",
    "Kind",
    "Life",
    "NoSuchBooking",
    "Place",
    "Request",
    "Sender",
    "Stay",
    "Step",
    "StripeObject",
    "explain",
]
