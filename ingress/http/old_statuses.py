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
    """Return the status that the client of the request at hand gets.

    To older clients a sold booking is CONFIRMED, and a trip whose rooms are being reserved is PENDING.
    """
    shown = BookingStatus(status)
    if not _old_client.get():
        return shown
    if shown is BookingStatus.RESERVING:
        return BookingStatus.PENDING
    return BookingStatus.CONFIRMED if shown in SOLD else shown


def meant_statuses(statuses: Sequence[BookingStatus]) -> Sequence[BookingStatus]:
    """Return the statuses that the client of the request at hand means by those that `shown_status` returns."""
    if not _old_client.get():
        return statuses
    meant = set(statuses)
    if BookingStatus.CONFIRMED in meant:
        meant |= SOLD
    if BookingStatus.PENDING in meant:
        meant.add(BookingStatus.RESERVING)
    return sorted(meant)
