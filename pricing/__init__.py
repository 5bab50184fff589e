"""Prices: the one place where money is computed. Pure: values in, values out; no clock, no I/O.

`stays` prices nights and stays, `shares` divides an amount, `currencies` has the digits of each currency. Amounts are
integers in minor units of a currency (cents of a euro); a surge is in thousandths; fractions are rounded half-up to a
whole minor unit.
"""
