"""The expiry role: ends holds whose time is over, and keeps a year of nights on sale."""

from workers.expiry.holds import run

__all__ = ["run"]
