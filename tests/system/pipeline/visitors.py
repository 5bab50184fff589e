"""The visitors of a storm beside its plain guests: each kind is a small share of all, and a seed decides who comes.

Guests use a promo code, buy a plan whose policy keeps a part, change a paid stay, or ask for a trip. The host books for
people at the desk, cancels and changes the stays of guests, and takes rooms off sale.
"""

import random
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any, Final

from tests.support.client import Answer, Client
from tests.system.pipeline.load import FINAL, Guest, Town, session_of

#: The plan of every room whose policy keeps a half from a year before check-in on.
HALF_PLAN: Final = "half"
CODE: Final = "STORM"
#: How often guests look whether a change that they asked for is held.
_LOOKS_AT_CHANGE: Final = 5
_DAY: Final = timedelta(days=1)


class CodeUser(Guest):
    """A guest with the promo code, which has fewer uses than guests want."""

    def _wish(self) -> dict[str, Any]:
        return {**super()._wish(), "promo_code": CODE}


class PlanBuyer(Guest):
    """A guest who buys the plan whose policy keeps a half, pays, and cancels."""

    async def story(self) -> None:
        """Pay a stay and cancel it: the half of its price is refunded."""
        booking = await self._confirmed()
        if booking is not None:
            await self._command(booking, "cancel")
            await self._until_status(booking, {"CANCELLED"}, look=3)

    def _wish(self) -> dict[str, Any]:
        return {**super()._wish(), "plan_id": HALF_PLAN}


class Changer(Guest):
    """A guest who changes a paid stay once or twice, and may cancel it then."""

    async def story(self) -> None:
        """Pay a stay, ask for another one in its place, and pay what that costs more, or not."""
        booking = await self._confirmed()
        if booking is None:
            return
        for number in range(self._chance.choice([1, 1, 2])):
            await self._change(booking, f"change-{number}")
        if self._chance.random() < 0.3:
            await self._command(booking, "cancel")

    def _wish(self) -> dict[str, Any]:
        offers: list[dict[str, Any]] = [{}, {"plan_id": HALF_PLAN}, {"promo_code": CODE}]
        (offer,) = self._chance.choices(offers, [6, 3, 1])
        return super()._wish() | offer

    async def _change(self, booking: str, key: str) -> None:
        shown = await self._look(self._path(booking), lambda shown: "check_in_date" in shown, look=2)
        if shown is None:
            return
        reply = await self._command(booking, "changes", self._other_stay(shown), key=key)
        if reply is None or reply.status == 409:
            return
        known = len(shown.get("earlier_stays", ()))

        def is_enough(shown: Mapping[str, Any]) -> bool:
            return _can_pay_change(shown) or len(shown.get("earlier_stays", ())) > known

        shown = await self._look(self._path(booking), is_enough, look=_LOOKS_AT_CHANGE)
        if shown is None or not _can_pay_change(shown):
            return
        what = self._chance.random()
        if what < 0.2:
            change = shown["pending_change"]["id"]
            await self._command(booking, f"changes/{change}", key=f"withdraw-{key}", method="DELETE")
        if what < 0.8:
            # A page may be paid although its change was withdrawn a moment ago, or ended: that goes back.
            await self._pay_at(booking, session_of(shown))

    def _other_stay(self, shown: Mapping[str, Any]) -> dict[str, Any]:
        """Return a stay that is longer, shorter, later, of another number of rooms, or in another room type."""
        check_in, check_out = (date.fromisoformat(shown[name]) for name in ("check_in_date", "check_out_date"))
        other_rooms = {"rooms_count": 1 if shown["rooms_count"] > 1 else 2}
        stays: list[dict[str, Any]] = [
            {"check_out_date": (check_out + _DAY).isoformat()},
            {"check_out_date": (check_out - _DAY).isoformat()},
            self._days(check_in + _DAY, (check_out - check_in).days),
            other_rooms,
            {"room_id": self._room().id},
        ]
        if (check_out - check_in).days == 1:
            stays.pop(1)
        return self._chance.choice(stays)


def _can_pay_change(shown: Mapping[str, Any]) -> bool:
    return "pending_change" in shown and bool(shown.get("session_url"))


class Traveller(Guest):
    """A guest who wants rooms of several types, all of them or none, and may cancel a part of a paid trip."""

    new_path = "/v1/trips"
    _legs: list[str]

    async def story(self) -> None:
        """Ask for a trip, and then leave it, cancel it, or pay it, and maybe cancel a leg or all of it."""
        trip = await self._reserved()
        if trip is None:
            return
        what = self._chance.random()
        if what < 0.15:
            return
        if what < 0.25:
            await self._command(trip, "cancel")
            return
        if not await self._name_guests(trip):
            return
        paid = await self._pay(trip, late=what > 0.92)
        if paid and await self._until_status(trip, FINAL) == "CONFIRMED" and what < 0.65:
            await self._command(trip if what < 0.4 else self._chance.choice(self._legs), "cancel")
        await self._until_status(trip, FINAL, look=3)

    def _wish(self) -> dict[str, Any]:
        wish = super()._wish()
        legs = [
            {"room_id": self._room().id, "rooms_count": self._chance.choice([1, 1, 2])}
            | ({"plan_id": HALF_PLAN} if self._chance.random() < 0.4 else {})
            for _ in range(self._chance.choice([2, 2, 3]))
        ]
        code = {"promo_code": CODE} if self._chance.random() < 0.2 else {}
        days = {name: wish[name] for name in ("hotel_id", "check_in_date", "check_out_date")}
        return {**days, "legs": legs, **code}

    def _promised(self, reply: Answer, key: str | None) -> str | None:
        # A refused trip has no legs.
        self._legs = [leg["id"] for leg in reply.body.get("legs", ())]
        return super()._promised(reply, key)


class Host(Guest):
    """The manager of the hotel, who does one thing of a day's work at each visit."""

    def __init__(self, town: Town, chance: random.Random, name: str, until: float) -> None:
        super().__init__(town, chance, name, until)
        self._client = Client(town.http, town.url, town.host.token)
        self._hotel = f"/v1/admin/hotels/{town.rooms[0].hotel_id}"
        self.new_path = f"{self._hotel}/bookings"

    def _path(self, booking: str) -> str:
        return f"{self._hotel}/bookings/{booking}"

    def _status_path(self, booking: str) -> str:
        return self._path(booking)


class DeskHost(Host):
    """The host at the desk, who books for somebody without an account."""

    async def story(self) -> None:
        """Book, and then cancel, check in, check out, or record that nobody came."""
        booking = await self._book()
        # Another host may have cancelled it by now.
        ended = {"REJECTED", "CANCELLED"}
        if booking is None or await self._until_status(booking, {"CONFIRMED", *ended}) != "CONFIRMED":
            return
        what = self._chance.random()
        if what < 0.25:
            await self._command(booking, "cancel", {"reason": "overbooked"})
        elif what < 0.4:
            await self._command(booking, "no-show")
        elif what < 0.8:
            await self._command(booking, "check-in")
            await self._command(booking, "check-out")
        await self._until_status(booking, {"CANCELLED", "NO_SHOW", "CHECKED_OUT"}, look=3)

    def _wish(self) -> dict[str, Any]:
        wish = super()._wish()
        del wish["hotel_id"]
        if self._chance.random() < 0.6:
            # A walk-in, who stays from today on.
            wish |= self._days(self._town.today(), self._chance.randint(1, 2))
        if self._chance.random() < 0.1:
            wish["promo_code"] = CODE
        return {**wish, "contact": {"name": "Ada Lovelace", "phone": "+41 31 000 00 00"}, "guests": [{"name": "Ada"}]}


class BlockingHost(Host):
    """The host who takes rooms off sale, and puts most of them on sale again."""

    async def story(self) -> None:
        """Block rooms for some nights, and release the block."""
        path = f"{self._hotel}/rooms/{self._room().id}/blocks"
        wish = self._wish()
        nights = {"start_date": wish["check_in_date"], "end_date": wish["check_in_date"]}
        body = {**nights, "rooms_count": wish["rooms_count"], "reason": "maintenance"}
        blocked = await self._ask("POST", path, body, key=f"block-{self._name}", wait=self._chance.random() < 0.5)
        if blocked is None or blocked.status == 409:
            return
        if blocked.status not in {201, 202}:
            self._surprised(path, blocked)
        elif self._chance.random() < 0.7:
            released = await self._ask("DELETE", f"{path}/{blocked.body['id']}")
            # 404: the block is not decided yet, or was refused.
            if released is not None and released.status not in {202, 204, 404}:
                self._surprised(path, released)


class MeddlingHost(Host):
    """The host who cancels or changes the stay of any guest, or of any trip, in whatever state it is."""

    async def story(self) -> None:
        """Cancel or change one of the bookings that guests asked for so far."""
        bookings = list(self._town.promises.bookings)
        if not bookings:
            return
        booking = self._chance.choice(bookings[-50:])
        shown = await self._ask("GET", self._path(booking))
        # 404: the booking is not decided yet.
        if shown is None or shown.status == 404:
            return
        if shown.status != 200:
            self._surprised(self._path(booking), shown)
        elif self._chance.random() < 0.5:
            await self._command(booking, "cancel", {"reason": "hotel_closed"})
        else:
            await self._command(booking, "changes", {"rooms_count": self._chance.randint(1, 2)})


#: The kinds of visitors, with the share of each in hundredths.
SHARES: Final[Mapping[type[Guest], int]] = {
    Guest: 60,
    CodeUser: 6,
    PlanBuyer: 6,
    Changer: 8,
    Traveller: 8,
    DeskHost: 6,
    BlockingHost: 3,
    MeddlingHost: 3,
}


def visitor(town: Town, chance: random.Random, name: str, until: float) -> Guest:
    """Return a visitor of a kind that the seed of its chance decides."""
    return kind_of(chance)(town, chance, name, until)


def kind_of(chance: random.Random) -> type[Guest]:
    """Return the kind of the next visitor."""
    (kind,) = chance.choices(list(SHARES), list(SHARES.values()))
    return kind
