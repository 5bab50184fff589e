"""A hotel clerk who keeps no counters: every answer is worked out again from a pile of paper, sheet by sheet.

Shares nothing with the core but the commands. Rooms that are taken are counted anew each time; a booking's status is
read off the facts on its sheet. Slow, and easy to believe.
"""

from collections.abc import Callable
from datetime import date, datetime, timedelta
from fractions import Fraction
from typing import Any
from uuid import UUID

import msgspec

from tests.workers.decisions.clerk_at_hotel import ONE_DAY, days_of, hotel_times, wall_time
from tests.workers.decisions.clerk_of_changes import Changes, wished
from tests.workers.decisions.clerk_of_sales import (
    BARE,
    cents,
    cost_of_cancelling,
    cost_of_leaving,
    cost_of_not_coming,
    is_stopped,
    offer,
    people_do_not_fit,
    plan_of,
    rule_against,
    terms_on_paper,
)
from topics.zones import ZONE_DATA_VERSION

Fact = dict[str, Any]
#: Why money goes back when a stay ends so.
END_REASONS = {"CANCELLED": "booking_cancelled", "CHECKED_OUT": "early_departure", "NO_SHOW": "no_show"}
#: The least and the most that a card can pay in euros, and the most that the books can hold.
LEAST, MOST, BOOKS = 50, 99_999_999, 10**12
#: No stay of the clerk's hotel is a leg of a trip.
NO_TRIP: Fact = {"trip_id": None, "trip_room_id": None}


class Envelopes:
    """The money of one payment in six envelopes: every slip of paper moves some of it, and none comes or goes."""

    def __init__(self, session: str, amount: int, coin: str, *, pays: bool) -> None:
        self.session, self.amount, self.coin, self.pays = session, amount, coin, pays
        self.kept, self.due, self.sent, self.lost, self.waived = amount, 0, 0, 0, 0
        #: The part that the hotel keeps by its policy: as it was promised, and as it is left.
        self.promised = self.house = 0
        #: Refunds by id: the amount, and whether somebody made it by hand; those that failed; claims at the bank.
        self.refunds: dict[str, tuple[int, bool]] = {}
        self.failed: list[str] = []
        self.claims: dict[str, tuple[int, str]] = {}
        #: The sum that the bank took beyond all of this money, and that of refunds beyond it.
        self.beyond = self.twice = 0
        #: The sum of refunds that went out before those in whose place they went had come back.
        self.early = 0

    def move(self, amount: int, to: str, *sources: str) -> int:
        """Move an amount out of the first envelopes that have some; return what they had too little."""
        for source in sources:
            taken = min(amount, getattr(self, source))
            setattr(self, source, getattr(self, source) - taken)
            setattr(self, to, getattr(self, to) + taken)
            amount -= taken
        return amount

    def send(self, id: str, amount: int, *, by_hand: bool) -> None:
        """A refund went out."""
        self.refunds[id] = (amount, by_hand)
        self.early += 0 if by_hand else max(0, amount - self.due - self.waived)
        before = self.lost
        # One of ours was on its way when an operator gave it up; a person sends what is the house's own.
        first, then = ("kept", "waived") if by_hand else ("waived", "kept")
        self.twice += self.move(amount, "sent", "due", first, then, "house", "lost")
        self.beyond += before - self.lost

    def bounce(self, id: str) -> None:
        """A refund came back, and the bank takes what it had too little."""
        self.failed.append(id)
        amount, by_hand = self.refunds.pop(id, (0, False))
        replaced = 0 if by_hand else min(amount, self.early)
        self.early -= replaced
        never_left = min(amount, self.twice)
        self.twice -= never_left
        amount -= never_left
        again = min(amount, self.beyond)
        self.beyond -= again
        self.move(again, "lost", "sent")
        not_due = min(amount - again, max(0, replaced - never_left - again))
        self.move(not_due, "kept", "sent")
        self.move(amount - again - not_due, "kept" if by_hand else "due", "sent")
        self.keep_promise()

    def keep_promise(self) -> None:
        """Put into the house's envelope what it has too little."""
        self.move(self.promised - self.house, "house", "kept", "due")

    def lose(self, amount: int) -> None:
        """The bank took it."""
        self.beyond += self.move(amount, "lost", "due", "kept", "waived", "house")

    def state(self) -> str:
        """Return the state as the core names it."""
        return "kept" if self.pays else "refund_requested" if self.due else "refunded"

    def sums(self) -> list[int]:
        """Return what is in each envelope."""
        return [self.sent + self.twice, self.lost, self.due, self.waived, self.house, self.kept]


class Clerk(Changes):
    """Returns the events of each command, as plain dicts in the shape of ours."""

    def __init__(self) -> None:
        super().__init__()
        #: room -> the terms on its wall.
        self.terms: dict[int, Fact] = {}

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
        if sheet is not None and ours and verb != "expire_hold" and _is_over(sheet, now):
            self.tear_up(sheet, "expired")
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

    def _refuse(self, reason: str, code_id: int | None = None) -> None:
        sheet = self.sheets.get(self._command.booking_id)
        ours = sheet is not None and sheet["room_id"] == self._command.room_id
        self._answer(
            "booking.command_refused.v1",
            command=self._command.message_type,
            reason=reason,
            booking_status=status_of(sheet) if sheet is not None and ours else None,
            code_id=code_id,
        )

    def _repeat(self, sheet: Fact, code_id: int | None = None) -> None:
        self._answer(
            "booking.command_repeated.v1",
            command=self._command.message_type,
            booking_status=status_of(sheet),
            code_id=code_id,
        )

    def _return_money(self, intent: str, money: Envelopes, reason: str, keep: int = 0) -> None:
        """Ask for a refund of all of a payment but for what the policy keeps."""
        money.pays = False
        money.promised = max(keep, money.promised)
        money.keep_promise()
        amount = money.kept
        money.move(amount, "due", "kept")
        total = money.sent + money.lost + money.due + money.waived
        self._answer(
            "booking.refund_requested.v2",
            session_id=money.session,
            payment_intent=intent,
            amount_minor=amount,
            currency=money.coin,
            reason=reason,
            total_minor=None if total == amount else total,
            retained_minor=money.promised,
        )

    def _settle(self, sheet: Fact, policy: Fact | None) -> None:
        if policy is None:
            return
        sheet["policy"] = policy
        self._return_but(sheet, policy["kept_minor"], END_REASONS[status_of(sheet)])

    def _return_but(self, sheet: Fact, keep: int, reason: str) -> None:
        """Send back what is kept, but for an amount, which the oldest money has first."""
        keep -= sum(money.promised for money in sheet["money"].values() if not money.pays)
        for intent, money in sheet["money"].items():
            if money.pays and money.kept:
                part = max(0, min(keep, money.kept))
                keep -= part
                if money.kept > part:
                    self._return_money(intent, money, reason, part)

    def _status(self, sheet: Fact) -> str:
        return status_of(sheet)

    def _cost_of_leaving(self, sheet: Fact, left: date) -> Fact:
        return cost_of_leaving(sheet, left)

    def _cost_of_not_coming(self, sheet: Fact) -> Fact:
        return cost_of_not_coming(sheet)

    # Commands about bookings

    def _nowhere(self, verb: str, command: Any) -> None:
        if verb == "confirm_payment":
            money = Envelopes(command.session_id, command.amount_minor, command.currency, pays=False)
            self._return_money(command.payment_intent, money, "unknown_booking")
        else:
            self._refuse("booking_not_found")

    def _reserve(self, sheet: Fact | None, command: Any, now: datetime) -> None:
        stamp = command.request_hash
        if sheet is not None and stamp is not None and {sheet["stamp"]} - {stamp, None}:
            # One key was used for two requests.
            self._refuse("another_request", _code_of(command))
            return
        if sheet is not None and sheet["room_id"] == command.room_id:
            self._repeat(sheet, code_id=None if "discount" in (sheet["sale"] or {}) else _code_of(command))
            return
        if sheet is not None:
            self._refuse("booking_not_found" if stamp is None else "another_request", _code_of(command))
            return
        asked = {
            name: getattr(command, name)
            for name in ("user_id", "hotel_id", "check_in", "check_out", "rooms_count", "terms")
        }
        no = self._why_no_code(command) or self._why_not(command, now)
        fresh = {"room_id": command.room_id, **asked, "no": no, "guests": [], "attempt": 0, "session": None}
        fresh["stamp"] = stamp
        fresh |= {"trouble": None, "lapsed": False, "ended": None, "sold": False, "money": {}, "cost": 0, "coin": ""}
        fresh |= {
            "until": None,
            "list": None,
            "crossed out": [],
            "times": command.stay_times if no is None else None,
            "freed": None,
            "desk": None,
            "sale": None,
            "shares": [],
            "policy": None,
            "wish": None,
            "changes": [],
            "given_up": [],
            "bills": [],
        }
        self.sheets[command.booking_id] = fresh
        if no is not None:
            self._answer(
                "booking.rejected.v1", **asked, **NO_TRIP, reason=no, code_id=_code_of(command), request_hash=stamp
            )
            return
        fresh |= self._offer(command)
        asked["terms"], fresh["bills"] = fresh["terms"], [fresh["cost"]]
        fresh["coin"] = self.shelf[command.room_id, command.check_in]["currency"]
        if fresh["terms"] == "prepaid":
            fresh["until"] = now + timedelta(seconds=command.hold_seconds)
        price = {"amount_minor": fresh["cost"], "currency": fresh["coin"]}
        self._answer(
            "booking.reserved.v1",
            **asked,
            **price,
            hold_expires_at=fresh["until"],
            night_amounts_minor=tuple(fresh["shares"]),
            stay_times=_written(command.stay_times),
            sale=fresh["sale"],
            guest_list_id=command.guest_list_id,
            accepted_terms=command.accepted_terms,
            moved=None,
            **NO_TRIP,
            request_hash=stamp,
        )
        fresh["list"] = command.guest_list_id
        if fresh["terms"] == "at_hotel":
            fresh["sold"] = True
            self._answer("booking.confirmed.v1", **price, session_id=None, payment_intent=None, late=False)

    def _why_no_code(self, command: Any) -> str | None:
        """Look at the stamp of the code's office, at the quote, and at the coins of the discount."""
        if command.code_rejection is not None:
            return str(command.code_rejection)
        if command.quoted is not None and command.quoted.sale.discount != command.discount:
            return "code_not_valid"
        night = self.shelf.get((command.room_id, command.check_in))
        coin = None if command.discount is None else command.discount.currency
        return "code_not_valid" if night is not None and coin not in (None, night["currency"]) else None

    def _why_not(self, command: Any, now: datetime) -> str | None:
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
        checks: tuple[Callable[[], str | None], ...] = (
            lambda: self._why_no_offer(command, now),
            lambda: "night_closed" if True in [night["closed"] for night in nights] else None,
            lambda: self._why_no_sale(command, now),
            lambda: None if self._fits(command.room_id, command) else "sold_out",
            lambda: "account_share" if self._takes_too_much(command) else None,
            lambda: None if self._can_be_paid(command) else "not_chargeable",
        )
        return next((reason for check in checks if (reason := check()) is not None), None)

    def _terms_of(self, command: Any) -> Fact | None:
        """Return the terms that a price is made by; None: it is made by the nights alone."""
        if command.discount is not None or command.at_desk:
            return self.terms.get(command.room_id, BARE)
        if command.agreed_nightly_minor is not None or command.terms == "at_hotel":
            return None
        bare = BARE if command.plan_id is not None or command.party is not None else None
        return self.terms.get(command.room_id, bare)

    def _why_no_offer(self, command: Any, now: datetime) -> str | None:
        if command.quoted is not None:
            return "quote_expired" if now > command.quoted.good_until else None
        terms = self._terms_of(command)
        if terms is None:
            return None
        if plan_of(terms, command.plan_id) is None:
            return "no_such_plan"
        return people_do_not_fit(terms, command)

    def _why_no_sale(self, command: Any, now: datetime) -> str | None:
        if command.quoted is not None:
            plan = plan_of(self.terms.get(command.room_id, BARE), command.quoted.sale.plan_id)
            return "stop_sell" if is_stopped(plan, command.check_in) else None
        terms = self._terms_of(command)
        plan = None if terms is None else plan_of(terms, command.plan_id)
        times = {"times": command.stay_times}
        return None if plan is None else rule_against(plan, command, wall_time(times, command, now).date())

    def _offer(self, command: Any) -> Fact:
        """Write down the price: as it was quoted, by the room's terms, or by its nights alone."""
        quoted = command.quoted
        if quoted is not None:
            price = {"terms": quoted.terms.value, "cost": quoted.amount_minor}
            return {**price, "shares": [*quoted.night_amounts_minor], "sale": _plain(quoted.sale)}
        terms = self._terms_of(command)
        if terms is None:
            costs = [cost * command.rooms_count for cost in self._costs(command)]
            return {"terms": command.terms, "cost": sum(costs), "shares": costs, "sale": None}
        plan = plan_of(terms, command.plan_id)
        assert plan is not None
        return offer(terms, plan, command, self._costs(command))

    def quote(self, command: Any) -> Fact | None:
        """Return the price of a stay that a guest asks for, if it has one."""
        nights = self._stay(command.room_id, command.check_in, command.check_out)
        terms = self.terms.get(command.room_id, BARE)
        return None if None in nights or plan_of(terms, command.plan_id) is None else self._offer(command)

    def set_sale_terms_nights(self, command: Any) -> list[Fact]:
        """Hang new terms on the wall, unless newer ones hang there, or these make no sense."""
        terms, known = command.terms, self.terms.get(command.room_id, BARE)
        if command.room_id in self.terms and terms.version <= known["version"]:
            return [_unchanged(command, None if terms_on_paper(terms) == known else "newer_terms")]
        if not terms.plans:
            return [_unchanged(command, "terms_invalid")]
        self.terms[command.room_id] = terms_on_paper(terms)
        changed = {"message_type": "inventory.sale_terms_changed.v1", "room_id": command.room_id}
        return [{**changed, "hotel_id": command.hotel_id, "terms": _plain(terms)}]

    def _takes_too_much(self, command: Any) -> bool:
        """Count the rooms that the account has unpaid, sheet by sheet, in each night."""
        if command.account_share_percent is None or command.user_id is None:
            return False
        day = command.check_in
        while day < command.check_out:
            rooms = command.rooms_count + self.unpaid(command.user_id, command.room_id, day)
            share = Fraction(self.shelf[command.room_id, day]["total_count"] * command.account_share_percent, 100)
            if rooms > 2 and rooms > share:
                return True
            day += ONE_DAY
        return False

    def _can_be_paid(self, command: Any) -> bool:
        price = self._offer(command)
        cost, later = price["cost"], 0 if price["sale"] is None else price["sale"]["at_hotel_minor"]
        if max(cost, later) > BOOKS:
            return False
        return bool(price["terms"] == "at_hotel" or cost == 0 or LEAST <= cost <= MOST)

    def _stay(self, room_id: int, first: date, end: date) -> list[Fact | None]:
        nights = []
        while first < end:
            nights.append(self.shelf.get((room_id, first)))
            first += ONE_DAY
        return nights

    def _fits(self, room_id: int, stay: Any) -> bool:
        return all(self.left(room_id, day) >= stay.rooms_count for day in days_of(stay.check_in, stay.check_out))

    def taken(self, room_id: int, day: date) -> tuple[int, int]:
        """Count the rooms that are reserved and those that are booked, booking by booking."""
        reserved = booked = 0
        for sheet in self.sheets.values():
            if sheet["room_id"] == room_id:
                reserved += wished(sheet, day)
            if sheet["room_id"] != room_id or not sheet["check_in"] <= day < sheet["check_out"]:
                continue
            if sheet["freed"] is not None:
                booked += sheet["rooms_count"] if day < sheet["freed"] else 0
            elif status_of(sheet) in {"CONFIRMED", "CHECKED_IN", "CHECKED_OUT"}:
                booked += sheet["rooms_count"]
            elif status_of(sheet) in {"RESERVED", "GUESTS_ADDED", "PAYMENTS_PENDING"}:
                reserved += sheet["rooms_count"]
        return reserved, booked

    def _costs(self, command: Any) -> list[int]:
        """Return the price of each night in one room."""
        costs = []
        for night in self._stay(command.room_id, command.check_in, command.check_out):
            assert night is not None
            exact = Fraction(night["price_minor"] * night["surge_milli"], 1000)
            if command.agreed_nightly_minor is not None:
                exact = Fraction(command.agreed_nightly_minor)
            costs.append(cents(exact))
        return costs

    def _add_guests(self, sheet: Fact, command: Any, now: datetime) -> None:
        status, guests = status_of(sheet), sorted(set(command.guest_ids))
        if status == "EXPIRED":
            self._refuse("hold_expired")
        elif command.guest_list_id in sheet["crossed out"] or (
            guests
            and sheet["guests"] == guests
            and not (
                status in {"RESERVED", "GUESTS_ADDED"}
                and command.guest_list_id
                and command.guest_list_id != sheet["list"]
            )
        ):
            self._repeat(sheet)
        elif status not in {"RESERVED", "GUESTS_ADDED"}:
            self._refuse("wrong_status")
        elif not guests:
            self._refuse("no_guests")
        else:
            self._name(sheet, guests, command.guest_list_id)
            self._answer("booking.guests_added.v1", guest_ids=tuple(guests), guest_list_id=command.guest_list_id)

    def _name(self, sheet: Fact, guests: list[int], guest_list: UUID | None) -> None:
        """Cross the list out that counted before, and write the other one down."""
        if sheet["list"] and sheet["list"] != guest_list:
            sheet["crossed out"].append(sheet["list"])
        sheet |= {"guests": guests, "list": guest_list}

    def _change_guests(self, sheet: Fact, command: Any, now: datetime) -> None:
        guests = sorted(set(command.guest_ids))
        if status_of(sheet) != "CONFIRMED":
            self._refuse("wrong_status")
        elif sheet["list"] == command.guest_list_id or command.guest_list_id in sheet["crossed out"]:
            self._repeat(sheet)
        elif (late := _too_late(sheet, command, now, guest=True)) is not None:
            self._refuse(late)
        elif not guests:
            self._refuse("no_guests")
        else:
            self._name(sheet, guests, command.guest_list_id)
            self._answer("booking.guests_changed.v1", guest_ids=tuple(guests), guest_list_id=command.guest_list_id)

    def _request_payment(self, sheet: Fact, command: Any, now: datetime) -> None:
        status = status_of(sheet)
        never_opened = sheet["session"] is None and sheet["trouble"] is not None
        refusals = {
            "EXPIRED": "hold_expired",
            "RESERVED": "no_guests",
            "CANCELLED": "wrong_status",
            "REJECTED": "wrong_status",
        }
        if sheet["wish"] is not None and never_opened:
            self.ask_for_more(sheet)
        elif status in refusals:
            self._refuse(refusals[status])
        elif sheet["sold"] or (status == "PAYMENTS_PENDING" and not never_opened):
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
        elif not _awaits_money(sheet):
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
        newest = (
            command.session_id == sheet["session"] if command.attempt is None else command.attempt == sheet["attempt"]
        )
        if sheet["wish"] is not None and newest:
            self._pay_wish(sheet, command, now)
            return
        if status not in {"CONFIRMED", "CANCELLED", "CHECKED_IN", "CHECKED_OUT", "NO_SHOW"}:
            right = command.amount_minor == sheet["cost"]
        else:
            right = command.amount_minor in sheet["bills"]
        if _is_for_a_wish_that_is_gone(sheet, command):
            no = "change_ended"
        elif not right or command.currency != sheet["coin"]:
            no = "wrong_amount"
        elif status in {"CANCELLED", "REJECTED"}:
            no = "booking_cancelled"
        elif sheet["sold"]:
            no = "second_payment"
        elif status == "EXPIRED" and (
            wall_time(sheet, command, now).date() > sheet["check_in"] or not self._still_free(sheet)
        ):
            no = "nights_gone"
        if no is None:
            self._sell(sheet, command, late=status == "EXPIRED")
            return
        self._put_back(sheet, command, no)

    def _pay_wish(self, sheet: Fact, command: Any, now: datetime) -> None:
        wish = sheet["wish"]
        if (command.amount_minor, command.currency) != (wish["more"], sheet["coin"]):
            self._put_back(sheet, command, "wrong_amount")
        elif wall_time(sheet, command, now).date() > min(sheet["check_in"], wish["stay"]["check_in"]):
            self.tear_up(sheet, "stay_began")
            self._put_back(sheet, command, "change_ended")
        else:
            pay = Envelopes(command.session_id, command.amount_minor, command.currency, pays=True)
            sheet["money"][command.payment_intent] = pay
            self.fulfil(sheet, command)

    def _put_back(self, sheet: Fact, command: Any, no: str) -> None:
        """Write money down that buys nothing, and send it back."""
        money = Envelopes(command.session_id, command.amount_minor, command.currency, pays=False)
        sheet["money"][command.payment_intent] = money
        if no == "wrong_amount" and _awaits_money(sheet) and sheet["session"] == command.session_id:
            sheet |= {"session": None, "trouble": no}
        self._return_money(command.payment_intent, money, no)

    def _still_free(self, sheet: Fact) -> bool:
        day = sheet["check_in"]
        while day < sheet["check_out"]:
            night = self.shelf[sheet["room_id"], day]
            if night["closed"] or self.left(sheet["room_id"], day) < sheet["rooms_count"]:
                return False
            day += ONE_DAY
        return True

    def _sell(self, sheet: Fact, pay: Any, *, late: bool) -> None:
        sheet |= {"sold": True, "lapsed": False, "until": None, "trouble": None}
        if pay is not None:
            sheet["money"][pay.payment_intent] = Envelopes(pay.session_id, pay.amount_minor, pay.currency, pays=True)
        self._answer(
            "booking.confirmed.v1",
            amount_minor=sheet["cost"],
            currency=sheet["coin"],
            session_id=pay.session_id if pay else None,
            payment_intent=pay.payment_intent if pay else None,
            late=late,
        )

    def _decline_payment(self, sheet: Fact, command: Any, now: datetime) -> None:
        if not _awaits_money(sheet):
            self._refuse("wrong_status")
        elif sheet["trouble"] == command.failure:
            self._repeat(sheet)
        else:
            sheet["trouble"] = command.failure
            self._answer("booking.payment_declined.v1", failure=command.failure)

    def _close_payment(self, sheet: Fact, command: Any, now: datetime) -> None:
        if not _awaits_money(sheet):
            self._repeat(sheet)
        elif sheet["session"] != command.session_id:
            self._refuse("stale_session")
        elif sheet["wish"] is not None:
            self.tear_up(sheet, "payment_closed")
        else:
            self._end(sheet, "payment_closed")

    def _cancel(self, sheet: Fact, command: Any, now: datetime) -> None:
        status = status_of(sheet)
        if status == "CANCELLED":
            self._repeat(sheet)
        elif status == "EXPIRED":
            self._refuse("hold_expired")
        elif status in {"REJECTED", "CHECKED_OUT", "NO_SHOW"} or (
            status == "CHECKED_IN" and command.user_id is not None
        ):
            self._refuse("wrong_status")
        elif (
            status in {"CONFIRMED", "CHECKED_IN"}
            and (late := _too_late(sheet, command, now, guest=command.user_id is not None)) is not None
        ):
            self._refuse(late)
        else:
            sold = status == "CONFIRMED"
            policy = cost_of_cancelling(sheet, command, now, ZONE_DATA_VERSION) if sold else None
            today = wall_time(sheet, command, now).date()
            self._end(sheet, command.reason, today, command.hotel_reason, policy)

    def _end(
        self,
        sheet: Fact,
        reason: str,
        today: date | None = None,
        hotel_reason: str | None = None,
        policy: Fact | None = None,
    ) -> None:
        if status_of(sheet) in {"CONFIRMED", "CHECKED_IN"} and today is not None and sheet["check_in"] < today:
            sheet["freed"] = min(sheet["check_out"], today)
        self.tear_up(sheet, "booking_cancelled")
        sheet |= {"ended": reason, "until": None, "policy": policy, "desk": None}
        self._answer(
            "booking.cancelled.v1", reason=reason, hotel_reason=hotel_reason, freed_from=sheet["freed"], policy=policy
        )
        keep = 0 if policy is None else policy["kept_minor"]
        short = max(0, keep - sum(money.kept for money in sheet["money"].values() if money.pays))
        for money in [money for money in sheet["money"].values() if money.pays]:
            gone = money.amount - money.due - money.kept - money.waived - money.house
            gone -= sum(amount for amount, by_hand in money.refunds.values() if not by_hand)
            if money.kept == 0 and (money.due or money.waived):
                gone = 0
            part = max(0, min(short, gone))
            short -= part
            if money.kept == 0:
                money.pays, money.promised = False, part
        self._return_but(sheet, keep, "booking_cancelled")

    def _expire_hold(self, sheet: Fact, command: Any, now: datetime) -> None:
        if sheet["wish"] is not None:
            if _is_over(sheet, now):
                self.tear_up(sheet, "expired")
        elif status_of(sheet) not in {"RESERVED", "GUESTS_ADDED", "PAYMENTS_PENDING"}:
            self._repeat(sheet)
        elif _lapsed(sheet, now):
            sheet |= {"lapsed": True}
            self._answer("booking.expired.v1")

    def _record_refund(self, sheet: Fact, command: Any, now: datetime) -> None:
        money = sheet["money"].get(command.payment_intent)
        asked = money is not None and (
            not money.pays or money.due or money.waived or money.refunds or money.failed or money.claims
        )
        if money is None or not (asked or command.by_hand):
            self._refuse("unknown_payment")
            return
        seen = command.refund_id in money.refunds or command.refund_id in money.failed
        if seen or command.amount_minor < 1 or command.amount_minor > money.amount:
            self._repeat(sheet)
            return
        money.send(command.refund_id, command.amount_minor, by_hand=command.by_hand)
        self._answer(
            "booking.refunded.v1",
            payment_intent=command.payment_intent,
            refund_id=command.refund_id,
            amount_minor=command.amount_minor,
            by_hand=command.by_hand,
        )
        clock = wall_time(sheet, command, now)
        over = clock >= datetime.combine(sheet["check_out"], hotel_times(sheet, command)[2])
        empty = money.pays and money.kept + money.due + money.waived + money.house == 0
        empty = empty and not any(other.kept for other in sheet["money"].values() if other.pays)
        if empty and command.cancel_if_full and status_of(sheet) == "CONFIRMED" and not over:
            self._end(sheet, "refunded_by_hand", clock.date())

    def _fail_refund(self, sheet: Fact, command: Any, now: datetime) -> None:
        money = sheet["money"].get(command.payment_intent)
        if money is None:
            self._refuse("unknown_payment")
            return
        if command.refund_id in money.failed:
            self._repeat(sheet)
            return
        amount, by_hand = money.refunds.get(command.refund_id, (command.amount_minor, command.by_hand))
        money.bounce(command.refund_id)
        self._answer(
            "booking.refund_failed.v1",
            payment_intent=command.payment_intent,
            refund_id=command.refund_id,
            amount_minor=amount,
            failure=command.failure,
            by_hand=by_hand,
        )
        if money.pays and sheet["policy"] is None:
            whole = sum(other.kept for other in sheet["money"].values() if other.pays)
            self._send_part(sheet, whole - sheet["cost"] if money.kept else 0, command.payment_intent)
        elif money.pays:
            self._settle(sheet, sheet["policy"])
        elif money.kept and money.promised:
            self._return_money(command.payment_intent, money, END_REASONS[status_of(sheet)])
        elif money.kept:
            status = status_of(sheet)
            sold = status in {"CONFIRMED", "CHECKED_IN", "CHECKED_OUT", "NO_SHOW"}
            reason = "second_payment" if sold else "nights_gone" if status == "EXPIRED" else "booking_cancelled"
            wrong = money.amount not in sheet["bills"] or money.coin != sheet["coin"]
            self._return_money(command.payment_intent, money, "wrong_amount" if wrong else reason)

    def _close_refund(self, sheet: Fact, command: Any, now: datetime) -> None:
        money = sheet["money"].get(command.payment_intent)
        if money is None:
            self._refuse("unknown_payment")
        elif money.due:
            amount = money.due
            money.move(amount, "waived", "due")
            self._answer(
                "booking.refund_closed.v1",
                payment_intent=command.payment_intent,
                amount_minor=amount,
                currency=money.coin,
                reason=command.reason,
            )
        elif money.waived:
            self._repeat(sheet)
        else:
            self._refuse("nothing_due")

    def _record_dispute(self, sheet: Fact, command: Any, now: datetime) -> None:
        money = sheet["money"].get(command.payment_intent)
        if money is None:
            self._refuse("unknown_payment")
            return
        _, state = money.claims.get(command.dispute_id, (0, None))
        if state is not None and (state != "open" or command.result is None):
            self._repeat(sheet)
            return
        about = {
            "payment_intent": command.payment_intent,
            "dispute_id": command.dispute_id,
            "amount_minor": command.amount_minor,
            "currency": money.coin,
        }
        if state is None:
            self._answer("booking.dispute_opened.v1", **about, reason=command.reason)
        if command.result is not None:
            self._answer("booking.dispute_closed.v1", **about, result=command.result)
        if command.result == "lost":
            money.lose(command.amount_minor)
        money.claims[command.dispute_id] = (command.amount_minor, command.result or "open")

    # Commands about nights

    def open_nights(self, command: Any) -> list[Fact]:
        """Open the nights that are new, with an event for each range of neighbours."""
        no = _out_of_range(command, command.total_count, command.price_minor, 1)
        opened: list[Fact] = []
        offered = {name: getattr(command, name) for name in ("hotel_id", "total_count", "price_minor", "currency")}
        day = command.first_night
        while no is None and day < command.end_night:
            if (command.room_id, day) not in self.shelf:
                self.shelf[command.room_id, day] = {
                    **offered,
                    "surge_milli": 1000,
                    "closed": False,
                    "allowance_count": 0,
                }
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
        if no is None and command.allowance_count is not None and not 0 <= command.allowance_count <= 100_000:
            no = "count_out_of_range"
        if no is not None:
            return [_unchanged(command, no)]
        names = ("price_minor", "surge_milli", "closed", "total_count", "allowance_count")
        changes = {name: getattr(command, name) for name in names}
        done, refused = [], []
        day = command.first_night
        while day < command.end_night:
            night = self.shelf.get((command.room_id, day))
            if night is None:
                refused.append({"night": day, "reason": "not_open"})
            elif self._too_few(command, day, night):
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

    def _too_few(self, command: Any, day: date, night: Fact) -> bool:
        """Return whether fewer rooms would be there than are given away."""
        total, beside = command.total_count, command.allowance_count
        if total is None and beside is None:
            return False
        rooms = night["total_count"] if total is None else total
        rooms += night["allowance_count"] if beside is None else beside
        return bool(rooms < sum(self.taken(command.room_id, day)) + self.blocked(command.room_id, day))


def status_of(sheet: Fact) -> str:
    """Read the status off the facts."""
    facts = (
        ("REJECTED", sheet["no"] is not None),
        ("CANCELLED", sheet["ended"] is not None),
        (sheet["desk"], sheet["desk"] is not None),
        ("EXPIRED", sheet["lapsed"]),
        ("CONFIRMED", sheet["sold"]),
        ("PAYMENTS_PENDING", sheet["attempt"] > 0),
        ("GUESTS_ADDED", len(sheet["guests"]) > 0),
        ("RESERVED", True),
    )
    return next(status for status, true in facts if true)


def _plain(struct: Any) -> Any:
    """Return a part of a command as an event repeats it."""
    return msgspec.to_builtins(struct, builtin_types=(date, datetime))


def _code_of(command: Any) -> int | None:
    """Return the promo code whose use was granted for a command."""
    return None if command.discount is None else command.discount.code_id


def _written(times: Any) -> Fact | None:
    """Return a hotel's times as they are written."""
    if times is None:
        return None
    clocks = {name: getattr(times, name).isoformat() for name in ("check_in_time", "check_out_time")}
    return {"time_zone": times.time_zone, **clocks}


def _too_late(sheet: Fact, command: Any, now: datetime, *, guest: bool) -> str | None:
    """Look at the clock on the hotel's wall."""
    _, check_in, check_out = hotel_times(sheet, command)
    clock = wall_time(sheet, command, now)
    if clock >= datetime.combine(sheet["check_out"], check_out):
        return "stay_over"
    return "check_in_passed" if guest and clock >= datetime.combine(sheet["check_in"], check_in) else None


def _lapsed(sheet: Fact, now: datetime) -> bool:
    unpaid = status_of(sheet) in {"RESERVED", "GUESTS_ADDED", "PAYMENTS_PENDING"}
    return unpaid and sheet["until"] is not None and sheet["until"] <= now


def _is_over(sheet: Fact, now: datetime) -> bool:
    """Return whether the time to pay a wish is over."""
    return sheet["wish"] is not None and bool(sheet["until"] <= now)


def _awaits_money(sheet: Fact) -> bool:
    return status_of(sheet) == "PAYMENTS_PENDING" or sheet["wish"] is not None


def _is_for_a_wish_that_is_gone(sheet: Fact, pay: Any) -> bool:
    """Return whether money came through a session that bought nothing, for something else than was ever bought."""
    status = status_of(sheet)
    bought = status in {"CONFIRMED", "CHECKED_IN", "CHECKED_OUT", "NO_SHOW"}
    if status == "CANCELLED":
        bought = bool(sheet["changes"]) or any(money.amount in sheet["bills"] for money in sheet["money"].values())
    if not bought or pay.currency != sheet["coin"] or pay.amount_minor in sheet["bills"]:
        return False
    ours = pay.attempt is not None or pay.session_id == sheet["session"]
    return ours and pay.session_id not in [money.session for money in sheet["money"].values()]


def _out_of_range(command: Any, total: int | None, price: int | None, surge: int | None) -> str | None:
    if command.end_night <= command.first_night:
        return "no_nights"
    if command.end_night > command.first_night + timedelta(days=1100):
        return "too_many_nights"
    if total is not None and (total < 0 or total > 100_000):
        return "count_out_of_range"
    if price is not None and (price < 0 or price > 1_000_000_000_000):
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
