"""The form of requests and answers, whatever they are about: it knows no operation and nothing of hotels."""
