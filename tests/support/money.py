"""The auditor of money: money at Stripe is explained by events.

It reads the raw records of `booking.events` and the ledger of the stand-in for Stripe, and no table of the product.
Events count minor units (ISO 4217), the ledger counts Stripe's unit. For each payment that is ours:

- captured - refunded - lost is the same at Stripe and by the events, and never more went back than was captured;
- each refund that succeeded has exactly one `booking.refunded.v1` with its amount, each that failed a
  `booking.refund_failed.v1`, and no event names a refund that Stripe does not have;
- each dispute has its event, and each dispute that ended has its result.

For each booking: if it is sold (CONFIRMED, or its guests arrived, left or did not come), its payments (that of the
first stay, and those of dearer changes) keep its present amount less refunds by hand and lost disputes, and everything
else that arrived goes back; otherwise nothing is kept, but for what an operator closed. Where a policy ended the stay,
its `kept_minor` may be kept, and no refund may retain more. The payment of a trip keeps the amounts of its legs, but of
a leg that ended early what is kept of it; no payment pays a leg. A refund that is still due is a problem too, unless
the test expects it.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import aiohttp
import msgspec

from pricing.charges import to_stripe
from tests.support.log import Log
from tests.support.waiting import MAX_WAIT_SECONDS, wait_until
from topics.catalogue import BOOKING_EVENTS

MONEY_IS_EXPLAINED: Final = "money at Stripe is explained by events"

Event = Mapping[str, Any]
Entry = Mapping[str, Any]

_INQUIRIES: Final = ("warning_needs_response", "warning_under_review", "warning_closed")
_STATUS_AFTER: Final = {
    "booking.reserved.v1": "RESERVED",
    "booking.trip_reserved.v1": "RESERVED",
    "booking.confirmed.v1": "CONFIRMED",
    "booking.cancelled.v1": "CANCELLED",
    "booking.expired.v1": "EXPIRED",
    "booking.rejected.v1": "REJECTED",
    "booking.checked_in.v1": "CHECKED_IN",
    "booking.checked_out.v1": "CHECKED_OUT",
    "booking.no_show.v1": "NO_SHOW",
}
_SOLD: Final = ("CONFIRMED", "CHECKED_IN", "CHECKED_OUT", "NO_SHOW")
_REQUESTS: Final = ("booking.refund_requested.v1", "booking.refund_requested.v2")
#: The events with which a payment arrives that pays its booking.
_ARRIVALS: Final = ("booking.confirmed.v1", "booking.changed.v1")


@dataclass
class Payment:
    """The events of one payment; amounts in minor units. Refunds and disputes are by their ids.

    `given_up` must leave in all, because the stay became cheaper; the payment pays the booking on with its rest.
    """

    booking_id: str
    amount: int
    currency: str
    pays: bool
    requested: bool = False
    given_up: int = 0
    retained: int = 0
    closed: int = 0
    refunds: dict[str, int] = field(default_factory=dict)
    by_hand: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    disputes: dict[str, tuple[int, str]] = field(default_factory=dict)

    @property
    def refunded(self) -> int:
        """The sum of the refunds that did not fail."""
        return sum(self.refunds.values())

    @property
    def refunded_by_hand(self) -> int:
        """The sum of those that a person made."""
        return sum(amount for id, amount in self.refunds.items() if id in self.by_hand)

    @property
    def lost(self) -> int:
        """The sum that lost disputes took."""
        return sum(amount for amount, state in self.disputes.values() if state == "lost")

    @property
    def left(self) -> int:
        """The amount that did not leave."""
        return self.amount - self.refunded - self.lost

    @property
    def due(self) -> int:
        """The amount that must still go back."""
        if self.requested:
            return self.left - self.closed - self.retained
        return self.given_up - self.refunded - self.lost


class Explanation:
    """The explanation by events: payments by payment intent, and the status and amount of each booking."""

    def __init__(self, events: Iterable[tuple[str, Event]]) -> None:
        """`events` are types and data, those of one booking in order."""
        self.payments: dict[str, Payment] = {}
        self.status: dict[str, str] = {}
        self.amounts: dict[str, int] = {}
        self.paid_changes: Counter[str] = Counter()
        self.prepaid: set[str] = set()
        self.policies: dict[str, int] = {}
        #: The amounts of the legs of each trip, by leg.
        self.legs: dict[str, dict[str, int]] = defaultdict(dict)
        self.problems: list[str] = []
        for kind, event in events:
            self._apply(kind, event)

    def _apply(self, kind: str, event: Event) -> None:
        booking_id = event.get("booking_id")
        if booking_id is None:
            return
        if kind == "booking.reserved.v1" and event.get("trip_id") is None:
            self.amounts[booking_id] = event["amount_minor"]
            if event.get("terms", "prepaid") == "prepaid":
                self.prepaid.add(booking_id)
        if kind in _STATUS_AFTER:
            self.status[booking_id] = _STATUS_AFTER[kind]
        if event.get("policy") is not None:
            self.policies[booking_id] = event["policy"]["kept_minor"]
        self._apply_to_trip(kind, booking_id, event)
        if kind == "booking.changed.v1":
            self.amounts[booking_id] = event["amount_minor"]
            self.paid_changes[booking_id] += bool(event.get("extra_minor"))
        if kind in _ARRIVALS and event.get("payment_intent"):
            self._arrived(event, event["extra_minor" if kind == "booking.changed.v1" else "amount_minor"], pays=True)
        elif kind in _REQUESTS:
            self._requested(event)
        elif "payment_intent" in event and kind not in _ARRIVALS:
            self._left(kind, event)

    def _apply_to_trip(self, kind: str, booking_id: str, event: Event) -> None:
        match kind:
            case "booking.leg_held.v1":
                self.legs[booking_id][event["leg_id"]] = event["amount_minor"]
            case "booking.changed.v1" if event.get("to_room_id") is not None:
                # The stay is that of a leg in another room, whose id is that of the change.
                self.legs[booking_id][event["change_id"]] = event["amount_minor"]
            case "booking.trip_reserved.v1":
                self.amounts[booking_id] = event["amount_minor"]
                self.prepaid.add(booking_id)
                if event["amount_minor"] != sum(self.legs[booking_id].values()):
                    self.problems.append(f"trip {booking_id}: {event['amount_minor']} is not the sum of its legs")
            case "booking.leg_ended.v1":
                amount = self.legs[booking_id].pop(event["leg_id"], None)
                if amount is None:
                    self.problems.append(f"trip {booking_id}: {event['leg_id']} ended, and was not held")
                else:
                    self.amounts[booking_id] -= max(0, amount - event["kept_minor"])

    def _pays_on(self, event: Event, payment: Payment | None) -> bool:
        """Return whether a refund takes a part of a payment that pays its booking on: of a cheaper stay or a trip."""
        if event.get("reason") == "stay_changed":
            return True
        booking_id = event["booking_id"]
        is_sold_trip = booking_id in self.legs and self.status.get(booking_id) == "CONFIRMED"
        return is_sold_trip and payment is not None and payment.pays

    def _requested(self, event: Event) -> None:
        payment = self.payments.get(event["payment_intent"])
        if self._pays_on(event, payment):
            if payment is None:
                self.problems.append(f"{event['payment_intent']}: a change lowers it, and no event let it arrive")
            else:
                payment.given_up = event.get("total_minor") or event["amount_minor"]
            return
        payment = payment or self._arrived(event, event["amount_minor"], pays=False)
        payment.requested = True
        payment.retained = event.get("retained_minor", 0)

    def _arrived(self, event: Event, amount: int, *, pays: bool) -> Payment:
        payment = Payment(event["booking_id"], amount, event["currency"], pays)
        if event["payment_intent"] in self.payments:
            self.problems.append(f"{event['payment_intent']}: an event lets it arrive a second time")
        self.payments[event["payment_intent"]] = payment
        return payment

    def _left(self, kind: str, event: Event) -> None:
        intent = event["payment_intent"]
        payment = self.payments.get(intent)
        if payment is None:
            self.problems.append(f"{intent}: {kind}, and no event let it arrive")
            return
        amount = event.get("amount_minor", 0)
        match kind:
            case "booking.refunded.v1":
                id = event["refund_id"]
                if id in payment.refunds or id in payment.failed:
                    self.problems.append(f"{intent}: {id} has more than one event")
                payment.refunds[id] = amount
                if event.get("by_hand"):
                    payment.by_hand.add(id)
            case "booking.refund_failed.v1":
                payment.refunds.pop(event["refund_id"], None)
                payment.failed.add(event["refund_id"])
            case "booking.refund_closed.v1":
                payment.closed += amount
                payment.given_up = max(0, payment.given_up - amount)
            case "booking.dispute_opened.v1":
                payment.disputes[event["dispute_id"]] = (amount, "open")
            case "booking.dispute_closed.v1":
                payment.disputes[event["dispute_id"]] = (amount, event["result"])


def unexplained(
    events: Iterable[tuple[str, Event]], ledger: Iterable[Entry], *, still_due: Collection[str] = ()
) -> list[str]:
    """Return a sentence for each thing that the events do not explain; none if all money is explained.

    Args:
        events: types and data of all events, those of one booking in order.
        ledger: the payments of the stand-in's ledger, ours and those of others.
        still_due: the bookings of which a refund may still be due.
    """
    explained = Explanation(events)
    ours = {entry["payment_intent"]: entry for entry in ledger if _is_ours(entry, explained)}
    problems = list(explained.problems)
    for intent, entry in ours.items():
        payment = explained.payments.get(intent)
        if payment is None:
            problems.append(f"{intent}: {entry['captured_minor']} arrived, and no event has it")
        else:
            problems += (f"{intent}: {problem}" for problem in _problems_of_payment(payment, entry))
    problems += (f"{intent}: Stripe has no such payment" for intent in explained.payments if intent not in ours)
    return problems + list(_problems_of_bookings(explained, still_due))


def _is_ours(entry: Entry, explained: Explanation) -> bool:
    """Return whether money arrived in a payment that is ours: an event has it, or it names a booking of our log."""
    if not entry["captured_minor"]:
        return False
    named = entry.get("metadata", {}).get("booking_id")
    return entry["payment_intent"] in explained.payments or named in explained.status


def _problems_of_payment(payment: Payment, entry: Entry) -> Iterator[str]:
    def unit(amount_minor: int) -> int:
        return to_stripe(amount_minor, payment.currency)

    captured, refunded, lost = (entry[name] for name in ("captured_minor", "refunded_minor", "lost_minor"))
    if refunded + lost > captured:
        yield f"{refunded} was refunded and {lost} lost of {captured}"
    if payment.refunded > payment.amount:
        yield f"by its events {payment.refunded} went back of {payment.amount}"
    if entry["currency"].upper() != payment.currency:
        yield f"it is in {entry['currency']} at Stripe and in {payment.currency} by its events"
    if captured != unit(payment.amount):
        yield f"{captured} arrived, its events have {unit(payment.amount)}"
    if captured - refunded - lost != unit(payment.left):
        yield f"{captured - refunded - lost} is left at Stripe, its events leave {unit(payment.left)}"
    yield from _problems_of_refunds(payment, entry["refund_objects"], unit)
    yield from _problems_of_disputes(payment, entry["dispute_objects"], unit)


def _problems_of_refunds(payment: Payment, refunds: Sequence[Entry], unit: Any) -> Iterator[str]:
    for refund in refunds:
        id, amount = refund["id"], refund["amount_minor"]
        match refund["status"]:
            case "succeeded":
                if id not in payment.refunds:
                    yield f"{id} returned {amount}, and no event has it"
                elif unit(payment.refunds[id]) != amount:
                    yield f"{id} returned {amount}, its event has {unit(payment.refunds[id])}"
            case "failed" | "canceled":
                if id not in payment.failed:
                    yield f"{id} failed, and no event has it"
            case status:
                yield f"{id} is {status}"
    at_stripe = {refund["id"]: refund["status"] for refund in refunds}
    yield from (f"{id} has an event, and Stripe has no such refund" for id in payment.refunds if id not in at_stripe)
    for id in sorted(payment.failed):
        if at_stripe.get(id) not in {"failed", "canceled"}:
            yield f"{id} failed by its event, at Stripe it is {at_stripe.get(id)}"


def _problems_of_disputes(payment: Payment, disputes: Sequence[Entry], unit: Any) -> Iterator[str]:
    known = dict(payment.disputes)
    for dispute in disputes:
        # An inquiry takes no money.
        if dispute["status"] in _INQUIRIES:
            continue
        amount, state = known.pop(dispute["id"], (0, None))
        status = dispute["status"] if dispute["status"] in {"won", "lost"} else "open"
        if state is None:
            yield f"{dispute['id']} disputes {dispute['amount_minor']}, and no event has it"
        elif (unit(amount), state) != (dispute["amount_minor"], status):
            here, there = f"{state} over {unit(amount)}", f"{status} over {dispute['amount_minor']}"
            yield f"{dispute['id']} is {there}, by its events {here}"
    yield from (f"{id} has an event, and Stripe has no such dispute" for id in known)


def _problems_of_bookings(explained: Explanation, still_due: Collection[str]) -> Iterator[str]:
    payments: dict[str, list[Payment]] = defaultdict(list)
    for payment in explained.payments.values():
        payments[payment.booking_id].append(payment)
    for booking_id in explained.amounts:
        paying = [paid for paid in payments[booking_id] if paid.pays and not paid.requested]
        retained = sum(paid.retained for paid in payments[booking_id])
        problem = _problem_of_booking(explained, booking_id, paying, retained)
        if problem is not None:
            yield f"booking {booking_id}: {explained.status[booking_id]}{problem}"
    for intent, paid in explained.payments.items():
        if paid.retained > explained.policies.get(paid.booking_id, 0):
            yield f"{intent}: {paid.retained} is retained of booking {paid.booking_id}, and no policy says so"
        if paid.due > 0 and paid.booking_id not in still_due:
            yield f"{intent}: {paid.due} is still due to the guest of booking {paid.booking_id}"


def _problem_of_booking(
    explained: Explanation, booking_id: str, paying: Sequence[Payment], retained: int
) -> str | None:
    """Return what is wrong with the payments that pay a booking and do not go back.

    `retained` is what the policy keeps of those that do.
    """
    amount, status, policy = explained.amounts[booking_id], explained.status[booking_id], explained.policies
    if status not in _SOLD or (retained and booking_id in policy):
        left = sum(max(0, paid.left) for paid in paying)
        kept = left + (retained if left else 0)
        return f", and {left} of its payment is kept" if kept > policy.get(booking_id, 0) else None
    if booking_id not in explained.prepaid or not amount or (not paying and booking_id in policy):
        # A refund of which the policy retains a part is looked at with its payment.
        return None
    if len(paying) != 1 + explained.paid_changes[booking_id]:
        return f", and {len(paying)} payments pay it"
    left, due = sum(paid.left for paid in paying), sum(max(0, paid.due) for paid in paying)
    # Refunds by hand and lost disputes can be more than the stay or the trip costs by now.
    if left - due != max(0, amount - sum(paid.refunded_by_hand + paid.lost for paid in paying)):
        return f" for {amount}, and {left} of its payment is left"
    return None


async def read_events(log: Log) -> list[tuple[str, Event]]:
    """Return the type and the data of every event on the log, each id once, as the records have them."""
    found, ids = [], set()
    for records in (await log.read(BOOKING_EVENTS)).values():
        for record in records:
            headers = dict(record.headers)
            if headers["ce_id"] not in ids:
                ids.add(headers["ce_id"])
                found.append((headers["ce_type"].decode(), msgspec.json.decode(record.value)))
    return found


async def read_ledger(session: aiohttp.ClientSession, stripe_url: str) -> list[Entry]:
    """Return the payments of the stand-in's ledger."""
    async with session.get(f"{stripe_url}/_sandbox/ledger") as response:
        entries: list[Entry] = (await response.json())["payment_intents"]
        return entries


async def require_explained_money(
    log: Log,
    session: aiohttp.ClientSession,
    stripe_url: str,
    *,
    still_due: Collection[str | UUID] = (),
    seconds: float = MAX_WAIT_SECONDS,
) -> Counter[str]:
    """Wait until the events explain all money at Stripe; return how many events of each type there are.

    Args:
        log: the log to read.
        session: for requests to the stand-in for Stripe.
        stripe_url: its address.
        still_due: the bookings of which a refund may still be due.
        seconds: how long webhooks and refunds may take to settle.

    Raises:
        AssertionError: something is unexplained at the end of that time; the message has every sentence.
    """
    problems: list[str] = []
    events: list[tuple[str, Event]] = []
    due = {str(booking_id) for booking_id in still_due}

    async def explained() -> bool:
        nonlocal problems, events
        # The ledger is read first, because events can only be behind it.
        ledger = await read_ledger(session, stripe_url)
        events = await read_events(log)
        problems = unexplained(events, ledger, still_due=due)
        return not problems

    await wait_until(explained, seconds, lambda: f"{MONEY_IS_EXPLAINED}:\n" + "\n".join(problems))
    return Counter(kind for kind, _ in events)
