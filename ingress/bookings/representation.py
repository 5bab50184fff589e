"""Bookings as responses show them, and refusals in words, from rows of the ledger and from events."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, TypeVar
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.bookings.change_models import EarlierStayOut, PendingChangeOut
from ingress.bookings.models import (
    AppliedPolicyOut,
    BookingOut,
    BookingState,
    ChangedByHotel,
    ContactOut,
    HotelBooking,
    HotelSaleOut,
    LegOut,
    NamedGuest,
    RefundOut,
    StayingGuest,
)
from ingress.bookings.reasons import LOST, WORDS, WORDS_FOR_HOTELS
from ingress.http.models import OutModel
from ingress.http.old_statuses import shown_status
from ingress.http.problems import Problem
from ingress.log.idempotency import another_request
from ingress.offers import OfferOut, discount_fields, lines_out, offer_out
from pricing.currencies import decimal, minor_units
from pricing.sale import PricedStay
from storage.desk_bookings import Contact
from storage.reads import bookings, payments, reports
from storage.reads.bookings import AgreedBooking, BookingFacts, BookingRow
from storage.reads.changes import OtherRoom, ReplacedStay, changed_at, other_rooms, room_type
from storage.reads.payments import ReturnedPayment
from storage.reads.reports import HotelListedBooking, ListedBooking
from topics.messages.events import BookingRejected, BookingReserved, CommandRefused, PaymentDeclined
from topics.messages.message import Message
from topics.messages.sale import AppliedPolicy, Sale
from topics.messages.values import (
    BookingStatus,
    Refusal,
    StayTimes,
    Terms,
)

OutType = TypeVar("OutType", bound=OutModel)

#: The states in which a guest can still cancel, or could before check-in.
_BEFORE_THE_STAY: Final = (
    BookingStatus.RESERVED,
    BookingStatus.GUESTS_ADDED,
    BookingStatus.PAYMENTS_PENDING,
    BookingStatus.CONFIRMED,
)


def raise_if_refused(event: Message | None, status: str = BookingStatus.PENDING, *, for_hotel: bool = False) -> None:
    """Raise the problem of an event that refuses a command; other events pass. Raises `Problem` 409 or 422.

    `status` is the booking's before the command: only a change of a confirmed one is paid. A payment page that came
    late, because two requests asked for one, is no refusal: the booking has the other one.
    """
    match event:
        case BookingRejected(booking_id=booking_id, reason=reason):
            raise refusal(reason, id=booking_id, booking_status=BookingStatus.REJECTED)
        case CommandRefused(reason=Refusal.STALE_SESSION):
            pass
        case CommandRefused(reason=Refusal.ANOTHER_REQUEST):
            raise another_request()
        case CommandRefused(booking_id=booking_id, reason=reason, booking_status=refused_status):
            words = refusal_words(reason, for_hotel=for_hotel)
            raise refusal(reason, words=words, id=booking_id, booking_status=refused_status)
        case PaymentDeclined(booking_id=booking_id, failure=failure):
            pays_change = status == BookingStatus.CONFIRMED
            shown = BookingStatus.CONFIRMED if pays_change else BookingStatus.PAYMENTS_PENDING
            raise refusal(failure, id=booking_id, booking_status=shown)


def refusal_words(reason: Refusal, *, for_hotel: bool) -> str | None:
    """Return the words of a refusal where managers get others than guests; None: they get the same."""
    return WORDS_FOR_HOTELS.get(reason) if for_hotel else None


def refusal(reason: str, *, words: str | None = None, **more: object) -> Problem:
    """Return the problem of a refused command: `reason` for programs, and words for people."""
    if "booking_status" in more:
        more["booking_status"] = shown_status(str(more["booking_status"]))
    return Problem(409, f"refused: {words or _in_words(reason)}", more={"reason": _reason_of(reason), **more})


def _reason_of(text: str) -> str:
    """Return the reason without the word of Stripe's that may follow it."""
    reason, _, _ = str(text).partition(":")
    return reason


def _in_words(text: str) -> str:
    reason, _, code = str(text).partition(":")
    words = WORDS.get(reason, reason.replace("_", " "))
    return f"{words} ({code.strip().replace('_', ' ')})" if code.strip() else words


def state_of(booking: BookingFacts) -> dict[str, Any]:
    """Return the fields of a `BookingState` for a row of the ledger."""
    return state_fields(booking.id, booking.status, booking.rejection, booking.failure, booking.cancel_reason)


def state_fields(
    booking_id: UUID, status: str, rejection: str | None, failure: str | None, cancel_reason: str | None
) -> dict[str, Any]:
    """Return the fields of a `BookingState`; a reason that needs more words has them in `detail`."""
    reasons = {
        BookingStatus.REJECTED: rejection,
        BookingStatus.PAYMENTS_PENDING: failure,
        BookingStatus.CANCELLED: cancel_reason,
    }
    reason = reasons.get(BookingStatus(status))
    fields: dict[str, Any] = {"id": booking_id, "booking_status": shown_status(status)}
    if reason is None:
        return fields
    return fields | _reason_fields(reason)


def _reason_fields(text: str) -> dict[str, str]:
    """Return the fields `reason` and, for a reason that needs more words, `detail`."""
    reason = _reason_of(text)
    return {"reason": reason, "detail": _in_words(text)} if reason in WORDS else {"reason": reason}


def pending_state(booking_id: UUID) -> BookingState:
    """Return the state of a booking that is not decided yet."""
    return BookingState(id=booking_id, booking_status=BookingStatus.PENDING)


def lost_state(booking_id: UUID) -> BookingState:
    """Return the state of a booking whose request was lost."""
    return BookingState(id=booking_id, booking_status=BookingStatus.REJECTED, **_reason_fields(LOST))


def reserved_booking(event: BookingReserved, user_id: int, merchant_name: str) -> BookingOut:
    """Return a booking as it is right after this event, which has its times if it has a sale."""
    at_once = event.terms is Terms.AT_HOTEL
    fields: dict[str, Any] = {
        "id": event.booking_id,
        "booking_status": BookingStatus.CONFIRMED if at_once else BookingStatus.RESERVED,
        "user_id": user_id,
        "hotel_id": event.hotel_id,
        "room_id": event.room_id,
        "check_in_date": event.check_in,
        "check_out_date": event.check_out,
        "rooms_count": event.rooms_count,
        "amount": decimal(event.amount_minor, event.currency),
        "currency": event.currency,
        "hold_expires_at": event.hold_expires_at,
        "guests": [],
    }
    fields |= _agreed_fields(event.accepted_terms, event.terms, merchant_name)
    if event.sale is not None and event.stay_times is not None:
        price = PricedStay(event.currency, event.terms, event.amount_minor, event.night_amounts_minor, event.sale)
        now = datetime.now(UTC)
        fields["sale"] = offer_out(price, check_in=event.check_in, stay_times=event.stay_times, now=now)
    return BookingOut(**fields)


def _agreed_fields(accepted_terms: str | None, terms: Terms, merchant_name: str) -> dict[str, Any]:
    """Return the terms that the guest accepted, and the recipient of the money that is charged with the booking."""
    fields = {} if accepted_terms is None else {"accepted_terms": accepted_terms}
    return fields | {"paid_to": merchant_name} if merchant_name and terms is Terms.PREPAID else fields


async def booking_fields(connection: AsyncConnection, booking: BookingRow, merchant_name: str) -> dict[str, Any]:
    """Return the fields of a booking as its guest sees it, without its history."""
    fields = _fields(booking) | _agreed_fields(booking.accepted_terms, booking.terms, merchant_name)
    fields |= {
        "hold_expires_at": _hold_expires_at(booking),
        "guests": out(StayingGuest, await bookings.guests_of(connection, booking.id)),
        **_trip_fields(booking),
    }
    if booking.legs:
        fields["legs"] = legs_out(booking)
    url = await bookings.open_session_url(connection, booking.id)
    if url is not None:
        fields["session_url"] = url
    stay_times = None if booking.sale is None else await stay_times_of(connection, booking)
    if stay_times is not None:
        fields["sale"] = sale_out(booking, stay_times)
    if booking.pending_change is not None:
        fields["pending_change"] = await _pending_change(connection, booking)
    if booking.earlier_stays:
        fields["earlier_stays"] = await _earlier_stays(connection, booking)
    if booking.policy is not None:
        fields["policy"] = policy_out(booking.policy, booking.currency)
    returned = await payments.returned_payments(connection, booking.id, booking.payments or (), booking.currency)
    return fields | {"refunds": refunds_out(returned)} if returned else fields


def _trip_fields(booking: BookingFacts) -> dict[str, Any]:
    """Return the field that legs of trips alone have."""
    return {} if booking.trip_id is None else {"trip_id": booking.trip_id}


def legs_out(booking: BookingFacts) -> list[LegOut]:
    """Return the legs of a trip."""
    return [LegOut(id=leg.booking_id, room_id=leg.room_id) for leg in booking.trip_legs]


async def _pending_change(connection: AsyncConnection, booking: AgreedBooking) -> PendingChangeOut:
    rooms = await other_rooms(connection, [booking.held_change])
    return pending_change_out(booking, rooms, await stay_times_of(connection, booking))


def pending_change_out(
    booking: BookingFacts, rooms: Mapping[UUID, OtherRoom], stay_times: StayTimes | None = None
) -> PendingChangeOut:
    """Return the change of a booking that waits for its payment; `stay_times` adds what is sold then.

    `rooms` are those of changes to another room type, by the ids of the changes.
    """
    change = booking.held_change
    assert change is not None
    stay, other = change.stay, rooms.get(change.id)
    fields: dict[str, Any] = {
        "id": change.id,
        "check_in_date": stay.check_in,
        "check_out_date": stay.check_out,
        "rooms_count": stay.rooms_count,
        "amount": None if change.is_open else decimal(stay.amount_minor, booking.currency),
        "extra": None if change.is_open else decimal(change.extra_minor, booking.currency),
        "expires_at": booking.hold_expires_at,
    }
    if change.to_room_id is not None:
        fields |= {"room_id": change.to_room_id, "room_type": None if other is None else other.type}
    sale = stay.sale if other is None else other.sale
    if sale is not None and stay_times is not None and not change.is_open:
        # Only a booking that was paid in advance waits for a payment.
        priced = PricedStay(booking.currency, Terms.PREPAID, stay.amount_minor, stay.night_amounts_minor, sale)
        fields["sale"] = offer_out(priced, check_in=stay.check_in, stay_times=stay_times, now=datetime.now(UTC))
    if booking.failure is not None:
        fields |= {"reason": _reason_of(booking.failure), "detail": _in_words(booking.failure)}
    return PendingChangeOut(**fields)


async def changed_by_hotel(connection: AsyncConnection, booking: AgreedBooking) -> ChangedByHotel:
    """Return a booking after a change by its hotel."""
    fields = state_of(booking) | {
        "check_in_date": booking.check_in,
        "check_out_date": booking.check_out,
        "rooms_count": booking.rooms_count,
        "amount": decimal(booking.amount_minor, booking.currency),
        "currency": booking.currency,
    }
    if booking.legs:
        fields["legs"] = legs_out(booking)
    if booking.pending_change is not None:
        fields["pending_change"] = await _pending_change(connection, booking)
        url = await bookings.open_session_url(connection, booking.id)
        fields |= {} if url is None else {"session_url": url}
    returned = await payments.returned_payments(connection, booking.id, booking.payments or (), booking.currency)
    return ChangedByHotel(**fields, refunds=refunds_out(returned))


async def _earlier_stays(connection: AsyncConnection, booking: AgreedBooking) -> list[EarlierStayOut]:
    """Return the stays that changes replaced; those of a stay that has moved were of the booking's own room type."""
    shown = earlier_stays_out(booking.earlier_stays, booking.currency, await changed_at(connection, booking.id))
    if not booking.legs:
        return shown
    before = {"room_id": booking.room_id, "room_type": await room_type(connection, booking.room_id)}
    return [each.model_copy(update=before) for each in shown]


def earlier_stays_out(
    stays: Iterable[ReplacedStay], currency: str, times: Mapping[UUID, datetime] = {}
) -> list[EarlierStayOut]:
    """Return the stays that changes replaced; `times` are those of the changes, as far as they are known."""
    shown = []
    for each in stays:
        fields: dict[str, Any] = {
            "change_id": each.change_id,
            "check_in_date": each.stay.check_in,
            "check_out_date": each.stay.check_out,
            "rooms_count": each.stay.rooms_count,
            "amount": decimal(each.stay.amount_minor, currency),
        }
        if each.change_id in times:
            fields["changed_at"] = times[each.change_id]
        shown.append(EarlierStayOut(**fields))
    return shown


def _hold_expires_at(booking: BookingFacts) -> datetime | None:
    """Return the end of the hold of an unpaid booking; the row of a confirmed one has that of its change."""
    return None if booking.pending_change is not None else booking.hold_expires_at


def refunds_out(returned: Sequence[ReturnedPayment]) -> list[RefundOut]:
    """Return the payments of which money went back, or must."""
    return [_refund_out(payment) for payment in returned]


def _refund_out(payment: ReturnedPayment) -> RefundOut:
    fields: dict[str, Any] = {
        "paid": decimal(payment.amount_minor, payment.currency),
        "refunded": decimal(payment.refunded_minor, payment.currency),
        "due": decimal(payment.due_minor, payment.currency),
        "currency": payment.currency,
    }
    if payment.retained_minor:
        fields["retained"] = decimal(payment.retained_minor, payment.currency)
    if payment.status is not None:
        fields["status"] = payment.status
    if payment.disputed:
        fields["disputed"] = True
    return RefundOut(**fields)


async def stay_times_of(connection: AsyncConnection, booking: AgreedBooking) -> StayTimes | None:
    """Return the times that the booking keeps, or else those of its hotel now; None if neither is there."""
    if booking.stay_times is not None:
        return booking.stay_times
    facts = (await bookings.room_facts(connection, [booking.room_id])).get(booking.room_id)
    return None if facts is None else facts.stay_times


def sale_out(booking: BookingRow, stay_times: StayTimes) -> OfferOut:
    """Return what was sold; until the stay begins, with the costs of a cancellation from now on.

    Money of the payment that went back already, or was lost, does not come back once more.
    """
    price = PricedStay(booking.currency, booking.terms, booking.amount_minor, (), booking.sale)
    now = datetime.now(UTC) if booking.status in _BEFORE_THE_STAY else None
    offer = offer_out(price, check_in=booking.check_in, stay_times=stay_times, now=now)
    left_minor = payments.left_of_paying(booking.payments or (), booking.currency)
    if left_minor is None or left_minor == booking.amount_minor:
        return offer
    steps = [
        step.model_copy(update={"refund": decimal(_refund_minor(left_minor, step.kept, booking), booking.currency)})
        for step in offer.cancellation
    ]
    return offer.model_copy(update={"cancellation": steps})


def _refund_minor(left_minor: int, kept: str, booking: BookingRow) -> int:
    return max(0, left_minor - minor_units(Decimal(kept), booking.currency))


def policy_out(policy: AppliedPolicy, currency: str) -> AppliedPolicyOut:
    """Return the policy that counted at a booking's end, in major units."""
    fields: dict[str, Any] = {"kept": decimal(policy.kept_minor, currency)}
    if policy.percent is not None:
        fields["percent"] = policy.percent
    if policy.until is not None:
        fields["until"] = policy.until
    return AppliedPolicyOut(**fields)


def _fields(booking: BookingFacts) -> dict[str, Any]:
    return state_of(booking) | {
        "user_id": booking.user_id,
        "hotel_id": booking.hotel_id,
        # The row of a stay that has moved has the room type of before.
        "room_id": booking.trip_legs[0].room_id if booking.legs else booking.room_id,
        "check_in_date": booking.check_in,
        "check_out_date": booking.check_out,
        "rooms_count": booking.rooms_count,
        "amount": decimal(booking.amount_minor, booking.currency),
        "currency": booking.currency,
        "created_at": booking.created_at,
        "updated_at": booking.updated_at,
    }


def out(model: type[OutType], rows: Iterable[object]) -> list[OutType]:
    """Return rows as models of a response."""
    return [model.model_validate(row) for row in rows]


def hotel_bookings_out(
    page: Sequence[HotelListedBooking],
    guests: Sequence[reports.NamedGuest],
    contacts: Mapping[UUID, Contact],
    rooms: Mapping[UUID, OtherRoom],
) -> list[HotelBooking]:
    """Return the bookings of a page as their hotel sees them, each with its guests, its sale, its end and its flags.

    `rooms` are those of changes to another room type, by the ids of the changes.
    """
    staying: dict[UUID, list[NamedGuest]] = defaultdict(list)
    for guest in guests:
        staying[guest.booking_id].append(NamedGuest(id=guest.id, name=guest.name))
    return [
        HotelBooking(
            **listed_fields(booking, rooms),
            **_sale_and_end(booking),
            **_flags(booking),
            **_desk_fields(booking, contacts),
            hold_expires_at=_hold_expires_at(booking),
            guests=staying[booking.id],
        )
        for booking in page
    ]


def _desk_fields(booking: HotelListedBooking, contacts: Mapping[UUID, Contact]) -> dict[str, Any]:
    """Return the fields that only bookings have whose guest accepted terms, or that a manager made."""
    fields: dict[str, Any] = {}
    if booking.accepted_terms is not None:
        fields["accepted_terms"] = booking.accepted_terms
    if (contact := contacts.get(booking.id)) is not None:
        fields["contact"] = ContactOut.model_validate(contact)
    return fields


def _sale_and_end(booking: HotelListedBooking) -> dict[str, Any]:
    """Return the fields that only bookings have with sale terms, or which were changed or ended early."""
    fields: dict[str, Any] = {}
    if booking.earlier_stays:
        fields["earlier_stays"] = earlier_stays_out(booking.earlier_stays, booking.currency)
    if booking.sale is not None:
        fields["sale"] = _hotel_sale_out(booking.sale, booking.terms, booking.currency)
    if booking.policy is not None:
        fields["policy"] = policy_out(booking.policy, booking.currency)
    return fields if booking.freed_from is None else fields | {"freed_from": booking.freed_from}


def _hotel_sale_out(sale: Sale, terms: Terms, currency: str) -> HotelSaleOut:
    return HotelSaleOut(
        plan_id=sale.plan_id,
        plan_name=sale.plan_name,
        meals=sale.meals,
        payment=terms,
        adults=sale.party.adults,
        children_ages=list(sale.party.child_ages),
        due_at_hotel=decimal(sale.at_hotel_minor, currency),
        lines=lines_out(sale.lines, currency),
        **discount_fields(sale, currency),
    )


def _flags(booking: ListedBooking) -> dict[str, Any]:
    """Return the fields that only bookings have whose money is disputed or went back."""
    arrived = booking.payments or ()
    refunded_minor = payments.refunded_of(arrived, booking.currency)
    flags: dict[str, Any] = {"disputed": True} if payments.is_disputed(arrived) else {}
    return flags | {"refunded": decimal(refunded_minor, booking.currency)} if refunded_minor else flags


def listed_fields(booking: ListedBooking, rooms: Mapping[UUID, OtherRoom]) -> dict[str, Any]:
    """Return the fields of a booking that every list has; `rooms` as of `pending_change_out`."""
    # A trip has the room type of its first leg alone.
    fields = _fields(booking) | _trip_fields(booking) | {"room_type": None if booking.legs else booking.room_type}
    if booking.pending_change is None:
        return fields
    return fields | {"pending_change": pending_change_out(booking, rooms)}


def own_listed_fields(booking: ListedBooking, rooms: Mapping[UUID, OtherRoom]) -> dict[str, Any]:
    """Return the fields of a booking in its account's list; `rooms` as of `pending_change_out`."""
    fields = listed_fields(booking, rooms) | {"hotel_name": booking.hotel_name}
    return fields | {"legs": legs_out(booking)} if booking.legs else fields
