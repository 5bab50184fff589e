"""Checks of sale terms: those that pass can be priced for every stay."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

import msgspec

from pricing.charges import step_minor
from pricing.currencies import decimal
from topics.messages.sale import MAX_CHILD_AGE, ArrivalRule, Kept, LineKind, RatePlan, SaleTerms, Tax
from topics.messages.values import MAX_NIGHTS, MAX_PRICE_MINOR

MAX_PLANS: Final = 50
MAX_TAXES: Final = 30
MAX_RULES: Final = 200
MAX_STEPS: Final = 10
MAX_NAME_LENGTH: Final = 100
MAX_ID_LENGTH: Final = 40
MAX_CAPACITY: Final = 100
MAX_ADVANCE_DAYS: Final = 1_000
#: The largest factor of a plan on the night's price, and the largest percentage of a tax, in thousandths.
MAX_TIMES_MILLI: Final = 100_000
MAX_PERCENT_MILLI: Final = 100_000
#: The size of the terms of one room as JSON: they are a record of the log, and workers and search keep them in memory.
MAX_TERMS_BYTES: Final = 64 * 1024
_WHOLE_PERCENT: Final = 100
_HOURS_OF_A_YEAR: Final = 24 * 366


def fault_of(terms: SaleTerms, currency: str | None = None) -> str | None:
    """Return what is wrong with terms of sale, in words for a manager, or None if they are valid.

    With a currency (ISO 4217) amounts must be multiples of its chargeable step, too.
    """
    return next(chain(_faults(terms, currency), _faults_of_size(terms)), None)


def _faults(terms: SaleTerms, currency: str | None) -> Iterator[str]:
    if terms.version < 1:
        yield "versions are counted from 1"
    if terms.capacity is not None and not 1 <= terms.capacity <= MAX_CAPACITY:
        yield f"a room has space for 1 to {MAX_CAPACITY} people"
    if terms.infant_max_age is not None and not 0 <= terms.infant_max_age <= MAX_CHILD_AGE:
        yield f"an infant is from 0 to {MAX_CHILD_AGE} years old"
    if not 1 <= len(terms.plans) <= MAX_PLANS:
        yield f"a room has from 1 to {MAX_PLANS} rate plans"
    if len(terms.taxes) > MAX_TAXES:
        yield f"a hotel has at most {MAX_TAXES} taxes and fees"
    yield from _faults_of_ids("rate plan", [plan.id for plan in terms.plans])
    yield from _faults_of_ids("tax", [tax.id for tax in terms.taxes])
    for plan in terms.plans:
        for fault in _plan_faults(plan, currency):
            yield f"rate plan {plan.id}: {fault}"
    for tax in terms.taxes:
        for fault in _tax_faults(tax, currency):
            yield f"tax {tax.id}: {fault}"


def _faults_of_size(terms: SaleTerms) -> Iterator[str]:
    if len(msgspec.json.encode(terms)) > MAX_TERMS_BYTES:
        yield f"plans, taxes and policies have more than {MAX_TERMS_BYTES // 1024} KB together, use fewer rules"


def _faults_of_ids(kind: str, ids: list[str]) -> Iterator[str]:
    if len(set(ids)) < len(ids):
        yield f"each {kind} has an id of its own"
    if any(not 1 <= len(each) <= MAX_ID_LENGTH for each in ids):
        yield f"the id of a {kind} has from 1 to {MAX_ID_LENGTH} characters"


def _plan_faults(plan: RatePlan, currency: str | None) -> Iterator[str]:
    if not 1 <= len(plan.name) <= MAX_NAME_LENGTH:
        yield f"the name has from 1 to {MAX_NAME_LENGTH} characters"
    if not 0 <= plan.times_milli <= MAX_TIMES_MILLI:
        yield "the factor of the price is out of range"
    if not 0 <= plan.included_adults <= MAX_CAPACITY:
        yield f"the price includes from 0 to {MAX_CAPACITY} adults"
    yield from _amount_faults([plan.extra_adult_minor, *(band.nightly_minor for band in plan.child_bands)], currency)
    yield from _amount_faults([abs(plan.plus_minor)], currency)
    ages = [band.up_to_age for band in plan.child_bands]
    if ages != sorted(set(ages)) or any(not 0 <= age <= MAX_CHILD_AGE for age in ages):
        yield f"age bands ascend, up to {MAX_CHILD_AGE} years"
    if len(plan.rules) > MAX_RULES or any(rule.first_day >= rule.end_day for rule in plan.rules):
        yield f"there are at most {MAX_RULES} rules, each of at least one day"
    if any(_is_out_of_range(rule) for rule in plan.rules):
        yield f"the nights of a rule are from 1 to {MAX_NIGHTS}, its days in advance from 0 to {MAX_ADVANCE_DAYS}"
    yield from _policy_faults(plan, currency)


def _is_out_of_range(rule: ArrivalRule) -> bool:
    """Return whether a number of the rule makes no sense, such as a shortest stay of no nights."""
    nights = [count for count in (rule.min_nights, rule.max_nights) if count is not None]
    return any(not 1 <= count <= MAX_NIGHTS for count in nights) or not (
        0 <= (rule.advance_days or 0) <= MAX_ADVANCE_DAYS
    )


def _policy_faults(plan: RatePlan, currency: str | None) -> Iterator[str]:
    policy = plan.policy
    hours = [each.hours_before for each in policy.steps]
    if hours != sorted(set(hours), reverse=True) or any(not 0 <= each <= _HOURS_OF_A_YEAR for each in hours):
        yield "the steps of the policy descend by their hours before check-in"
    if not 1 <= len(policy.id) <= MAX_ID_LENGTH:
        yield f"the id of a policy has from 1 to {MAX_ID_LENGTH} characters"
    if len(policy.steps) > MAX_STEPS:
        yield f"the policy has at most {MAX_STEPS} steps"
    if not 0 <= policy.early_departure_percent <= _WHOLE_PERCENT:
        yield "the percentage of an early departure is from 0 to 100"
    for kept in (policy.no_show, *(each.kept for each in policy.steps)):
        yield from _kept_faults(kept, currency)


def _kept_faults(kept: Kept, currency: str | None) -> Iterator[str]:
    if [kept.percent, kept.nights, kept.amount_minor].count(None) != 2:
        yield "a cost is a percentage, a number of nights or an amount"
    if kept.percent is not None and not 0 <= kept.percent <= _WHOLE_PERCENT:
        yield "a percentage is from 0 to 100"
    if kept.nights is not None and not 0 <= kept.nights <= MAX_NIGHTS:
        yield f"a number of nights is from 0 to {MAX_NIGHTS}"
    if kept.amount_minor is not None:
        yield from _amount_faults([kept.amount_minor], currency)


def _tax_faults(tax: Tax, currency: str | None) -> Iterator[str]:
    if not 1 <= len(tax.name) <= MAX_NAME_LENGTH:
        yield f"the name has from 1 to {MAX_NAME_LENGTH} characters"
    if tax.kind is LineKind.STAY:
        yield "it is a tax or a fee"
    if (tax.percent_milli is None) == (tax.amount_minor is None):
        yield "it is a percentage or an amount"
    if tax.percent_milli is not None and not 0 < tax.percent_milli <= MAX_PERCENT_MILLI:
        yield "the percentage is out of range"
    if tax.amount_minor is not None:
        yield from _amount_faults([tax.amount_minor], currency)
    if not 0 <= tax.min_age <= MAX_CHILD_AGE + 1:
        yield f"the age from which people pay is from 0 to {MAX_CHILD_AGE + 1} years"
    if tax.first_night is not None and tax.end_night is not None and tax.first_night >= tax.end_night:
        yield "its dates are at least one night"


def _amount_faults(amounts_minor: Iterable[int], currency: str | None) -> Iterator[str]:
    step = 1 if currency is None else step_minor(currency)
    if any(not 0 <= amount <= MAX_PRICE_MINOR or amount % step for amount in amounts_minor):
        yield f"an amount is from 0 to {_words_of(MAX_PRICE_MINOR, currency)}, in steps of {_words_of(step, currency)}"


def _words_of(amount_minor: int, currency: str | None) -> str:
    return f"{amount_minor} minor units" if currency is None else f"{decimal(amount_minor, currency)} {currency}"
