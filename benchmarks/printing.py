"""The parts that both benchmark commands share: a check of the machine, lines on stdout, verdicts on stderr."""

import logging
import sys
from collections.abc import AsyncIterator

import typer

from benchmarks import load
from benchmarks.lines import Line, Without, as_json, goals
from benchmarks.stage import SWITCHED_OFF, BenchmarkFailed, progress
from sandbox import kafka, postgres
from sandbox.spawning import StartFailed


def prepare() -> None:
    """Configure logs; end the process with status 1 and a sentence when the machine lacks a program."""
    for reason in (load.missing(), kafka.available(), postgres.available()):
        if reason is not None:
            progress(reason)
            raise typer.Exit(1)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)


def print_switched_off() -> Line:
    """Print and return the line with the features that are switched off."""
    line = Without(switched_off=list(SWITCHED_OFF))
    print(as_json(line), flush=True)
    return line


async def print_lines(name: str, lines: AsyncIterator[Line]) -> list[Line]:
    """Print the lines of a benchmark as they come, and the verdict on each target; return the lines.

    Ends the process with status 1 and a sentence when the benchmark fails.
    """
    printed: list[Line] = []
    try:
        async for line in lines:
            print(as_json(line), flush=True)
            for goal in goals(line):
                progress(str(goal))
            printed.append(line)
    except (BenchmarkFailed, StartFailed) as failure:
        progress(f"{name}: {failure}")
        raise typer.Exit(1) from None
    return printed
