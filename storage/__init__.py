"""The database: tables, migrations, reads of the ingress, and the bulk writes of the workers."""
