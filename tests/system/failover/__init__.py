"""The database switches over from one server to the other."""
