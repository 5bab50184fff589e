"""A document as a page to print: plain HTML without scripts, in which every text is escaped."""

import base64
import hashlib
from collections.abc import Iterable
from html import escape
from typing import Final

from ingress.invoices.models import WholeDocument

_STYLE: Final = """
body { font: 16px/1.5 sans-serif; margin: 2em auto; max-width: 44em; padding: 0 1em; }
table { border-collapse: collapse; margin: 1.5em 0; width: 100%; }
td, th { border-bottom: 1px solid #bbb; padding: 0.3em 0.5em; text-align: left; }
td:last-child, th:last-child { text-align: right; white-space: nowrap; }
dt { font-weight: bold; }
dd { margin: 0 0 0.5em; }
"""
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
#: The page has no scripts, no images and no forms; its one style is named by its hash.
PAGE_HEADERS: Final = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
_TITLES: Final = {"invoice": "Invoice", "credit_note": "Credit note"}


def page(document: WholeDocument) -> bytes:
    """Return the document as HTML."""
    title = escape(f"{_TITLES[document.kind]} {document.number}")
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>\n" for name, value in _facts(document))
    lines = "".join(
        _row(f"{line.name} (included)" if line.included else line.name, line.amount) for line in document.lines
    )
    taxes = "".join(_row(f"of this {tax.name}", tax.amount) for tax in document.taxes)
    total = _row("Total", f"{document.amount} {document.currency}", cell="th")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{title}</h1>
<dl>
{facts}</dl>
<table>
{_row("Description", f"Amount ({document.currency})", cell="th")}{lines}{total}{taxes}</table>
</body>
</html>
""".encode()


def _facts(document: WholeDocument) -> Iterable[tuple[str, str]]:
    seller = document.seller
    yield "Date", str(document.issued_on)
    if document.corrects is not None:
        yield "Corrects", document.corrects
    named = seller.name if seller.name == seller.hotel else f"{seller.name} ({seller.hotel})"
    yield "From", ", ".join(part for part in (named, seller.address, seller.city) if part)
    if seller.tax_id is not None:
        yield "Tax id", seller.tax_id
    if document.buyers:
        yield "To", ", ".join(document.buyers)
    yield "Booking", str(document.booking_id)


def _row(name: str, amount: str, cell: str = "td") -> str:
    return f"<tr><{cell}>{escape(name)}</{cell}><{cell}>{escape(amount)}</{cell}></tr>\n"
