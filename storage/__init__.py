"""The ledger: tables, migrations, the queries that read, and the bulk writes of the rooms' owners."""
