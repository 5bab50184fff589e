"""Messages of the scenarios about sale terms, quotes and policies; see `words`.

The room has two plans. `standard` costs the night's price; a cancellation less than 72 hours before check-in costs
50.00, and less than 24 hours before it the first night. `saver` costs nine tenths, and nothing of it goes back. Prices
include 7 % VAT, and 2.50 a night and adult are due at the hotel.
"""

from datetime import UTC, date, datetime, time

from msgspec.structs import replace

from tests.support.scenario import NOON
from tests.workers.decisions.words import (
    CANCELLED,
    HOTEL,
    OPENED,
    PAID,
    RESERVE,
    RESERVED,
    ROOM,
    SENT_BACK,
    WAITING,
    but,
    march,
)
from topics.messages.commands import SetSaleTerms
from topics.messages.events import (
    BookingCancelled,
    BookingReserved,
    Event,
    InventoryUnchanged,
    RefundRequested,
    SaleTermsChanged,
)
from topics.messages.sale import (
    AppliedPolicy,
    CancellationPolicy,
    CancellationStep,
    Collected,
    Kept,
    LineKind,
    Meals,
    Party,
    PolicyStep,
    PriceLine,
    Quoted,
    RatePlan,
    Sale,
    SaleTerms,
    Tax,
)
from topics.messages.values import InventoryRefusal, RefundReason, Terms
from topics.zones import ZONE_DATA_VERSION

POLICY = CancellationPolicy(
    id="flexible",
    steps=(
        PolicyStep(hours_before=72, kept=Kept(amount_minor=50_00)),
        PolicyStep(hours_before=24, kept=Kept(nights=1)),
    ),
    no_show=Kept(nights=1),
    early_departure_percent=50,
)
STANDARD = RatePlan(id="standard", name="Standard", policy=POLICY)
SAVER = RatePlan(id="saver", name="Saver", refundable=False, times_milli=900, meals=Meals.BREAKFAST)
ON_ARRIVAL = RatePlan(id="on_arrival", name="Pay on arrival", terms=Terms.AT_HOTEL, policy=POLICY)
VAT = Tax(id="vat", name="VAT", percent_milli=7_000, included=True)
CITY_TAX = Tax(
    id="city",
    name="City tax",
    amount_minor=2_50,
    per_night=True,
    per_person=True,
    min_age=16,
    collected=Collected.AT_HOTEL,
)
TERMS = SaleTerms(version=1, plans=(STANDARD, SAVER, ON_ARRIVAL), taxes=(VAT, CITY_TAX), capacity=3, infant_max_age=1)

SET_TERMS = SetSaleTerms(room_id=ROOM, hotel_id=HOTEL, terms=TERMS)
TERMS_SET = SaleTermsChanged(room_id=ROOM, hotel_id=HOTEL, terms=TERMS)
FOR_SALE = (OPENED, TERMS_SET)

# Vancouver's clocks went forward on 8 March: 15:00 is 23:00 UTC on the 7th, and 22:00 UTC from then on.
FREE_UNTIL = datetime(2026, 3, 7, 23, tzinfo=UTC)
PART_UNTIL = datetime(2026, 3, 9, 22, tzinfo=UTC)


def wall(day: int, hour: int = 15) -> datetime:
    """Return a time on the wall in March."""
    return datetime.combine(march(day), time(hour))


SALE = Sale(
    terms_version=1,
    plan_id="standard",
    plan_name="Standard",
    meals=Meals.NONE,
    party=Party(adults=2),
    lines=(
        PriceLine(kind=LineKind.STAY, id="standard", name="Standard", amount_minor=200_00),
        PriceLine(kind=LineKind.TAX, id="vat", name="VAT", amount_minor=13_08, included=True),
        PriceLine(kind=LineKind.TAX, id="city", name="City tax", amount_minor=10_00, collected=Collected.AT_HOTEL),
    ),
    at_hotel_minor=10_00,
    steps=(
        CancellationStep(until=wall(7), kept_minor=0, percent=0),
        CancellationStep(until=wall(9), kept_minor=50_00),
        CancellationStep(kept_minor=100_00),
    ),
    no_show_kept_minor=100_00,
    early_departure_percent=50,
    # The city tax is paid by each person.
    party_binding=True,
    night_prices_minor=(100_00, 100_00),
)
ON_TERMS = but(RESERVED, sale=SALE)
SAVED = but(
    RESERVED,
    amount_minor=180_00,
    night_amounts_minor=(90_00, 90_00),
    sale=replace(
        SALE,
        plan_id="saver",
        plan_name="Saver",
        meals=Meals.BREAKFAST,
        lines=(
            PriceLine(kind=LineKind.STAY, id="saver", name="Saver", amount_minor=180_00),
            PriceLine(kind=LineKind.TAX, id="vat", name="VAT", amount_minor=11_78, included=True),
            SALE.lines[2],
        ),
        steps=(CancellationStep(kept_minor=180_00, percent=100),),
        no_show_kept_minor=180_00,
        early_departure_percent=100,
    ),
)
ARRIVING = but(
    RESERVED,
    terms=Terms.AT_HOTEL,
    hold_expires_at=None,
    amount_minor=210_00,
    night_amounts_minor=(105_00, 105_00),
    sale=replace(
        SALE,
        plan_id="on_arrival",
        plan_name="Pay on arrival",
        lines=tuple(
            replace(line, collected=Collected.AT_HOTEL)
            for line in (replace(SALE.lines[0], id="on_arrival", name="Pay on arrival"), *SALE.lines[1:])
        ),
        at_hotel_minor=210_00,
        steps=(*SALE.steps[:2], CancellationStep(kept_minor=105_00)),
        no_show_kept_minor=105_00,
        at_hotel_taxes_minor=10_00,
    ),
)

GOOD_UNTIL = NOON.replace(minute=15)
QUOTED = Quoted(
    good_until=GOOD_UNTIL,
    terms=Terms.PREPAID,
    sale=SALE,
    currency="EUR",
    amount_minor=200_00,
    night_amounts_minor=(100_00, 100_00),
)
RESERVE_QUOTED = but(RESERVE, quoted=QUOTED)

# A paid stay, and its end.

SOLD = (OPENED, TERMS_SET, ON_TERMS, *WAITING[2:], PAID)
SOLD_SAVER = (
    OPENED,
    TERMS_SET,
    SAVED,
    *WAITING[2:],
    but(PAID, amount_minor=180_00),
)


def policy(kept_minor: int, until: datetime | None = None, percent: int | None = None) -> AppliedPolicy:
    """Return the costs of a cancellation, as a decision applies them."""
    return AppliedPolicy(kept_minor=kept_minor, percent=percent, until=until, zone_data=ZONE_DATA_VERSION)


def cancelled(applied: AppliedPolicy | None) -> BookingCancelled:
    """Return the cancellation by the guest at these costs."""
    return but(CANCELLED, policy=applied)


def back(amount_minor: int, retained_minor: int, **changes: object) -> RefundRequested:
    """Return the event that sends a part of the payment back, and keeps the other."""
    return but(SENT_BACK, amount_minor=amount_minor, retained_minor=retained_minor, **changes)


def terms_unchanged(reason: InventoryRefusal | None) -> InventoryUnchanged:
    """Return the answer to terms that change nothing."""
    return InventoryUnchanged(room_id=ROOM, command=SetSaleTerms.message_type, reason=reason)


def sold_as(reserved: BookingReserved) -> tuple[Event, ...]:
    """Return the events of a stay that was reserved so and then paid."""
    return (OPENED, TERMS_SET, reserved, *WAITING[2:], but(PAID, amount_minor=reserved.amount_minor))


#: The policy keeps 50.00 of the 200.00, and 150.00 go back.
PARTLY_BACK = (*SOLD, cancelled(policy(50_00, PART_UNTIL)), back(150_00, 50_00))
KEPT_IN_FULL = (*SOLD_SAVER, cancelled(policy(180_00, percent=100)))
BOOKING_CANCELLED = RefundReason.BOOKING_CANCELLED
FIRST_DAY: date = march(10)
