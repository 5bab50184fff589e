"""Small parts of the ingress: ids, money, and preferences in a request's headers."""

import asyncio
import time
from datetime import date
from uuid import UUID

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, make_mocked_request
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from pydantic import TypeAdapter, ValidationError

from ingress.bookings.ids import BookingIds
from ingress.http.models import Day
from ingress.http.preferences import seconds_to_wait
from ingress.http.problems import Problem, answer_problems
from ingress.http.responses import json_response
from ingress.http.versions import expected_versions
from ingress.operations import UNVERSIONED, V1, RequestContext
from pricing.currencies import decimal

users = st.integers(1, 2**63 - 1)


def request_with(lines: list[str]) -> web.Request:
    """Return a request with these lines of `If-Match`."""
    return make_mocked_request("PATCH", "/", headers=CIMultiDict(("If-Match", line) for line in lines))


@given(user=users, other=users)
def test_an_id_is_recognised_as_its_users_by_every_process_with_the_key(user: int, other: int) -> None:
    booking_id = BookingIds(b"key").issue(user)
    assert BookingIds(b"key").was_issued_to(user, booking_id)
    assert not BookingIds(b"other key").was_issued_to(user, booking_id)
    assert BookingIds(b"key").was_issued_to(other, booking_id) == (user == other)


@given(user=users, bit=st.integers(0, 127))
def test_an_id_with_a_changed_bit_was_issued_to_nobody(user: int, bit: int) -> None:
    ids = BookingIds(b"key")
    assert not ids.was_issued_to(user, UUID(int=ids.issue(user).int ^ 1 << bit))


def test_ids_are_uuids_of_version_8_in_the_order_of_time_and_never_twice() -> None:
    ids = BookingIds(b"key")
    before = time.time_ns() // 1_000_000
    issued = [ids.issue(1) for _ in range(10_000)]
    after = time.time_ns() // 1_000_000
    assert len(set(issued)) == 10_000
    assert {(booking_id.version, booking_id.variant) for booking_id in issued} == {(8, issued[0].variant)}
    assert issued[0].variant == "specified in RFC 4122"
    assert before <= issued[0].int >> 80 <= issued[-1].int >> 80 <= after


@pytest.mark.parametrize(
    ("amount_minor", "currency", "text"),
    [
        (12000, "EUR", "120.00"),
        (5, "usd", "0.05"),
        (-5, "USD", "-0.05"),
        (12000, "JPY", "12000"),
        (1234, "KWD", "1.234"),
        (0, "EUR", "0.00"),
    ],
)
def test_money_is_written_by_its_currencys_exponent(amount_minor: int, currency: str, text: str) -> None:
    assert decimal(amount_minor, currency) == text


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (None, None),
        ("wait=5", 5),
        ("respond-async, wait=5", 5),
        ("Wait = 7 ; x", 7),
        ('wait="9"', 9),
        ("wait=100", 30),
        ("wait=0", 0),
        ("wait=-1", None),
        ("await=5", None),
        ("wait", None),
    ],
)
def test_a_preference_to_wait_is_understood_and_limited(prefer: str | None, seconds: int | None) -> None:
    headers = {} if prefer is None else {"Prefer": prefer}
    request = make_mocked_request("GET", "/", headers=headers)

    assert seconds_to_wait(request) == seconds
    for mount in (V1, UNVERSIONED):
        context = RequestContext(request, mount=mount, caller=None, path={}, query=None, body=None)
        assert context.wait_seconds == (mount.wait_seconds if seconds is None else seconds)


@pytest.mark.parametrize(
    ("lines", "versions"),
    [
        ([], None),
        (["*"], None),
        (['"v1"'], {1}),
        (['"v7", "v1"'], {7, 1}),
        ([' ,"v7" ,,"v1",\t'], {7, 1}),
        (['"v7"', '"v1"'], {7, 1}),
        (['"a,b", "", "é", "v1"'], {1}),
        # A weak tag is never equal to another.
        (['W/"v7", "v1"'], {1}),
    ],
)
def test_a_change_insists_on_one_of_the_versions_that_it_names(lines: list[str], versions: set[int] | None) -> None:
    assert expected_versions(request_with(lines)) == versions


@pytest.mark.parametrize(
    "lines",
    [
        ['W/"v1"'],
        ['"v01"'],
        # One tag, which has a comma in it.
        ['"v7,v1"'],
        ['"v7", *'],
        ["*", '"v7"'],
        ['"v1" "v1"'],
        ['"v1", v2'],
        ["v1"],
        [""],
    ],
)
def test_text_that_no_version_can_be_counts_as_a_version_of_the_past(lines: list[str]) -> None:
    with pytest.raises(Problem, match="changed meanwhile"):
        expected_versions(request_with(lines))


def test_only_a_request_without_a_version_waits_unasked() -> None:
    assert (V1.wait_seconds, UNVERSIONED.wait_seconds) == (0, 10)


@pytest.mark.process
@pytest.mark.parametrize(
    ("request_head", "expected", "absent"),
    [
        (b"GET /health/live HTTP/1.1\r\nHost: x", [b"HTTP/1.1 200 OK", b'{"status":"live"}'], [b"Connection:"]),
        (b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close", [b"Connection: close"], [b"keep-alive"]),
        (b"GET /health/live HTTP/1.0", [b"Connection: close"], [b"keep-alive"]),
        (b"GET /health/live HTTP/1.0\r\nConnection: keep-alive", [b"Connection: keep-alive"], [b"close"]),
        (b"HEAD /health/live HTTP/1.1\r\nHost: x", [b"Content-Length: 17", b"\r\n\r\n"], [b"live"]),
        (b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Request-Id: a\tb", [b"X-Request-Id: "], [b"a\tb"]),
    ],
)
async def test_answers_are_written_as_the_protocol_wants_them(
    request_head: bytes, expected: list[bytes], absent: list[bytes]
) -> None:
    app = web.Application(middlewares=[answer_problems])
    app.add_routes([web.get("/health/live", _live)])
    async with TestServer(app) as server:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        # The second response shows that the first one ended.
        writer.write(request_head + b"\r\n\r\n" + b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = await reader.read()
        writer.close()
    first, _, second = received.partition(b"HTTP/1.1 404 Not Found")
    assert all(part in first for part in expected), first
    assert not any(part in first for part in absent), first
    assert bool(second) == (b"Connection: close" not in first)


@pytest.mark.parametrize("text", ["0", "1795392000", "20261224", "2026-12-24T00:00:00", "2026-02-30", "1969-12-31", ""])
def test_a_day_is_written_as_a_day_and_no_number_passes_for_one(text: str) -> None:
    day: TypeAdapter[date] = TypeAdapter(Day)
    assert day.validate_python("2026-12-24") == date(2026, 12, 24)
    with pytest.raises(ValidationError):
        day.validate_python(text)


async def _live(_: web.Request) -> web.StreamResponse:
    return json_response(200, {"status": "live"})
