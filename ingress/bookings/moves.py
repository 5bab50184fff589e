"""Changes of a stay to another room type: the request for one, and its price at the moment.

The other room sells all nights at today's price, and the policy counts as for any change: `pricing.changes.price_move`
computes it here and in the decision. So that nobody holds a price that another partition decides, there is no token.
"""

from collections.abc import Mapping
from datetime import date
from typing import Any, NamedTuple

from ingress.bookings.change_quotes import ChangePrice
from ingress.bookings.models import ChangedStay
from ingress.bookings.reasons import WORDS_OF_MOVES
from ingress.bookings.rejections import rule_refusal
from ingress.bookings.representation import refusal
from ingress.http.bodies import refused_field
from ingress.http.problems import Problem
from pricing.account_share import NightOfAccount, exceeds_share
from pricing.changes import PricedChange, costs_of_changes, moved_stay, party_of, price_move
from pricing.charges import can_be_charged
from pricing.sale import PricedStay, can_be_paid, party_rejection, price_stay, rules_rejection
from storage.reads.bookings import AgreedBooking, NightForSale, RoomFacts
from storage.reads.changes import HeldChange
from topics.messages.sale import NO_SALE_TERMS, Moved, Party, Sale
from topics.messages.values import Rejection, Terms, nights_of
from topics.zones import day_at


class OtherType(NamedTuple):
    """The room type that a change asks for, and the rate plan there; None: that of the booking."""

    room_id: int
    plan_id: str | None

    def plan_for(self, sale: Sale | None) -> str | None:
        """Return the plan of a booking with this sale in the other room; None: the room's standard plan."""
        return self.plan_id or (None if sale is None else sale.plan_id)


def other_type(change: ChangedStay, booking: AgreedBooking) -> OtherType | None:
    """Return the other room type that a change of a booking asks for; None: the stay keeps its own.

    Raises:
        Problem: 422 for a plan without another room type.
    """
    if change.room_id is not None and change.room_id != booking.room_id:
        return OtherType(change.room_id, change.plan_id)
    if change.plan_id is not None:
        raise refused_field("plan_id", "counts only with the room_id of another room type: a stay keeps its plan")
    return None


def accept_other_type(facts: RoomFacts | None, booking: AgreedBooking) -> RoomFacts:
    """Return the facts of the other room. Raises `Problem` 404 if the booking's hotel has no such room."""
    if facts is None or facts.hotel_id != booking.hotel_id:
        raise Problem(404, "the hotel has no such room")
    return facts


def is_same_move(
    change: HeldChange, leg_sale: Sale | None, other: OtherType, people: Party | None, booking: AgreedBooking
) -> bool:
    """Return whether a change that is open or held is to this room type, plan and people, which are None if not named.

    `leg_sale` is what the other room holds; None while it has not answered, and of a room without sale terms.
    """
    if change.to_room_id != other.room_id:
        return False
    if leg_sale is None:
        return other.plan_id is None and people is None
    same_people = not leg_sale.party_binding if people is None else people == leg_sale.party
    return same_people and leg_sale.plan_id == (other.plan_for(booking.sale) or leg_sale.plan_id)


class MovePrice(ChangePrice):
    """The price of one change to another room type at one moment, by the guest of the booking or by its hotel.

    It takes what `ChangePrice` takes: the facts, the nights and the terms are those of the other room.
    """

    def __init__(self, other: OtherType, *depends_on: Any, **named: Any) -> None:
        super().__init__(*depends_on, **named)
        self._other = other
        self._terms = self._room.terms or NO_SALE_TERMS
        self._plan = self._terms.plan(other.plan_for(self._booking.sale))

    def priced(self) -> PricedChange:
        """Return the price of the change. Raises `Problem` 409, with the reason, if the change is not possible."""
        self.must_be_changeable()
        days = nights_of(self._wanted.check_in, self._wanted.check_out)
        nights = {night.night: night for night in self._room.nights}
        reason = self._rejection_of_booking() or (
            Rejection.NIGHT_NOT_OPEN if len(nights) < len(days) else self._rejection(nights)
        )
        if reason is not None:
            raise self._refused(reason)
        price = price_move(self._price([nights[day] for day in days]), self._replaced_stay())
        reason = Rejection.NO_SUCH_PLAN if price is None else self._rejection_of_price(price)
        if price is None or reason is not None:
            raise self._refused(reason or Rejection.NO_SUCH_PLAN)
        more_minor = price.amount_minor - self._booking.amount_minor
        kept_minor = costs_of_changes(price.sale) - costs_of_changes(self._booking.sale)
        return PricedChange(price, max(0, more_minor), max(0, -more_minor), kept_minor)

    def _rejection_of_booking(self) -> Rejection | None:
        return None if self._booking.terms is Terms.PREPAID else Rejection.NOT_PREPAID

    def _rejection(self, nights: Mapping[date, NightForSale]) -> Rejection | None:
        """Return the first reason, in the order of `Rejection`, why the other room does not sell the stay."""
        wanted, plan = self._wanted, self._plan
        if plan is None:
            return Rejection.NO_SUCH_PLAN
        party = party_of(self._present, wanted)
        reason = None if party is None else party_rejection(self._terms, party, wanted.rooms_count)
        if reason is None and any(night.closed for night in nights.values()):
            reason = Rejection.NIGHT_CLOSED
        if reason is None and self._has_sale():
            today = day_at(self._times.time_zone, self._now)
            reason = rules_rejection(plan, wanted.check_in, wanted.check_out, today)
        free = (night.free_count + self._held(day) for day, night in nights.items())
        if reason is None and any(free_count < wanted.rooms_count for free_count in free):
            reason = Rejection.SOLD_OUT
        held = (
            NightOfAccount(self._account_rooms.get(day, 0) - self._held(day), wanted.rooms_count, night.total_count)
            for day, night in nights.items()
        )
        if reason is None and exceeds_share(self._account_share_percent, held):
            reason = Rejection.ACCOUNT_SHARE
        return reason

    def _has_sale(self) -> bool:
        """Return whether sale terms count: not in a room without them, for a stay that names no plan and no people."""
        named = self._other.plan_for(self._booking.sale), party_of(self._present, self._wanted)
        return self._room.terms is not None or named != (None, None)

    def _price(self, nights: list[NightForSale]) -> PricedStay:
        wanted, currency, plan = self._wanted, nights[0].currency, self._plan
        prices_minor = [night.price_minor for night in nights]
        if not self._has_sale():
            amounts_minor = tuple(minor * wanted.rooms_count for minor in prices_minor)
            return PricedStay(currency, Terms.PREPAID, sum(amounts_minor), amounts_minor, None)
        assert plan is not None
        return price_stay(
            self._terms,
            plan,
            party_of(self._present, wanted),
            prices_minor,
            check_in=wanted.check_in,
            check_in_time=self._times.check_in_time,
            rooms_count=wanted.rooms_count,
            currency=currency,
        )

    def _replaced_stay(self) -> Moved:
        return moved_stay(self._present, self._kept_now_minor(), by_guest=self._by_guest)

    def _rejection_of_price(self, price: PricedStay) -> Rejection | None:
        booking = self._booking
        extra_minor = price.amount_minor - booking.amount_minor
        if not can_be_paid(price, in_trip=True):
            return Rejection.NOT_CHARGEABLE
        if price.terms is not Terms.PREPAID:
            return Rejection.NOT_PREPAID
        if price.currency != booking.currency or (extra_minor > 0 and not can_be_charged(extra_minor, price.currency)):
            return Rejection.NOT_CHARGEABLE
        return None

    def _held(self, day: date) -> int:
        """Return the rooms of a night that a change to this room type holds which this one would replace."""
        change = self._booking.held_change
        if change is None or change.is_open or change.to_room_id != self._other.room_id:
            return 0
        return change.stay.rooms_count if change.stay.check_in <= day < change.stay.check_out else 0

    def _refused(self, reason: Rejection) -> Problem:
        words = WORDS_OF_MOVES.get(reason)
        if words is not None and reason is not Rejection.NOT_CHARGEABLE:
            return refusal(reason, words=words)
        return rule_refusal(reason, self._plan, self._wanted.check_in, self._booking.currency, words=words)
