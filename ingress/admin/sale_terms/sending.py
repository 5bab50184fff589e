"""The way of a hotel's sale terms to its rooms: a command to each, with the version of the hotel's terms.

Every change of taxes, policies, plans or a room's capacity raises the version, in the transaction that reads what all
rooms are sold by. So for one room a version has one content: the worker takes the higher version, whichever process
sent it and in whatever order, and to send one again changes nothing.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.http.problems import Problem
from ingress.http.rollout import Rollout
from ingress.http.versions import etag
from ingress.log.commands import Commands
from pricing.terms import fault_of
from storage import hotels, offers
from storage.hotels import HotelRow
from storage.offers import HotelTerms
from topics.envelope import encode_value
from topics.messages.commands import SetSaleTerms
from topics.messages.events import InventoryUnchanged
from topics.messages.message import Message
from topics.messages.sale import NO_SALE_TERMS
from topics.messages.values import InventoryRefusal

#: A command is one record of the log, and so is the event that answers it.
MAX_TERMS_BYTES: Final = 512 * 1024


class SaleTermsSender:
    """Sends the sale terms of hotels to their rooms."""

    def __init__(self, commands: Commands, rollout: Rollout) -> None:
        self._commands = commands
        self._rollout = rollout

    def must_be_decidable(self, hotel_id: int) -> None:
        """Check that all workers that run know sale terms. Raises `Problem` 503 during a rollout."""
        self._rollout.must_be_decidable(SetSaleTerms(room_id=0, hotel_id=hotel_id, terms=NO_SALE_TERMS))

    async def commands(
        self, connection: AsyncConnection, hotel: HotelRow, terms: HotelTerms
    ) -> tuple[SetSaleTerms, ...]:
        """Return the commands that bring the hotel's terms to all its rooms; the hotel's row is locked.

        Raises:
            Problem: 422 for a room that could not be sold by them.
        """
        rooms = await hotels.rooms_to_close(connection, hotel.id)
        plans = await offers.plans_of(connection, [room.id for room in rooms])
        commands = tuple(
            SetSaleTerms(
                room_id=room.id,
                hotel_id=hotel.id,
                terms=offers.sale_terms(terms, plans[room.id], room.capacity),
            )
            for room in rooms
        )
        for command in commands:
            _must_be_sellable(command, hotel.currency)
        return commands

    async def commands_after_change(
        self, connection: AsyncConnection, hotel: HotelRow, *, changed: bool
    ) -> tuple[SetSaleTerms, ...]:
        """Return the commands that follow from a new room or a room's capacity; none if the hotel has no sale terms.

        The hotel's row is locked. Without a change the present version is sent again.

        Raises:
            Problem: 503 during a rollout; as `commands`.
        """
        terms = await offers.hotel_terms(connection, hotel.id)
        if not terms.version:
            return ()
        self.must_be_decidable(hotel.id)
        if changed:
            terms = await offers.raise_version(connection, hotel.id)
        return await self.commands(connection, hotel, terms)

    async def send(self, commands: Sequence[SetSaleTerms], wait: float, version: int) -> None:
        """Send the commands of a change that is stored, and wait for their decisions for so many seconds.

        Args:
            commands: the commands.
            wait: 0 returns as soon as the broker has the commands.
            version: the version of the row that the caller may insist on next, for a problem's `ETag`.

        Raises:
            Problem: 503, the broker did not take all commands; the same request sends them again.
        """
        sending = [self._commands.send_command(command, wait) for command in commands]
        for answer in await asyncio.gather(*sending, return_exceptions=True):
            if isinstance(answer, Problem):
                raise _not_sent(version) from answer
            if isinstance(answer, BaseException):
                raise answer
            _must_be_taken(answer)


def _must_be_sellable(command: SetSaleTerms, currency: str) -> None:
    fault = fault_of(command.terms, currency)
    if fault is None and len(encode_value(command)) > MAX_TERMS_BYTES:
        fault = f"its plans, taxes and policies together have more than {MAX_TERMS_BYTES // 1024} KB: use fewer rules"
    if fault is not None:
        raise Problem(422, f"room {command.room_id}: {fault}")


def _must_be_taken(event: Message | None) -> None:
    """Check the answer of a room; terms that are newer than those that were sent are no failure."""
    if isinstance(event, InventoryUnchanged) and event.reason is InventoryRefusal.TERMS_INVALID:
        raise TypeError(f"room {event.room_id} refuses sale terms that were valid here")


def _not_sent(version: int) -> Problem:
    return Problem(
        503,
        "the change is stored, and the broker did not take it for all rooms: send the same request again, it goes on",
        headers={"Retry-After": "2", **etag(version)},
        more={"reason": "not_sent_yet"},
    )
