"""Prices: the one place where money is computed. Pure: values in, values out; no clock, no I/O.

`stays` prices nights and stays, `shares` divides an amount, `currencies` has the digits of each currency, `charges` the
amounts that Stripe can charge. Amounts are integers in minor units of a currency (cents of a euro); a surge is in
thousandths; prices of nights are rounded half-up to the step of their currency's amounts, and averages to a whole
minor unit.
"""
