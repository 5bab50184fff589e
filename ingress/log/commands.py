"""Sends commands to the log, and returns the event that answers a command if its request waits for it."""

import asyncio
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

from ingress.http.actors import actor
from ingress.http.deadlines import current, suspended, was_cancelled_by
from ingress.http.problems import client_gone, unanswered, unavailable
from ingress.http.rollout import Rollout
from ingress.http.tracing import traceparent
from ingress.log.broker import Broker
from ingress.log.waiters import Waiters
from telemetry.ids import about_record, request_id
from topics.catalogue import BOOKING_COMMANDS
from topics.envelope import Outgoing, command_record
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import (
    AddGuests,
    BlockNights,
    CancelBooking,
    ChangeGuests,
    ChangeInventory,
    ChangeStay,
    CheckIn,
    CheckOut,
    ClaimCode,
    Command,
    MarkNoShow,
    OpenInventory,
    ReleaseBlock,
    RequestPayment,
    ReserveStay,
    ReserveTrip,
    SetCode,
    SetSaleTerms,
    WithdrawChange,
)
from topics.messages.events import (
    BlockReleased,
    BookingCancelled,
    BookingConfirmed,
    BookingEvent,
    BookingRejected,
    BookingReserved,
    ChangeEnded,
    ChangeRejected,
    CheckoutOpened,
    CodeChanged,
    CodeUnchanged,
    CommandRefused,
    CommandRepeated,
    GuestsAdded,
    GuestsChanged,
    GuestsCheckedIn,
    GuestsCheckedOut,
    GuestsDidNotArrive,
    InventoryChanged,
    InventoryOpened,
    InventoryUnchanged,
    NightsBlocked,
    PaymentDeclined,
    SaleTermsChanged,
    StayChanged,
    TripCancelRequested,
    TripRejected,
    TripReserved,
)
from topics.messages.message import Message
from topics.messages.values import ChangeEnd

SOURCE: Final = "innkeeper/ingress"
_FOLLOW_WITHIN_SECONDS: Final = 2.0
#: A request may choose its own id; only one of this form goes into a command and its events.
_PUBLIC_REQUEST_ID: Final = re.compile(r"[0-9A-Za-z._:-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Answers:
    """The events that answer a command. `through_others`: they follow from commands that other roles send about it."""

    events: tuple[type[Message], ...]
    through_others: bool = False


_ANSWERS: Final[dict[type[Command], Answers]] = {
    ReserveStay: Answers((BookingReserved, BookingRejected, CommandRefused, CommandRepeated)),
    ReserveTrip: Answers((TripReserved, TripRejected, CommandRefused, CommandRepeated), through_others=True),
    ClaimCode: Answers(
        (BookingReserved, BookingRejected, CodeUnchanged, CommandRefused, CommandRepeated), through_others=True
    ),
    AddGuests: Answers((GuestsAdded, CommandRefused, CommandRepeated)),
    RequestPayment: Answers(
        (CheckoutOpened, PaymentDeclined, BookingConfirmed, StayChanged, CommandRefused, CommandRepeated),
        through_others=True,
    ),
    # A dearer change is answered by the page at which it is paid, which payments opens.
    ChangeStay: Answers(
        (StayChanged, CheckoutOpened, PaymentDeclined, ChangeRejected, ChangeEnded, CommandRefused, CommandRepeated),
        through_others=True,
    ),
    WithdrawChange: Answers((ChangeEnded, CommandRefused, CommandRepeated)),
    ChangeGuests: Answers((GuestsChanged, CommandRefused, CommandRepeated)),
    CancelBooking: Answers((BookingCancelled, TripCancelRequested, CommandRefused, CommandRepeated)),
    CheckIn: Answers((GuestsCheckedIn, CommandRefused, CommandRepeated)),
    CheckOut: Answers((GuestsCheckedOut, CommandRefused, CommandRepeated)),
    MarkNoShow: Answers((GuestsDidNotArrive, CommandRefused, CommandRepeated)),
    OpenInventory: Answers((InventoryOpened, InventoryUnchanged)),
    ChangeInventory: Answers((InventoryChanged, InventoryUnchanged)),
    SetSaleTerms: Answers((SaleTermsChanged, InventoryUnchanged)),
    SetCode: Answers((CodeChanged, CodeUnchanged)),
    BlockNights: Answers((NightsBlocked, InventoryUnchanged)),
    ReleaseBlock: Answers((BlockReleased, InventoryUnchanged)),
}
#: The legs of a trip are reserved and rejected by commands about the claim, too: they do not answer it.
_ANSWERS_TO_CLAIM_OF_TRIP: Final = Answers(
    (TripReserved, TripRejected, CodeUnchanged, CommandRefused, CommandRepeated), through_others=True
)


def answers_to(command: Command) -> Answers:
    """Return the events that answer a command."""
    is_of_trip = isinstance(command, ClaimCode) and command.trip is not None
    return _ANSWERS_TO_CLAIM_OF_TRIP if is_of_trip else _ANSWERS[type(command)]


def is_answer(command: Command, event: Message) -> bool:
    """Return whether an event of a kind that answers a command answers it.

    A change leads to events about others, too: the change that it replaces ends, and a leg of that one in another room
    is released. The end of a change that the other room rejects is followed by the reason.
    """
    if not isinstance(command, ChangeStay):
        return True
    if isinstance(event, ChangeEnded):
        return event.change_id == command.change_id and event.reason is not ChangeEnd.NOT_POSSIBLE
    return isinstance(event, BookingEvent) and event.booking_id == command.booking_id


class Commands:
    """Sends commands to the log; the worker that a room's partition is assigned to decides them."""

    def __init__(self, settings: KafkaSettings, broker: Broker, waiters: Waiters, rollout: Rollout) -> None:
        self._topic = settings.topic(BOOKING_COMMANDS)
        self._rollout = rollout
        self._broker = broker
        self._waiters = waiters

    async def send_command(self, command: Command, wait: float, *, command_id: str | None = None) -> Message | None:
        """Send the command, in the trace of the request at hand; return the event that answers it.

        Args:
            command: the command.
            wait: for how many seconds to wait for the event; 0 returns None as soon as the broker has the command.
            command_id: the command's id; a new one by default.

        Returns:
            The event, None when it is not waited for or does not come in time.

        Raises:
            Problem: 503, the broker is away or did not acknowledge the command, or workers of an older release run
                that cannot decide it; 499, the client hung up before the command was sent.
        """
        self._rollout.must_be_decidable(command)
        if command_id is None:
            command_id = new_command_id()
        record = command_record(
            self._topic,
            command,
            id=command_id,
            source=SOURCE,
            time=datetime.now(UTC),
            traceparent=traceparent(),
            actor=actor(),
            request_id=_public_request_id(),
        )
        about_record(record.headers)
        if not wait:
            await self._send(record)
            return None
        wait_until = asyncio.get_running_loop().time() + wait
        answers = answers_to(command)
        with self._waiters.register(
            command_id,
            answers.events,
            through_others=answers.through_others,
            is_answer=partial(is_answer, command),
        ) as event:
            await self._follow(min(wait, _FOLLOW_WITHIN_SECONDS))
            await self._send(record)
            try:
                with suspended():
                    async with asyncio.timeout_at(wait_until):
                        return await event
            except TimeoutError:
                return None

    async def _follow(self, within_seconds: float) -> None:
        try:
            await self._waiters.until_following(within_seconds)
        except asyncio.CancelledError:
            if was_cancelled_by(current()):
                raise unavailable("the broker") from None
            raise

    async def _send(self, record: Outgoing) -> None:
        """Send the record of a command, unless nobody waits for the response any more.

        Raises:
            Problem: 499, the client has hung up; 503 as `Broker.send`, and when the request's time is over.
        """
        deadline = current()
        if deadline is None:
            await self._broker.send(record)
            return
        if deadline.client_is_gone:
            raise client_gone()
        deadline.sending += 1
        try:
            await self._broker.send(record)
        except asyncio.CancelledError:
            if was_cancelled_by(deadline):
                # The record is the producer's now, which sends it or drops it by its own limit.
                raise unanswered("the broker", retry_after_seconds=2) from None
            raise
        finally:
            deadline.sending -= 1
        deadline.has_done = True


def _public_request_id() -> str | None:
    """Return the id of the request at hand for the envelope; None for a client's own id that may be any text.

    Events keep it for ever and may be read by others, so text that could be personal data is left out.
    """
    id = request_id()
    return id if id is not None and _PUBLIC_REQUEST_ID.fullmatch(id) else None


def new_command_id() -> str:
    """Return an id that no other command has."""
    return secrets.token_hex(16)
