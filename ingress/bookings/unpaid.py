"""The cap on the bookings that an account holds unpaid at one time, undecided requests included.

`UnpaidCap.admit` counts a request before its command is sent; the worker of the room's partition decides the command.
"""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from datetime import UTC, datetime
from math import ceil
from typing import Final
from uuid import UUID

from ingress.database import Database
from ingress.http.models import Problems
from ingress.http.problems import Problem
from storage.reads.unpaid import unpaid_bookings

#: How long a request counts that the broker may not have, because it did not answer.
_UNANSWERED_SECONDS: Final = 60.0
#: The largest number of undecided requests of other accounts that one query looks for.
_MAX_CHECKED_AT_ONCE: Final = 1000
_RETRY_SECONDS: Final = 1
_MAX_RETRY_SECONDS: Final = 3600


class TooManyUnpaid(Problems):
    """A refusal of a further stay: `unpaid_bookings` are the bookings that the account holds unpaid, or asked for."""

    unpaid_bookings: list[UUID] | None = None


class _Reading:
    """The unpaid bookings of one account, as the ledger had them at `began` (monotonic seconds)."""

    __slots__ = ("began", "unpaid")

    def __init__(self, began: float, unpaid: Mapping[UUID, datetime | None]) -> None:
        self.began = began
        self.unpaid = unpaid


class UnpaidCap:
    """Counts each account's unpaid bookings: those of the ledger and this process's requests that are not decided.

    An account far below the cap is counted from a reading of the last few seconds. At the cap the ledger is read again,
    so that a booking that was paid or cancelled counts no more. Requests that need a reading at the same time share one
    query, and one query runs at a time.
    """

    def __init__(self, database: Database, *, most: int, reading_seconds: float, undecided_seconds: float) -> None:
        """Make the cap.

        Args:
            database: the database; its primary is read.
            most: how many unpaid bookings an account may have; 0 counts nothing.
            reading_seconds: how long a reading of an account is used below the cap.
            undecided_seconds: how long a request counts that is not decided.
        """
        self._database = database
        self._most = most
        self._reading_seconds = reading_seconds
        self._undecided_seconds = undecided_seconds
        # For each account, until when each of its requests counts unless the ledger has its booking before.
        self._undecided: defaultdict[int, dict[UUID, float]] = defaultdict(dict)
        # How many requests with the same Idempotency-Key are being accepted at this moment: they count once.
        self._accepting: dict[UUID, int] = {}
        # The requests in the order in which the ledger is next searched for their bookings.
        self._unchecked: deque[tuple[float, int, UUID]] = deque()
        # Two halves, of which the older is dropped when it can have no reading that is still used.
        self._readings: dict[int, _Reading] = {}
        self._older_readings: dict[int, _Reading] = {}
        self._halved_at = time.monotonic()
        self._needed: set[int] = set()
        self._task: asyncio.Task[None] | None = None

    async def admit(self, user_id: int, request_id: UUID) -> None:
        """Count a request of an account, unless the account holds as many unpaid bookings as it may.

        `request_id` is the same for requests that are the same by their Idempotency-Key; they count once. The caller
        calls `accepted` or `withdraw` afterwards.

        Raises:
            Problem: 429, with the bookings that prevent it.
        """
        if not self._most:
            return
        came = time.monotonic()
        while True:
            now = time.monotonic()
            if request_id in self._accepting:
                self._accepting[request_id] += 1
                return
            reading = self._reading_of(user_id, now)
            if reading is not None:
                held = reading.unpaid.keys() | self._undecided_of(user_id, now)
                if len(held) < self._most:
                    self._accepting[request_id] = 1
                    self._undecided[user_id][request_id] = now + self._undecided_seconds
                    return
                if reading.began >= came:
                    raise self._refusal(reading, held)
            self._needed.add(user_id)
            await self._read()

    def accepted(self, user_id: int, request_id: UUID, booking_id: UUID) -> None:
        """Count the booking of a request that was admitted, until the ledger has it."""
        if not self._most:
            return
        self.withdraw(user_id, request_id)
        now = time.monotonic()
        self._undecided[user_id][booking_id] = now + self._undecided_seconds
        self._unchecked.append((now + self._reading_seconds, user_id, booking_id))

    def withdraw(self, user_id: int, request_id: UUID) -> None:
        """Stop counting a request that was admitted, because it is refused or was accepted before."""
        if self._accepting.get(request_id, 0) > 1:
            self._accepting[request_id] -= 1
        elif self._accepting.pop(request_id, None):
            self.forget(user_id, request_id)

    def forget(self, user_id: int, booking_id: UUID) -> None:
        """Stop counting an undecided booking: it is decided, or its command was not sent."""
        undecided = self._undecided.get(user_id)
        if undecided is not None:
            undecided.pop(booking_id, None)
            if not undecided:
                del self._undecided[user_id]

    def unanswered(self, user_id: int, booking_id: UUID) -> None:
        """Count a request for a shorter time: the broker did not acknowledge its command, and may have it."""
        undecided = self._undecided.get(user_id)
        if undecided is not None and booking_id in undecided:
            undecided[booking_id] = min(undecided[booking_id], time.monotonic() + _UNANSWERED_SECONDS)

    def __len__(self) -> int:
        """Return how many requests are counted as undecided."""
        return sum(map(len, self._undecided.values()))

    def _reading_of(self, user_id: int, now: float) -> _Reading | None:
        reading = self._readings.get(user_id) or self._older_readings.get(user_id)
        return reading if reading is not None and reading.began + self._reading_seconds > now else None

    def _undecided_of(self, user_id: int, now: float) -> set[UUID]:
        undecided = self._undecided.get(user_id)
        return set() if undecided is None else {id for id, until in undecided.items() if until > now}

    def _refusal(self, reading: _Reading, held: set[UUID]) -> Problem:
        ends = [end for end in reading.unpaid.values() if end is not None]
        retry_after_seconds = _MAX_RETRY_SECONDS
        if len(reading.unpaid) < len(held):
            retry_after_seconds = _RETRY_SECONDS
        elif ends:
            remaining_seconds = ceil((min(ends) - datetime.now(UTC)).total_seconds())
            retry_after_seconds = min(max(remaining_seconds, _RETRY_SECONDS), _MAX_RETRY_SECONDS)
        return Problem(
            429,
            f"this account holds {len(held)} bookings that are not paid, and {self._most} are allowed: "
            "pay or cancel one of them, or wait until one ends; one that is paid at the hotel can only be cancelled",
            headers={"Retry-After": str(retry_after_seconds)},
            more={"reason": "too_many_unpaid", "unpaid_bookings": sorted(held - self._accepting.keys())},
        )

    async def _read(self) -> None:
        # A finished reading may lack this account, and to wait for it would not let other tasks run.
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._read_needed())
            # The time of every request that waits for it may be over by then.
            self._task.add_done_callback(lambda done: done.cancelled() or done.exception())
        # All requests share the reading: one that is cancelled must not end it.
        await asyncio.shield(self._task)

    async def _read_needed(self) -> None:
        needed, self._needed = self._needed, set()
        began = time.monotonic()
        checked = self._due_checks(began)
        undecided = {booking_id: user_id for _, user_id, booking_id in checked}
        undecided |= {id: user_id for user_id in needed for id in self._undecided.get(user_id, ())}
        try:
            async with self._database.reading() as connection:
                found = await unpaid_bookings(connection, needed, undecided, most=self._most)
        except BaseException:
            self._unchecked.extendleft(reversed(checked))
            raise
        self._drop_old_readings(began)
        for booking_id in found.decided:
            user_id = undecided[booking_id]
            self.forget(user_id, booking_id)
            # An older reading does not have the booking, which counts no more as undecided.
            self._readings.pop(user_id, None)
            self._older_readings.pop(user_id, None)
        for user_id in needed:
            self._readings[user_id] = _Reading(began, found.unpaid.get(user_id, {}))
        self._check_again(checked, began)

    def _due_checks(self, now: float) -> list[tuple[float, int, UUID]]:
        """Take the requests out of the queue for which the ledger is to be searched now."""
        due: list[tuple[float, int, UUID]] = []
        while self._unchecked and self._unchecked[0][0] <= now and len(due) < _MAX_CHECKED_AT_ONCE:
            check = self._unchecked.popleft()
            if check[2] in self._undecided.get(check[1], ()):
                due.append(check)
        return due

    def _check_again(self, checked: list[tuple[float, int, UUID]], now: float) -> None:
        """Search for the requests later that are still undecided; forget those whose time is over."""
        for _, user_id, booking_id in checked:
            until = self._undecided.get(user_id, {}).get(booking_id)
            if until is None:
                continue
            if until <= now:
                self.forget(user_id, booking_id)
            else:
                self._unchecked.append((now + self._reading_seconds, user_id, booking_id))

    def _drop_old_readings(self, now: float) -> None:
        if now - self._halved_at > self._reading_seconds:
            self._older_readings, self._readings, self._halved_at = self._readings, {}, now
