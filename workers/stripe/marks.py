"""The mark of our objects at Stripe, by which several installations can share one Stripe account."""

import hashlib
import hmac
from typing import Final
from uuid import UUID

MARK: Final = "mark"
"""The name of the mark in an object's metadata."""
_MARK_BYTES: Final = 16


class Marks:
    """Makes and checks marks: an HMAC over a booking, its room and this installation, in hexadecimal digits."""

    def __init__(self, key: str, installation: UUID) -> None:
        self._key = key.encode()
        self._installation = installation

    def mark(self, booking_id: UUID, room_id: int) -> str:
        """Return the mark of an object about a booking."""
        text = f"{self._installation}:{booking_id}:{room_id}"
        return hmac.new(self._key, text.encode(), hashlib.sha256).digest()[:_MARK_BYTES].hex()

    def is_ours(self, mark: str, booking_id: UUID, room_id: int) -> bool:
        """Return whether this installation made the mark for the booking."""
        return hmac.compare_digest(mark.encode(), self.mark(booking_id, room_id).encode())
