"""The form of requests and responses: it has no operation, and nothing about hotels."""
