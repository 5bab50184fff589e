"""A wait has a condition and a deadline."""

import asyncio

import pytest

from tests.support.waiting import wait_until


async def test_it_ends_as_soon_as_the_condition_holds() -> None:
    answers = iter([None, 0, "", "ready"])

    assert await wait_until(lambda: next(answers), 10) == "ready"


async def test_a_condition_may_take_its_time() -> None:
    done = asyncio.Event()
    asyncio.get_running_loop().call_soon(done.set)

    async def condition() -> bool:
        await done.wait()
        return True

    assert await wait_until(condition, 10)


async def test_a_failed_assertion_means_not_yet() -> None:
    seen: list[int] = []

    def condition() -> bool:
        seen.append(1)
        assert len(seen) == 3
        return True

    assert await wait_until(condition, 10)


async def test_the_error_at_the_deadline_names_what_was_waited_for() -> None:
    with pytest.raises(AssertionError, match=r"not within 0 s: the booking is confirmed; it is RESERVED"):
        await wait_until(lambda: False, 0, lambda: "the booking is confirmed; it is RESERVED")


async def test_an_error_in_the_condition_is_not_waited_out() -> None:
    with pytest.raises(ZeroDivisionError):
        await wait_until(lambda: 1 / 0, 10)
