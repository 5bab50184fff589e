"""The sale terms that are in force in rooms."""

from typing import Final

import msgspec
from sqlalchemy import Text, bindparam, cast, select
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.models import Room, RoomSaleTerms
from topics.messages.sale import SaleTerms

#: Decodes the terms from their text, which is faster than from a parsed object.
decode_terms = msgspec.json.Decoder(SaleTerms).decode


async def terms_of_hotel(connection: AsyncConnection, hotel_id: int) -> dict[int, SaleTerms]:
    """Return the sale terms of the hotel's rooms that have some, by the rooms' ids."""
    rows = await connection.execute(
        select(RoomSaleTerms.room_id, cast(RoomSaleTerms.terms, Text))
        .join(Room, Room.id == RoomSaleTerms.room_id)
        .where(Room.hotel_id == hotel_id)
    )
    return {room_id: decode_terms(terms) for room_id, terms in rows}


_TERMS_OF_ROOM: Final = select(cast(RoomSaleTerms.terms, Text)).where(RoomSaleTerms.room_id == bindparam("room_id"))


async def terms_of_room(connection: AsyncConnection, room_id: int) -> SaleTerms | None:
    """Return a room's sale terms; None: it has none."""
    terms = (await connection.execute(_TERMS_OF_ROOM, {"room_id": room_id})).scalar()
    return None if terms is None else decode_terms(terms)
