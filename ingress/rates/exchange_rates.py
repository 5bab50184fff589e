"""Keeps the table of exchange rates: reads it at the start and again when it changes, from a file or an https address.

A table that cannot be read leaves the one before it in use. An old one is used, too: each price that is shown has the
day of its rates.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import aiohttp

from ingress.http.bodies import refused_field
from ingress.rates.documents import MAX_DOCUMENT_BYTES, read_rates
from pricing.conversion import NoRate, RateTable, converted_minor
from pricing.currencies import decimal

log = logging.getLogger(__name__)

#: How often a file is looked at, and how often an address is read; after a failure the address is read again sooner.
FILE_SECONDS: Final = 5.0
ADDRESS_SECONDS: Final = 3600.0
RETRY_SECONDS: Final = 60.0
#: Rates are published on working days; older ones than this are reported once in the log.
OLD_AFTER: Final = timedelta(days=7)
_TIMEOUT: Final = aiohttp.ClientTimeout(total=20)
_CHUNK_BYTES: Final = 65_536
_TOMORROW: Final = timedelta(days=1)
_NO_TABLE: Final = "this installation has no exchange rates: prices are shown in the hotel's currency alone"


class Approximation(NamedTuple):
    """An amount in another currency than its own, and the day and the publisher of the rates."""

    amount_minor: int
    currency: str
    rate_date: date
    rate_source: str

    @property
    def amount(self) -> str:
        """The amount in major units."""
        return decimal(self.amount_minor, self.currency)


class ExchangeRates:
    """The present table of exchange rates, if there is one."""

    def __init__(self, address: str, today: Callable[[], date] = lambda: datetime.now(UTC).date()) -> None:
        """`address` is a path or an https address, empty for none. A file is read now, an address by `run`."""
        self._address = address
        self._path = None if not address or "://" in address else Path(address)
        self._today = today
        self._table: RateTable | None = None
        self._seen: object = None
        self._trouble: str | None = None
        if self._path is not None:
            self._look_at_file(self._path)

    @property
    def table(self) -> RateTable | None:
        """The table in use; None while there is none."""
        return self._table

    def approximate(self, amount_minor: int, currency: str, wanted: str) -> Approximation:
        """Return an amount as it is shown in another currency.

        Raises:
            Problem: 422 about `currency`: there is no table, or it does not have one of the two currencies.
        """
        table = self._table
        if table is None:
            raise refused_field("currency", _NO_TABLE)
        try:
            converted = converted_minor(table, amount_minor, currency, wanted)
        except NoRate as missing:
            raise refused_field("currency", f"there is no exchange rate for {missing}") from None
        return Approximation(converted, wanted, table.on, table.source)

    async def run(self) -> None:
        """Read the table again and again until the process ends."""
        while self._address:
            await self.refresh()
            await asyncio.sleep(FILE_SECONDS if self._path is not None else self._address_seconds)

    async def refresh(self) -> None:
        """Read the table if it may have changed; a failure is logged once, and leaves the table as it is."""
        if self._path is not None:
            await asyncio.to_thread(self._look_at_file, self._path)
            return
        try:
            content = await self._fetch()
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            self._report(f"{type(error).__name__}: {error}")
        else:
            self._take(content, urlsplit(self._address).hostname or "")

    @property
    def _address_seconds(self) -> float:
        return ADDRESS_SECONDS if self._trouble is None else RETRY_SECONDS

    def _look_at_file(self, path: Path) -> None:
        try:
            status = path.stat()
            seen = (status.st_mtime_ns, status.st_size, status.st_ino)
            if seen == self._seen:
                return
            content = path.read_bytes() if status.st_size <= MAX_DOCUMENT_BYTES else b" " * (MAX_DOCUMENT_BYTES + 1)
        except OSError as error:
            self._report(str(error))
            return
        self._seen = seen
        self._take(content, path.name)

    async def _fetch(self) -> bytes:
        """Return the document at the address, no more of it than may be read. Redirects are not followed."""
        content = bytearray()
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT) as session,
            session.get(self._address, allow_redirects=False) as response,
        ):
            if response.status != HTTPStatus.OK:
                raise ValueError(f"it is answered with {response.status}")
            async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                content += chunk
                if len(content) > MAX_DOCUMENT_BYTES:
                    break
        return bytes(content)

    def _take(self, content: bytes, source: str) -> None:
        try:
            table = self._accepted(read_rates(content, source))
        except ValueError as error:
            self._report(str(error))
            return
        self._trouble = None
        before, self._table = self._table, table
        if before is None or (before.on, before.rates) != (table.on, table.rates):
            log.info("exchange rates of %s by %s: %s currencies", table.on, table.source, len(table.rates))
            if self._today() - table.on > OLD_AFTER:
                log.warning("the exchange rates of %s are old; prices are shown by them with their day", table.on)

    def _accepted(self, table: RateTable) -> RateTable:
        # In some time zones it is tomorrow already.
        if table.on > self._today() + _TOMORROW:
            raise ValueError(f"its day is {table.on}, which is in the future")
        return table

    def _report(self, trouble: str) -> None:
        """Log a trouble, unless it is the one that was logged last. The address is left out: it may have a key."""
        if trouble != self._trouble:
            self._trouble = trouble
            kept = "there are none" if self._table is None else f"those of {self._table.on} are kept"
            log.warning("the exchange rates (EXCHANGE_RATES) cannot be read, %s: %s", kept, trouble)
