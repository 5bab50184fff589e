"""What every message on the log is: a frozen, keyword-only value with a wire name of its own."""

from typing import ClassVar

import msgspec


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A value that travels on a topic.

    `wire` is its name and version there (`booking.reserve.v1`), never derived from the class. Unknown
    fields are ignored when read, so that a field can be added; a breaking change is a new version.
    """

    wire: ClassVar[str]
