"""The hotel's clock for a booking: check-in and check-out as instants, and the date there, by the pinned zone data."""

import logging
from datetime import datetime
from functools import lru_cache
from typing import Final

from topics.messages.commands import (
    CancelBooking,
    ChangeGuests,
    ChangeStay,
    CheckIn,
    CheckOut,
    Command,
    ConfirmPayment,
    MarkNoShow,
    RecordLeg,
    RecordRefund,
    ReserveStay,
)
from topics.messages.sale import Sale
from topics.zones import ZONE_DATA_VERSION, day_at, instant, zone
from workers.decisions import Booking, StayClock
from workers.decisions.state import DEFAULT_STAY_TIMES

log = logging.getLogger(__name__)

#: Commands whose decision depends on the time at the hotel.
_BY_THE_CLOCK: Final = (
    CancelBooking,
    ChangeGuests,
    ChangeStay,
    ConfirmPayment,
    RecordRefund,
    RecordLeg,
    CheckIn,
    CheckOut,
    MarkNoShow,
)
#: Those of them that name the times of a booking that has none of its own.
_WITH_TIMES: Final = (CancelBooking, ChangeGuests, ChangeStay, CheckIn, CheckOut, MarkNoShow)
_UTC: Final = "UTC"


def stay_clock(booking: Booking | None, command: Command, now: datetime) -> StayClock | None:
    """Return the hotel's clock for the booking at the log's time `now`; None: the decision does not depend on it.

    The times that were promised with the booking count; for a booking without, those of the command, or the default.
    """
    if booking is None or not isinstance(command, _BY_THE_CLOCK):
        return None
    named = command.stay_times if isinstance(command, _WITH_TIMES) else None
    times = booking.stay_times or named or DEFAULT_STAY_TIMES
    time_zone = _known_zone(times.time_zone)
    return StayClock(
        check_in_at=instant(booking.check_in, times.check_in_time, time_zone),
        check_out_at=instant(booking.check_out, times.check_out_time, time_zone),
        today=day_at(time_zone, now),
        step_ends=_step_ends(booking.sale, time_zone),
        zone_data=ZONE_DATA_VERSION,
    )


def arrival_clock(command: ReserveStay, now: datetime) -> StayClock:
    """Return the hotel's clock for a stay that is asked for."""
    times = command.stay_times or DEFAULT_STAY_TIMES
    time_zone = _known_zone(times.time_zone)
    return StayClock(
        check_in_at=instant(command.check_in, times.check_in_time, time_zone),
        check_out_at=instant(command.check_out, times.check_out_time, time_zone),
        today=day_at(time_zone, now),
    )


def _step_ends(sale: Sale | None, time_zone: str) -> tuple[datetime | None, ...]:
    """Return the instants at which the steps of a cancellation policy end."""
    if sale is None:
        return ()
    return tuple(
        None if step.until is None else instant(step.until.date(), step.until.time(), time_zone) for step in sale.steps
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
