"""Compares the documents of each booking with the money that its hotel keeps of it, or that its guests pay there.

Documents follow from the events of bookings a moment later. So a booking is compared once all commands that follow from
its events have been decided.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from operators.audit.expected_documents import ExpectedDocuments
from operators.audit.expected_rows import Booking, has_ended, kept_by
from operators.audit.ledger import followed_sequences
from operators.audit.log import ends_of
from storage.settings import DatabaseSettings
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS
from topics.kafka.settings import KafkaSettings

#: The statuses of a leg whose trip is paid, and which did not end early.
_BOUGHT: Final = frozenset({"CONFIRMED", "CHECKED_IN", "CHECKED_OUT"})


class Followed:
    """How far coordination had followed the log before the ledger was read, and the commands that there were then.

    Attributes:
        sequences: by partition of `booking.events`, the last event of which all commands were on the log.
        ends: by partition of `booking.commands`, the offset behind the last command.
    """

    def __init__(self, sequences: Mapping[int, int], ends: Mapping[int, int]) -> None:
        self.sequences = sequences
        self.ends = ends

    def decided(self, applied: Mapping[int, int]) -> Mapping[int, int]:
        """Return `sequences`, if the ledger had decided all commands; `applied`: the last one by partition."""
        is_behind = any(applied.get(number, -1) < end - 1 for number, end in self.ends.items())
        return {} if is_behind else self.sequences


async def followed(kafka: KafkaSettings, database: DatabaseSettings) -> Followed:
    """Return how far coordination has followed the log.

    Raises:
        aiokafka.errors.KafkaError: the broker cannot be reached.
        psycopg.Error: the database cannot be read.
    """
    sequences = await followed_sequences(database, kafka.topic(BOOKING_EVENTS))
    return Followed(sequences, await ends_of(kafka, kafka.topic(BOOKING_COMMANDS)))


def faults_of_documents(
    bookings: Mapping[str, Booking], documents: ExpectedDocuments, sequences: Mapping[int, int]
) -> Iterator[str]:
    """Yield, in words, each booking whose documents are not of the money that is kept of it.

    Bookings from before the hotels issued documents may lack those of their stay, and a lost dispute has none.
    """
    nets, began = documents.nets(), documents.began()
    for id_, booking in bookings.items():
        partition, sequence = booking.position
        if booking.legs and not booking.opened_changes:
            if id_ in nets:
                yield f"booking {id_}: a trip has documents, which are those of its legs"
            continue
        is_lost = any(paid.lost for paid in booking.payments.values())
        if began is None or is_lost or sequence > sequences.get(partition, 0):
            continue
        paid = bookings.get(booking.trip_id or id_, booking)
        is_new = paid.charged_at is not None and paid.charged_at >= began and _has_documents(booking)
        net, kept = nets.get(id_, 0), _kept(booking)
        if net != kept and (is_new or id_ in documents.of_stays):
            yield f"booking {id_}: {booking.status}, its documents are of {net}, and {kept} is kept of it"


def _has_documents(booking: Booking) -> bool:
    """Return whether the booking was reserved by a release that issues documents: it has amounts by night."""
    if booking.earlier_stays:
        _, first = booking.earlier_stays[0]
        return bool(first.get("night_amounts_minor"))
    return bool(booking.night_amounts)


def _kept(booking: Booking) -> int:
    """Return what the hotel keeps of a booking's payments, or what its guests pay there."""
    if booking.trip_id is not None:
        # The trip has the payment, of which the leg's own policy keeps a part.
        return _kept_of_leg(booking)
    if booking.legs:
        # The stay is that of a leg, since it moved to another room.
        return 0
    if booking.terms == "prepaid":
        return sum(paid.kept if paid.state == "kept" else paid.retained for paid in booking.payments.values())
    if has_ended(booking):
        return kept_by(booking)
    return booking.amount if booking.status == "CHECKED_OUT" else 0


def _kept_of_leg(leg: Booking) -> int:
    """Return what the hotel keeps of a leg of a trip: nothing of one that was released before the trip was paid."""
    if has_ended(leg):
        return kept_by(leg)
    return leg.amount if leg.status in _BOUGHT else 0
