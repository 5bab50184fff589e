"""Asks the owner of a room: a command onto the log, and the event that answers it, if somebody waits for it."""

import asyncio
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from ingress.log.broker import Broker
from ingress.log.commands import Commands
from ingress.log.waiters import Waiters
from topics.messages.commands import (
    AddGuests,
    CancelBooking,
    ChangeInventory,
    Command,
    OpenInventory,
    RequestPayment,
    ReserveStay,
)
from topics.messages.events import (
    BookingCancelled,
    BookingConfirmed,
    BookingRejected,
    BookingReserved,
    CheckoutOpened,
    CommandRefused,
    CommandRepeated,
    GuestsAdded,
    InventoryChanged,
    InventoryOpened,
    InventoryUnchanged,
    PaymentDeclined,
)
from topics.messages.message import Message

_FOLLOW_WITHIN_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class _Answers:
    """Which events answer a command. `through_others`: by way of what payments does about it."""

    events: tuple[type[Message], ...]
    through_others: bool = False


_ANSWERS: Final[dict[type[Command], _Answers]] = {
    ReserveStay: _Answers((BookingReserved, BookingRejected, CommandRefused, CommandRepeated)),
    AddGuests: _Answers((GuestsAdded, CommandRefused, CommandRepeated)),
    RequestPayment: _Answers(
        (CheckoutOpened, PaymentDeclined, BookingConfirmed, CommandRefused, CommandRepeated), through_others=True
    ),
    CancelBooking: _Answers((BookingCancelled, CommandRefused, CommandRepeated)),
    OpenInventory: _Answers((InventoryOpened, InventoryUnchanged)),
    ChangeInventory: _Answers((InventoryChanged, InventoryUnchanged)),
}


class Owners:
    """The owners of all rooms, as far as HTTP is concerned: somewhere behind the log."""

    def __init__(self, commands: Commands, broker: Broker, waiters: Waiters) -> None:
        self._commands = commands
        self._broker = broker
        self._waiters = waiters

    async def ask(
        self, command: Command, command_id: str, request: web.Request, *, wait_seconds: float
    ) -> Message | None:
        """Send the command; return its answer if it is waited for (`wait_seconds` above 0) and comes in time.

        Raises:
            Problem: 503, the broker is away or did not acknowledge the command.
        """
        record = self._commands.record(command, command_id, request)
        if not wait_seconds:
            await self._broker.send(record)
            return None
        deadline = asyncio.get_running_loop().time() + wait_seconds
        answers = _ANSWERS[type(command)]
        with self._waiters.waiting(command_id, answers.events, through_others=answers.through_others) as event:
            await self._waiters.following(min(wait_seconds, _FOLLOW_WITHIN_SECONDS))
            await self._broker.send(record)
            try:
                async with asyncio.timeout_at(deadline):
                    return await event
            except TimeoutError:
                return None
