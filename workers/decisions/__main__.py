"""Writes `docs/states.md` from the table of moves; with `--check`, tells whether the page is still true."""

import sys
from argparse import ArgumentParser
from pathlib import Path

from workers.decisions.states import states_page

PAGE = Path(__file__).parents[2] / "docs" / "states.md"


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status: 1 when the page was to be checked and differs."""
    parser = ArgumentParser(prog="python -m workers.decisions", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when the page differs")
    if not parser.parse_args(arguments).check:
        PAGE.write_text(states_page(), encoding="utf-8")
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == states_page():
        return 0
    print(f"{PAGE} differs from the table: run python -m workers.decisions", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
