"""The statuses of bookings for clients of the interface without versions, which know none of those after CONFIRMED."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from topics.messages.values import SOLD, BookingStatus

_old_client: Final[ContextVar[bool]] = ContextVar("old_client", default=False)


@contextmanager
def old_statuses() -> Iterator[None]:
    """Answer the request of the block with the statuses that clients without a version know."""
    token = _old_client.set(True)
    try:
        yield
    finally:
        _old_client.reset(token)


def shown_status(status: str) -> BookingStatus:
    """Return the status that the client of the request at hand gets: a sold booking is CONFIRMED to older clients."""
    shown = BookingStatus(status)
    return BookingStatus.CONFIRMED if shown in SOLD and _old_client.get() else shown


def meant_statuses(statuses: Sequence[BookingStatus]) -> Sequence[BookingStatus]:
    """Return the statuses that the client of the request at hand means: CONFIRMED of an older one is every sold one."""
    if BookingStatus.CONFIRMED in statuses and _old_client.get():
        return [*statuses, *sorted(SOLD.difference(statuses))]
    return statuses
