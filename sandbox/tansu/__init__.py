"""Tansu, a broker that keeps everything in memory, for a first try without Java."""

from sandbox.tansu.broker import Tansu, available

__all__ = ["Tansu", "available"]
