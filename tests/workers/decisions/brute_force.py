"""A hotel clerk who keeps no counters: every answer is worked out again from a pile of paper, sheet by sheet.

Shares nothing with the core but the commands. Rooms that are taken are counted anew each time; a booking's status is
read off the facts on its sheet. Slow, and easy to believe.
"""

from datetime import date, datetime, timedelta
from fractions import Fraction
from math import floor
from typing import Any
from uuid import UUID

Fact = dict[str, Any]
ONE_DAY = timedelta(days=1)


class Clerk:
    """Returns the events of each command, as plain dicts in the shape of ours."""

    def __init__(self) -> None:
        #: (room, night) -> the values that the manager set.
        self.shelf: dict[tuple[int, date], Fact] = {}
        #: booking id -> its sheet.
        self.sheets: dict[UUID, Fact] = {}

    def decide(self, command: Any, now: datetime) -> list[Fact]:
        """Carry the command out and return its events."""
        _, verb, _ = command.message_type.split(".")
        if command.message_type.startswith("inventory"):
            return list(getattr(self, f"{verb}_nights")(command))
        self._events: list[Fact] = []
        self._command = command
        sheet = self.sheets.get(command.booking_id)
        ours = sheet is not None and sheet["room_id"] == command.room_id
        if sheet is not None and ours and verb != "expire_hold" and _lapsed(sheet, now):
            sheet["lapsed"] = True
            self._answer("booking.expired.v1")
        if verb == "reserve":
            self._reserve(sheet, command, now)
        elif sheet is None or not ours:
            self._nowhere(verb, command)
        elif getattr(command, "user_id", None) not in {None, sheet["user_id"]}:
            self._refuse("not_your_booking")
        else:
            getattr(self, f"_{verb}")(sheet, command, now)
        return self._events

    # Answers

    def _answer(self, message_type: str, **facts: Any) -> None:
        room_id, booking_id = self._command.room_id, self._command.booking_id
        self._events.append({"message_type": message_type, "room_id": room_id, "booking_id": booking_id, **facts})

    def _refuse(self, reason: str) -> None:
        sheet = self.sheets.get(self._command.booking_id)
        ours = sheet is not None and sheet["room_id"] == self._command.room_id
        self._answer(
            "booking.command_refused.v1",
            command=self._command.message_type,
            reason=reason,
            booking_status=status_of(sheet) if sheet is not None and ours else None,
        )

    def _repeat(self, sheet: Fact) -> None:
        self._answer("booking.command_repeated.v1", command=self._command.message_type, booking_status=status_of(sheet))

    def _return_money(self, pay: Any, reason: str) -> None:
        self._answer(
            "booking.refund_requested.v1",
            session_id=pay.session_id,
            payment_intent=pay.payment_intent,
            amount_minor=pay.amount_minor,
            currency=pay.currency,
            reason=reason,
        )

    # Commands about bookings

    def _nowhere(self, verb: str, command: Any) -> None:
        if verb == "confirm_payment":
            self._return_money(command, "unknown_booking")
        else:
            self._refuse("booking_not_found")

    def _reserve(self, sheet: Fact | None, command: Any, now: datetime) -> None:
        if sheet is not None and sheet["room_id"] == command.room_id:
            self._repeat(sheet)
            return
        if sheet is not None:
            self._refuse("booking_not_found")
            return
        asked = {
            name: getattr(command, name)
            for name in ("user_id", "hotel_id", "check_in", "check_out", "rooms_count", "terms")
        }
        no = self._why_not(command)
        fresh = {"room_id": command.room_id, **asked, "no": no, "guests": [], "attempt": 0, "session": None}
        fresh |= {"trouble": None, "lapsed": False, "ended": None, "sold": False, "money": {}, "cost": 0, "coin": ""}
        fresh |= {"until": None}
        self.sheets[command.booking_id] = fresh
        if no is not None:
            self._answer("booking.rejected.v1", **asked, reason=no)
            return
        fresh["cost"] = self._cost(command)
        fresh["coin"] = self.shelf[command.room_id, command.check_in]["currency"]
        if command.terms == "prepaid":
            fresh["until"] = now + timedelta(seconds=command.hold_seconds)
        price = {"amount_minor": fresh["cost"], "currency": fresh["coin"]}
        self._answer("booking.reserved.v1", **asked, **price, hold_expires_at=fresh["until"])
        if command.terms == "at_hotel":
            fresh["sold"] = True
            self._answer("booking.confirmed.v1", **price, session_id=None, payment_intent=None, late=False)

    def _why_not(self, command: Any) -> str | None:
        if not command.check_in < command.check_out:
            return "no_nights"
        if command.rooms_count <= 0:
            return "no_rooms"
        if (command.agreed_nightly_minor or 0) < 0:
            return "negative_rate"
        stay = self._stay(command.room_id, command.check_in, command.check_out)
        if None in stay:
            return "night_not_open"
        nights = [night for night in stay if night is not None]
        if command.hotel_id != nights[0]["hotel_id"]:
            return "room_of_another_hotel"
        closed = True in [night["closed"] for night in nights]
        full = "sold_out" if not self._fits(command.room_id, command) else None
        return "night_closed" if closed else full

    def _stay(self, room_id: int, first: date, end: date) -> list[Fact | None]:
        nights = []
        while first < end:
            nights.append(self.shelf.get((room_id, first)))
            first += ONE_DAY
        return nights

    def _fits(self, room_id: int, stay: Any) -> bool:
        day = stay.check_in
        while day < stay.check_out:
            total = self.shelf[room_id, day]["total_count"]
            if sum(self.taken(room_id, day)) + stay.rooms_count > total:
                return False
            day += ONE_DAY
        return True

    def taken(self, room_id: int, day: date) -> tuple[int, int]:
        """Count the rooms that are reserved and those that are booked, booking by booking."""
        reserved = booked = 0
        for sheet in self.sheets.values():
            if sheet["room_id"] != room_id or not sheet["check_in"] <= day < sheet["check_out"]:
                continue
            if status_of(sheet) == "CONFIRMED":
                booked += sheet["rooms_count"]
            elif status_of(sheet) in {"RESERVED", "GUESTS_ADDED", "PAYMENTS_PENDING"}:
                reserved += sheet["rooms_count"]
        return reserved, booked

    def _cost(self, command: Any) -> int:
        total = 0
        for night in self._stay(command.room_id, command.check_in, command.check_out):
            assert night is not None
            exact = Fraction(night["price_minor"] * night["surge_milli"], 1000)
            if command.agreed_nightly_minor is not None:
                exact = Fraction(command.agreed_nightly_minor)
            total += floor(exact + Fraction(1, 2)) * command.rooms_count
        return total

    def _add_guests(self, sheet: Fact, command: Any, now: datetime) -> None:
        status, guests = status_of(sheet), sorted(set(command.guest_ids))
        if status == "EXPIRED":
            self._refuse("hold_expired")
        elif guests and sheet["guests"] == guests:
            self._repeat(sheet)
        elif status not in {"RESERVED", "GUESTS_ADDED"}:
            self._refuse("wrong_status")
        elif not guests:
            self._refuse("no_guests")
        else:
            sheet["guests"] = guests
            self._answer("booking.guests_added.v1", guest_ids=tuple(guests))

    def _request_payment(self, sheet: Fact, command: Any, now: datetime) -> None:
        status = status_of(sheet)
        never_opened = sheet["session"] is None and sheet["trouble"] is not None
        refusals = {
            "EXPIRED": "hold_expired",
            "RESERVED": "no_guests",
            "CANCELLED": "wrong_status",
            "REJECTED": "wrong_status",
        }
        if status in refusals:
            self._refuse(refusals[status])
        elif status == "CONFIRMED" or (status == "PAYMENTS_PENDING" and not never_opened):
            self._repeat(sheet)
        elif sheet["cost"] == 0:
            self._sell(sheet, None, late=False)
        else:
            sheet |= {"attempt": sheet["attempt"] + 1, "session": None, "trouble": None}
            self._answer(
                "booking.payment_requested.v1",
                attempt=sheet["attempt"],
                amount_minor=sheet["cost"],
                currency=sheet["coin"],
            )

    def _record_session(self, sheet: Fact, command: Any, now: datetime) -> None:
        if sheet["session"] == command.session_id:
            self._repeat(sheet)
        elif status_of(sheet) != "PAYMENTS_PENDING":
            self._refuse("wrong_status")
        elif sheet["attempt"] != command.attempt:
            self._refuse("stale_session")
        else:
            sheet["session"] = command.session_id
            self._answer("booking.checkout_opened.v1", attempt=command.attempt, session_id=command.session_id)

    def _confirm_payment(self, sheet: Fact, command: Any, now: datetime) -> None:
        status = status_of(sheet)
        if command.payment_intent in sheet["money"]:
            self._repeat(sheet)
            return
        no = None
        if command.amount_minor != sheet["cost"] or command.currency != sheet["coin"]:
            no = "wrong_amount"
        elif status == "CONFIRMED":
            no = "second_payment"
        elif status in {"CANCELLED", "REJECTED"}:
            no = "booking_cancelled"
        elif status == "EXPIRED" and not self._still_free(sheet):
            no = "nights_gone"
        if no is None:
            self._sell(sheet, command, late=status == "EXPIRED")
            return
        sheet["money"][command.payment_intent] = [command.session_id, command.amount_minor, "refund_requested"]
        if no == "wrong_amount" and status == "PAYMENTS_PENDING" and sheet["session"] == command.session_id:
            sheet |= {"session": None, "trouble": no}
        self._return_money(command, no)

    def _still_free(self, sheet: Fact) -> bool:
        day = sheet["check_in"]
        while day < sheet["check_out"]:
            night = self.shelf[sheet["room_id"], day]
            left = night["total_count"] - sum(self.taken(sheet["room_id"], day))
            if night["closed"] or left < sheet["rooms_count"]:
                return False
            day += ONE_DAY
        return True

    def _sell(self, sheet: Fact, pay: Any, *, late: bool) -> None:
        sheet |= {"sold": True, "lapsed": False, "until": None, "trouble": None}
        if pay is not None:
            sheet["money"][pay.payment_intent] = [pay.session_id, pay.amount_minor, "kept"]
        self._answer(
            "booking.confirmed.v1",
            amount_minor=sheet["cost"],
            currency=sheet["coin"],
            session_id=pay.session_id if pay else None,
            payment_intent=pay.payment_intent if pay else None,
            late=late,
        )

    def _decline_payment(self, sheet: Fact, command: Any, now: datetime) -> None:
        if status_of(sheet) != "PAYMENTS_PENDING":
            self._refuse("wrong_status")
        elif sheet["trouble"] == command.failure:
            self._repeat(sheet)
        else:
            sheet["trouble"] = command.failure
            self._answer("booking.payment_declined.v1", failure=command.failure)

    def _close_payment(self, sheet: Fact, command: Any, now: datetime) -> None:
        if status_of(sheet) != "PAYMENTS_PENDING":
            self._repeat(sheet)
        elif sheet["session"] != command.session_id:
            self._refuse("stale_session")
        else:
            self._end(sheet, "payment_closed")

    def _cancel(self, sheet: Fact, command: Any, now: datetime) -> None:
        status = status_of(sheet)
        if status == "CANCELLED":
            self._repeat(sheet)
        elif status == "EXPIRED":
            self._refuse("hold_expired")
        elif status == "REJECTED":
            self._refuse("wrong_status")
        else:
            self._end(sheet, command.reason)

    def _end(self, sheet: Fact, reason: str) -> None:
        sheet |= {"ended": reason, "until": None}
        self._answer("booking.cancelled.v1", reason=reason)
        for intent, money in sheet["money"].items():
            if money[2] == "kept":
                money[2] = "refund_requested"
                self._answer(
                    "booking.refund_requested.v1",
                    session_id=money[0],
                    payment_intent=intent,
                    amount_minor=money[1],
                    currency=sheet["coin"],
                    reason="booking_cancelled",
                )

    def _expire_hold(self, sheet: Fact, command: Any, now: datetime) -> None:
        if status_of(sheet) not in {"RESERVED", "GUESTS_ADDED", "PAYMENTS_PENDING"}:
            self._repeat(sheet)
        elif _lapsed(sheet, now):
            sheet |= {"lapsed": True}
            self._answer("booking.expired.v1")

    def _record_refund(self, sheet: Fact, command: Any, now: datetime) -> None:
        money = sheet["money"].get(command.payment_intent, ["", 0, "kept"])
        if money[2] == "kept":
            self._refuse("unknown_payment")
        elif money[2] == "refunded":
            self._repeat(sheet)
        else:
            money[2] = "refunded"
            self._answer(
                "booking.refunded.v1",
                payment_intent=command.payment_intent,
                refund_id=command.refund_id,
                amount_minor=command.amount_minor,
            )

    # Commands about nights

    def open_nights(self, command: Any) -> list[Fact]:
        """Open the nights that are new, with an event for each range of neighbours."""
        no = _out_of_range(command, command.total_count, command.price_minor, 1)
        opened: list[Fact] = []
        offered = {name: getattr(command, name) for name in ("hotel_id", "total_count", "price_minor", "currency")}
        day = command.first_night
        while no is None and day < command.end_night:
            if (command.room_id, day) not in self.shelf:
                self.shelf[command.room_id, day] = {**offered, "surge_milli": 1000, "closed": False}
                if opened and opened[-1]["end_night"] == day:
                    opened[-1]["end_night"] = day + ONE_DAY
                else:
                    nights = {"first_night": day, "end_night": day + ONE_DAY}
                    opened.append(
                        {"message_type": "inventory.opened.v1", "room_id": command.room_id, **offered, **nights}
                    )
            day += ONE_DAY
        return opened or [_unchanged(command, no)]

    def change_nights(self, command: Any) -> list[Fact]:
        """Change night after night, except those that are not there or are sold beyond the new total.

        With all or none, none is changed as soon as one is sold beyond the new total.
        """
        no = _out_of_range(command, command.total_count, command.price_minor, command.surge_milli)
        if no is not None:
            return [_unchanged(command, no)]
        changes = {name: getattr(command, name) for name in ("price_minor", "surge_milli", "closed", "total_count")}
        done, refused = [], []
        day = command.first_night
        while day < command.end_night:
            night = self.shelf.get((command.room_id, day))
            sold = sum(self.taken(command.room_id, day))
            if night is None:
                refused.append({"night": day, "reason": "not_open"})
            elif command.total_count is not None and sold > command.total_count:
                refused.append({"night": day, "reason": "total_below_sold"})
            else:
                done.append(day)
            day += ONE_DAY
        if command.all_or_none and "total_below_sold" in [night["reason"] for night in refused]:
            done = []
        for day in done:
            self.shelf[command.room_id, day] |= {name: value for name, value in changes.items() if value is not None}
        ranges: list[Fact] = []
        for day in done:
            if ranges and ranges[-1]["end_night"] == day:
                ranges[-1]["end_night"] = day + ONE_DAY
            else:
                ranges.append({"first_night": day, "end_night": day + ONE_DAY})
        return [
            {
                "message_type": "inventory.changed.v2",
                "room_id": command.room_id,
                "ranges": tuple(ranges),
                **changes,
                "refused": tuple(refused),
            }
        ]


def status_of(sheet: Fact) -> str:
    """Read the status off the facts."""
    facts = (
        ("REJECTED", sheet["no"] is not None),
        ("CANCELLED", sheet["ended"] is not None),
        ("EXPIRED", sheet["lapsed"]),
        ("CONFIRMED", sheet["sold"]),
        ("PAYMENTS_PENDING", sheet["attempt"] > 0),
        ("GUESTS_ADDED", len(sheet["guests"]) > 0),
        ("RESERVED", True),
    )
    return next(status for status, true in facts if true)


def _lapsed(sheet: Fact, now: datetime) -> bool:
    unpaid = status_of(sheet) in {"RESERVED", "GUESTS_ADDED", "PAYMENTS_PENDING"}
    return unpaid and sheet["until"] is not None and sheet["until"] <= now


def _out_of_range(command: Any, total: int | None, price: int | None, surge: int | None) -> str | None:
    if command.end_night <= command.first_night:
        return "no_nights"
    if command.end_night > command.first_night + timedelta(days=1100):
        return "too_many_nights"
    if total is not None and (total < 0 or total > 100_000):
        return "count_out_of_range"
    if price is not None and (price < 0 or price > 1_000_000_000):
        return "price_out_of_range"
    if surge is not None and (surge < 1 or surge > 10_000):
        return "surge_out_of_range"
    return None


def _unchanged(command: Any, reason: str | None) -> Fact:
    return {
        "message_type": "inventory.unchanged.v1",
        "room_id": command.room_id,
        "command": command.message_type,
        "reason": reason,
    }
