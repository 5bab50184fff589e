"""Names the reason for which PostgreSQL cannot be used: one word, the same in logs, metrics and health."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import psycopg
from psycopg import errors
from psycopg_pool import PoolTimeout


class Reason(StrEnum):
    """Why the database cannot be used; all of them pass without a change of the data or of the program."""

    AWAY = "away"
    """No connection, or no answer in time."""
    FULL = "full"
    """Its disk or its memory is full."""
    BUSY = "busy"
    """All of its connections, or all of our pool's, are in use."""
    LOCKED = "locked"
    """Another session held a row or a table for too long."""
    NO_RIGHT = "no right"
    """Our user lacks a right."""
    READ_ONLY = "read-only"
    """The server takes no writes: a standby, maybe since a moment ago."""

    @property
    def in_words(self) -> str:
        """The rest of a sentence that begins with "The database"."""
        return "gives our user no right" if self is Reason.NO_RIGHT else f"is {self}"


_BY_SQLSTATE: Final[Mapping[str, Reason]] = {
    "25006": Reason.READ_ONLY,
    "28000": Reason.NO_RIGHT,
    "28P01": Reason.NO_RIGHT,
    "42501": Reason.NO_RIGHT,
    "53300": Reason.BUSY,
    "55P03": Reason.LOCKED,
}
#: The class of errors of a server that lacks a resource; of all of them only connections are no matter of its size.
_NO_RESOURCE: Final = "53"
#: A refused connection has its reason only in words: the server's, in English, or libpq's.
_BY_WORDS: Final[Mapping[str, Reason]] = {
    "too many clients already": Reason.BUSY,
    "too many connections for": Reason.BUSY,
    "remaining connection slots are reserved": Reason.BUSY,
    "password authentication failed": Reason.NO_RIGHT,
    "no pg_hba.conf entry": Reason.NO_RIGHT,
    "permission denied for database": Reason.NO_RIGHT,
    "is not permitted to log in": Reason.NO_RIGHT,
    "session is read-only": Reason.READ_ONLY,
    "server is in hot standby mode": Reason.READ_ONLY,
}
_AWAY: Final = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    # The session of a process that was frozen in the middle of a transaction is gone when it wakes.
    errors.IdleInTransactionSessionTimeout,
    errors.TransactionTimeout,
)


def reason_of(error: BaseException) -> Reason | None:
    """Return why the database cannot be used; None for an error of another kind, which trying again does not mend.

    Takes psycopg's errors, also as SQLAlchemy wraps them. After any reason the connection is closed and made anew: it
    may be one to a server that is a primary no more.
    """
    cause = getattr(error, "orig", None) or error
    if not isinstance(cause, psycopg.Error):
        return None
    if isinstance(cause, PoolTimeout):
        return Reason.BUSY
    if cause.sqlstate is not None:
        if found := _BY_SQLSTATE.get(cause.sqlstate):
            return found
        if cause.sqlstate.startswith(_NO_RESOURCE):
            return Reason.FULL
    elif found := next((reason for words, reason in _BY_WORDS.items() if words in str(cause)), None):
        return found
    return Reason.AWAY if isinstance(cause, _AWAY) else None
