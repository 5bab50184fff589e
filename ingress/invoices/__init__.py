"""Invoices and credit notes, for the guests and the hotels that they are of."""
