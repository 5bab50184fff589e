"""Computes the promo codes and their uses that the ledger should have, from the events alone."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from operators.audit.expected_rows import Booking, Code, Event, milliseconds
from operators.audit.report import Check


class ExpectedCodes:
    """The promo codes after the events so far.

    Attributes:
        by_id: the codes by their ids.
        now_ms: the log's time of the event that is applied, in milliseconds since 1970.
        appliers: the function that applies an event, by its type.
    """

    def __init__(self, wrong: Callable[[Check, str], None]) -> None:
        """Report what is wrong with an event to `wrong`, as a sentence about a check."""
        self.by_id: dict[int, Code] = {}
        self.now_ms = 0
        self._wrong = wrong
        self._granted: dict[tuple[int, str], Event] = {}
        #: By code: the discounts of all terms that it had.
        self._discounts: dict[int, list[Event]] = {}
        self.appliers: dict[str, Callable[[Event], None]] = {
            "code.changed.v1": self._on_changed,
            "code.claimed.v1": self._on_claimed,
            "code.returned.v1": self._on_returned,
            "code.rejected.v1": self._on_answer,
            "code.unchanged.v1": self._on_answer,
        }

    def _mismatch(self, event: Event, sentence: str) -> None:
        self._wrong(Check.LOG_MATCHES_LEDGER, f"code {event['code_id']}: {sentence}")

    def _on_changed(self, event: Event) -> None:
        terms, known = event["terms"], self.by_id.get(event["code_id"])
        if ("percent_milli" in terms) == ("amount_minor" in terms):
            self._mismatch(event, f"its discount is {_discount(event['code_id'], terms)}")
        self._discounts.setdefault(event["code_id"], []).append(_discount(event["code_id"], terms))
        if known is None:
            self.by_id[event["code_id"]] = Code(event)
            return
        if known.terms["version"] >= terms["version"]:
            self._mismatch(event, f"its terms {terms['version']} follow {known.terms['version']}")
        if known.hotel_id != event["hotel_id"]:
            self._mismatch(event, f"of hotel {known.hotel_id}, not {event['hotel_id']}")
        known.terms = terms

    def _on_claimed(self, event: Event) -> None:
        code, booking_id = self.by_id.get(event["code_id"]), event["booking_id"]
        if code is None:
            self._mismatch(event, f"booking {booking_id} uses it, and it was never made")
            return
        if booking_id in code.uses:
            self._mismatch(event, f"booking {booking_id} uses it a second time")
        for fault in self._faults(code, event):
            self._mismatch(event, f"booking {booking_id}: {fault}")
        for limit, word, used in self._uses(code, event.get("user_id")):
            if limit is not None and used >= limit:
                self._wrong(
                    Check.CODES_WITHIN_LIMITS,
                    f"code {event['code_id']}: booking {booking_id} is use {used + 1} of {limit}{word}",
                )
        code.uses[booking_id] = (event.get("user_id"), False)
        self._granted[event["code_id"], booking_id] = event["discount"]

    def _uses(self, code: Code, user_id: int | None) -> Iterator[tuple[int | None, str, int]]:
        """Yield each limit of the code's terms, in words, with the number of uses that count for it."""
        used = code.used()
        yield code.terms.get("max_uses"), "", len(used)
        if user_id is not None:
            yield code.terms.get("max_account_uses"), f" by account {user_id}", used.count(user_id)

    def _faults(self, code: Code, event: Event) -> Iterator[str]:
        """Yield, in words, each difference of a granted use from the terms of its code."""
        terms, reserve, discount = code.terms, event.get("reserve") or event["trip"], event["discount"]
        legs = reserve.get("legs") or [reserve]
        if (reserve["booking_id"], reserve.get("user_id")) != (event["booking_id"], event.get("user_id")):
            yield f"asks for booking {reserve['booking_id']} of account {reserve.get('user_id')}"
        # A quote keeps its price when the code gets other terms.
        right = self._discounts[event["code_id"]][0 if any(leg.get("quoted") for leg in legs) else -1 :]
        if discount not in right:
            yield f"its discount is {discount}, by the code's terms {right[-1]}"
        if reserve["hotel_id"] != code.hotel_id:
            yield f"the code is of hotel {code.hotel_id}, not {reserve['hotel_id']}"
        if not terms.get("active", True):
            yield "the code is not active"
        since, until = milliseconds(terms.get("valid_from")), milliseconds(terms.get("valid_until"))
        if (since is not None and self.now_ms < since) or (until is not None and self.now_ms >= until):
            yield f"the code is valid from {terms.get('valid_from')} until {terms.get('valid_until')}"
        first, end = terms.get("first_night") or "", terms.get("end_night") or "9999-99-99"
        if reserve["check_in"] < first or reserve["check_out"] > end:
            yield f"the code is for nights from {first or 'ever'} until {terms.get('end_night') or 'ever'}"
        rooms = terms.get("room_ids")
        if rooms and not {leg["room_id"] for leg in legs} <= set(rooms):
            yield f"the code is for rooms {rooms}"

    def _on_returned(self, event: Event) -> None:
        code, booking_id = self.by_id.get(event["code_id"]), event["booking_id"]
        user_id, returned = (None, True) if code is None else code.uses.get(booking_id, (None, True))
        if code is None or returned:
            self._mismatch(event, f"booking {booking_id} gives a use back that it has not")
            return
        code.uses[booking_id] = (user_id, True)

    def _on_answer(self, event: Event) -> None:
        """Do nothing: the event changes nothing."""

    def faults_of_bookings(self, bookings: Mapping[str, Booking]) -> Iterator[str]:
        """Yield, in words, each booking whose discount is that of no use, or whose use does not fit its status."""
        for id_, booking in bookings.items():
            trip = None if booking.trip_id is None else bookings.get(booking.trip_id)
            faults = self._of_booking(booking.trip_id or id_, booking, trip or booking)
            yield from (f"booking {id_}: {fault}" for fault in faults)

    def _of_booking(self, id_: str, booking: Booking, user: Booking) -> Iterable[str]:
        """Yield the faults of a booking's discount; `id_` and `user` are of the trip, if it is a leg."""
        discount = None if booking.sale is None else booking.sale.get("discount")
        if discount is None:
            return
        code = self.by_id.get(discount["code_id"])
        use = None if code is None else code.uses.get(id_)
        if use is None:
            yield f"its discount is that of code {discount['code_id']}, which it never used"
        elif self._granted[discount["code_id"], id_] != discount:
            granted = self._granted[discount["code_id"], id_]
            yield f"its discount is {discount}, and {granted} was granted"
        elif use[1] and not _may_give_back(user):
            yield f"{booking.status}, and its use of code {discount['code_id']} was given back"


def _may_give_back(booking: Booking) -> bool:
    """Return whether a booking may give the use of a code back: it ended unpaid, or without costs for its guest.

    That of an expired booking is given back, also if it is paid late.
    """
    return (
        booking.was_expired
        or booking.status == "REJECTED"
        or (booking.status == "CANCELLED" and (booking.terms == "at_hotel" or booking.policy is None))
    )


def _discount(code_id: int, terms: Mapping[str, Any]) -> Event:
    names = ("code", "percent_milli", "amount_minor", "currency")
    return {"code_id": code_id} | {name: terms[name] for name in names if terms.get(name) is not None}
