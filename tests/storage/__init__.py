"""Tests of the database: its schema, its connections, the outbox, the projections' rows, and the commands about it."""
