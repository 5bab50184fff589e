"""Booking ids that any ingress process can recognise as its user's, before the ledger has the booking.

An id is a UUIDv8 (RFC 9562, section 5.8): 48 bits of Unix time in ms, 34 bits that differ within a millisecond,
and 40 bits of a keyed hash (BLAKE2b, RFC 7693) over those and the user. Nobody else can make an id that we would call
pending, and an id does not reveal its user.

The id for a request with an Idempotency-Key is the same each time, so it has no time: in place of time and count it has
bits that follow from the user, the endpoint and the key (`ingress.log.idempotency`), and the highest of them is set.

The 34 bits count from a random start, so one process never gives an id twice, and two processes that serve the same
user meet less than once in a million seconds. Random bits in the 12 bits left of the first half would not be enough:
one user's program that books thousands a second would get the same id twice within a second.
"""

import hashlib
import hmac
import itertools
import secrets
import time
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

_VERSION: Final = 8 << 76
_VARIANT: Final = 0b10 << 62
_HASH_BYTES: Final = 5
_HASH_BITS: Final = 8 * _HASH_BYTES
_HASH_MASK: Final = (1 << _HASH_BITS) - 1
_LOW_BITS: Final = 22
#: The highest bit of the 48 of a time: no time before the year 6429 has it.
_NO_TIME: Final = 1 << 47
_LOW_MASK: Final = (1 << _LOW_BITS) - 1


class BookingIds:
    """Issues ids and recognises them. `key` is secret and the same for every ingress process."""

    def __init__(self, key: bytes) -> None:
        # BLAKE2b takes 64 bytes of key, a setting may be longer. Beside HMAC by OpenSSL it saves a tenth of a request.
        self._key = hashlib.blake2b(key, digest_size=32).digest()
        self._count = itertools.count(secrets.randbits(34))

    @classmethod
    def with_key_from(cls, secret: str) -> "BookingIds":
        """Derive the key from a secret that has another purpose too."""
        return cls(hmac.digest(secret.encode(), b"innkeeper booking ids", "sha256"))

    def issue(self, user_id: int) -> UUID:
        """Return a new id for a booking of this user."""
        return self._id(user_id, time.time_ns() // 1_000_000, next(self._count))

    def of_request(self, user_id: int, seed: bytes) -> UUID:
        """Return the id of the booking that a request with an Idempotency-Key makes: the same one each time.

        `seed` are 16 bytes that follow from the request and that nobody else can compute.
        """
        number = int.from_bytes(seed, "big")
        return self._id(user_id, number >> 80 | _NO_TIME, number)

    def of_leg(self, user_id: int, trip_id: UUID, number: int) -> UUID:
        """Return the id of this user's leg with this number of a trip: the same one each time."""
        hashed = hashlib.blake2b(trip_id.bytes + number.to_bytes(1, "big"), key=self._key, digest_size=8).digest()
        return self._id(user_id, trip_id.int >> 80, int.from_bytes(hashed, "big"))

    def _id(self, user_id: int, milliseconds: int, count: int) -> UUID:
        high, low = (count >> _LOW_BITS) & 0xFFF, count & _LOW_MASK
        open_part = milliseconds << 80 | _VERSION | high << 64 | _VARIANT | low << _HASH_BITS
        return UUID(int=open_part | int.from_bytes(self._hash(open_part, user_id), "big"))

    def was_issued_to(self, user_id: int, booking_id: UUID) -> bool:
        """Whether this id was issued to this user, by whichever process."""
        given = booking_id.bytes[-_HASH_BYTES:]
        return hmac.compare_digest(given, self._hash(booking_id.int & ~_HASH_MASK, user_id))

    def _hash(self, open_part: int, user_id: int) -> bytes:
        hashed = open_part.to_bytes(16, "big") + user_id.to_bytes(8, "big")
        return hashlib.blake2b(hashed, key=self._key, digest_size=_HASH_BYTES).digest()


def issued_at(booking_id: UUID) -> datetime | None:
    """Return the time in an id that we issued (UTC); None: an Idempotency-Key made it."""
    milliseconds = booking_id.int >> 80
    return None if milliseconds & _NO_TIME else datetime.fromtimestamp(milliseconds / 1000, UTC)
