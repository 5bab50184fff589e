"""`make mutants`: break one rule of the product at a time, and print the test that notices."""

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from tests.mutants.catalogue import MUTANTS, Mutant
from tests.mutants.runner import CHECKOUT, CannotJudge, judged


def main(
    only: Annotated[str, typer.Option(help="A part of the names of the mutants to try.")] = "",
    copies: Annotated[int, typer.Option(min=1, help="How many are tried at the same time.")] = 2,
) -> None:
    """Print a line for each mutant; the exit status is 1 when one is not noticed, 2 when the tests cannot judge."""
    chosen = [mutant for mutant in MUTANTS if only in mutant.name]
    if not chosen:
        raise typer.BadParameter(f"no mutant's name has {only!r} in it", param_hint="--only")
    sandbox = CHECKOUT / ".sandbox"
    sandbox.mkdir(exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=sandbox, prefix="mutants-") as folder:
            # The database server of the tests, which does not run as root, enters the copies.
            Path(folder).chmod(0o755)
            survivors = asyncio.run(_try(chosen, Path(folder), copies))
    except CannotJudge as problem:
        sys.stderr.write(f"{problem}\n")
        raise typer.Exit(2) from None
    print(f"{len(chosen) - survivors} of {len(chosen)} mutants are noticed")
    raise typer.Exit(int(survivors > 0))


async def _try(mutants: list[Mutant], folder: Path, copies: int) -> int:
    survivors = 0
    async for verdict in judged(mutants, folder, copies=copies):
        survivors += verdict.noticed_by is None
        print(f"{verdict.mutant.name}: {verdict.noticed_by or 'NOT NOTICED'}", flush=True)
    return survivors


if __name__ == "__main__":
    typer.run(main)
