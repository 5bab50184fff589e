"""The sequence of one partition's events: next, duplicate, or beyond a gap."""

from topics.sequence_tracker import Order, SequenceTracker


def test_numbers_in_order_are_each_the_next() -> None:
    tracker = SequenceTracker()

    assert [tracker.add(number) for number in (1, 2, 3)] == [Order.NEXT] * 3
    assert (tracker.last, tracker.highest, tracker.has_gap) == (3, 3, False)


def test_a_number_that_came_before_is_a_duplicate() -> None:
    tracker = SequenceTracker(last=7)

    assert [tracker.add(number) for number in (7, 1, 8, 8)] == [
        Order.DUPLICATE,
        Order.DUPLICATE,
        Order.NEXT,
        Order.DUPLICATE,
    ]
    assert tracker.last == 8


def test_a_number_beyond_a_gap_does_not_count_until_it_comes_again() -> None:
    tracker = SequenceTracker(last=2)

    assert [tracker.add(number) for number in (5, 4)] == [Order.BEYOND_GAP] * 2
    assert (tracker.last, tracker.highest, tracker.has_gap) == (2, 5, True)
    assert [tracker.add(number) for number in (3, 4)] == [Order.NEXT] * 2
    assert tracker.has_gap, "5 came too early, so it has to come again"
    assert tracker.add(5) is Order.NEXT
    assert not tracker.has_gap
