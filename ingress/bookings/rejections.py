"""Stays that were not reserved and changes that were rejected, as problems: the reason, and facts to mend it with."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Final, NamedTuple, Protocol
from uuid import UUID

from ingress.bookings.representation import refusal
from ingress.bookings.rooms import Rooms
from ingress.database import Database
from ingress.http.problems import Problem
from pricing.account_share import rooms_allowed
from pricing.charges import is_chargeable, limits_in_words
from storage.reads.terms import terms_of_room
from storage.reads.unpaid import NightsHeld, nights_held_unpaid
from topics.messages.sale import ArrivalRule, RatePlan
from topics.messages.values import BookingStatus, Rejection

_RULES: Final = (Rejection.MIN_STAY, Rejection.MAX_STAY, Rejection.ADVANCE_PURCHASE)


class Stay(Protocol):
    """A stay that was asked for: a row of the ledger or an event."""

    @property
    def room_id(self) -> int:
        """The room type."""
        ...

    @property
    def check_in(self) -> date:
        """The first night."""
        ...

    @property
    def check_out(self) -> date:
        """The day after the last night."""
        ...


class RequestedStay(NamedTuple):
    """A stay that was asked for."""

    room_id: int
    check_in: date
    check_out: date


class Rejections:
    """Makes the problems of stays that were not reserved, and of changes that were rejected."""

    def __init__(self, database: Database, rooms: Rooms, *, account_share_percent: int | None) -> None:
        """Make it; `account_share_percent` is the percentage of a night's rooms that an account may hold unpaid."""
        self._database = database
        self._rooms = rooms
        self._account_share_percent = account_share_percent

    async def problem(
        self,
        reason: str,
        booking_id: UUID,
        user_id: int | None,
        stay: Stay,
        plan_id: str | None = None,
        *,
        booking_status: str = BookingStatus.REJECTED,
        words: str | None = None,
    ) -> Problem:
        """Return the problem of a rejected stay of this account (None: a manager asked): 409 with the reason.

        A stay that a rule of the rate plan `plan_id` (None: the standard plan) excludes gets the rule. One whose amount
        cannot be charged gets the limits of its currency. One for which too few rooms are free to the account gets the
        account's own unpaid bookings of these nights, which may be forgotten in a closed tab of a browser. `words` take
        the place of the reason's own.
        """
        problem = refusal(reason, words=words, id=booking_id, booking_status=booking_status)
        if reason == Rejection.NOT_CHARGEABLE:
            await self._explain_charge(problem, stay)
        elif user_id is not None and reason in (Rejection.ACCOUNT_SHARE, Rejection.SOLD_OUT):
            async with self._database.reading() as connection:
                held = await nights_held_unpaid(connection, user_id, stay.room_id, stay.check_in, stay.check_out)
            # The other legs of a rejected trip are being released.
            self._explain_held(
                problem, reason, replace(held, bookings=[id for id in held.bookings if id != booking_id])
            )
        elif reason in _RULES:
            async with self._database.reading() as connection:
                terms = await terms_of_room(connection, stay.room_id)
            plan = None if terms is None else terms.plan(plan_id)
            if plan is not None:
                _explain_rule(problem, reason, plan, stay.check_in)
        return problem

    async def _explain_charge(self, problem: Problem, stay: Stay) -> None:
        facts = await self._rooms.facts(stay.room_id)
        if facts is not None:
            _explain_limits(problem, facts.currency)

    def _explain_held(self, problem: Problem, reason: str, held: NightsHeld) -> None:
        if reason == Rejection.SOLD_OUT and held.bookings:
            problem.detail += (
                "; this account itself holds rooms of these nights without paying: pay for its bookings, cancel them, "
                "or let them end; bookings that are paid at the hotel can only be cancelled"
            )
        if reason == Rejection.ACCOUNT_SHARE and held.fewest_rooms is not None and self._account_share_percent:
            allowed = rooms_allowed(held.fewest_rooms, self._account_share_percent)
            problem.detail += f"; it may hold {allowed} rooms of a night unpaid"
        if held.bookings:
            problem.more = {**problem.more, "unpaid_bookings": held.bookings}


def rule_refusal(
    reason: Rejection, plan: RatePlan | None, check_in: date, currency: str, *, words: str | None = None
) -> Problem:
    """Return the problem of a stay that a rate plan cannot be sold for: 409 with the reason, and the rule in words.

    `plan` is None for a booking without sale terms. `words` take the place of the reason's own.
    """
    problem = refusal(reason, words=words)
    if reason is Rejection.NOT_CHARGEABLE:
        _explain_limits(problem, currency)
    elif reason in _RULES and plan is not None:
        _explain_rule(problem, reason, plan, check_in)
    return problem


def _explain_limits(problem: Problem, currency: str) -> None:
    words = limits_in_words(currency)
    if is_chargeable(currency):
        problem.detail += f"; one payment {words}"
    else:
        problem.detail = f"refused: {words}"


def _explain_rule(problem: Problem, reason: str, plan: RatePlan, check_in: date) -> None:
    """Name the number of nights or days of the plan's strictest rule for this arrival."""
    rules = [rule for rule in plan.rules if rule.first_day <= check_in < rule.end_day]
    words = _rule_in_words(reason, rules)
    if words is not None:
        problem.detail += f": {words}"


def _rule_in_words(reason: str, rules: Sequence[ArrivalRule]) -> str | None:
    if reason == Rejection.MIN_STAY and (least := [rule.min_nights for rule in rules if rule.min_nights is not None]):
        return f"{max(least)} nights at least"
    if reason == Rejection.MAX_STAY and (most := [rule.max_nights for rule in rules if rule.max_nights is not None]):
        return f"{min(most)} nights at most"
    if reason == Rejection.ADVANCE_PURCHASE and (
        ahead := [rule.advance_days for rule in rules if rule.advance_days is not None]
    ):
        return f"{max(ahead)} days at least"
    return None
