"""Tests of accounts, logins, profiles and saved guests."""
