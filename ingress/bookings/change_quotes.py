"""The price of a change before it is asked for, as the room's worker would decide it now.

`pricing.changes.price_change` computes it here and in the decision. Booking, nights and sale terms are read from the
primary, because money is charged or refunded by them later.
"""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from ingress.bookings.change_models import ChangeQuoteOut
from ingress.bookings.rejections import rule_refusal
from ingress.bookings.representation import refusal, refusal_words
from ingress.offers import offer_out
from ingress.tokens import ChangeQuote
from pricing.account_share import NightOfAccount, exceeds_share
from pricing.changes import (
    PricedChange,
    WantedStay,
    code_counts,
    is_changed_too_often,
    party_of,
    plan_of,
    plan_of_rules,
    price_change,
)
from pricing.currencies import decimal
from pricing.policy import step_in_force
from pricing.sale import PricedStay, party_rejection, rules_rejection, standard_terms
from storage.reads.bookings import AgreedBooking, NightForSale, RoomFacts, RoomForSale
from topics.messages.events import StayBefore
from topics.messages.sale import QuotedChange
from topics.messages.values import (
    BookingStatus,
    Refusal,
    Rejection,
    Terms,
    nights_of,
)
from topics.zones import day_at, instant


class ChangePrice:
    """The price of one change of a booking at one moment, by its guest or by its hotel."""

    def __init__(
        self,
        booking: AgreedBooking,
        wanted: WantedStay,
        facts: RoomFacts,
        room: RoomForSale,
        now: datetime,
        *,
        account_share_percent: int | None,
        account_rooms: Mapping[date, int],
        by_guest: bool,
    ) -> None:
        """Take what the decision depends on.

        Args:
            booking: the booking.
            wanted: the stay that is asked for.
            facts: the room's.
            room: the nights of the wanted stay, with the room's terms.
            now: the moment.
            account_share_percent: the percentage of a night's rooms that an account may hold unpaid; None: any number.
            account_rooms: the rooms that the account holds unpaid already, by night of the wanted stay.
            by_guest: the guest asks for the change, not the hotel.
        """
        self._by_guest = by_guest
        self._account_share_percent = account_share_percent
        self._account_rooms = account_rooms
        self._booking = booking
        self._wanted = wanted
        self._facts = facts
        self._room = room
        self._now = now
        self._times = booking.stay_times or facts.stay_times
        self._present = _present_stay(booking)
        self._plan = plan_of(self._present, room.terms)
        self._own_nights = frozenset(nights_of(booking.check_in, booking.check_out))

    def priced(self) -> PricedChange:
        """Return the price of the change. Raises `Problem` 409, with the reason, if the change is not possible."""
        booking = self._booking
        if booking.status == BookingStatus.CONFIRMED and self._is_as_it_is():
            return PricedChange(_present_price(booking), 0, 0, 0)
        self.must_be_changeable()
        nights = {night.night: night for night in self._room.nights}
        if not code_counts(self._present, self._wanted):
            raise refusal(Rejection.CODE_NOT_VALID)
        days = nights_of(self._wanted.check_in, self._wanted.check_out)
        reason = Rejection.NIGHT_NOT_OPEN if len(nights) < len(days) else self._rejection(nights)
        if reason is not None:
            plan = plan_of_rules(self._present, self._room.terms, is_more=True)
            raise rule_refusal(reason, plan, self._wanted.check_in, booking.currency)
        change = self._priced([nights[day] for day in days])
        if self._exceeds_share(change, nights):
            raise rule_refusal(Rejection.ACCOUNT_SHARE, self._plan, self._wanted.check_in, booking.currency)
        is_in_its_currency = all(nights[day].currency == booking.currency for day in self._more_rooms(nights))
        if not (is_in_its_currency and change.can_be_paid):
            raise rule_refusal(Rejection.NOT_CHARGEABLE, self._plan, self._wanted.check_in, booking.currency)
        return change

    def must_be_changeable(self) -> None:
        """Check that the booking can be changed now. Raises `Problem` 409."""
        booking = self._booking
        refused = self._refusal() if booking.status == BookingStatus.CONFIRMED else Refusal.WRONG_STATUS
        if refused is not None:
            words = refusal_words(refused, for_hotel=not self._by_guest)
            raise refusal(refused, words=words, id=booking.id, booking_status=booking.status)

    def _refusal(self) -> Refusal | None:
        """Return the first reason, in the order of `Refusal`, why the booking cannot be changed now."""
        booking, times = self._booking, self._times
        if self._now >= instant(booking.check_out, times.check_out_time, times.time_zone):
            return Refusal.STAY_OVER
        has_begun = self._by_guest and self._now >= instant(booking.check_in, times.check_in_time, times.time_zone)
        if has_begun or day_at(times.time_zone, self._now) > min(booking.check_in, self._wanted.check_in):
            return Refusal.CHECK_IN_PASSED
        is_too_often = is_changed_too_often(len(booking.earlier_stays), booking.payment_attempt)
        return Refusal.TOO_MANY_CHANGES if is_too_often else None

    def _is_as_it_is(self) -> bool:
        booking, wanted = self._booking, self._wanted
        same_people = wanted.party is None or (booking.sale is not None and wanted.party == booking.sale.party)
        stay = (booking.check_in, booking.check_out, booking.rooms_count)
        return same_people and stay == (wanted.check_in, wanted.check_out, wanted.rooms_count)

    def _rejection(self, nights: Mapping[date, NightForSale]) -> Rejection | None:
        """Return the first reason, in the order of `Rejection`, why the stay cannot be sold."""
        wanted, plan = self._wanted, self._plan
        if self._booking.sale is not None and plan is None:
            return Rejection.NO_SUCH_PLAN
        party = party_of(self._present, wanted)
        terms = self._room.terms or standard_terms(self._facts.capacity)
        reason = None if party is None else party_rejection(terms, party, wanted.rooms_count)
        more = self._more_rooms(nights)
        if reason is None and any(nights[day].closed for day in more):
            reason = Rejection.NIGHT_CLOSED
        ruling = plan_of_rules(self._present, self._room.terms, is_more=bool(more))
        if reason is None and ruling is not None:
            today = day_at(self._times.time_zone, self._now)
            reason = rules_rejection(ruling, wanted.check_in, wanted.check_out, today)
        if reason is None and any(nights[day].free_count + self._held(day) < rooms for day, rooms in more.items()):
            reason = Rejection.SOLD_OUT
        return reason

    def _more_rooms(self, nights: Mapping[date, NightForSale]) -> dict[date, int]:
        """Return the rooms that the stay needs beside the booking's own, by night; nights of none are absent."""
        own = self._booking.rooms_count
        more = {day: self._wanted.rooms_count - (own if day in self._own_nights else 0) for day in nights}
        return {day: rooms for day, rooms in more.items() if rooms > 0}

    def _held(self, day: date) -> int:
        """Return the rooms of a night that a change holds which this one would replace."""
        change = self._booking.held_change
        held = () if change is None else change.held
        return sum(each.rooms_count for each in held if each.first_night <= day < each.end_night)

    def _priced(self, nights: list[NightForSale]) -> PricedChange:
        booking = self._booking
        return price_change(
            self._present,
            self._wanted,
            [night.price_minor for night in nights],
            currency=booking.currency,
            payment=booking.terms,
            terms=self._room.terms,
            check_in_time=self._times.check_in_time,
            kept_now_minor=self._kept_now_minor(),
            by_guest=self._by_guest,
        )

    def _kept_now_minor(self) -> int:
        """Return what a cancellation would cost now."""
        sale = self._booking.sale
        if sale is None:
            return 0
        ends = [
            None if step.until is None else instant(step.until.date(), step.until.time(), self._times.time_zone)
            for step in sale.steps
        ]
        step, _ = step_in_force(sale.steps, ends, self._now)
        return step.kept_minor

    def _exceeds_share(self, change: PricedChange, nights: Mapping[date, NightForSale]) -> bool:
        """Return whether the account would hold more than its share of a night unpaid."""
        if not change.stays_unpaid:
            return False
        more = (
            NightOfAccount(self._account_rooms.get(day, 0) - self._held(day), rooms, nights[day].total_count)
            for day, rooms in self._more_rooms(nights).items()
        )
        return exceeds_share(self._account_share_percent, more)

    def quote(self, change: PricedChange, good_until: datetime) -> ChangeQuote:
        """Return the quote of a price of this change, which counts until `good_until`."""
        booking, wanted, price = self._booking, self._wanted, change.price
        return ChangeQuote(
            user_id=booking.user_id if self._by_guest else None,
            hotel_id=booking.hotel_id,
            booking_id=booking.id,
            check_in=wanted.check_in,
            check_out=wanted.check_out,
            rooms_count=wanted.rooms_count,
            party=wanted.party,
            quoted=QuotedChange(
                good_until=good_until,
                earlier_count=len(booking.earlier_stays),
                terms=booking.terms,
                currency=booking.currency,
                amount_minor=price.amount_minor,
                night_amounts_minor=price.night_amounts_minor,
                sale=price.sale,
            ),
        )

    def shown(self, change: PricedChange, **named: Any) -> ChangeQuoteOut:
        """Return a price of this change as its quote shows it, with these fields besides."""
        booking, wanted, price = self._booking, self._wanted, change.price
        prepaid = booking.terms is Terms.PREPAID
        fields: dict[str, Any] = {
            "id": booking.id,
            "check_in_date": wanted.check_in,
            "check_out_date": wanted.check_out,
            "rooms_count": wanted.rooms_count,
            "currency": booking.currency,
            "amount_before": decimal(booking.amount_minor, booking.currency),
            "amount": decimal(price.amount_minor, booking.currency),
            "extra": decimal(change.extra_minor if prepaid else 0, booking.currency),
            "goes_back": decimal(change.back_minor if prepaid else 0, booking.currency),
            "kept": decimal(change.kept_minor, booking.currency),
            **named,
        }
        if price.sale is not None:
            fields["sale"] = offer_out(price, check_in=wanted.check_in, stay_times=self._times, now=self._now)
        return ChangeQuoteOut(**fields)


def _present_stay(booking: AgreedBooking) -> StayBefore:
    return StayBefore(
        check_in=booking.check_in,
        check_out=booking.check_out,
        rooms_count=booking.rooms_count,
        amount_minor=booking.amount_minor,
        night_amounts_minor=tuple(booking.night_amounts_minor or ()),
        sale=booking.sale,
    )


def _present_price(booking: AgreedBooking) -> PricedStay:
    amounts_minor = tuple(booking.night_amounts_minor or ())
    return PricedStay(booking.currency, booking.terms, booking.amount_minor, amounts_minor, booking.sale)
