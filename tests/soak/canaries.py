"""Rows that are too old, planted in tables that somebody cleans: those that stay show that the cleaning has stopped.

A run lasts hours, and most rows may stay for days. So that a run notices when nothing deletes them any more, these are
written with a time in the past.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg

#: The slowest cleaning is done every minute, and that of tokens at each login of the planted account.
MAX_STAY_SECONDS: Final = 180.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Canary:
    """A row that must be deleted soon: `plant` inserts it, and `present` counts it."""

    table: str
    kept: str
    cleaned_by: str
    plant: str
    present: str


CANARIES: Final[Sequence[Canary]] = (
    Canary(
        table="outbox",
        kept="until the broker has acknowledged the records",
        cleaned_by="the transaction of the partition's next batch (storage/cursors.py)",
        # Before the first offset, so that no worker can take it for records that are to be sent.
        plant="insert into outbox (consumer, topic, partition, generation, last_offset, records)"
        " select consumer, topic, partition, generation, -1, '' from log_cursor where consumer = 'reservations'"
        " and applied >= 0 order by applied desc limit 1 on conflict do nothing",
        present="select count(*) from outbox where last_offset = -1",
    ),
    Canary(
        table="refresh_token",
        kept="`REFRESH_TOKEN_DAYS` (7), used ones too",
        cleaned_by="logins and refreshes, of the account itself or of others (ingress/accounts/refresh.py)",
        plant="insert into refresh_token (token_hash, family, user_id, expires_at)"
        " values ('\\x50a4', gen_random_uuid(), %(user)s, now() - interval '1 minute') on conflict do nothing",
        present="select count(*) from refresh_token where token_hash = '\\x50a4'",
    ),
    Canary(
        table="unattributed_object",
        kept="for a week",
        cleaned_by="payments, every 15 s (workers/payments/unattributed.py)",
        plant="insert into unattributed_object (object_id, state, kind, payment_intent, fields, created_at)"
        " values ('re_soak', 'pending', 'refund', 'pi_soak', '{}', now() - interval '8 days') on conflict do nothing",
        present="select count(*) from unattributed_object where object_id = 're_soak'",
    ),
    Canary(
        table="stripe_circuit",
        kept="for an hour, for a worker that died",
        cleaned_by="any worker of payments, every 15 s (storage/stripe_circuits.py)",
        plant="insert into stripe_circuit (worker, state, seen_at)"
        " values ('soak', 'closed', now() - interval '2 hours') on conflict do nothing",
        present="select count(*) from stripe_circuit where worker = 'soak'",
    ),
    Canary(
        table="dead_letter",
        kept="`DEAD_LETTERS_KEPT_DAYS` (60)",
        cleaned_by="the leader of expiry, every minute (workers/expiry/old_rows.py)",
        plant='insert into dead_letter (consumer, topic, partition, generation, "offset", reason, created_at)'
        " values ('soak', 'soak', 0, 0, 0, 'soak', now() - interval '61 days') on conflict do nothing",
        present="select count(*) from dead_letter where consumer = 'soak'",
    ),
    Canary(
        table="dead_letter_end",
        kept="`DEAD_LETTERS_KEPT_DAYS` (60)",
        cleaned_by="the leader of expiry, every minute (workers/expiry/old_rows.py)",
        plant='insert into dead_letter_end (topic_id, partition, "offset", ended, who, began_at)'
        " values ('soak', 0, 0, 'replayed', 'soak', now() - interval '61 days') on conflict do nothing",
        present="select count(*) from dead_letter_end where topic_id = 'soak'",
    ),
    Canary(
        table="room_night_change",
        kept="for the last 100,000 positions of a partition",
        cleaned_by="the partition's next batch that changes a night (storage/projections/night_changes.py)",
        # In the partition that changes most. No event has such a position, and neither audit nor search reads it.
        plant="insert into room_night_change (partition, position, room_id, first_night, end_night)"
        " select partition, max(position) - 200000, 0, 'epoch', 'epoch' from room_night_change"
        " group by partition order by count(*) desc limit 1 on conflict do nothing",
        present="select count(*) from room_night_change where first_night = 'epoch'",
    ),
)


async def plant(database_url: str, user_id: int) -> list[str]:
    """Insert a row of each; return the tables that have a new one. Raises psycopg.Error.

    `user_id` is an account that does not log in again.
    """
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        return [
            canary.table
            for canary in CANARIES
            if (await connection.execute(canary.plant, {"user": user_id})).rowcount == 1
        ]


async def present(database_url: str) -> list[str]:
    """Return the tables whose planted row is still there. Raises psycopg.Error."""
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        left = []
        for canary in CANARIES:
            row = await (await connection.execute(canary.present)).fetchone()
            if row is not None and row[0]:
                left.append(canary.table)
        return left


def stays(samples: Sequence[Mapping[str, Any]], planted: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Return the longest time that a planted row of each table stayed, in seconds.

    None: it was there at the end, or was never planted. `samples` have `at` (seconds) and `canaries`, the tables that
    still had theirs; `planted` have `at` and `tables`, those that got a row.
    """
    looks = [(float(sample["at"]), sample["canaries"]) for sample in samples if "canaries" in sample]
    found: dict[str, float | None] = {}
    for canary in CANARIES:
        plantings = [float(line["at"]) for line in planted if canary.table in line["tables"]]
        ends = [
            next((at for at, left in looks if at > began and canary.table not in left), None) for began in plantings
        ]
        waits = [None if end is None else end - began for began, end in zip(plantings, ends, strict=True)]
        known = [wait for wait in waits if wait is not None]
        found[canary.table] = round(max(known), 1) if known and len(known) == len(waits) else None
    return found
