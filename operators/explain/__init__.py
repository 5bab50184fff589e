"""Explains one booking: its whole history, with the position of each record on the log, and the next actions.

One query reads the tables, and the timeline's positions lead to the booking's records on the log, however long that is.
Nothing is changed. The operators' command and the ingress' answer to operators show the same.
"""

from operators.explain.explanation import NoSuchBooking, explain
from operators.explain.history import (
    Awaited,
    BookingHistory,
    CodeUse,
    Document,
    Kind,
    Request,
    Sender,
    Stay,
    Step,
    StripeObject,
)
from operators.explain.steps import ANSWERS

__all__ = [
    "ANSWERS",
    "Awaited",
    "BookingHistory",
    "CodeUse",
    "Document",
    "Kind",
    "NoSuchBooking",
    "Request",
    "Sender",
    "Stay",
    "Step",
    "StripeObject",
    "explain",
]
