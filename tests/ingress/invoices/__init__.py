"""Tests of the operations on invoices and credit notes."""
