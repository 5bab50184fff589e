"""Tests of the exchange rates by which prices are shown and compared."""
