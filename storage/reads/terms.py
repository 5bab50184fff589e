"""The sale terms that are in force in the rooms of a hotel."""

import msgspec
from sqlalchemy import Text, cast, select
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
