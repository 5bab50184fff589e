"""A history with every kind of booking, decided and put on a real log and into a real ledger, for tests of the auditor.

The log is written here by hand, and the tables in `decided_ledger`, so that a test can put anything wrong into either.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

import msgspec

from tests.operators.changed_stays import changes
from tests.operators.moves import moves
from tests.operators.trips import trips_of
from topics.catalogue import BOOKING_EVENTS
from topics.envelope import Envelope, Outgoing, encode_headers, encode_value
from topics.kafka.producer import open_producer
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import (
    AddGuests,
    BlockNights,
    BookingCommand,
    CancelBooking,
    ChangeGuests,
    ChangeInventory,
    CheckIn,
    CheckOut,
    ClaimCode,
    ClosePayment,
    CloseRefund,
    CodeCommand,
    Command,
    ConfirmPayment,
    DeclinePayment,
    ExpireHold,
    FailRefund,
    IssueDocument,
    MarkNoShow,
    OpenInventory,
    RecordDispute,
    RecordRefund,
    RecordSession,
    ReleaseBlock,
    RequestPayment,
    ReserveStay,
    ReturnCode,
    SetSaleTerms,
)
from topics.messages.events import CodeEvent, DocumentIssued, Event, HotelEvent, InventoryOpened
from topics.messages.sale import CancellationPolicy, Kept, PolicyStep, RatePlan, SaleTerms
from topics.messages.values import (
    BlockReason,
    CancelReason,
    DisputeResult,
    HotelReason,
    RefundClosing,
    StayTimes,
    Terms,
)
from topics.zones import ZONE_DATA_VERSION
from workers.coordination import codes, documents, trips
from workers.decisions import Block, Booking, Night, State, StayClock, decide, evolve
from workers.reservations.write_batch import WriteBatch

FIRST = date(2027, 2, 27)
LAST = FIRST + timedelta(days=6)
T0 = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)
HOLD_SECONDS = 86_400
PARTITIONS = 4
PRICE = 10_000

PAID, AT_HOTEL, REJECTED, EXPIRED, LATE, REFUNDED, CANCELLED, HELD, CLOSED, FREE = (
    UUID(int=number) for number in range(1, 11)
)
#: A booking of which every part of its payment left in another way, and one that ended after its first night.
DIVIDED, LEFT_EARLY = UUID(int=11), UUID(int=12)
#: Bookings of room 3 on terms of sale: checked in, left early, did not arrive, cancelled by the guest and by the hotel.
STAYING, LEFT, MISSED, GIVEN_BACK, WALKED = (UUID(int=number) for number in range(51, 56))
#: Blocks of room 3.
BLOCK, RELEASED_BLOCK = UUID(int=61), UUID(int=62)
STAY_TIMES = StayTimes(time_zone="Europe/Lisbon", check_in_time=time(15), check_out_time=time(11))


@dataclass(kw_only=True)
class LoggedEvent:
    """One event of the log, with its position and time."""

    partition: int
    sequence: int
    time: datetime
    event: Event
    id: str


@dataclass
class DecidedLog:
    """Rooms 1 to 4 of a hotel, each in a partition of its own, with their events so far.

    The hotel's promo codes and documents are in the partition of room 4. `rows` has those that the ledger should have.
    """

    events: list[LoggedEvent] = field(default_factory=list)
    nights: dict[tuple[int, date], Night] = field(default_factory=dict)
    bookings: dict[UUID, Booking] = field(default_factory=dict)
    blocks: dict[tuple[int, UUID], Block] = field(default_factory=dict)
    terms: dict[int, SaleTerms] = field(default_factory=dict)
    rows: WriteBatch = field(default_factory=lambda: WriteBatch({}))
    _now: datetime = T0
    _commands: int = 0

    def after(self, command: Command, *, seconds: float = 1, clock: StayClock | None = None) -> "DecidedLog":
        """Let time pass, and the command be decided; `clock` is the hotel's."""
        self._now += timedelta(seconds=seconds)
        self._commands += 1
        if isinstance(command, CodeCommand | IssueDocument):
            self._decide_with_rows(command)
            return self
        booking_id = command.booking_id if isinstance(command, BookingCommand) else None
        booking = None if booking_id is None else self.bookings.get(booking_id)
        if clock is not None and booking is not None and booking.sale is not None:
            # Changes leave fewer steps of a policy.
            clock = msgspec.structs.replace(clock, step_ends=clock.step_ends[-len(booking.sale.steps) :])
        block_id = command.block_id if isinstance(command, BlockNights | ReleaseBlock) else None
        state = msgspec.structs.replace(self._state(command.key, booking_id, block_id), clock=clock)
        decided: list[LoggedEvent] = []
        for index, event in enumerate(decide(state, command, self._now)):
            changed = evolve(self._state(command.key, booking_id, block_id), event)
            if changed.block is not None:
                self.blocks[command.key, changed.block.id] = changed.block
            if changed.sale_terms is not None:
                self.terms[command.key] = changed.sale_terms
            self.nights |= {(command.key, day): night for day, night in changed.nights.items()}
            if booking_id is not None and changed.booking is not None:
                self.bookings[booking_id] = changed.booking
            decided.append(self.append(event, id=f"command-{self._commands}:{index}"))
        self._follow(decided, clock)
        return self

    def _decide_with_rows(self, command: CodeCommand | IssueDocument) -> None:
        """Decide a command about a promo code or a document."""
        if isinstance(command, IssueDocument):
            state = self.rows.document_state(command.hotel_id, command.document_id, booking_id=command.booking_id)
        else:
            asked = command.asked if isinstance(command, ClaimCode) else None
            booking_id = UUID(int=0) if asked is None else asked.booking_id
            booking_id = command.booking_id if isinstance(command, ReturnCode) else booking_id
            state = self.rows.code_state((command.code_id, booking_id), None if asked is None else asked.user_id)
        decided = []
        for index, event in enumerate(decide(state, command, self._now)):
            state = self.rows.apply(state, event, self._now)
            decided.append(self.append(event, id=f"command-{self._commands}:{index}"))
        self._follow(decided)

    def _follow(self, decided: Sequence["LoggedEvent"], clock: StayClock | None = None) -> None:
        """Send the commands that follow from events to other keys, as coordination does, at the same time."""
        for logged in decided:
            booking_id = getattr(logged.event, "booking_id", None)
            booking = None if booking_id is None else self.bookings.get(booking_id)
            envelope = Envelope(
                id=logged.id, type=logged.event.message_type, source="", subject=logged.event.subject, time=logged.time
            )
            followed = (
                *codes.commands_for(logged.event, envelope, booking),
                *documents.commands_for(logged.event, envelope, booking),
                *trips.commands_for(logged.event, envelope, booking),
            )
            for _, command in followed:
                self.after(command, seconds=0, clock=clock)

    def issue_again(self) -> None:
        """Ask for the first document a second time."""
        fields = msgspec.structs.asdict(self.find(DocumentIssued).event)
        self.after(IssueDocument(**{name: value for name, value in fields.items() if name != "number"}))

    def append(self, event: Event, *, id: str = "forged:0", at: datetime | None = None) -> LoggedEvent:
        """Put an event at the end of the log without asking whether it may happen."""
        partition = 0 if isinstance(event, CodeEvent | HotelEvent) else event.key % PARTITIONS
        logged = LoggedEvent(
            partition=partition, sequence=self.last(partition) + 1, time=at or self._now, event=event, id=id
        )
        self.events.append(logged)
        return logged

    def last(self, partition: int) -> int:
        """Return the sequence of the last event of a partition."""
        return max((logged.sequence for logged in self.events if logged.partition == partition), default=0)

    def find(self, kind: type[Event], booking_id: UUID | None = None) -> LoggedEvent:
        """Return the first event of this kind, and of this booking if one is named."""
        return next(
            logged
            for logged in self.events
            if isinstance(logged.event, kind) and booking_id in {None, getattr(logged.event, "booking_id", None)}
        )

    def _state(self, room_id: int, booking_id: UUID | None, block_id: UUID | None = None) -> State:
        return State(
            None if booking_id is None else self.bookings.get(booking_id),
            {day: night for (room, day), night in self.nights.items() if room == room_id},
            sale_terms=self.terms.get(room_id),
            block=None if block_id is None else self.blocks.get((room_id, block_id)),
        )


def decided_log() -> DecidedLog:
    """Return a hotel where every kind of thing has happened to a booking; HELD is still waiting for its guest."""
    history = DecidedLog()
    for room in (1, 2):
        history.after(
            OpenInventory(
                room_id=room,
                hotel_id=1,
                first_night=FIRST,
                end_night=LAST,
                total_count=10,
                price_minor=PRICE,
                currency="EUR",
            )
        )
    history.after(ChangeInventory(room_id=2, first_night=FIRST, end_night=LAST, surge_milli=1500, total_count=9))
    for command in (*paid(PAID), *paid(LATE, late=True), *paid(REFUNDED)):
        history.after(command, seconds=HOLD_SECONDS if isinstance(command, ExpireHold) else 1)
    history.after(CancelBooking(room_id=1, booking_id=REFUNDED, user_id=7))
    history.after(
        RecordRefund(
            room_id=1, booking_id=REFUNDED, payment_intent=intent(REFUNDED), refund_id="re_1", amount_minor=2 * PRICE
        )
    )
    history.after(stay(AT_HOTEL, terms=Terms.AT_HOTEL))
    history.after(stay(REJECTED, rooms_count=8))
    history.after(stay(CANCELLED)).after(CancelBooking(room_id=1, booking_id=CANCELLED, user_id=7))
    history.after(stay(EXPIRED, hold_seconds=60)).after(ExpireHold(room_id=1, booking_id=EXPIRED), seconds=60)
    for command in (*asked(CLOSED, room_id=2), ClosePayment(room_id=2, booking_id=CLOSED, session_id=session(CLOSED))):
        history.after(command)
    history.after(ChangeInventory(room_id=2, first_night=FIRST, end_night=LAST, price_minor=0))
    for command in asked(FREE, room_id=2):
        history.after(command)
    for command in divided(DIVIDED):
        history.after(command)
    leave_early(history, LEFT_EARLY)
    for command in at_the_desk(FIRST):
        history.after(command, clock=desk_clock(command, FIRST))
    for command, clock in (
        *trips_of(FIRST, PRICE, HOLD_SECONDS),
        *moves(FIRST, PRICE, HOLD_SECONDS),
        *changes(FIRST, PRICE, HOLD_SECONDS),
    ):
        history.after(command, clock=clock, seconds=HOLD_SECONDS if isinstance(command, ExpireHold) else 1)
    history.issue_again()
    history.after(stay(HELD, room_id=2, rooms_count=2))
    history.after(CancelBooking(room_id=2, booking_id=HELD, user_id=8))
    return history


def stay(booking_id: UUID, **values: Any) -> ReserveStay:
    """Return a request for the first two nights of room 1."""
    return msgspec.structs.replace(
        ReserveStay(
            room_id=1,
            booking_id=booking_id,
            user_id=7,
            hotel_id=1,
            check_in=FIRST,
            check_out=FIRST + timedelta(days=2),
            hold_seconds=HOLD_SECONDS,
        ),
        **values,
    )


def asked(booking_id: UUID, *, room_id: int = 1) -> Sequence[Command]:
    """Return what leads to an open session."""
    return (
        stay(booking_id, room_id=room_id),
        AddGuests(room_id=room_id, booking_id=booking_id, user_id=7, guest_ids=(72, 71)),
        RequestPayment(room_id=room_id, booking_id=booking_id, user_id=7),
        RecordSession(room_id=room_id, booking_id=booking_id, attempt=1, session_id=session(booking_id)),
    )


def paid(booking_id: UUID, *, room_id: int = 1, late: bool = False) -> Iterable[Command]:
    """Return what leads to a paid stay, where a card was declined first."""
    yield from asked(booking_id, room_id=room_id)
    yield DeclinePayment(room_id=room_id, booking_id=booking_id, failure="card_declined")
    if late:
        yield ExpireHold(room_id=room_id, booking_id=booking_id)
    yield ConfirmPayment(
        room_id=room_id,
        booking_id=booking_id,
        session_id=session(booking_id),
        payment_intent=intent(booking_id),
        amount_minor=2 * PRICE,
        currency="EUR",
    )


def divided(booking_id: UUID) -> Iterable[Command]:
    """Return what leads to a payment of 200.00 that left in five ways, of a booking whose guests changed.

    30.00 went back by hand, the hotel cancels, the refund of the rest fails, 100.00 of it goes back by hand, and a
    lost dispute takes 50.00; an operator closes what is left of it.
    """
    booking: dict[str, Any] = {"room_id": 1, "booking_id": booking_id}
    payment: dict[str, Any] = booking | {"payment_intent": intent(booking_id)}
    yield stay(booking_id, stay_times=STAY_TIMES)
    yield AddGuests(**booking, user_id=7, guest_ids=(72, 71), guest_list_id=guest_list(booking_id, 1))
    yield RequestPayment(**booking, user_id=7)
    yield RecordSession(**booking, attempt=1, session_id=session(booking_id))
    yield ConfirmPayment(**payment, session_id=session(booking_id), amount_minor=2 * PRICE, currency="EUR")
    yield ChangeGuests(**booking, user_id=7, guest_ids=(73,), guest_list_id=guest_list(booking_id, 2))
    yield RecordRefund(**payment, refund_id="re_hand", amount_minor=3_000, by_hand=True)
    yield CancelBooking(**booking, reason=CancelReason.BY_HOTEL, hotel_reason=HotelReason.OVERBOOKED)
    yield RecordRefund(**payment, refund_id="re_rest", amount_minor=17_000)
    yield FailRefund(**payment, refund_id="re_rest", amount_minor=17_000, failure="expired_or_canceled_card")
    yield RecordRefund(**payment, refund_id="re_again", amount_minor=10_000, by_hand=True)
    dispute = payment | {"dispute_id": "dp_1", "amount_minor": 5_000, "reason": "fraudulent"}
    yield RecordDispute(**dispute)
    yield RecordDispute(**dispute, result=DisputeResult.LOST)
    yield CloseRefund(**payment, reason=RefundClosing.PAID_OTHERWISE)


def leave_early(history: DecidedLog, booking_id: UUID) -> None:
    """Let a stay of three nights end on the day after its first night, by the hotel."""
    first = FIRST + timedelta(days=3)
    history.after(stay(booking_id, check_in=first, check_out=LAST, terms=Terms.AT_HOTEL, stay_times=STAY_TIMES))
    midnight = datetime.combine(first, time(), UTC)
    clock = StayClock(
        check_in_at=midnight + timedelta(hours=15),
        check_out_at=midnight + timedelta(days=3, hours=11),
        today=first + timedelta(days=1),
    )
    history.after(CancelBooking(room_id=1, booking_id=booking_id, reason=CancelReason.BY_HOTEL), clock=clock)


def at_the_desk(today: date) -> Sequence[Command]:
    """Everything that a hotel does on the days of a stay, with its rooms and with its terms, in room 3."""
    room: dict[str, Any] = {"room_id": 3}
    nights = room | {"first_night": today - timedelta(days=1), "end_night": today + timedelta(days=5)}
    times = StayTimes(time_zone="UTC", check_in_time=time(), check_out_time=time(11))
    policy = CancellationPolicy(
        id="strict",
        steps=(PolicyStep(hours_before=24 * 365, kept=Kept(nights=1)),),
        no_show=Kept(percent=25),
        early_departure_percent=50,
    )
    terms = SaleTerms(version=3, plans=(RatePlan(id="standard", name="Standard", policy=policy),), capacity=2)
    block = BlockNights(**nights, block_id=RELEASED_BLOCK, rooms_count=2, reason=BlockReason.MAINTENANCE)

    def bought(id: UUID) -> Iterator[Command]:
        first = today + timedelta(days=id == GIVEN_BACK)
        for command in paid(id, room_id=3):
            if isinstance(command, ReserveStay):
                dates = {"check_in": first, "check_out": first + timedelta(days=2)}
                yield msgspec.structs.replace(command, **dates, stay_times=times)
            else:
                yield command

    def booking(id: UUID) -> dict[str, Any]:
        return room | {"booking_id": id}

    return (
        OpenInventory(**nights, hotel_id=1, total_count=5, price_minor=PRICE, currency="EUR"),
        SetSaleTerms(**room, hotel_id=1, terms=msgspec.structs.replace(terms, version=2, capacity=9)),
        SetSaleTerms(**room, hotel_id=1, terms=terms),
        ChangeInventory(**nights, allowance_count=2),
        block,
        ReleaseBlock(**room, block_id=block.block_id),
        msgspec.structs.replace(block, block_id=BLOCK, rooms_count=1),
        *(command for id in (STAYING, LEFT, MISSED, GIVEN_BACK, WALKED) for command in bought(id)),
        CheckIn(**booking(STAYING)),
        CheckIn(**booking(LEFT)),
        CheckOut(**booking(LEFT)),
        MarkNoShow(**booking(MISSED)),
        CancelBooking(**booking(GIVEN_BACK), user_id=7),
        CancelBooking(**booking(WALKED), reason=CancelReason.BY_HOTEL, hotel_reason=HotelReason.OVERBOOKED),
        RecordRefund(**booking(LEFT), payment_intent=intent(LEFT), refund_id="re_left", amount_minor=PRICE),
    )


def desk_clock(command: Command, today: date) -> StayClock | None:
    """Return the hotel's clock at the command: it is the stay's first day, but the guest gives it back before."""
    if not isinstance(command, CheckIn | CheckOut | MarkNoShow | CancelBooking):
        return None
    early = command.booking_id == GIVEN_BACK
    return StayClock(
        check_in_at=T0 + timedelta(days=10 if early else -1),
        check_out_at=T0 + timedelta(days=20),
        today=today,
        step_ends=(T0 - timedelta(days=1), None),
        zone_data=ZONE_DATA_VERSION,
    )


def session(booking_id: UUID) -> str:
    """Return the id of a booking's Checkout Session."""
    return f"cs_{booking_id.int}"


def guest_list(booking_id: UUID, number: int) -> UUID:
    """Return the id of a booking's first or second list of guests."""
    return UUID(int=1_000 * booking_id.int + number)


def intent(booking_id: UUID) -> str:
    """Return the id of a booking's payment."""
    return f"pi_{booking_id.int}"


# The real log.


def record(kafka: KafkaSettings, logged: LoggedEvent) -> Outgoing:
    """Return an event's record."""
    subject = logged.event.subject
    envelope = Envelope(
        id=logged.id,
        type=logged.event.message_type,
        source="innkeeper/reservations",
        subject=subject,
        time=logged.time,
        causation=logged.id.rpartition(":")[0],
        sequence=logged.sequence,
    )
    return Outgoing(
        kafka.topic(BOOKING_EVENTS),
        b"%d" % logged.event.key,
        encode_value(logged.event),
        encode_headers(envelope),
        partition=logged.partition,
    )


async def publish(kafka: KafkaSettings, records: Iterable[Outgoing]) -> None:
    """Put records onto the log."""
    async with open_producer(kafka, client_id="decided-log") as producer:
        await producer.send_all(list(records))


def nights_on_sale(room_id: int, total_count: int, first: date = FIRST, end: date = LAST) -> InventoryOpened:
    """Return the event that opens nights."""
    return InventoryOpened(
        room_id=room_id,
        hotel_id=1,
        first_night=first,
        end_night=end,
        total_count=total_count,
        price_minor=PRICE,
        currency="EUR",
    )
