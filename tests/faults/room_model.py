"""A small model of rooms: each night has a limit and a count, and each event of the log takes rooms or gives them back.

It reads the raw events of `booking.events` in the order of each partition, which is the order of the rooms in it. Two
things are judged. At each event no count is below zero or beyond its limit, a stay is rejected as sold out only if it
is, and reserved only if there is room: the log's order is an order in which the answers are right. And clients saw that
order: a decision that a guest had seen comes before that of a stay of the same room that was asked for afterwards. So
the log is the witness that the counts of each room are linearizable (Herlihy, Wing: "Linearizability", TOPLAS 1990).
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Final, NamedTuple

from tests.system.pipeline.log import Entry

_DAY: Final = timedelta(days=1)


class Night(NamedTuple):
    """One night of a room type."""

    room_id: int
    day: date


@dataclass
class Stay:
    """The nights of a booking, of each of which it has so many rooms while `held` or `sold`."""

    nights: list[Night]
    rooms: int
    held: bool = True
    sold: bool = False


@dataclass
class RoomModel:
    """The rooms as the events so far leave them; `problems` are sentences."""

    totals: dict[Night, int] = field(default_factory=dict)
    allowances: Counter[Night] = field(default_factory=Counter)
    taken: Counter[Night] = field(default_factory=Counter)
    stays: dict[str, Stay] = field(default_factory=dict)
    #: The place of each decision on a stay: its room, and its number among the room's decisions.
    decisions: dict[str, tuple[int, int]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    _number: Counter[int] = field(default_factory=Counter)

    def apply(self, event: Entry) -> None:
        """Apply the next event of its partition."""
        rule = _RULES.get(event.type.rpartition(".")[0])
        if rule is not None:
            rule(self, event.body)

    def _inventory_opened(self, body: Mapping[str, Any]) -> None:
        for night in _nights(body["room_id"], body["first_night"], body["end_night"]):
            self.totals[night] = body["total_count"]

    def _inventory_changed(self, body: Mapping[str, Any]) -> None:
        for range in body["ranges"]:
            for night in _nights(body["room_id"], range["first_night"], range["end_night"]):
                if body.get("total_count") is not None:
                    self.totals[night] = body["total_count"]
                if body.get("allowance_count") is not None:
                    self.allowances[night] = body["allowance_count"]

    def _inventory_blocked(self, body: Mapping[str, Any]) -> None:
        self._take(_nights(body["room_id"], body["first_night"], body["end_night"]), body["rooms_count"], body)

    def _inventory_block_released(self, body: Mapping[str, Any]) -> None:
        self._take(_nights(body["room_id"], body["first_night"], body["end_night"]), -body["rooms_count"], body)

    def _reserved(self, body: Mapping[str, Any]) -> None:
        self._decided(body)
        stay = Stay(list(_stay(body)), body["rooms_count"])
        self.stays[body["booking_id"]] = stay
        self._take(stay.nights, stay.rooms, body)

    def _rejected(self, body: Mapping[str, Any]) -> None:
        self._decided(body)
        if body["reason"] == "sold_out" and all(self.free(night) >= body["rooms_count"] for night in _stay(body)):
            self.problems.append(f"{body['booking_id']} is rejected as sold out, and there is room")

    def _confirmed(self, body: Mapping[str, Any]) -> None:
        stay = self.stays.get(body["booking_id"])
        if stay is not None:
            if not stay.held:
                # A payment that comes late buys the rooms if they are still there.
                self._take(stay.nights, stay.rooms, body)
            stay.held, stay.sold = False, True

    def _expired(self, body: Mapping[str, Any]) -> None:
        self._end(body, None)

    def _cancelled(self, body: Mapping[str, Any]) -> None:
        self._end(body, body.get("freed_from"))

    def _checked_out(self, body: Mapping[str, Any]) -> None:
        if body.get("freed_from") is not None:
            self._end(body, body["freed_from"])

    def _no_show(self, body: Mapping[str, Any]) -> None:
        self._end(body, body["freed_from"])

    def _change_held(self, body: Mapping[str, Any]) -> None:
        self._hold(body, 1)

    def _change_ended(self, body: Mapping[str, Any]) -> None:
        self._hold(body, -1)

    def _changed(self, body: Mapping[str, Any]) -> None:
        self._hold(body, -1)
        before = body["before"]
        self._take(_nights(body["room_id"], before["check_in"], before["check_out"]), -before["rooms_count"], body)
        # After a move the nights of the stay are those of its leg in the other room.
        nights = [] if body.get("to_room_id") is not None else list(_stay(body))
        self.stays[body["booking_id"]] = Stay(nights, body["rooms_count"], held=False, sold=True)
        self._take(nights, body["rooms_count"], body)

    def free(self, night: Night) -> int:
        """Return how many rooms of a night nobody has; none of one that is not on sale."""
        return self.totals.get(night, 0) + self.allowances[night] - self.taken[night]

    def _decided(self, body: Mapping[str, Any]) -> None:
        room_id = body["room_id"]
        self._number[room_id] += 1
        self.decisions[body["booking_id"]] = (room_id, self._number[room_id])

    def _end(self, body: Mapping[str, Any], freed_from: str | None) -> None:
        stay = self.stays.get(body["booking_id"])
        if stay is None or not (stay.held or stay.sold):
            return
        freed = [
            night
            for night in stay.nights
            if stay.held or freed_from is None or night.day >= date.fromisoformat(freed_from)
        ]
        stay.held = stay.sold = False
        self._take(freed, -stay.rooms, body)

    def _hold(self, body: Mapping[str, Any], sign: int) -> None:
        for held in body.get("held", ()):
            nights = _nights(body["room_id"], held["first_night"], held["end_night"])
            self._take(nights, sign * held["rooms_count"], body)

    def _take(self, nights: Iterable[Night], rooms: int, body: Mapping[str, Any]) -> None:
        for night in nights:
            self.taken[night] += rooms
            if self.taken[night] < 0 or (rooms > 0 and self.free(night) < 0):
                limit = self.totals.get(night, 0) + self.allowances[night]
                about = body.get("booking_id") or body.get("block_id")
                self.problems.append(
                    f"{about} leaves {self.taken[night]} of {limit} rooms {night.room_id} taken on {night.day}"
                )


#: The rule of each type of event that changes what is taken, without its version.
_RULES: Final[Mapping[str, Callable[[RoomModel, Mapping[str, Any]], None]]] = {
    "inventory.opened": RoomModel._inventory_opened,
    "inventory.changed": RoomModel._inventory_changed,
    "inventory.blocked": RoomModel._inventory_blocked,
    "inventory.block_released": RoomModel._inventory_block_released,
    "booking.reserved": RoomModel._reserved,
    "booking.rejected": RoomModel._rejected,
    "booking.confirmed": RoomModel._confirmed,
    "booking.expired": RoomModel._expired,
    "booking.cancelled": RoomModel._cancelled,
    "booking.checked_out": RoomModel._checked_out,
    "booking.no_show": RoomModel._no_show,
    "booking.change_held": RoomModel._change_held,
    "booking.change_ended": RoomModel._change_ended,
    "booking.changed": RoomModel._changed,
}


def out_of_order(
    decisions: Mapping[str, tuple[int, int]], asked: Mapping[str, float], seen: Mapping[str, float]
) -> list[str]:
    """Return each booking that the log decides before one of its room that a guest had seen decided already.

    Args:
        decisions: by booking, its room and its number among the room's decisions.
        asked: when a guest asked for it at first.
        seen: when a guest first saw its decision.
    """
    of_room: defaultdict[int, list[tuple[float, int, str]]] = defaultdict(list)
    for booking, (room_id, number) in decisions.items():
        if booking in seen:
            of_room[room_id].append((seen[booking], number, booking))
    wrong = []
    for room_id, found in of_room.items():
        # By the time of asking, each booking is compared with the latest of those that were seen by then.
        answered = sorted(found)
        latest, latest_booking, next_one = 0, "", 0
        asking = sorted((asked[booking], number, booking) for _, number, booking in found if booking in asked)
        for asked_at, number, booking in asking:
            while next_one < len(answered) and answered[next_one][0] < asked_at:
                _, other, other_booking = answered[next_one]
                if other > latest:
                    latest, latest_booking = other, other_booking
                next_one += 1
            if number < latest:
                wrong.append(f"room {room_id}: {booking} was asked for after {latest_booking} was seen decided")
    return wrong


def _stay(body: Mapping[str, Any]) -> Iterator[Night]:
    return _nights(body["room_id"], body["check_in"], body["check_out"])


def _nights(room_id: int, first: str, end: str) -> Iterator[Night]:
    day, end_day = date.fromisoformat(first), date.fromisoformat(end)
    while day < end_day:
        yield Night(room_id, day)
        day += _DAY
