"""The reservations role: decides every command about a room, and keeps bookings and inventory."""

from workers.reservations.handler import build

__all__ = ["build"]
