"""Hotels and rooms as their managers describe them, and bookings from the ledger.

Every query for a booking names its user: another user's booking is not found.
Money is integers in minor units; times are UTC.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import ARRAY, BigInteger, Row, RowMapping, and_, any_, bindparam, case, cast, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from pricing.charges import step_minor
from pricing.stays import night_price_minor
from storage.hotels import DESCRIPTION_COLUMNS, HotelDescription
from storage.models import (
    Booking,
    BookingGuest,
    BookingTimeline,
    CheckoutSession,
    Guest,
    GuestList,
    Hotel,
    Inventory,
    Room,
    RoomSaleTerms,
)
from storage.reads.changes import HeldChange, ReplacedStay
from storage.reads.terms import terms_of_room
from topics.messages.events import CommandRepeated
from topics.messages.sale import AppliedPolicy, Sale, SaleTerms
from topics.messages.values import BookingStatus, StayTimes, Terms


@dataclass(frozen=True, kw_only=True, slots=True)
class RoomFacts:
    """The facts of a room that the acceptance of a request needs. `capacity` is guests in one room.

    `has_sale_terms`: its decisions know the capacity, and the infants that take no place.
    """

    room_id: int
    hotel_id: int
    capacity: int
    hotel_active: bool
    time_zone: str
    currency: str
    check_in_time: time
    check_out_time: time
    has_sale_terms: bool

    @property
    def stay_times(self) -> StayTimes:
        """The hotel's clock as a booking keeps it."""
        return StayTimes(time_zone=self.time_zone, check_in_time=self.check_in_time, check_out_time=self.check_out_time)


@dataclass(frozen=True, kw_only=True, slots=True)
class RoomOffer:
    """A room of a hotel. `price_from_minor` is the cheapest of the nights asked about, None when none is on sale."""

    id: int
    type: str
    capacity: int
    total_count: int
    base_price_minor: int
    price_from_minor: int | None
    photos: list[str]
    amenities: list[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class HotelOffer(HotelDescription):
    """An active hotel with its rooms."""

    rooms: list[RoomOffer]


@dataclass(frozen=True, kw_only=True, slots=True)
class NightOffer:
    """A night of a room that was put on sale. `free_count` is 0 while it is closed; the price has its surge."""

    room_id: int
    night: date
    price_minor: int
    free_count: int


class TripLeg(msgspec.Struct, frozen=True, kw_only=True):
    """A leg of a trip: rooms of one type, which are the booking `booking_id`."""

    booking_id: UUID
    room_id: int
    rooms_count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class BookingFacts:
    """A booking as the ledger has it; `user_id` is None when its command named no account.

    `payments` are those that arrived, as the ledger writes them: `storage.reads.payments` reads them. `pending_change`
    and `legs` are written as the ledger has them, too: `held_change` and `trip_legs` read them.

    A trip has `legs`, the room type of the first of them, and no rooms of its own. A leg has the trip's id (`trip_id`).
    """

    id: UUID
    user_id: int | None
    hotel_id: int
    room_id: int
    check_in: date
    check_out: date
    rooms_count: int
    status: str
    amount_minor: int
    currency: str
    rejection: str | None
    failure: str | None
    cancel_reason: str | None
    hold_expires_at: datetime | None
    payments: list[dict[str, Any]] | None
    pending_change: dict[str, Any] | None
    trip_id: UUID | None
    legs: list[dict[str, Any]] | None
    created_at: datetime
    updated_at: datetime

    @property
    def held_change(self) -> HeldChange | None:
        """The change that is held until it is paid, which ends at `hold_expires_at`."""
        return None if self.pending_change is None else msgspec.convert(self.pending_change, HeldChange)

    @property
    def trip_legs(self) -> tuple[TripLeg, ...]:
        """The legs of a trip, in the order of its request; other bookings have none."""
        return msgspec.convert(self.legs or (), tuple[TripLeg, ...])


#: The columns of a `BookingFacts`.
BOOKING_COLUMNS: Final = tuple(getattr(Booking, name) for name in BookingFacts.__dataclass_fields__)


@dataclass(frozen=True, kw_only=True, slots=True)
class AgreedBooking(BookingFacts):
    """A booking with all that was agreed; `sale` is None for one without sale terms.

    `earlier_stays` are the stays that changes replaced, oldest first. `night_amounts_minor` sum to the amount; a
    booking from before they were kept has none.
    """

    terms: Terms
    sale: Sale | None
    policy: AppliedPolicy | None
    stay_times: StayTimes | None
    earlier_stays: tuple[ReplacedStay, ...]
    payment_attempt: int
    night_amounts_minor: list[int] | None
    accepted_terms: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class BookingRow(AgreedBooking):
    """A user's booking, with all that was agreed."""

    user_id: int


@dataclass(frozen=True, kw_only=True, slots=True)
class NightForSale:
    """A night of a room that was put on sale: the price with its surge, and the numbers of rooms, free ones and all."""

    night: date
    price_minor: int
    currency: str
    closed: bool
    free_count: int
    total_count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RoomForSale:
    """A room with its sale terms in force (None: it has none), and those of its nights that were put on sale."""

    terms: SaleTerms | None
    nights: list[NightForSale]


@dataclass(frozen=True, kw_only=True, slots=True)
class StayingGuest:
    """A guest of a booking."""

    id: int
    name: str
    gender: str | None
    age: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class TimelineEntry:
    """One event of a booking's history."""

    sequence: int
    type: str
    time: datetime
    event: dict[str, Any]


async def room_facts(connection: AsyncConnection, room_ids: Collection[int]) -> dict[int, RoomFacts]:
    """Return the facts of the rooms that exist, by their ids."""
    rows = await connection.execute(
        select(
            Room.id.label("room_id"),
            Room.hotel_id,
            Room.capacity,
            Hotel.active.label("hotel_active"),
            Hotel.time_zone,
            Hotel.currency,
            Hotel.check_in_time,
            Hotel.check_out_time,
            RoomSaleTerms.room_id.is_not(None).label("has_sale_terms"),
        )
        .join(Hotel, Hotel.id == Room.hotel_id)
        .outerjoin(RoomSaleTerms, RoomSaleTerms.room_id == Room.id)
        .where(
            Room.id == any_(cast(list(room_ids), ARRAY(BigInteger))),
            ~Room.opening,
            Room.deleted_at.is_(None),
            Hotel.deleted_at.is_(None),
        )
    )
    return {row["room_id"]: RoomFacts(**row) for row in rows.mappings()}


async def hotel_offer(
    connection: AsyncConnection, hotel_id: int, first_night: date, end_night: date
) -> HotelOffer | None:
    """Return an active hotel with its rooms and their cheapest night of [first_night, end_night), or None."""
    hotels = await connection.execute(
        select(*DESCRIPTION_COLUMNS).where(Hotel.id == hotel_id, Hotel.active, Hotel.deleted_at.is_(None))
    )
    hotel = hotels.mappings().first()
    if hotel is None:
        return None
    asked = {"hotel_id": hotel_id, "first_night": first_night, "end_night": end_night}
    rooms = await connection.execute(_ROOMS_WITH_PRICES, asked)
    step = step_minor(hotel["currency"])
    return HotelOffer(**hotel, rooms=[_room_offer(step=step, **room) for room in rooms.mappings()])


def _room_offer(
    *, step: int, prices_minor: list[int] | None, surges_milli: list[int] | None, **described: Any
) -> RoomOffer:
    nights = zip(prices_minor or (), surges_milli or (), strict=True)
    prices = (night_price_minor(price_minor, surge_milli, step) for price_minor, surge_milli in nights)
    return RoomOffer(**described, price_from_minor=min(prices, default=None))


# The query is built once: to build it for each request would cost more than to run it.
_NIGHT_PRICES: Final = (
    select(Inventory.room_id, Inventory.price_minor, Inventory.surge_milli)
    .join(Room, Room.id == Inventory.room_id)
    .where(
        Room.hotel_id == bindparam("hotel_id"),
        Inventory.night >= bindparam("first_night"),
        Inventory.night < bindparam("end_night"),
        ~Inventory.closed,
    )
    # A year of nights has few different prices, so few of them are sent.
    .distinct()
    .subquery()
)
_ROOMS_WITH_PRICES: Final = (
    select(
        Room.id,
        Room.type,
        Room.capacity,
        Room.total_count,
        Room.base_price_minor,
        Room.photos,
        Room.amenities,
        func.array_agg(_NIGHT_PRICES.c.price_minor)
        .filter(_NIGHT_PRICES.c.price_minor.is_not(None))
        .label("prices_minor"),
        func.array_agg(_NIGHT_PRICES.c.surge_milli)
        .filter(_NIGHT_PRICES.c.price_minor.is_not(None))
        .label("surges_milli"),
    )
    .outerjoin(_NIGHT_PRICES, _NIGHT_PRICES.c.room_id == Room.id)
    .where(Room.hotel_id == bindparam("hotel_id"), ~Room.opening, Room.deleted_at.is_(None))
    .group_by(Room.id)
    .order_by(Room.id)
)


async def nights_on_offer(
    connection: AsyncConnection, hotel_id: int, first_night: date, end_night: date
) -> list[NightOffer]:
    """Return the nights of [first_night, end_night) of a hotel's rooms, by room and date."""
    free_count = (
        Inventory.total_count
        + Inventory.allowance_count
        - Inventory.booked_count
        - Inventory.reserved_count
        - Inventory.blocked_count
    )
    rows = await connection.execute(
        select(
            Inventory.room_id,
            Inventory.night,
            Inventory.price_minor,
            Inventory.surge_milli,
            Inventory.currency,
            case((Inventory.closed, 0), else_=free_count),
        )
        .join(Room, Room.id == Inventory.room_id)
        .where(Room.hotel_id == hotel_id, Inventory.night >= first_night, Inventory.night < end_night)
        .order_by(Inventory.room_id, Inventory.night)
    )
    return [
        NightOffer(
            room_id=room_id,
            night=night,
            price_minor=night_price_minor(price_minor, surge_milli, step_minor(currency)),
            free_count=free_count,
        )
        for room_id, night, price_minor, surge_milli, currency, free_count in rows
    ]


async def room_for_sale(connection: AsyncConnection, room_id: int, first_night: date, end_night: date) -> RoomForSale:
    """Return a room's sale terms and its nights of [first_night, end_night) that were put on sale, by date."""
    terms = await terms_of_room(connection, room_id)
    rows = await connection.execute(
        _NIGHTS_FOR_SALE, {"room_id": room_id, "first_night": first_night, "end_night": end_night}
    )
    return RoomForSale(
        terms=terms,
        nights=[
            NightForSale(
                night=night,
                price_minor=night_price_minor(price_minor, surge_milli, step_minor(currency)),
                currency=currency,
                closed=closed,
                free_count=free_count,
                total_count=total_count,
            )
            for night, price_minor, surge_milli, currency, closed, free_count, total_count in rows
        ],
    )


_NIGHTS_FOR_SALE: Final = (
    select(
        Inventory.night,
        Inventory.price_minor,
        Inventory.surge_milli,
        Inventory.currency,
        Inventory.closed,
        (
            Inventory.total_count
            + Inventory.allowance_count
            - Inventory.booked_count
            - Inventory.reserved_count
            - Inventory.blocked_count
        ).label("free_count"),
        Inventory.total_count,
    )
    .where(
        Inventory.room_id == bindparam("room_id"),
        Inventory.night >= bindparam("first_night"),
        Inventory.night < bindparam("end_night"),
    )
    .order_by(Inventory.night)
)


async def own_booking(connection: AsyncConnection, booking_id: UUID, user_id: int) -> BookingRow | None:
    """Return the user's booking, or None when the ledger has none of this user's by that id."""
    rows = await connection.execute(
        select(*BOOKING_COLUMNS, *_AGREED_COLUMNS).where(Booking.id == booking_id, Booking.user_id == user_id)
    )
    row = rows.mappings().first()
    return None if row is None else BookingRow(**{**row, **agreed(row)})


async def own_legs(connection: AsyncConnection, trip: BookingRow) -> dict[UUID, BookingRow]:
    """Return the bookings of those legs of a trip that their rooms have decided, by their ids."""
    ids = [leg.booking_id for leg in trip.trip_legs]
    rows = await connection.execute(
        select(*BOOKING_COLUMNS, *_AGREED_COLUMNS).where(
            Booking.id.in_(ids), Booking.user_id == trip.user_id, Booking.trip_id == trip.id
        )
    )
    return {row["id"]: BookingRow(**{**row, **agreed(row)}) for row in rows.mappings()}


_AGREED_COLUMNS: Final = (
    Booking.terms,
    Booking.sale,
    Booking.policy,
    Booking.stay_times,
    Booking.earlier_stays,
    Booking.payment_attempt,
    Booking.night_amounts_minor,
    Booking.accepted_terms,
)


def agreed(row: RowMapping) -> dict[str, Any]:
    """Return those columns of what was agreed that the row has, as messages have them; it has `terms`."""
    types = {"sale": Sale, "policy": AppliedPolicy, "stay_times": StayTimes}
    found: dict[str, Any] = {
        name: None if row[name] is None else msgspec.convert(row[name], type)
        for name, type in types.items()
        if name in row
    }
    if "earlier_stays" in row:
        found["earlier_stays"] = msgspec.convert(row["earlier_stays"] or (), tuple[ReplacedStay, ...])
    return {"terms": Terms(row["terms"]), **found}


async def booking_status(
    connection: AsyncConnection, booking_id: UUID, user_id: int
) -> Row[str, str | None, str | None, str | None] | None:
    """Return `status, rejection, failure, cancel_reason` of the user's booking, or None; clients poll this most."""
    rows = await connection.execute(
        select(Booking.status, Booking.rejection, Booking.failure, Booking.cancel_reason).where(
            Booking.id == booking_id, Booking.user_id == user_id
        )
    )
    return rows.first()


async def request_hash_of(connection: AsyncConnection, booking_id: UUID) -> Row[str | None] | None:
    """Return the hash of the request that made a booking, which may be None; no row without the booking."""
    rows = await connection.execute(select(Booking.request_hash).where(Booking.id == booking_id))
    return rows.first()


async def booking_of_hotel(
    connection: AsyncConnection, booking_id: UUID, hotel_id: int, owner_id: int
) -> AgreedBooking | None:
    """Return a booking of the owner's hotel, or None when the hotel is another owner's or has none by that id."""
    rows = await connection.execute(
        select(*BOOKING_COLUMNS, *_AGREED_COLUMNS)
        .join(Hotel, Hotel.id == Booking.hotel_id)
        .where(
            Booking.id == booking_id,
            Hotel.id == hotel_id,
            Hotel.owner_id == owner_id,
            Hotel.deleted_at.is_(None),
            # A booking is refused as one of another hotel if its room is not the hotel's.
            Booking.room_id.in_(select(Room.id).where(Room.hotel_id == hotel_id)),
        )
    )
    row = rows.mappings().first()
    return None if row is None else AgreedBooking(**{**row, **agreed(row)})


async def guests_of(connection: AsyncConnection, booking_id: UUID) -> list[StayingGuest]:
    """Return the guests of a booking as they were named, by id; none if their names were erased.

    A leg has those of its trip until other ones are named for it. A booking without a guest list shows the guests that
    the account has saved.
    """
    lists = await connection.execute(
        select(GuestList.guests)
        .join(Booking, Booking.guest_list_id == GuestList.id)
        .where(Booking.id == booking_id, GuestList.booking_id.in_((Booking.id, Booking.trip_id)))
    )
    listed = lists.first()
    if listed is not None:
        return [StayingGuest(**guest) for guest in listed.guests or ()]
    rows = await connection.execute(
        select(Guest.id, Guest.name, Guest.gender, Guest.age)
        .join(BookingGuest, BookingGuest.guest_id == Guest.id)
        .where(BookingGuest.booking_id == booking_id)
        .order_by(Guest.id)
    )
    return [StayingGuest(**row) for row in rows.mappings()]


async def timeline_of(connection: AsyncConnection, booking_id: UUID) -> list[TimelineEntry]:
    """Return the booking's history in the order of the log's time, as far as the projection has come.

    Events of another partition, which has its own sequence, are requests that were refused for another room. Answers to
    repeated commands are left out, because nothing happened then.
    """
    rows = await connection.execute(
        select(BookingTimeline.sequence, BookingTimeline.type, BookingTimeline.time, BookingTimeline.event)
        .where(BookingTimeline.booking_id == booking_id, BookingTimeline.type != CommandRepeated.message_type)
        .order_by(BookingTimeline.time, BookingTimeline.partition, BookingTimeline.sequence)
    )
    return [TimelineEntry(**row) for row in rows.mappings()]


async def open_session_url(connection: AsyncConnection, booking_id: UUID) -> str | None:
    """Return the address at which the booking, or a dearer change of it, can be paid; None: nothing can be paid now."""
    # The first payment's session may stay open when another one paid, so a confirmed booking shows its change's alone.
    pays_change = and_(
        Booking.status == BookingStatus.CONFIRMED,
        Booking.pending_change.is_not(None),
        CheckoutSession.attempt == Booking.payment_attempt,
    )
    rows = await connection.execute(
        select(CheckoutSession.url)
        .join(Booking, Booking.id == CheckoutSession.booking_id)
        .where(
            CheckoutSession.booking_id == booking_id,
            CheckoutSession.status == "open",
            or_(Booking.status == BookingStatus.PAYMENTS_PENDING, pays_change),
        )
        .order_by(CheckoutSession.attempt.desc())
        .limit(1)
    )
    return rows.scalar()
