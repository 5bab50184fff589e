"""The hotel's clock for a booking: check-in and check-out as instants, and the date there, by the pinned zone data."""

import logging
from datetime import datetime
from functools import lru_cache
from typing import Final

from topics.messages.commands import CancelBooking, ChangeGuests, Command, ConfirmPayment, RecordRefund
from topics.zones import day_at, instant, zone
from workers.decisions import Booking, StayClock
from workers.decisions.state import DEFAULT_STAY_TIMES

log = logging.getLogger(__name__)

#: Commands whose decision depends on the time at the hotel.
_BY_THE_CLOCK: Final = (CancelBooking, ChangeGuests, ConfirmPayment, RecordRefund)
_UTC: Final = "UTC"


def stay_clock(booking: Booking | None, command: Command, now: datetime) -> StayClock | None:
    """Return the hotel's clock for the booking at the log's time `now`; None: the decision does not depend on it.

    The times that were promised with the booking count; for a booking without, those of the command, or the default.
    """
    if booking is None or not isinstance(command, _BY_THE_CLOCK):
        return None
    named = command.stay_times if isinstance(command, CancelBooking | ChangeGuests) else None
    times = booking.stay_times or named or DEFAULT_STAY_TIMES
    time_zone = _known_zone(times.time_zone)
    return StayClock(
        check_in_at=instant(booking.check_in, times.check_in_time, time_zone),
        check_out_at=instant(booking.check_out, times.check_out_time, time_zone),
        today=day_at(time_zone, now),
    )


@lru_cache(maxsize=1_000)
def _known_zone(name: str) -> str:
    """Return the zone's name, or UTC for a name that is no zone.

    The ingress checks the zones of hotels, but other writers of commands may not, and a zone may leave the data. The
    wall times then count in UTC: a command about the booking must not end the worker.
    """
    try:
        zone(name)
    except (LookupError, ValueError, OSError) as error:
        log.warning("the time zone %.100r is unknown, UTC is used in its place: %s", name, error)
        return _UTC
    return name
