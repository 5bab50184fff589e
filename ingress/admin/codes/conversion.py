"""Terms of promo codes from their JSON (major units, percentages, both ends of ranges) to messages, and back."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from ingress.admin.codes.models import CodeIn, CodeOut, CodeTermsOut
from ingress.admin.money import percent_out
from ingress.http.bodies import refused_field
from ingress.http.problems import Problem
from pricing.codes import fault_of_code
from pricing.currencies import decimal, minor_units
from storage.code_names import CodeRow
from topics.messages.sale import CodeTerms

_ONE_DAY: Final = timedelta(days=1)
_MILLI: Final = 1000


def terms_of(body: CodeIn, *, code: str, version: int, currency: str, room_ids: Collection[int]) -> CodeTerms:
    """Return the terms of a code as messages have them.

    Args:
        body: the terms of a request.
        code: the code's text.
        version: the version of these terms.
        currency: that of the hotel.
        room_ids: the hotel's rooms.

    Raises:
        Problem: 422 for rooms that the hotel does not have, and for an amount that cannot be taken off in the currency.
    """
    unknown = sorted(set(body.room_ids).difference(room_ids))
    if unknown:
        raise refused_field("room_ids", f"the hotel has no such room: {', '.join(map(str, unknown))}")
    terms = CodeTerms(
        version=version,
        code=code,
        percent_milli=None if body.percent is None else int(body.percent * _MILLI),
        amount_minor=None if body.amount is None else _amount_minor(body.amount, currency),
        currency=None if body.amount is None else currency,
        valid_from=_in_utc(body.valid_from),
        valid_until=_in_utc(body.valid_until),
        first_night=body.start_date,
        end_night=None if body.end_date is None else body.end_date + _ONE_DAY,
        room_ids=tuple(sorted(set(body.room_ids))),
        max_uses=body.max_uses,
        max_account_uses=body.max_account_uses,
        active=body.active,
    )
    fault = fault_of_code(terms)
    if fault is not None:
        raise Problem(422, fault)
    return terms


def _amount_minor(amount: Decimal, currency: str) -> int:
    try:
        return minor_units(amount, currency)
    except ValueError as error:
        raise refused_field("amount", str(error)) from None


def _in_utc(time: datetime | None) -> datetime | None:
    return None if time is None else time.astimezone(UTC)


def code_out(row: CodeRow) -> CodeOut:
    """Return a code as its hotel's managers see it."""
    return CodeOut(
        code=row.code,
        hotel_id=row.hotel_id,
        version=row.version,
        version_in_force=row.version_in_force,
        used_count=row.used_count,
        terms=None if row.terms is None else _terms_out(row.terms),
        created_at=row.created_at,
    )


def _terms_out(terms: CodeTerms) -> CodeTermsOut:
    amount = None
    if terms.amount_minor is not None and terms.currency is not None:
        amount = decimal(terms.amount_minor, terms.currency)
    return CodeTermsOut(
        percent=None if terms.percent_milli is None else percent_out(terms.percent_milli),
        amount=amount,
        currency=terms.currency,
        valid_from=terms.valid_from,
        valid_until=terms.valid_until,
        start_date=terms.first_night,
        end_date=None if terms.end_night is None else terms.end_night - _ONE_DAY,
        room_ids=list(terms.room_ids),
        max_uses=terms.max_uses,
        max_account_uses=terms.max_account_uses,
        active=terms.active,
    )
