"""Documents: the invoices and credit notes that follow from an event. Pure."""

from typing import Final

from topics.envelope import Envelope
from topics.messages.commands import Command
from topics.messages.events import BookingEvent
from workers.decisions import Booking

#: The events whose booking `commands_for` reads.
WITH_BOOKING: Final[tuple[type[BookingEvent], ...]] = ()


def commands_for(
    event: object,  # noqa: ARG001 - no event leads to a document yet
    envelope: Envelope,  # noqa: ARG001 - no event leads to a document yet
    booking: Booking | None,  # noqa: ARG001 - no event leads to a document yet
) -> tuple[tuple[str, Command], ...]:
    """Return the commands that issue the documents of an event, each after its id.

    Args:
        event: the event.
        envelope: its envelope.
        booking: the ledger's booking, of an event in `WITH_BOOKING`. It may be newer than the event.
    """
    return ()
