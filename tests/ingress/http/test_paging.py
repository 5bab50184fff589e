"""Cursors are read as the positions that they were written for, or refused."""

from datetime import date
from typing import Annotated, Any
from uuid import UUID

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from ingress.http.paging import Cursors, first_page, link_to_next
from ingress.http.problems import Problem
from ingress.operations import V1, RequestContext

ARRIVALS = Cursors(tuple[date, UUID])


@given(position=st.tuples(st.dates(), st.uuids()))
def test_a_page_begins_after_the_position_of_the_one_before_it(position: tuple[date, UUID]) -> None:
    assert ARRIVALS.read(ARRIVALS.write(position)) == position


def test_the_first_page_begins_nowhere_in_particular() -> None:
    assert ARRIVALS.read(None) is None


@given(cursor=st.text())
def test_a_cursor_that_no_list_gave_is_refused(cursor: str) -> None:
    with pytest.raises(Problem) as refused:
        ARRIVALS.read(cursor)
    assert refused.value.status == 422
    assert refused.value.more == {"errors": [{"field": "cursor", "message": "is not one that this list gave"}]}


@pytest.mark.parametrize("position", [(1, 2), ("2027-01-01", "no uuid"), ("2027-01-01",), {}, "2027-01-01", None])
def test_the_cursor_of_another_list_is_refused(position: Any) -> None:
    with pytest.raises(Problem, match="cursor"):
        ARRIVALS.read(Cursors(object).write(position))


def test_a_position_beyond_the_lists_range_is_refused() -> None:
    numbers = Cursors(tuple[Annotated[int, Field(ge=0, le=7)], UUID])
    assert numbers.read(numbers.write((7, UUID(int=0)))) == (7, UUID(int=0))
    for number in (-1, 8, 10**30):
        with pytest.raises(Problem, match="cursor"):
            numbers.read(numbers.write((number, UUID(int=0))))


def test_a_page_that_is_followed_by_another_names_its_last_row() -> None:
    assert first_page([1, 2, 3], 2) == ([1, 2], 2)
    assert first_page([1, 2], 2) == ([1, 2], None)
    assert first_page([], 2) == ([], None)


def context_of(address: str, public_prefix: str = "") -> RequestContext[None, None]:
    """Return the context of a request for this address, which a proxy may have taken a prefix from."""
    request = make_mocked_request("GET", address)
    return RequestContext(request, mount=V1.behind(public_prefix), caller=None, path={}, query=None, body=None)


@pytest.mark.parametrize("prefix", ["", "/booking", "/a/b"])
def test_the_next_page_has_the_same_query_and_the_path_that_clients_see(prefix: str) -> None:
    context = context_of("/v1/users/myBookings?status=CONFIRMED&status=EXPIRED&cursor=old&limit=5", prefix)

    assert link_to_next(context.address_with, 7, str) == {
        "Link": f'<{prefix}/v1/users/myBookings?status=CONFIRMED&status=EXPIRED&cursor=7&limit=5>; rel="next"'
    }
    assert link_to_next(context.address_with, None, str) == {}


def test_no_query_ends_the_link_or_the_header_early() -> None:
    context = context_of('/v1/users/myBookings?a=%3E%3B%0D%0AX:1&b=">;')

    link = link_to_next(context.address_with, 7, str)["Link"]

    assert link.startswith("</v1/users/myBookings?a=%3E")
    assert link.count(">") == 1
    assert "\r" not in link
    assert "\n" not in link
