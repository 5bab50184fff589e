"""Stripe's API for the caller: every call is paced and guarded, and every refusal is of one of a few kinds.

A circuit breaker (`breaker`) allows each request: while its circuit is open none is made. A request is unanswered if
the connection fails, if the whole answer does not come within `TIMEOUT_SECONDS`, or if Stripe answers with a 5xx. A 429
is an answer: the row that got it waits by itself, and the pace keeps the others below Stripe's limit.

A call that opens a session or refunds a payment carries the idempotency key of its row, so it can be repeated. Stripe
replays its first answer to a key for a day, even a 5xx or a refusal. After a 5xx the gateway therefore looks for the
session; if there is none, the key is exhausted and the row gets another. A refusal because the deadline is too near
proves that the key opened nothing: Stripe would have answered with the session otherwise.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final, cast
from urllib.parse import urlsplit

import stripe
from aiolimiter import AsyncLimiter
from stripe._base_address import BaseAddresses
from stripe.params import RefundCreateParams
from stripe.params.checkout import SessionCreateParams

from telemetry import metrics, traces
from workers.payments.breaker import Call, CircuitBreaker
from workers.payments.settings import PaymentSettings
from workers.stripe.objects import BookingRef, Refund, Session, read
from workers.stripe.settings import MAX_STRIPE_CLOCK_SKEW, STRIPE_VERSION

TIMEOUT_SECONDS: Final = 8.0
_RETRIES: Final = 2


class Refused(Exception):
    """Stripe refuses the call, and would repeat that under the same key; `code` is its word for the reason."""

    def __init__(self, reason: str, code: str | None = None) -> None:
        super().__init__(reason)
        self.code = code


class IdempotencyKeyExhausted(Exception):
    """The idempotency key is of no more use, and it is certain that nothing was done under it."""


class Gateway:
    """The calls that payments makes.

    Besides `Refused` and `IdempotencyKeyExhausted` they raise `stripe.StripeError` for failures worth a retry, and
    `CircuitOpen` for a request that was not made.
    """

    def __init__(self, client: stripe.StripeClient) -> None:
        self._sessions = client.v1.checkout.sessions
        self._refunds = client.v1.refunds

    async def open_session(self, ref: BookingRef, params: Mapping[str, Any], *, key: str, since: datetime) -> Session:
        """Open a session, or return the one that this key opened; `since` is the time of the first request."""
        try:
            created = await self._sessions.create_async(
                cast(SessionCreateParams, dict(params)), {"idempotency_key": key}
            )
        except stripe.InvalidRequestError as error:
            if error.param == "expires_at":
                raise IdempotencyKeyExhausted(_reason(error)) from error
            raise _refused(error) from error
        except stripe.StripeError as error:
            if not _exhausts_the_key(error):
                raise
            found = await self._find_session(ref, since)
            if found is None:
                raise IdempotencyKeyExhausted(_reason(error)) from error
            return found
        return read(created, Session)

    async def expire_session(self, session_id: str) -> Session:
        """Expire a session and return it; return one that cannot be expired any more as it is."""
        try:
            return read(await self._sessions.expire_async(session_id), Session)
        except stripe.InvalidRequestError:
            return await self.retrieve_session(session_id)

    async def retrieve_session(self, session_id: str) -> Session:
        """Return a session as it is now."""
        try:
            return read(await self._sessions.retrieve_async(session_id), Session)
        except stripe.InvalidRequestError as error:
            raise _refused(error) from error

    async def refunds_of(self, payment_intent: str) -> tuple[Refund, ...]:
        """Return all refunds of a payment, by whomever they were made, failed ones too; the newest first."""
        try:
            listed = await self._refunds.list_async({"payment_intent": payment_intent, "limit": 100})
            return tuple([read(found, Refund) async for found in listed.auto_paging_iter()])
        except stripe.InvalidRequestError as error:
            raise _refused(error) from error

    async def refund(self, params: Mapping[str, Any], *, key: str) -> Refund:
        """Refund a part of a payment or all of it, or return the refund that this key made."""
        try:
            created = await self._refunds.create_async(cast(RefundCreateParams, dict(params)), {"idempotency_key": key})
        except (stripe.InvalidRequestError, stripe.CardError) as error:
            raise _refused(error) from error
        except stripe.StripeError as error:
            if _exhausts_the_key(error):
                raise IdempotencyKeyExhausted(_reason(error)) from error
            raise
        return read(created, Refund)

    async def _find_session(self, ref: BookingRef, since: datetime) -> Session | None:
        """Look for a session of this attempt that has not expired; Stripe has no search by metadata.

        Ids of bookings are random, so that a session with one of ours is ours, also if its mark has another key.
        """
        earliest = int((since - MAX_STRIPE_CLOCK_SKEW).timestamp())
        listed = await self._sessions.list_async({"created": {"gte": earliest}, "limit": 100})
        async for found in listed.auto_paging_iter():
            session = read(found, Session)
            is_attempt = session.claimed_ref() == ref and session.client_reference_id == str(ref.booking_id)
            if is_attempt and session.status != "expired":
                return session
        return None


def new_breaker(settings: PaymentSettings, clock: Callable[[], float] = time.monotonic) -> CircuitBreaker:
    """Return a closed circuit breaker by the settings; `clock` returns seconds."""
    return CircuitBreaker(
        max_failures=settings.stripe_circuit_failures, open_seconds=settings.stripe_circuit_open_seconds, clock=clock
    )


@asynccontextmanager
async def open_gateway(settings: PaymentSettings, breaker: CircuitBreaker | None = None) -> AsyncIterator[Gateway]:
    """Open a client of Stripe's API for the lifetime of a process; without `breaker` it has one of its own."""
    stripe.enable_telemetry = False
    http = _PacedClient(settings.calls_per_second, breaker or new_breaker(settings))
    addresses: BaseAddresses = {} if settings.stripe_api_url is None else {"api": settings.stripe_api_url}
    client = stripe.StripeClient(
        settings.stripe_api_key.get_secret_value(),
        stripe_version=STRIPE_VERSION,
        base_addresses=addresses,
        http_client=http,
        max_network_retries=_RETRIES,
    )
    try:
        yield Gateway(client)
    finally:
        await http.close_async()  # type: ignore[no-untyped-call]


class _PacedClient(stripe.HTTPXClient):
    """Paces, guards and counts every request, the library's own retries too."""

    def __init__(self, calls_per_second: int, breaker: CircuitBreaker) -> None:
        super().__init__(timeout=TIMEOUT_SECONDS)
        self._pace = AsyncLimiter(calls_per_second, time_period=1)
        self._breaker = breaker

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        # The circuit may open while this request waits for its turn.
        async with self._pace:
            with self._breaker.call() as call:
                return await self._counted(call, method, url, headers, post_data)

    async def _counted(
        self, call: Call, method: str, url: str, headers: Mapping[str, str], post_data: Any
    ) -> tuple[bytes, int, Mapping[str, str]]:
        began, status = time.perf_counter(), 0
        path = urlsplit(url).path
        try:
            with traces.span(f"Stripe {method.upper()}", kind="client", attributes={"url.path": path}) as span:
                answer = await self._whole_answer(method, url, headers, post_data)
                status = answer[1]
                if span is not None:
                    span.set_attribute("http.response.status_code", status)
        except stripe.APIConnectionError as error:
            call.mark_unanswered(type(error.__cause__ or error).__name__)
            raise
        finally:
            _count(method, status, time.perf_counter() - began)
        _judge(call, status, answer[2])
        return answer

    async def _whole_answer(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """Return the answer; httpx limits the time between two parts of it alone.

        Raises:
            stripe.APIConnectionError: there is no whole answer within `TIMEOUT_SECONDS`.
        """
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                return await super().request_async(method, url, headers, post_data)
        except TimeoutError as error:
            reason = f"no whole answer within {TIMEOUT_SECONDS:g} s"
            raise stripe.APIConnectionError(reason, should_retry=True) from error  # type: ignore[no-untyped-call]


def _judge(call: Call, status: int, headers: Mapping[str, str]) -> None:
    """Give the verdict on an answer. A 5xx that Stripe saved and repeats shows that Stripe works now."""
    if status < 500 or headers.get("idempotent-replayed") == "true":
        call.mark_answered()
    else:
        call.mark_unanswered(f"status {status}")


def _count(method: str, status: int, seconds: float) -> None:
    """Count one request to Stripe; status 0 means that no answer came."""
    metrics.STRIPE_SECONDS.of(method.upper(), f"{status // 100}xx" if status else "none").observe(seconds)
    if 0 < status < 500:
        metrics.STRIPE_FAILURES.set(0)
    else:
        metrics.STRIPE_FAILURES.add(1)


def _exhausts_the_key(error: stripe.StripeError) -> bool:
    """Return whether Stripe would repeat this answer under the same key: a saved 5xx, or parameters that differ."""
    if isinstance(error, stripe.IdempotencyError):
        return True
    return isinstance(error, stripe.APIError) and (error.http_status or 0) >= 500


def _refused(error: stripe.StripeError) -> Refused:
    body = error.json_body if isinstance(error.json_body, dict) else {}
    # An account without money is refused with a code of another name.
    return Refused(_reason(error), error.code or body.get("error", {}).get("message_code"))


def _reason(error: stripe.StripeError) -> str:
    return f"{type(error).__name__}: {error.user_message or error}"
