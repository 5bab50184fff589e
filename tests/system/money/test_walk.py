"""docs/money.md: its lines are run as a reader runs them, and the answers have what the page shows."""

import asyncio
import re
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from tests.system.money.desk import Desk

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.system]

PAGE: Final = (Path(__file__).parents[3] / "docs" / "money.md").read_text()
ADDRESS: Final = "http://127.0.0.1:8080"
#: A reader waits for less time than a machine may pause.
LONGER: Final = ("wait=5", "wait=30")
_BETWEEN: Final = "----- the next block -----"


def test_a_page_shows_what_an_answer_has() -> None:
    answer = {"a": "1", "b": [{"c": 2, "d": 3}], "e": None}

    assert differences({"b": [{"c": 2}], "e": None}, answer) == []
    assert differences({"b": [{"c": 3}], "f": 1}, answer) == ["b.0.c: 3 is shown, the answer has 2", "f: is not there"]
    assert differences({"b": []}, answer) == ["b: 0 entries are shown, the answer has 1"]


async def test_the_lines_of_the_page_sell_a_stay_and_give_half_of_its_money_back(desk: Desk) -> None:
    blocks = re.findall(r"^```(sh|json)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    lines = f"\necho; echo '{_BETWEEN}'\n".join(code for language, code in blocks if language == "sh")
    script = lines.replace(ADDRESS, desk.house.system.url).replace(*LONGER)
    shell = await asyncio.create_subprocess_exec("bash", "-euo", "pipefail", "-c", script, stdout=PIPE, stderr=PIPE)
    out, complaints = (each.decode() for each in await shell.communicate())
    assert shell.returncode == 0, out + complaints
    answers = iter(out.split(_BETWEEN))

    shown = 0
    for language, code in blocks:
        if language == "sh":
            answer = next(answers)
        else:
            shown += 1
            given = msgspec.json.decode(answer.strip().rpartition("\n")[2] or answer)
            assert differences(msgspec.json.decode(code), given) == [], answer
    assert shown == 5
    assert next(answers, None) is None


def differences(shown: Any, answer: Any, path: str = "") -> list[str]:
    """Return what a page shows and an answer does not have; fields that the page leaves out do not matter."""
    where = path.removeprefix(".")
    if isinstance(shown, dict) and isinstance(answer, dict):
        found = []
        for name, value in shown.items():
            missing = [f"{where}.{name}: is not there".removeprefix(".")]
            found += differences(value, answer[name], f"{path}.{name}") if name in answer else missing
        return found
    if isinstance(shown, list) and isinstance(answer, list):
        if len(shown) != len(answer):
            return [f"{where}: {len(shown)} entries are shown, the answer has {len(answer)}"]
        pairs = enumerate(zip(shown, answer, strict=True))
        return [each for number, pair in pairs for each in differences(*pair, f"{path}.{number}")]
    return [] if shown == answer else [f"{where}: {shown} is shown, the answer has {answer}"]
