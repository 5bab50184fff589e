"""The person for whom this task answers a request: the envelope of each command that it sends names them."""

from contextvars import ContextVar
from typing import Final

#: A connection's requests share a task, so each of them sets it.
_actor: Final[ContextVar[str | None]] = ContextVar("actor", default=None)


def act_for(user_id: int | None) -> None:
    """Set the account that the request at hand is authenticated as; None: nobody is logged in."""
    _actor.set(None if user_id is None else f"user/{user_id}")


def actor() -> str | None:
    """Return the actor as an envelope names them: `user/17`; None where nobody is logged in."""
    return _actor.get()
