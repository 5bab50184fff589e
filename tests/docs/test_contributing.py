"""The walks of CONTRIBUTING.md lead through files that exist, and name things that are in them."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
WALKS = ("Add a command", "Add an event", "Add an endpoint", "Add a projection")
MIN_FILES = 6

_LINK = re.compile(r"\[[^\]]+\]\(([^)#]+)\)")
_NAME = re.compile(r"`(@?[A-Za-z_]{4,})`")
#: Names of tools and packages that a step may use without defining them.
_ELSEWHERE = {"storage"}


def steps(walk: str) -> list[str]:
    """Return the numbered steps of a walk."""
    section = PAGE.split(f"\n## {walk}\n")[1].split("\n## ")[0]
    return [step.strip() for step in re.split(r"\n(?=\d+\. )", section)[1:]]


@pytest.mark.parametrize("walk", WALKS)
def test_a_walk_names_its_files_in_order(walk: str) -> None:
    numbers = [int(step.split(".")[0]) for step in steps(walk)]
    files = [file for step in steps(walk) for file in _LINK.findall(step)]

    assert numbers == list(range(1, len(numbers) + 1))
    assert len(files) >= MIN_FILES
    assert [file for file in files if not (ROOT / file).exists()] == []


@pytest.mark.parametrize("walk", WALKS)
def test_a_name_in_a_step_is_in_one_of_its_files(walk: str) -> None:
    strangers = []
    for step in steps(walk):
        texts = [(ROOT / file).read_text() for file in _LINK.findall(step) if (ROOT / file).is_file()]
        strangers += [
            f"{name}: {step.splitlines()[0]}"
            for name in _NAME.findall(step)
            if name not in _ELSEWHERE and not any(re.search(rf"\b{name.lstrip('@')}\b", text) for text in texts)
        ]

    assert strangers == []


def test_the_tests_that_the_page_runs_exist() -> None:
    paths = re.findall(r"-m pytest (?:-m \w+ )?(tests/\S+)", PAGE)

    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []
