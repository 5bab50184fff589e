"""The way of a hotel's sale terms to its rooms: a command to each, with the version of the hotel's terms.

Every change of taxes, policies, plans or a room's capacity raises the version, in the transaction that reads what all
rooms are sold by. So for one room a version has one content: the worker takes the higher version, whichever process
sent it and in whatever order, and to send one again changes nothing. Only after a restore of the describing tables from
a backup that is older than the log may rooms have a higher version, or another content of the same one: the hotel's
version is raised above them.
"""

import asyncio
from collections.abc import Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.http.problems import Problem
from ingress.http.rollout import Rollout
from ingress.http.versions import etag
from ingress.log.commands import Commands
from pricing.terms import fault_of
from storage import hotels, offers
from storage.hotels import HotelRow, RoomRow
from storage.offers import HotelTerms, PlanRow
from storage.reads.terms import terms_of_hotel
from topics.messages.commands import SetSaleTerms
from topics.messages.events import InventoryUnchanged
from topics.messages.sale import NO_SALE_TERMS, SaleTerms
from topics.messages.values import InventoryRefusal


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
    ) -> tuple[HotelTerms, tuple[SetSaleTerms, ...]]:
        """Return the hotel's terms and the commands that bring them to all its rooms; the hotel's row is locked.

        The version of the terms is raised if a room would refuse them for those that it is sold by.

        Raises:
            Problem: 422 for a room that could not be sold by them.
        """
        rooms = await hotels.rooms_to_close(connection, hotel.id)
        plans = await offers.plans_of(connection, [room.id for room in rooms])
        in_force = await terms_of_hotel(connection, hotel.id)
        commands = _commands(hotel, terms, rooms, plans)
        for command in commands:
            _must_be_sellable(command, hotel.currency)
        if any(_is_refused(command.terms, in_force.get(command.room_id)) for command in commands):
            terms = await offers.raise_version(connection, hotel.id)
            commands = _commands(hotel, terms, rooms, plans)
        return terms, commands

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
        return (await self.commands(connection, hotel, terms))[1]

    async def send(self, commands: Sequence[SetSaleTerms], wait: float, version: int) -> list[int]:
        """Send the commands of a change that is stored, and wait for their decisions for so many seconds.

        Return the ids of rooms that refuse the terms, because they are sold by newer ones.

        Args:
            commands: the commands.
            wait: 0 returns as soon as the broker has the commands.
            version: the version of the row that the caller may insist on next, for a problem's `ETag`.

        Raises:
            Problem: 503, the broker did not take all commands; the same request sends them again.
        """
        sending = [self._commands.send_command(command, wait) for command in commands]
        refused: list[int] = []
        for answer in await asyncio.gather(*sending, return_exceptions=True):
            if isinstance(answer, Problem):
                raise _not_sent(version) from answer
            if isinstance(answer, BaseException):
                raise answer
            if isinstance(answer, InventoryUnchanged) and not _is_taken(answer):
                refused.append(answer.room_id)
        return refused


def _commands(
    hotel: HotelRow, terms: HotelTerms, rooms: Sequence[RoomRow], plans: Mapping[int, Sequence[PlanRow]]
) -> tuple[SetSaleTerms, ...]:
    return tuple(
        SetSaleTerms(room_id=room.id, hotel_id=hotel.id, terms=offers.sale_terms(terms, plans[room.id], room.capacity))
        for room in rooms
    )


def _is_refused(terms: SaleTerms, in_force: SaleTerms | None) -> bool:
    """Return whether a room that is sold by other terms refuses these."""
    return in_force is not None and in_force.version >= terms.version and in_force != terms


def _must_be_sellable(command: SetSaleTerms, currency: str) -> None:
    fault = fault_of(command.terms, currency)
    if fault is not None:
        raise Problem(422, f"room {command.room_id}: {fault}")


def _is_taken(event: InventoryUnchanged) -> bool:
    """Return whether a room that changes nothing is sold by the terms that were sent."""
    if event.reason is InventoryRefusal.TERMS_INVALID:
        raise TypeError(f"room {event.room_id} refuses sale terms that were valid here")
    return event.reason is not InventoryRefusal.NEWER_TERMS


def _not_sent(version: int) -> Problem:
    return Problem(
        503,
        "the change is stored, and the broker did not take it for all rooms: send the same request again, it goes on",
        headers={"Retry-After": "2", **etag(version)},
        more={"reason": "not_sent_yet"},
    )
