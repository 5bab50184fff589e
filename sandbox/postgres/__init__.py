"""PostgreSQL for the sandbox and the tests: `with Postgres(folder) as server: ... server.url`."""

from sandbox.postgres.server import Postgres, available

__all__ = ["Postgres", "available"]
