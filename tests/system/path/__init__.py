"""Tests of the whole path: HTTP in, log, ledger, Stripe, and HTTP out; every part a process of its own."""
