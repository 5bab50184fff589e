"""The lines of invoices and credit notes, in minor units of the booking's currency.

A prepaid booking's documents have the lines that are collected with the booking. Those that the hotel collects itself,
such as a city tax, are on its own receipt. A booking that is paid at the hotel has all of its lines.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from pricing.rounding import half_up
from pricing.shares import shares_minor
from topics.messages.events import StayBefore
from topics.messages.sale import Collected, LineKind, PriceLine
from topics.messages.values import DocumentReason, Terms

_WHOLE_STAY: Final = "Stay"
_END_NAMES: Final[Mapping[DocumentReason, str]] = {
    DocumentReason.CANCELLED: "Cancellation",
    DocumentReason.EARLY_DEPARTURE: "Early departure",
    DocumentReason.NO_SHOW: "No-show",
}


def stay_lines(stay: StayBefore, terms: Terms) -> tuple[PriceLine, ...]:
    """Return the lines of the invoice of a stay; they sum to the stay's amount, and the first names its nights."""
    sale = stay.sale
    if sale is None:
        lines: Sequence[PriceLine] = (
            PriceLine(kind=LineKind.STAY, id="stay", name=_WHOLE_STAY, amount_minor=stay.amount_minor),
        )
    else:
        lines = [line for line in sale.lines if terms is Terms.AT_HOTEL or line.collected is Collected.NOW]
    return tuple(
        replace(line, name=_with_nights(line.name, stay)) if line.kind is LineKind.STAY else line for line in lines
    )


def _with_nights(name: str, stay: StayBefore) -> str:
    rooms = "1 room" if stay.rooms_count == 1 else f"{stay.rooms_count} rooms"
    return f"{name}, {rooms}, {stay.check_in} to {stay.check_out}"


def end_lines(reason: DocumentReason, stay: StayBefore, terms: Terms, kept_minor: int) -> tuple[PriceLine, ...]:
    """Return the lines of what is kept of a stay that ended before its time: one, without taxes, named after the end.

    Guests who leave early and pay for all of their nights have the invoice of the stay.
    """
    if reason is DocumentReason.EARLY_DEPARTURE and kept_minor == stay.amount_minor:
        return stay_lines(stay, terms)
    collected = Collected.NOW if terms is Terms.PREPAID else Collected.AT_HOTEL
    return (
        PriceLine(
            kind=LineKind.FEE, id=reason.value, name=_END_NAMES[reason], amount_minor=kept_minor, collected=collected
        ),
    )


def cut_lines(lines: Sequence[PriceLine], amount_minor: int) -> tuple[PriceLine, ...]:
    """Return lines scaled to a smaller sum: each keeps its share, and those that are included keep their proportion.

    Args:
        lines: each at least 0.
        amount_minor: at most the sum of the lines.
    """
    whole_minor = total_minor(lines)
    if amount_minor == whole_minor:
        return tuple(lines)
    shares = iter(shares_minor(amount_minor, [line.amount_minor for line in lines if not line.included]))
    return tuple(
        replace(
            line,
            amount_minor=half_up(line.amount_minor * amount_minor, whole_minor, 1) if line.included else next(shares),
        )
        for line in lines
    )


def total_minor(lines: Sequence[PriceLine]) -> int:
    """Return the sum of lines: of those that are not included in another."""
    return sum(line.amount_minor for line in lines if not line.included)
