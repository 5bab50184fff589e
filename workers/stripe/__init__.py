"""Stripe's terms, for the roles that speak with it: settings, marks of our objects, objects, states, types of events.

Payments opens sessions and makes refunds; reconciliation compares. Both must read one object of Stripe's alike, and
roles import nothing of each other.
"""
