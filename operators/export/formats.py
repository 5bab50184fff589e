"""The formats of an export; apart from the code that writes them, so that it is quick to load."""

from enum import StrEnum


class Format(StrEnum):
    """A file's format; its name ends in the same word."""

    PARQUET = "parquet"
    CSV = "csv"
    JSONL = "jsonl"
