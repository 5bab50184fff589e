"""Checks of quoted prices: one that passes can be reserved, charged and refunded like any other price."""

from datetime import date

from topics.messages.sale import Collected, Quoted, QuotedChange, Sale
from topics.messages.values import Terms


def fault_of_quote(quoted: Quoted | QuotedChange, check_in: date, check_out: date) -> str | None:
    """Return what is wrong with a quote of a stay, or of a changed one, in words, or None if nothing is.

    The ingress quotes what `price_stay` or `price_change` returns and signs it, so that only a writer of the log beside
    it can make a quote with a fault.
    """
    if len(quoted.night_amounts_minor) != (check_out - check_in).days:
        return "the quote has an amount for each night of the stay"
    if min(quoted.night_amounts_minor, default=0) < 0 or sum(quoted.night_amounts_minor) != quoted.amount_minor:
        return "the amounts of the quote's nights sum to its amount"
    if quoted.sale is None:
        return None
    now_minor, later_minor = _sums(quoted.sale)
    amounts_minor = (now_minor, later_minor)
    if quoted.terms is Terms.AT_HOTEL:
        amounts_minor = (now_minor + later_minor, later_minor)
    if (quoted.amount_minor, quoted.sale.at_hotel_minor) != amounts_minor:
        return "the lines of the quote sum to its amounts"
    if quoted.sale.discount_minor < 0 or (quoted.sale.discount is None and quoted.sale.discount_minor):
        return "only a promo code takes something off the quote's price"
    return _policy_fault(quoted.sale, quoted.amount_minor)


def _sums(sale: Sale) -> tuple[int, int]:
    """Return the sums of the lines that are collected with the booking, and at the hotel."""
    added = [line for line in sale.lines if not line.included]
    later_minor = sum(line.amount_minor for line in added if line.collected is Collected.AT_HOTEL)
    return sum(line.amount_minor for line in added) - later_minor, later_minor


def _policy_fault(sale: Sale, amount_minor: int) -> str | None:
    ends = [step.until for step in sale.steps]
    if not ends or ends[-1] is not None:
        return "the last step of the quote's policy has no end"
    times = [end for end in ends if end is not None]
    if len(times) != len(ends) - 1 or times != sorted(set(times)):
        return "the steps of the quote's policy are in order of time"
    kept = [sale.no_show_kept_minor, *(step.kept_minor for step in sale.steps)]
    if min(kept) < 0 or max(kept) > amount_minor or min((line.amount_minor for line in sale.lines), default=0) < 0:
        return "no amount of the quote is negative, and nothing more is kept than is paid"
    if not 0 <= sale.early_departure_percent <= 100:
        return "a percentage of the quote is from 0 to 100"
    return None
