"""Writes on a connection that has ended, on the two event loops.

asyncio's own loop ignores such a write, and the next read fails. uvloop 0.23 raises RuntimeError once the transport is
closed (https://github.com/MagicStack/uvloop/issues/506). Libraries that are written for the former catch OSError alone:
redis 8.1, and aiokafka 0.14 (https://github.com/aio-libs/aiokafka/issues/1038).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

#: The end of uvloop's message.
_CLOSED: Final = "the handler is closed"


@contextmanager
def raises_os_error() -> Iterator[None]:
    """Let a write on a connection that has ended be an OSError, of which every caller knows what it means.

    Raises:
        ConnectionResetError: in place of uvloop's RuntimeError; any other error stays as it is.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).endswith(_CLOSED):
            raise
        raise ConnectionResetError("the connection has ended") from error
