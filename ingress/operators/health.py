"""Health checks: whether the process runs, and whether it can take bookings now."""

import asyncio
from typing import Final

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from ingress.database import Database
from ingress.http.models import NoBody, NoQuery, OutModel, Problems
from ingress.http.responses import Response, json_response
from ingress.log.broker import Broker
from ingress.log.waiters import Waiters
from ingress.operations import Access, Example, RequestContext, ResponseSpec, operation

_DATABASE_SECONDS: Final = 2.0


class Live(OutModel):
    """The process answers."""

    status: str


class Ready(Live):
    """Bookings can be taken; `parts` are `ready`, `not ready` or, for roles that an operator paused, `paused`."""

    parts: dict[str, str]


class NotReady(Problems):
    """A part is missing; `parts` names it."""

    parts: dict[str, str]


class Health:
    """The operations for probes of the process."""

    def __init__(self, database: Database, broker: Broker, waiters: Waiters) -> None:
        self._database = database
        self._broker = broker
        self._waiters = waiters

    @operation(
        "GET /health/live",
        access=Access.ANYBODY,
        summary="Does the process run?",
        responses={200: Live},
        example=Example(),
        limited=False,
        service=True,
    )
    async def live(self, context: RequestContext[NoBody, NoQuery]) -> Response:  # noqa: ARG002 - every operation is called like this
        """Answer, whatever else is away."""
        return json_response(200, Live(status="live"))

    @operation(
        "GET /health/ready",
        access=Access.ANYBODY,
        summary="Can bookings be taken?",
        responses={
            200: Ready,
            503: ResponseSpec(NotReady, "Something is missing.", {"Retry-After": "In how many seconds."}),
        },
        example=Example(),
        limited=False,
        service=True,
    )
    async def ready(self, context: RequestContext[NoBody, NoQuery]) -> Response:  # noqa: ARG002 - every operation is called like this
        """Report whether bookings can be taken and, if not, which parts are missing."""
        paused = await self._paused_roles()
        parts = {"database": paused is not None, "broker": self._broker.ready, "events": self._waiters.ready}
        states = {name: "ready" if ready else "not ready" for name, ready in parts.items()}
        # Bookings are accepted all the same, and wait on the log: an ingress out of the balancer would help no guest.
        states |= dict.fromkeys(paused or (), "paused")
        if (replicas := self._database.replicas) is not None:
            states["replicas"] = replicas
        missing = [name for name, ready in parts.items() if not ready]
        if missing:
            body = NotReady(detail=f"not ready: {', '.join(missing)}", parts=states)
            return json_response(503, body, {"Retry-After": "1"})
        return json_response(200, Ready(status="ready", parts=states))

    async def _paused_roles(self) -> list[str] | None:
        """Return the roles that an operator paused; None when the database does not answer."""
        try:
            async with asyncio.timeout(_DATABASE_SECONDS), self._database.reading() as connection:
                found = await connection.execute(text("select role from paused_role order by role"))
                return list(found.scalars())
        except (SQLAlchemyError, OSError, TimeoutError):
            return None
