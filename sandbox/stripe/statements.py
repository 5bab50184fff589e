"""The words of a payment on a card's statement: the account's prefix, then a suffix for each payment.

Source: docs.stripe.com/get-started/account/statement-descriptors.
"""

import re
from typing import Final

from sandbox.stripe.refused import invalid

MAX_DESCRIPTOR_LENGTH: Final = 22
_SEPARATOR: Final = "* "
_FORBIDDEN: Final = frozenset("<>\\'\"*")
_PARAM: Final = "payment_intent_data[statement_descriptor_suffix]"


def descriptor(prefix: str, suffix: str | None) -> str:
    """Return the words on the statement: `INNKEEPER* SEA VIEW`, or the prefix alone."""
    return prefix if suffix is None else f"{prefix}{_SEPARATOR}{suffix}"


def check_suffix(prefix: str, suffix: str | None) -> None:
    """Check a suffix by Stripe's rules for the whole descriptor. Raises Refused."""
    if suffix is None:
        return
    if not suffix.isascii() or not suffix.isprintable():
        raise invalid("The statement descriptor suffix may contain Latin characters only.", _PARAM)
    if found := sorted(_FORBIDDEN.intersection(suffix)):
        raise invalid(f"The statement descriptor suffix must not contain {' '.join(found)}", _PARAM)
    if not re.search("[A-Za-z]", suffix):
        raise invalid("The statement descriptor suffix must contain at least one letter.", _PARAM)
    if len(descriptor(prefix, suffix)) > MAX_DESCRIPTOR_LENGTH:
        most = MAX_DESCRIPTOR_LENGTH - len(prefix + _SEPARATOR)
        raise invalid(
            f"The statement descriptor has at most {MAX_DESCRIPTOR_LENGTH} characters,"
            f" so that a suffix of this account has at most {most}.",
            _PARAM,
        )
