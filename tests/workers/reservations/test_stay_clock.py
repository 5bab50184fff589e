"""The hotel's clock for a booking: instants of check-in and check-out, and the date there."""

from datetime import UTC, date, datetime, time, timedelta

import pytest
from msgspec.structs import replace

from tests.support.scenario import NOON, given
from tests.workers.decisions.words import (
    ADAS,
    ADD_GUESTS,
    BOUGHT,
    CANCEL,
    CHANGE_GUESTS,
    CHECK_IN,
    CHECK_OUT,
    HAND_REFUND,
    OPENED,
    PAY,
    RESERVE,
    RESERVED,
    SECOND,
    SECOND_DAY,
    TIMES,
    but,
    march,
)
from tests.workers.decisions.words_of_sale import SALE
from topics.messages.commands import BookingCommand
from topics.messages.sale import CancellationStep
from topics.messages.values import StayTimes
from topics.zones import ZONE_DATA_VERSION
from workers.decisions import Booking, StayClock
from workers.reservations.stay_clock import arrival_clock, stay_clock

BOOKING = given(*BOUGHT).bookings[ADAS]
WITHOUT_TIMES = given(OPENED, but(RESERVED, stay_times=None)).bookings[ADAS]
CLOCK = StayClock(check_in_at=CHECK_IN, check_out_at=CHECK_OUT, today=date(2026, 3, 1), zone_data=ZONE_DATA_VERSION)
IN_UTC = StayClock(
    check_in_at=datetime(2026, 3, 10, 15, tzinfo=UTC),
    check_out_at=datetime(2026, 3, 12, 11, tzinfo=UTC),
    today=date(2026, 3, 1),
    zone_data=ZONE_DATA_VERSION,
)


def times(time_zone: str, check_in: time = time(15), check_out: time = time(11)) -> StayTimes:
    return StayTimes(time_zone=time_zone, check_in_time=check_in, check_out_time=check_out)


def booked(check_in: date, check_out: date, stay_times: StayTimes) -> Booking:
    return given(
        but(OPENED, first_night=check_in, end_night=check_out),
        but(RESERVED, check_in=check_in, check_out=check_out, stay_times=stay_times),
    ).bookings[ADAS]


@pytest.mark.parametrize("command", [CANCEL, CHANGE_GUESTS, PAY, HAND_REFUND])
def test_a_decision_that_depends_on_the_time_there_gets_the_clock(command: BookingCommand) -> None:
    assert stay_clock(BOOKING, command, NOON) == CLOCK


def test_other_decisions_and_bookings_that_are_not_there_get_none() -> None:
    assert stay_clock(BOOKING, ADD_GUESTS, NOON) is None
    assert stay_clock(None, CANCEL, NOON) is None


def test_the_date_changes_at_midnight_there() -> None:
    for now, today in ((SECOND_DAY - SECOND, march(10)), (SECOND_DAY, march(11))):
        clock = stay_clock(BOOKING, CANCEL, now)
        assert clock is not None
        assert clock.today == today


def test_a_booking_without_times_has_those_of_the_command_or_the_default() -> None:
    assert stay_clock(WITHOUT_TIMES, but(CANCEL, stay_times=TIMES), NOON) == CLOCK
    assert stay_clock(WITHOUT_TIMES, but(CHANGE_GUESTS, stay_times=TIMES), NOON) == CLOCK
    for command in (CANCEL, CHANGE_GUESTS, PAY, HAND_REFUND):
        assert stay_clock(WITHOUT_TIMES, command, NOON) == IN_UTC


def test_the_times_of_the_booking_go_before_those_of_the_command() -> None:
    assert stay_clock(BOOKING, but(CANCEL, stay_times=times("UTC")), NOON) == CLOCK


def test_a_time_that_clocks_skip_counts_as_if_they_had_not() -> None:
    # In Berlin it was 03:00 after 01:59 on 29 March 2026, and 02:00 after 02:59 on 25 October.
    skipped = booked(date(2026, 3, 29), date(2026, 3, 30), times("Europe/Berlin", check_in=time(2, 30)))
    clock = stay_clock(skipped, CANCEL, NOON)
    assert clock is not None
    assert clock.check_in_at == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)


def test_of_a_time_that_clocks_show_twice_the_first_counts() -> None:
    twice = booked(date(2026, 10, 24), date(2026, 10, 25), times("Europe/Berlin", check_out=time(2, 30)))
    clock = stay_clock(twice, CANCEL, NOON)
    assert clock is not None
    assert clock.check_in_at == datetime(2026, 10, 24, 13, tzinfo=UTC)
    assert clock.check_out_at == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


def test_a_stay_over_a_change_of_clocks_ends_at_the_hour_on_the_wall() -> None:
    over = booked(date(2026, 3, 28), date(2026, 3, 30), times("Europe/Berlin"))
    clock = stay_clock(over, CANCEL, NOON)
    assert clock is not None
    assert clock.check_in_at == datetime(2026, 3, 28, 14, tzinfo=UTC)
    assert clock.check_out_at == datetime(2026, 3, 30, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    "name",
    ["", ".", "Europe", "Europe/Nowhere", "europe/berlin", "../UTC", "/etc/localtime", "\0", "zone.tab", "x" * 5000],
)
def test_a_zone_that_is_unknown_is_utc(name: str) -> None:
    booking = booked(march(10), march(12), times(name))

    assert stay_clock(booking, CANCEL, NOON) == IN_UTC


# The instants at which the steps of a cancellation policy end.


def step_ends(zone: str, *ends: datetime) -> tuple[datetime | None, ...]:
    """Return the instants, by the clocks of a zone, of a policy whose steps end at these times on the wall."""
    steps = (*(CancellationStep(until=end, kept_minor=0) for end in ends), CancellationStep(kept_minor=1))
    stay = replace(BOOKING, stay_times=times(zone), sale=replace(SALE, steps=steps))
    clock = stay_clock(stay, CANCEL, NOON)
    assert clock is not None
    assert clock.zone_data == ZONE_DATA_VERSION
    return clock.step_ends


def wall(year: int, month: int, day: int, hour: int, minute: int = 0) -> datetime:
    """Return a time on the wall."""
    return datetime.combine(date(year, month, day), time(hour, minute))


def utc(year: int, month: int, day: int, hour: int, minute: int = 0) -> datetime:
    """Return an instant."""
    return datetime(year, month, day, hour, minute, tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "until", "instant"),
    [
        # In Vancouver clocks went from 02:00 to 03:00 on 8 March 2026, and have not gone back since.
        ("America/Vancouver", wall(2026, 3, 7, 18), utc(2026, 3, 8, 2)),
        ("America/Vancouver", wall(2026, 3, 8, 2, 30), utc(2026, 3, 8, 10, 30)),
        ("America/Vancouver", wall(2026, 3, 8, 18), utc(2026, 3, 9, 1)),
        ("America/Vancouver", wall(2026, 12, 15, 18), utc(2026, 12, 16, 1)),
        # In Berlin a time is skipped on 29 March, and another is shown twice on 25 October.
        ("Europe/Berlin", wall(2026, 3, 29, 2, 30), utc(2026, 3, 29, 1, 30)),
        ("Europe/Berlin", wall(2026, 10, 25, 2, 30), utc(2026, 10, 25, 0, 30)),
        ("Europe/Berlin", wall(2026, 10, 25, 3), utc(2026, 10, 25, 2)),
        # Casablanca is an hour ahead of UTC, but for Ramadan; that began on 18 February 2026.
        ("Africa/Casablanca", wall(2026, 2, 1, 12), utc(2026, 2, 1, 11)),
        ("Africa/Casablanca", wall(2026, 3, 1, 12), utc(2026, 3, 1, 12)),
        ("Asia/Kathmandu", wall(2026, 3, 1, 12), utc(2026, 3, 1, 6, 15)),
        ("No/Zone", wall(2026, 3, 1, 12), utc(2026, 3, 1, 12)),
    ],
)
def test_a_step_ends_when_the_clocks_there_show_its_time(zone: str, until: datetime, instant: datetime) -> None:
    assert step_ends(zone, until) == (instant, None)


def test_steps_end_in_their_order_and_the_last_has_no_end() -> None:
    first, second, last = step_ends("Europe/Berlin", wall(2026, 10, 24, 2, 30), wall(2026, 10, 25, 2, 30))

    assert first is not None
    assert second is not None
    assert second - first == timedelta(hours=24)
    assert last is None


def test_a_booking_without_sale_terms_has_no_steps() -> None:
    clock = stay_clock(BOOKING, CANCEL, NOON)
    assert clock is not None
    assert clock.step_ends == ()


def test_a_stay_that_is_asked_for_has_the_date_of_its_hotel() -> None:
    late = datetime(2026, 3, 8, 7, 30, tzinfo=UTC)

    assert arrival_clock(RESERVE, late).today == march(7)
    assert arrival_clock(but(RESERVE, stay_times=None), late).today == march(8)
