"""Stays that were not reserved, as problems: the reason, and the facts with which a guest can mend it."""

from datetime import date
from typing import Final, Protocol
from uuid import UUID

from ingress.bookings.representation import refusal
from ingress.bookings.rooms import Rooms
from ingress.database import Database
from ingress.http.problems import Problem
from pricing.charges import is_chargeable, limits_in_words
from storage.reads.unpaid import NightsHeld, nights_held_unpaid
from topics.messages.values import BookingStatus, Rejection

#: An account may hold so many rooms of a night unpaid, however small its share of the night is.
_ROOMS_ALWAYS_ALLOWED: Final = 2


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


class Rejections:
    """Makes the problems of stays that were not reserved."""

    def __init__(self, database: Database, rooms: Rooms, *, account_share_percent: int | None) -> None:
        """Make it; `account_share_percent` is the percentage of a night's rooms that an account may hold unpaid."""
        self._database = database
        self._rooms = rooms
        self._account_share_percent = account_share_percent

    async def problem(self, reason: str, booking_id: UUID, user_id: int, stay: Stay) -> Problem:
        """Return the problem of a rejected stay of this account: 409 with the reason.

        A stay whose amount cannot be charged gets the limits of its currency in words. One for which too few rooms are
        free to the account gets the account's own unpaid bookings of these nights, which may be forgotten in a closed
        tab of a browser.
        """
        problem = refusal(reason, id=booking_id, booking_status=BookingStatus.REJECTED)
        if reason == Rejection.NOT_CHARGEABLE:
            await self._explain_charge(problem, stay)
        elif reason in (Rejection.ACCOUNT_SHARE, Rejection.SOLD_OUT):
            async with self._database.reading() as connection:
                held = await nights_held_unpaid(connection, user_id, stay.room_id, stay.check_in, stay.check_out)
            self._explain_held(problem, reason, held)
        return problem

    async def _explain_charge(self, problem: Problem, stay: Stay) -> None:
        facts = await self._rooms.facts(stay.room_id)
        if facts is None:
            return
        words = limits_in_words(facts.currency)
        if is_chargeable(facts.currency):
            problem.detail += f"; the amount of a stay {words}"
        else:
            problem.detail = f"refused: {words}"

    def _explain_held(self, problem: Problem, reason: str, held: NightsHeld) -> None:
        if reason == Rejection.SOLD_OUT and held.bookings:
            problem.detail += (
                "; this account itself holds rooms of these nights without paying: pay for its bookings, cancel them, "
                "or let them end"
            )
        if reason == Rejection.ACCOUNT_SHARE and held.fewest_rooms is not None and self._account_share_percent:
            allowed = max(_ROOMS_ALWAYS_ALLOWED, held.fewest_rooms * self._account_share_percent // 100)
            problem.detail += f"; it may hold {allowed} rooms of a night unpaid"
        if held.bookings:
            problem.more = {**problem.more, "unpaid_bookings": held.bookings}
