"""The location of a part of a system: its address, and how a program is started there."""

from dataclasses import dataclass
from typing import Final

HERE: Final = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class Location:
    """Where a part runs: by default at 127.0.0.1, on this machine's own network.

    `host` is the address at which it listens and others reach it, `port` its port there (None: any free one). `prefix`
    are the words that start a program in that network, such as `nsenter --net=/proc/7/ns/net --`; they must become the
    program, as `exec` does, because its pid is the part's.
    """

    host: str = HERE
    port: int | None = None
    prefix: tuple[str, ...] = ()
