"""Hotels' promo codes by the texts that people give them, each with the terms in force, which the ledger has.

A change raises the version of the code's row, which it locks, before the command is sent: one version has one content.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, RowMapping, Select, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.models import PromoCode, PromoCodeName, PromoCodeUse
from topics.messages.sale import CodeTerms


@dataclass(frozen=True, kw_only=True, slots=True)
class CodeRow:
    """A promo code of a hotel; `version` counts the changes that were asked for.

    `terms` are those in force (None: none are yet), and `used_count` the uses that were not given back.
    """

    id: int
    hotel_id: int
    code: str
    version: int
    created_at: datetime
    terms: CodeTerms | None
    used_count: int

    @property
    def version_in_force(self) -> int:
        """The version of the terms in force; 0: none are."""
        return 0 if self.terms is None else self.terms.version


_NAME_COLUMNS: Final = (
    PromoCodeName.id,
    PromoCodeName.hotel_id,
    PromoCodeName.code,
    PromoCodeName.version,
    PromoCodeName.created_at,
)


async def codes_of(connection: AsyncConnection, hotel_id: int, *, after: int, limit: int) -> list[CodeRow]:
    """Return codes of a hotel with ids above `after`, smallest first, one more than `limit` if there are more."""
    rows = await connection.execute(
        _codes(PromoCodeName.hotel_id == hotel_id, PromoCodeName.id > after).order_by(PromoCodeName.id).limit(limit + 1)
    )
    return [_code(row) for row in rows.mappings()]


async def code_of(connection: AsyncConnection, hotel_id: int, text: str, *, lock: bool = False) -> CodeRow | None:
    """Return the hotel's code of this text in any case, or None; `lock` holds it until the transaction ends."""
    query = _codes(PromoCodeName.hotel_id == hotel_id, func.lower(PromoCodeName.code) == func.lower(text))
    if lock:
        query = query.with_for_update(of=PromoCodeName)
    row = (await connection.execute(query)).mappings().first()
    return None if row is None else _code(row)


async def add_code(connection: AsyncConnection, hotel_id: int, text: str) -> bool:
    """Insert a code of version 1; return whether it is new: a hotel has each text once, in capital or small letters."""
    rows = await connection.execute(
        insert(PromoCodeName).values(hotel_id=hotel_id, code=text).on_conflict_do_nothing().returning(PromoCodeName.id)
    )
    return rows.first() is not None


async def raise_code_version(connection: AsyncConnection, code: CodeRow) -> int:
    """Count a change of a code, which is locked; return its new version.

    It is above the one in force, too: after a restore from an older backup of this table that one may be ahead.
    """
    version = max(code.version, code.version_in_force) + 1
    await connection.execute(update(PromoCodeName).where(PromoCodeName.id == code.id).values(version=version))
    return version


async def uses_of_account(connection: AsyncConnection, code_id: int, user_id: int) -> int:
    """Return how many uses of a code by an account were not given back."""
    rows = await connection.execute(
        select(func.count()).where(
            PromoCodeUse.code_id == code_id, PromoCodeUse.user_id == user_id, ~PromoCodeUse.returned
        )
    )
    return rows.scalar_one()


def _codes(*conditions: ColumnElement[bool]) -> Select[Any]:
    return (
        select(*_NAME_COLUMNS, PromoCode.terms, func.coalesce(PromoCode.used_count, 0).label("used_count"))
        .outerjoin(PromoCode, PromoCode.id == PromoCodeName.id)
        .where(*conditions)
    )


def _code(row: RowMapping) -> CodeRow:
    terms = None if row["terms"] is None else msgspec.convert(row["terms"], CodeTerms)
    return CodeRow(**{**row, "terms": terms})
