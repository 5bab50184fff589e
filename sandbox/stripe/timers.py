"""Does what the stand-in's clock sets off: sessions expire, late money comes or goes."""

import asyncio

from sandbox.stripe import checkout, refunds
from sandbox.stripe.till import Till

_TASKS = checkout.TIMED | refunds.TIMED


def run_due(till: Till) -> None:
    """Do all that is due by now, each task in a transaction of its own.

    Every request calls this first, so that no answer shows a session open past its deadline.
    """
    while due := till.books.due_timer(till.clock.now()):
        task, object_id = due
        with till.books.transaction():
            till.books.drop_timer(task, object_id)
            _TASKS[task](till, object_id)


async def keep_time(till: Till) -> None:
    """Do what is due when it is due, until cancelled."""
    woken = asyncio.Event()
    till.clock.wakes(woken.set)
    till.books.wakes(woken.set)
    while True:
        woken.clear()
        run_due(till)
        at = till.books.next_timer_at()
        await wait(woken, None if at is None else at - till.clock.now())


async def wait(woken: asyncio.Event, seconds: float | None) -> None:
    """Wait to be woken, `seconds` at most."""
    try:
        async with asyncio.timeout(seconds):
            await woken.wait()
    except TimeoutError:
        return
