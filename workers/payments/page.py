"""The words of Stripe's payment page, of its receipt, and of the line on the guest's bank statement. Pure."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import date, datetime
from typing import Any, Final

import msgspec

from pricing.charges import to_stripe
from pricing.currencies import decimal
from storage.payments import Stay, StayChange
from topics.messages.sale import CancellationStep, Collected, Meals, PriceLine, Sale
from topics.zones import instant

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MAX_NAME_CHARACTERS: Final = 250
#: A statement's line has 22 characters: the account's prefix (at most 10), an asterisk, a space, and the suffix.
MAX_SUFFIX_CHARACTERS: Final = 10
#: The limit of Stripe's for a text of the page (`custom_text`), by its OpenAPI description of 2026-08-26.
MAX_TERMS_CHARACTERS: Final = 1200
_NOT_ON_STATEMENTS: Final = re.compile(r"[^A-Za-z0-9 .&-]+")

UNKNOWN_STAY: Final = "Hotel booking"
"""The name of what is sold where the hotel is not known."""


def item_name(stay: Stay | None) -> str:
    """Return the name of the page's line: hotel and room type, of a trip those of its legs."""
    if stay is None:
        return UNKNOWN_STAY
    return _cut(f"{stay.hotel}, {' + '.join(leg.room_type for leg in stay.legs) or stay.room_type}")


def item_description(stay: Stay) -> str:
    """Return dates, nights and rooms: `24 Dec 2030 - 27 Dec 2030, 3 nights, 2 rooms`; and plan and meals, if known.

    For the payment of a change it returns the present stay and the new one, and that the amount is additional.
    """
    if stay.change is None:
        return _description(stay)
    return f"Additional amount for a change of the stay, now {_dates(stay)}, to {_description(stay.change)}"


def _description(stay: Stay | StayChange) -> str:
    words = [_dates(stay)]
    if isinstance(stay, StayChange) and stay.room_type is not None:
        words.insert(0, _cut(stay.room_type))
    if stay.sale is not None:
        words.append(_cut(stay.sale.plan_name))
        if stay.sale.meals is not Meals.NONE:
            words.append(stay.sale.meals.replace("_", " "))
    return ", ".join(words)


def _dates(stay: Stay | StayChange) -> str:
    nights = (stay.check_out - stay.check_in).days
    dates = f"{_day(stay.check_in)} - {_day(stay.check_out)}"
    return ", ".join((dates, _count(nights, "night"), _count(stay.rooms_count, "room")))


def line_items(amount_minor: int, currency: str, stay: Stay | None) -> list[dict[str, Any]]:
    """Return the lines of the page, whose sum is the amount: the stay, and each tax or fee that is added and paid now.

    A change of a stay is one line: its additional amount is the difference of two prices. A trip has the lines of each
    of its legs.

    Args:
        amount_minor: the amount of the payment.
        currency: its currency.
        stay: the words; without them, and for a booking without sale terms, the stay is the only line.
    """
    if stay is not None and stay.legs and sum(leg.amount_minor for leg in stay.legs) == amount_minor:
        return [line for leg in stay.legs for line in line_items(leg.amount_minor, currency, leg)]
    product = {"name": item_name(stay)}
    if stay is not None:
        product["description"] = item_description(stay)
    added = [] if stay is None else _added_lines(amount_minor, stay)
    stay_minor = amount_minor - sum(line.amount_minor for line in added)
    lines = [_line_item(line.amount_minor, currency, {"name": _cut(line.name)}) for line in added]
    return [_line_item(stay_minor, currency, product), *lines]


def _added_lines(amount_minor: int, stay: Stay) -> list[PriceLine]:
    """Return the taxes and fees that are paid with the booking beside the price of the stay.

    There are none to show for another amount than the sale's: that of a change, or one of nothing.
    """
    if stay.sale is None or stay.change is not None:
        return []
    paid = [line for line in stay.sale.lines if not line.included and line.collected is Collected.NOW]
    return paid[1:] if sum(line.amount_minor for line in paid) == amount_minor else []


def _line_item(amount_minor: int, currency: str, product: dict[str, str]) -> dict[str, Any]:
    price: dict[str, Any] = {"currency": currency.lower(), "product_data": product}
    # Stripe refuses a price without an amount, and the payment is declined: 0.1.0 reserved stays for amounts that are a
    # fraction of Stripe's unit, and such an event must not stop the reading of events.
    with suppress(ValueError):
        price["unit_amount"] = to_stripe(amount_minor, currency)
    return {"quantity": 1, "price_data": price}


def terms_text(currency: str, stay: Stay | None, now: datetime) -> str | None:
    """Return the costs of a cancellation and what is not paid now, beside the button to pay; None without sale terms.

    They are those of the stay that is paid, which for a change is the new one, and for a trip the sums of its legs.
    Steps of the policy that have ended by `now` (UTC) are not named. Sentences for which Stripe has no room are left
    out, the last ones first.
    """
    if stay is None:
        return None
    sale = _sale_of_legs(stay) if stay.legs else stay.sale if stay.change is None else stay.change.sale
    if sale is None:
        return None
    text = ""
    for sentence in _terms(stay, sale, currency, now):
        if len(text) + 1 + len(sentence) > MAX_TERMS_CHARACTERS:
            break
        text = f"{text} {sentence}".strip()
    return text or None


def _terms(stay: Stay, sale: Sale, currency: str, now: datetime) -> Iterator[str]:
    steps = [step for step in sale.steps if not _is_over(step, stay, now)]
    costs = "; ".join(_step(step, currency) for step in steps)
    yield f"Cancellation {'of all rooms ' if stay.legs else ''}by the hotel's clock: {costs}."
    if stay.legs:
        yield "Each room can be cancelled alone, at its own costs."
    if len(steps) < len(sale.steps) and steps[0].kept_minor:
        yield "The stay cannot be cancelled without cost any more."
    later = [_cut(line.name) for line in sale.lines if line.collected is Collected.AT_HOTEL]
    if later:
        yield f"Paid at the hotel: {_money(sale.at_hotel_minor, currency)} ({', '.join(later)})."
    if stay.change is not None:
        # Taxes that the price includes are those of the whole stay, and the page is about a part of its price.
        return
    included = [f"{_cut(line.name)} {_money(line.amount_minor, currency)}" for line in sale.lines if line.included]
    if included:
        yield f"Included: {', '.join(included)}."


def _sale_of_legs(trip: Stay) -> Sale | None:
    """Return the conditions of a trip as one sale: costs of a cancellation and lines of one name are summed up.

    A leg without sale terms costs nothing to cancel.
    """
    sales = [leg.sale for leg in trip.legs if leg.sale is not None]
    if not sales:
        return None
    lines: dict[PriceLine, int] = {}
    for line in (line for sale in sales for line in sale.lines):
        of_its_name = msgspec.structs.replace(line, amount_minor=0)
        lines[of_its_name] = lines.get(of_its_name, 0) + line.amount_minor
    return msgspec.structs.replace(
        sales[0],
        lines=tuple(msgspec.structs.replace(line, amount_minor=amount) for line, amount in lines.items()),
        at_hotel_minor=sum(sale.at_hotel_minor for sale in sales),
        steps=tuple(_steps_of(sales)),
    )


def _steps_of(sales: Sequence[Sale]) -> Iterator[CancellationStep]:
    """Yield the costs of cancelling all of them, each until the time from which it is another one."""
    ends = sorted({step.until for sale in sales for step in sale.steps if step.until is not None})
    costs = [(until, sum(_kept_until(sale, until) for sale in sales)) for until in (*ends, None)]
    for (until, kept_minor), (_, next_minor) in zip(costs, [*costs[1:], (None, -1)], strict=True):
        if kept_minor != next_minor:
            yield CancellationStep(until=until, kept_minor=kept_minor)


def _kept_until(sale: Sale, time: datetime | None) -> int:
    """Return the cost of a cancellation right before a time; None: before check-in."""
    steps = (step for step in sale.steps if step.until is None or (time is not None and step.until >= time))
    return next(steps).kept_minor


def _is_over(step: CancellationStep, stay: Stay, now: datetime) -> bool:
    """Return whether the step has ended; in a zone that nobody knows none has."""
    if step.until is None:
        return False
    try:
        return instant(step.until.date(), step.until.time(), stay.time_zone) <= now
    except (LookupError, ValueError, OSError):
        # A writer of commands beside the ingress may have named it, and no event may stop the reading of events.
        return False


def _step(step: CancellationStep, currency: str) -> str:
    """Return the cost of a cancellation at one time: `free until 13 Dec 2030, 15:00`."""
    until = "check-in" if step.until is None else f"{_day(step.until.date())}, {step.until:%H:%M}"
    cost = _money(step.kept_minor, currency) if step.kept_minor else "free"
    return f"{cost} until {until}"


def _money(amount_minor: int, currency: str) -> str:
    return f"{decimal(amount_minor, currency)} {currency}"


def receipt_text(stay: Stay | None, booking_id: object) -> str:
    """Return the text of the receipt, which names the booking."""
    words = UNKNOWN_STAY if stay is None else f"{item_name(stay)}: {item_description(stay)}"
    return f"{words}. Booking {booking_id}"


def statement_suffix(stay: Stay | None) -> str | None:
    """Return the hotel's name as banks can print it after any prefix; None if nothing of it is left.

    Stripe takes Latin characters without brackets, quotation marks, asterisks and backslashes, and asks for a letter.
    """
    if stay is None:
        return None
    plain = unicodedata.normalize("NFKD", stay.hotel).encode("ascii", "ignore").decode()
    words = " ".join(_NOT_ON_STATEMENTS.sub(" ", plain).split())
    suffix = words[:MAX_SUFFIX_CHARACTERS].strip(" .&-")
    return suffix if re.search("[A-Za-z]", suffix) else None


def _day(day: date) -> str:
    return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _cut(name: str) -> str:
    """Return a name that Stripe takes, on one line."""
    return " ".join(name.split())[:_MAX_NAME_CHARACTERS]
