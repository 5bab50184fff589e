"""Only `storage.cursors` writes `log_cursor`: the rows are the workers' fence, and one module keeps its rules."""

import re
from pathlib import Path

import pytest

import storage

ROOT = Path(storage.__file__).parent.parent
PACKAGES = ("topics", "storage", "telemetry", "workers", "ingress", "operators", "sandbox", "examples")
OWNER = Path("storage/cursors.py")
WRITES = re.compile(
    r"\b(insert\s+into|update(\s+only)?|delete\s+from|merge\s+into|truncate(\s+table)?|copy)\s+\"?log_cursor\b",
    re.IGNORECASE,
)


def writers() -> set[Path]:
    """Return the files of the product, except migrations, whose SQL writes the table."""
    files = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    # A statement may be split over several string literals.
    return {
        path.relative_to(ROOT)
        for path in files
        if "migrations" not in path.parts and WRITES.search(re.sub(r"[\"'\s]+", " ", path.read_text()))
    }


def test_only_cursors_writes_the_table() -> None:
    assert writers() == {OWNER}


def test_only_cursors_uses_the_model_of_the_table_for_more_than_its_name() -> None:
    using = {
        path.relative_to(ROOT)
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if re.search(r"\b(insert|update|delete)\(\s*(models\.)?LogCursor\b", path.read_text())
    }

    assert using == set()


@pytest.mark.parametrize(
    "statement",
    [
        "insert into log_cursor (consumer) values ('x')",
        "update log_cursor c\n  set applied = 1",
        'delete from "log_cursor"',
        "copy log_cursor from stdin",
        "UPDATE ONLY log_cursor set applied = 1",
    ],
)
def test_every_kind_of_write_is_found(statement: str) -> None:
    assert WRITES.search(statement)


def test_a_read_is_no_write() -> None:
    assert not WRITES.search("select sequence from log_cursor where consumer = 'reservations' for update")
