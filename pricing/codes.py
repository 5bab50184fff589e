"""Promo codes: checks of their terms, the stays for which they count, and the discount on the nights of a stay."""

from collections.abc import Iterator, Sequence
from datetime import date, datetime
from itertools import chain
from typing import Final

from pricing.charges import step_minor
from pricing.currencies import CURRENCIES, decimal
from pricing.rounding import half_up
from pricing.shares import shares_minor
from topics.messages.sale import CodeTerms, Discount
from topics.messages.values import MAX_PRICE_MINOR

MAX_CODE_LENGTH: Final = 40
#: A code for more rooms of a hotel names none of them, and counts for all.
MAX_CODE_ROOMS: Final = 500
MAX_CODE_USES: Final = 1_000_000
_WHOLE_PERCENT_MILLI: Final = 100_000
_CODE_CHARACTERS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")


def fault_of_code(terms: CodeTerms) -> str | None:
    """Return what is wrong with the terms of a promo code, in words for a manager, or None if they are valid."""
    return next(chain(_faults(terms), _faults_of_measure(terms)), None)


def _faults(terms: CodeTerms) -> Iterator[str]:
    if terms.version < 1:
        yield "versions are counted from 1"
    if not 1 <= len(terms.code) <= MAX_CODE_LENGTH or not _CODE_CHARACTERS.issuperset(terms.code):
        yield f"a code has from 1 to {MAX_CODE_LENGTH} letters (a to z), digits, hyphens and underscores"
    if terms.valid_from is not None and terms.valid_until is not None and terms.valid_from >= terms.valid_until:
        yield "a code ends after its beginning"
    if terms.first_night is not None and terms.end_night is not None and terms.first_night >= terms.end_night:
        yield "its dates are at least one night"
    if len(terms.room_ids) > MAX_CODE_ROOMS or len(set(terms.room_ids)) < len(terms.room_ids):
        yield f"a code names at most {MAX_CODE_ROOMS} rooms, each once"
    if any(count is not None and not 1 <= count <= MAX_CODE_USES for count in (terms.max_uses, terms.max_account_uses)):
        yield f"a number of uses is from 1 to {MAX_CODE_USES}"


def _faults_of_measure(terms: CodeTerms) -> Iterator[str]:
    if (terms.percent_milli is None) == (terms.amount_minor is None):
        yield "a discount is a percentage or an amount"
    if terms.percent_milli is not None and not 0 < terms.percent_milli <= _WHOLE_PERCENT_MILLI:
        yield "the percentage is above 0, and at most 100"
    if terms.amount_minor is None:
        return
    currency = terms.currency
    if currency is None or currency not in CURRENCIES:
        yield "an amount has a currency"
    elif not 0 < terms.amount_minor <= MAX_PRICE_MINOR or terms.amount_minor % step_minor(currency):
        step, most = (decimal(minor, currency) for minor in (step_minor(currency), MAX_PRICE_MINOR))
        yield f"an amount is above 0, at most {most} {currency}, in steps of {step} {currency}"


def counts_for(terms: CodeTerms, *, room_id: int, check_in: date, check_out: date, now: datetime) -> bool:
    """Return whether a code counts for a stay that is booked at `now` (UTC); its uses are another question."""
    if not terms.active or (terms.room_ids and room_id not in terms.room_ids):
        return False
    if terms.valid_from is not None and now < terms.valid_from:
        return False
    if terms.valid_until is not None and now >= terms.valid_until:
        return False
    return has_nights(terms, check_in, check_out)


def has_nights(terms: CodeTerms | Discount, check_in: date, check_out: date) -> bool:
    """Return whether all nights of a stay are among those for which a code, or its discount, counts."""
    if terms.first_night is not None and check_in < terms.first_night:
        return False
    return terms.end_night is None or check_out <= terms.end_night


def discount_of(code_id: int, terms: CodeTerms) -> Discount:
    """Return the discount that a use of a code gives."""
    by_amount = terms.percent_milli is None
    return Discount(
        code_id=code_id,
        code=terms.code,
        percent_milli=terms.percent_milli,
        amount_minor=terms.amount_minor if by_amount else None,
        currency=terms.currency if by_amount else None,
        first_night=terms.first_night,
        end_night=terms.end_night,
    )


def discount_minor(discount: Discount, nights_minor: Sequence[int], currency: str) -> int:
    """Return the sum that a discount takes off the nights of a stay: rounded once, and not more than they cost.

    Args:
        discount: a percentage of the nights, or an amount in `currency`.
        nights_minor: the price of each night in all rooms, before taxes that are added.
        currency: that of the prices.
    """
    whole_minor, step = sum(nights_minor), step_minor(currency)
    if discount.percent_milli is not None:
        off_minor = half_up(whole_minor * discount.percent_milli, _WHOLE_PERCENT_MILLI, step)
    else:
        off_minor = half_up(discount.amount_minor or 0, 1, step)
    return min(off_minor, whole_minor)


def discounted_nights(nights_minor: Sequence[int], off_minor: int) -> Sequence[int]:
    """Return the prices of nights with a sum taken off them, in proportion to what they cost."""
    return shares_minor(sum(nights_minor) - off_minor, nights_minor) if off_minor else nights_minor
