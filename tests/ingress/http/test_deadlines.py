"""The time of a request: when it is over, and the response that it gets then."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request

from ingress.http.deadlines import Deadlines, otherwise, sending, suspended, was_cancelled_by
from ingress.http.problems import NothingDone, Problem, answer_problems_within, unavailable
from ingress.http.responses import json_response
from ingress.http.rollout import Rollout
from ingress.log.broker import Broker
from ingress.log.commands import Commands
from ingress.log.waiters import Waiters
from storage.failures import Reason
from tests.support.waiting import wait_until
from topics.envelope import Outgoing
from topics.kafka.settings import KafkaSettings
from topics.messages.releases import Release

#: The shortest time there is.
SECONDS = 0.25
RECORD = Outgoing("topic", b"key", b"{}", [])


@asynccontextmanager
async def answering(handler: Callable[[], Awaitable[Any]]) -> AsyncIterator[tuple[TestClient[Any, Any], Deadlines]]:
    """Serve GET / by this handler, with a database of which all connections are in use."""
    deadlines = Deadlines(SECONDS)

    async def handle(_: web.Request) -> web.StreamResponse:
        await handler()
        return json_response(200, {})

    app = web.Application(middlewares=[answer_problems_within(deadlines, lambda _: Reason.BUSY)])
    app.add_routes([web.get("/", handle)])
    sweeping = asyncio.create_task(deadlines.run())
    async with TestClient(TestServer(app)) as client:
        yield client, deadlines
    sweeping.cancel()


async def _for_ever() -> None:
    await asyncio.Event().wait()


async def _at_once() -> None:
    """Answer."""


async def _refused() -> None:
    raise Problem(404, "no such booking")


@pytest.mark.process
@pytest.mark.parametrize("handler", [_at_once, _refused, _for_ever])
async def test_an_answered_request_leaves_nothing_that_only_the_garbage_collector_finds(
    handler: Callable[[], Awaitable[None]],
) -> None:
    tasks: list[weakref.ref[asyncio.Task[Any]]] = []

    async def noted() -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(weakref.ref(task))
        await handler()

    async with answering(noted) as (client, _):
        gc.disable()
        try:

            async def three_are_gone() -> bool:
                # A reference to the last task alone, such as that of the loop to what it ran last, ends with the next.
                await (await client.get("/")).read()
                return [task() for task in tasks[:3]] == [None] * 3

            await wait_until(three_are_gone, 10, "the tasks of requests are gone")
        finally:
            gc.enable()


@pytest.mark.process
async def test_a_request_that_waits_for_too_long_is_answered_with_the_reason() -> None:
    async with answering(_for_ever) as (client, deadlines), client.get("/") as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        detail = (await answer.json())["detail"]
        assert detail == "all connections to the database are in use; nothing was done, try again"
        assert len(deadlines) == 0


@pytest.mark.process
async def test_a_request_whose_command_the_broker_may_have_is_not_called_undone() -> None:
    async def send() -> None:
        with sending():
            await _for_ever()

    async with answering(send) as (client, _), client.get("/") as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
        assert (await answer.json())["detail"].startswith("the broker did not answer in time")


@pytest.mark.process
async def test_a_request_whose_command_the_broker_has_is_accepted() -> None:
    async def read_on() -> None:
        otherwise(lambda: json_response(202, {"id": 1}))
        await _for_ever()

    async with answering(read_on) as (client, _), client.get("/") as answer:
        assert (answer.status, await answer.json()) == (202, {"id": 1})


@pytest.mark.process
async def test_a_wait_that_is_not_counted_takes_as_long_as_it_does() -> None:
    released = asyncio.Event()

    async def wait() -> None:
        with suspended():
            await released.wait()

    async with answering(wait) as (client, deadlines):
        asking = asyncio.create_task(client.get("/").__aenter__())
        others = [asyncio.create_task(client.get("/nothing").__aenter__()) for _ in range(2)]
        assert {answer.status for answer in await asyncio.gather(*others)} == {404}
        deadlines.end_overdue()
        assert not asking.done()
        released.set()
        assert (await asking).status == 200


@pytest.mark.process
async def test_of_several_waits_that_are_not_counted_each_takes_as_long_as_it_does() -> None:
    waiting, first_is_over, released = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def wait_late() -> None:
        with suspended():
            waiting.set()
            await released.wait()

    async def wait() -> None:
        late = asyncio.create_task(wait_late())
        with suspended():
            await waiting.wait()
        first_is_over.set()
        await late

    async with answering(wait) as (client, deadlines):
        asking = asyncio.create_task(client.get("/").__aenter__())
        await first_is_over.wait()
        # One of two waits is over, and the request's time does not run yet.
        assert len(deadlines) == 0
        released.set()
        assert (await asking).status == 200
        assert len(deadlines) == 0


async def test_the_time_runs_again_after_the_last_wait_and_never_after_the_response() -> None:
    deadlines = Deadlines(SECONDS)
    deadline = deadlines.begin(make_mocked_request("GET", "/"))
    with suspended():
        with suspended():
            assert len(deadlines) == 0
        assert len(deadlines) == 0
    assert len(deadlines) == 1
    with suspended():
        deadlines.end(deadline)
    assert len(deadlines) == 0


async def test_the_cancellation_of_a_process_that_stops_goes_on() -> None:
    deadlines = Deadlines(SECONDS)

    async def handle() -> bool:
        deadline = deadlines.begin(make_mocked_request("GET", "/"))
        try:
            await _for_ever()
        except asyncio.CancelledError:
            return was_cancelled_by(deadline)
        return True

    stopped = asyncio.create_task(handle())
    await wait_until(lambda: len(deadlines) == 1)
    stopped.cancel()
    assert await stopped is False


class Broken(Exception):
    """The database fails."""


async def _acknowledged() -> None:
    await commands_to(PromptBroker())._send(RECORD)


@pytest.mark.process
@pytest.mark.parametrize("fails", [_for_ever, Broken(), unavailable("the broker")], ids=["time", "database", "broker"])
async def test_a_request_of_which_a_part_is_done_is_not_called_undone(fails: Any) -> None:
    async def fail_later() -> None:
        await _acknowledged()
        if isinstance(fails, Exception):
            raise fails
        await fails()

    async with answering(fail_later) as (client, _), client.get("/") as answer:
        assert answer.status == 503
        assert "Retry-After" in answer.headers
        state, _, advice = (await answer.json())["detail"].partition("; ")
        assert state in ("all connections to the database are in use", "the broker is away")
        assert advice == "it may be done in part, send the same request again"


class PromptBroker:
    """Acknowledges each record at once."""

    async def send(self, record: Outgoing) -> None:
        """Take the record."""


class SilentBroker:
    """Takes a record, and acknowledges it never."""

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []

    async def send(self, record: Outgoing) -> None:
        self.sent.append(record)
        await _for_ever()


def commands_to(broker: SilentBroker | PromptBroker) -> Commands:
    kafka = KafkaSettings(_env_file=None)
    waiters = Waiters(kafka, asyncio.Event())
    return Commands(kafka, cast("Broker", broker), waiters, Rollout(Release.V0_2_0))


async def test_a_command_that_is_not_acknowledged_in_time_is_a_problem_that_handlers_see() -> None:
    broker, deadlines = SilentBroker(), Deadlines(SECONDS)

    async def handle() -> None:
        request = make_mocked_request("GET", "/")
        request.transport.is_closing.return_value = False  # type: ignore[union-attr]
        deadlines.begin(request)
        await commands_to(broker)._send(RECORD)

    handling = asyncio.create_task(handle())

    def is_over() -> bool:
        deadlines.end_overdue()
        return handling.done()

    await wait_until(is_over)
    with pytest.raises(Problem, match="the broker did not answer in time"):
        await handling
    assert broker.sent == [RECORD]
    assert handling.cancelling() == 0


async def test_a_command_of_a_client_that_is_gone_never_reaches_the_broker() -> None:
    broker, deadlines = SilentBroker(), Deadlines(SECONDS)
    request = make_mocked_request("GET", "/")
    request.transport.is_closing.return_value = True  # type: ignore[union-attr]
    deadlines.begin(request)
    with pytest.raises(NothingDone, match="hung up"):
        await commands_to(broker)._send(RECORD)
    assert broker.sent == []
