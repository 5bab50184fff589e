"""Whether the process lives, and whether it can do its work now."""

import asyncio
from typing import Final

from aiohttp import web
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from ingress.answers import Answer, answer
from ingress.broker import Broker
from ingress.database import Database
from ingress.waiters import Waiters

_DATABASE_SECONDS: Final = 2.0


class Health:
    """Answers those who watch the process."""

    def __init__(self, database: Database, broker: Broker, waiters: Waiters) -> None:
        self._database = database
        self._broker = broker
        self._waiters = waiters

    def routes(self) -> list[web.RouteDef]:
        """Return what it answers."""
        return [web.get("/health/live", self.live), web.get("/health/ready", self.ready)]

    async def live(self, _: web.Request) -> Answer:
        """Say that the process answers, whatever else is away."""
        return answer(200, {"status": "live"})

    async def ready(self, _: web.Request) -> Answer:
        """Say whether bookings can be taken, and if not, what is missing."""
        parts = {
            "database": await self._database_answers(),
            "broker": self._broker.ready,
            "events": self._waiters.ready,
        }
        told = {name: "ready" if ready else "not ready" for name, ready in parts.items()}
        missing = [name for name, ready in parts.items() if not ready]
        if missing:
            return answer(503, {"detail": f"not ready: {', '.join(missing)}", "parts": told}, {"Retry-After": "1"})
        return answer(200, {"status": "ready", "parts": told})

    async def _database_answers(self) -> bool:
        try:
            async with asyncio.timeout(_DATABASE_SECONDS), self._database.reading() as connection:
                await connection.execute(text("select 1"))
        except (SQLAlchemyError, OSError, TimeoutError):
            return False
        return True
