"""The visitors of the hotels, and their host. Each has a story, and a source of chance of their own."""

import random
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from tests.simulation.hotels import HOTELS, PLANS, WITH_TERMS, sale_terms
from topics.messages.commands import (
    AddGuests,
    BlockNights,
    CancelBooking,
    ChangeInventory,
    ChangeStay,
    CheckIn,
    CheckOut,
    ClaimCode,
    Command,
    MarkNoShow,
    OpenInventory,
    ReleaseBlock,
    RequestPayment,
    ReserveStay,
    ReserveTrip,
    SetCode,
    SetSaleTerms,
    WithdrawChange,
)
from topics.messages.sale import CodeTerms, LegRequest, Party
from topics.messages.values import BlockReason, CancelReason

if TYPE_CHECKING:
    from tests.simulation.world import World

ROOMS: Final = 7
OPEN_DAYS: Final = 75
_LAST_ARRIVAL_DAYS: Final = 40
CODE: Final = 5
MAX_USES: Final = 300
_MAX_WAIT_SECONDS: Final = 600.0
_MAX_HOURS_UNTIL_CANCELLED: Final = 40.0


def opening(first: date) -> list[Command]:
    """Return the commands that put the nights on sale, and make the promo code."""
    commands: list[Command] = [
        OpenInventory(
            room_id=room_id,
            hotel_id=hotel_id,
            first_night=first,
            end_night=first + timedelta(days=OPEN_DAYS),
            total_count=ROOMS,
            price_minor=10_000 + 10 * room_id,
            currency="EUR",
        )
        for hotel_id, rooms in HOTELS.items()
        for room_id in rooms
    ]
    commands += [
        SetSaleTerms(room_id=room_id, hotel_id=WITH_TERMS, terms=sale_terms(1)) for room_id in HOTELS[WITH_TERMS]
    ]
    terms = CodeTerms(version=1, code="YEARS", percent_milli=10_000, max_uses=MAX_USES)
    return [*commands, SetCode(code_id=CODE, hotel_id=1, terms=terms)]


class Visitor:
    """One guest with one booking."""

    def __init__(self, world: "World", number: int) -> None:
        self._world = world
        self._chance = world.plan.chance(f"visitor {number}")
        self._user = 1000 + number
        self.booking_id = UUID(int=self._chance.getrandbits(128), version=4)
        self._hotel = self._chance.choice(list(HOTELS))
        self._room = self._chance.choice(HOTELS[self._hotel])
        first = world.now().date() + timedelta(days=min(int(self._chance.expovariate(1 / 8)), _LAST_ARRIVAL_DAYS))
        self._stay = (first, first + timedelta(days=self._chance.randint(1, 4)))
        self._sent = 0
        #: The rooms and ids of the stays of a trip.
        self._legs: list[tuple[int, UUID]] = []

    async def story(self) -> None:
        """Book, and then do what guests do."""
        chance = self._chance
        await self._send(self._wish(), again=chance.random() < 0.1)
        status = await self._until({"RESERVED", "REJECTED", "GUESTS_ADDED"})
        if status != "RESERVED":
            return
        what = chance.random()
        if what < 0.12:
            return
        if what < 0.2:
            await self._send(CancelBooking(**self._own(), user_id=self._user))
            return
        await self._send(AddGuests(**self._own(), user_id=self._user, guest_ids=(self._user,)))
        await self._world.sleep(chance.random() * 120)
        await self._send(RequestPayment(**self._own(), user_id=self._user), again=chance.random() < 0.1)
        if what < 0.24:
            # The session is perhaps being opened.
            await self._world.sleep(chance.random() ** 2 * 20)
            await self._send(CancelBooking(**self._own(), user_id=self._user))
            return
        status = await self._until({"CONFIRMED", "EXPIRED", "CANCELLED"}, seconds=3_000.0)
        if status != "CONFIRMED" or what < 0.5:
            return
        if what < 0.62:
            await self._change()
        elif what < 0.8:
            await self._world.sleep(chance.random() * 3_600 * _MAX_HOURS_UNTIL_CANCELLED)
            by_hotel = chance.random() < 0.2
            reason = CancelReason.BY_HOTEL if by_hotel else CancelReason.BY_GUEST
            user = None if by_hotel else self._user
            of = self._one_leg() if self._legs and chance.random() < 0.5 else self._own()
            await self._send(CancelBooking(**of, user_id=user, reason=reason), again=chance.random() < 0.1)
        elif self._stay[0] <= self._world.now().date():
            await self._stay_here()

    def _wish(self) -> Command:
        first, end = self._stay
        room_ids = HOTELS[self._hotel]
        what = self._chance.random()
        request_hash = f"{self.booking_id.hex}"
        if what < 0.08:
            rooms = self._chance.sample(room_ids, 2)
            self._room = rooms[0]
            legs = tuple(
                LegRequest(
                    booking_id=UUID(int=self._chance.getrandbits(128), version=4), room_id=room_id, plan_id=self._plan()
                )
                for room_id in rooms
            )
            self._legs = [(leg.room_id, leg.booking_id) for leg in legs]
            return ReserveTrip(
                **self._own(),
                user_id=self._user,
                hotel_id=self._hotel,
                check_in=first,
                check_out=end,
                legs=legs,
                request_hash=request_hash,
            )
        reserve = ReserveStay(
            **self._own(),
            user_id=self._user,
            hotel_id=self._hotel,
            check_in=first,
            check_out=end,
            rooms_count=self._chance.choice((1, 1, 1, 2)),
            request_hash=request_hash,
            plan_id=self._plan(),
            party=Party(adults=2) if self._chance.random() < 0.3 else None,
        )
        if what < 0.16 and self._hotel == 1:
            return ClaimCode(code_id=CODE, reserve=reserve)
        return reserve

    def _plan(self) -> str | None:
        """Return the plan to buy by, if the hotel has several."""
        return self._chance.choice(PLANS).id if self._hotel == WITH_TERMS and self._chance.random() < 0.7 else None

    def wish_for_certain(self) -> Command:
        """Return a wish that is decided whatever is sold."""
        return ReserveStay(
            **self._own(), user_id=self._user, hotel_id=self._hotel, check_in=self._stay[0], check_out=self._stay[1]
        )

    def _own(self) -> dict[str, Any]:
        return {"room_id": self._room, "booking_id": self.booking_id}

    def _one_leg(self) -> dict[str, Any]:
        room_id, booking_id = self._chance.choice(self._legs)
        return {"room_id": room_id, "booking_id": booking_id}

    async def _change(self) -> None:
        """Ask for another stay; the bank pays the difference, or does not."""
        chance = self._chance
        first, end = self._stay
        later = timedelta(days=chance.randint(0, 2))
        nights = max(1, (end - first).days + chance.choice((-1, 0, 1)))
        change_id = UUID(int=chance.getrandbits(128), version=4)
        await self._world.sleep(chance.random() * 3_600)
        await self._send(
            ChangeStay(
                **self._own(),
                change_id=change_id,
                user_id=self._user,
                check_in=first + later,
                check_out=first + later + timedelta(days=nights),
                rooms_count=chance.choice((1, 2)),
            )
        )
        if chance.random() < 0.2:
            await self._world.sleep(chance.random() * 300)
            await self._send(WithdrawChange(**self._own(), change_id=change_id, user_id=self._user))

    async def _stay_here(self) -> None:
        """Arrive and leave, some a night early, or do not arrive."""
        await self._world.sleep(self._chance.random() * 3_600 * 20)
        if self._chance.random() < 0.2:
            await self._send(MarkNoShow(**self._own()), again=self._chance.random() < 0.1)
            return
        await self._send(CheckIn(**self._own()))
        nights = (self._stay[1] - self._stay[0]).days - int(self._chance.random() < 0.3)
        await self._world.sleep(3_600 * 24 * nights)
        await self._send(CheckOut(**self._own()))

    async def _send(self, command: Command, *, again: bool = False) -> None:
        """Send a command over the ingress until it is accepted; `again`: once more, as an impatient client does."""
        self._sent += 1
        id = f"{self.booking_id}:{self._sent}"
        await self._world.ask(command, id, self._chance)
        if again:
            await self._world.sleep(self._chance.random() * 30)
            await self._world.ask(command, f"{id}:again", self._chance)

    async def _until(self, statuses: set[str], seconds: float = _MAX_WAIT_SECONDS) -> str | None:
        """Look at the booking until it has one of some statuses; None: it takes too long."""
        until = self._world.time() + seconds
        while (left := until - self._world.time()) > 0:
            status = self._world.look(self.booking_id)
            if status in statuses:
                return status
            await self._world.next_event(self.booking_id, left)
        return None


class Host:
    """The manager of all hotels: changes prices and numbers of rooms, and blocks nights for a while."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._chance = world.plan.chance("host")
        self._sent = 0
        #: The version of the newest sale terms.
        self._version = 1

    async def story(self, hours: float) -> None:
        """Do something now and then."""
        end = self._world.time() + hours * 3_600
        while self._world.time() < end:
            await self._world.sleep(self._chance.expovariate(1 / 5_400))
            what = self._chance.random()
            if what < 0.05:
                await self._set_terms()
            elif what < 0.15:
                value = b"no command %d" % self._chance.getrandbits(64)
                self._world.send_unreadable(b"%d" % self._room(), value)
            elif what < 0.5:
                await self._change_nights()
            else:
                self._world.spawn(self._block())

    def _nights(self, chance: random.Random) -> dict[str, Any]:
        first = self._world.now().date() + timedelta(days=chance.randint(0, 30))
        return {"first_night": first, "end_night": first + timedelta(days=chance.randint(1, 5))}

    def _room(self) -> int:
        return self._chance.choice([room for rooms in HOTELS.values() for room in rooms])

    async def _change_nights(self) -> None:
        values: dict[str, Any] = self._chance.choice(
            (
                {"price_minor": 9_000 + self._chance.randint(0, 4_000)},
                {"total_count": ROOMS + self._chance.randint(-2, 2)},
            )
        )
        await self._send(ChangeInventory(room_id=self._room(), **self._nights(self._chance), **values))

    async def _set_terms(self) -> None:
        """Set the sale terms of a room anew, now and then by a command that was overtaken by a later one."""
        self._version += 1
        version = self._version - (self._chance.random() < 0.2)
        room_id = self._chance.choice(HOTELS[WITH_TERMS])
        await self._send(SetSaleTerms(room_id=room_id, hotel_id=WITH_TERMS, terms=sale_terms(version)))

    async def _block(self) -> None:
        room_id, block_id = self._room(), UUID(int=self._chance.getrandbits(128), version=4)
        seconds = self._chance.random() * 20_000
        nights = self._nights(self._chance)
        await self._send(
            BlockNights(room_id=room_id, block_id=block_id, rooms_count=1, reason=BlockReason.MAINTENANCE, **nights)
        )
        await self._world.sleep(seconds)
        await self._send(ReleaseBlock(room_id=room_id, block_id=block_id))

    async def _send(self, command: Command) -> None:
        self._sent += 1
        await self._world.ask(command, f"host:{self._sent}", self._chance)
