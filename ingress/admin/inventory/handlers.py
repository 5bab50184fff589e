"""Operations of managers on a room's nights: read from the ledger, changed through the log."""

from datetime import date, timedelta
from typing import Any, Final, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.admin.inventory.models import (
    ChangedNight,
    ManagedNight,
    NightChanges,
    NightsQuery,
    UnversionedChangedNight,
    UnversionedNight,
)
from ingress.admin.money import price_minor
from ingress.admin.nights import Nights, NightsRefused, nights_not_changed
from ingress.database import Database
from ingress.http.bodies import refused_field
from ingress.http.models import NoBody
from ingress.http.problems import Problem, existing, no_such
from ingress.http.responses import Response, json_response
from ingress.operations import Access, Example, RequestContext, ResponseSpec, operation
from ingress.stays import today_at
from pricing.currencies import decimal
from storage import hotels
from storage.hotels import NightRow, RoomRow
from topics.messages.commands import ChangeInventory

MAX_SPAN_DAYS: Final = 366
_DEFAULT_SPAN: Final = timedelta(days=30)
_ONE_DAY: Final = timedelta(days=1)
_INVENTORY_PATH: Final = {"room_id": 1}
_EXAMPLE_DAYS: Final = {"start_date": "2026-12-24", "end_date": "2026-12-26"}
_FIRST_DAY: Final = date(1970, 1, 1)
#: More days than any date that is taken here is after 1970, so that no two nights have the same id.
_IDS_OF_A_ROOM: Final = 100_000
BodyType = TypeVar("BodyType")


class AdminInventory:
    """The operations of managers on their rooms' nights."""

    def __init__(self, database: Database, nights: Nights) -> None:
        self._database = database
        self._nights = nights

    @operation(
        "GET /admin/inventory/rooms/{room_id}",
        access=Access.MANAGER,
        summary="Read a room's nights",
        responses={200: ResponseSpec(list[ManagedNight], "By day. A night that is missing is not on sale.")},
        example=Example(path=_INVENTORY_PATH, query=_EXAMPLE_DAYS),
    )
    async def read_nights(self, context: RequestContext[NoBody, NightsQuery]) -> Response:
        """List a room's nights: counts booked and held, and prices; 31 nights from today on without dates."""
        query = context.query

        async def nights(connection: AsyncConnection) -> list[ManagedNight]:
            room = await self._own(connection, context)
            today = today_at(room.time_zone)
            if query.start_date is None and query.end_date is None:
                first, last = today, today + _DEFAULT_SPAN
            else:
                first, last = await _days(connection, room, query.start_date or today, query.end_date)
            found = await hotels.nights_of_room(connection, room.id, first, last)
            return [_managed_night(room, night, context) for night in found]

        return json_response(200, await self._database.read(nights))

    @operation(
        "PATCH /admin/inventory/rooms/{room_id}",
        access=Access.MANAGER,
        summary="Change a room's nights",
        responses={
            200: ResponseSpec(list[ChangedNight], "The nights as they are now; one that is missing is not on sale."),
            409: ResponseSpec(NightsRefused, "None of the nights could be changed."),
        },
        example=Example(path=_INVENTORY_PATH, query=_EXAMPLE_DAYS, body={"surge_factor": "1.25", "closed": False}),
    )
    async def change_nights(self, context: RequestContext[NightChanges, NightsQuery]) -> Response:
        """Change price, surge, closing, total or allowance of the nights named, each by itself.

        A night of which more is sold, held or blocked than the new limit keeps all its values; its `refused` is set.
        """
        async with self._database.reading() as connection:
            room = await self._own(connection, context)
            first, last = await _days_to_change(connection, room, context)
        event = await self._nights.change(_command(room, first, last, context.body))
        if not event.nights:
            raise nights_not_changed("none of the nights could be changed", event.refused)
        reasons = {night.night: str(night.reason) for night in event.refused}
        async with self._database.writing() as connection:
            is_there = await hotels.own_room(connection, room.id, context.caller.user_id, lock=True) is not None
            open_nights = await hotels.open_nights(connection, room.id, today_at(room.time_zone))
            nights = await hotels.nights_of_room(connection, room.id, first, last)
        if not is_there:
            # The room was deleted before the change was decided, and the change may have put nights of it back on sale.
            await self._nights.take_off_sale(room, open_nights)
            raise no_such("room")
        return json_response(200, [_changed_night(room, night, context, reasons.get(night.night)) for night in nights])

    async def _own(self, connection: AsyncConnection, context: RequestContext[Any, NightsQuery]) -> RoomRow:
        return existing(await hotels.own_room(connection, context.path["room_id"], context.caller.user_id), "room")


async def _days(connection: AsyncConnection, room: RoomRow, first: date, last: date | None) -> tuple[date, date]:
    """Return the first and the last of the nights; without `last` the last one on sale, at most the longest span."""
    if last is None:
        last_open = await hotels.last_open_night(connection, room.id) or first
        last = max(first, min(last_open, first + timedelta(days=MAX_SPAN_DAYS - 1)))
    if first > last:
        raise refused_field("end_date", f"must not be before start_date, which is {first}")
    if (last - first).days >= MAX_SPAN_DAYS:
        raise refused_field("end_date", f"must be within {MAX_SPAN_DAYS} days of start_date, which is {first}")
    return first, last


async def _days_to_change(
    connection: AsyncConnection, room: RoomRow, context: RequestContext[NightChanges, NightsQuery]
) -> tuple[date, date]:
    body, query = context.body, context.query
    changes = (body.surge_factor, body.price, body.closed, body.total_count, body.allowance_count)
    if all(value is None for value in changes):
        raise Problem(422, "nothing to change: send surge_factor, price, closed, total_count or allowance_count")
    if {query.start_date, query.end_date} != {None} and {body.start_date, body.end_date} != {None}:
        raise refused_field("start_date", "give the days in the query or in the body, not in both")
    start, end = query.start_date or body.start_date, query.end_date or body.end_date
    if start is None and end is None:
        raise refused_field("start_date", "name the nights by start_date, end_date or both")
    today = today_at(room.time_zone)
    if start is not None and start < today:
        raise refused_field("start_date", f"must not be before today at the hotel, which is {today}")
    return await _days(connection, room, start or today, end)


def _command(room: RoomRow, first: date, last: date, changes: NightChanges) -> ChangeInventory:
    return ChangeInventory(
        room_id=room.id,
        first_night=first,
        end_night=last + _ONE_DAY,
        price_minor=None if changes.price is None else price_minor("price", changes.price, room.currency),
        surge_milli=None if changes.surge_factor is None else int(changes.surge_factor * 1000),
        closed=changes.closed,
        total_count=changes.total_count,
        allowance_count=changes.allowance_count,
    )


def _managed_night(room: RoomRow, night: NightRow, context: RequestContext[BodyType, NightsQuery]) -> ManagedNight:
    fields = _fields(room, night)
    if context.mount.unversioned:
        return UnversionedNight(**fields, book_count=night.booked_count)
    return ManagedNight(**fields)


def _changed_night(
    room: RoomRow, night: NightRow, context: RequestContext[BodyType, NightsQuery], refused: Any
) -> ChangedNight:
    fields = _fields(room, night) | {"refused": refused}
    if context.mount.unversioned:
        return UnversionedChangedNight(**fields, book_count=night.booked_count)
    return ChangedNight(**fields)


def _fields(room: RoomRow, night: NightRow) -> dict[str, Any]:
    whole, thousandths = divmod(night.surge_milli, 1000)
    return {
        "id": room.id * _IDS_OF_A_ROOM + (night.night - _FIRST_DAY).days,
        "hotel_id": room.hotel_id,
        "city": room.city,
        "room_id": room.id,
        "date": night.night,
        "booked_count": night.booked_count,
        "reserved_count": night.reserved_count,
        "blocked_count": night.blocked_count,
        "total_count": night.total_count,
        "allowance_count": night.allowance_count,
        "limit_count": night.limit_count,
        "surge_factor": f"{whole}.{thousandths:03}",
        "price": decimal(night.price_minor, night.currency),
        "currency": night.currency,
        "closed": night.closed,
    }
