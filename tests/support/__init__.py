"""What several tests need: a broker and a database, patience, stories."""
