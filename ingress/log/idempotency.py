"""The Idempotency-Key: a request that is repeated with it becomes the same command again."""

import hashlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import msgspec
from aiohttp import web
from pydantic import BaseModel
from pydantic_core import to_json

from ingress.database import Database
from ingress.http.models import RequestHeader
from ingress.http.problems import Problem
from storage import accounts
from storage.accounts import Claim

IDEMPOTENCY_KEY: Final = RequestHeader(
    name="Idempotency-Key",
    description="The same key with the same body is the same request, sent however often; with another body: 422.",
    example="4a1c2d9e-first-try",
    pattern="^[!-~]{1,255}$",
)
_KEY_FORM: Final = re.compile(r"[!-~]{1,255}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Ids:
    """The ids of a command and of the booking that it is about."""

    command_id: str
    booking_id: UUID


class IdempotencyKeys:
    """Gives a repeated request the ids that it got the first time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ids(
        self,
        request: web.Request,
        user_id: int,
        body: object,
        new_ids: Callable[[], Ids],
        accept: Callable[[], Awaitable[None]] | None = None,
    ) -> Ids:
        """Return new ids for this request, or those that its Idempotency-Key was given before.

        Args:
            request: the request.
            user_id: its caller.
            body: its decoded body, a model or a struct.
            new_ids: makes the ids of a new request.
            accept: raises a problem for a new request that makes no sense; a repeated one is not checked again.

        Raises:
            Problem: 422 when the key is malformed or was used with another body; any problem that `accept` raises.
        """
        key = request.headers.get("Idempotency-Key")
        if key is None:
            if accept is not None:
                await accept()
            return new_ids()
        if not _KEY_FORM.fullmatch(key):
            raise Problem(422, "Idempotency-Key must be 1 to 255 visible ASCII characters")
        scope = {"user_id": user_id, "endpoint": endpoint_of(request), "key": key}
        body_hash = hashlib.sha256(_encoded(body)).digest()
        claim = await self._claim(scope, body_hash, new_ids, accept)
        if claim.body_hash != body_hash:
            raise Problem(422, "the Idempotency-Key was used for another request")
        return Ids(claim.command_id, claim.booking_id)

    async def _claim(
        self,
        scope: dict[str, Any],
        body_hash: bytes,
        new_ids: Callable[[], Ids],
        accept: Callable[[], Awaitable[None]] | None,
    ) -> Claim:
        try:
            if accept is not None:
                await accept()
        except Problem:
            async with self._database.reading() as connection:
                claim = await accounts.find_claim(connection, **scope)
            if claim is None:
                raise
            return claim
        # The key is committed before the command is sent. If the broker is away then, the key stays: a guest who tries
        # again sends the very same command, and it can only be decided once.
        ids = new_ids()
        new = Claim(body_hash=body_hash, command_id=ids.command_id, booking_id=ids.booking_id)
        async with self._database.writing() as connection:
            return await accounts.claim_key(connection, **scope, claim=new)


def endpoint_of(request: web.Request) -> str:
    """Return the endpoint within which an Idempotency-Key names one request: the same key elsewhere is another one."""
    return f"{request.method} {request.path}"


def _encoded(body: object) -> bytes:
    """Return a body as bytes that are the same whichever way it was decoded."""
    return to_json(body) if isinstance(body, BaseModel) else msgspec.json.encode(body)
