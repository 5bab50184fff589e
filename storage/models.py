"""Every table of the database and its purpose. Migrations are made from these models, and tests compare the two.

The ledger is `inventory`, `room_sale_terms`, `room_block`, `booking`, `booking_guest`, `promo_code`, `promo_code_use`
and `hotel_document`. Only the worker that the partition of the room, the code or the hotel is assigned to writes it.
It has no foreign keys to the describing tables (hotel, room, app_user), so that it can be rebuilt from the log without
them. Money is integers in minor units; surge is in thousandths; times are UTC; dates are hotel-local.
"""

from datetime import date, datetime, time
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    CheckConstraint,
    Date,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Text,
    Time,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from storage.predicates import UNPAID
from topics.messages.values import BookingStatus


class Table(DeclarativeBase):
    """The base of all tables; it maps Python types to PostgreSQL's."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text,
        int: BigInteger,
        bytes: LargeBinary,
        datetime: DateTime(timezone=True),
        date: Date,
        time: Time(),
        float: Double,
        list[str]: ARRAY(Text),
        dict[str, Any]: JSONB,
    }


def created() -> Mapped[datetime]:
    """Return a column with the time at which its row was made."""
    return mapped_column(server_default=func.now())


def counted() -> Mapped[int]:
    """Return a column that counts a row's changes, for its `ETag`."""
    return mapped_column(Integer, server_default=text("1"))


# Describing data: ordinary transactions of the ingress.


class AppUser(Table):
    """An account. E-mail addresses are unique whatever their case."""

    __tablename__ = "app_user"
    __table_args__ = (
        Index("app_user_email", text("lower(email)"), unique=True),
        CheckConstraint("gender in ('MALE', 'FEMALE')", name="gender"),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    email: Mapped[str]
    password_hash: Mapped[str]
    name: Mapped[str | None]
    date_of_birth: Mapped[date | None]
    gender: Mapped[str | None]
    roles: Mapped[list[str]] = mapped_column(server_default=text("'{GUEST}'"))
    version: Mapped[int] = counted()
    created_at: Mapped[datetime] = created()


class RefreshToken(Table):
    """One token of a family that began with a login. A used token stays, so that its second use is noticed.

    Only hashes are stored. `salt` is set with `used_at`: from it the same next token is made again after a lost answer.
    A revoked family is deleted.
    """

    __tablename__ = "refresh_token"

    token_hash: Mapped[bytes] = mapped_column(primary_key=True)
    family: Mapped[UUID] = mapped_column(index=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("app_user.id"), index=True)
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    salt: Mapped[bytes | None]
    created_at: Mapped[datetime] = created()


class Guest(Table):
    """A person whom an account can name as staying."""

    __tablename__ = "guest"
    __table_args__ = (
        CheckConstraint("gender in ('MALE', 'FEMALE')", name="gender"),
        CheckConstraint("age between 0 and 150", name="age"),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("app_user.id"), index=True)
    name: Mapped[str]
    gender: Mapped[str | None]
    age: Mapped[int | None] = mapped_column(Integer)
    created_at: Mapped[datetime] = created()


class Hotel(Table):
    """A hotel as it describes itself. Its prices are in one currency, its nights in its own time zone (IANA)."""

    __tablename__ = "hotel"
    __table_args__ = (
        CheckConstraint("stars between 1 and 5", name="stars"),
        CheckConstraint("latitude between -90 and 90", name="latitude"),
        CheckConstraint("longitude between -180 and 180", name="longitude"),
        CheckConstraint("on_full_refund in ('cancel', 'keep')", name="on_full_refund"),
        Index("hotel_updated", "updated_at"),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("app_user.id"), index=True)
    name: Mapped[str]
    city: Mapped[str] = mapped_column(index=True)
    currency: Mapped[str]
    active: Mapped[bool] = mapped_column(server_default=text("false"))
    photos: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    amenities: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    contact_phone: Mapped[str | None]
    contact_email: Mapped[str | None]
    contact_address: Mapped[str | None]
    legal_name: Mapped[str | None]
    tax_id: Mapped[str | None]
    stars: Mapped[int | None] = mapped_column(Integer)
    latitude: Mapped[float | None]
    longitude: Mapped[float | None]
    time_zone: Mapped[str] = mapped_column(server_default=text("'UTC'"))
    check_in_time: Mapped[time] = mapped_column(server_default=text("'15:00'"))
    check_out_time: Mapped[time] = mapped_column(server_default=text("'11:00'"))
    on_full_refund: Mapped[str] = mapped_column(server_default=text("'cancel'"))
    version: Mapped[int] = counted()
    deleted_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = created()
    updated_at: Mapped[datetime] = created()


class Room(Table):
    """The description of a room type of a hotel; its nights on sale are in `inventory`.

    `opening`: its first nights are being put on sale; until then the room is hidden.
    """

    __tablename__ = "room"
    __table_args__ = (Index("room_updated", "updated_at"),)

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    hotel_id: Mapped[int] = mapped_column(ForeignKey("hotel.id"), index=True)
    type: Mapped[str]
    base_price_minor: Mapped[int]
    total_count: Mapped[int] = mapped_column(Integer)
    capacity: Mapped[int] = mapped_column(Integer)
    photos: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    amenities: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    opening: Mapped[bool] = mapped_column(server_default=text("false"))
    version: Mapped[int] = counted()
    deleted_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = created()
    updated_at: Mapped[datetime] = created()


class HotelSaleTerms(Table):
    """A hotel's taxes and cancellation policies, which count for all its rooms: lists of `topics.messages.sale`.

    `version` grows with every change, also of a rate plan; the rooms get it with their sale terms.
    """

    __tablename__ = "hotel_sale_terms"

    hotel_id: Mapped[int] = mapped_column(ForeignKey("hotel.id"), primary_key=True, autoincrement=False)
    version: Mapped[int] = mapped_column(server_default=text("1"))
    taxes: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default=text("'[]'"))
    policies: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default=text("'[]'"))
    infant_max_age: Mapped[int | None] = mapped_column(Integer)
    updated_at: Mapped[datetime] = created()


class RatePlan(Table):
    """A rate plan of a room: `definition` is a `RatePlan` of `topics.messages.sale`, its policy by the policy's id."""

    __tablename__ = "rate_plan"

    room_id: Mapped[int] = mapped_column(ForeignKey("room.id"), primary_key=True, autoincrement=False)
    id: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(Integer)
    policy_id: Mapped[str | None]
    definition: Mapped[dict[str, Any]] = mapped_column(JSONB)


class PromoCodeName(Table):
    """The id of each hotel's promo code; two codes of a hotel differ by more than case."""

    __tablename__ = "promo_code_name"
    __table_args__ = (Index("promo_code_name_code", "hotel_id", text("lower(code)"), unique=True),)

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    hotel_id: Mapped[int] = mapped_column(ForeignKey("hotel.id"))
    code: Mapped[str]
    version: Mapped[int] = mapped_column(server_default=text("1"))
    created_at: Mapped[datetime] = created()


class DeskBooking(Table):
    """The contact of guests without an account, for whom a manager made a booking."""

    __tablename__ = "desk_booking"

    booking_id: Mapped[UUID] = mapped_column(primary_key=True)
    hotel_id: Mapped[int] = mapped_column(ForeignKey("hotel.id"), index=True)
    manager_id: Mapped[int]
    contact_name: Mapped[str]
    contact_email: Mapped[str | None]
    contact_phone: Mapped[str | None]
    created_at: Mapped[datetime] = created()


class IdempotencyKey(Table):
    """The command of a client's Idempotency-Key; written before the command is produced."""

    __tablename__ = "idempotency_key"

    user_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    endpoint: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    body_hash: Mapped[bytes]
    command_id: Mapped[str]
    booking_id: Mapped[UUID]
    created_at: Mapped[datetime] = created()


# The ledger: written only by the worker that the room's partition is assigned to.


class Inventory(Table):
    """One night of a room. The checks are the last line of defence; the decisions keep to them already."""

    __tablename__ = "inventory"
    __table_args__ = (
        CheckConstraint("booked_count >= 0", name="booked"),
        CheckConstraint("reserved_count >= 0", name="reserved"),
        CheckConstraint(
            "booked_count + reserved_count + blocked_count <= total_count + allowance_count", name="never_oversold"
        ),
        CheckConstraint("allowance_count >= 0 and blocked_count >= 0", name="allowed_and_blocked"),
        CheckConstraint("price_minor >= 0 and surge_milli > 0", name="price"),
        Index("inventory_date", "date"),
        {"postgresql_with": {"fillfactor": "50"}},
    )

    room_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    night: Mapped[date] = mapped_column("date", primary_key=True)
    hotel_id: Mapped[int]
    total_count: Mapped[int] = mapped_column(Integer)
    booked_count: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    reserved_count: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    price_minor: Mapped[int]
    surge_milli: Mapped[int] = mapped_column(Integer, server_default=text("1000"))
    closed: Mapped[bool] = mapped_column(server_default=text("false"))
    currency: Mapped[str]
    allowance_count: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    blocked_count: Mapped[int] = mapped_column(Integer, server_default=text("0"))


class RoomSaleTerms(Table):
    """The sale terms of a room that are in force: `terms` is a `SaleTerms` of `topics.messages.sale`."""

    __tablename__ = "room_sale_terms"
    __table_args__ = (Index("room_sale_terms_updated", "updated_at"),)

    room_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[int]
    terms: Mapped[dict[str, Any]] = mapped_column(JSONB)
    updated_at: Mapped[datetime] = created()


class RoomBlock(Table):
    """Rooms that a hotel took off sale; a released block keeps its row.

    The id is one of the room's: the worker of another partition must not be asked whether another room has it.
    """

    __tablename__ = "room_block"
    __table_args__ = (Index("room_block_room", "room_id", "end_night"),)

    room_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    first_night: Mapped[date]
    end_night: Mapped[date]
    rooms_count: Mapped[int] = mapped_column(Integer)
    reason: Mapped[str]
    released: Mapped[bool]


class Booking(Table):
    """One booking, a rejected one too. `version` counts its events; `payments` lists the payments that arrived.

    `stay_times` and `sale` are `json`, which PostgreSQL stores as it is written: each new booking has them, nothing
    searches them, and to parse them for `jsonb` takes a seventh of a booking's time in the database (ADR 0035).
    """

    __tablename__ = "booking"
    __table_args__ = (
        CheckConstraint(
            "status in ({})".format(
                ", ".join(f"'{status}'" for status in BookingStatus if status is not BookingStatus.PENDING)
            ),
            name="status",
        ),
        Index("booking_user", "user_id", "created_at", "id"),
        Index("booking_room_stay", "room_id", "check_in"),
        Index("booking_unpaid", "user_id", "room_id", postgresql_where=text(UNPAID)),
        Index(
            "booking_hold",
            "status",
            "hold_expires_at",
            postgresql_where=text("hold_expires_at is not null"),
        ),
        {"postgresql_with": {"fillfactor": "80"}},
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[int | None]
    hotel_id: Mapped[int]
    room_id: Mapped[int]
    check_in: Mapped[date]
    check_out: Mapped[date]
    rooms_count: Mapped[int] = mapped_column(Integer)
    status: Mapped[str]
    terms: Mapped[str]
    amount_minor: Mapped[int]
    currency: Mapped[str]
    rejection: Mapped[str | None]
    hold_expires_at: Mapped[datetime | None]
    payment_attempt: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    session_id: Mapped[str | None]
    payments: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB)
    failure: Mapped[str | None]
    cancel_reason: Mapped[str | None]
    guest_list_id: Mapped[UUID | None]
    earlier_guest_list_ids: Mapped[list[str] | None] = mapped_column(JSONB)
    night_amounts_minor: Mapped[list[int] | None] = mapped_column(ARRAY(BigInteger))
    stay_times: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    freed_from: Mapped[date | None]
    sale: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    policy: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    pending_change: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    earlier_stays: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB)
    ended_change_ids: Mapped[list[str] | None] = mapped_column(JSONB)
    accepted_terms: Mapped[str | None]
    legs: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB)
    trip_id: Mapped[UUID | None]
    trip_room_id: Mapped[int | None]
    request_hash: Mapped[str | None]
    version: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class PromoCode(Table):
    """The terms of a promo code that are in force (`CodeTerms` of `topics.messages.sale`), and its uses."""

    __tablename__ = "promo_code"
    __table_args__ = (CheckConstraint("used_count >= 0", name="used"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    hotel_id: Mapped[int] = mapped_column(index=True)
    version: Mapped[int]
    terms: Mapped[dict[str, Any]] = mapped_column(JSONB)
    used_count: Mapped[int] = mapped_column(Integer)


class PromoCodeUse(Table):
    """The use of a promo code by a booking; `returned`: it was given back, and does not count."""

    __tablename__ = "promo_code_use"
    __table_args__ = (Index("promo_code_use_account", "code_id", "user_id"),)

    code_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    booking_id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[int | None]
    returned: Mapped[bool]


class HotelDocument(Table):
    """An invoice or a credit note of a hotel. The numbers of a kind have no gaps.

    `credited_minor` is the sum of an invoice's credit notes, or of a credit note what invoices took back; `lines` are
    `PriceLine`s of `topics.messages.sale`. `booking_version` is the version of the booking whose money it follows.
    """

    __tablename__ = "hotel_document"
    __table_args__ = (
        CheckConstraint("kind in ('invoice', 'credit_note')", name="kind"),
        CheckConstraint("credited_minor between 0 and amount_minor", name="credited"),
        Index("hotel_document_number", "hotel_id", "kind", "number", unique=True),
        Index("hotel_document_booking", "booking_id"),
        Index("hotel_document_issued", "hotel_id", "issued_at", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    hotel_id: Mapped[int]
    kind: Mapped[str]
    number: Mapped[int]
    reason: Mapped[str]
    booking_id: Mapped[UUID]
    amount_minor: Mapped[int]
    currency: Mapped[str]
    lines: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    corrects_id: Mapped[UUID | None]
    credited_minor: Mapped[int]
    booking_version: Mapped[int]
    issued_at: Mapped[datetime]


class BookingGuest(Table):
    """A guest of a booking."""

    __tablename__ = "booking_guest"

    booking_id: Mapped[UUID] = mapped_column(primary_key=True)
    guest_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class GuestList(Table):
    """The guests of a booking as they were when they were named: rows never change; an erasure would blank `guests`."""

    __tablename__ = "guest_list"
    __table_args__ = (Index("guest_list_booking", "booking_id"), Index("guest_list_user", "user_id"))

    id: Mapped[UUID] = mapped_column(primary_key=True)
    booking_id: Mapped[UUID]
    user_id: Mapped[int]
    guests: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB)
    created_at: Mapped[datetime] = created()
    erased_at: Mapped[datetime | None]


# Positions of the consumers.


class TopicGeneration(Table):
    """One generation of a topic: its name, the broker's id, and a number that grows when the topic is created again."""

    __tablename__ = "topic_generation"
    __table_args__ = (Index("topic_generation_topic", "topic", "id"),)

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    topic: Mapped[str]
    broker_id: Mapped[str]
    created_at: Mapped[datetime] = created()


class LogCursor(Table):
    """A consumer's position in a partition; the process that holds the row's lock is the partition's only writer."""

    __tablename__ = "log_cursor"
    __table_args__ = ({"postgresql_with": {"fillfactor": "20"}},)

    consumer: Mapped[str] = mapped_column(primary_key=True)
    topic: Mapped[str] = mapped_column(primary_key=True)
    partition: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    generation: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    applied: Mapped[int] = mapped_column(server_default=text("-1"))
    published: Mapped[int] = mapped_column(server_default=text("-1"))
    sequence: Mapped[int] = mapped_column(server_default=text("0"))
    last_time: Mapped[datetime | None]
    last_hash: Mapped[bytes | None]


class Outbox(Table):
    """The exact records that a batch of commands led to, until the broker has acknowledged them."""

    __tablename__ = "outbox"

    consumer: Mapped[str] = mapped_column(primary_key=True)
    topic: Mapped[str] = mapped_column(primary_key=True)
    partition: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    generation: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    last_offset: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    records: Mapped[bytes]
    created_at: Mapped[datetime] = created()


class DeadLetter(Table):
    """A record that could not be read, counted so that a bad deploy stops before it dead-letters the whole log.

    Expiry deletes those that are older than `DEAD_LETTERS_KEPT_DAYS`, and their ends.
    """

    __tablename__ = "dead_letter"

    consumer: Mapped[str] = mapped_column(primary_key=True)
    topic: Mapped[str] = mapped_column(primary_key=True)
    partition: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    generation: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    offset: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    reason: Mapped[str]
    created_at: Mapped[datetime] = created()


# Operators: their actions and settings.


class OperatorAction(Table):
    """An operator's action. `target` is the object of the action, as written on the command line."""

    __tablename__ = "operator_action"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    at: Mapped[datetime] = created()
    who: Mapped[str]
    action: Mapped[str]
    target: Mapped[str]
    details: Mapped[dict[str, Any]]


class DeadLetterEnd(Table):
    """The end of a dead letter; `done_at` None: it was begun, and interrupted before it was known to be done."""

    __tablename__ = "dead_letter_end"
    __table_args__ = (CheckConstraint("ended in ('replayed', 'discarded')", name="ended"),)

    topic_id: Mapped[str] = mapped_column(primary_key=True)
    partition: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    offset: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    ended: Mapped[str]
    who: Mapped[str]
    began_at: Mapped[datetime] = created()
    done_at: Mapped[datetime | None]
    note: Mapped[str | None]


class PausedRole(Table):
    """A paused role: its processes apply nothing until an operator resumes it."""

    __tablename__ = "paused_role"

    role: Mapped[str] = mapped_column(primary_key=True)
    who: Mapped[str]
    at: Mapped[datetime] = created()
    reason: Mapped[str | None]


class StripePosition(Table):
    """How far reconciliation has read Stripe's list of events, in Stripe's time: one row."""

    __tablename__ = "stripe_position"
    __table_args__ = (CheckConstraint("id", name="one_row"),)

    id: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    events_until: Mapped[datetime]
    saved_at: Mapped[datetime] = created()


# Payments: pending calls to Stripe, one row a call, with its exact parameters.


class CheckoutSession(Table):
    """The Checkout Session of one payment attempt. `next_attempt_at` set: a call to Stripe is due then.

    `actor` is the operator whose reconciliation made it due, until the room's command is sent.
    """

    __tablename__ = "checkout_session"
    __table_args__ = (
        Index("checkout_session_session", "session_id", unique=True),
        Index("checkout_session_due", "next_attempt_at", postgresql_where=text("next_attempt_at is not null")),
        Index("checkout_session_payment", "payment_intent", postgresql_where=text("payment_intent is not null")),
        CheckConstraint("status in ('creating', 'open', 'closing', 'complete', 'expired', 'failed')", name="status"),
    )

    booking_id: Mapped[UUID] = mapped_column(primary_key=True)
    attempt: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    room_id: Mapped[int]
    status: Mapped[str]
    params: Mapped[dict[str, Any]]
    idempotency_key: Mapped[str]
    session_id: Mapped[str | None]
    url: Mapped[str | None]
    payment_intent: Mapped[str | None]
    expires_at: Mapped[datetime]
    causation: Mapped[str]
    correlation: Mapped[str]
    actor: Mapped[str | None]
    failures: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    last_error: Mapped[str | None]
    next_attempt_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = created()
    updated_at: Mapped[datetime] = created()


class Refund(Table):
    """The money of one payment that must go back. `next_attempt_at` set: a call to Stripe is due then.

    `amount_minor` is the sum that all refunds of the payment must reach; each refund at Stripe is a `PaymentRefund`.
    `refund_id` is the newest of them that we made. `actor` is as in `CheckoutSession`. `failures` counts the calls
    without success since the last success, `refusals` only those that Stripe refused, and our refunds that failed.
    """

    __tablename__ = "refund"
    __table_args__ = (
        Index("refund_due", "next_attempt_at", postgresql_where=text("next_attempt_at is not null")),
        Index("refund_booking", "booking_id"),
        Index("refund_unfinished", "status", postgresql_where=text("status in ('creating', 'pending', 'failed')")),
        CheckConstraint("status in ('creating', 'pending', 'succeeded', 'failed', 'closed')", name="status"),
    )

    payment_intent: Mapped[str] = mapped_column(primary_key=True)
    booking_id: Mapped[UUID]
    room_id: Mapped[int]
    status: Mapped[str]
    params: Mapped[dict[str, Any]]
    idempotency_key: Mapped[str]
    amount_minor: Mapped[int]
    currency: Mapped[str]
    reason: Mapped[str]
    refund_id: Mapped[str | None]
    causation: Mapped[str]
    correlation: Mapped[str]
    actor: Mapped[str | None]
    failures: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    refusals: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    last_error: Mapped[str | None]
    next_attempt_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = created()
    updated_at: Mapped[datetime] = created()


class PaymentRefund(Table):
    """A refund at Stripe of a payment of ours, by whomever it was made; amounts in minor units."""

    __tablename__ = "payment_refund"
    __table_args__ = (
        Index("payment_refund_payment", "payment_intent"),
        Index("payment_refund_booking", "booking_id"),
        Index("payment_refund_pending", "created_at", postgresql_where=text("status = 'pending'")),
        CheckConstraint("status in ('pending', 'succeeded', 'failed')", name="status"),
    )

    refund_id: Mapped[str] = mapped_column(primary_key=True)
    payment_intent: Mapped[str]
    booking_id: Mapped[UUID]
    amount_minor: Mapped[int]
    currency: Mapped[str]
    status: Mapped[str]
    by_hand: Mapped[bool] = mapped_column(server_default=text("false"))
    failure: Mapped[str | None]
    created_at: Mapped[datetime] = created()
    updated_at: Mapped[datetime] = created()


class UnattributedObject(Table):
    """A refund by hand or a dispute that was reported before the payment of its session was known; kept for a week.

    `fields` are those that payments reads. `state` is the object's status at Stripe: each has a row of its own.
    """

    __tablename__ = "unattributed_object"
    __table_args__ = (
        Index("unattributed_object_payment", "payment_intent"),
        CheckConstraint("kind in ('refund', 'dispute')", name="kind"),
    )

    object_id: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    payment_intent: Mapped[str]
    fields: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = created()


class StripeCircuit(Table):
    """The circuit of a payments worker to Stripe, as the worker wrote it at `seen_at`; it is in no backup.

    `since` is the time at which it opened, and `reason` why; both are null while it is closed.
    """

    __tablename__ = "stripe_circuit"
    __table_args__ = (
        CheckConstraint("state in ('closed', 'open', 'half_open')", name="state"),
        CheckConstraint("(state = 'closed') = (since is null) and (since is null) = (reason is null)", name="since"),
    )

    worker: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str]
    since: Mapped[datetime | None]
    reason: Mapped[str | None]
    seen_at: Mapped[datetime] = created()


class PaymentDispute(Table):
    """A dispute at Stripe of a payment of ours; amounts in minor units."""

    __tablename__ = "payment_dispute"
    __table_args__ = (
        Index("payment_dispute_payment", "payment_intent"),
        Index("payment_dispute_booking", "booking_id"),
        CheckConstraint("status in ('open', 'won', 'lost')", name="status"),
    )

    dispute_id: Mapped[str] = mapped_column(primary_key=True)
    payment_intent: Mapped[str]
    booking_id: Mapped[UUID]
    amount_minor: Mapped[int]
    currency: Mapped[str]
    status: Mapped[str]
    reason: Mapped[str]
    created_at: Mapped[datetime] = created()
    updated_at: Mapped[datetime] = created()


class Installation(Table):
    """The id of this installation, in the mark of its objects at Stripe; one row, on the list for backups."""

    __tablename__ = "installation"

    id: Mapped[UUID] = mapped_column(primary_key=True)


# Read models: disposable, rebuilt from the log.


class BookingTimeline(Table):
    """A booking's whole history, one row an event.

    `topic`, `partition` and `offset` are the event's position; those of the causation are its command's. An event has
    no causation position where its writer was older. `sequence` is the event's in its partition: nearly all events of
    a booking are in the partition of its room, and a request that was refused for another room is in that room's.

    A database of 0.1.0 has its key without the partition, which rows from before 0.1.0 lack, until a rebuild of it.
    """

    __tablename__ = "booking_timeline"

    booking_id: Mapped[UUID] = mapped_column(primary_key=True)
    partition: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    event_id: Mapped[str]
    type: Mapped[str]
    time: Mapped[datetime]
    causation: Mapped[str | None]
    event: Mapped[dict[str, Any]]
    topic: Mapped[str | None]
    offset: Mapped[int | None]
    causation_topic: Mapped[str | None]
    causation_partition: Mapped[int | None] = mapped_column(Integer)
    causation_offset: Mapped[int | None]


class RoomNight(Table):
    """One night of a room as of the events: its price, and the number of rooms that are taken (held or booked).

    `taken_count` changes all the time and has no index, so that it is updated in place.
    """

    __tablename__ = "room_night"
    __table_args__ = (
        Index("room_night_hotel", "hotel_id", "date"),
        {"postgresql_with": {"fillfactor": "70"}},
    )

    room_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    night: Mapped[date] = mapped_column("date", primary_key=True)
    hotel_id: Mapped[int]
    total_count: Mapped[int] = mapped_column(Integer)
    taken_count: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    price_minor: Mapped[int]
    surge_milli: Mapped[int] = mapped_column(Integer)
    closed: Mapped[bool]
    currency: Mapped[str]
    allowance_count: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    blocked_count: Mapped[int] = mapped_column(Integer, server_default=text("0"))


class RoomNightChange(Table):
    """An event that changed nights of a room, all of them in [first_night, end_night).

    `position` is the event's sequence in its partition: a search index reads those nights again that changed after its
    position in each partition. Those of the newest positions alone stay (`storage.projections.night_changes`).
    """

    __tablename__ = "room_night_change"

    partition: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    room_id: Mapped[int]
    first_night: Mapped[date]
    end_night: Mapped[date]


class HotelMinPrice(Table):
    """The lowest price of a night among a hotel's rooms that are open for sale; no row when none is."""

    __tablename__ = "hotel_min_price"

    hotel_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    night: Mapped[date] = mapped_column("date", primary_key=True)
    min_price_minor: Mapped[int]
    currency: Mapped[str]


class ReportedStay(Table):
    """A confirmed booking that `daily_report` counts; deleted when it is cancelled and the hotel keeps nothing of it.

    Without `night_amounts_minor` its amount is spread evenly over its nights, the remainder over the first of them.
    `kept_minor` and `freed_from`: it ended early, the hotel keeps so much of the amount at most, and the nights from
    this one on are on sale again. `payment_intent` paid the booking when it was confirmed; `payments` has the amounts
    of all payments that pay it, by payment intent, once its stay was changed. `deductions` is the money that left again
    of them: an amount for the id of each refund and of each lost dispute. `night_deductions_minor` is the part of each
    night's amount that does not count; the other part of the freed ones is a fee. `refunds` are the deductions that
    this product made, and `closings` the refunds that an operator closed, by the id of the event: a trip that the
    booking becomes needs them.
    """

    __tablename__ = "reported_stay"
    __table_args__ = (
        # Reports count the bookings without amounts by night; newer ones are not in the index.
        Index("reported_stay_estimated", "hotel_id", "check_in", postgresql_where=text("night_amounts_minor is null")),
    )

    booking_id: Mapped[UUID] = mapped_column(primary_key=True)
    hotel_id: Mapped[int]
    check_in: Mapped[date]
    check_out: Mapped[date]
    rooms_count: Mapped[int] = mapped_column(Integer)
    amount_minor: Mapped[int]
    currency: Mapped[str]
    night_amounts_minor: Mapped[list[int] | None] = mapped_column(ARRAY(BigInteger))
    payment_intent: Mapped[str | None]
    payments: Mapped[dict[str, int] | None] = mapped_column(JSONB)
    deductions: Mapped[dict[str, int] | None] = mapped_column(JSONB)
    night_deductions_minor: Mapped[list[int] | None] = mapped_column(ARRAY(BigInteger))
    kept_minor: Mapped[int | None]
    freed_from: Mapped[date | None]
    refunds: Mapped[dict[str, int] | None] = mapped_column(JSONB)
    closings: Mapped[dict[str, int] | None] = mapped_column(JSONB)


class ReportedTrip(Table):
    """The money of a paid trip that `daily_report` divides among its legs, which are rows of `reported_stay`.

    Each object has amounts by id: `leg_ends` what is kept of each leg that ended early, `refunds` those that this
    product made, `deductions` refunds by hand and lost disputes, `closings` refunds that an operator closed, by the id
    of the event. A trip or a leg that is confirmed makes the row. A booking that moved to another room type is a trip
    from then on; it has the amounts of all its `payments` in place of `payment_intent`.
    """

    __tablename__ = "reported_trip"

    trip_id: Mapped[UUID] = mapped_column(primary_key=True)
    payment_intent: Mapped[str | None]
    payments: Mapped[dict[str, int] | None] = mapped_column(JSONB)
    leg_ends: Mapped[dict[str, int] | None] = mapped_column(JSONB)
    refunds: Mapped[dict[str, int] | None] = mapped_column(JSONB)
    deductions: Mapped[dict[str, int] | None] = mapped_column(JSONB)
    closings: Mapped[dict[str, int] | None] = mapped_column(JSONB)


class DailyReport(Table):
    """The sales of a hotel for one night, confirmed bookings only.

    `arrivals` and `staying` count bookings (that begin with this night, that have this night), `nights` rooms.
    `revenue_minor` is net of the money that left again. `fees_minor` is kept of stays that ended early: cancelled, not
    arrived at, or left before their last night; it counts for the first night that was on sale again.
    """

    __tablename__ = "daily_report"

    hotel_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    night: Mapped[date] = mapped_column("date", primary_key=True)
    arrivals: Mapped[int] = mapped_column(Integer)
    staying: Mapped[int] = mapped_column(Integer)
    nights: Mapped[int] = mapped_column(Integer)
    revenue_minor: Mapped[int]
    currency: Mapped[str]
    fees_minor: Mapped[int] = mapped_column(server_default=text("0"))


class MoneyMovement(Table):
    """A movement of money: a payment that arrived, a refund, a step of a dispute, or what was kept. One row an event.

    `object_id` is the payment intent, the refund or the dispute at Stripe. `change_minor` is the change of the balance
    there; `amount_minor` is never below zero. `hotel_id` is None if the ledger does not have the booking.
    `pays_booking`: it is a payment that bought the stay, or a change that made it dearer.
    """

    __tablename__ = "money_movement"
    __table_args__ = (Index("money_movement_hotel", "hotel_id", "time", "booking_id", "partition", "sequence"),)

    booking_id: Mapped[UUID] = mapped_column(primary_key=True)
    partition: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    hotel_id: Mapped[int | None]
    time: Mapped[datetime]
    kind: Mapped[str]
    payment_intent: Mapped[str]
    object_id: Mapped[str]
    amount_minor: Mapped[int]
    change_minor: Mapped[int]
    currency: Mapped[str]
    pays_booking: Mapped[bool] = mapped_column(server_default=text("false"))
