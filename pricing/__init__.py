"""Prices: the one place where money is computed. Pure: values in, values out; no clock, no I/O.

`stays` prices nights and stays, `currencies` knows the digits of each currency. Amounts are integers in minor units
of a currency (cents, where it has cents); a surge is in thousandths; whatever does not come out even is rounded
half-up, to a whole minor unit.
"""
