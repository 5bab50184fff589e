"""Commands: how a request becomes one on the log, and how a repeated request becomes the same one again."""

import hashlib
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import msgspec
from aiohttp import web
from pydantic import BaseModel
from pydantic_core import to_json

from ingress.database import Database
from ingress.http.actors import actor
from ingress.http.models import RequestHeader
from ingress.http.problems import Problem
from storage import accounts
from storage.accounts import Claim
from telemetry import traces
from telemetry.ids import about_record, request_id
from topics.catalogue import BOOKING_COMMANDS
from topics.envelope import Outgoing, command_record
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import Command

SOURCE: Final = "innkeeper/ingress"
IDEMPOTENCY_KEY: Final = RequestHeader(
    name="Idempotency-Key",
    description="The same key with the same body is the same request, sent however often; with another body: 422.",
    example="4a1c2d9e-first-try",
    pattern="^[!-~]{1,255}$",
)
_KEY: Final = re.compile(r"[!-~]{1,255}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Ids:
    """What a command is called, and the booking it is about."""

    command_id: str
    booking_id: UUID


class Commands:
    """Makes records of commands."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._topic = settings.topic(BOOKING_COMMANDS)

    def record(self, command: Command, command_id: str, request: web.Request) -> Outgoing:
        """Return the record of a command, with the trace that the request belongs to, and the person who sent it."""
        record = command_record(
            self._topic,
            command,
            id=command_id,
            source=SOURCE,
            time=datetime.now(UTC),
            traceparent=_traceparent(request),
            actor=actor(),
            request_id=request_id(),
        )
        about_record(record.headers)
        return record


def new_command_id() -> str:
    """Return an id that no other command has."""
    return secrets.token_hex(16)


class IdempotencyKeys:
    """Lets a repeated request be the same command again."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ids(
        self,
        request: web.Request,
        user_id: int,
        body: BaseModel | msgspec.Struct | None,
        fresh: Callable[[], Ids],
        accept: Callable[[], Awaitable[None]],
    ) -> Ids:
        """Return the ids for this request: fresh ones, or those that its Idempotency-Key was given before.

        A new request must be acceptable; a repeated one was, and is not judged again.

        Raises:
            Problem: 422 when the key is malformed or stands for another body; whatever `accept` raises.
        """
        key = request.headers.get("Idempotency-Key")
        if key is None:
            await accept()
            return fresh()
        if not _KEY.fullmatch(key):
            raise Problem(422, "Idempotency-Key must be 1 to 255 visible ASCII characters")
        place = _Place(user_id=user_id, endpoint=f"{request.method} {request.path}", key=key)
        body_hash = hashlib.sha256(_written(body)).digest()
        try:
            await accept()
        except Problem:
            claim = await self._standing(place)
            if claim is None:
                raise
        else:
            claim = await self._claim(place, body_hash, fresh())
        if claim.body_hash != body_hash:
            raise Problem(422, "the Idempotency-Key was used for another request")
        return Ids(claim.command_id, claim.booking_id)

    async def _claim(self, place: "_Place", body_hash: bytes, ids: Ids) -> Claim:
        # The key is committed before the command is sent. If the broker is away then, the key stays: the guest who
        # tries again sends the very same command, and it can only be decided once.
        claim = Claim(body_hash=body_hash, command_id=ids.command_id, booking_id=ids.booking_id)
        async with self._database.writing() as connection:
            return await accounts.claim_key(
                connection, user_id=place.user_id, endpoint=place.endpoint, key=place.key, claim=claim
            )

    async def _standing(self, place: "_Place") -> Claim | None:
        async with self._database.reading() as connection:
            return await accounts.find_claim(connection, user_id=place.user_id, endpoint=place.endpoint, key=place.key)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    user_id: int
    endpoint: str
    key: str


def _written(body: BaseModel | msgspec.Struct | None) -> bytes:
    """Return a body as it is compared with a later one: the same whichever way it was decoded."""
    return to_json(body) if isinstance(body, BaseModel) else msgspec.json.encode(body)


def _traceparent(request: web.Request) -> str | None:
    """Return the trace that the command belongs to: that of our own span, or else the client's."""
    return traces.current() or traces.well_formed(request.headers.get(traces.TRACEPARENT))
