"""Tests of the whole table of operations, over HTTP, on a whole system: every part a process of its own."""
