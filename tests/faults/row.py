"""A row of the fault matrix: a fault, how it is made, on which system, and the promises that it must not break."""

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Final, LiteralString

import psycopg

from sandbox.system import Plan, System
from tests.system.deploy.guests import Guests
from tests.system.pipeline.load import Town


class Promise(Enum):
    """A promise that no fault may break. The audit and the checker judge each of them from outside."""

    NO_ROOM_SOLD_TWICE = "No room and night is sold beyond its limit."
    COUNTS_ADD_UP = "The counts of each night are the sum over its bookings."
    EVERY_PROMISE_IS_KEPT = "Each request that was answered 202 is decided once, and its answer does not change."
    ONE_KEY_ONE_BOOKING = "One Idempotency-Key is one booking."
    MONEY_IS_EXPLAINED = "Each cent at Stripe is explained by an event: money buys a room or goes back."
    HOLDS_END_IN_TIME = "No unpaid hold outlives its deadline, and none ends early."
    THE_LOG_HAS_NO_GAP = "The events of a partition have no gap, and a booking's moves are legal."
    READ_MODELS_AGREE = "Each read model equals one that is rebuilt from the log."
    NO_STATUS_GOES_BACK = "No client sees the status of a booking go back."
    DEAD_LETTERS_ARE_EXPLAINED = "Each record that cannot be read is kept with its reason."
    TRIPS_ARE_WHOLE = "A trip has all of its legs or none."
    IT_RECOVERS = "After the fault a booking is asked for, paid and confirmed as before."


#: The promises that networks keep which are cut, late or silent.
OF_NETWORKS: Final = (
    Promise.EVERY_PROMISE_IS_KEPT,
    Promise.NO_ROOM_SOLD_TWICE,
    Promise.ONE_KEY_ONE_BOOKING,
    Promise.MONEY_IS_EXPLAINED,
    Promise.THE_LOG_HAS_NO_GAP,
    Promise.IT_RECOVERS,
)


@dataclass(frozen=True, kw_only=True)
class Group:
    """The rows that one running system serves; `around` wraps the system, such as with networks of its own."""

    name: str
    #: The system as the page describes it, such as "one broker, two workers of reservations".
    system: str
    plan: Callable[[Path], Plan]
    around: Callable[[Plan], AbstractAsyncContextManager[Plan]] | None = None
    #: Makes the things that its rows use beside the system (`Scene.tools`); they end before it.
    tools: Callable[[System], AbstractAsyncContextManager[Mapping[str, Any]]] | None = None
    #: Why this machine cannot have such a system; None: it can.
    missing: Callable[[], str | None] = lambda: None


@dataclass(kw_only=True)
class Scene:
    """A running system under load, for the code that breaks it."""

    system: System
    #: Visitors with many stories; they come for as long as the fault lasts.
    town: Town
    #: Guests who only book, in each room in turn.
    guests: Guests
    #: The seed's own chance: no row draws from another.
    chance: random.Random
    #: The things that `Group.tools` made, by name, such as the proxies of a network.
    tools: Mapping[str, Any] = field(default_factory=dict)
    #: The observations that explain the row, such as "a new client was made": CI asserts these in place of seconds.
    causes: Counter[str] = field(default_factory=Counter)
    #: Figures that only this row has, for the page: name and value with its unit.
    figures: dict[str, str] = field(default_factory=dict)
    #: Whether the log's time leaps: waits are those of guests by the wall, and no end of a hold has a limit.
    log_time_leaps: bool = False
    #: Problems by the row's own checks.
    problems: list[str] = field(default_factory=list)
    #: Called when the fault is over although `breaks` goes on, to see for instance that a part runs again: the time to
    #: recover begins now, anew with each call. Without one it begins when `breaks` returns.
    over: Callable[[], None] = lambda: None

    async def rows(self, query: LiteralString, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Ask the system's database."""
        async with await psycopg.AsyncConnection.connect(self.system.database_url) as connection:
            return await (await connection.execute(query, parameters)).fetchall()


@dataclass(frozen=True, kw_only=True)
class Row:
    """A fault. `breaks` makes it under load, and returns when it is over or calls `Scene.over`.

    Parts may still be on their way back then.
    """

    #: As in the design's table, with a letter for variants: F6, F6b.
    id: str
    fault: str
    made_by: str
    group: Group
    promises: tuple[Promise, ...]
    breaks: Callable[[Scene], Awaitable[None]]
    #: The longest that a booking may wait for its decision because of the fault.
    max_wait_seconds: float
    #: The longest from the end of the fault until a new booking is confirmed.
    max_recovery_seconds: float = 30.0
    #: Answers that clients may get beside those of a quiet system: statuses, and "none" for a connection that ended.
    answers: frozenset[str] = frozenset({"503", "none"})
    #: Each must be among the scene's causes.
    causes: tuple[str, ...] = ()
    #: The parts that may end with a failure of their own, such as a broker whose disk is full.
    may_end: frozenset[str] = frozenset()
    #: Whether it leaves thousands of records, which later rows would all read: it is played after the others.
    is_crowd: bool = False
    #: Why this machine cannot make the fault; None: it can.
    missing: Callable[[], str | None] = lambda: None
