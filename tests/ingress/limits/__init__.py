"""Tests of the limits on requests and on failed logins."""
