"""Events as the log has them, written by a test where and when it likes."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

from topics.catalogue import BOOKING_EVENTS
from topics.envelope import Envelope, Outgoing, encode_headers, encode_value
from topics.kafka.producer import open_producer
from topics.kafka.settings import KafkaSettings
from topics.messages.events import BookingEvent, BookingReserved, Event
from topics.messages.values import StayTimes

#: A day long over.
MONDAY = date(2026, 3, 2)


def at(days: float, hours: float = 12) -> datetime:
    """Return a time so long after Monday's midnight."""
    return datetime(MONDAY.year, MONDAY.month, MONDAY.day, tzinfo=UTC) + timedelta(days=days, hours=hours)


def reserved(number: int, room_id: int = 1) -> BookingReserved:
    return BookingReserved(
        room_id=room_id,
        booking_id=UUID(int=number),
        user_id=7,
        hotel_id=10,
        check_in=date(2026, 12, 24),
        check_out=date(2026, 12, 26),
        rooms_count=1,
        amount_minor=20_000,
        currency="EUR",
        hold_expires_at=datetime(2026, 3, 2, 12, 15, 0, 250_000, tzinfo=UTC),
        night_amounts_minor=(8_000, 12_000),
        stay_times=StayTimes(time_zone="Africa/Casablanca", check_in_time=time(15), check_out_time=time(11, 30)),
    )


def record(
    settings: KafkaSettings, sequence: int, time: datetime, event: Event | None = None, partition: int = 0
) -> Outgoing:
    """Return an event's record in the partition, with the log's time."""
    event = event or reserved(1000 * partition + sequence)
    subject = str(event.booking_id) if isinstance(event, BookingEvent) else event.subject
    envelope = Envelope(
        id=f"command-{partition}-{sequence}:{sequence}",
        type=event.message_type,
        source="innkeeper/reservations",
        subject=subject,
        time=time,
        causation=f"command-{partition}-{sequence}",
        correlation=f"request-{partition}-{sequence}",
        sequence=sequence,
    )
    return Outgoing(
        settings.topic(BOOKING_EVENTS),
        b"%d" % event.key,
        encode_value(event),
        encode_headers(envelope),
        partition,
        int(time.timestamp() * 1000),
    )


async def write(settings: KafkaSettings, records: Iterable[Outgoing]) -> None:
    async with open_producer(settings, client_id="test") as producer:
        await producer.send_all(records)
