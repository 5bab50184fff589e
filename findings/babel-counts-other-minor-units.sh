#!/usr/bin/env bash
# Babel 2.19.0: `get_currency_precision` is not the number of decimals of ISO 4217 for 15 currencies.
#
# Babel takes the digits from Unicode's CLDR, which has the usual way of writing amounts; ISO 4217 defines the minor
# unit. Payment providers and databases that keep minor units mean ISO 4217: 1,234,500 minor units of the Iraqi dinar
# (3 decimals) are 1,234.500 dinars, and 1,234,500 dinars for a program that divides by Babel's precision (0 decimals).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check babel==2.19.0 iso4217==1.16.20260101
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

from babel.numbers import format_currency, get_currency_precision
from iso4217 import Currency

different = {
    currency.code: (currency.exponent, get_currency_precision(currency.code))
    for currency in Currency
    if currency.exponent is not None and get_currency_precision(currency.code) != currency.exponent
}
print("Babel", version("babel"), "and iso4217", version("iso4217"))
for code, (iso, babel) in sorted(different.items()):
    print(f"{code}: ISO 4217 has {iso} decimals, Babel {babel}")
minor_units = 1_234_500
print("1,234,500 minor units of IQD:", format_currency(minor_units / 10**3, "IQD", locale="en_US"), "by ISO 4217,",
      format_currency(minor_units / 10 ** get_currency_precision("IQD"), "IQD", locale="en_US"), "by Babel's precision")
sys.exit(0 if len(different) == 15 and different["IQD"] == (3, 0) and different["HUF"] == (2, 0) else 1)
PYTHON
