"""The Idempotency-Key: a request that is repeated with it becomes the same command again.

The ids of its command, and of what it makes, follow from the user, the endpoint and the key by a keyed hash. So the
same request has the same ids when the table `idempotency_key` has lost its row: to a failover, or to a restore of an
older backup. The booking keeps a hash of the request (`request_hash`), by which its worker refuses another request with
the same key. The table has three tasks: it refuses such a request at once, before anything is sent; it keeps the ids of
keys that were first used with an older release or with another secret; and a request that it has is not checked again.
"""

import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

import msgspec
from aiohttp import web
from pydantic import BaseModel
from pydantic_core import to_json
from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.database import Database
from ingress.http.models import RequestHeader
from ingress.http.problems import Problem
from storage import accounts
from storage.accounts import Claim
from storage.reads import bookings

IDEMPOTENCY_KEY: Final = RequestHeader(
    name="Idempotency-Key",
    description="The same key with the same body is the same request, sent however often; with another body: 422. "
    "A key that made a booking makes no other one, at any time.",
    example="4a1c2d9e-first-try",
    pattern="^[!-~]{1,255}$",
)
_KEY_FORM: Final = re.compile(r"[!-~]{1,255}", re.ASCII)
_SEED_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Ids:
    """The ids of a command and of the booking that it is about.

    `request_hash` is what the booking keeps of a request with an Idempotency-Key. `is_repeated`: the request had the
    ids before.
    """

    command_id: str
    booking_id: UUID
    request_hash: str | None = None
    is_repeated: bool = False


#: Makes the ids of a new request: out of 16 bytes that follow from its Idempotency-Key, or (None) by chance.
NewIds = Callable[[bytes | None], Ids]


class IdempotencyKeys:
    """Gives a repeated request the ids that it got the first time."""

    def __init__(self, database: Database, secret: str) -> None:
        """Make it; `secret` is the same for every ingress process, and may have other purposes too."""
        self._database = database
        self._key = hmac.digest(secret.encode(), b"innkeeper idempotency keys", "sha256")

    async def ids(
        self,
        request: web.Request,
        user_id: int,
        body: object,
        new_ids: NewIds,
        accept: Callable[[], Awaitable[None]] | None = None,
        *,
        makes_booking: bool = False,
    ) -> Ids:
        """Return new ids for this request, or those that its Idempotency-Key was given before.

        Args:
            request: the request.
            user_id: its caller.
            body: its decoded body, a model or a struct.
            new_ids: makes the ids of a new request; called once, before `accept`.
            accept: raises a problem for a new request that makes no sense; a repeated one is not checked again.
            makes_booking: the request makes the booking of its ids.

        Raises:
            Problem: 422 when the key is malformed or was used with another body; any problem that `accept` raises.
        """
        key = request.headers.get("Idempotency-Key")
        if key is None:
            new = new_ids(None)
            if accept is not None:
                await accept()
            return new
        if not _KEY_FORM.fullmatch(key):
            raise Problem(422, "Idempotency-Key must be 1 to 255 visible ASCII characters")
        scope: dict[str, Any] = {"user_id": user_id, "endpoint": endpoint_of(request), "key": key}
        body_hash = hashlib.sha256(_encoded(body)).digest()
        seed = self._seed(**scope)
        new = replace(new_ids(seed), request_hash=self._request_hash(seed, body_hash))
        try:
            if accept is not None:
                await accept()
        except Problem:
            repeated = await self._find(scope, body_hash, new, makes_booking=makes_booking)
            if repeated is None:
                raise
            return repeated
        # The key is committed before the command is sent. If the broker is away then, the key stays: a guest who tries
        # again sends the very same command, and it can only be decided once.
        claim = Claim(body_hash=body_hash, command_id=new.command_id, booking_id=new.booking_id)
        async with self._database.writing(is_note=True) as connection:
            earlier = await accounts.claim_key(connection, **scope, claim=claim)
        return new if earlier is None else _repeated(earlier, body_hash, new)

    async def must_be_same(self, ids: Ids) -> None:
        """Check that the booking of these ids was made by the request of these ids, if the ledger has the booking.

        Raises:
            Problem: 422, another request with the same Idempotency-Key made it.
        """
        if ids.request_hash is not None:
            async with self._database.reading() as connection:
                await _is_made(connection, ids)

    async def _find(self, scope: dict[str, Any], body_hash: bytes, new: Ids, *, makes_booking: bool) -> Ids | None:
        """Return the ids of a request that would be refused now, if it was accepted before.

        Without the key's row, the booking itself shows that it was.
        """
        async with self._database.reading() as connection:
            claim = await accounts.find_claim(connection, **scope)
            if claim is not None:
                return _repeated(claim, body_hash, new)
            if makes_booking and await _is_made(connection, new):
                return replace(new, is_repeated=True)
        return None

    def _seed(self, user_id: int, endpoint: str, key: str) -> bytes:
        # A key has no NUL, so that the last one ends the endpoint.
        return self._hash(user_id.to_bytes(8, "big") + f"{endpoint}\0{key}".encode(), b"ids")

    def _request_hash(self, seed: bytes, body_hash: bytes) -> str:
        # It is keyed because bodies have personal data, which a plain hash on the log would confirm to whoever guesses.
        return self._hash(seed + body_hash, b"request").hex()

    def _hash(self, data: bytes, purpose: bytes) -> bytes:
        return hashlib.blake2b(data, key=self._key, digest_size=_SEED_BYTES, person=purpose).digest()


def endpoint_of(request: web.Request) -> str:
    """Return the endpoint within which an Idempotency-Key names one request: the same key elsewhere is another one."""
    return f"{request.method} {request.path}"


def another_request() -> Problem:
    """Return the problem of a request whose Idempotency-Key another one has."""
    return Problem(422, "the Idempotency-Key was used for another request")


def _repeated(claim: Claim, body_hash: bytes, new: Ids) -> Ids:
    """Return the ids of a request whose key has a row.

    Raises:
        Problem: 422, the row is another request's.
    """
    if claim.body_hash != body_hash:
        raise another_request()
    # A booking that was made under another secret, or by an older release, has another hash or none.
    request_hash = new.request_hash if claim.booking_id == new.booking_id else None
    return Ids(claim.command_id, claim.booking_id, request_hash, is_repeated=True)


async def _is_made(connection: AsyncConnection, ids: Ids) -> bool:
    """Return whether the ledger has the booking of these ids.

    Raises:
        Problem: 422, another request made it.
    """
    row = await bookings.request_hash_of(connection, ids.booking_id)
    if row is None:
        return False
    if row.request_hash not in (None, ids.request_hash):
        raise another_request()
    return True


def _encoded(body: object) -> bytes:
    """Return a body as bytes that are the same whichever way it was decoded."""
    return to_json(body) if isinstance(body, BaseModel) else msgspec.json.encode(body)
