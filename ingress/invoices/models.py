"""The queries and the responses of operations on invoices and credit notes."""

from datetime import date, datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from ingress.http.models import MoneyOut, Month, OutModel
from ingress.http.paging import Paged

Kind = Literal["invoice", "credit_note"]
Reason = Literal["stay", "stay_changed", "cancelled", "early_departure", "no_show", "refunded_by_hand", "refund_failed"]


class DocumentsQuery(Paged):
    """The month, such as 2026-12, in the hotel's time zone; the present one by default."""

    month: Month | None = None


class DocumentLineOut(OutModel):
    """One line: the stay, a tax, a fee, or the costs of changes. `included`: it is contained in the others."""

    kind: Literal["stay", "tax", "fee", "change"]
    name: str
    amount: MoneyOut
    included: bool


class TaxTotal(OutModel):
    """The sum of the lines of one tax, whether it is included in the others or on top of them."""

    name: str
    amount: MoneyOut


class DocumentOut(OutModel):
    """An invoice or a credit note; all amounts are above zero, also those of a credit note.

    The numbers of a hotel's invoices are 1, 2, 3 ... without a gap, and so are those of its credit notes.
    """

    id: UUID
    number: str = Field(examples=["INV-000012", "CRN-000003"])
    kind: Kind
    reason: Reason
    issued_on: date = Field(description="By the hotel's calendar.")
    issued_at: datetime
    booking_id: UUID
    amount: MoneyOut
    tax: MoneyOut = Field(description="The sum of all taxes in the amount.")
    currency: str
    corrects: str | None = Field(
        description="The invoice that a credit note corrects, or the credit note that an invoice takes back."
    )
    corrects_id: UUID | None
    credited: MoneyOut = Field(
        description="The sum of an invoice's credit notes, or the part of a credit note that was taken back."
    )


class Seller(OutModel):
    """The hotel. `name` is its legal name if it has set one."""

    name: str
    hotel: str
    tax_id: str | None
    address: str | None
    city: str


class WholeDocument(DocumentOut):
    """A document with its seller, its buyers and its lines.

    `buyers` are the contact of a booking at the desk, or else its guests by their present names; none if these were
    erased.
    """

    seller: Seller
    buyers: list[str]
    lines: list[DocumentLineOut]
    taxes: list[TaxTotal]
