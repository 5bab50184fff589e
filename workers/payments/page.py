"""The words of Stripe's payment page, of its receipt, and of the line on the guest's bank statement. Pure."""

import re
import unicodedata
from datetime import date
from typing import Final

from storage.payments import Stay

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MAX_NAME_CHARACTERS: Final = 250
#: A statement's line has 22 characters: the account's prefix (at most 10), an asterisk, a space, and the suffix.
MAX_SUFFIX_CHARACTERS: Final = 10
_NOT_ON_STATEMENTS: Final = re.compile(r"[^A-Za-z0-9 .&-]+")

UNKNOWN_STAY: Final = "Hotel booking"
"""The name of what is sold where the hotel is not known."""


def item_name(stay: Stay | None) -> str:
    """Return the name of the page's line: hotel and room type."""
    return UNKNOWN_STAY if stay is None else _cut(f"{stay.hotel}, {stay.room_type}")


def item_description(stay: Stay) -> str:
    """Return dates, nights and rooms: `24 Dec 2030 - 27 Dec 2030, 3 nights, 2 rooms`."""
    nights = (stay.check_out - stay.check_in).days
    dates = f"{_day(stay.check_in)} - {_day(stay.check_out)}"
    return f"{dates}, {_count(nights, 'night')}, {_count(stay.rooms_count, 'room')}"


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
