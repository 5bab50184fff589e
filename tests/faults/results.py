"""The results of rows: by commit and seed in `.cache/faults`; the newest of each row and seed in docs/faults.json."""

import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / ".cache" / "faults"
DOCUMENT: Final = ROOT / "docs" / "faults.json"
#: Pages do not make a commit another one, also those that a run writes itself.
_NO_CHANGE: Final = (".md", "docs/faults.json")
#: Behind the commit of a checkout whose files differ from it, in whatever way: two such checkouts have one name.
UNCOMMITTED: Final = "+"


class Quiet(msgspec.Struct, frozen=True, kw_only=True):
    """The calibration: the same system under the same load, without a fault."""

    longest_wait_seconds: float
    recovery_seconds: float
    answers: Mapping[str, int]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One row under one seed. It holds if `problems` is empty."""

    row: str
    seed: int
    #: The commit of the product, with a `+` behind it if files differed from it.
    commit: str
    #: The day, such as `2026-11-30`.
    date: str
    cores: int
    quiet: Quiet
    #: How long the fault lasted.
    fault_seconds: float
    promised: int
    decided: int
    lost: int
    #: Rooms sold twice, bookings decided twice, keys with two bookings.
    doubled: int
    #: Events that are on the log twice, with the same id and the same bytes.
    republished: int
    #: Requests by status; `none` got no answer, and `hung up` did not wait for it.
    answers: Mapping[str, int]
    longest_wait_seconds: float
    #: From a guest's first request to the decision that the guest saw; None: an older run, which did not note it.
    guest_wait_seconds: float | None = None
    recovery_seconds: float | None
    causes: Mapping[str, int]
    figures: Mapping[str, str]
    problems: Sequence[str]


class Results:
    """The results of one commit and seed, a file for each row."""

    def __init__(self, seed: int, commit: str, folder: Path = FOLDER) -> None:
        self.seed = seed
        self.commit = commit
        self.folder = folder
        self._folder = folder / self.commit / str(seed)

    def get(self, row: str) -> Result | None:
        """Return the result of a row, if there is one; never one of other code that is not committed either."""
        if UNCOMMITTED in self.commit:
            return None
        file = self._folder / f"{row}.json"
        return msgspec.json.decode(file.read_bytes(), type=Result) if file.exists() else None

    def put(self, result: Result) -> None:
        """Keep a result, in place of an older one. A run that is killed meanwhile leaves no half of it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        _write(self._folder / f"{result.row}.json", msgspec.json.encode(result))


def commit_of_this_tree() -> str:
    """Return the commit of this checkout, with a `+` behind it if files differ from it."""
    changed = any(not line.endswith(_NO_CHANGE) for line in _git("status", "--porcelain").splitlines())
    return _git("rev-parse", "--short=12", "HEAD").strip() + UNCOMMITTED * changed


def published(document: Path = DOCUMENT) -> list[Result]:
    """Return the results that the page shows."""
    return msgspec.json.decode(document.read_bytes(), type=list[Result]) if document.exists() else []


def publish(results: Iterable[Result], document: Path = DOCUMENT) -> None:
    """Put results into the page's document, each in place of the older one of its row and seed."""
    newest = {(result.row, result.seed): result for result in [*published(document), *results]}
    ordered = [newest[key] for key in sorted(newest, key=lambda key: (order_of(key[0]), key[1]))]
    _write(document, msgspec.json.format(msgspec.json.encode(ordered, order="sorted"), indent=1) + b"\n")


def order_of(row: str) -> tuple[int, str]:
    """Return what rows are sorted by: the number of the fault, then the letter of its variant."""
    number = "".join(character for character in row if character.isdigit())
    return int(number or 0), row


def _write(file: Path, content: bytes) -> None:
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    unfinished.write_bytes(content)
    unfinished.replace(file)


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout
