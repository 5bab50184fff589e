"""Promo codes of requests: the text becomes the code that its hotel has, and the command asks for a use of it first."""

from datetime import UTC, datetime
from typing import Final, overload

from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.bookings.models import QuoteRequest
from ingress.bookings.representation import refusal
from ingress.database import Database
from pricing.codes import counts_for, discount_of
from storage import code_names
from topics.messages.commands import ClaimCode, ReserveStay, ReserveTrip
from topics.messages.sale import Discount, Quoted
from topics.messages.values import Rejection

#: The id of a text that is no code of the hotel; ids are counted from 1.
UNKNOWN_CODE: Final = 0


class PromoCodes:
    """Finds the promo codes that requests for a stay name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def code_id(self, hotel_id: int, promo_code: str | None, quoted: Quoted | None = None) -> int | None:
        """Return the id of the code that a request uses, `UNKNOWN_CODE` if the hotel has no such one, or None.

        The price of a quote has the code of its own.
        """
        if quoted is not None:
            return None if quoted.sale.discount is None else quoted.sale.discount.code_id
        if promo_code is None:
            return None
        async with self._database.reading() as connection:
            code = await code_names.code_of(connection, hotel_id, promo_code)
        return UNKNOWN_CODE if code is None else code.id


def accept_code(code_id: int | None) -> None:
    """Check that the hotel has the code. Raises `Problem` 409. The code's partition decides whether it counts."""
    if code_id == UNKNOWN_CODE:
        raise refusal(Rejection.NO_SUCH_CODE)


async def quoted_discount(connection: AsyncConnection, stay: QuoteRequest, user_id: int) -> Discount | None:
    """Return the discount of the promo code that a request for a quote names, as the code's worker would grant it now.

    A use is not counted before the stay is booked.

    Raises:
        Problem: 409, the code would be refused.
    """
    if stay.promo_code is None:
        return None
    code = await code_names.code_of(connection, stay.hotel_id, stay.promo_code)
    if code is None or code.terms is None:
        raise refusal(Rejection.NO_SUCH_CODE)
    terms, nights = code.terms, {"check_in": stay.check_in_date, "check_out": stay.check_out_date}
    if not counts_for(terms, room_id=stay.room_id, **nights, now=datetime.now(UTC)):
        raise refusal(Rejection.CODE_NOT_VALID)
    if terms.max_uses is not None and code.used_count >= terms.max_uses:
        raise refusal(Rejection.CODE_USED_UP)
    if terms.max_account_uses is not None:
        uses = await code_names.uses_of_account(connection, code.id, user_id)
        if uses >= terms.max_account_uses:
            raise refusal(Rejection.CODE_USED_BY_ACCOUNT)
    return discount_of(code.id, terms)


@overload
def claiming(request: ReserveStay, code_id: int | None) -> ReserveStay | ClaimCode: ...
@overload
def claiming(request: ReserveTrip, code_id: int | None) -> ReserveTrip | ClaimCode: ...
def claiming(request: ReserveStay | ReserveTrip, code_id: int | None) -> ReserveStay | ReserveTrip | ClaimCode:
    """Return the command for a stay or a trip: that to reserve it, or to use a promo code for it first."""
    if code_id is None:
        return request
    if isinstance(request, ReserveTrip):
        return ClaimCode(code_id=code_id, trip=request)
    return ClaimCode(code_id=code_id, reserve=request)
