"""The price and the costs of a stay by the sale terms on the log, by the auditor's own arithmetic.

No event shows whether its stay was sold by a quote. A quote is at most a day old, so the terms of a sale may be those
that were in force until a day ago, and prices of nights are compared if none has changed for so long.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, time, timedelta
from fractions import Fraction
from typing import Final, NamedTuple

from operators.audit.amounts import rounded
from operators.audit.expected_rows import Booking, Event, days_of, milliseconds
from topics.zones import ZONE_DATA_VERSION, zone, zone_names

#: The oldest quote that can be good (`QUOTE_SECONDS` is at most a day), and an hour for clocks that differ.
MAX_QUOTE_AGE_MS: Final = 25 * 3_600_000
#: The terms of a room for which its hotel has set none.
NO_TERMS: Final[Event] = {"version": 0, "plans": [{"id": "standard", "name": "Standard"}]}

_ALL: Final = {"percent": 100}
_NOTHING: Final = {"percent": 0}
_ONE_DAY: Final = timedelta(days=1)
_CHECK_IN_TIME: Final = "15:00:00"


class Line(NamedTuple):
    """One line of a price: a tax or fee, or the stay itself."""

    kind: str
    id: str
    name: str
    amount: int
    included: bool
    collected: str


class Step(NamedTuple):
    """A cancellation before `until`, a wall time at the hotel, costs `kept`; None: until check-in."""

    until: datetime | None
    kept: int
    percent: int | None


def faults_of_sums(booking: Booking, sale: Event) -> Iterator[str]:
    """Yield, in words, that the lines of the price are not the amount, or that more than the amount may be kept."""
    lines = [line for line in _lines_of(sale) if not line.included]
    total = sum(line.amount for line in lines)
    later = sum(line.amount for line in lines if line.collected == "at_hotel")
    prepaid = booking.terms == "prepaid"
    if (booking.amount, sale["at_hotel_minor"]) != ((total - later, later) if prepaid else (total, total)):
        yield (
            f"it costs {booking.amount} and {sale['at_hotel_minor']} at the hotel, "
            f"and its lines sum to {total} with {later} at the hotel"
        )
    steps = _steps_of(sale)
    kept = [sale["no_show_kept_minor"], *(step.kept for step in steps)]
    if not steps or steps[-1].until is not None or not 0 <= min(kept) <= max(kept) <= booking.amount:
        yield f"its policy keeps {kept} of {booking.amount}"


def faults_of_sale(booking: Booking, sale: Event, terms: Event, now_ms: int) -> Iterator[str]:
    """Yield what the sale of a booking has otherwise than its terms, in words; `now_ms` is the log's time.

    Args:
        booking: one that has just been reserved, whose nights are as they were then.
        sale: its sale, as an event has it.
        terms: those that the sale names, as an event has them.
        now_ms: milliseconds since 1970.
    """
    plan = next((each for each in terms["plans"] if each["id"] == sale["plan_id"]), None)
    if plan is None:
        yield f"its plan {sale['plan_id']} is none of version {terms['version']}"
        return
    policy = plan.get("policy", {}) if plan.get("refundable", True) else {}
    facts = {
        "plan_name": (sale["plan_name"], plan["name"]),
        "meals": (sale["meals"], plan.get("meals", "none")),
        "terms": (booking.terms, plan.get("terms", "prepaid")),
        "early_departure_percent": (sale["early_departure_percent"], policy.get("early_departure_percent", 100)),
        "no_show_kept_minor": (sale["no_show_kept_minor"], _kept(policy.get("no_show", _ALL), booking)),
        "lines": (_lines_of(sale), _expected_lines(booking, sale, terms, plan, now_ms)),
    }
    for name, (here, right) in facts.items():
        if here != right:
            yield f"{name} is {here!r}, by version {terms['version']} of its terms {right!r}"
    steps, right = _steps_of(sale), _expected_steps(booking, plan)
    if len(steps) != len(right) or not all(map(_is_same_step, steps, right)):
        yield f"its cancellation costs {_costs(steps)}, by version {terms['version']} of its terms {_costs(right)}"


# The lines of a price.


def _lines_of(sale: Event) -> list[Line]:
    return [
        Line(
            line["kind"], line["id"], line["name"], line["amount_minor"], line.get("included", False),
            line.get("collected", "now"),
        )
        for line in sale["lines"]
    ]  # fmt: skip


def _expected_lines(booking: Booking, sale: Event, terms: Event, plan: Event, now_ms: int) -> list[Line]:
    """Return the right lines; an amount that cannot be known is that of the sale."""
    known = {line.id: line.amount for line in _lines_of(sale)[1:]}
    nights = _night_prices(booking, sale, plan, now_ms)
    stay = sum(nights) if nights else next((line["amount_minor"] for line in sale["lines"]), 0)
    paid = "at_hotel" if plan.get("terms") == "at_hotel" else "now"
    lines = [Line("stay", plan["id"], plan["name"], stay, included=False, collected=paid)]
    for tax in terms.get("taxes", []):
        amount = _tax(tax, booking, sale, nights, stay)
        amount = known.get(tax["id"], 0) if amount is None else amount
        included = tax.get("included", False)
        if amount:
            collected = paid if included or paid == "at_hotel" else tax.get("collected", "now")
            lines.append(Line(tax.get("kind", "tax"), tax["id"], tax["name"], amount, included, collected))
    return lines


def _night_prices(booking: Booking, sale: Event, plan: Event, now_ms: int) -> list[int]:
    """Return the price of each night in all rooms; none, if a quote may have had another price of a night."""
    if any(night.priced_at is not None and night.priced_at >= now_ms - MAX_QUOTE_AGE_MS for night in booking.nights):
        return []
    adults = max(0, sale["party"]["adults"] - plan.get("included_adults", 2) * booking.rooms)
    bands = plan.get("child_bands", [])
    ages = sale["party"].get("child_ages", [])
    children = sum(next((band["nightly_minor"] for band in bands if age <= band["up_to_age"]), 0) for age in ages)
    people = rounded(adults * plan.get("extra_adult_minor", 0) + children, booking.currency)
    return [
        rounded(max(Fraction(0), _of_plan(plan, night.price, night.surge, booking.currency)), booking.currency)
        * booking.rooms
        + people
        for night in booking.nights
    ]


def _of_plan(plan: Event, price: int, surge: int, currency: str) -> Fraction:
    base = rounded(Fraction(price * surge, 1000), currency)
    return Fraction(base * plan.get("times_milli", 1000), 1000) + int(plan.get("plus_minor", 0))


def _tax(tax: Event, booking: Booking, sale: Event, nights: Sequence[int], stay: int) -> int | None:
    """Return the amount of a tax or fee; None: it is for some of the nights, and their prices are not known."""
    first, end = tax.get("first_night") or "", tax.get("end_night") or "9999-99-99"
    counted = [first <= night.day < end for night in booking.nights]
    percent = tax.get("percent_milli")
    if percent is None:
        units = sum(counted) if tax.get("per_night") else int(counted[0])
        if tax.get("per_person"):
            ages = sale["party"].get("child_ages", [])
            units *= sale["party"]["adults"] + sum(age >= tax.get("min_age", 0) for age in ages)
        if tax.get("per_room"):
            units *= booking.rooms
        amount = rounded(units * tax["amount_minor"], booking.currency)
    else:
        if nights:
            base = sum(price for price, counts in zip(nights, counted, strict=True) if counts)
        elif all(counted) or not any(counted):
            base = stay if all(counted) else 0
        else:
            return None
        whole = 100_000 + (percent if tax.get("included") else 0)
        amount = rounded(Fraction(base * percent, whole), booking.currency)
    return min(amount, stay) if tax.get("included") else amount


# The costs of a cancellation.


def _kept(kept: Event, booking: Booking) -> int:
    """Return the part of the booking's amount that is kept."""
    if "percent" in kept:
        part = Fraction(booking.amount * kept["percent"], 100)
    elif "nights" in kept:
        part = Fraction(sum(booking.night_amounts[: kept["nights"]]))
    else:
        part = Fraction(kept["amount_minor"])
    return min(booking.amount, rounded(part, booking.currency))


def _steps_of(sale: Event) -> list[Step]:
    return [Step(_wall_time(step.get("until")), step["kept_minor"], step.get("percent")) for step in sale["steps"]]


def _wall_time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _expected_steps(booking: Booking, plan: Event) -> list[Step]:
    if not plan.get("refundable", True):
        return [Step(None, booking.amount, 100)]
    clock = (booking.stay_times or {}).get("check_in_time", _CHECK_IN_TIME)
    arrival = datetime.combine(datetime.fromisoformat(booking.check_in), time.fromisoformat(clock).replace(tzinfo=None))
    policy = plan.get("policy", {}).get("steps", [])
    ends = [_before(arrival, step["hours_before"]) for step in policy]
    costs = [_NOTHING, *(step["kept"] for step in policy)]
    steps: list[Step] = []
    for end, cost in zip([*ends, None], costs, strict=True):
        step = Step(end, _kept(cost, booking), cost.get("percent"))
        if steps and steps[-1][1:] == step[1:]:
            steps.pop()
        steps.append(step)
    return steps


def _before(arrival: datetime, hours: int) -> datetime:
    return arrival - min(timedelta(hours=hours), arrival - arrival.min)


def _is_same_step(step: Step, right: Step) -> bool:
    """Compare two steps: within a day, since a quote keeps the check-in time that its hotel had then."""
    if step[1:] != right[1:] or (step.until is None) != (right.until is None):
        return False
    return step.until is None or right.until is None or abs(step.until - right.until) < _ONE_DAY


def _costs(steps: Sequence[Step]) -> str:
    return ", ".join(f"{step.kept} until {step.until or 'check-in'}" for step in steps)


def kept_of_early_departure(booking: Booking, freed_from: str) -> int:
    """Return what is kept of the amount, if the nights from `freed_from` on are left unused."""
    if booking.sale is None:
        return booking.amount
    days = days_of(booking.check_in, booking.check_out)
    unused = sum(amount for day, amount in zip(days, booking.night_amounts, strict=False) if day >= freed_from)
    percent = Fraction(booking.sale["early_departure_percent"], 100)
    return min(booking.amount, rounded(booking.amount - unused + unused * percent, booking.currency))


def faults_of_cancellation(booking: Booking, sale: Event, policy: Event | None, now_ms: int) -> Iterator[str]:
    """Yield what a guest's cancellation of a sold stay applied otherwise than the stay's sale, in words."""
    steps = _steps_of(sale)
    costs = [(step.kept, step.percent) for step in steps]
    if policy is None:
        yield f"cancelled by the guest without its policy, which keeps {costs}"
        return
    applied = (policy["kept_minor"], policy.get("percent"))
    if applied not in costs:
        yield f"cancelled by the guest, and {policy} is kept of {costs}"
        return
    if booking.stay_times is None or policy.get("zone_data") != ZONE_DATA_VERSION:
        # The event has neither the hotel's times nor the clock that they were read with.
        return
    time_zone = booking.stay_times["time_zone"]
    ends = [None if step.until is None else _instant_ms(step.until, time_zone) for step in steps]
    number = next(number for number, end in enumerate(ends) if end is None or now_ms < end)
    if (*applied, milliseconds(policy.get("until"))) != (*costs[number], ends[number]):
        yield f"cancelled by the guest, and {policy} is kept, by its policy {costs[number][0]} at that time"


def _instant_ms(wall_time: datetime, time_zone: str) -> int:
    """Return the instant at which the hotel's clocks show a time, the first of two; those of no zone show UTC."""
    there = zone(time_zone if time_zone in zone_names() else "UTC")
    since_1970 = wall_time.replace(tzinfo=there).timestamp()
    return max(round(since_1970 * 1000), milliseconds("0001-01-01T00:00:00+00:00") or 0)
