"""Computes the nights, blocks and sale terms that the ledger should have, from the events alone."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from operators.audit.expected_rows import Block, Booking, Event, Night, days_of
from operators.audit.expected_sales import MAX_QUOTE_AGE_MS, NO_TERMS
from operators.audit.report import Check


class ExpectedRooms:
    """The nights, blocks and sale terms after the events so far.

    Attributes:
        now_ms: the log's time of the event that is applied, in milliseconds since 1970.
        appliers: the function that applies an event, by its type.
    """

    def __init__(self, wrong: Callable[[Check, str], None]) -> None:
        """Report what is wrong with an event to `wrong`, as a sentence about a check."""
        self.nights: dict[tuple[int, str], Night] = {}
        self.blocks: dict[tuple[int, str], Block] = {}
        self.terms: dict[int, Event] = {}
        self.now_ms = 0
        self._wrong = wrong
        #: By room and version: terms that others replaced, and the time of that.
        self._replaced: dict[int, dict[int, tuple[Event, int]]] = {}
        self.appliers: dict[str, Callable[[Event], None]] = {
            "inventory.opened.v1": self._on_opened,
            "inventory.changed.v1": self._on_changed_nights,
            "inventory.changed.v2": self._on_changed_ranges,
            "inventory.unchanged.v1": self._on_unchanged,
            "inventory.sale_terms_changed.v1": self._on_sale_terms_changed,
            "inventory.blocked.v1": self._on_blocked,
            "inventory.block_released.v1": self._on_block_released,
        }

    def _mismatch(self, sentence: str) -> None:
        self._wrong(Check.LOG_MATCHES_LEDGER, sentence)

    # Nights.

    def _on_opened(self, event: Event) -> None:
        for day in days_of(event["first_night"], event["end_night"]):
            key = (event["room_id"], day)
            if key in self.nights:
                self._mismatch(f"room {key[0]}, night {day}: opened a second time")
            else:
                self.nights[key] = Night(event, day)
                self._check_counts(self.nights[key])

    def _on_changed_nights(self, event: Event) -> None:
        self._change(event, event["nights"])

    def _on_changed_ranges(self, event: Event) -> None:
        for each in event["ranges"]:
            self._change(event, days_of(each["first_night"], each["end_night"]))

    def _change(self, event: Event, days: Iterable[str]) -> None:
        for day in days:
            night = self.nights.get((event["room_id"], day))
            if night is None:
                self._mismatch(f"room {event['room_id']}, night {day}: changed but never opened")
                continue
            before = (night.price, night.surge)
            night.price = _or(event.get("price_minor"), night.price)
            night.surge = _or(event.get("surge_milli"), night.surge)
            if (night.price, night.surge) != before:
                night.priced_at = self.now_ms
            night.closed = _or(event.get("closed"), night.closed)
            night.total = _or(event.get("total_count"), night.total)
            night.allowance = _or(event.get("allowance_count"), night.allowance)
            self._check_counts(night)

    def _on_unchanged(self, event: Event) -> None:
        """Do nothing: the event changes nothing."""

    def take(self, booking: Booking, *, reserved: int = 0, booked: int = 0, first_night: str | None = None) -> None:
        """Count rooms at the nights of a booking, or at those from `first_night` (ISO 8601) on."""
        for night in booking.nights:
            if first_night is not None and night.day < first_night:
                continue
            night.reserved += reserved * booking.rooms
            night.booked += booked * booking.rooms
            self._check_counts(night)

    def hold(self, event: Event, sign: int) -> None:
        """Count the rooms that a change of a stay holds beside those of the stay, or give them back."""
        for held in event["held"]:
            for day in days_of(held["first_night"], held["end_night"]):
                night = self.nights.get((event["room_id"], day))
                if night is None:
                    self._wrong(Check.NO_OVERSOLD_NIGHT, f"room {event['room_id']}, night {day}: held but never opened")
                    continue
                night.reserved += sign * held["rooms_count"]
                self._check_counts(night)

    def _check_counts(self, night: Night) -> None:
        limit, taken = night.total + night.allowance, night.reserved + night.booked + night.blocked
        if taken > limit or night.reserved < 0 or night.booked < 0 or night.blocked < 0 or night.allowance < 0:
            self._wrong(
                Check.NO_OVERSOLD_NIGHT,
                f"room {night.room_id}, night {night.day}: {night.booked} booked, {night.reserved} reserved "
                f"and {night.blocked} blocked of {limit}",
            )

    def nights_of_stay(self, event: Event) -> Iterator[Night]:
        """Yield the open nights of a stay; report the others."""
        for day in days_of(event["check_in"], event["check_out"]):
            night = self.nights.get((event["room_id"], day))
            if night is None:
                self._wrong(Check.NO_OVERSOLD_NIGHT, f"room {event['room_id']}, night {day}: reserved but never opened")
            else:
                yield night

    # Blocks and sale terms.

    def _on_sale_terms_changed(self, event: Event) -> None:
        known = self.terms.get(event["room_id"])
        if known is not None and known["version"] >= event["terms"]["version"]:
            self._mismatch(f"room {event['room_id']}: sale terms {event['terms']['version']} follow {known['version']}")
        replaced = self.present_terms(event["room_id"])
        self._replaced.setdefault(event["room_id"], {})[replaced["version"]] = (replaced, self.now_ms)
        self.terms[event["room_id"]] = event["terms"]

    def present_terms(self, room_id: int) -> Event:
        """Return the terms that the room is sold by."""
        return self.terms.get(room_id, NO_TERMS)

    def terms_of_sale(self, room_id: int, version: int) -> Event | None:
        """Return the terms of a stay that is reserved now: the present ones, or those of a quote; None: neither."""
        present = self.present_terms(room_id)
        if version == present["version"]:
            return present
        terms, replaced_at = self._replaced.get(room_id, {}).get(version, (None, 0))
        is_good = version < present["version"] and self.now_ms - replaced_at <= MAX_QUOTE_AGE_MS
        return terms if is_good else None

    def _on_blocked(self, event: Event) -> None:
        key = (event["room_id"], event["block_id"])
        if key in self.blocks:
            self._mismatch(f"block {key[1]} of room {key[0]}: made a second time")
            return
        block = self.blocks[key] = Block(event)
        if block.rooms < 1 or not days_of(block.first_night, block.end_night):
            nights = f"from {block.first_night} to {block.end_night}"
            self._mismatch(f"block {key[1]} of room {key[0]}: {block.rooms} rooms {nights}")
        self._block(event, block.rooms)

    def _on_block_released(self, event: Event) -> None:
        key = (event["room_id"], event["block_id"])
        block = self.blocks.get(key)
        if block is None or block.released:
            happened = "never made" if block is None else "released before"
            self._mismatch(f"block {key[1]} of room {key[0]}: released, and {happened}")
            return
        if (block.first_night, block.end_night, block.rooms) != (
            event["first_night"],
            event["end_night"],
            event["rooms_count"],
        ):
            self._mismatch(f"block {key[1]} of room {key[0]}: other nights or rooms are released than were blocked")
        block.released = True
        self._block(event, -event["rooms_count"])

    def _block(self, event: Event, rooms: int) -> None:
        for day in days_of(event["first_night"], event["end_night"]):
            night = self.nights.get((event["room_id"], day))
            if night is None:
                self._mismatch(f"room {event['room_id']}, night {day}: blocked but never opened")
                continue
            night.blocked += rooms
            self._check_counts(night)


def _or(new: Any, old: Any) -> Any:
    return old if new is None else new
