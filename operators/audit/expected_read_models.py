"""Computes the rows that every read model should have, from the events alone."""

from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, timedelta
from fractions import Fraction
from itertools import repeat
from typing import Any, Final, NamedTuple

import msgspec

from operators.audit import read_models
from operators.audit.amounts import rounded, shares
from operators.audit.expected_movements import ExpectedMovements
from operators.audit.expected_trip_money import TripMoney
from operators.audit.read_models import Reads, content

_Event = dict[str, Any]
_parse = msgspec.json.Decoder().decode
_DAY: Final = timedelta(days=1)
#: The types of events by which a stay may end early.
_ENDS: Final = frozenset({"booking.cancelled.v1", "booking.checked_out.v1", "booking.no_show.v1"})


class Record(NamedTuple):
    """One event of the log: its position, the values of its headers, and its data as JSON."""

    partition: int
    sequence: int
    id: str
    kind: str
    time: str
    causation: str | None
    value: bytes


class _Stay(NamedTuple):
    room_id: int
    hotel_id: int
    days: tuple[str, ...]
    rooms: int
    amount: int
    currency: str
    by_night: list[int] | None
    prepaid: bool
    trip: str | None = None


class _Sale:
    """A stay that the report counts.

    `payments` has the amounts of the payments that pay it, and `left` those that left them again, by refund or
    dispute; `refunds` are those that the product made, and `closings` those that an operator closed. `kept` and
    `freed_from` are set once the stay has ended early: the hotel has so much of it at most, and the nights from then on
    are on sale again.
    """

    def __init__(self, stay: _Stay, payment: str | None) -> None:
        self.stay = stay
        self.payments = {} if payment is None else {payment: stay.amount}
        self.left: dict[str, int] = {}
        self.refunds: dict[str, int] = {}
        self.closings: dict[str, int] = {}
        self.kept: int | None = None
        self.freed_from: str | None = None

    def change(self, event: _Event) -> None:
        """Give it another stay."""
        self.stay = _changed(self.stay, event)
        if event.get("payment_intent"):
            self.payments[event["payment_intent"]] = event["extra_minor"]

    def pay_back(self, kind: str, id_: str, event: _Event) -> None:
        """Apply an event, whose id is `id_`, about the money of a payment that pays it."""
        if kind == "booking.refunded.v1":
            self.left[event["refund_id"]] = event["amount_minor"]
            if not event.get("by_hand"):
                self.refunds[event["refund_id"]] = event["amount_minor"]
        elif kind == "booking.refund_failed.v1":
            self.left.pop(event["refund_id"], None)
            self.refunds.pop(event["refund_id"], None)
        elif kind == "booking.refund_closed.v1":
            self.closings[id_] = event["amount_minor"]
        elif kind == "booking.dispute_closed.v1" and event["result"] == "lost":
            self.left[event["dispute_id"]] = event["amount_minor"]

    def end(self, policy: _Event | None, freed_from: str | None, *, arrived: bool) -> None:
        """End the stay early; guests who pay at the hotel have paid for the nights that they stayed."""
        self.freed_from = freed_from or self.stay.days[0]
        stayed = sum(amount for day, amount in zip(self.stay.days, self.gross(), strict=True) if day < self.freed_from)
        by_policy = 0 if policy is None else policy["kept_minor"]
        self.kept = by_policy if self.stay.prepaid else stayed * arrived

    def gross(self) -> list[int]:
        """Return the amount of each night."""
        if self.stay.by_night is not None:
            return self.stay.by_night
        each, over = divmod(self.stay.amount, len(self.stay.days))
        return [each + (number < over) for number in range(len(self.stay.days))]

    def deducted(self, of_leg: int) -> list[int] | None:
        """Return what does not count of each night's amount; None: all of it counts.

        `of_leg` left the payment of the trip whose leg the stay is, at the leg's expense.
        """
        # The money that a cheaper stay does not cost any more goes back, and was never a part of its amount.
        surplus = max(0, sum(self.payments.values()) - self.stay.amount) if self.payments else 0
        sent, amounts = sum(self.refunds.values()), self.gross()
        # It is gone as well if an operator closed its refund, unless it was sent all the same.
        closed = min(sum(self.closings.values()), max(0, surplus - sent))
        sum_left = max(0, sum(self.left.values()) + closed - surplus)
        if of_leg:
            sum_left = of_leg if self.kept is None else self.stay.amount - self.kept + of_leg
        if self.kept is None:
            # A free stay has nothing to lose.
            gone = min(sum_left, self.stay.amount)
            return shares(gone, amounts) if gone else None
        sold = [amount for day, amount in zip(self.stay.days, amounts, strict=True) if self.is_sold(day)]
        counted = max(0, min(self.kept, self.stay.amount - sum_left))
        earned = min(counted, sum(sold))
        parts = shares(earned, sold) + shares(counted - earned, amounts[len(sold) :])
        return [amount - part for amount, part in zip(amounts, parts, strict=True)]

    def is_sold(self, day: str) -> bool:
        """Return whether a night of the stay stayed sold."""
        return self.freed_from is None or day < self.freed_from

    def net(self, of_leg: int) -> list[int]:
        """Return what counts of each night."""
        return [amount - left for amount, left in zip(self.gross(), self.deducted(of_leg) or repeat(0), strict=False)]


class ExpectedReadModels:
    """Applies every event to the read models whose projection had applied it in the ledger's snapshot."""

    def __init__(self, applied: Mapping[str, Mapping[int, int]]) -> None:
        """`applied`: by projection and partition the sequence of the last event applied."""
        self._applied = applied
        self._timeline: Reads = {}
        #: By partition and position.
        self._changes: dict[tuple[int, int], tuple[Any, ...]] = {}
        self._nights: dict[tuple[int, str], dict[str, Any]] = {}
        self._stays: dict[str, _Stay] = {}
        self._sold: dict[str, _Sale] = {}
        self._trips: set[str] = set()
        #: The money of trips of which the report has read a confirmation, the trip's or that of a leg.
        self._trip_money: dict[str, TripMoney] = {}
        self._movements = ExpectedMovements()
        self._appliers: dict[str, Callable[[_Event], Iterable[str]]] = {
            "inventory.opened.v1": self._open,
            "inventory.changed.v1": lambda event: self._change(event, event["nights"]),
            "inventory.changed.v2": lambda event: self._change(event, _in_ranges(event["ranges"])),
            "booking.reserved.v1": lambda event: self._take(event, 1),
            "booking.cancelled.v1": lambda event: self._take(event, -1, since=event.get("freed_from") or ""),
            "booking.expired.v1": lambda event: self._take(event, -1),
            "booking.confirmed.v1": lambda event: self._take(event, 1) if event.get("late") else (),
            "booking.checked_out.v1": self._free,
            "booking.no_show.v1": self._free,
            "booking.change_held.v1": lambda event: self._hold(event, 1),
            "booking.change_ended.v1": lambda event: self._hold(event, -1),
            "booking.changed.v1": self._change_stay,
            "inventory.blocked.v1": lambda event: self._block(event, 1),
            "inventory.block_released.v1": lambda event: self._block(event, -1),
        }

    def apply(self, record: Record) -> None:
        """Apply one event. `ExpectedLedger` reports an event that cannot be read."""
        try:
            self._apply(record)
        except (ValueError, LookupError, TypeError, AttributeError):
            return

    def rows(self) -> dict[str, Reads]:
        """Return the rows that each table should have, by key."""
        of_legs = {
            leg: part for trip in self._trip_money.values() if trip.is_reported for leg, part in trip.parts().items()
        }
        return {
            "booking_timeline": self._timeline,
            "room_night": {
                f"room {room_id}, night {day}": tuple(night.values()) for (room_id, day), night in self._nights.items()
            },
            "room_night_change": self._kept_changes(),
            "hotel_min_price": self._lowest(),
            "reported_stay": {
                f"booking {id_}": (
                    sale.stay.hotel_id,
                    sale.stay.days[0],
                    _after(sale.stay.days[-1]),
                    sale.stay.rooms,
                    sale.stay.amount,
                    sale.stay.currency,
                    sale.stay.by_night,
                    sale.left or None,
                    sale.refunds or None,
                    sale.closings or None,
                    sale.deducted(of_legs.get(id_, 0)),
                    sale.kept,
                    sale.freed_from,
                )
                for id_, sale in self._sold.items()
            },
            "reported_trip": {f"trip {id_}": trip.row() for id_, trip in self._trip_money.items() if trip.is_reported},
            "daily_report": self._report(of_legs),
            "money_movement": self._movements.rows,
        }

    def _apply(self, record: Record) -> None:
        applied_by = {name for name, at in self._applied.items() if record.sequence <= at.get(record.partition, 0)}
        if not applied_by:
            return
        event = _parse(record.value)
        if record.kind == "booking.reserved.v1":
            self._stays[event["booking_id"]] = _stay(event)
        if "hotel_id" in event and "booking_id" in event and record.kind.startswith("booking."):
            self._movements.note_hotel(event)
        if "booking_timeline" in applied_by and record.kind.startswith("booking."):
            self._append(record, event)
        # A trip has neither nights nor revenue of its own: its legs have them.
        is_trip = event.get("booking_id") in self._trips
        self._note_trip(record.kind, event)
        if "room_nights" in applied_by and record.kind in self._appliers and not is_trip:
            days = sorted(self._appliers[record.kind](event))
            if days:
                self._changes[record.partition, record.sequence] = (event["room_id"], days[0], _after(days[-1]))
        if "daily_report" in applied_by:
            self._count(record, event, is_trip=is_trip)
        if "money_movements" in applied_by:
            self._movements.apply(record.kind, _key(record, event), _milliseconds(record), event)

    def _kept_changes(self) -> Reads:
        newest: dict[int, int] = {}
        for partition, position in self._changes:
            newest[partition] = max(position, newest.get(partition, 0))
        return {
            f"partition {partition}, position {position}": change
            for (partition, position), change in self._changes.items()
            if position > newest[partition] - read_models.KEPT_CHANGES
        }

    def _note_trip(self, kind: str, event: _Event) -> None:
        """Note a booking that is a trip from now on."""
        becomes_trip = kind == "booking.changed.v1" and event.get("to_room_id") is not None
        if becomes_trip or kind in {"booking.trip_opened.v1", "booking.trip_rejected.v1"}:
            self._trips.add(event["booking_id"])

    def _append(self, record: Record, event: _Event) -> None:
        self._timeline[_key(record, event)] = (
            record.id,
            record.kind,
            _milliseconds(record),
            record.causation,
            content(event),
        )

    # Nights. Each function returns the nights that the event changed.

    def _open(self, event: _Event) -> Iterable[str]:
        days = _days(event["first_night"], event["end_night"])
        for day in days:
            self._nights[event["room_id"], day] = {
                "hotel_id": event["hotel_id"],
                "total_count": event["total_count"],
                "taken_count": 0,
                "price_minor": event["price_minor"],
                "surge_milli": 1000,
                "closed": False,
                "currency": event["currency"],
                "allowance_count": 0,
                "blocked_count": 0,
            }
        return days

    def _change(self, event: _Event, days: Iterable[str]) -> Iterable[str]:
        days = list(days)
        names = ("total_count", "allowance_count", "price_minor", "surge_milli", "closed")
        new = {name: event[name] for name in names if event.get(name) is not None}
        for day in days:
            self._nights[event["room_id"], day] |= new
        return days

    def _take(self, event: _Event, sign: int, since: str = "") -> Iterable[str]:
        """Count the stay's nights from `since` on: ISO dates are in the order of their text."""
        stay = self._stays[event["booking_id"]]
        days = [day for day in stay.days if day >= since]
        for day in days:
            self._nights[stay.room_id, day]["taken_count"] += sign * stay.rooms
        return days

    def _free(self, event: _Event) -> Iterable[str]:
        return self._take(event, -1, since=event["freed_from"]) if event.get("freed_from") else ()

    def _hold(self, event: _Event, sign: int) -> Iterable[str]:
        days = []
        for held in event["held"]:
            for day in _days(held["first_night"], held["end_night"]):
                self._nights[event["room_id"], day]["taken_count"] += sign * held["rooms_count"]
                days.append(day)
        return days

    def _change_stay(self, event: _Event) -> Iterable[str]:
        """Give the rooms of the stay before back, and those that the change held, and take those of the stay after."""
        given_back = [*self._hold(event, -1), *self._take(event, -1)]
        if event.get("to_room_id") is not None:
            # The leg took the nights of the other room.
            return given_back
        self._stays[event["booking_id"]] = _changed(self._stays[event["booking_id"]], event)
        return [*given_back, *self._take(event, 1)]

    def _block(self, event: _Event, sign: int) -> Iterable[str]:
        days = _days(event["first_night"], event["end_night"])
        for day in days:
            self._nights[event["room_id"], day]["blocked_count"] += sign * event["rooms_count"]
        return days

    def _lowest(self) -> Reads:
        offers: dict[str, list[tuple[int, int, str]]] = {}
        for (room_id, day), night in self._nights.items():
            if not night["closed"]:
                price = rounded(Fraction(night["price_minor"] * night["surge_milli"], 1000), night["currency"])
                offers.setdefault(f"hotel {night['hotel_id']}, night {day}", []).append(
                    (price, room_id, night["currency"])
                )
        return {
            night: (price, currency) for night, (price, _, currency) in ((each, min(of)) for each, of in offers.items())
        }

    # Sales.

    def _count(self, record: Record, event: _Event, *, is_trip: bool) -> None:
        if is_trip:
            self._trip(event["booking_id"]).apply(record.kind, record.id, event)
        else:
            self._sell(record.kind, record.id, event)

    def _trip(self, id_: str) -> TripMoney:
        return self._trip_money.setdefault(id_, TripMoney())

    def _sell(self, kind: str, id_: str, event: _Event) -> None:
        booking_id = event.get("booking_id", "")
        if kind == "booking.confirmed.v1":
            self._confirm(booking_id, event)
        sale = self._sold.get(booking_id)
        if sale is not None and kind in _ENDS:
            if kind == "booking.cancelled.v1" or event.get("freed_from"):
                arrived = kind == "booking.checked_out.v1"
                sale.end(event.get("policy"), event.get("freed_from"), arrived=arrived)
            if kind == "booking.cancelled.v1" and not sale.kept:
                self._sold.pop(booking_id)
        if sale is not None and kind == "booking.changed.v1":
            sale.change(event)
            if event.get("to_room_id") is not None:
                self._trip(booking_id).begin(event, sale.payments, sale.left, sale.refunds, sale.closings)
                self._sold.pop(booking_id)
        if sale is not None and event.get("payment_intent") in sale.payments:
            sale.pay_back(kind, id_, event)

    def _confirm(self, booking_id: str, event: _Event) -> None:
        stay = self._stays[booking_id]
        self._sold[booking_id] = _Sale(stay, event.get("payment_intent"))
        if stay.trip is not None:
            self._trip(stay.trip).is_reported = True

    def _report(self, of_legs: Mapping[str, int]) -> Reads:
        sold: dict[str, list[tuple[int, int, int, int, int, str]]] = {}
        for id_, sale in self._sold.items():
            stay, fee = sale.stay, 0
            for number, (day, revenue) in enumerate(zip(stay.days, sale.net(of_legs.get(id_, 0)), strict=True)):
                if sale.is_sold(day):
                    share = (int(number == 0), 1, stay.rooms, revenue, 0, stay.currency)
                    sold.setdefault(f"hotel {stay.hotel_id}, night {day}", []).append(share)
                else:
                    fee += revenue
            if fee:
                share = (0, 0, 0, 0, fee, stay.currency)
                sold.setdefault(f"hotel {stay.hotel_id}, night {sale.freed_from}", []).append(share)
        return {
            night: (
                *(sum(column) for column in zip(*(share[:5] for share in shares), strict=True)),
                min(s[5] for s in shares),
            )
            for night, shares in sold.items()
        }


def _key(record: Record, event: _Event) -> str:
    return f"booking {event['booking_id']}, partition {record.partition}, sequence {record.sequence}"


def _milliseconds(record: Record) -> int:
    return round(datetime.fromisoformat(record.time).timestamp() * 1000)


def _stay(event: _Event) -> _Stay:
    stay = _Stay(
        event["room_id"],
        event["hotel_id"],
        tuple(_days(event["check_in"], event["check_out"])),
        event["rooms_count"],
        event["amount_minor"],
        event["currency"],
        event.get("night_amounts_minor") or None,
        event.get("terms", "prepaid") == "prepaid",
        event.get("trip_id"),
    )
    return _without_taxes(stay, event)


def _without_taxes(stay: _Stay, event: _Event) -> _Stay:
    """Return a stay without the taxes in its amount that the hotel collects of prepaid stays, too."""
    taxes = (event.get("sale") or {}).get("at_hotel_taxes_minor", 0)
    if not taxes:
        return stay
    amount = max(0, stay.amount - taxes)
    return stay._replace(amount=amount, by_night=shares(amount, stay.by_night or [1] * len(stay.days)))


def _changed(stay: _Stay, event: _Event) -> _Stay:
    """Return a stay after a change of it."""
    changed = stay._replace(
        days=tuple(_days(event["check_in"], event["check_out"])),
        rooms=event["rooms_count"],
        amount=event["amount_minor"],
        by_night=event["night_amounts_minor"] or None,
    )
    return _without_taxes(changed, event)


def _in_ranges(ranges: Iterable[Mapping[str, str]]) -> list[str]:
    return [day for each in ranges for day in _days(each["first_night"], each["end_night"])]


def _days(first: str, end: str) -> list[str]:
    start = date.fromisoformat(first)
    return [str(start + n * _DAY) for n in range((date.fromisoformat(end) - start).days)]


def _after(day: str) -> str:
    return str(date.fromisoformat(day) + _DAY)
