"""The audit computes the price of a sale and the costs of its end by itself, and names each that is another one."""

from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import Phase
from msgspec.structs import replace

from operators.audit.expected_ledger import ExpectedLedger
from operators.audit.report import Report
from tests.support.scenario import NOON, Scenario, given
from tests.workers.decisions.games import play
from tests.workers.decisions.test_brute_force import Hotel
from tests.workers.decisions.words import (
    BOUGHT,
    CANCELLED,
    CHANGED,
    CHECK_IN,
    CHECK_OUT,
    LATER,
    MILLISECOND,
    OPENED,
    but,
    march,
    nights,
)
from tests.workers.decisions.words_at_hotel import ARRIVED, DID_NOT_ARRIVE, LEFT, kept
from tests.workers.decisions.words_of_changes import LONGER
from tests.workers.decisions.words_of_sale import (
    ARRIVING,
    FREE_UNTIL,
    ON_TERMS,
    PART_UNTIL,
    SALE,
    SAVED,
    SAVER,
    SOLD,
    SOLD_SAVER,
    TERMS,
    TERMS_SET,
    policy,
    wall,
)
from topics.messages.events import BookingReserved, Event, PaymentRequested, StayChanged
from topics.messages.sale import CancellationPolicy, CancellationStep, Kept, Meals, Party, PriceLine

DAY = timedelta(days=1)
QUOTE = timedelta(hours=25)
NEWER = but(TERMS_SET, terms=replace(TERMS, version=2, taxes=TERMS.taxes[:1]))
#: Problems of commands that only a test sends: money for a stay that nobody was asked to pay.
NOT_ASKED_FOR = ("a refund without a payment", "paid: no legal transition", "paid and late: no legal transition")
DEARER = but(CHANGED, ranges=nights(10), price_minor=120_00)
NEW_DEARER = but(DEARER, ranges=nights(12))


class Auditor:
    """Gives events of one room to the auditor, each at its time."""

    def __init__(self) -> None:
        self.report = Report()
        self._ledger = ExpectedLedger(self.report)
        self._sequence = 0

    def receive(self, event: Event, at: datetime) -> None:
        """Give it the next event."""
        self._sequence += 1
        time = at.isoformat()
        self._ledger.apply(event.key, self._sequence, event.message_type, time, msgspec.json.encode(event))


def problems(*story: Event, at: datetime = NOON) -> str:
    """Return the problems of a story that happens at noon, but for its last event."""
    auditor = Auditor()
    for event in story[:-1]:
        auditor.receive(event, NOON)
    auditor.receive(story[-1], at)
    return "\n".join(auditor.report.problems())


assert ARRIVING.sale is not None
UNTAXED = replace(ARRIVING.sale, at_hotel_taxes_minor=0)


def sold(**changes: Any) -> BookingReserved:
    """Return Ada's stay on terms that are otherwise."""
    return but(ON_TERMS, sale=replace(SALE, **changes))


def lines(**amounts: int) -> tuple[PriceLine, ...]:
    """Return the lines of Ada's stay with other amounts."""
    return tuple(replace(line, amount_minor=amounts.get(line.id, line.amount_minor)) for line in SALE.lines)


def test_the_audit_finds_nothing_in_all_that_the_core_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stays by all plans, at quotes and without, that are paid, cancelled at any time, or end at the hotel."""
    happen = Scenario.happen
    sales = 0

    def audited(scenario: Scenario, event: Event) -> None:
        nonlocal sales
        auditor: Auditor = vars(scenario).setdefault("auditor", Auditor())
        auditor.receive(event, scenario.now)
        found = [line for line in auditor.report.problems() if not line.endswith(NOT_ASKED_FOR)]
        assert not found, found
        sales += isinstance(event, BookingReserved) and event.sale is not None
        happen(scenario, event)

    monkeypatch.setattr(Scenario, "happen", audited)
    play(Hotel, 80, phases=[Phase.generate])
    assert sales > 20


# The sale of a booking.


@pytest.mark.parametrize("reserved", [ON_TERMS, SAVED, ARRIVING], ids=lambda reserved: reserved.sale.plan_id)
def test_a_sale_by_the_terms_of_its_room_is_right(reserved: BookingReserved) -> None:
    assert problems(OPENED, TERMS_SET, reserved) == ""


@pytest.mark.parametrize(
    ("reserved", "named"),
    [
        (sold(plan_id="gone"), "its plan gone is none of version 1"),
        (sold(plan_name="Other"), "plan_name is 'Other'"),
        (sold(meals=Meals.BREAKFAST), "meals is 'breakfast'"),
        (sold(early_departure_percent=0), "early_departure_percent is 0"),
        (sold(no_show_kept_minor=0), "no_show_kept_minor is 0"),
        (sold(lines=SALE.lines[:2], at_hotel_minor=0), "lines is "),
        (sold(lines=lines(vat=14_00)), "lines is "),
        (sold(lines=lines(city=0), at_hotel_minor=0), "lines is "),
        (sold(lines=(SALE.lines[0], replace(SALE.lines[1], name="GST"), SALE.lines[2])), "lines is "),
        (sold(party=Party(adults=1)), "lines is "),
        (
            but(sold(lines=lines(standard=150_00, vat=9_81)), amount_minor=150_00, night_amounts_minor=(75_00, 75_00)),
            "lines is ",
        ),
        (sold(steps=SALE.steps[1:]), "its cancellation costs 5000 until 2026-03-09 15:00:00, 10000 until check-in"),
        (
            sold(steps=(replace(SALE.steps[0], until=wall(8)), *SALE.steps[1:])),
            "its cancellation costs 0 until 2026-03-08 15:00:00",
        ),
        (sold(steps=(*SALE.steps[:2], CancellationStep(kept_minor=0))), "its cancellation costs "),
        (but(ARRIVING, sale=UNTAXED), "at_hotel_taxes_minor is 0"),
        (sold(terms_version=2), "sold by version 2 of the room's terms, which are at 1"),
    ],
)
def test_a_sale_that_is_otherwise_than_its_terms_is_named(reserved: BookingReserved, named: str) -> None:
    assert named in problems(OPENED, TERMS_SET, reserved)


def test_a_quote_keeps_terms_and_prices_for_a_day() -> None:
    """The steps keep the check-in time that the hotel had when it quoted."""
    for story in ((NEWER,), (DEARER,), (NEWER, DEARER)):
        assert problems(OPENED, TERMS_SET, *story, ON_TERMS, at=NOON + QUOTE) == ""
    one: Event
    for one, named in ((NEWER, "sold by version 1 of the room's terms, which are at 2"), (DEARER, "lines is ")):
        assert named in problems(OPENED, TERMS_SET, one, ON_TERMS, at=NOON + QUOTE + MILLISECOND)

    hours = [None if step.until is None else step.until + timedelta(hours=1) for step in SALE.steps]
    later = tuple(replace(step, until=until) for step, until in zip(SALE.steps, hours, strict=True))
    assert problems(OPENED, TERMS_SET, sold(steps=later)) == ""


def test_a_quote_of_a_change_keeps_terms_and_prices_for_a_day() -> None:
    held = given(*SOLD).when(LONGER).answer[0]
    for story in ((NEWER,), (NEW_DEARER,), (NEWER, NEW_DEARER)):
        assert problems(*SOLD, *story, held, at=NOON + QUOTE) == ""
    one: Event
    for one, named in (
        (NEWER, "sold by version 1 of the room's terms, which are at 2"),
        (NEW_DEARER, "night_prices is "),
    ):
        assert named in problems(*SOLD, one, held, at=NOON + QUOTE + MILLISECOND)


def test_a_quote_of_a_changed_stay_without_terms_keeps_prices_for_a_day() -> None:
    held = given(*BOUGHT).when(LONGER).answer[0]
    assert problems(*BOUGHT, NEW_DEARER, held, at=NOON + QUOTE) == ""
    assert "its nights cost [10000, 10000, 10000]" in problems(*BOUGHT, NEW_DEARER, held, at=NOON + QUOTE + MILLISECOND)


def test_a_tax_is_checked_also_where_the_price_of_a_night_may_be_that_of_a_quote() -> None:
    assert "lines is " in problems(OPENED, TERMS_SET, DEARER, sold(lines=lines(vat=14_00)))


def test_a_room_without_terms_is_sold_by_none_of_a_hotel() -> None:
    assert "sold by version 1 of the room's terms, which are at 0" in problems(OPENED, ON_TERMS)
    bare = sold(
        terms_version=0,
        lines=SALE.lines[:1],
        at_hotel_minor=0,
        steps=(CancellationStep(kept_minor=0, percent=0),),
        no_show_kept_minor=200_00,
        early_departure_percent=100,
    )
    assert problems(OPENED, bare) == ""


# The costs of its end.


@pytest.mark.parametrize(
    ("at", "kept_minor", "until", "percent"),
    [
        (LATER, 0, FREE_UNTIL, 0),
        (FREE_UNTIL - MILLISECOND, 0, FREE_UNTIL, 0),
        (FREE_UNTIL, 50_00, PART_UNTIL, None),
        (PART_UNTIL, 100_00, None, None),
    ],
)
def test_a_guests_cancellation_costs_the_step_of_its_time_and_no_other(
    at: datetime, kept_minor: int, until: datetime | None, percent: int | None
) -> None:
    right = policy(kept_minor, until, percent)
    assert problems(*SOLD, but(CANCELLED, policy=right), at=at) == ""
    steps = (policy(0, FREE_UNTIL, 0), policy(50_00, PART_UNTIL), policy(100_00))
    for wrong in (*steps, policy(kept_minor, FREE_UNTIL + DAY, percent)):
        if wrong != right:
            assert "is kept, by its policy" in problems(*SOLD, but(CANCELLED, policy=wrong), at=at)


def test_a_guests_cancellation_that_ignores_the_policy_is_named() -> None:
    assert "without its policy" in problems(*SOLD, CANCELLED, at=FREE_UNTIL)
    assert "is kept of" in problems(*SOLD, but(CANCELLED, policy=policy(1_00)), at=FREE_UNTIL)
    assert problems(*SOLD[:3], CANCELLED) == ""


def test_a_step_that_other_zone_data_ended_is_checked_by_its_amount_alone() -> None:
    """So is a stay that was sold without the hotel's times: the command named them, and no event does."""
    other = replace(policy(0, None, 0), zone_data="1999.1")
    assert problems(*SOLD, but(CANCELLED, policy=other), at=PART_UNTIL) == ""
    assert "is kept of" in problems(*SOLD, but(CANCELLED, policy=replace(other, kept_minor=1)), at=PART_UNTIL)
    no_times = (*SOLD[:2], but(ON_TERMS, stay_times=None), *SOLD[3:])
    assert problems(*no_times, but(CANCELLED, policy=policy(0, None, 0)), at=PART_UNTIL) == ""
    assert "is kept of" in problems(*no_times, but(CANCELLED, policy=policy(1)), at=PART_UNTIL)


def test_a_stay_that_ends_at_the_hotel_without_its_policy_is_named() -> None:
    for end, right in ((DID_NOT_ARRIVE, kept(100_00)), (but(LEFT, freed_from=march(11)), kept(150_00, 50))):
        story = SOLD if end is DID_NOT_ARRIVE else (*SOLD, ARRIVED)
        assert problems(*story, but(end, policy=right), at=CHECK_IN) == ""
        for wrong in (None, kept(0), replace(right, percent=99)):
            assert "by its policy" in problems(*story, but(end, policy=wrong), at=CHECK_IN)
    late = but(DID_NOT_ARRIVE, policy=kept(100_00))
    assert problems(*SOLD, late, at=CHECK_OUT + 30 * DAY) == ""
    assert "more than 30 days after check-out" in problems(*SOLD, late, at=CHECK_OUT + 30 * DAY + timedelta(hours=1))
    unpunished = sold(no_show_kept_minor=0)
    assert "NO_SHOW with None" in problems(*SOLD[:2], unpunished, *SOLD[3:], but(DID_NOT_ARRIVE, policy=None))
    assert "NO_SHOW costs 0" in problems(*BOUGHT, but(DID_NOT_ARRIVE, policy=None))


def test_an_end_that_costs_less_than_a_cancellation_at_a_change_is_named() -> None:
    free = CancellationPolicy(id="free", no_show=Kept(percent=0), early_departure_percent=0)
    looser = but(TERMS_SET, terms=replace(TERMS, version=2, plans=(replace(SAVER, refundable=True, policy=free),)))
    saver = [but(event, amount_minor=180_00) if isinstance(event, PaymentRequested) else event for event in SOLD_SAVER]
    (changed,) = given(*saver, looser).when(but(LONGER, check_in=march(11))).answer
    assert isinstance(changed, StayChanged)
    assert changed.sale is not None
    story = (*saver, looser, changed)
    in_all = but(LEFT, freed_from=march(11), policy=kept(180_00))
    assert problems(*story, ARRIVED, in_all, at=CHECK_IN) == ""
    for wrong in (kept(0, 0), kept(179_99), kept(180_00, 0)):
        assert "by its policy" in problems(*story, ARRIVED, but(in_all, policy=wrong), at=CHECK_IN)
    unpunished = but(changed, sale=replace(changed.sale, no_show_kept_minor=179_99))
    assert "no_show_kept_minor is 17999, " in problems(*saver, looser, unpunished)
