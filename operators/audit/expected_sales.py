"""The price and the costs of a stay by the sale terms on the log, by the auditor's own arithmetic.

No event shows whether its stay was sold, or changed, by a quote. A quote is at most a day old, so the terms of a sale
may be those that were in force until a day ago, and so may be the costs of a cancellation that a change keeps. The
prices of nights are compared if they have not changed for so long.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, time, timedelta
from fractions import Fraction
from typing import Final, NamedTuple

from operators.audit.amounts import rounded, shares, shares_of_nights
from operators.audit.expected_rows import Booking, Event, Night, days_of, milliseconds
from topics.zones import zone, zone_names

#: The oldest quote that can be good (`QUOTE_SECONDS` is at most a day), and an hour for clocks that differ.
MAX_QUOTE_AGE_MS: Final = 25 * 3_600_000
#: The terms of a room for which its hotel has set none.
NO_TERMS: Final[Event] = {"version": 0, "plans": [{"id": "standard", "name": "Standard"}]}

#: The line of a price that has the costs of changes, but for its amount.
_CHANGE_LINE: Final = ("change", "change", "Costs of changes")
#: The rules of a zone may change by so much between the data that a decision was made with and ours.
_ZONE_CHANGE_MS: Final = 3_600_000
_ALL: Final = {"percent": 100}
_NOTHING: Final = {"percent": 0}
_ONE_DAY: Final = timedelta(days=1)
_CHECK_IN_TIME: Final = "15:00:00"
#: A hotel records within 30 days of check-out that nobody arrived.
_NO_SHOW_DELAY_MS: Final = 30 * 86_400_000


class Line(NamedTuple):
    """One line of a price: a tax or fee, or the stay itself."""

    kind: str
    id: str
    name: str
    amount: int
    included: bool
    collected: str


class Floor(NamedTuple):
    """The money that a change may keep: `costs` of all changes so far, and `least` of each later end of the stay."""

    costs: int
    least: int


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
    costs = costs_of_changes(booking)
    of_changes = sum(line.amount for line in lines if line.kind == "change")
    if of_changes != costs or costs < 0:
        yield f"its changes cost {costs}, and its lines have {of_changes} for them"
    steps = steps_of(sale)
    kept = [sale["no_show_kept_minor"], *(step.kept for step in steps)]
    if not steps or steps[-1].until is not None or not costs <= min(kept) <= max(kept) <= booking.amount:
        yield f"its policy keeps {kept} of {booking.amount}{f' and {costs} for changes' if costs else ''}"


def costs_of_changes(booking: Booking) -> int:
    """Return the costs of changes in the booking's amount."""
    return 0 if booking.sale is None else int(booking.sale.get("change_costs_minor", 0))


def faults_of_sale(
    booking: Booking, sale: Event, terms: Event, now_ms: int, before: Booking | None = None
) -> Iterator[str]:
    """Yield what the sale of a booking has otherwise than its terms, in words; `now_ms` is the log's time.

    Args:
        booking: one that has just been reserved or changed, whose nights are as they were then.
        sale: its sale, as an event has it.
        terms: those that the sale names, as an event has them.
        now_ms: milliseconds since 1970.
        before: the booking as it was before a change; None: it has just been reserved.
    """
    plan = next((each for each in terms["plans"] if each["id"] == sale["plan_id"]), None)
    if plan is None:
        yield f"its plan {sale['plan_id']} is none of version {terms['version']}"
        return
    policy = plan.get("policy", {}) if plan.get("refundable", True) else {}
    costs = costs_of_changes(booking)
    sold_for = sale.get("night_prices_minor", [])
    in_one_room = _prices_in_one_room(booking, now_ms, before, sold_for)
    nights = _night_prices(booking, sale, plan, in_one_room or sold_for)
    discount = _discount(sale, nights, booking.currency)
    nights = shares(sum(nights) - discount, nights) if discount else nights
    price = _without_costs(booking, nights)
    facts = {
        "discount_minor": (sale.get("discount_minor", 0), discount if nights else sale.get("discount_minor", 0)),
        "plan_name": (sale["plan_name"], plan["name"]),
        "meals": (sale["meals"], plan.get("meals", "none")),
        "terms": (booking.terms, _terms(booking, plan, before)),
        "early_departure_percent": (sale["early_departure_percent"], policy.get("early_departure_percent", 100)),
        "lines": (_lines_of(sale), _expected_lines(booking, sale, terms, plan, nights)),
        "at_hotel_taxes_minor": (sale.get("at_hotel_taxes_minor", 0), _taxes_at_hotel(booking, sale, terms)),
    }
    if in_one_room and (sold_for or before is not None):
        facts["night_prices"] = (sold_for, in_one_room)
    if nights:
        facts["night_amounts"] = (list(booking.night_amounts), shares_of_nights(booking.amount, price.night_amounts))
    for name, (here, right) in facts.items():
        if here != right:
            yield f"{name} is {here!r}, by version {terms['version']} of its terms {right!r}"
    floors, no_show = _floors(booking, before, now_ms), costs + _kept(policy.get("no_show", _ALL), price)
    by_policy = _expected_steps(price, plan)
    fitting = [floor for floor in floors if _are_steps(sale, by_policy, floor)]
    yield from _faults_of_no_show(sale, terms, no_show, fitting or floors)
    if not fitting:
        yield _fault_of_steps(sale, terms, by_policy, floors)


def _faults_of_no_show(sale: Event, terms: Event, by_policy: int, floors: Sequence[Floor]) -> Iterator[str]:
    """Yield, in words, that a no-show costs otherwise than by the policy, and by what a change may keep."""
    right = sorted({max(by_policy, floor.least) for floor in floors})
    if sale["no_show_kept_minor"] not in right:
        words = " or ".join(map(str, right))
        yield f"no_show_kept_minor is {sale['no_show_kept_minor']}, by version {terms['version']} of its terms {words}"


def _are_steps(sale: Event, right: list[Step], floor: Floor) -> bool:
    """Return whether cancellations cost what they do by the terms, and by what a change may keep."""
    steps, raised = steps_of(sale), _raised(right, floor)
    costs = sale.get("change_costs_minor", 0)
    return costs == floor.costs and len(steps) == len(raised) and all(map(_is_same_step, steps, raised))


def _fault_of_steps(sale: Event, terms: Event, right: list[Step], floors: Sequence[Floor]) -> str:
    """Return, in words, that cancellations cost otherwise than by the terms, and by what a change may keep."""
    costs, steps = sale.get("change_costs_minor", 0), steps_of(sale)
    words = " or ".join(_costs(_raised(right, floor)) for floor in floors)
    after = f" after changes for {costs}" if costs else ""
    return f"its cancellation costs {_costs(steps)}{after}, by version {terms['version']} of its terms {words}"


def _taxes_at_hotel(booking: Booking, sale: Event, terms: Event) -> int:
    """Return the taxes and fees in the amount of a stay paid at the hotel that a prepaid stay would pay there, too."""
    apart = {
        tax["id"]
        for tax in terms.get("taxes", ())
        if tax.get("collected", "now") == "at_hotel" and not tax.get("included", False)
    }
    lines = [line for line in _lines_of(sale) if line.kind in {"tax", "fee"} and line.id in apart]
    return 0 if booking.terms == "prepaid" else sum(line.amount for line in lines)


def _terms(booking: Booking, plan: Event, before: Booking | None) -> str:
    """Return how a stay is paid: by its plan, but at the hotel by guests without an account; no change changes it."""
    if before is not None:
        return before.terms
    is_at_desk = booking.user_id is None and booking.terms == "at_hotel"
    return "at_hotel" if is_at_desk else str(plan.get("terms", "prepaid"))


def _discount(sale: Event, nights: Sequence[int], currency: str) -> int:
    """Return what a promo code takes off the prices of nights."""
    discount, whole = sale.get("discount"), sum(nights)
    if discount is None:
        return 0
    percent = discount.get("percent_milli")
    part = Fraction(discount["amount_minor"]) if percent is None else Fraction(whole * percent, 100_000)
    return min(whole, rounded(part, currency))


# Changes.


def faults_of_change(booking: Booking, before: Booking, now_ms: int) -> Iterator[str]:
    """Yield, in words, what a changed stay has otherwise than the stay before, beside its price.

    `now_ms` is the log's time, in milliseconds since 1970.
    """
    if before.sale is None or booking.sale is None:
        if before.sale is not booking.sale:
            yield f"its sale is {booking.sale}, and was {before.sale}"
            return
        right = _amounts_without_sale(booking, before, now_ms)
        if list(booking.night_amounts) != right:
            yield f"its nights cost {list(booking.night_amounts)}, by the prices agreed and those of today {right}"
        return
    discount = booking.sale.get("discount") or {}
    first, end = discount.get("first_night") or "", discount.get("end_night") or "9999-99-99"
    if booking.check_in < first or booking.check_out > end:
        yield f"it is from {booking.check_in} to {booking.check_out}, and its code counts from {first} to {end}"
    for name in ("plan_id", "discount"):
        if booking.sale.get(name) != before.sale.get(name):
            yield f"its {name} is {booking.sale.get(name)}, and was {before.sale.get(name)}"


def _amounts_without_sale(booking: Booking, before: Booking, now_ms: int) -> list[int]:
    """Return the right amount of each night; its own, if a quote may have had another price of the night."""
    days = days_of(before.check_in, before.check_out)
    agreed = dict(zip(days, before.night_amounts or shares_of_nights(before.amount, [0] * len(days)), strict=False))
    kept, more = min(before.rooms, booking.rooms), max(0, booking.rooms - before.rooms)
    here = booking.night_amounts if len(booking.night_amounts) == len(booking.nights) else [0] * len(booking.nights)
    return [
        amount
        if _is_new(night, now_ms) and (more or night.day not in agreed)
        else rounded(Fraction(agreed[night.day] * kept, before.rooms), booking.currency)
        + rounded(Fraction(night.price * night.surge, 1000), booking.currency) * more
        if night.day in agreed
        else rounded(Fraction(night.price * night.surge, 1000), booking.currency) * booking.rooms
        for night, amount in zip(booking.nights, here, strict=True)
    ]


def _is_new(night: Night, now_ms: int) -> bool:
    """Return whether the night had another price when the oldest quote that can be good was made."""
    return night.priced_at is not None and night.priced_at >= now_ms - MAX_QUOTE_AGE_MS


def _floors(booking: Booking, before: Booking | None, now_ms: int) -> list[Floor]:
    """Return what the changes of a booking may keep: nothing of a change by the hotel, the policy's part of others.

    A change by the hotel leaves the least costs of a cancellation as they are.

    A leg that takes the place of a stay of another room type has in its event what the change keeps.

    The event of a change names neither who asked for it nor the zone data that the policy's times were read with.
    """
    if booking.replaces is not None:
        return [_floor_of_move(booking, booking.replaces)]
    if before is None or before.sale is None:
        return [Floor(0, 0)]
    earlier = costs_of_changes(before)
    least = min(step.kept for step in steps_of(before.sale))
    floors, price = [Floor(earlier, min(least, booking.amount))], before.amount - earlier
    less = price - (booking.amount - costs_of_changes(booking))
    for kept in _kept_now(before, before.sale, now_ms):
        part = 0 if less <= 0 else min(less, rounded(Fraction(less * (kept - earlier), price), booking.currency))
        floors.append(Floor(earlier + part, min(kept, booking.amount)))
    return floors


def _floor_of_move(leg: Booking, stay: Event) -> Floor:
    """Return what the change keeps that a stay moves with from another room type, by the policy of the stay before."""
    earlier, kept = stay.get("costs_minor", 0), stay.get("kept_now_minor", 0)
    price = stay["amount_minor"] - earlier
    less = price - (leg.amount - costs_of_changes(leg))
    part = 0 if less <= 0 else min(less, rounded(Fraction(less * (kept - earlier), price), leg.currency))
    return Floor(earlier + part, min(stay.get("floor_minor", 0), leg.amount))


def costs_that_move(booking: Booking, now_ms: int) -> list[tuple[int, int]]:
    """Return what a change to another room type may keep: the costs of a cancellation now, and of each later one.

    A change by the hotel keeps the costs of earlier changes, and the least costs of a cancellation. No change to
    another room type has a quote. `now_ms` is the log's time, in milliseconds since 1970.
    """
    if booking.sale is None:
        return [(0, 0)]
    by_hotel = costs_of_changes(booking), min(step.kept for step in steps_of(booking.sale))
    return [by_hotel, *((kept, kept) for kept in _kept_now(booking, booking.sale, now_ms, max_quote_age_ms=0))]


def _kept_now(booking: Booking, sale: Event, now_ms: int, max_quote_age_ms: int = MAX_QUOTE_AGE_MS) -> list[int]:
    """Return what a cancellation by the guest would keep now, or would have kept when a quote was made that counts now.

    The rules of zones may differ by an hour.
    """
    steps = steps_of(sale)
    if booking.stay_times is None:
        return [step.kept for step in steps]
    time_zone = booking.stay_times["time_zone"]
    ends = [None if step.until is None else instant_ms(step.until, time_zone) for step in steps]
    first, last = (
        next(number for number, end in enumerate(ends) if end is None or time_ms < end)
        for time_ms in (now_ms - max_quote_age_ms - _ZONE_CHANGE_MS, now_ms + _ZONE_CHANGE_MS)
    )
    return [step.kept for step in steps[first : last + 1]]


def _raised(steps: Sequence[Step], floor: Floor) -> list[Step]:
    """Return the steps of a policy with the costs of changes in each, and none below the floor."""
    raised: list[Step] = []
    for step in steps:
        changed = step._replace(kept=step.kept + floor.costs)
        if changed.kept < floor.least:
            changed = step._replace(kept=floor.least, percent=None)
        if raised and raised[-1][1:] == changed[1:]:
            raised.pop()
        raised.append(changed)
    return raised


# The lines of a price.


def _lines_of(sale: Event) -> list[Line]:
    return [
        Line(
            line["kind"], line["id"], line["name"], line["amount_minor"], line.get("included", False),
            line.get("collected", "now"),
        )
        for line in sale["lines"]
    ]  # fmt: skip


def _expected_lines(booking: Booking, sale: Event, terms: Event, plan: Event, nights: Sequence[int]) -> list[Line]:
    """Return the right lines; an amount that cannot be known is that of the sale."""
    known = {line.id: line.amount for line in _lines_of(sale)[1:]}
    stay = sum(nights) if nights else next((line["amount_minor"] for line in sale["lines"]), 0)
    paid = "at_hotel" if booking.terms == "at_hotel" else "now"
    lines = [Line("stay", plan["id"], plan["name"], stay, included=False, collected=paid)]
    for tax in terms.get("taxes", []):
        amount = _tax(tax, booking, sale, nights, stay)
        amount = known.get(tax["id"], 0) if amount is None else amount
        included = tax.get("included", False)
        if amount:
            collected = paid if included or paid == "at_hotel" else tax.get("collected", "now")
            lines.append(Line(tax.get("kind", "tax"), tax["id"], tax["name"], amount, included, collected))
    if costs := costs_of_changes(booking):
        lines.append(Line(*_CHANGE_LINE, costs, included=False, collected=paid))
    return lines


def _night_prices(booking: Booking, sale: Event, plan: Event, in_one_room: Sequence[int]) -> list[int]:
    """Return the price of each night in all rooms, from the prices in one; none, if these are not known."""
    adults = max(0, sale["party"]["adults"] - plan.get("included_adults", 2) * booking.rooms)
    bands = plan.get("child_bands", [])
    ages = sale["party"].get("child_ages", [])
    children = sum(next((band["nightly_minor"] for band in bands if age <= band["up_to_age"]), 0) for age in ages)
    people = rounded(adults * plan.get("extra_adult_minor", 0) + children, booking.currency)
    return [
        rounded(max(Fraction(0), _of_plan(plan, price)), booking.currency) * booking.rooms + people
        for price in in_one_room
    ]


def _prices_in_one_room(booking: Booking, now_ms: int, before: Booking | None, sold_for: Sequence[int]) -> list[int]:
    """Return the price of each night in one room; none, if a quote may have had another price of a night.

    The rooms of a night that were in the stay before a change keep the price that was agreed; more cost today's. Of a
    change, a night that a quote may have had another price of costs what it was sold for.
    """
    agreed: dict[str, int] = {}
    if before is not None and before.sale is not None:
        days = days_of(before.check_in, before.check_out)
        agreed = dict(zip(days, before.sale.get("night_prices_minor", []), strict=False))
    elif any(_is_new(night, now_ms) for night in booking.nights):
        return []
    more = 0 if before is None else max(0, booking.rooms - before.rooms)
    if len(sold_for) != len(booking.nights):
        sold_for = [0] * len(booking.nights)
    prices: list[int] = []
    for night, sold_at in zip(booking.nights, sold_for, strict=True):
        if before is not None and _is_new(night, now_ms) and (more or night.day not in agreed):
            prices.append(sold_at)
            continue
        today = rounded(Fraction(night.price * night.surge, 1000), booking.currency)
        price = agreed.get(night.day, today)
        mean = Fraction(price * (booking.rooms - more) + today * more, max(1, booking.rooms))
        prices.append(rounded(mean, booking.currency) if more else price)
    return prices


def _of_plan(plan: Event, price: int) -> Fraction:
    return Fraction(price * plan.get("times_milli", 1000), 1000) + int(plan.get("plus_minor", 0))


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


class Price(NamedTuple):
    """The amount of a stay and of its nights without the costs of changes, and what else its policy depends on."""

    amount: int
    night_amounts: Sequence[int]
    currency: str
    check_in: str
    check_in_time: str


def _without_costs(booking: Booking, nights: Sequence[int]) -> Price:
    """Return the price of a stay without the costs of changes; `nights` are the prices of its nights."""
    costs, check_in_time = costs_of_changes(booking), (booking.stay_times or {}).get("check_in_time", _CHECK_IN_TIME)
    amount = booking.amount - costs
    by_night = shares_of_nights(amount, nights) if nights else booking.night_amounts
    return Price(amount, by_night, booking.currency, booking.check_in, check_in_time)


def _kept(kept: Event, price: Price) -> int:
    """Return the part of the stay's price that is kept."""
    if "percent" in kept:
        part = Fraction(price.amount * kept["percent"], 100)
    elif "nights" in kept:
        part = Fraction(sum(price.night_amounts[: kept["nights"]]))
    else:
        part = Fraction(kept["amount_minor"])
    return min(price.amount, rounded(part, price.currency))


def steps_of(sale: Event) -> list[Step]:
    """Return the steps of a sale's policy, as an event has them."""
    return [Step(_wall_time(step.get("until")), step["kept_minor"], step.get("percent")) for step in sale["steps"]]


def _wall_time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _expected_steps(price: Price, plan: Event) -> list[Step]:
    if not plan.get("refundable", True):
        return [Step(None, price.amount, 100)]
    clock = time.fromisoformat(price.check_in_time).replace(tzinfo=None)
    arrival = datetime.combine(datetime.fromisoformat(price.check_in), clock)
    policy = plan.get("policy", {}).get("steps", [])
    ends = [_before(arrival, step["hours_before"]) for step in policy]
    costs = [_NOTHING, *(step["kept"] for step in policy)]
    steps: list[Step] = []
    for end, cost in zip([*ends, None], costs, strict=True):
        step = Step(end, _kept(cost, price), cost.get("percent"))
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


def is_late_no_show(booking: Booking, now_ms: int) -> bool:
    """Return whether it is too late, by an hour at least, to record that nobody arrived; False: no times are known."""
    if booking.stay_times is None:
        return False
    check_out = datetime.fromisoformat(f"{booking.check_out}T{booking.stay_times['check_out_time']}")
    check_out_ms = instant_ms(check_out, booking.stay_times["time_zone"])
    return now_ms >= check_out_ms + _NO_SHOW_DELAY_MS + _ZONE_CHANGE_MS


def instant_ms(wall_time: datetime, time_zone: str) -> int:
    """Return the instant at which the hotel's clocks show a time, the first of two; those of no zone show UTC."""
    there = zone(time_zone if time_zone in zone_names() else "UTC")
    since_1970 = wall_time.replace(tzinfo=there).timestamp()
    return max(round(since_1970 * 1000), milliseconds("0001-01-01T00:00:00+00:00") or 0)
