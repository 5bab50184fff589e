"""The time limit of requests: one for all that a request waits for, until the broker has its command.

`Deadlines.begin` starts a request's time, and one task looks every quarter of a second for requests whose time is over
and cancels what they wait for: a request that is answered in time costs no timer. `Commands` (ingress/log/commands.py)
asks before it sends a command whether its client is still there, and counts it until the broker has acknowledged it.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import takewhile
from time import monotonic
from typing import Any, Final

from aiohttp import web

from ingress.http.responses import Response

#: How often overdue requests are looked for. A request's time ends so much early, lest it end late.
SWEEP_SECONDS: Final = 0.25


class Deadline:
    """The time of one request, which the present task answers.

    Every request has one, so all that seldom changes is an attribute of the class until then.
    """

    #: How many commands are with the producer that the broker has not acknowledged; a request may send some at once.
    sending = 0
    #: Whether the request is being cancelled, because its time is over.
    is_over = False
    #: Whether the broker had not acknowledged a command when the time was over.
    was_sending = False
    #: Whether the database may have made a change that it has not confirmed.
    is_committing = False
    #: Whether the database has confirmed a change of the request, or the broker has a command of it.
    has_done = False
    #: How many waits of the request that are not counted go on; there may be some at once.
    suspensions = 0
    #: Whether the request has its response.
    is_answered = False
    #: Makes the response to a request whose command the broker has, for when the database does not answer any more.
    accepted: Callable[[], Response] | None = None

    def __init__(self, deadlines: "Deadlines", request: web.BaseRequest, task: asyncio.Task[Any] | None) -> None:
        """Make the time of a request that a task answers; `deadlines` has those of all requests."""
        self.deadlines = deadlines
        self.request = request
        self._task = task

    @property
    def client_is_gone(self) -> bool:
        """Whether the client has closed its connection; one that is cut off silently is not noticed."""
        transport = self.request.transport
        return transport is None or transport.is_closing()

    def end_early(self) -> None:
        """Cancel what the request waits for."""
        self.is_over, self.was_sending = True, self.sending > 0
        if self._task is not None:
            self._task.cancel()


class Deadlines:
    """The times of all requests of this process; `run` ends those that are overdue."""

    def __init__(self, seconds: float) -> None:
        """Give each request `seconds`."""
        self._seconds = max(seconds - SWEEP_SECONDS, SWEEP_SECONDS)
        # When each began (monotonic seconds), the oldest first.
        self._running: dict[Deadline, float] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def begin(self, request: web.BaseRequest) -> Deadline:
        """Start the time of the request that the present task answers; `end` follows."""
        if self._loop is None:
            # To look for the loop takes longer than all else here.
            self._loop = asyncio.get_running_loop()
        deadline = Deadline(self, request, asyncio.current_task(self._loop))
        self._running[deadline] = monotonic()
        _current.set(deadline)
        return deadline

    def end(self, deadline: Deadline) -> None:
        """Forget a request that the present task has answered."""
        deadline.is_answered = True
        self._running.pop(deadline, None)
        # The task has its context, the context this deadline, and the deadline the task: without this only the garbage
        # collector would free each request with all that it has.
        _current.set(None)

    @contextmanager
    def suspended(self, deadline: Deadline) -> Iterator[None]:
        """Stop a request's time in the block; after the last of several at once it has its whole time again."""
        self._running.pop(deadline, None)
        deadline.suspensions += 1
        try:
            yield
        finally:
            deadline.suspensions -= 1
            if not (deadline.suspensions or deadline.is_over or deadline.is_answered):
                self._running[deadline] = monotonic()

    async def run(self) -> None:
        """End overdue requests until the process ends."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.end_overdue()

    def end_overdue(self) -> None:
        """Cancel what overdue requests wait for."""
        came_before = monotonic() - self._seconds
        overdue = takewhile(lambda each: self._running[each] <= came_before, self._running)
        for deadline in tuple(overdue):
            del self._running[deadline]
            deadline.end_early()

    def __len__(self) -> int:
        """Return how many requests have a time that runs."""
        return len(self._running)


#: The time of the request at hand; a request's task sets it for itself and for the tasks that it makes.
_current: Final[ContextVar[Deadline | None]] = ContextVar("deadline", default=None)


def current() -> Deadline | None:
    """Return the time of the request at hand; None where none is answered."""
    return _current.get()


@contextmanager
def suspended() -> Iterator[None]:
    """Let the request at hand take as long as it does in the block, which has a limit of its own or needs none.

    Afterwards it has its whole time again, as soon as no other task of it is in such a block.
    """
    deadline = _current.get()
    if deadline is None:
        yield
        return
    with deadline.deadlines.suspended(deadline):
        yield


@contextmanager
def sending() -> Iterator[None]:
    """Note that the broker may have a record of the request at hand: it is given to the producer in the block."""
    deadline = _current.get()
    if deadline is None:
        yield
        return
    deadline.sending += 1
    try:
        yield
    finally:
        deadline.sending -= 1


def otherwise(accepted: Callable[[], Response]) -> None:
    """Answer the request at hand so if the database does not answer from here on: the broker has its command."""
    deadline = _current.get()
    if deadline is not None:
        deadline.accepted = accepted


def was_cancelled_by(deadline: Deadline | None) -> bool:
    """Return whether a `CancelledError` of the present task means that the request's time is over, and take it back.

    Any other one (the process stops) must go on.
    """
    if deadline is None or not deadline.is_over:
        return False
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()
    return True
