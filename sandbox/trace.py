"""The real booking trace as work for the log: the commands of a trusted writer, in the order of its days.

Pure reading. The file's columns are described beside it (`tests/system/trace/README.md`).
"""

import csv
import gzip
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID, uuid5

from topics.messages.commands import BookingCommand, CancelBooking, Command, OpenInventory, ReserveStay
from topics.messages.values import Terms

CURRENCY: Final = "EUR"
_BOOKING_NAMESPACE: Final = UUID("7d0cf2e5-8d0b-5d1c-9d43-1f2b5d3c6a10")
_MONTHS: Final = {
    date(2000, month, 1).strftime("%B"): month  # The C locale's names, as in the file.
    for month in range(1, 13)
}


class TraceStep(NamedTuple):
    """A command and the time (UTC) that its record carries."""

    time: datetime
    command: Command


@dataclass(frozen=True, kw_only=True, slots=True)
class TraceRow:
    """One row of the file. `number` counts from 1; `nightly_minor` is in cents and can be negative."""

    number: int
    hotel: str
    room_type: str
    booked_on: date
    check_in: date
    check_out: date
    nightly_minor: int
    cancelled_on: date | None


class TraceRoom(NamedTuple):
    """One pair of hotel and reserved room type, as ids."""

    hotel_id: int
    room_id: int


def read_trace(path: Path, *, rooms: int) -> Sequence[TraceStep]:
    """Return every command of the trace in the order in which the log must have it.

    Args:
        path: the file, gzip or plain CSV.
        rooms: how many rooms of each type are on sale on every night.
    """
    rows = read_rows(path)
    numbering = number_rooms(rows)
    opening = list(open_nights(rows, numbering, rooms=rooms))
    return list(_dated(opening, _by_day(rows, numbering)))


def command_id(command: Command) -> str:
    """Return an id for the command's record that is the same at every reading."""
    if isinstance(command, BookingCommand):
        return f"trace:{command.message_type}:{command.booking_id}"
    return f"trace:{command.message_type}:{command.subject}"


def read_rows(path: Path) -> Sequence[TraceRow]:
    """Return the file's rows in file order."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", newline="") as lines:
        return [_row(number, cells) for number, cells in enumerate(csv.DictReader(lines), start=1)]


def number_rooms(rows: Iterable[TraceRow]) -> dict[tuple[str, str], TraceRoom]:
    """Return ids for the hotels and for the pairs of hotel and room type, each sorted and from 1."""
    pairs = sorted({(row.hotel, row.room_type) for row in rows})
    hotels = sorted({hotel for hotel, _ in pairs})
    return {
        pair: TraceRoom(hotel_id=hotels.index(pair[0]) + 1, room_id=room_id)
        for room_id, pair in enumerate(pairs, start=1)
    }


def open_nights(
    rows: Sequence[TraceRow], numbering: dict[tuple[str, str], TraceRoom], *, rooms: int
) -> Iterator[Command]:
    """Yield one command for each room that opens every night any stay of the file could need."""
    stays = [row for row in rows if row.check_in < row.check_out]
    first_night = min(row.check_in for row in stays)
    end_night = max(row.check_out for row in stays)
    for room in numbering.values():
        yield OpenInventory(
            room_id=room.room_id,
            hotel_id=room.hotel_id,
            first_night=first_night,
            end_night=end_night,
            total_count=rooms,
            price_minor=0,  # Every stay of the trace brings its agreed rate.
            currency=CURRENCY,
        )


def booking_id(row: TraceRow) -> UUID:
    """Return the row's booking id, the same at every reading."""
    return uuid5(_BOOKING_NAMESPACE, str(row.number))


def _by_day(rows: Sequence[TraceRow], numbering: dict[tuple[str, str], TraceRoom]) -> Iterator[tuple[date, Command]]:
    """Yield the commands by day: cancellations of earlier bookings, bookings, their cancellations.

    Within each of the three the order is the file's: the sort keeps it.
    """
    work: list[tuple[date, int, Command]] = []
    for row in rows:
        room = numbering[row.hotel, row.room_type]
        work.append((row.booked_on, 1, _reserve(row, room)))
        if row.cancelled_on is not None:
            same_day = row.cancelled_on == row.booked_on
            work.append((row.cancelled_on, 2 if same_day else 0, _cancel(row, room)))
    work.sort(key=lambda entry: entry[:2])
    for day, _, command in work:
        yield day, command


def _dated(opening: Sequence[Command], days: Iterable[tuple[date, Command]]) -> Iterator[TraceStep]:
    """Yield every command with its day and, within the day, a millisecond later than the one before."""
    for day, entries in groupby(days, key=lambda entry: entry[0]):
        midnight = datetime.combine(day, time.min, tzinfo=UTC)
        commands = [*opening, *(command for _, command in entries)]
        opening = ()  # The nights are opened once, before the first day's first booking.
        for position, command in enumerate(commands):
            yield TraceStep(midnight + timedelta(milliseconds=position), command)


def _reserve(row: TraceRow, room: TraceRoom) -> ReserveStay:
    return ReserveStay(
        room_id=room.room_id,
        booking_id=booking_id(row),
        hotel_id=room.hotel_id,
        check_in=row.check_in,
        check_out=row.check_out,
        terms=Terms.AT_HOTEL,
        agreed_nightly_minor=row.nightly_minor,
    )


def _cancel(row: TraceRow, room: TraceRoom) -> CancelBooking:
    return CancelBooking(room_id=room.room_id, booking_id=booking_id(row))


def _row(number: int, cells: dict[str, str]) -> TraceRow:
    check_in = date(
        int(cells["arrival_date_year"]),
        _MONTHS[cells["arrival_date_month"]],
        int(cells["arrival_date_day_of_month"]),
    )
    nights = int(cells["stays_in_weekend_nights"]) + int(cells["stays_in_week_nights"])
    cancelled = cells["is_canceled"] == "1"
    return TraceRow(
        number=number,
        hotel=cells["hotel"],
        room_type=cells["reserved_room_type"].strip(),
        booked_on=check_in - timedelta(days=int(cells["lead_time"])),
        check_in=check_in,
        check_out=check_in + timedelta(days=nights),
        nightly_minor=_cents(cells["adr"]),
        cancelled_on=date.fromisoformat(cells["reservation_status_date"]) if cancelled else None,
    )


def _cents(amount: str) -> int:
    """Return an amount of euros in cents.

    Raises:
        ValueError: the amount has fractions of a cent.
    """
    cents = Decimal(amount) * 100
    if cents != int(cents):
        raise ValueError(f"{amount} is not a whole number of cents")
    return int(cents)
