"""Changes of stays as responses show them: one that waits, the stays that earlier ones replaced, and a quote."""

from datetime import date, datetime
from uuid import UUID

from pydantic import Field

from ingress.http.models import MoneyOut, OutModel
from ingress.offers import OfferOut


class PendingChangeOut(OutModel, title="PendingChange"):
    """A dearer change of the stay that takes place once `extra` is paid. The booking stays as it is until then.

    A change to another room type has `room_id` and `room_type`; `amount` and `extra` are null until that room answers.
    `reason` is there if the payment failed, or its page could not be opened; `detail` is the reason in words.
    """

    id: UUID
    check_in_date: date
    check_out_date: date
    rooms_count: int
    room_id: int | None = Field(default=None, description="The other room type; else left out.")
    room_type: str | None = Field(default=None, description="The name of the other room type, as far as it is known.")
    amount: MoneyOut | None = Field(description="The booking's amount after the change, in major units.")
    extra: MoneyOut | None = Field(description="The part of it that is still to be paid.")
    expires_at: datetime | None = Field(description="When the change ends if it is not paid.")
    sale: OfferOut | None = Field(
        default=None, description="The sale after the change; left out in lists, and of a booking without sale terms."
    )
    reason: str | None = None
    detail: str | None = None


class EarlierStayOut(OutModel, title="EarlierStay"):
    """A stay as it was until a change replaced it. One that has moved to another room type names that of before."""

    change_id: UUID
    room_id: int | None = Field(default=None, description="The room type of before; left out if it is the same.")
    room_type: str | None = Field(default=None, description="The name of that room type, as far as it is known.")
    changed_at: datetime | None = Field(
        default=None, description="When the change took place; left out in lists, and until the history has it."
    )
    check_in_date: date
    check_out_date: date
    rooms_count: int
    amount: MoneyOut


class ChangeQuoteOut(OutModel, title="ChangeQuote"):
    """The price of a change that is not asked for yet: the stay after it, and the money that it moves.

    `sale` is left out of a booking without sale terms. With `token` as the `quote` of a change, the change is decided
    at this price until `good_until`. A change to another room type has no token: it is decided at the price of the
    moment, and `good_until` and `token` are left out.
    """

    id: UUID
    room_id: int | None = Field(default=None, description="The other room type; else left out.")
    check_in_date: date
    check_out_date: date
    rooms_count: int
    currency: str
    amount_before: MoneyOut
    amount: MoneyOut = Field(description="The booking's amount after the change, in major units.")
    extra: MoneyOut = Field(description="The sum to be paid before the change takes place.")
    goes_back: MoneyOut = Field(description="The sum that is refunded.")
    kept: MoneyOut = Field(
        description="The part of the nights given up that the hotel keeps by its policy; it is a line of the price."
    )
    sale: OfferOut | None = None
    good_until: datetime | None = Field(default=None, description="Until when the price counts (UTC).")
    token: str | None = Field(default=None, description="The price as a token, for the change.")
