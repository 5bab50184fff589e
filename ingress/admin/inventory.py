"""A room's nights as their manager sees and changes them: read from the ledger, changed through the log."""

from datetime import date, timedelta
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.admin.money import price_minor
from ingress.admin.nights import Nights, NightsRefused, nights_refused
from ingress.database import Database
from ingress.http.answers import Answer, answer
from ingress.http.bodies import refused_field
from ingress.http.models import Body, Day, MoneyIn, MoneyOut, NoBody, PlainDecimal, Query, Shown
from ingress.http.problems import Problem
from ingress.operations import Access, Asked, Example, Reply, operation
from ingress.stays import today_at
from pricing.currencies import decimal
from storage import hotels
from storage.hotels import NightRow, RoomRow
from topics.messages.commands import ChangeInventory
from topics.messages.values import MAX_ROOMS, MAX_SURGE_MILLI

MAX_SPAN_DAYS: Final = 366
_USUAL_DAYS: Final = timedelta(days=30)
_ONE_DAY: Final = timedelta(days=1)
_ROOM: Final = {"room_id": 1}
_DAYS: Final = {"start_date": "2026-12-24", "end_date": "2026-12-26"}
# A field may be called what its type is called.
_Date: TypeAlias = date

SurgeFactor = Annotated[
    PlainDecimal,
    Field(gt=0, le=Decimal(MAX_SURGE_MILLI) / 1000, description="What the price is multiplied by, such as 1.25."),
]


class NightsQuery(Query):
    """Which nights, both ends included, at most 366. One end alone: from today, or to the last night on sale."""

    start_date: Day | None = None
    end_date: Day | None = None


class NightChanges(Body):
    """What is to be different about nights; what is left out, or null, stays. The days may stand here, too."""

    start_date: Day | None = None
    end_date: Day | None = None
    surge_factor: SurgeFactor | None = None
    price: MoneyIn | None = None
    closed: bool | None = None
    total_count: Annotated[int, Field(ge=0, le=MAX_ROOMS)] | None = None


class ManagedNight(Shown):
    """One night of a room. A guest pays `price` x `surge_factor` for it."""

    room_id: int
    date: _Date
    booked_count: int
    reserved_count: int = Field(description="Held for guests who have not paid yet.")
    total_count: int
    surge_factor: str
    price: MoneyOut
    currency: str
    closed: bool


class ChangedNight(ManagedNight):
    """One night after a change; `refused` says why it keeps its values, null that it was changed."""

    refused: Literal["not_open", "total_below_sold"] | None


class AdminInventory:
    """Answers managers about their rooms' nights."""

    def __init__(self, database: Database, nights: Nights) -> None:
        self._database = database
        self._nights = nights

    @operation(
        "GET /admin/inventory/rooms/{room_id}",
        access=Access.MANAGER,
        summary="Read a room's nights",
        answers={200: Reply(list[ManagedNight], "By day. A night that is missing is not on sale.")},
        example=Example(path=_ROOM, query=_DAYS),
    )
    async def read_nights(self, asked: Asked[NoBody, NightsQuery]) -> Answer:
        """Tell a room's nights: what is booked and held of them, and what they cost; 31 from today on if not said."""
        wanted = asked.query

        async def nights(connection: AsyncConnection) -> list[ManagedNight]:
            room = await self._own(connection, asked)
            today = today_at(room.time_zone)
            if wanted.start_date is None and wanted.end_date is None:
                first, last = today, today + _USUAL_DAYS
            else:
                first, last = await _days(connection, room, wanted.start_date or today, wanted.end_date)
            found = await hotels.nights_of_room(connection, room.id, first, last)
            return [ManagedNight(**_shown(room.id, night)) for night in found]

        return answer(200, await self._database.read(nights))

    @operation(
        "PATCH /admin/inventory/rooms/{room_id}",
        access=Access.MANAGER,
        summary="Change a room's nights",
        answers={
            200: Reply(list[ChangedNight], "The nights as they stand now; a night that is missing is not on sale."),
            409: Reply(NightsRefused, "None of the nights could be changed."),
        },
        example=Example(path=_ROOM, query=_DAYS, body={"surge_factor": "1.25", "closed": False}),
    )
    async def change_nights(self, asked: Asked[NightChanges, NightsQuery]) -> Answer:
        """Change price, surge, closing or total of the nights named, each by itself.

        A night of which more is sold than the new total keeps all its values, and says so.
        """
        async with self._database.reading() as connection:
            room = await self._own(connection, asked)
            first, last = await _days_to_change(connection, room, asked)
        event = await self._nights.change(_command(room, first, last, asked.body), asked.request)
        if not event.nights:
            raise nights_refused("none of the nights could be changed", event.refused)
        reasons = {night.night: str(night.reason) for night in event.refused}
        async with self._database.writing() as connection:
            is_there = await hotels.own_room(connection, room.id, asked.caller.user_id, lock=True) is not None
            last_night = await hotels.last_open_night(connection, room.id)
            nights = await hotels.nights_of_room(connection, room.id, first, last)
        if not is_there:
            # It was deleted before the change was decided, which may have put it back on sale.
            await self._nights.take_off_sale(room, last_night, asked.request)
            raise _no_such_room()
        return answer(
            200, [ChangedNight(**_shown(room.id, night), refused=reasons.get(night.night)) for night in nights]
        )

    async def _own(self, connection: AsyncConnection, asked: Asked[Any, NightsQuery]) -> RoomRow:
        room = await hotels.own_room(connection, asked.path["room_id"], asked.caller.user_id)
        if room is None:
            raise _no_such_room()
        return room


def _no_such_room() -> Problem:
    return Problem(404, "no such room")


async def _days(connection: AsyncConnection, room: RoomRow, first: date, last: date | None) -> tuple[date, date]:
    """Return the first and the last of the nights; the last one on sale if it is not said, as far as that may be."""
    if last is None:
        last_open = await hotels.last_open_night(connection, room.id) or first
        last = max(first, min(last_open, first + timedelta(days=MAX_SPAN_DAYS - 1)))
    if first > last:
        raise refused_field("end_date", f"must not be before start_date, which is {first}")
    if (last - first).days >= MAX_SPAN_DAYS:
        raise refused_field("end_date", f"must be within {MAX_SPAN_DAYS} days of start_date, which is {first}")
    return first, last


async def _days_to_change(
    connection: AsyncConnection, room: RoomRow, asked: Asked[NightChanges, NightsQuery]
) -> tuple[date, date]:
    body, query = asked.body, asked.query
    if all(value is None for value in (body.surge_factor, body.price, body.closed, body.total_count)):
        raise Problem(422, "nothing to change: send surge_factor, price, closed or total_count")
    if {query.start_date, query.end_date} != {None} and {body.start_date, body.end_date} != {None}:
        raise refused_field("start_date", "days stand in the query or in the body, not in both")
    start, end = query.start_date or body.start_date, query.end_date or body.end_date
    if start is None and end is None:
        raise refused_field("start_date", "say which nights: start_date, end_date or both")
    today = today_at(room.time_zone)
    if start is not None and start < today:
        raise refused_field("start_date", f"must not be before today at the hotel, which is {today}")
    return await _days(connection, room, start or today, end)


def _command(room: RoomRow, first: date, last: date, wanted: NightChanges) -> ChangeInventory:
    return ChangeInventory(
        room_id=room.id,
        first_night=first,
        end_night=last + _ONE_DAY,
        price_minor=None if wanted.price is None else price_minor("price", wanted.price, room.currency),
        surge_milli=None if wanted.surge_factor is None else int(wanted.surge_factor * 1000),
        closed=wanted.closed,
        total_count=wanted.total_count,
    )


def _shown(room_id: int, night: NightRow) -> dict[str, object]:
    whole, thousandths = divmod(night.surge_milli, 1000)
    return {
        "room_id": room_id,
        "date": night.night,
        "booked_count": night.booked_count,
        "reserved_count": night.reserved_count,
        "total_count": night.total_count,
        "surge_factor": f"{whole}.{thousandths:03}",
        "price": decimal(night.price_minor, night.currency),
        "currency": night.currency,
        "closed": night.closed,
    }
