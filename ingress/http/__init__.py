"""The form of requests and responses: it knows no operation and nothing of hotels."""
