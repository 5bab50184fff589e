"""Tests of the auditor and of the operator's tool for the database."""
