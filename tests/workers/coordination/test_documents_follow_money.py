"""The documents of a stay are of the money that its hotel keeps, in whatever order and however late events are read."""

from hypothesis import assume, given
from hypothesis import strategies as st

from tests.workers.coordination.paid_stay import ENDS, STEPS, PaidStay, Reader, Step
from topics.messages.events import BookingRefunded, RefundFailed

_KEPT = st.sampled_from((0, 50_00, 120_00, 200_00))


def played(kept_minor: int, before: list[Step], end: str, after: list[Step]) -> PaidStay:
    """Return a stay after steps, its end, and further steps."""
    stay = PaidStay(kept_minor)
    stay.play(before)
    stay.end(end)
    stay.play(after)
    stay.settle()
    return stay


@given(_KEPT, STEPS, ENDS, STEPS)
def test_the_documents_are_of_the_money_that_is_kept_after_every_command(
    kept_minor: int, before: list[Step], end: str, after: list[Step]
) -> None:
    stay = played(kept_minor, before, end, after)
    reader = Reader(stay)
    for number, (_, command) in enumerate(stay.log):
        reader.read(number, command)
        if number + 1 == len(stay.log) or stay.log[number + 1].command > command:
            assert reader.net_minor == stay.kept_minor(command)
    reader.assert_numbered()

    issued = list(reader.issued)
    for number in range(len(stay.log)):
        reader.read(number, -1)
    for sent in list(reader.sent):
        reader.decide(sent)
    assert reader.issued == issued


@given(_KEPT, STEPS, ENDS, STEPS, st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), min_size=1, max_size=60))
def test_the_documents_are_of_the_money_that_is_kept_once_all_events_are_read(
    kept_minor: int, before: list[Step], end: str, after: list[Step], reads: list[tuple[int, int]]
) -> None:
    """Each event is read with a ledger that may be newer; from time to time, earlier events are read again."""
    stay = played(kept_minor, before, end, after)
    reader = Reader(stay)
    following, newest = 0, 0
    turn = 0
    while following < len(stay.log):
        ahead, back = reads[turn % len(reads)] if turn < 200 else (0, 0)
        turn += 1
        following = max(0, following - max(0, back - 2))
        newest = min(max(newest, stay.log[following].command + ahead), len(stay.ledger) - 1)
        reader.read(following, newest)
        if ahead == 9:
            # The commands since are published again.
            for command in reader.sent[-back - 1 :]:
                reader.decide(command)
        following += 1

    assert reader.net_minor == stay.kept_minor()
    reader.assert_numbered()


@given(_KEPT, STEPS, ENDS)
def test_a_lost_dispute_issues_nothing_also_if_it_is_known_before(
    kept_minor: int, before: list[Step], end: str
) -> None:
    stay = played(kept_minor, before, end, [])
    stay.refund_all_that_is_due()
    assume(not any(paid.closed_minor for paid in stay.booking.payments))
    kept_before_minor = stay.kept_minor()
    stay.lose_dispute()

    reader = Reader(stay)
    for number in range(len(stay.log)):
        reader.read(number, -1)
    assert reader.net_minor == kept_before_minor


def all_read(stay: PaidStay, ledger: int | None = None) -> Reader:
    """Return the documents after all events; `ledger` None: each is read as soon as it is there."""
    reader = Reader(stay)
    for number, (_, command) in enumerate(stay.log):
        reader.read(number, command if ledger is None else ledger)
    return reader


def test_a_refund_by_hand_that_a_cheap_change_carried_in_part_fails() -> None:
    stay = PaidStay()
    stay.play([("by hand", 0, 4), ("arrive", 0, 0), ("change", 0, 0), ("fail", 0, 0), ("arrive", 0, 0)])

    for ledger in (None, -1):
        reader = all_read(stay, ledger)
        assert reader.net_minor == stay.kept_minor() == stay.booking.amount_minor
        issued = list(reader.issued)
        for number in range(len(stay.log)):
            reader.read(number, -1)
        assert reader.issued == issued


def test_a_refund_by_hand_while_one_of_the_products_own_is_under_way() -> None:
    """The hotel keeps 120.00, of 200.00, and the guest is due 80.00: both refunds are carried out."""
    stay = PaidStay(120_00)
    stay.end("cancel")
    stay.play([("ours", 0, 0), ("by hand", 0, 2), ("arrive", 1, 0), ("arrive", 0, 0)])

    assert [each.event.by_hand for each in stay.log if isinstance(each.event, BookingRefunded)] == [True, False]
    for ledger in (None, -1):
        assert all_read(stay, ledger).net_minor == stay.kept_minor() == 60_00


def test_a_refund_of_the_product_fails_that_took_of_what_is_kept_while_the_stay_goes_on() -> None:
    """The change gives 100.00 back, and a person a part of the rest: once the first fails, the hotel keeps 100.00."""
    stay = PaidStay()
    stay.play([("change", 0, 0), ("ours", 0, 0), ("by hand", 0, 1), ("arrive", 1, 0), ("arrive", 0, 0)])
    assert all_read(stay).net_minor == stay.kept_minor() < stay.booking.amount_minor
    stay.play([("fail", 0, 0), ("arrive", 0, 0)])

    for ledger in (None, -1):
        assert all_read(stay, ledger).net_minor == stay.kept_minor() == stay.booking.amount_minor


def test_an_older_command_that_is_published_again_issues_nothing() -> None:
    stay = PaidStay()
    stay.play([("by hand", 0, 1), ("arrive", 0, 0), ("fail", 0, 0), ("arrive", 0, 0)])
    both = len(stay.ledger) - 1
    stay.play([("by hand", 0, 0), ("arrive", 0, 0)])
    reader = Reader(stay)
    for number, (event, command) in enumerate(stay.log):
        # The first refund and its failure are read together: nothing is left to issue for either.
        reader.read(number, max(command, both) if isinstance(event, BookingRefunded | RefundFailed) else command)
    issued = list(reader.issued)
    for sent in list(reader.sent):
        reader.decide(sent)

    assert len(issued) == 2
    assert reader.issued == issued
    assert reader.net_minor == stay.kept_minor()
