"""The baseline's one answer: `POST /v1/bookings/init`, checked as our ingress does, decided before it answers."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import psycopg
from aiohttp import web
from pydantic import TypeAdapter

from benchmarks.row_locks.sessions import Sessions, StatementFailed
from ingress.bookings.ids import BookingIds
from ingress.bookings.models import InitBooking
from ingress.http.bodies import decode, read
from ingress.http.problems import Problem
from ingress.http.responses import json_response
from ingress.settings import IngressSettings
from ingress.stays import accept_stay, today_at
from ingress.tokens import Tokens
from storage.settings import DatabaseSettings

SESSIONS: Final = 10
FUNCTION: Final = (Path(__file__).parent / "book.sql").read_text()
_CALL: Final = "select book($1, $2, $3, $4, $5, $6, $7, $8)"
_SOLD_OUT: Final = "BK001"
_init: Final = TypeAdapter(InitBooking)


def create_app(settings: IngressSettings, database: DatabaseSettings) -> web.Application:
    """Return the service; it makes its SQL function and opens its sessions when it starts."""
    app = web.Application()
    sessions = Sessions(database.conninfo(), _CALL, SESSIONS)
    service = _RowLocks(sessions, settings)

    async def lifetimes(_: web.Application) -> AsyncIterator[None]:
        async with await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as connection:
            await connection.execute(FUNCTION.encode())
        async with sessions:
            yield

    app.cleanup_ctx.append(lifetimes)
    app.add_routes([web.post("/v1/bookings/init", service.init)])
    return app


class _RowLocks:
    def __init__(self, sessions: Sessions, settings: IngressSettings) -> None:
        self._sessions = sessions
        self._tokens = Tokens(settings)
        self._booking_ids = BookingIds.with_key_from(settings.jwt_secret_key.get_secret_value())
        self._hold_seconds = b"%d" % settings.hold_seconds

    async def init(self, request: web.Request) -> web.StreamResponse:
        """Book: 201 with the amount, 409 when a night is not free."""
        try:
            caller = self._tokens.caller(request)
            stay = decode(await read(request), _init)
            accept_stay(stay.check_in_date, stay.check_out_date, today_at("UTC"))
        except Problem as problem:
            return problem.response()
        booking_id = self._booking_ids.issue(caller.user_id)
        try:
            amount = await self._sessions.call(
                (
                    str(booking_id).encode(),
                    b"%d" % caller.user_id,
                    b"%d" % stay.hotel_id,
                    b"%d" % stay.room_id,
                    stay.check_in_date.isoformat().encode(),
                    stay.check_out_date.isoformat().encode(),
                    b"%d" % stay.rooms_count,
                    self._hold_seconds,
                )
            )
        except StatementFailed as failure:
            if failure.sqlstate != _SOLD_OUT:
                raise
            return json_response(409, {"detail": "sold out"})
        return json_response(201, {"id": booking_id, "booking_status": "RESERVED", "amount_minor": int(amount or 0)})
