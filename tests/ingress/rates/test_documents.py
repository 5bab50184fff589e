"""Documents of exchange rates: the bank's XML and CSV, plain JSON, and everything that is none of them."""

from datetime import date
from decimal import Decimal

import pytest

from ingress.rates.documents import MAX_DOCUMENT_BYTES, read_rates

#: The bank's daily document, as it is published at www.ecb.europa.eu/stats/eurofxref, with other numbers.
XML = b"""<?xml version="1.0" encoding="UTF-8"?>
<gesmes:Envelope xmlns:gesmes="http://www.gesmes.org/xml/2002-08-01"
    xmlns="http://www.ecb.int/vocabulary/2002-08-01/eurofxref">
\t<gesmes:subject>Reference rates</gesmes:subject>
\t<gesmes:Sender>
\t\t<gesmes:name>European Central Bank</gesmes:name>
\t</gesmes:Sender>
\t<Cube>
\t\t<Cube time='2026-11-27'>
\t\t\t<Cube currency='USD' rate='1.1435'/>
\t\t\t<Cube currency='JPY' rate='185.72'/>
\t\t</Cube>
\t</Cube>
</gesmes:Envelope>"""
DAILY_CSV = b"Date, USD, JPY, \n27 November 2026, 1.1435, 185.72, \n"
ALL_DAYS_CSV = b"Date,USD,JPY,CYP,\n2026-11-27,1.1435,185.72,N/A,\n2026-11-26,1.2,180,N/A,\n"
JSON = b'{"base": "EUR", "date": "2026-11-27", "rates": {"USD": 1.1435, "JPY": "185.72"}}'
RATES = {"EUR": Decimal(1), "USD": Decimal("1.1435"), "JPY": Decimal("185.72")}


@pytest.mark.parametrize(
    ("document", "source"),
    [
        (XML, "European Central Bank"),
        (DAILY_CSV, "European Central Bank"),
        (ALL_DAYS_CSV, "European Central Bank"),
        (JSON, "rates.json"),
        (b"\xef\xbb\xbf" + DAILY_CSV, "European Central Bank"),
        (JSON[:-1] + b', "source": "the bank next door", "more": [1]}', "the bank next door"),
    ],
    ids=["xml", "csv of a day", "csv of all days", "json", "csv with a mark", "json with a source"],
)
def test_a_table_is_read_exactly(document: bytes, source: str) -> None:
    table = read_rates(document, "rates.json")

    assert (table.base, table.on, dict(table.rates), table.source) == ("EUR", date(2026, 11, 27), RATES, source)


def test_a_number_in_json_is_no_float() -> None:
    table = read_rates(JSON.replace(b"1.1435", b"1.10000000000000000000000001"), "x")

    assert table.rates["USD"] == Decimal("1.10000000000000000000000001")


ENTITIES = XML.replace(b"<gesmes:Env", b'<!DOCTYPE e [<!ENTITY a "aaaa">]><gesmes:Env')


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"", "neither JSON nor XML"),
        (b"<html><body>Sorry</body></html>", "names no day"),
        (b"<html><body>Sorry", "cannot be read"),
        (b"Not found", "neither JSON nor XML"),
        (b"\xff\xfe\x00", "can't decode"),
        (XML.replace(b"time='2026-11-27'", b"time='yesterday'"), "Invalid isoformat"),
        (XML.replace(b"1.1435", b"n/a"), "no rate"),
        (XML.replace(b"1.1435", b"-1"), "not between"),
        (XML.replace(b"</Cube>\n\t</Cube>", b"</Cube><Cube time='2026-11-26'/></Cube>"), "more than one day"),
        (ENTITIES, "DTD"),
        (b"Date, USD\n", "names no day"),
        (b"Date, USD\n31 November 2026, 1.1\n", "is no day"),
        (b"Date, USD\n27 November 2026, 1.1.1\n", "no rate"),
        (JSON.replace(b"1.1435", b"NaN"), "NaN is no rate"),
        (JSON.replace(b"1.1435", b"null"), "cannot be read"),
        (JSON.replace(b'"EUR"', b'"DOLLARS"'), "no currency"),
        (JSON.replace(b"2026-11-27", b"27.11.2026"), "cannot be read"),
        (b'{"rates":' * 100_000, "cannot be read"),
        (b'{"base": "EUR"}', "cannot be read"),
        (XML + b" " * MAX_DOCUMENT_BYTES, "bytes"),
    ],
)
def test_anything_else_is_refused_with_its_reason(document: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_rates(document, "x")
