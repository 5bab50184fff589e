"""How the clerk of `brute_force` sells: terms of a room, prices line by line in exact fractions, and policies.

Shares nothing with the core but the commands. All prices are in euros, whose step is a cent.
"""

from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from itertools import pairwise
from math import floor
from typing import Any

import msgspec

from tests.workers.decisions.clerk_at_hotel import AHEAD, Fact, days_of, hotel_times, wall_time
from topics.messages.sale import (
    AgeBand,
    ArrivalRule,
    CancellationPolicy,
    Collected,
    Kept,
    LineKind,
    PolicyStep,
    RatePlan,
    SaleTerms,
    Tax,
)
from topics.messages.values import Terms

#: The terms that hotels in the stories set; their policies count from after the change of clocks on 8 March.
POLICY = CancellationPolicy(
    id="flexible",
    steps=(
        PolicyStep(hours_before=48, kept=Kept(percent=30)),
        PolicyStep(hours_before=20, kept=Kept(nights=1)),
    ),
    no_show=Kept(amount_minor=77_77),
    early_departure_percent=40,
)
_RULES = (
    ArrivalRule(first_day=date(2026, 3, 11), end_day=date(2026, 3, 13), min_nights=2, advance_days=11),
    ArrivalRule(first_day=date(2026, 3, 12), end_day=date(2026, 3, 14), max_nights=2, closed_to_departure=True),
    ArrivalRule(first_day=date(2026, 3, 10), end_day=date(2026, 3, 11), closed_to_arrival=True),
)
STANDARD = RatePlan(
    id="standard",
    name="Standard",
    policy=POLICY,
    extra_adult_minor=10_01,
    child_bands=(AgeBand(up_to_age=3, nightly_minor=0), AgeBand(up_to_age=12, nightly_minor=3_33)),
)
STRICT = RatePlan(id="strict", name="Strict", rules=_RULES, plus_minor=-20_00, terms=Terms.AT_HOTEL, policy=POLICY)
SAVER = RatePlan(id="saver", name="Saver", refundable=False, times_milli=333, included_adults=1)
STOPPED = ArrivalRule(first_day=date(2026, 3, 1), end_day=date(2026, 3, 31), stop_sell=True)
VAT = Tax(id="vat", name="VAT", percent_milli=7_000, included=True)
CITY = Tax(id="city", name="City", amount_minor=2_22, per_night=True, per_person=True, min_age=4)
FEE = Tax(id="fee", name="Fee", kind=LineKind.FEE, percent_milli=12_345, end_night=date(2026, 3, 12))
LINEN = Tax(id="linen", name="Linen", amount_minor=9_99, per_room=True, collected=Collected.AT_HOTEL)
OFFERS = (
    SaleTerms(version=1, plans=(STANDARD, SAVER, STRICT), taxes=(VAT, CITY), capacity=2, infant_max_age=1),
    SaleTerms(version=1, plans=(SAVER, STRICT, STANDARD), taxes=(FEE, LINEN)),
    SaleTerms(version=1, plans=(msgspec.structs.replace(STANDARD, rules=(STOPPED,)), SAVER), capacity=3),
    SaleTerms(version=1, plans=()),
)

#: The terms of a room without any, of which a request may name a plan or people.
BARE: Fact = {"version": 0, "plans": [{"id": "standard", "name": "Standard"}], "taxes": []}


def cents(exact: Fraction) -> int:
    """Round half up."""
    return floor(exact + Fraction(1, 2))


def terms_on_paper(terms: Any) -> Fact:
    """Copy terms from a command."""
    return {
        "version": terms.version,
        "plans": [_fields(plan) for plan in terms.plans],
        "taxes": [_fields(tax) for tax in terms.taxes],
        "capacity": terms.capacity,
        "infants": terms.infant_max_age,
    }


def _fields(struct: Any) -> Fact:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


def plan_of(terms: Fact, wanted: str | None) -> Fact | None:
    """Look a plan up; without a wish, the standard one or the first."""
    by_id: dict[str, Fact] = {plan["id"]: plan for plan in terms["plans"]}
    if wanted is not None:
        return by_id.get(wanted)
    first: Fact = terms["plans"][0]
    return by_id.get("standard", first)


def people_of(terms: Fact, plan: Fact, command: Any) -> tuple[int, tuple[int, ...]]:
    """Return the adults and the ages of the children."""
    if command.party is not None:
        return command.party.adults, command.party.child_ages
    covered = plan.get("included_adults", 2)
    if terms.get("capacity") is not None:
        covered = min(covered, terms["capacity"])
    return max(1, covered) * command.rooms_count, ()


def people_do_not_fit(terms: Fact, command: Any) -> str | None:
    """Count heads."""
    if command.party is None:
        return None
    if command.party.adults < 1:
        return "no_adult"
    infants = -1 if terms.get("infants") is None else terms["infants"]
    heads = command.party.adults + len([age for age in command.party.child_ages if age > infants])
    space = terms.get("capacity")
    return "party_too_large" if space is not None and heads > space * command.rooms_count else None


def rule_against(plan: Fact, command: Any, today: date) -> str | None:
    """Read the rules of a plan one reason after the other."""
    rules = plan.get("rules", ())
    here = [rule for rule in rules if rule.first_day <= command.check_in < rule.end_day]
    there = [rule for rule in rules if rule.first_day <= command.check_out < rule.end_day]
    nights, ahead = (command.check_out - command.check_in).days, (command.check_in - today).days
    for reason, against in (
        ("stop_sell", [rule for rule in here if rule.stop_sell]),
        ("closed_to_arrival", [rule for rule in here if rule.closed_to_arrival]),
        ("closed_to_departure", [rule for rule in there if rule.closed_to_departure]),
        ("min_stay", [rule for rule in here if (rule.min_nights or 0) > nights]),
        ("max_stay", [rule for rule in here if (rule.max_nights or nights) < nights]),
        ("advance_purchase", [rule for rule in here if (rule.advance_days or ahead) > ahead]),
    ):
        if against:
            return reason
    return None


def is_stopped(plan: Fact | None, day: date) -> bool:
    """Return whether nobody can buy the plan for this arrival."""
    rules = () if plan is None else plan.get("rules", ())
    return plan is None or any(rule.stop_sell and rule.first_day <= day < rule.end_day for rule in rules)


def offer(terms: Fact, plan: Fact, command: Any, prices: list[int]) -> Fact:
    """Write a price line by line.

    Returns the terms of payment, the amount, the share of each night, and the sale as its event has it.
    """
    adults, ages = people_of(terms, plan, command)
    rooms, days = command.rooms_count, [*days_of(command.check_in, command.check_out)]
    nights = []
    for price in prices:
        room = Fraction(price * plan.get("times_milli", 1000), 1000) + plan.get("plus_minor", 0)
        night = cents(max(Fraction(0), room)) * rooms
        night += max(0, adults - plan.get("included_adults", 2) * rooms) * plan.get("extra_adult_minor", 0)
        for age in ages:
            bands = [band for band in plan.get("child_bands", ()) if age <= band.up_to_age]
            night += bands[0].nightly_minor if bands else 0
        nights.append(night)
    discount = getattr(command, "discount", None)
    off = 0 if discount is None else _off(discount, sum(nights))
    if off:
        nights = shares_of(sum(nights) - off, nights)
    lines: list[Fact] = [{"kind": "stay", "id": plan["id"], "name": plan["name"], "amount_minor": sum(nights)}]
    now = later = 0
    for tax in terms["taxes"]:
        amount = _tax(tax, dict(zip(days, nights, strict=True)), adults, ages, rooms)
        if amount == 0:
            continue
        line = {"kind": tax["kind"], "id": tax["id"], "name": tax["name"], "amount_minor": amount}
        if tax["included"]:
            lines.append({**line, "included": True})
        elif tax["collected"] == "at_hotel":
            lines.append({**line, "collected": "at_hotel"})
            later += amount
        else:
            lines.append(line)
            now += amount
    offered = _offered(terms, plan, command, lines, nights, now=now, later=later, people=(adults, ages), prices=prices)
    if discount is not None:
        offered["sale"]["discount"] = {name: fact for name, fact in _fields(discount).items() if fact is not None}
    if off:
        offered["sale"]["discount_minor"] = off
    return offered


def _off(discount: Any, cost: int) -> int:
    """Return the part of the nights that a promo code pays: at most all of it."""
    if discount.percent_milli is not None:
        return cents(Fraction(cost * discount.percent_milli, 100_000))
    return min(cost, int(discount.amount_minor))


def _tax(tax: Fact, nights: dict[date, int], adults: int, ages: tuple[int, ...], rooms: int) -> int:
    counts = [
        day
        for day in nights
        if (tax["first_night"] or date.min) <= day and (tax["end_night"] is None or day < tax["end_night"])
    ]
    if tax["percent_milli"] is not None:
        share = Fraction(tax["percent_milli"], 100_000)
        if tax["included"]:
            share /= 1 + share
        amount = cents(sum(nights[day] for day in counts) * share)
    else:
        heads = adults + len([age for age in ages if age >= tax["min_age"]])
        days = len(counts) if tax["per_night"] else int(next(iter(nights)) in counts)
        amount = tax["amount_minor"] * days * (heads if tax["per_person"] else 1) * (rooms if tax["per_room"] else 1)
    return min(amount, sum(nights.values())) if tax["included"] else amount


def _offered(
    terms: Fact,
    plan: Fact,
    command: Any,
    lines: list[Fact],
    nights: list[int],
    *,
    now: int,
    later: int,
    people: tuple[int, tuple[int, ...]],
    prices: list[int],
) -> Fact:
    prepaid = plan.get("terms", "prepaid") == "prepaid" and not getattr(command, "at_desk", False)
    amount = sum(nights) + now + (0 if prepaid else later)
    shares = shares_of(amount, nights)
    policy = plan.get("policy")
    refundable = plan.get("refundable", True)
    if not prepaid:
        lines = [{**line, "collected": "at_hotel"} for line in lines]
    sale = {
        "terms_version": terms["version"],
        "plan_id": plan["id"],
        "plan_name": plan["name"],
        "meals": plan.get("meals", "none"),
        "party": {"adults": people[0], "child_ages": people[1]},
        "lines": tuple(lines),
        "at_hotel_minor": later if prepaid else amount,
        "steps": tuple(_steps(policy, command, amount, shares, refundable=refundable)),
        "no_show_kept_minor": amount if not refundable or policy is None else _kept(policy.no_show, amount, shares),
        "early_departure_percent": 100 if not refundable or policy is None else policy.early_departure_percent,
    }
    if command.party is not None or _heads_cost(terms, plan, lines):
        sale["party_binding"] = True
    sale["night_prices_minor"] = tuple(prices)
    if not prepaid and later:
        sale["at_hotel_taxes_minor"] = later
    return {"terms": "prepaid" if prepaid else "at_hotel", "cost": amount, "shares": shares, "sale": sale}


def _heads_cost(terms: Fact, plan: Fact, lines: list[Fact]) -> bool:
    """Return whether one more person could cost something."""
    paid = {line["id"] for line in lines[1:]}
    fees = [band.nightly_minor for band in plan.get("child_bands", ())] + [plan.get("extra_adult_minor", 0)]
    return sum(fees) > 0 or any(
        tax["per_person"] and not tax["percent_milli"] and tax["id"] in paid for tax in terms["taxes"]
    )


def shares_of(amount: int, nights: list[int]) -> list[int]:
    """Divide an amount: cents that are left go to the largest fractions."""
    weights = nights if sum(nights) else [1] * len(nights)
    exact = [Fraction(amount * weight, sum(weights)) for weight in weights]
    shares = [floor(each) for each in exact]
    by_fraction = sorted(range(len(exact)), key=lambda number: (shares[number] - exact[number], number))
    for number in by_fraction[: amount - sum(shares)]:
        shares[number] += 1
    return shares


def _kept(cost: Any, amount: int, shares: list[int]) -> int:
    if cost.percent is not None:
        return cents(Fraction(amount * cost.percent, 100))
    return min(amount, sum(shares[: cost.nights]) if cost.nights is not None else cost.amount_minor)


def _steps(policy: Any, command: Any, amount: int, shares: list[int], *, refundable: bool) -> list[Fact]:
    if not refundable:
        return [{"kept_minor": amount, "percent": 100}]
    times = command.stay_times
    check_in = datetime.combine(command.check_in, time(15) if times is None else times.check_in_time)
    steps: list[Fact] = [{"kept_minor": 0, "percent": 0}]
    for step in () if policy is None else policy.steps:
        steps[-1] |= {"until": check_in - timedelta(hours=step.hours_before)}
        steps.append({"kept_minor": _kept(step.kept, amount, shares)})
        if step.kept.percent is not None:
            steps[-1] |= {"percent": step.kept.percent}
    same = [
        one["kept_minor"] == other["kept_minor"] and one.get("percent") == other.get("percent")
        for one, other in pairwise(steps)
    ]
    return [step for step, merged in zip(steps, [*same, False], strict=True) if not merged]


def cost_of_cancelling(sheet: Fact, command: Any, now: datetime, zone_data: str) -> Fact | None:
    """Look at the clock on the hotel's wall, and read the policy down to the first step that has not ended."""
    if sheet["sale"] is None or command.user_id is None:
        return None
    clock = wall_time(sheet, command, now)
    for step in sheet["sale"]["steps"]:
        until = step.get("until")
        if until is None or clock < until:
            policy = {"kept_minor": step["kept_minor"], "zone_data": zone_data}
            if "percent" in step:
                policy |= {"percent": step["percent"]}
            if until is not None:
                ahead = timedelta(minutes=AHEAD[hotel_times(sheet, command)[0]])
                policy |= {"until": (until - ahead).replace(tzinfo=UTC)}
            return policy
    raise AssertionError("the last step has no end")


def cost_of_leaving(sheet: Fact, left: date) -> Fact:
    """Keep the nights that were used and a part of the others, and no less than any cancellation costs."""
    percent = 100 if sheet["sale"] is None else sheet["sale"]["early_departure_percent"]
    costs = 0 if sheet["sale"] is None else sheet["sale"].get("change_costs_minor", 0)
    shares = shares_of(sheet["cost"] - costs, sheet["shares"]) if costs else sheet["shares"]
    unused = sum(
        share for day, share in zip(days_of(sheet["check_in"], sheet["check_out"]), shares, strict=True) if day >= left
    )
    kept = cents(sheet["cost"] - unused + Fraction(unused * percent, 100))
    steps = () if sheet["sale"] is None else sheet["sale"]["steps"]
    if steps and all(kept < step["kept_minor"] for step in steps):
        return {"kept_minor": min(step["kept_minor"] for step in steps)}
    return {"kept_minor": kept, "percent": percent}


def cost_of_not_coming(sheet: Fact) -> Fact:
    """Keep the part of the policy, or all."""
    return {"kept_minor": sheet["cost"] if sheet["sale"] is None else sheet["sale"]["no_show_kept_minor"]}
