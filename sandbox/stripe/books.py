"""The stand-in's books on disk: Stripe's objects, the money that moved, and the tasks to come.

SQLite in WAL mode: every commit outlives a killed process. Money is counted in a table
of its own to which rows are only added, so that it can be audited without trusting the objects.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

Json = dict[str, Any]
MoneyKind = Literal["capture", "refund", "refund_reversed", "dispute", "dispute_reversed", "dispute_lost"]
"""A kind of entry. `dispute_lost` moves no money: it makes final what its dispute took."""

_MONEY_KINDS = ", ".join(f"'{kind}'" for kind in get_args(MoneyKind))
_MONEY = f"""
CREATE TABLE IF NOT EXISTS money (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    payment_intent TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ({_MONEY_KINDS})),
    amount_minor INTEGER NOT NULL CHECK (amount_minor > 0),
    currency TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS money_by_payment ON money (payment_intent);
"""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS stripe_object (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS object_by_kind ON stripe_object (kind, sequence);
CREATE INDEX IF NOT EXISTS object_by_payment
    ON stripe_object (json_extract(body, '$.payment_intent'), kind);

CREATE TABLE IF NOT EXISTS setting (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE IF NOT EXISTS timer (
    task TEXT NOT NULL,
    object_id TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (task, object_id)
);
CREATE INDEX IF NOT EXISTS timer_by_time ON timer (at);

CREATE TABLE IF NOT EXISTS idempotency (
    key TEXT PRIMARY KEY,
    at REAL NOT NULL,
    request TEXT NOT NULL,
    request_id TEXT NOT NULL,
    status INTEGER NOT NULL,
    body TEXT NOT NULL
);

CREATE TABLE IF NOT EXISTS delivery (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL,
    event_type TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'held', 'withheld', 'delivered', 'given_up')),
    due_at REAL NOT NULL,
    first_at REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    last_answer TEXT
);
DROP INDEX IF EXISTS delivery_to_do;
CREATE INDEX IF NOT EXISTS delivery_by_state ON delivery (state, due_at);
CREATE INDEX IF NOT EXISTS delivery_by_event ON delivery (event_id);
"""


_SUMS = """
    coalesce(sum(m.amount_minor) FILTER (WHERE m.kind = 'capture'), 0),
    coalesce(sum(CASE m.kind WHEN 'refund' THEN m.amount_minor WHEN 'refund_reversed' THEN -m.amount_minor END), 0),
    coalesce(sum(CASE m.kind WHEN 'dispute' THEN m.amount_minor
        WHEN 'dispute_reversed' THEN -m.amount_minor WHEN 'dispute_lost' THEN -m.amount_minor END), 0),
    coalesce(sum(m.amount_minor) FILTER (WHERE m.kind = 'dispute_lost'), 0)
"""

_SUMS_OF_A_PAYMENT = f"SELECT {_SUMS} FROM money m WHERE m.payment_intent = ?"  # noqa: S608 - a constant.
# `+p.id` is an expression, which has no affinity: the index of sessions by payment compares without one too. With
# `p.id` SQLite would read all sessions for each payment.
_SUMS_OF_ALL = f"""
SELECT p.body, s.body, count(*) FILTER (WHERE m.kind = 'refund'), {_SUMS}
FROM stripe_object p
LEFT JOIN money m ON m.payment_intent = p.id
LEFT JOIN stripe_object s
    ON json_extract(s.body, '$.payment_intent') = +p.id AND s.kind = 'checkout.session'
WHERE p.kind = 'payment_intent'
GROUP BY p.sequence ORDER BY p.sequence
"""  # noqa: S608 - a constant.


@dataclass(frozen=True)
class Balance:
    """A payment's money in minor units; open disputes hold `disputed_minor`, lost ones took `lost_minor`."""

    captured_minor: int
    refunded_minor: int
    disputed_minor: int
    lost_minor: int

    @property
    def left_minor(self) -> int:
        """The part that is neither refunded nor lost; negative if a dispute took what was refunded before."""
        return self.captured_minor - self.refunded_minor - self.lost_minor


@dataclass(frozen=True, kw_only=True)
class SavedAnswer:
    """A stored answer to an idempotency key."""

    request: str
    request_id: str
    status: int
    body: str


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One event on its way to the webhook endpoint; times are in real seconds since the epoch."""

    id: int
    event_id: str
    event_type: str
    due_at: float
    first_at: float
    attempts: int


class Books:
    """The open books. Every method is quick and synchronous: no change is ever half done."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(folder / "stripe.sqlite3", isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        # A killed process loses nothing at NORMAL; only a power cut could, which is not our tests'.
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(_SCHEMA)
        self._listeners: list[Callable[[], None]] = []
        self._make_money()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def wakes(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every commit."""
        self._listeners.append(listener)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make everything inside happen together or not at all."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
        for wake in self._listeners:
            wake()

    # Stripe's objects.

    def put(self, stored: Json) -> None:
        """Write an object, new or changed."""
        self._db.execute(
            "INSERT INTO stripe_object (id, kind, body) VALUES (?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET body = excluded.body",
            (stored["id"], stored["object"], json.dumps(stored)),
        )

    def find(self, kind: str, object_id: str) -> Json | None:
        """Read an object."""
        row = self._db.execute("SELECT body FROM stripe_object WHERE id = ? AND kind = ?", (object_id, kind)).fetchone()
        return None if row is None else _json(row[0])

    def sequence_of(self, object_id: str) -> int | None:
        """Return an object's number in the order of creation."""
        row = self._db.execute("SELECT sequence FROM stripe_object WHERE id = ?", (object_id,)).fetchone()
        return None if row is None else int(row[0])

    def page(
        self, kind: str, conditions: list[tuple[str, Any]], *, limit: int, newest_first: bool = True
    ) -> list[Json]:
        """Read up to `limit` objects of a kind; conditions are SQL of ours with one value each."""
        where = " AND ".join(["kind = ?", *(sql for sql, _ in conditions)])
        order = "DESC" if newest_first else "ASC"
        rows = self._db.execute(
            f"SELECT body FROM stripe_object WHERE {where}"  # noqa: S608 - no part comes from a request.
            f" ORDER BY sequence {order} LIMIT ?",
            (kind, *(value for _, value in conditions), limit),
        )
        return [_json(row[0]) for row in rows]

    # Money.

    def _make_money(self) -> None:
        """Make the table of money, or widen the one that an older stand-in left: it knows fewer kinds of entries."""
        old = self._db.execute("SELECT sql FROM sqlite_schema WHERE name = 'money'").fetchone()
        if old is None or _MONEY_KINDS in old[0]:
            self._db.executescript(_MONEY)
            return
        with self.transaction():
            self._db.execute("ALTER TABLE money RENAME TO old_money")
            self._db.execute("DROP INDEX money_by_payment")
            for statement in _MONEY.split(";"):
                self._db.execute(statement)
            self._db.execute("INSERT INTO money SELECT * FROM old_money")
            self._db.execute("DROP TABLE old_money")

    def move_money(self, kind: MoneyKind, payment: Json, amount_minor: int, at: float) -> None:
        """Record that money came or went."""
        self._db.execute(
            "INSERT INTO money (at, payment_intent, kind, amount_minor, currency) VALUES (?, ?, ?, ?, ?)",
            (int(at), payment["id"], kind, amount_minor, payment["currency"]),
        )

    def balance(self, payment_intent: str) -> Balance:
        """Count a payment's money."""
        return Balance(*self._db.execute(_SUMS_OF_A_PAYMENT, (payment_intent,)).fetchone())

    def balances(self) -> list[Json]:
        """Count every payment's money; one row for each payment intent, in order of creation."""
        return [
            _balance(_json(payment), {} if session is None else _json(session), refunds, Balance(*sums))
            for payment, session, refunds, *sums in self._db.execute(_SUMS_OF_ALL).fetchall()
        ]

    def of_payment(self, kind: str, payment_intent: str) -> list[Json]:
        """List the objects of a kind that belong to a payment, in order of creation."""
        return self.page(
            kind, [("json_extract(body, '$.payment_intent') = ?", payment_intent)], limit=-1, newest_first=False
        )

    # Settings that a test changes.

    def setting(self, name: str) -> Any:
        """Read a setting; None if it was never written."""
        row = self._db.execute("SELECT value FROM setting WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def write_setting(self, name: str, value: Any) -> None:
        """Write a setting, which outlives a restart."""
        self._db.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (name, json.dumps(value)))

    # Tasks that are due at a moment of the stand-in's clock.

    def set_timer(self, task: str, object_id: str, at: float) -> None:
        """Have a task done for an object at a time."""
        self._db.execute("INSERT OR REPLACE INTO timer VALUES (?, ?, ?)", (task, object_id, at))

    def drop_timer(self, task: str, object_id: str) -> None:
        """Call a task off."""
        self._db.execute("DELETE FROM timer WHERE task = ? AND object_id = ?", (task, object_id))

    def due_timer(self, now: float) -> tuple[str, str] | None:
        """Give the earliest task that is due, and its object."""
        row = self._db.execute("SELECT task, object_id FROM timer WHERE at <= ? ORDER BY at LIMIT 1", (now,)).fetchone()
        return None if row is None else (row[0], row[1])

    def next_timer_at(self) -> float | None:
        """Return the time at which the next task is due."""
        (at,) = self._db.execute("SELECT min(at) FROM timer").fetchone()
        return None if at is None else float(at)

    # Idempotency keys.

    def saved_answer(self, key: str, not_before: float) -> SavedAnswer | None:
        """Read what a key remembers, unless it is older than `not_before`."""
        row = self._db.execute(
            "SELECT request, request_id, status, body FROM idempotency WHERE key = ? AND at >= ?",
            (key, not_before),
        ).fetchone()
        if row is None:
            return None
        return SavedAnswer(request=row[0], request_id=row[1], status=row[2], body=row[3])

    def save_answer(self, key: str, answer: SavedAnswer, at: float) -> None:
        """Remember an answer under a key."""
        self._db.execute(
            "INSERT OR REPLACE INTO idempotency VALUES (?, ?, ?, ?, ?, ?)",
            (key, at, answer.request, answer.request_id, answer.status, answer.body),
        )

    # Webhooks on their way; their times are real ones.

    def send(self, event: Json, *, state: str, at: float, first_at: float) -> None:
        """Put an event on its way."""
        self._db.execute(
            "INSERT INTO delivery (event_id, event_type, state, due_at, first_at) VALUES (?, ?, ?, ?, ?)",
            (event["id"], event["type"], state, at, first_at),
        )

    def due_deliveries(self, now: float, limit: int) -> list[Delivery]:
        """List the deliveries to try now, the longest due first."""
        rows = self._db.execute(
            "SELECT id, event_id, event_type, due_at, first_at, attempts FROM delivery"
            " WHERE state = 'pending' AND due_at <= ? ORDER BY due_at, id LIMIT ?",
            (now, limit),
        )
        return [
            Delivery(
                id=row[0],
                event_id=row[1],
                event_type=row[2],
                due_at=row[3],
                first_at=row[4],
                attempts=row[5],
            )
            for row in rows
        ]

    def next_delivery_at(self, after: float) -> float | None:
        """Return the time at which the next later delivery is due."""
        (at,) = self._db.execute(
            "SELECT min(due_at) FROM delivery WHERE state = 'pending' AND due_at > ?", (after,)
        ).fetchone()
        return None if at is None else float(at)

    def undelivered(self, event_id: str) -> int:
        """Count the deliveries of an event that were not taken."""
        (count,) = self._db.execute(
            "SELECT count(*) FROM delivery WHERE event_id = ? AND state <> 'delivered'",
            (event_id,),
        ).fetchone()
        return int(count)

    def delivered(self, delivery: Delivery, answer: str, now: float) -> None:
        """Record a delivery that was taken, and let go those that waited for a later one."""
        self._db.execute(
            "UPDATE delivery SET state = 'delivered', attempts = attempts + 1, last_answer = ? WHERE id = ?",
            (answer, delivery.id),
        )
        self._db.execute(
            "UPDATE delivery SET state = 'pending', due_at = ? WHERE state = 'held' AND id < ? AND event_id <> ?",
            (now, delivery.id, delivery.event_id),
        )

    def not_delivered(self, delivery: Delivery, answer: str, again_at: float | None) -> None:
        """Record a delivery that failed; `again_at` None gives it up."""
        self._db.execute(
            "UPDATE delivery SET state = iif(? IS NULL, 'given_up', state),"
            " due_at = coalesce(?, due_at), attempts = attempts + 1, last_answer = ? WHERE id = ?",
            (again_at, again_at, answer, delivery.id),
        )

    def release_held(self, now: float) -> None:
        """Let go every delivery that waits for a later one."""
        self._db.execute("UPDATE delivery SET state = 'pending', due_at = ? WHERE state = 'held'", (now,))

    def deliveries(self) -> list[Json]:
        """List every delivery with its state."""
        cursor = self._db.execute(
            "SELECT id, event_id, event_type, state, due_at, attempts, last_answer FROM delivery ORDER BY id"
        )
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]


def _json(text: str) -> Json:
    stored: Json = json.loads(text)
    return stored


def _balance(payment: Json, session: Json, refunds: int, balance: Balance) -> Json:
    return {
        "payment_intent": payment["id"],
        "status": payment["status"],
        "currency": payment["currency"],
        "captured_minor": balance.captured_minor,
        "refunded_minor": balance.refunded_minor,
        "disputed_minor": balance.disputed_minor,
        "lost_minor": balance.lost_minor,
        "refunds": refunds,
        "metadata": payment["metadata"],
        "checkout_session": session.get("id"),
        "session_metadata": session.get("metadata", {}),
        "client_reference_id": session.get("client_reference_id"),
    }
