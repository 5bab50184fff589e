"""The expiry role: ends holds whose time is over, keeps a year of nights on sale, and deletes rows that are too old."""

from workers.expiry.holds import run

__all__ = ["run"]
