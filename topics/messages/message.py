"""The base of every message on the log: a frozen, keyword-only value with a message type of its own."""

from typing import Annotated, ClassVar

import msgspec

#: Integers that PostgreSQL can hold; anything beyond is refused when a command is read.
Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
#: An amount that moved: there is none of nothing, and none below.
Amount = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A value that travels on a topic.

    `message_type` is its name and version there (`booking.reserve.v1`), never derived from the class. Readers ignore
    unknown fields, so that a field can be added; a breaking change is a new version.
    """

    message_type: ClassVar[str]
