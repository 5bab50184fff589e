"""All rows: those of every module in `tests/faults/rows`, in the order of their faults."""

import importlib
import pkgutil
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Final

from tests.faults import rows
from tests.faults.results import order_of
from tests.faults.row import Row

#: The faults of the design's table: each has a row.
DESIGNED: Final = tuple(f"F{number}" for number in range(1, 20))


class RowsDisagree(Exception):
    """Two rows have one id, or two groups one name."""


@cache
def all_rows() -> tuple[Row, ...]:
    """Return the rows of every module, by the number of their fault. Raises RowsDisagree."""
    found: list[Row] = []
    for module in pkgutil.iter_modules(rows.__path__, f"{rows.__name__}."):
        if not module.name.rpartition(".")[2].startswith(("test_", "_")):
            found += getattr(importlib.import_module(module.name), "ROWS", ())
    check(found)
    return tuple(sorted(found, key=lambda row: order_of(row.id)))


def check(found: Iterable[Row]) -> None:
    """Raises RowsDisagree: two rows have one id, or two groups one name."""
    found = list(found)
    if twice := [id for id, count in Counter(row.id for row in found).items() if count > 1]:
        raise RowsDisagree(f"more than one row is called {', '.join(twice)}")
    groups = {id(row.group): row.group.name for row in found}
    if twice := [name for name, count in Counter(groups.values()).items() if count > 1]:
        raise RowsDisagree(f"more than one group is called {', '.join(twice)}")


def chosen(found: Sequence[Row], only: str) -> list[Row]:
    """Return the rows of these ids, separated by commas; that of a fault means its variants too. Empty: all rows."""
    wanted = [id.strip() for id in only.split(",") if id.strip()]
    return [row for row in found if not wanted or row.id in wanted or fault_of(row.id) in wanted]


def without_row(found: Iterable[Row]) -> list[str]:
    """Return the faults of the design's table that have no row yet."""
    have = {fault_of(row.id) for row in found}
    return [fault for fault in DESIGNED if fault not in have]


def fault_of(id: str) -> str:
    """Return the fault of a row: its id without the letter of its variant."""
    return id.rstrip("abcdefghijklmnopqrstuvwxyz")
