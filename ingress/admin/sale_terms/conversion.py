"""Sale terms from their JSON (major units, percentages, both ends of ranges) to messages, and back."""

from datetime import timedelta
from decimal import Decimal
from typing import Final

from ingress.admin.money import percent_out
from ingress.admin.sale_terms.models import (
    AgeBandOut,
    KeptIn,
    KeptOut,
    PolicyIn,
    PolicyOut,
    RatePlanIn,
    RatePlanOut,
    RuleIn,
    RuleOut,
    SaleTermsIn,
    StepOut,
    TaxIn,
    TaxOut,
)
from ingress.http.bodies import refused_field
from ingress.http.problems import Problem
from pricing.currencies import decimal, minor_units
from pricing.terms import fault_of
from storage.offers import HotelTerms, PlanRow
from topics.messages.sale import (
    NO_SALE_TERMS,
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

_ONE_DAY: Final = timedelta(days=1)
_MILLI: Final = 1000
_STANDARD: Final = NO_SALE_TERMS.plans[0]


def hotel_terms_of(body: SaleTermsIn, currency: str) -> HotelTerms:
    """Return a hotel's terms in minor units of its currency.

    Raises:
        Problem: 422 naming the tax or the policy that is wrong.
    """
    taxes = tuple(_tax(tax, f"taxes.{number}", currency) for number, tax in enumerate(body.taxes))
    policies = tuple(_policy(policy, f"policies.{number}", currency) for number, policy in enumerate(body.policies))
    for name, ids in (("taxes", [tax.id for tax in taxes]), ("policies", [policy.id for policy in policies])):
        if len(set(ids)) < len(ids):
            raise refused_field(name, "each has an id of its own")
    return HotelTerms(taxes=taxes, policies=policies, infant_max_age=body.infant_max_age)


def plan_of(body: RatePlanIn, plan_id: str, currency: str) -> RatePlan:
    """Return a rate plan, without its policy, in minor units of the currency.

    Raises:
        Problem: 422 naming the field that is wrong, or with the fault of the plan in words.
    """
    plan = RatePlan(
        id=plan_id,
        name=body.name,
        meals=body.meals,
        terms=body.payment,
        refundable=body.refundable,
        times_milli=int(body.price_percent * 10),
        plus_minor=_minor("price_plus", body.price_plus, currency),
        included_adults=body.included_adults,
        extra_adult_minor=_minor("extra_adult", body.extra_adult, currency),
        child_bands=tuple(
            AgeBand(up_to_age=band.up_to_age, nightly_minor=_minor(f"child_bands.{number}.price", band.price, currency))
            for number, band in enumerate(body.child_bands)
        ),
        rules=tuple(_rule(rule) for rule in body.rules),
    )
    _must_be_valid("", SaleTerms(version=1, plans=(plan,)), currency)
    return plan


def _tax(body: TaxIn, field: str, currency: str) -> Tax:
    tax = Tax(
        id=body.id,
        name=body.name,
        kind=LineKind(body.kind),
        percent_milli=None if body.percent is None else int(body.percent * _MILLI),
        amount_minor=None if body.amount is None else _minor(f"{field}.amount", body.amount, currency),
        per_night=body.per_night,
        per_person=body.per_person,
        per_room=body.per_room,
        min_age=body.min_age,
        included=body.included,
        collected=body.collected,
        first_night=body.start_date,
        end_night=None if body.end_date is None else body.end_date + _ONE_DAY,
    )
    _must_be_valid(field, SaleTerms(version=1, plans=(_STANDARD,), taxes=(tax,)), currency)
    return tax


def _policy(body: PolicyIn, field: str, currency: str) -> CancellationPolicy:
    policy = CancellationPolicy(
        id=body.id,
        steps=tuple(
            PolicyStep(hours_before=step.hours_before, kept=_kept(step.kept, f"{field}.steps.{number}.kept", currency))
            for number, step in enumerate(body.steps)
        ),
        no_show=_kept(body.no_show, f"{field}.no_show", currency),
        early_departure_percent=body.early_departure_percent,
    )
    plan = RatePlan(id=_STANDARD.id, name=_STANDARD.name, policy=policy)
    _must_be_valid(field, SaleTerms(version=1, plans=(plan,)), currency)
    return policy


def _kept(body: KeptIn, field: str, currency: str) -> Kept:
    amount_minor = None if body.amount is None else _minor(f"{field}.amount", body.amount, currency)
    return Kept(percent=body.percent, nights=body.nights, amount_minor=amount_minor)


def _rule(body: RuleIn) -> ArrivalRule:
    return ArrivalRule(
        first_day=body.start_date,
        end_day=body.end_date + _ONE_DAY,
        min_nights=body.min_nights,
        max_nights=body.max_nights,
        advance_days=body.advance_days,
        closed_to_arrival=body.closed_to_arrival,
        closed_to_departure=body.closed_to_departure,
        stop_sell=body.stop_sell,
    )


def _minor(field: str, amount: Decimal, currency: str) -> int:
    try:
        return minor_units(amount, currency)
    except ValueError as error:
        raise refused_field(field, str(error)) from None


def _must_be_valid(field: str, terms: SaleTerms, currency: str) -> None:
    """Check a part of a hotel's terms: one tax, one policy or one plan. Raises `Problem` 422 naming the field."""
    fault = fault_of(terms, currency)
    if fault is not None:
        # The path of the request or of the field names the plan or the tax already.
        words = fault.partition(": ")[2] or fault
        raise refused_field(field, words) if field else Problem(422, words)


def tax_out(tax: Tax, currency: str) -> TaxOut:
    """Return a tax as its manager sees it."""
    return TaxOut(
        id=tax.id,
        name=tax.name,
        kind=tax.kind,
        percent=None if tax.percent_milli is None else percent_out(tax.percent_milli),
        amount=None if tax.amount_minor is None else decimal(tax.amount_minor, currency),
        per_night=tax.per_night,
        per_person=tax.per_person,
        per_room=tax.per_room,
        min_age=tax.min_age,
        included=tax.included,
        collected=tax.collected,
        start_date=tax.first_night,
        end_date=None if tax.end_night is None else tax.end_night - _ONE_DAY,
    )


def policy_out(policy: CancellationPolicy, currency: str) -> PolicyOut:
    """Return a cancellation policy as its manager sees it."""
    return PolicyOut(
        id=policy.id,
        steps=[StepOut(hours_before=step.hours_before, kept=_kept_out(step.kept, currency)) for step in policy.steps],
        no_show=_kept_out(policy.no_show, currency),
        early_departure_percent=policy.early_departure_percent,
    )


def plan_out(row: PlanRow, currency: str) -> RatePlanOut:
    """Return a rate plan as its manager sees it."""
    plan = row.plan
    whole, tenths = divmod(plan.times_milli, 10)
    return RatePlanOut(
        id=row.id,
        room_id=row.room_id,
        name=plan.name,
        meals=plan.meals,
        payment=plan.terms,
        refundable=plan.refundable,
        policy_id=row.policy_id,
        price_percent=f"{whole}.{tenths}",
        price_plus=decimal(plan.plus_minor, currency),
        included_adults=plan.included_adults,
        extra_adult=decimal(plan.extra_adult_minor, currency),
        child_bands=[
            AgeBandOut(up_to_age=band.up_to_age, price=decimal(band.nightly_minor, currency))
            for band in plan.child_bands
        ],
        rules=[_rule_out(rule) for rule in plan.rules],
        currency=currency,
    )


def _kept_out(kept: Kept, currency: str) -> KeptOut:
    if kept.percent is not None:
        return KeptOut(percent=kept.percent)
    if kept.nights is not None:
        return KeptOut(nights=kept.nights)
    return KeptOut(amount=decimal(kept.amount_minor or 0, currency))


def _rule_out(rule: ArrivalRule) -> RuleOut:
    return RuleOut(
        start_date=rule.first_day,
        end_date=rule.end_day - _ONE_DAY,
        min_nights=rule.min_nights,
        max_nights=rule.max_nights,
        advance_days=rule.advance_days,
        closed_to_arrival=rule.closed_to_arrival,
        closed_to_departure=rule.closed_to_departure,
        stop_sell=rule.stop_sell,
    )
