"""Sale terms that pass the check can be priced; each of those that do not has a fault in words."""

from datetime import date
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from pricing.terms import MAX_PLANS, MAX_RULES, MAX_STEPS, MAX_TAXES, MAX_TERMS_BYTES, fault_of
from topics.messages.sale import (
    AgeBand,
    ArrivalRule,
    CancellationPolicy,
    Kept,
    LineKind,
    PolicyStep,
    RatePlan,
    SaleTerms,
    Tax,
)
from topics.messages.values import MAX_PRICE_MINOR

STEPS = (PolicyStep(hours_before=48, kept=Kept(percent=50)), PolicyStep(hours_before=0, kept=Kept(nights=1)))
POLICY = CancellationPolicy(id="policy", steps=STEPS)
PLAN = RatePlan(id="standard", name="Standard", policy=POLICY)
TAX = Tax(id="vat", name="VAT", percent_milli=7_000)
FEE = Tax(id="fee", name="Fee", kind=LineKind.FEE, amount_minor=100, per_night=True)
TERMS = SaleTerms(version=1, plans=(PLAN,), taxes=(TAX, FEE), capacity=2, infant_max_age=2)
RULE = ArrivalRule(first_day=date(2026, 1, 1), end_day=date(2026, 1, 2), min_nights=2)
HUGE = 2**63 - 1


def with_plan(**changes: Any) -> SaleTerms:
    """Return the terms with another plan."""
    return replace(TERMS, plans=(replace(PLAN, **changes),))


def with_tax(tax: Tax = TAX, **changes: Any) -> SaleTerms:
    """Return the terms with another tax."""
    return replace(TERMS, taxes=(replace(tax, **changes),))


def with_policy(**changes: Any) -> SaleTerms:
    """Return the terms with another policy."""
    return with_plan(policy=replace(POLICY, **changes))


def with_rule(**changes: Any) -> SaleTerms:
    """Return the terms with a rule of their plan."""
    return with_plan(rules=(replace(RULE, **changes),))


def kept(**values: int) -> SaleTerms:
    """Return the terms with another cost of a no-show."""
    return with_policy(no_show=Kept(**values))


@pytest.mark.parametrize(
    "terms",
    [
        TERMS,
        replace(TERMS, taxes=(), capacity=None, infant_max_age=None),
        replace(TERMS, plans=tuple(replace(PLAN, id=f"plan {number}") for number in range(MAX_PLANS))),
        replace(TERMS, taxes=tuple(replace(TAX, id=f"tax {number}") for number in range(MAX_TAXES))),
        replace(TERMS, version=HUGE),
        with_plan(times_milli=0),
        with_plan(plus_minor=-MAX_PRICE_MINOR),
        with_plan(rules=(RULE,) * MAX_RULES),
        with_policy(steps=()),
        with_policy(steps=tuple(PolicyStep(hours_before=9 - n, kept=Kept(percent=n)) for n in range(MAX_STEPS))),
        with_tax(FEE, amount_minor=0),
        with_rule(min_nights=None, stop_sell=True),
        kept(amount_minor=MAX_PRICE_MINOR),
    ],
)
def test_valid_terms_have_no_fault(terms: SaleTerms) -> None:
    assert fault_of(terms) is None


@pytest.mark.parametrize(
    ("terms", "fault"),
    [
        (replace(TERMS, version=0), "versions are counted from 1"),
        (replace(TERMS, version=-1), "versions are counted from 1"),
        (replace(TERMS, capacity=0), "a room has space for"),
        (replace(TERMS, capacity=2**31 - 1), "a room has space for"),
        (replace(TERMS, infant_max_age=-1), "an infant is"),
        (replace(TERMS, infant_max_age=18), "an infant is"),
        (replace(TERMS, plans=()), "rate plans"),
        (replace(TERMS, plans=tuple(replace(PLAN, id=f"plan {n}") for n in range(MAX_PLANS + 1))), "rate plans"),
        (replace(TERMS, plans=(PLAN, PLAN)), "id of its own"),
        (replace(TERMS, taxes=tuple(replace(TAX, id=f"tax {n}") for n in range(MAX_TAXES + 1))), "at most"),
        (replace(TERMS, taxes=(TAX, TAX)), "id of its own"),
        (with_plan(id=""), "the id of a rate plan"),
        (with_plan(id="x" * 41), "the id of a rate plan"),
        (with_plan(name=""), "the name"),
        (with_plan(name="x" * 101), "the name"),
        (with_plan(times_milli=-1), "factor"),
        (with_plan(times_milli=100_001), "factor"),
        (with_plan(plus_minor=MAX_PRICE_MINOR + 1), "an amount"),
        (with_plan(plus_minor=-HUGE), "an amount"),
        (with_plan(included_adults=-1), "adults"),
        (with_plan(included_adults=2**31 - 1), "adults"),
        (with_plan(extra_adult_minor=-1), "an amount"),
        (with_plan(extra_adult_minor=HUGE), "an amount"),
        (with_plan(child_bands=(AgeBand(up_to_age=18, nightly_minor=0),)), "age bands"),
        (with_plan(child_bands=(AgeBand(up_to_age=-1, nightly_minor=0),)), "age bands"),
        (with_plan(child_bands=(AgeBand(up_to_age=3, nightly_minor=0),) * 2), "age bands"),
        (with_plan(child_bands=(AgeBand(up_to_age=3, nightly_minor=-1),)), "an amount"),
        (with_plan(rules=(RULE,) * (MAX_RULES + 1)), "rules"),
        (with_rule(end_day=date(2026, 1, 1)), "at least one day"),
        (with_rule(min_nights=0), "nights of a rule"),
        (with_rule(max_nights=2**31 - 1), "nights of a rule"),
        (with_rule(advance_days=-1), "days in advance"),
        (with_rule(advance_days=2**31 - 1), "days in advance"),
        (with_policy(id=""), "the id of a policy"),
        (with_policy(id="x" * 41), "the id of a policy"),
        (with_policy(steps=POLICY.steps[::-1]), "descend"),
        (with_policy(steps=POLICY.steps[:1] * 2), "descend"),
        (with_policy(steps=(PolicyStep(hours_before=-1, kept=Kept(percent=0)),)), "descend"),
        (with_policy(steps=(PolicyStep(hours_before=2**31 - 1, kept=Kept(percent=0)),)), "descend"),
        (with_policy(steps=tuple(PolicyStep(hours_before=99 - n, kept=Kept(percent=n)) for n in range(11))), "at most"),
        (with_policy(early_departure_percent=101), "early departure"),
        (with_policy(early_departure_percent=-1), "early departure"),
        (kept(), "a cost is"),
        (kept(percent=1, nights=1), "a cost is"),
        (kept(percent=101), "a percentage"),
        (kept(percent=-1), "a percentage"),
        (kept(nights=-1), "a number of nights"),
        (kept(nights=2**31 - 1), "a number of nights"),
        (kept(amount_minor=-1), "an amount"),
        (kept(amount_minor=HUGE), "an amount"),
        (with_tax(id=""), "the id of a tax"),
        (with_tax(name=""), "the name"),
        (with_tax(kind=LineKind.STAY), "tax or a fee"),
        (with_tax(amount_minor=1), "a percentage or an amount"),
        (with_tax(percent_milli=None), "a percentage or an amount"),
        (with_tax(percent_milli=0), "the percentage"),
        (with_tax(percent_milli=100_001), "the percentage"),
        (with_tax(FEE, amount_minor=-1), "an amount"),
        (with_tax(FEE, amount_minor=HUGE), "an amount"),
        (with_tax(FEE, min_age=-1), "the age"),
        (with_tax(FEE, min_age=2**31 - 1), "the age"),
        (with_tax(first_night=date(2026, 1, 2), end_night=date(2026, 1, 2)), "dates"),
    ],
)
def test_terms_with_a_fault_are_refused_in_words(terms: SaleTerms, fault: str) -> None:
    assert fault in (fault_of(terms) or "")


@pytest.mark.parametrize(
    "terms",
    [
        with_plan(plus_minor=-5),
        with_plan(extra_adult_minor=5),
        with_plan(child_bands=(AgeBand(up_to_age=3, nightly_minor=5),)),
        with_tax(FEE, amount_minor=5),
        kept(amount_minor=5),
    ],
)
def test_amounts_are_multiples_of_the_step_of_the_currency(terms: SaleTerms) -> None:
    assert fault_of(terms) is None
    assert fault_of(terms, "EUR") is None
    assert "an amount is from 0 to 1000000000.000 KWD, in steps of 0.010 KWD" in (fault_of(terms, "KWD") or "")


def test_the_terms_of_a_room_have_a_largest_size() -> None:
    plans = tuple(replace(PLAN, id=f"plan {number}", rules=(RULE,) * MAX_RULES) for number in range(MAX_PLANS))
    sizes = [len(msgspec.json.encode(replace(TERMS, plans=plans[:count]))) for count in range(1, MAX_PLANS)]
    fitting = sum(1 for size in sizes if size <= MAX_TERMS_BYTES)

    assert 0 < fitting < MAX_PLANS - 1
    assert fault_of(replace(TERMS, plans=plans[:fitting])) is None
    assert "have more than 64 KB together" in (fault_of(replace(TERMS, plans=plans[: fitting + 1])) or "")


def test_numbers_that_no_column_can_hold_are_not_read_at_all() -> None:
    plain = msgspec.to_builtins(TERMS)
    plain["plans"][0]["plus_minor"] = 2**63

    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(plain, SaleTerms)
