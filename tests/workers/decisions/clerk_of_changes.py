"""The clerk of `brute_force` changes stays: a wish is clipped to the sheet until it is paid, or torn up.

Shares nothing with the core but the commands.
"""

from datetime import date, datetime, timedelta
from fractions import Fraction
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import msgspec

from tests.workers.decisions.clerk_at_hotel import ONE_DAY, Desk, days_of, hotel_times, wall_time
from tests.workers.decisions.clerk_of_sales import (
    BARE,
    cents,
    cost_of_cancelling,
    is_stopped,
    offer,
    people_do_not_fit,
    plan_of,
    rule_against,
    shares_of,
)

Fact = dict[str, Any]
LEAST, MOST, BOOKS, CHANGES, BILLS, SLIPS = 50, 99_999_999, 10**12, 20, 100, 100
STAY = {
    "check_in": "check_in",
    "check_out": "check_out",
    "rooms_count": "rooms_count",
    "amount_minor": "cost",
    "night_amounts_minor": "shares",
    "sale": "sale",
}


class Changes(Desk):
    """The part of the clerk that changes stays."""

    terms: dict[int, Fact]

    def _status(self, sheet: Fact) -> str:
        raise NotImplementedError

    def tear_up(self, sheet: Fact, reason: str) -> None:
        """Throw the wish away that is clipped to a sheet, if there is one."""
        wish = sheet["wish"]
        if wish is None:
            return
        sheet |= {"wish": None, "until": None, "trouble": None}
        self.give_up(sheet, wish["id"])
        self._answer("booking.change_ended.v1", change_id=wish["id"], reason=reason, held=wish["held"], to_room_id=None)

    def give_up(self, sheet: Fact, change_id: UUID) -> None:
        """Keep the number of a wish that came to nothing; the pile of them has an end."""
        sheet["given_up"] = [*sheet["given_up"], change_id][-SLIPS:]

    def _withdraw_change(self, sheet: Fact, command: Any, now: datetime) -> None:
        if sheet["wish"] is None or sheet["wish"]["id"] != command.change_id:
            self._refuse("no_such_change")
        else:
            self.tear_up(sheet, "withdrawn")

    def _change(self, sheet: Fact, command: Any, now: datetime) -> None:
        wish = sheet["wish"]
        if self._status(sheet) != "CONFIRMED":
            self._refuse("wrong_status")
            return
        seen = {command.change_id for _ in [0] if wish is not None and wish["id"] == command.change_id}
        seen |= {*sheet["changes"], *sheet["given_up"]}
        party = None if sheet["sale"] is None else sheet["sale"]["party"]
        people = command.party is None or party == _people(command.party)
        if command.change_id in seen or (
            people
            and [command.check_in, command.check_out, command.rooms_count]
            == [sheet["check_in"], sheet["check_out"], sheet["rooms_count"]]
        ):
            self._repeat(sheet)
            return
        late = self._too_late_to_change(sheet, command, now)
        if late is None and (len(sheet["changes"]) >= CHANGES or sheet["attempt"] >= BILLS):
            late = "too_many_changes"
        if late is not None:
            self._refuse(late)
            return
        # The rooms of the wish that is clipped to the sheet are free for this one.
        sheet["wish"] = None
        no, price = self._try(sheet, command, now)
        sheet["wish"] = wish
        if no is not None:
            about = {name: getattr(command, name) for name in ("change_id", "check_in", "check_out", "rooms_count")}
            self.give_up(sheet, command.change_id)
            self._answer("booking.change_rejected.v1", **about, reason=no)
            return
        self.tear_up(sheet, "replaced")
        self._write_down(sheet, command, price, now)

    def quote_change(self, command: Any, now: datetime) -> Fact | None:
        """Return the price of a change that is asked for later, if it is possible now."""
        sheet = self.sheets[command.booking_id]
        wish, sheet["wish"] = sheet["wish"], None
        no, price = self._try(sheet, command, now)
        sheet["wish"] = wish
        return price if no is None else None

    def _too_late_to_change(self, sheet: Fact, command: Any, now: datetime) -> str | None:
        _, arrive, leave = hotel_times(sheet, command)
        clock = wall_time(sheet, command, now)
        if clock >= datetime.combine(sheet["check_out"], leave):
            return "stay_over"
        guest = command.user_id is not None and clock >= datetime.combine(sheet["check_in"], arrive)
        past = sheet["check_in"] < clock.date() or command.check_in < clock.date()
        return "check_in_passed" if guest or past else None

    def _try(self, sheet: Fact, command: Any, now: datetime) -> tuple[str | None, Fact]:
        """Return why not, or the price."""
        days = [*days_of(command.check_in, command.check_out)]
        room = sheet["room_id"]
        senseless = (
            ("code_not_valid", not _code_has(sheet, command)),
            ("no_nights", not days),
            ("no_rooms", command.rooms_count < 1),
            ("night_not_open", any((room, day) not in self.shelf for day in days)),
        )
        reason = next((reason for reason, true in senseless if true), None)
        if reason is not None:
            return reason, {}
        needs = {day: command.rooms_count - _own(sheet, day) for day in days if command.rooms_count > _own(sheet, day)}
        slip = command.quoted
        if slip is not None and (now > slip.good_until or slip.earlier_count != len(sheet["changes"])):
            return "quote_expired", {}
        terms = self.terms.get(room, BARE)
        plan = None if sheet["sale"] is None else plan_of(terms, sheet["sale"]["plan_id"])
        asked = self._asked(sheet, command)
        no = None
        if slip is None:
            no = "no_such_plan" if sheet["sale"] is not None and plan is None else people_do_not_fit(terms, asked)
        if no is None and sheet["sale"] is not None and asked.party is not None:
            heads = asked.party.adults + len(asked.party.child_ages)
            no = "party_too_large" if len(sheet["guests"]) > heads else None
        if no is None and any(self.shelf[room, day]["closed"] for day in needs):
            no = "night_closed"
        ruling = plan_of(terms, None) if sheet["sale"] is None and needs else plan
        if no is None and slip is not None and (sheet["sale"] is not None or needs):
            no = "stop_sell" if ruling is None or is_stopped(ruling, command.check_in) else None
        elif no is None and ruling is not None:
            no = rule_against(ruling, command, wall_time(sheet, command, now).date())
        if no is None and any(self.left(room, day) < rooms for day, rooms in needs.items()):
            no = "sold_out"
        if no is not None:
            return no, {}
        price = self._new_price(sheet, command, asked, now) if slip is None else _as_quoted(sheet, slip)
        return self._why_not_at_that_price(sheet, command, price, needs), price

    def _asked(self, sheet: Fact, command: Any) -> SimpleNamespace:
        """Write the wanted stay down like a reservation."""
        party = command.party
        if party is None and sheet["sale"] is not None and sheet["sale"].get("party_binding"):
            party = SimpleNamespace(**sheet["sale"]["party"])
        stay = {name: getattr(command, name) for name in ("check_in", "check_out", "rooms_count")}
        return SimpleNamespace(**stay, party=party, stay_times=sheet["times"] or command.stay_times)

    def _today(self, room: int, day: date) -> int:
        night = self.shelf[room, day]
        return cents(Fraction(night["price_minor"] * night["surge_milli"], 1000))

    def _new_price(self, sheet: Fact, command: Any, asked: SimpleNamespace, now: datetime) -> Fact:
        days = [*days_of(command.check_in, command.check_out)]
        before = [*days_of(sheet["check_in"], sheet["check_out"])]
        old_rooms = sheet["rooms_count"]
        added = max(0, command.rooms_count - old_rooms)
        if sheet["sale"] is None:
            shares = []
            for day in days:
                today = self._today(sheet["room_id"], day)
                if day in before:
                    kept = Fraction(sheet["shares"][before.index(day)] * (command.rooms_count - added), old_rooms)
                    shares.append(cents(kept) + today * added)
                else:
                    shares.append(today * command.rooms_count)
            more = sum(shares) - sheet["cost"]
            return {"cost": sum(shares), "shares": shares, "sale": None, "more": max(0, more), "less": max(0, -more)}
        terms = self.terms.get(sheet["room_id"], BARE)
        plan = plan_of(terms, sheet["sale"]["plan_id"])
        assert plan is not None
        paid = sheet["sale"]["night_prices_minor"]
        prices = []
        for day in days:
            now_costs = self._today(sheet["room_id"], day)
            price = paid[before.index(day)] if day in before else now_costs
            both = price * (command.rooms_count - added) + now_costs * added
            prices.append(cents(Fraction(both, command.rooms_count)))
        new = offer(terms, {**plan, "terms": str(sheet["terms"])}, asked, prices)
        costs = sheet["sale"].get("change_costs_minor", 0)
        least = min(step["kept_minor"] for step in sheet["sale"]["steps"])
        if command.user_id is not None:
            policy = cost_of_cancelling(sheet, command, now, "")
            least = 0 if policy is None else policy["kept_minor"]
        old, fee = sheet["cost"] - costs, 0
        given_up = old - new["cost"]
        if given_up > 0 and least and command.user_id is not None:
            fee = min(given_up, cents(Fraction(given_up * (least - costs), old)))
        _add_costs(new, costs + fee, least, at_hotel=str(sheet["terms"]) == "at_hotel")
        return {**new, "more": max(0, -given_up), "less": max(0, given_up - fee)}

    def _why_not_at_that_price(self, sheet: Fact, command: Any, price: Fact, needs: dict[date, int]) -> str | None:
        at_hotel = sheet["terms"] == "at_hotel"
        is_unpaid = at_hotel or price["more"] or price["cost"] == 0
        if is_unpaid and command.account_share_percent is not None and command.user_id is not None:
            for day, rooms in needs.items():
                whole = rooms + self.unpaid(command.user_id, sheet["room_id"], day)
                total = self.shelf[sheet["room_id"], day]["total_count"]
                if whole > 2 and whole > Fraction(total * command.account_share_percent, 100):
                    return "account_share"
        later = 0 if price["sale"] is None else price["sale"]["at_hotel_minor"]
        if max(price["cost"], later) > BOOKS:
            return "not_chargeable"
        return None if at_hotel or price["more"] == 0 or LEAST <= price["more"] <= MOST else "not_chargeable"

    def unpaid(self, user_id: int, room_id: int, day: date) -> int:
        """Count the rooms that an account has unpaid, sheet by sheet."""
        rooms = 0
        for sheet in self.sheets.values():
            if (sheet["user_id"], sheet["room_id"]) != (user_id, room_id):
                continue
            status = self._status(sheet)
            waiting = status in {"RESERVED", "GUESTS_ADDED", "PAYMENTS_PENDING"}
            if waiting or (status == "CONFIRMED" and sheet["terms"] == "at_hotel"):
                rooms += _own(sheet, day)
            rooms += wished(sheet, day)
        return rooms

    def _write_down(self, sheet: Fact, command: Any, price: Fact, now: datetime) -> None:
        stay = {
            "check_in": command.check_in,
            "check_out": command.check_out,
            "rooms_count": command.rooms_count,
            "cost": price["cost"],
            "shares": price["shares"],
            "sale": price["sale"],
        }
        if price["more"] and sheet["terms"] == "prepaid":
            until = now + timedelta(seconds=command.hold_seconds)
            wish = {"id": command.change_id, "stay": stay, "more": price["more"]}
            sheet |= {"wish": {**wish, "held": _ranges(sheet, stay)}, "until": until}
            self._answer(
                "booking.change_held.v1",
                to_room_id=None,
                change_id=command.change_id,
                **_shown(stay),
                extra_minor=price["more"],
                currency=sheet["coin"],
                hold_expires_at=until,
                held=sheet["wish"]["held"],
            )
            self.ask_for_more(sheet)
            return
        self._move(sheet, {"id": command.change_id, "stay": stay, "held": (), "more": 0}, None)
        if sheet["terms"] == "prepaid":
            self._send_part(sheet, price["less"])

    def ask_for_more(self, sheet: Fact) -> None:
        """Ask for the payment of the wish."""
        sheet |= {"attempt": sheet["attempt"] + 1, "session": None, "trouble": None}
        self._answer(
            "booking.payment_requested.v1",
            attempt=sheet["attempt"],
            amount_minor=sheet["wish"]["more"],
            currency=sheet["coin"],
        )

    def fulfil(self, sheet: Fact, pay: Any) -> None:
        """Carry the wish out, because it is paid."""
        self._move(sheet, sheet["wish"], pay)

    def _move(self, sheet: Fact, wish: Fact, pay: Any) -> None:
        before, stay = _shown(sheet), wish["stay"]
        if stay["cost"] > sheet["cost"]:
            sheet["bills"].append(stay["cost"] - sheet["cost"])
        sheet["changes"].append(wish["id"])
        sheet |= {**stay, "wish": None, "until": None, "trouble": None}
        self._answer(
            "booking.changed.v1",
            to_room_id=None,
            change_id=wish["id"],
            **_shown(stay),
            currency=sheet["coin"],
            before=before,
            held=wish["held"],
            extra_minor=wish["more"],
            session_id=None if pay is None else pay.session_id,
            payment_intent=None if pay is None else pay.payment_intent,
        )

    def _send_part(self, sheet: Fact, amount: int, first: str = "") -> None:
        """Send an amount back: of one payment, if it is named, and then of the newest money."""
        newest = reversed(sheet["money"].items())
        for intent, money in sorted(newest, key=lambda each: each[0] != first):
            part = min(amount, money.kept)
            if not money.pays or part <= 0:
                continue
            amount -= part
            money.move(part, "due", "kept")
            total = money.sent + money.lost + money.due
            self._answer(
                "booking.refund_requested.v2",
                session_id=money.session,
                payment_intent=intent,
                amount_minor=part,
                currency=money.coin,
                reason="stay_changed",
                total_minor=None if total == part else total,
                retained_minor=0,
            )


def _as_quoted(sheet: Fact, slip: Any) -> Fact:
    """Write the price of a quote down as the clerk writes prices."""
    sale = None if slip.sale is None else msgspec.to_builtins(slip.sale, builtin_types=(date, datetime))
    more = slip.amount_minor - sheet["cost"]
    shares = [*slip.night_amounts_minor]
    return {"cost": slip.amount_minor, "shares": shares, "sale": sale, "more": max(0, more), "less": max(0, -more)}


def wished(sheet: Fact, day: date) -> int:
    """Count the rooms of a night that a wish holds beside the booking's own."""
    wish = sheet["wish"]
    if wish is None or not wish["stay"]["check_in"] <= day < wish["stay"]["check_out"]:
        return 0
    return max(0, int(wish["stay"]["rooms_count"]) - _own(sheet, day))


def _code_has(sheet: Fact, command: Any) -> bool:
    """Check that the code of a booking, if there is one, is good for all nights."""
    code = (sheet["sale"] or {}).get("discount") or {}
    first, end = code.get("first_night"), code.get("end_night")
    return (first is None or first <= command.check_in) and (end is None or command.check_out <= end)


def _own(sheet: Fact, day: date) -> int:
    return int(sheet["rooms_count"]) if sheet["check_in"] <= day < sheet["check_out"] else 0


def _people(party: Any) -> Fact:
    return {"adults": party.adults, "child_ages": party.child_ages}


def _shown(stay: Fact) -> Fact:
    shown = {name: stay[key] for name, key in STAY.items()}
    return {**shown, "night_amounts_minor": tuple(shown["night_amounts_minor"])}


def _ranges(sheet: Fact, stay: Fact) -> tuple[Fact, ...]:
    """Write the rooms that are held beside the booking's own, neighbours together."""
    ranges: list[Fact] = []
    for day in days_of(stay["check_in"], stay["check_out"]):
        rooms = stay["rooms_count"] - _own(sheet, day)
        if rooms <= 0:
            continue
        if ranges and ranges[-1]["end_night"] == day and ranges[-1]["rooms_count"] == rooms:
            ranges[-1]["end_night"] = day + ONE_DAY
        else:
            ranges.append({"first_night": day, "end_night": day + ONE_DAY, "rooms_count": rooms})
    return tuple(ranges)


def _add_costs(new: Fact, costs: int, least: int, *, at_hotel: bool) -> None:
    """Add the costs of changes as a line; neither a cancellation nor a no-show is cheaper than it was."""
    sale, whole = new["sale"], new["cost"] + costs
    steps: list[Fact] = []
    for step in sale["steps"]:
        now = {**step, "kept_minor": step["kept_minor"] + costs}
        if now["kept_minor"] < min(least, whole):
            now["kept_minor"] = min(least, whole)
            now.pop("percent", None)
        if steps and [steps[-1].get(name) for name in ("kept_minor", "percent")] == [
            now.get(name) for name in ("kept_minor", "percent")
        ]:
            steps.pop()
        steps.append(now)
    sale["steps"] = tuple(steps)
    sale["no_show_kept_minor"] = max(sale["no_show_kept_minor"] + costs, min(least, whole))
    if not costs:
        return
    line = {"kind": "change", "id": "change", "name": "Costs of changes", "amount_minor": costs}
    sale["lines"] = (*sale["lines"], {**line, "collected": "at_hotel"} if at_hotel else line)
    sale["change_costs_minor"] = costs
    if at_hotel:
        sale["at_hotel_minor"] += costs
    new |= {"cost": whole, "shares": shares_of(whole, new["shares"])}
