"""Breaks a running system on purpose and judges each fault: `python -m tests.faults [--only F9] [--seed 1] [--again]`.

Rows that have a result of this commit and seed are skipped, so that a run which was interrupted can be continued; with
files that are not committed all rows are run. In the end docs/faults.json and docs/faults.md have the new results. The
exit status is 0 if all rows hold and every system ended.
"""

import argparse
import asyncio
import logging
import sys

from docs.generate import main as write_documents
from tests.faults import catalogue
from tests.faults.results import Results, commit_of_this_tree, publish
from tests.faults.runner import Runner
from tests.system.pipeline.faults import say


def main() -> int:
    """Run from the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--only", default="", help="rows or faults, such as F9 or F6b,F7")
    parser.add_argument("--seed", type=int, default=1, help="what guests do, and the chance of each row")
    parser.add_argument("--again", action="store_true", help="also the rows that have a result of this commit and seed")
    parser.add_argument(
        "--busy", action="store_true", help="also on a machine that is too busy to judge waits; the page gets no result"
    )
    arguments = parser.parse_args()
    # The clients log at length that killed servers do not answer.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    rows = catalogue.chosen(catalogue.all_rows(), arguments.only)
    if not rows:
        parser.error(f"no row is called {arguments.only}")
    if without := catalogue.without_row(catalogue.all_rows()):
        say(f"no row yet: {', '.join(without)}")
    commit = commit_of_this_tree() + "-busy" * arguments.busy
    results = Results(arguments.seed, commit)
    run = asyncio.run(Runner(results, again=arguments.again, busy=arguments.busy).play(rows))
    if not arguments.busy:
        publish(run.results)
        write_documents([])
    for row, reason in run.missing.items():
        say(f"not run: {row}: {reason}")
    if run.without_system:
        say(f"not run, because there was no quiet system: {', '.join(run.without_system)}")
    for failure in run.failed_systems:
        say(failure)
    say(f"{len(run.results)} rows, {len(run.failed)} failed: {', '.join(run.failed) or 'none'}")
    return 0 if run.holds else 1


if __name__ == "__main__":
    sys.exit(main())
