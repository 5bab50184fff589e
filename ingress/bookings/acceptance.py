"""Checks whether a request for a booking makes sense at all. Whether a room is free is decided later, on the log."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from ingress.bookings.models import ChangedStay, ChangeRequest, InitBooking, StayRequest
from ingress.bookings.reasons import NOT_CHANGED_AGAIN
from ingress.bookings.representation import refusal
from ingress.http.bodies import refused_field
from ingress.http.problems import Problem
from ingress.stays import accept_people, accept_stay, today_at
from ingress.tokens import ChangeQuote, Quote, QuoteTokens, QuoteType
from pricing.changes import WantedStay
from pricing.sale import party_rejection, standard_terms
from storage.reads.bookings import AgreedBooking, BookingRow, RoomFacts
from topics.messages.sale import Party, Quoted, QuotedChange
from topics.messages.values import Refusal, Rejection


def accept_room(stay: StayRequest, facts: RoomFacts | None) -> RoomFacts:
    """Check that the room exists, belongs to the hotel, and that the hotel takes bookings; return its facts.

    Raises:
        Problem: 404 for a room that the hotel does not have, 409 for a hotel that is not active.
    """
    if facts is None or facts.hotel_id != stay.hotel_id:
        raise Problem(404, "the hotel has no such room")
    accept_hotel(facts)
    return facts


def accept_hotel(facts: RoomFacts) -> None:
    """Check that the room's hotel takes bookings. Raises `Problem` 409."""
    if not facts.hotel_active:
        raise Problem(409, "the hotel takes no bookings", more={"reason": "hotel_not_active"})


def accept_party(party: Party | None, rooms_count: int, facts: RoomFacts) -> None:
    """Check that the people fit into rooms without sale terms, whose capacity their decision does not know.

    Raises:
        Problem: 409, with the reason.
    """
    if party is None or facts.has_sale_terms:
        return
    reason = party_rejection(standard_terms(facts.capacity), party, rooms_count)
    if reason is not None:
        raise refusal(reason)


def accept_quote_time(quoted: Quoted | QuotedChange | None) -> None:
    """Check that a quote still holds. Raises `Problem` 409.

    The log's time decides; this spares a command that would be refused.
    """
    if quoted is not None and quoted.good_until < datetime.now(UTC):
        raise refusal(Rejection.QUOTE_EXPIRED)


async def accept_offer(stay: InitBooking, user_id: int, tokens: QuoteTokens, *, within: str = "") -> dict[str, Any]:
    """Return the fields of `ReserveStay` for the plan, the people and the quote of a request; none for a plain stay.

    The times of a stay that was quoted are those of its quote, whose policy counts back from them. `within` is what the
    names of refused fields begin with.

    Raises:
        Problem: 422 for people who cannot book, for a text that is no quote of ours, and for a quote of another stay;
            403 for a quote of another account.
    """
    people = None if stay.adults is None and not stay.children else accept_people(stay.adults, stay.children or ())
    if stay.quote is None and stay.plan_id is None and people is None:
        return {}
    if stay.quote is None:
        named = {"plan_id": stay.plan_id, "party": people}
        return {name: value for name, value in named.items() if value is not None}
    quote = await quote_of(stay.quote, Quote, user_id, tokens, field=f"{within}quote")
    sale = quote.quoted.sale
    code = code_of(quote.quoted)
    agreements = (
        ("hotel_id", stay.hotel_id, quote.hotel_id),
        ("room_id", stay.room_id, quote.room_id),
        ("check_in_date", stay.check_in_date, quote.check_in),
        ("check_out_date", stay.check_out_date, quote.check_out),
        ("rooms_count", stay.rooms_count, quote.rooms_count),
        ("plan_id", stay.plan_id or sale.plan_id, sale.plan_id),
        ("adults", sale.party if people is None else people, sale.party),
        ("promo_code", _lowercased(stay.promo_code or code), _lowercased(code)),
    )
    for field, given, quoted in agreements:
        if given != quoted:
            raise refused_field(f"{within}{field}", "is not that of the quote")
    return {"quoted": quote.quoted, "stay_times": quote.stay_times}


async def quote_of(
    token: str, kind: type[QuoteType], user_id: int | None, tokens: QuoteTokens, *, field: str = "quote"
) -> QuoteType:
    """Return the quote of a token that was given to this account, or to a hotel (None).

    Raises:
        Problem: 422 for a text that is no quote of ours of this kind; 403 for a quote of another account.
    """
    quote = await tokens.read(token, kind)
    if quote is None:
        raise refused_field(field, "is no quote of ours, or was altered")
    if quote.user_id != user_id:
        raise Problem(403, "the quote was given to another account")
    return quote


async def accept_change_quote(
    change: ChangeRequest, booking_id: UUID, user_id: int | None, tokens: QuoteTokens
) -> ChangeQuote | None:
    """Return the quote that a change of this booking names, by its guest or by its hotel (None); None: it names none.

    Raises:
        Problem: as `quote_of`; 422 for a quote of another booking or of another stay.
    """
    if change.quote is None:
        return None
    if change.room_id is not None:
        raise refused_field("room_id", "is not taken with a quote: another room type is sold at today's price")
    quote = await quote_of(change.quote, ChangeQuote, user_id, tokens)
    party = quote.party
    agreements = (
        ("quote", booking_id, quote.booking_id),
        ("check_in_date", change.check_in_date or quote.check_in, quote.check_in),
        ("check_out_date", change.check_out_date or quote.check_out, quote.check_out),
        ("rooms_count", change.rooms_count or quote.rooms_count, quote.rooms_count),
        ("adults", change.adults, None if party is None else party.adults),
        ("children", change.children, None if party is None else [*party.child_ages]),
    )
    for field, given, quoted in agreements:
        if given is not None and given != quoted:
            raise refused_field(field, "is of another booking" if field == "quote" else "is not that of the quote")
    return quote


def code_of(quoted: Quoted | None) -> str | None:
    """Return the promo code in the price of a quote; None: there is none."""
    return None if quoted is None or quoted.sale.discount is None else quoted.sale.discount.code


def _lowercased(code: str | None) -> str | None:
    """Return a promo code without the difference of capital and small letters."""
    return None if code is None else code.lower()


def accept_terms(given: str | None, required: str) -> None:
    """Check that the guest accepts the version of the general terms that is required; an empty one is none.

    Raises:
        Problem: 422.
    """
    if required and given != required:
        raise refused_field("accepted_terms", f"must be {required}, the version of the general terms that now counts")


def accept_guests(guest_ids: Sequence[int], stays: Sequence[tuple[BookingRow, RoomFacts | None]]) -> None:
    """Check that each guest is named once and that there is place for all of them.

    A booking whose party is binding has a place for each of its people, infants too, and for nobody else. Any other one
    has as many places as its rooms.

    Args:
        guest_ids: the guests.
        stays: the booking, or the legs of a trip, which has the places of all of them, each with its room's facts.

    Raises:
        Problem: 422, with the rule that is broken; 404 when a room is no longer described.
    """
    if len(set(guest_ids)) < len(guest_ids):
        raise Problem(422, "a guest is named twice")
    places = sum(_places(booking, facts) for booking, facts in stays)
    if len(guest_ids) <= places:
        return
    if all(booking.sale is not None and booking.sale.party_binding for booking, _ in stays):
        raise Problem(422, f"{len(guest_ids)} guests are too many: the stay was sold for {places} in all")
    raise Problem(422, f"{len(guest_ids)} guests do not fit: there is place for {places}")


def _places(booking: BookingRow, facts: RoomFacts | None) -> int:
    if facts is None:
        raise Problem(404, "the booking's room is no longer described")
    if booking.sale is not None and booking.sale.party_binding:
        return booking.sale.party.people_count
    return facts.capacity * booking.rooms_count


def accept_named_people(named_count: int, party: Party | None, rooms_count: int, facts: RoomFacts) -> None:
    """Check that the rooms, or the party that is sold, have a place for each of the people who are named.

    Raises:
        Problem: 422.
    """
    places = _places_for(party, rooms_count, facts)
    if named_count > places:
        raise refused_field("guests", f"{named_count} guests do not fit: there is place for {places}")


def _places_for(party: Party | None, rooms_count: int, facts: RoomFacts) -> int:
    return facts.capacity * rooms_count if party is None else party.people_count


def wanted_stay(change: ChangedStay, booking: AgreedBooking) -> WantedStay:
    """Return the stay that a change asks for: the booking's own, with the fields that are named.

    Raises:
        Problem: 422 for people who cannot book.
    """
    party = None
    if change.adults is not None or change.children is not None:
        known = None if booking.sale is None else booking.sale.party
        known_adults, known_ages = (None, ()) if known is None else (known.adults, known.child_ages)
        party = accept_people(
            known_adults if change.adults is None else change.adults,
            known_ages if change.children is None else change.children,
        )
    return WantedStay(
        change.check_in_date or booking.check_in,
        change.check_out_date or booking.check_out,
        change.rooms_count or booking.rooms_count,
        party,
    )


def accept_changeable(booking: AgreedBooking) -> None:
    """Check that the booking is neither a trip nor a leg of one, whose stays do not change. Raises `Problem` 409."""
    reason = Refusal.HAS_LEGS if booking.legs else Refusal.PART_OF_TRIP
    if booking.legs or booking.trip_id is not None:
        words = NOT_CHANGED_AGAIN if booking.legs and booking.earlier_stays else None
        raise refusal(reason, words=words, id=booking.id, booking_status=booking.status)


def accept_change(stay: WantedStay, booking: AgreedBooking, facts: RoomFacts, named_count: int) -> None:
    """Check the dates of a change, and that the rooms have a place for its people and for the guests named before.

    A stay that has begun is left to the log, which refuses every change of it.

    Raises:
        Problem: 422 for dates that make no sense; 409 for too many people, and for more named guests than places.
    """
    accept_stay(stay.check_in, stay.check_out, min(today_at(facts.time_zone), booking.check_in))
    accept_party(stay.party, stay.rooms_count, facts)
    people = stay.party
    if people is None and booking.sale is not None and booking.sale.party_binding:
        people = booking.sale.party
    places = _places_for(people, stay.rooms_count, facts)
    if named_count > places:
        raise Problem(
            409,
            f"{named_count} guests are named, and the stay would have place for {places}: name fewer of them first",
            more={"reason": "too_many_guests", "id": booking.id, "booking_status": booking.status},
        )
