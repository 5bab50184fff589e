"""Accounts: signing up, logging in and staying logged in; profiles and saved guests."""
