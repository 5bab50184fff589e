"""Money as people write it: minor units of the log become decimal strings, by the currency's exponent (ISO 4217)."""

from typing import Final

_WITHOUT_MINOR: Final = frozenset(
    (
        *("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG"),
        *("RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"),
    )
)
_IN_THOUSANDTHS: Final = frozenset(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"))


def decimal(amount_minor: int, currency: str) -> str:
    """Return an amount in major units, such as `120.00` for 12000 EUR and `12000` for 12000 JPY."""
    code = currency.upper()
    if code in _WITHOUT_MINOR:
        return str(amount_minor)
    digits = 3 if code in _IN_THOUSANDTHS else 2
    major, minor = divmod(abs(amount_minor), 10**digits)
    return f"{'-' if amount_minor < 0 else ''}{major}.{minor:0{digits}}"
