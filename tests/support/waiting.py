"""The one place in the tests where time is spent: waiting on a condition, with a deadline."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")
POLL_SECONDS = 0.02
#: It only matters when something is broken; a slow machine may take nearly as long.
MAX_WAIT_SECONDS = 120.0


Message = str | Callable[[], str]


@overload
async def wait_until(
    condition: Callable[[], Awaitable[T]],
    timeout: float = ...,  # noqa: ASYNC109 - as below
    message: Message = ...,
) -> T: ...


@overload
async def wait_until(
    condition: Callable[[], T],
    timeout: float = ...,  # noqa: ASYNC109 - as below
    message: Message = ...,
) -> T: ...


async def wait_until(
    condition: Callable[[], Any],
    timeout: float = MAX_WAIT_SECONDS,  # noqa: ASYNC109 - callers read it as part of the sentence
    message: Message = "",
) -> Any:
    """Ask again and again until the condition holds; return its (true) value.

    Args:
        condition: a function or coroutine function; an AssertionError in it counts as "not yet".
        timeout: seconds until this gives up.
        message: the condition, as part of the error; a function is called only then.

    Raises:
        AssertionError: the condition did not hold in time.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + timeout
    while True:
        answer, reason = await _ask(condition)
        if answer:
            return answer
        if clock() >= deadline:
            text = message() if callable(message) else message
            raise AssertionError(f"not within {timeout:g} s: {text or condition}") from reason
        await asyncio.sleep(POLL_SECONDS)


async def _ask(condition: Callable[[], Any]) -> tuple[Any, AssertionError | None]:
    try:
        answer = condition()
        return (await answer if inspect.isawaitable(answer) else answer), None
    except AssertionError as reason:
        return None, reason


async def next_turn() -> None:
    """Let the other tasks of the event loop have their turn, once."""
    await asyncio.sleep(0)
