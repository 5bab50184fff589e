"""The query and the response of a hotel's statement."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from ingress.http.models import MoneyOut, Month, OutModel
from ingress.http.paging import Paged

Kind = Literal[
    "payment",
    "kept_by_policy",
    "refund",
    "refund_failed",
    "refund_closed",
    "dispute_opened",
    "dispute_won",
    "dispute_lost",
]


class StatementQuery(Paged):
    """The month, such as 2026-12, in the hotel's time zone; the present one by default."""

    month: Month | None = None


class MovementOut(OutModel):
    """One movement of money: an event of a booking's payment, with its object at Stripe.

    `change` is the change of the balance at Stripe: 0 for a refund that an operator closed, a dispute that was lost
    (its amount left when it was opened), a refund that failed before it was carried out, and the amount that the hotel
    keeps of a payment by its policy (`kept_by_policy`), because it stays where it is.
    """

    time: datetime
    booking_id: UUID
    kind: Kind
    amount: MoneyOut
    change: MoneyOut
    currency: str
    stripe_object: str = Field(description="The payment intent, the refund or the dispute: pi_..., re_..., dp_...")
    payment_intent: str


class KindSum(OutModel):
    """The sum of the month's movements of one kind in one currency."""

    currency: str
    kind: Kind
    count: int
    amount: MoneyOut
    change: MoneyOut


class CurrencyTotal(OutModel):
    """The month's total in one currency: `kept` came and did not leave again, less the commission is due to the hotel.

    Each may be below zero: then more left in this month than came.
    """

    currency: str
    paid: MoneyOut
    refunded: MoneyOut = Field(description="Refunds that were carried out, less those that failed afterwards.")
    disputed: MoneyOut = Field(description="Taken by disputes, less those that were won.")
    kept: MoneyOut
    kept_by_policy: MoneyOut = Field(
        description="Kept by the policies of stays that ended early in this month; it is in the `kept` of the months in"
        " which their payments arrived."
    )
    commission: MoneyOut
    due_to_hotel: MoneyOut


class Statement(OutModel):
    """A hotel's month. `totals` and `sums` are of the whole month; `movements` are a page of it, by time."""

    hotel_id: int
    month: str
    time_zone: str
    commission_percent: Annotated[str, Field(pattern=r"^\d{1,3}\.\d\d$")]
    totals: list[CurrencyTotal]
    sums: list[KindSum]
    movements: list[MovementOut]
