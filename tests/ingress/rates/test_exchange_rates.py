"""The table of exchange rates in use: read at the start and when it changes, and the last good one is kept."""

import logging
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import ValidationError

from ingress.http.problems import Problem
from ingress.rates.documents import MAX_DOCUMENT_BYTES
from ingress.rates.exchange_rates import ExchangeRates
from tests.ingress.conftest import ingress_settings
from tests.ingress.rates.test_documents import JSON, XML

TODAY = date(2026, 11, 30)


def today() -> date:
    return TODAY


def with_dollars(rate: str, day: str = "2026-11-27") -> bytes:
    return JSON.replace(b"1.1435", rate.encode()).replace(b"2026-11-27", day.encode())


def write(file: Path, document: bytes | None) -> None:
    """Write a document in place of the one before; None removes it."""
    if document is None:
        file.unlink()
    else:
        file.write_bytes(document)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "rates.json"
    write(file, JSON)
    return file


def dollars(rates: ExchangeRates) -> Decimal | None:
    return None if rates.table is None else rates.table.rates["USD"]


def test_a_file_is_read_before_the_first_request(file: Path) -> None:
    found = ExchangeRates(str(file), today).approximate(10_000, "EUR", "USD")

    assert (found.amount, found.currency, found.rate_date, found.rate_source) == (
        "114.35",
        "USD",
        date(2026, 11, 27),
        "rates.json",
    )


def test_without_a_table_or_a_rate_the_refusal_has_words(file: Path) -> None:
    with pytest.raises(Problem) as no_table:
        ExchangeRates("").approximate(100, "EUR", "USD")
    with pytest.raises(Problem) as no_rate:
        ExchangeRates(str(file), today).approximate(100, "EUR", "CHF")

    assert no_table.value.status == no_rate.value.status == 422
    assert "has no exchange rates" in str(no_table.value.response().__dict__)
    assert "no exchange rate for CHF" in str(no_rate.value.response().__dict__)


async def test_a_file_that_changes_is_read_again(file: Path) -> None:
    rates = ExchangeRates(str(file), today)
    write(file, with_dollars("1.20"))

    await rates.refresh()

    assert dollars(rates) == Decimal("1.20")


async def test_a_broken_table_is_logged_once_and_the_last_good_one_is_kept(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rates = ExchangeRates(str(file), today)
    for document in (b"oops", b"oops ", JSON.replace(b"185.72", b"-1"), JSON.replace(b"185.72", b"-1 ")):
        write(file, document)
        await rates.refresh()
        assert dollars(rates) == Decimal("1.1435")
    write(file, None)
    await rates.refresh()
    await rates.refresh()

    troubles = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert [trouble.partition(": ")[2][:20] for trouble in troubles] == [
        "the document is neit",
        "the rate of JPY is -",
        "[Errno 2] No such fi",
    ]
    assert all("those of 2026-11-27 are kept" in trouble for trouble in troubles)
    write(file, with_dollars("1.30"))
    await rates.refresh()
    assert dollars(rates) == Decimal("1.30")


def test_a_process_starts_without_its_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rates = ExchangeRates(str(tmp_path / "missing.xml"), today)

    assert rates.table is None
    assert "there are none" in caplog.text


def test_an_old_table_is_used_and_reported_and_one_of_the_future_is_not(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(file, with_dollars("1.20", "2026-11-22"))
    assert dollars(ExchangeRates(str(file), today)) == Decimal("1.20")
    assert "the exchange rates of 2026-11-22 are old" in caplog.text
    write(file, with_dollars("1.30", "2026-12-02"))
    assert dollars(ExchangeRates(str(file), today)) is None
    write(file, with_dollars("1.40", "2026-12-01"))
    assert dollars(ExchangeRates(str(file), today)) == Decimal("1.40")


@pytest.mark.process
async def test_an_address_is_read_and_a_failure_keeps_the_table() -> None:
    answers: list[web.Response] = [
        web.Response(body=XML),
        web.Response(status=503),
        web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}),
        web.Response(body=XML + b" " * MAX_DOCUMENT_BYTES),
        web.Response(body=XML.replace(b"1.1435", b"1.5")),
    ]

    async def answer(_: web.Request) -> web.Response:
        return answers.pop(0)

    app = web.Application()
    app.router.add_get("/eurofxref-daily.xml", answer)
    found = []
    async with TestServer(app) as server:
        rates = ExchangeRates(str(server.make_url("/eurofxref-daily.xml")), today)
        found.append(dollars(rates))
        while answers:
            await rates.refresh()
            found.append(dollars(rates))
    await rates.refresh()
    assert [*found, dollars(rates)] == [None, *[Decimal("1.1435")] * 4, *[Decimal("1.5")] * 2]
    assert rates.table is not None
    assert rates.table.source == "European Central Bank"


@pytest.mark.parametrize("address", ["http://example.com/rates.xml", "ftp://example.com/rates", "file:///etc/passwd"])
def test_an_address_without_encryption_is_no_setting(address: str) -> None:
    with pytest.raises(ValidationError, match="EXCHANGE_RATES"):
        ingress_settings(exchange_rates=address)
