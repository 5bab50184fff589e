"""The database in memory: rows, transactions that see what is committed, locks of rows, and connections with faults."""

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from copy import deepcopy
from datetime import datetime
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar
from uuid import UUID

import psycopg

from storage.bookings import BOOKING_COLUMNS
from tests.simulation.plan import Kind
from tests.simulation.process import Process

#: The statuses of rows of `refund` that are not at their end.
_UNFINISHED: Final = frozenset({"creating", "pending", "failed"})

T = TypeVar("T")
Key = tuple[str, Hashable]
#: A statement's name, its arguments, and those that have names.
_Call = tuple[str, tuple[Any, ...], Mapping[str, Any]]

_LOCK_SECONDS: Final = 5.0
_IDLE_SECONDS: Final = 10.0
_COLUMNS: Final = {name: position for position, name in enumerate(BOOKING_COLUMNS)}
#: The statuses of bookings whose deadlines the expiry timer looks at.
_WITH_DEADLINE: Final = frozenset({"RESERVING", "RESERVED", "GUESTS_ADDED", "PAYMENTS_PENDING", "CONFIRMED"})


class Statement(NamedTuple):
    """A step of a transaction, in the order of all of them.

    `name` is that of a statement, or `begin`, `commit` or `undo`; `now` is the time of the transaction's begin (UTC).
    """

    transaction: int
    now: datetime
    name: str
    arguments: tuple[Any, ...] = ()
    named: Mapping[str, Any] = MappingProxyType({})
    result: Any = None


class Rows:
    """All committed rows, by table and key."""

    def __init__(self) -> None:
        self._tables: dict[str, dict[Any, Any]] = {}
        #: The deadlines of holds: booking -> (deadline, room).
        self.holds: dict[UUID, tuple[datetime, int]] = {}
        #: The times at which calls to Stripe are due, by table and key.
        self.due: dict[str, dict[Any, datetime]] = {"checkout_session": {}, "refund": {}}
        #: The rows of `refund` that are not at their end.
        self.unfinished: dict[str, Any] = {}
        #: Called with each time at which a call becomes due.
        self.at_due: dict[Callable[[datetime], None], None] = {}

    def table(self, name: str) -> dict[Any, Any]:
        """Return a table's rows by key."""
        return self._tables.setdefault(name, {})

    def get(self, table: str, key: Hashable) -> Any:
        """Return a row; None: there is none."""
        return self.table(table).get(key)

    def write(self, changes: Mapping[Key, Any]) -> None:
        """Write rows; None deletes one."""
        for (table, key), row in changes.items():
            if row is None:
                self.table(table).pop(key, None)
            else:
                self.table(table)[key] = row
            if table == "booking":
                self._note_hold(row)
            elif table == "checkout_session":
                for attempt, session in row.items():
                    self._note_due(table, (key, attempt), session["next_attempt_at"])
            elif table == "refund":
                self._note_due(table, key, row["next_attempt_at"])
                if row["status"] in _UNFINISHED:
                    self.unfinished[row["payment_intent"]] = row
                else:
                    self.unfinished.pop(row["payment_intent"], None)

    def _note_due(self, table: str, key: Any, at: datetime | None) -> None:
        if at is None:
            self.due[table].pop(key, None)
        elif self.due[table].get(key) != at:
            self.due[table][key] = at
            for note in list(self.at_due):
                note(at)

    def _note_hold(self, row: Any) -> None:
        id, deadline = row[0], row[_COLUMNS["hold_expires_at"]]
        if deadline is not None and row[_COLUMNS["status"]] in _WITH_DEADLINE:
            self.holds[id] = (deadline, row[_COLUMNS["room_id"]])
        else:
            self.holds.pop(id, None)


class Transaction:
    """Rows as one transaction sees them: the rows committed so far, and its own changes."""

    def __init__(self, rows: Rows, number: int, began_at: float, time_of: Callable[[float], datetime]) -> None:
        self._rows = rows
        self.number = number
        self._began_at = began_at
        self._time_of = time_of
        self.changes: dict[Key, Any] = {}
        self.locks: dict[Key, None] = {}
        self.is_over = False

    @cached_property
    def now(self) -> datetime:
        """The time of its begin (UTC), which is PostgreSQL's `now()`."""
        return self._time_of(self._began_at)

    def get(self, table: str, key: Hashable) -> Any:
        """Return a row; None: there is none."""
        try:
            return self.changes[table, key]
        except KeyError:
            return self._rows.get(table, key)

    def keys(self, table: str) -> Iterator[Any]:
        """Yield the keys of a table's rows."""
        own = {key for name, key in self.changes if name == table}
        yield from (key for key in self._rows.table(table) if key not in own)
        yield from (key for key in own if self.changes[table, key] is not None)

    def put(self, table: str, key: Hashable, row: Any) -> None:
        """Write a row."""
        self.changes[table, key] = row


class Database:
    """A server. Its restart ends all sessions, and undoes what is not committed."""

    def __init__(
        self, time: Callable[[], float], time_of: Callable[[float], datetime], *, records: bool = False
    ) -> None:
        """`time` is the server's clock in seconds, of which `time_of` makes a time (UTC).

        `records`: keep the statements of all transactions.
        """
        self.rows = Rows()
        self.time = time
        self._time_of = time_of
        self.recorded: list[Statement] | None = [] if records else None
        self._begun = 0
        self.connections: dict[Connection, None] = {}
        self._holders: dict[Key, Transaction] = {}
        self._waiting: dict[Key, list[asyncio.Future[None]]] = {}
        #: Called after each commit that changed bookings.
        self.at_commit: list[Callable[[], None]] = []

    def begin(self) -> Transaction:
        """Begin a transaction."""
        self._begun += 1
        transaction = Transaction(self.rows, self._begun, self.time(), self._time_of)
        self.record(transaction, "begin")
        return transaction

    def now(self) -> datetime:
        """Return the server's time (UTC)."""
        return self._time_of(self.time())

    def record(self, transaction: Transaction, name: str) -> None:
        """Record a begin or an end, if this run is recorded."""
        if self.recorded is not None:
            self.recorded.append(Statement(transaction.number, transaction.now, name))

    def commit(self, transaction: Transaction) -> None:
        """Make a transaction's changes visible."""
        self.rows.write(transaction.changes)
        self.record(transaction, "commit")
        self.end(transaction)
        for note in self.at_commit:
            note()

    def end(self, transaction: Transaction) -> None:
        """Let a transaction's locks go."""
        transaction.is_over = True
        for key in transaction.locks:
            self._holders.pop(key, None)
            for future in self._waiting.pop(key, ()):
                if not future.done():
                    future.set_result(None)
        transaction.locks.clear()

    def restart(self) -> None:
        """End all sessions."""
        for connection in list(self.connections):
            connection.drop()

    def try_lock(self, transaction: Transaction, key: Key) -> bool:
        """Lock a row for a transaction unless another one holds it; return whether it is locked."""
        holder = self._holders.setdefault(key, transaction)
        if holder is transaction:
            transaction.locks[key] = None
        return holder is transaction

    async def lock(self, transaction: Transaction, keys: Iterable[Key], process: Process) -> None:
        """Lock rows for a transaction, in this order; wait for others that hold them.

        Raises:
            psycopg.errors.LockNotAvailable: one of them is held for too long.
        """
        deadline = self.time() + _LOCK_SECONDS
        for key in keys:
            while (holder := self._holders.get(key)) is not None and holder is not transaction:
                future = asyncio.get_running_loop().create_future()
                self._waiting.setdefault(key, []).append(future)
                try:
                    async with asyncio.timeout(deadline - self.time()):
                        await future
                except TimeoutError:
                    raise psycopg.errors.LockNotAvailable("canceling statement due to lock timeout") from None
                await process.pause(0)
            if transaction.is_over:
                raise psycopg.OperationalError("the transaction has ended (simulated)")
            self._holders[key] = transaction
            transaction.locks[key] = None


class Connection:
    """One process's session. The workers use its `transaction`, `pipeline`, `close`, and pass it to statements."""

    def __init__(self, database: Database, process: Process) -> None:
        self._database = database
        self._process = process
        self._transaction: Transaction | None = None
        self._error: Exception | None = None
        self.is_broken = False
        database.connections[self] = None
        process.at_death.append(self.drop)
        process.at_freeze.append(self._freeze)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Begin a transaction; commit it at the end of the block, or undo it after an error."""
        own = await self._process.step(Kind.BEGIN, self._begin)
        try:
            yield
        except BaseException:
            if self._transaction is own:
                self._undo()
            raise
        self._check(own)
        try:
            await self._process.step(Kind.COMMIT, lambda: self._commit(own))
        except BaseException:
            self.drop()
            raise

    @asynccontextmanager
    async def pipeline(self) -> AsyncIterator[None]:
        """Do nothing: statements do not wait for each other here."""
        yield

    async def close(self) -> None:
        """End the session."""
        self.drop()

    async def run(
        self,
        name: str,
        arguments: tuple[Any, ...],
        effect: Callable[[Transaction], T],
        *,
        locks: Iterable[Key] = (),
        named: Mapping[str, Any] = MappingProxyType({}),
    ) -> T:
        """Run one statement: in the transaction that is open, or in one of its own.

        `named` are arguments that have names.
        """
        own = self._transaction
        if own is None:
            return await self._run_alone((name, arguments, named), effect, locks)
        self._check(own)
        try:
            if locks:
                await self._database.lock(own, locks, self._process)
            return await self._process.step(Kind.STATEMENT, lambda: self._apply(own, (name, arguments, named), effect))
        except psycopg.OperationalError as error:
            # The server undoes it; psycopg's block has ended with this error.
            if not isinstance(error, psycopg.errors.SerializationFailure | psycopg.errors.QueryCanceled):
                self.drop()
            raise

    async def _run_alone(self, call: _Call, effect: Callable[[Transaction], T], locks: Iterable[Key]) -> T:
        """Run one statement in autocommit: it is committed by the time it is answered."""
        own = self._begin()

        def whole() -> T:
            result = self._apply(own, call, effect)
            self._commit(own)
            return result

        try:
            if locks:
                await self._database.lock(own, locks, self._process)
            return await self._process.step(Kind.COMMIT, whole)
        except BaseException as error:
            if self._transaction is own:
                self._undo()
            if not isinstance(error, psycopg.errors.SerializationFailure | psycopg.errors.LockNotAvailable):
                self.drop()
            raise

    def now(self) -> datetime:
        """Return the server's time (UTC)."""
        return self._database.now()

    def holds(self) -> Mapping[UUID, tuple[datetime, int]]:
        """Return the committed deadlines of holds, with their rooms, by booking."""
        return self._database.rows.holds

    def due(self, table: str) -> dict[Any, datetime]:
        """Return the times at which the committed rows of a table are due."""
        return self._database.rows.due[table]

    def unfinished(self) -> Mapping[str, Any]:
        """Return the committed rows of `refund` that are not at their end, by payment."""
        return self._database.rows.unfinished

    def try_lock(self, own: Transaction, key: Key) -> bool:
        """Lock a row unless another transaction holds it; return whether it is locked."""
        return self._database.try_lock(own, key)

    def drop(self) -> None:
        """End the session on the server: its transaction is undone."""
        if self._transaction is not None:
            self._undo()
        self.is_broken = True
        self._database.connections.pop(self, None)

    def _begin(self) -> Transaction:
        assert self._transaction is None, "the workers nest no transactions"
        self._check(None)
        self._transaction = self._database.begin()
        return self._transaction

    def _undo(self) -> None:
        own, self._transaction = self._transaction, None
        assert own is not None
        self._database.record(own, "undo")
        self._database.end(own)

    def _commit(self, own: Transaction) -> None:
        self._check(own)
        self._transaction = None
        self._database.commit(own)

    def _apply(self, own: Transaction, call: _Call, effect: Callable[[Transaction], T]) -> T:
        self._check(own)
        result = effect(own)
        if self._database.recorded is not None:
            self._database.recorded.append(Statement(own.number, own.now, *call, deepcopy(result)))
        return result

    def _check(self, own: Transaction | None) -> None:
        """Raise the error that a session gets which has ended, or whose transaction has."""
        if self._error is not None:
            raise self._error
        if self.is_broken:
            raise psycopg.OperationalError("the connection is closed (simulated)")
        if own is not self._transaction:
            raise psycopg.OperationalError("the transaction has ended (simulated)")

    def _freeze(self, seconds: float) -> None:
        """Let the server end the transaction of a process that is frozen for too long."""
        own = self._transaction
        if own is not None and seconds > _IDLE_SECONDS:
            asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._end_idle, own)

    def _end_idle(self, own: Transaction) -> None:
        if self._transaction is own and not self.is_broken:
            self._error = psycopg.errors.IdleInTransactionSessionTimeout(
                "terminating connection due to idle-in-transaction timeout (simulated)"
            )
            self.drop()
