"""Soaks the whole system, or draws samples again: `python -m tests.soak --hours 1`.

The last line on stdout is JSON. The exit status is 0 only if no figure grows that must not, and every promise was kept.
"""

import argparse
import asyncio
import json
import logging
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.soak import samples
from tests.soak.page import page, picture
from tests.soak.running import Terms, run
from tests.soak.samples import SampleFile
from tests.soak.summary import Summary, summary_of
from tests.system.pipeline.faults import say

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; return the exit status."""
    given = _parser().parse_args(arguments)
    if given.draw is not None:
        return report(given.draw, DOCS if given.write_docs else given.draw.parent)
    # The clients log at length that killed servers do not answer.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    terms = Terms(
        hours=given.hours,
        per_second=given.rate,
        fault_minutes=given.every,
        seed=given.seed,
        commit=_commit(),
        note=given.note,
    )
    began = datetime.now(UTC).strftime("%Y-%m-%dT%H%M%S")
    file = SampleFile(given.file or ROOT / ".cache" / "soak" / f"{began}-{terms.commit}.jsonl")
    say(f"samples: {file.path}")
    folder = given.data or Path(tempfile.mkdtemp(prefix="innkeeper-soak-"))
    try:
        verdict = asyncio.run(run(terms, folder, file))
    finally:
        file.close()
    if verdict.holds and given.data is None:
        shutil.rmtree(folder)
    elif not verdict.holds:
        say(f"logs and data are in {folder}")
    return report(file.path, DOCS if given.write_docs else file.path.parent)


def report(path: Path, folder: Path) -> int:
    """Judge the samples of a file, write summary, page and picture into a folder; return the exit status."""
    summary = summary_of(samples.read(path))
    write(summary, folder)
    for problem in summary["problems"]:
        say(problem)
    line = {name: summary[name] for name in ("hours", "bookings", "deleted_after_seconds", "problems")}
    sys.stdout.write(json.dumps(line) + "\n")
    return 1 if summary["problems"] else 0


def write(summary: Summary, folder: Path) -> None:
    """Write soak.json, soak.md and soak.svg."""
    (folder / "soak.json").write_text(json.dumps(summary, separators=(",", ":")) + "\n", encoding="utf-8")
    (folder / "soak.md").write_text(page(summary), encoding="utf-8")
    (folder / "soak.svg").write_text(picture(summary), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=1.0, help="how long the load lasts")
    parser.add_argument("--rate", type=float, default=5.0, help="visitors a second")
    parser.add_argument("--every", type=float, default=3.0, help="minutes from one fault to the next")
    parser.add_argument("--seed", type=int, default=1, help="what guests do and when what breaks")
    parser.add_argument("--file", type=Path, help="the file of the samples; they are appended")
    parser.add_argument("--data", type=Path, help="a folder for the system; kept afterwards")
    parser.add_argument("--draw", type=Path, metavar="FILE", help="only judge and draw the samples of a run")
    parser.add_argument("--note", default="", help="a sentence for the page, such as about the machine")
    parser.add_argument("--write-docs", action="store_true", help="write docs/soak.md and its picture")
    return parser


def _commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, check=False, capture_output=True, text=True
    )
    return found.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
