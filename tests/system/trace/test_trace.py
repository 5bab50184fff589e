"""The real trace is read in the order of its days; a model that sells rooms by hand gives the known totals."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from uuid import UUID

import pytest

from sandbox.trace import TraceStep, booking_id, command_id, read_rows, read_trace
from topics.messages.commands import CancelBooking, OpenInventory, ReserveStay
from topics.messages.values import Terms

#: All of the file is read, several times over; tests/sandbox/test_replay.py sells the first of it by hand in short.
pytestmark = pytest.mark.long
TRACE = Path(__file__).with_name("hotel_bookings.csv.gz")


@pytest.fixture(scope="module")
def steps() -> Sequence[TraceStep]:
    return read_trace(TRACE, rooms=1000)


@pytest.mark.parametrize(
    ("rooms", "expected"),
    [
        pytest.param(
            1000,
            {
                "refused_no_night": 715,
                "refused_negative_rate": 1,
                "sold_out": 0,
                "reserved": 118_674,
                "cancelled": 44_189,
                "kept": 74_485,
                "revenue_minor": 25_996_324_21,
                "fullest_night": 217,
                "room_nights": 255_030,
            },
            id="1000 rooms of a type",
        ),
        pytest.param(
            100,
            {
                "refused_no_night": 715,
                "refused_negative_rate": 1,
                "sold_out": 16_566,
                "reserved": 102_108,
                "cancelled": 37_921,
                "kept": 64_187,
                "revenue_minor": 22_586_015_71,
                "fullest_night": 100,
                "room_nights": 219_666,
            },
            id="100 rooms of a type",
        ),
    ],
)
def test_selling_the_trace_by_hand_gives_the_known_totals(
    rooms: int, expected: dict[str, int], steps: Sequence[TraceStep]
) -> None:
    assert sell_by_hand(steps, rooms) == expected


def test_a_hundred_rooms_change_only_what_is_put_on_sale(steps: Sequence[TraceStep]) -> None:
    fewer = read_trace(TRACE, rooms=100)

    assert fewer[18:] == steps[18:]
    assert all(isinstance(step.command, OpenInventory) for step in fewer[:18])
    assert {step.command.total_count for step in fewer[:18]} == {100}  # type: ignore[attr-defined]


def test_every_night_is_on_sale_before_the_first_guest_books(steps: Sequence[TraceStep]) -> None:
    opened = [step.command for step in steps if isinstance(step.command, OpenInventory)]
    stays = [step.command for step in steps if isinstance(step.command, ReserveStay)]

    assert [step.command for step in steps[:18]] == opened
    assert [command.room_id for command in opened] == list(range(1, 19))
    assert {command.hotel_id for command in opened} == {1, 2}
    assert {(c.price_minor, c.currency, c.total_count) for c in opened} == {(0, "EUR", 1000)}
    needed = [stay for stay in stays if stay.check_in < stay.check_out]
    assert {c.first_night for c in opened} == {min(stay.check_in for stay in needed)}
    assert {c.end_night for c in opened} == {max(stay.check_out for stay in needed)}


def test_each_row_is_one_stay_paid_at_the_hotel(steps: Sequence[TraceStep]) -> None:
    stays = [step.command for step in steps if isinstance(step.command, ReserveStay)]

    assert len(stays) == 119_390
    assert len({stay.booking_id for stay in stays}) == 119_390
    assert {(s.terms, s.user_id, s.rooms_count) for s in stays} == {(Terms.AT_HOTEL, None, 1)}
    assert sum(1 for stay in stays if stay.check_in == stay.check_out) == 715
    assert min(stay.agreed_nightly_minor or 0 for stay in stays) == -638


def test_rooms_of_a_type_belong_to_one_hotel(steps: Sequence[TraceStep]) -> None:
    stays = [step.command for step in steps if isinstance(step.command, ReserveStay)]
    hotels = defaultdict(set)
    for stay in stays:
        hotels[stay.room_id].add(stay.hotel_id)

    assert all(len(found) == 1 for found in hotels.values())
    assert Counter(min(found) for found in hotels.values()) == {1: 8, 2: 10}
    assert Counter(stay.room_id for stay in stays)[1] == 62_595  # City Hotel, type A.


def test_time_never_runs_backwards_and_stays_on_its_day(steps: Sequence[TraceStep]) -> None:
    times = [step.time for step in steps]

    assert all(earlier < later for earlier, later in pairwise(times))
    assert {time.tzinfo for time in times} == {UTC}
    assert times[0].time() == datetime.min.time()


def test_within_a_day_earlier_bookings_are_cancelled_before_new_ones_are_made(
    steps: Sequence[TraceStep],
) -> None:
    number = {booking_id(row): row.number for row in read_rows(TRACE)}
    booked_on: dict[UUID, date] = {}
    for day, commands in by_day(steps):
        places = []
        for command in commands:
            if isinstance(command, ReserveStay):
                booked_on[command.booking_id] = day
                places.append((1, number[command.booking_id]))
            else:
                place = 2 if booked_on.get(command.booking_id) == day else 0
                places.append((place, number[command.booking_id]))
        assert places == sorted(places), day


def test_reading_twice_gives_the_same_commands_with_the_same_ids(
    steps: Sequence[TraceStep],
) -> None:
    again = read_trace(TRACE, rooms=1000)

    assert again == steps
    ids = [command_id(step.command) for step in steps]
    assert ids == [command_id(step.command) for step in again]
    assert len(set(ids)) == len(ids) == 18 + 119_390 + 44_224


def by_day(
    steps: Sequence[TraceStep],
) -> Iterator[tuple[date, list[ReserveStay | CancelBooking]]]:
    days: dict[date, list[ReserveStay | CancelBooking]] = defaultdict(list)
    for step in steps:
        if isinstance(step.command, ReserveStay | CancelBooking):
            days[step.time.date()].append(step.command)
    yield from sorted(days.items())


def sell_by_hand(steps: Sequence[TraceStep], rooms: int) -> dict[str, int]:
    """Sell the nights with nothing but a counter a night; share nothing with the code that decides."""
    taken: Counter[tuple[int, date]] = Counter()
    held: dict[UUID, ReserveStay] = {}
    counts: Counter[str] = Counter()
    for _, command in steps:
        if isinstance(command, ReserveStay):
            nights = list(nights_of_stay(command))
            if not nights:
                counts["refused_no_night"] += 1
            elif (command.agreed_nightly_minor or 0) < 0:
                counts["refused_negative_rate"] += 1
            elif any(taken[night] >= rooms for night in nights):
                counts["sold_out"] += 1
            else:
                held[command.booking_id] = command
                taken.update(nights)
                counts["reserved"] += 1
        elif isinstance(command, CancelBooking) and command.booking_id in held:
            taken.subtract(nights_of_stay(held.pop(command.booking_id)))
            counts["cancelled"] += 1
    nights_kept = {booking: len(list(nights_of_stay(stay))) for booking, stay in held.items()}
    return {
        "refused_no_night": counts["refused_no_night"],
        "refused_negative_rate": counts["refused_negative_rate"],
        "sold_out": counts["sold_out"],
        "reserved": counts["reserved"],
        "cancelled": counts["cancelled"],
        "kept": len(held),
        "revenue_minor": sum(nights_kept[booking] * (stay.agreed_nightly_minor or 0) for booking, stay in held.items()),
        "fullest_night": max(taken.values()),
        "room_nights": sum(nights_kept.values()),
    }


def nights_of_stay(stay: ReserveStay) -> Iterator[tuple[int, date]]:
    night = stay.check_in
    while night < stay.check_out:
        yield stay.room_id, night
        night += timedelta(days=1)
