"""Limits on requests and on failed logins, by user and by address."""
