"""Decisions about what a room is sold for: its sale terms, and the price of a stay by them."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import NamedTuple

from pricing.charges import step_minor
from pricing.sale import (
    PricedStay,
    is_stopped,
    party_rejection,
    price_stay,
    rules_rejection,
)
from pricing.stays import night_price_minor
from pricing.terms import fault_of
from topics.messages.commands import ReserveStay, SetSaleTerms
from topics.messages.events import Event, InventoryUnchanged, SaleTermsChanged
from topics.messages.sale import NO_SALE_TERMS, Quoted, QuotedChange, RatePlan, SaleTerms
from topics.messages.values import InventoryRefusal, Rejection, Terms
from workers.decisions.state import DEFAULT_STAY_TIMES, Night, State


def set_sale_terms(state: State, command: SetSaleTerms, now: datetime) -> tuple[Event, ...]:
    """Sell the room by other terms.

    Those of an older version arrive late, and others of the present version come from a hotel whose own version was
    restored from an older backup: both are refused.
    """
    present = state.sale_terms
    if present is not None and present.version >= command.terms.version:
        return (_unchanged(command, None if present == command.terms else InventoryRefusal.NEWER_TERMS),)
    if fault_of(command.terms) is not None:
        return (_unchanged(command, InventoryRefusal.TERMS_INVALID),)
    return (SaleTermsChanged(room_id=command.room_id, hotel_id=command.hotel_id, terms=command.terms),)


def _unchanged(command: SetSaleTerms, reason: InventoryRefusal | None) -> InventoryUnchanged:
    return InventoryUnchanged(room_id=command.room_id, command=command.message_type, reason=reason)


def code_rejection(state: State, command: ReserveStay) -> Rejection | None:
    """Return why the stay gets no price with its promo code, if there is a reason.

    The code's partition has refused its use, or granted another discount than the quote's, or an amount in a currency
    that the hotel does not sell in.
    """
    if command.code_rejection is not None:
        return command.code_rejection
    discount, quoted = command.discount, command.quoted
    if quoted is not None and quoted.sale.discount != discount:
        return Rejection.CODE_NOT_VALID
    if discount is None or discount.currency is None:
        return None
    night = state.nights.get(command.check_in)
    return None if night is None or night.currency == discount.currency else Rejection.CODE_NOT_VALID


class Offer(NamedTuple):
    """The sale terms that count for a command, and the plan that it names; None: they have no such plan."""

    terms: SaleTerms
    plan: RatePlan | None


def offer_for(state: State, command: ReserveStay) -> Offer | None:
    """Return what the command asks for by the room's sale terms; None: they do not count for it."""
    terms = state.sale_terms or NO_SALE_TERMS
    if command.quoted is not None:
        return Offer(terms, terms.plan(command.quoted.sale.plan_id))
    return Offer(terms, terms.plan(command.plan_id)) if _has_sale(state, command) else None


def offer_rejection(state: State, command: ReserveStay, offer: Offer | None, now: datetime) -> Rejection | None:
    """Return why nothing can be offered for the quote, the plan or the people of the command, if there is a reason."""
    if command.quoted is not None:
        holds = quote_holds(command.quoted, state.nights[command.check_in].currency, now)
        return None if holds else Rejection.QUOTE_EXPIRED
    if offer is None:
        return None
    if offer.plan is None:
        return Rejection.NO_SUCH_PLAN
    return None if command.party is None else party_rejection(offer.terms, command.party, command.rooms_count)


def quote_holds(quoted: Quoted | QuotedChange, currency: str, now: datetime) -> bool:
    """Return whether the price of a quote still counts; not, once the stay is sold in another currency."""
    return now <= quoted.good_until and quoted.currency == currency


def stop_sell(plan: RatePlan | None, check_in: date) -> Rejection | None:
    """Return why a quoted stay is no longer sold by its plan (None: it is gone), if it is not; other rules are old."""
    return Rejection.STOP_SELL if plan is None or is_stopped(plan, check_in) else None


def rules_forbid(state: State, command: ReserveStay, offer: Offer | None) -> Rejection | None:
    """Return why the rules of the plan exclude the stay, if there is a reason; a quoted stay was within them."""
    if offer is None:
        return None
    if command.quoted is not None:
        return stop_sell(offer.plan, command.check_in)
    assert offer.plan is not None
    today = None if state.clock is None else state.clock.today
    return rules_rejection(offer.plan, command.check_in, command.check_out, today)


def priced(command: ReserveStay, offer: Offer | None, nights: Sequence[Night]) -> PricedStay:
    """Return the price of a stay that nothing forbids: as quoted, by the room's sale terms, or by its nights alone."""
    quoted = command.quoted
    if quoted is not None:
        return PricedStay(quoted.currency, quoted.terms, quoted.amount_minor, quoted.night_amounts_minor, quoted.sale)
    currency = nights[0].currency
    if offer is None:
        amounts_minor = tuple(_night_minor(night, command) * command.rooms_count for night in nights)
        return PricedStay(currency, command.terms, sum(amounts_minor), amounts_minor, None)
    assert offer.plan is not None
    return price_stay(
        offer.terms,
        offer.plan,
        command.party,
        [_night_minor(night, command) for night in nights],
        check_in=command.check_in,
        check_in_time=(command.stay_times or DEFAULT_STAY_TIMES).check_in_time,
        rooms_count=command.rooms_count,
        currency=currency,
        discount=command.discount,
        at_desk=command.at_desk,
    )


def _has_sale(state: State, command: ReserveStay) -> bool:
    """Return whether sale terms count: they do not for a rate or for terms of payment of a trusted writer.

    A discount and a manager at the desk need them: a room whose hotel has set none is sold by the standard plan.
    """
    if command.discount is not None or command.at_desk:
        return True
    if command.agreed_nightly_minor is not None or command.terms is Terms.AT_HOTEL:
        return False
    return state.sale_terms is not None or command.plan_id is not None or command.party is not None


def _night_minor(night: Night, command: ReserveStay) -> int:
    """Return the price of a night in one room."""
    agreed = command.agreed_nightly_minor
    return (
        night_price_minor(night.price_minor, night.surge_milli, step_minor(night.currency))
        if agreed is None
        else agreed
    )
