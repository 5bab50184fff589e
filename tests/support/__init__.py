"""Parts that several tests need: a broker and a database, waiting on conditions, scenarios."""
