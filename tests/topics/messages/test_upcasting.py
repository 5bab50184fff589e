"""A replaced version is read for ever as the newer one, and written until every reader knows the newer one."""

import json
from datetime import date, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from pydantic import ValidationError

from tests.contracts.check import frozen
from topics.envelope import decode_value, encode_value, message_types
from topics.kafka.settings import KafkaSettings
from topics.messages.events import (
    BookingReserved,
    InventoryChanged,
    NightRange,
    RefundRequested,
    RefusedNight,
    night_ranges,
)
from topics.messages.upcasting import OLDER, InventoryChangedV1, written_as_older
from topics.messages.values import NightRefusal, RefundReason

FIRST = date(2027, 1, 1)


def night(days: int) -> date:
    return FIRST + timedelta(days=days)


changes = st.builds(
    InventoryChanged,
    room_id=st.integers(-(2**63), 2**63 - 1),
    ranges=st.sets(st.integers(0, 60)).map(lambda days: night_ranges(map(night, sorted(days)))),
    price_minor=st.none() | st.integers(0, 10**9),
    surge_milli=st.none() | st.integers(1, 10_000),
    closed=st.none() | st.booleans(),
    total_count=st.none() | st.integers(0, 100_000),
    refused=st.lists(
        st.builds(RefusedNight, night=st.integers(0, 60).map(night), reason=st.sampled_from(NightRefusal))
    ).map(tuple),
)


def test_an_older_change_is_read_as_ranges_of_nights() -> None:
    long_ago = json.dumps(frozen()["inventory.changed.v1"]["value"]).encode()

    assert decode_value("inventory.changed.v1", long_ago) == InventoryChanged(
        room_id=412,
        ranges=(
            NightRange(first_night=date(2026, 12, 24), end_night=date(2026, 12, 25)),
            NightRange(first_night=date(2026, 12, 26), end_night=date(2026, 12, 27)),
        ),
        price_minor=18_900,
        surge_milli=1250,
        closed=False,
        total_count=20,
        refused=(RefusedNight(night=date(2026, 12, 25), reason=NightRefusal.TOTAL_BELOW_SOLD),),
    )


@given(changes)
def test_whichever_version_was_written_the_same_is_read(change: InventoryChanged) -> None:
    for version in (1, 2):
        older = written_as_older(version).get(InventoryChanged)
        written = change if older is None else older(change)
        assert written.message_type == f"inventory.changed.v{version}"

        assert decode_value(written.message_type, encode_value(written)) == change


@given(st.sets(st.integers(0, 40)))
def test_ranges_are_as_few_as_there_can_be_and_name_the_same_nights(days: set[int]) -> None:
    ranges = night_ranges(map(night, sorted(days)))

    assert InventoryChanged(room_id=1, ranges=ranges).nights == tuple(map(night, sorted(days)))
    assert len(ranges) == len([day for day in days if day - 1 not in days])


def test_nights_that_were_written_in_no_order_are_the_same_nights() -> None:
    written = InventoryChangedV1(room_id=1, nights=(night(5), night(3), night(4), night(9)))

    read = decode_value(written.message_type, encode_value(written))

    assert isinstance(read, InventoryChanged)
    assert set(read.nights) == set(written.nights)


def test_a_change_of_a_year_is_a_line_and_no_longer_a_page() -> None:
    year = InventoryChanged(room_id=1, ranges=night_ranges(night(day) for day in range(365)), closed=True)

    assert len(encode_value(year)) < 200
    assert len(encode_value(written_as_older(1)[InventoryChanged](year))) > 4_000


def test_the_older_version_is_written_until_an_operator_sets_the_newer() -> None:
    assert KafkaSettings(_env_file=None).inventory_changed_version == 1
    assert InventoryChanged not in written_as_older(2)
    for unknown in (0, 3):
        with pytest.raises(ValidationError):
            KafkaSettings(_env_file=None, inventory_changed_version=unknown)


REFUND = RefundRequested(
    room_id=412,
    booking_id=UUID(int=1),
    session_id="cs_1",
    payment_intent="pi_1",
    amount_minor=150_00,
    currency="EUR",
    reason=RefundReason.BOOKING_CANCELLED,
    total_minor=180_00,
)


@pytest.mark.parametrize("version", [1, 2])
def test_a_refund_is_written_in_the_newer_version_if_the_hotel_keeps_a_part(version: int) -> None:
    write = written_as_older(version)[RefundRequested]
    part = replace(REFUND, retained_minor=20_00)

    for refund, message_type in ((REFUND, "booking.refund_requested.v1"), (part, "booking.refund_requested.v2")):
        written = write(refund)
        assert written.message_type == message_type
        assert ("retained_minor" in json.loads(encode_value(written))) == (refund is part)
        assert decode_value(written.message_type, encode_value(written)) == refund


@pytest.mark.parametrize("reason", [RefundReason.NO_SHOW, RefundReason.EARLY_DEPARTURE])
def test_a_refund_for_a_reason_that_the_older_version_has_no_word_for_is_written_in_the_newer(
    reason: RefundReason,
) -> None:
    refund = replace(REFUND, reason=reason)

    assert written_as_older(1)[RefundRequested](refund) is refund


def test_a_refund_from_before_policies_is_one_of_which_nothing_is_retained() -> None:
    long_ago = json.dumps(frozen()["booking.refund_requested.v1"]["value"]).encode()
    refund = decode_value("booking.refund_requested.v1", long_ago)

    assert isinstance(refund, RefundRequested)
    assert (refund.amount_minor, refund.retained_minor) == (94_500, 0)


def test_a_change_with_an_allowance_has_no_older_version() -> None:
    change = InventoryChanged(room_id=1, ranges=night_ranges([night(1)]), allowance_count=0)

    assert written_as_older(1)[InventoryChanged](change) is change


def test_a_waiter_for_an_event_gets_all_its_versions() -> None:
    assert message_types((InventoryChanged, BookingReserved)) == {
        "inventory.changed.v1",
        "inventory.changed.v2",
        "booking.reserved.v1",
    }


def test_the_replacement_is_the_same_message_in_a_newer_version() -> None:
    for older in OLDER:
        (name, old), (same, new) = (kind.message_type.rsplit(".v", 1) for kind in (older.kind, older.now))
        assert (name, int(old) < int(new)) == (same, True)
