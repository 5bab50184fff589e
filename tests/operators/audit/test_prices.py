"""The audit computes prices by itself, and comes to those of the product in every currency."""

from datetime import date, timedelta

import msgspec
import pytest

from operators.audit.expected_read_models import ExpectedReadModels, Record
from pricing.charges import step_minor
from pricing.currencies import CURRENCIES
from pricing.stays import night_price_minor
from topics.messages.events import Event, InventoryChanged, InventoryOpened, night_ranges

FIRST = date(2026, 3, 10)
PRICES_MINOR = (12_345, 12_344, 9_999, 10**12)
SURGES_MILLI = (1_000, 999, 1_333, 1_500)


def record(event: Event, sequence: int) -> Record:
    return Record(0, sequence, f"event-{sequence}", event.message_type, "", None, msgspec.json.encode(event))


@pytest.mark.parametrize("currency", sorted(CURRENCIES))
def test_the_lowest_price_of_a_night_is_the_price_at_which_it_is_sold(currency: str) -> None:
    nights = [(price, surge) for price in PRICES_MINOR for surge in SURGES_MILLI]
    audited = ExpectedReadModels({"room_nights": {0: 2 * len(nights)}})
    for number, (price_minor, surge_milli) in enumerate(nights):
        night = FIRST + timedelta(days=number)
        opened = InventoryOpened(
            room_id=1,
            hotel_id=1,
            first_night=night,
            end_night=night + timedelta(days=1),
            total_count=1,
            price_minor=price_minor,
            currency=currency,
        )
        changed = InventoryChanged(room_id=1, ranges=night_ranges([night]), surge_milli=surge_milli)
        audited.apply(record(opened, 2 * number + 1))
        audited.apply(record(changed, 2 * number + 2))

    step = step_minor(currency)
    assert list(audited.rows()["hotel_min_price"].values()) == [
        (night_price_minor(price_minor, surge_milli, step), currency) for price_minor, surge_milli in nights
    ]
