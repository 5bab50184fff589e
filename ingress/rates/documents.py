"""Reads tables of exchange rates from documents: the European Central Bank's XML and CSV, and plain JSON.

- XML: `eurofxref-daily.xml`, with elements `Cube` for the day (`time`) and for each currency (`currency`, `rate`).
- CSV: `eurofxref.csv` or `eurofxref-hist.csv`, a line of codes and a line for each day; the newest day counts.
- JSON: `{"base": "EUR", "date": "2026-11-27", "rates": {"USD": 1.16}, "source": "..."}`; `source` may be left out.

The formats of the bank are described at www.ecb.europa.eu/stats/policy_and_exchange_rates (read 2026-11-30); its rates
are units of a currency for one euro.
"""

import csv
import json
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final
from xml.parsers import expat

import msgspec

from pricing.conversion import RateTable, rate_table

MAX_DOCUMENT_BYTES: Final = 1_000_000
_EURO: Final = "EUR"
_BANK: Final = "European Central Bank"
_NOT_PUBLISHED: Final = frozenset({"", "N/A"})
#: The bank's daily file writes `27 November 2026`, its file of all days `2026-11-27`.
_CSV_DAYS: Final = ("%Y-%m-%d", "%d %B %Y")


class _Document(msgspec.Struct, frozen=True):
    base: str
    date: date
    rates: dict[str, Decimal]
    source: str | None = None


def read_rates(content: bytes, source: str) -> RateTable:
    """Return the table in a document.

    Args:
        content: the document.
        source: the name of the publisher, unless the document has one.

    Raises:
        ValueError: it is none of the formats, or its rates cannot be used; the text has the reason.
    """
    if len(content) > MAX_DOCUMENT_BYTES:
        raise ValueError(f"the document has more than {MAX_DOCUMENT_BYTES:,} bytes")
    begin = content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if begin == b"{":
        return _from_json(content, source)
    return _from_xml(content) if begin == b"<" else _from_csv(content)


def _from_json(content: bytes, source: str) -> RateTable:
    try:
        # The text of a number becomes a decimal as it is, without a float between.
        plain = json.loads(content, parse_float=Decimal, parse_int=Decimal, parse_constant=_no_constant)
        document = msgspec.convert(plain, _Document)
    except (RecursionError, UnicodeDecodeError, InvalidOperation, ValueError) as error:
        raise ValueError(f"the JSON document cannot be read: {error}") from None
    return rate_table(base=document.base, on=document.date, rates=document.rates, source=document.source or source)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no rate")


class _Cubes:
    """Collects the day, the rates and the sender's name of the bank's XML."""

    def __init__(self) -> None:
        self.day: str | None = None
        self.rates: dict[str, Decimal] = {}
        self.sender = ""
        self._is_name = False

    def begin(self, name: str, attributes: dict[str, str]) -> None:
        local = name.rpartition(" ")[2]
        self._is_name = local == "name"
        if local == "Cube" and "time" in attributes:
            if self.day is not None:
                raise ValueError("the XML document has more than one day")
            self.day = attributes["time"]
        if local == "Cube" and "currency" in attributes:
            self.rates[attributes["currency"]] = _decimal(attributes.get("rate", ""))

    def end(self, _name: str) -> None:
        self._is_name = False

    def text(self, data: str) -> None:
        if self._is_name:
            self.sender += data

    def refuse(self, *_: object) -> None:
        raise ValueError("the XML document has a DTD")


def _from_xml(content: bytes) -> RateTable:
    cubes, parser = _Cubes(), expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler, parser.EndElementHandler = cubes.begin, cubes.end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = cubes.text, cubes.refuse
    try:
        parser.Parse(content, True)  # noqa: FBT003 - the parser takes no names
    except expat.ExpatError as error:
        raise ValueError(f"the XML document cannot be read: {error}") from None
    if cubes.day is None:
        raise ValueError("the XML document names no day")
    return rate_table(
        base=_EURO, on=date.fromisoformat(cubes.day), rates=cubes.rates, source=cubes.sender.strip() or _BANK
    )


def _from_csv(content: bytes) -> RateTable:
    lines = [line for line in csv.reader(content.decode("utf-8-sig").splitlines()) if line]
    names = [name.strip() for name in lines[0]] if lines else []
    if names[:1] != ["Date"]:
        raise ValueError("the document is neither JSON nor XML, nor does its first line begin with Date")
    days = [(_csv_day(line[0].strip()), line) for line in lines[1:]]
    if not days:
        raise ValueError("the CSV document names no day")
    on, line = max(days, key=lambda each: each[0])
    cells = zip(names[1:], (cell.strip() for cell in line[1:]), strict=False)
    rates = {name: _decimal(cell) for name, cell in cells if name and cell not in _NOT_PUBLISHED}
    return rate_table(base=_EURO, on=on, rates=rates, source=_BANK)


def _csv_day(text: str) -> date:
    for form in _CSV_DAYS:
        try:
            return datetime.strptime(text, form).date()  # noqa: DTZ007 - a day without a time
        except ValueError:
            continue
    raise ValueError(f"{text!r} is no day")


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text!r} is no rate") from None
