"""Stripe's library as a process of payments sees it, over the books in memory: each request is a step with faults.

The real `Gateway` and `CircuitBreaker` use it. It repeats a request as the library does, and gives up after the time
limit of the real client.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, Final, TypeVar, cast

import stripe

from tests.simulation.plan import Kind
from tests.simulation.process import Process
from tests.simulation.stripe_books import Answer, Books, Failure, Outcome
from workers.payments.breaker import CircuitBreaker
from workers.payments.gateway import TIMEOUT_SECONDS, Gateway

T = TypeVar("T")
_RETRIES: Final = 2


class _Listed:
    """A list of Stripe's, page after page."""

    def __init__(self, found: list[Answer]) -> None:
        self._found = found

    async def auto_paging_iter(self) -> AsyncIterator[Answer]:
        for each in self._found:
            yield each


class Client:
    """`stripe.StripeClient`, as far as `Gateway` uses it."""

    def __init__(self, process: Process, books: Books, breaker: CircuitBreaker) -> None:
        self._process = process
        self._books = books
        self._breaker = breaker
        create = SimpleNamespace(
            create_async=self._create,
            expire_async=self._expire,
            retrieve_async=self._retrieve,
            list_async=self._list_sessions,
        )
        refunds = SimpleNamespace(create_async=self._create, list_async=self._list_refunds)
        self.v1 = SimpleNamespace(checkout=SimpleNamespace(sessions=create), refunds=refunds)

    async def _create(self, params: Mapping[str, Any], options: Mapping[str, str]) -> Answer:
        key = options["idempotency_key"]

        def fail() -> None:
            is_done = self._process.world.faults.chance.random() < 0.5
            _raise_error(self._books.fail(params, key, is_done=is_done))

        return _raise_error(await self._request(lambda: self._books.create(params, key), fail))

    async def _expire(self, session_id: str) -> Answer:
        return _raise_error(await self._request(lambda: self._books.expire(session_id)))

    async def _retrieve(self, session_id: str) -> Answer:
        return _raise_error(await self._request(lambda: self._books.retrieve(session_id)))

    async def _list_sessions(self, params: Mapping[str, Any]) -> _Listed:
        return _Listed(await self._request(lambda: self._books.sessions_since(params["created"]["gte"])))

    async def _list_refunds(self, params: Mapping[str, Any]) -> _Listed:
        found = await self._request(lambda: self._books.refunds_of(params["payment_intent"]))
        if isinstance(found, Failure):
            raise found.error()
        return _Listed(found)

    async def _request(self, effect: Callable[[], T], fail: Callable[[], object] | None = None) -> T:
        """Make a request; again after a failure that the library repeats."""
        for tries in range(_RETRIES + 1):
            try:
                return await self._request_once(effect, fail or _fail)
            except stripe.APIError as error:
                if tries == _RETRIES or isinstance(error, stripe.RateLimitError):
                    raise
            except stripe.APIConnectionError:
                if tries == _RETRIES:
                    raise
            await self._process.pause(0.5 * 2**tries)
        raise AssertionError("the last try returns or raises")

    async def _request_once(self, effect: Callable[[], T], fail: Callable[[], object]) -> T:
        with self._breaker.call() as call:
            try:
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    answer = await self._process.step(Kind.CALL, effect, in_part=fail)
            except TimeoutError as error:
                call.mark_unanswered("no answer in time")
                raise stripe.APIConnectionError("no answer in time", should_retry=True) from error  # type: ignore[no-untyped-call]
            except stripe.APIConnectionError:
                call.mark_unanswered("connection lost")
                raise
            except stripe.APIError as error:
                call.mark_unanswered(f"status {error.http_status}")
                raise
            except stripe.StripeError:
                call.mark_answered()
                raise
            call.mark_answered()
            return answer


def _fail() -> None:
    raise stripe.APIError("something went wrong (simulated)", http_status=500)


def _raise_error(outcome: Outcome) -> Answer:
    if isinstance(outcome, Failure):
        raise outcome.error()
    return outcome


@asynccontextmanager
async def open_gateway(process: Process, books: Books, breaker: CircuitBreaker) -> AsyncIterator[Gateway]:
    """Open the real gateway on the books."""
    yield Gateway(cast("stripe.StripeClient", Client(process, books, breaker)))
