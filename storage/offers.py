"""The sale terms that managers describe: a hotel's taxes and policies, and the rate plans of its rooms.

A change locks the hotel's row first (`storage.hotels.own_hotel`), raises the version of the hotel's terms, and reads
what all rooms are sold by, all in one transaction: of two changes the one with the higher version has seen the other.
The ledger has the terms that are in force (`storage.sale_terms`).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import RowMapping, delete, func, select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.models import HotelSaleTerms, Room, RoomBlock, RoomSaleTerms
from storage.models import RatePlan as RatePlanRow
from topics.messages.sale import NO_SALE_TERMS, CancellationPolicy, RatePlan, SaleTerms, Tax


@dataclass(frozen=True, kw_only=True, slots=True)
class HotelTerms:
    """The part of sale terms that counts for all rooms of a hotel. Version 0: nobody has set any yet."""

    version: int = 0
    taxes: tuple[Tax, ...] = ()
    policies: tuple[CancellationPolicy, ...] = ()
    infant_max_age: int | None = None
    updated_at: datetime | None = None

    def policy(self, policy_id: str | None) -> CancellationPolicy | None:
        """Return the policy of this id, if there is one; None is free cancellation until check-in."""
        if policy_id is None:
            return _UNTIL_CHECK_IN
        return next((policy for policy in self.policies if policy.id == policy_id), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanRow:
    """A rate plan of a room. The policy of `plan` itself does not count: `policy_id` names one of the hotel's."""

    room_id: int
    id: str
    position: int
    policy_id: str | None
    plan: RatePlan


@dataclass(frozen=True, kw_only=True, slots=True)
class RoomVersion:
    """A room of a hotel, and the version of the sale terms that are in force there; 0: none are."""

    room_id: int
    type: str
    version: int


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockRow:
    """Rooms that a hotel took off sale for the nights of [first_night, end_night)."""

    id: UUID
    room_id: int
    first_night: date
    end_night: date
    rooms_count: int
    reason: str
    released: bool


_STANDARD: Final = NO_SALE_TERMS.plans[0]
_UNTIL_CHECK_IN: Final = _STANDARD.policy
_TERMS_COLUMNS: Final = [getattr(HotelSaleTerms, name) for name in HotelTerms.__dataclass_fields__]
_PLAN_COLUMNS: Final = [getattr(RatePlanRow, name) for name in ("room_id", "id", "position", "policy_id", "definition")]
_BLOCK_COLUMNS: Final = [getattr(RoomBlock, name) for name in BlockRow.__dataclass_fields__]


def sale_terms(hotel: HotelTerms, plans: Sequence[PlanRow], capacity: int) -> SaleTerms:
    """Return all that a room is sold by. Raises `LookupError` for a plan whose policy the hotel does not have."""
    return SaleTerms(
        version=hotel.version,
        plans=tuple(_with_policy(hotel, row) for row in plans),
        taxes=hotel.taxes,
        capacity=capacity,
        infant_max_age=hotel.infant_max_age,
    )


def _with_policy(hotel: HotelTerms, row: PlanRow) -> RatePlan:
    policy = hotel.policy(row.policy_id)
    if policy is None:
        raise LookupError(f"the plan {row.id} of room {row.room_id} names the policy {row.policy_id}")
    return msgspec.structs.replace(row.plan, policy=policy)


async def hotel_terms(connection: AsyncConnection, hotel_id: int) -> HotelTerms:
    """Return the sale terms of a hotel; version 0 if nobody has set any."""
    rows = await connection.execute(select(*_TERMS_COLUMNS).where(HotelSaleTerms.hotel_id == hotel_id))
    row = rows.mappings().first()
    return HotelTerms() if row is None else _terms_of(row)


async def raise_version(connection: AsyncConnection, hotel_id: int, fields: HotelTerms | None = None) -> HotelTerms:
    """Count a change of the hotel's sale terms or of its rooms' plans, and return them; the hotel's row is locked.

    With `fields` the hotel's own terms become these. The version is above those in force in the hotel's rooms, too:
    after a restore from an older backup of these tables they may be ahead.
    """
    changed: dict[str, Any] = {}
    if fields is not None:
        changed = {
            "taxes": msgspec.to_builtins(fields.taxes),
            "policies": msgspec.to_builtins(fields.policies),
            "infant_max_age": fields.infant_max_age,
        }
    in_force = (
        select(func.coalesce(func.max(RoomSaleTerms.version), 0))
        .join(Room, Room.id == RoomSaleTerms.room_id)
        .where(Room.hotel_id == hotel_id)
        .scalar_subquery()
    )
    version = func.greatest(HotelSaleTerms.version, in_force) + 1
    rows = await connection.execute(
        insert(HotelSaleTerms)
        .values(hotel_id=hotel_id, version=in_force + 1, **changed)
        .on_conflict_do_update(
            index_elements=["hotel_id"], set_={**changed, "version": version, "updated_at": func.now()}
        )
        .returning(*_TERMS_COLUMNS)
    )
    return _terms_of(rows.mappings().one())


def _terms_of(row: RowMapping) -> HotelTerms:
    return HotelTerms(
        version=row["version"],
        taxes=msgspec.convert(row["taxes"], tuple[Tax, ...]),
        policies=msgspec.convert(row["policies"], tuple[CancellationPolicy, ...]),
        infant_max_age=row["infant_max_age"],
        updated_at=row["updated_at"],
    )


async def plans_of(connection: AsyncConnection, room_ids: Collection[int]) -> dict[int, list[PlanRow]]:
    """Return the rate plans of each room, in their order; a room without a row of its own has the standard plan."""
    rows = await connection.execute(
        select(*_PLAN_COLUMNS).where(RatePlanRow.room_id.in_(room_ids)).order_by(RatePlanRow.position, RatePlanRow.id)
    )
    plans: dict[int, list[PlanRow]] = {room_id: [] for room_id in room_ids}
    for row in rows:
        plan = msgspec.convert(row.definition, RatePlan)
        plans[row.room_id].append(
            PlanRow(room_id=row.room_id, id=row.id, position=row.position, policy_id=row.policy_id, plan=plan)
        )
    return {room_id: found or [_standard(room_id)] for room_id, found in plans.items()}


def _standard(room_id: int) -> PlanRow:
    return PlanRow(room_id=room_id, id=_STANDARD.id, position=0, policy_id=None, plan=_STANDARD)


async def save_plans(connection: AsyncConnection, plans: Sequence[PlanRow]) -> None:
    """Write rate plans, new or changed; the hotel's row is locked."""
    if not plans:
        return
    statement = insert(RatePlanRow).values(
        [
            {
                "room_id": row.room_id,
                "id": row.id,
                "position": row.position,
                "policy_id": row.policy_id,
                "definition": msgspec.to_builtins(msgspec.structs.replace(row.plan, policy=_UNTIL_CHECK_IN)),
            }
            for row in plans
        ]
    )
    new = statement.excluded
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=["room_id", "id"],
            set_={"position": new.position, "policy_id": new.policy_id, "definition": new.definition},
        )
    )


async def delete_plan(connection: AsyncConnection, room_id: int, plan_id: str) -> None:
    """Delete a rate plan; the hotel's row is locked."""
    await connection.execute(delete(RatePlanRow).where(RatePlanRow.room_id == room_id, RatePlanRow.id == plan_id))


async def versions_in_force(connection: AsyncConnection, hotel_id: int) -> list[RoomVersion]:
    """Return the rooms of a hotel by id, each with the version of its sale terms that the ledger has."""
    rows = await connection.execute(
        select(Room.id, Room.type, func.coalesce(RoomSaleTerms.version, 0))
        .outerjoin(RoomSaleTerms, RoomSaleTerms.room_id == Room.id)
        .where(Room.hotel_id == hotel_id, Room.deleted_at.is_(None), ~Room.opening)
        .order_by(Room.id)
    )
    return [RoomVersion(room_id=room_id, type=type, version=version) for room_id, type, version in rows]


async def blocks_of(
    connection: AsyncConnection,
    room_id: int,
    *,
    limit: int,
    after: tuple[date, UUID] | None,
    with_released: bool,
    ending_after: date | None = None,
) -> list[BlockRow]:
    """Return blocks of a room by first night and id, those following `after`, one more than `limit` if there are more.

    Blocks that were released are left out without `with_released`, and those without a night from `ending_after` on.
    """
    query = select(*_BLOCK_COLUMNS).where(RoomBlock.room_id == room_id)
    if not with_released:
        query = query.where(~RoomBlock.released)
    if ending_after is not None:
        query = query.where(RoomBlock.end_night > ending_after)
    if after is not None:
        query = query.where(tuple_(RoomBlock.first_night, RoomBlock.id) > after)
    rows = await connection.execute(query.order_by(RoomBlock.first_night, RoomBlock.id).limit(limit + 1))
    return [BlockRow(**row) for row in rows.mappings()]


async def block_of(connection: AsyncConnection, room_id: int, block_id: UUID) -> BlockRow | None:
    """Return a block of a room, released or not, or None when the room has none by that id."""
    rows = await connection.execute(
        select(*_BLOCK_COLUMNS).where(RoomBlock.id == block_id, RoomBlock.room_id == room_id)
    )
    row = rows.mappings().first()
    return None if row is None else BlockRow(**row)
