"""docs/money.md: its lines are run as a reader runs them, and the answers have what the page shows."""

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Final

import msgspec
import pytest

from tests.docs.blocks import differences
from tests.system.money.desk import Desk

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.system]

PAGE: Final = (Path(__file__).parents[3] / "docs" / "money.md").read_text()
ADDRESS: Final = "http://127.0.0.1:8080"
#: A reader waits for less time than a machine may pause.
LONGER: Final = ("wait=5", "wait=30")
_BETWEEN: Final = "----- the next block -----"


async def test_the_lines_of_the_page_sell_a_stay_and_give_half_of_its_money_back(desk: Desk) -> None:
    blocks = re.findall(r"^```(sh|json)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    lines = f"\necho; echo '{_BETWEEN}'\n".join(code for language, code in blocks if language == "sh")
    script = lines.replace(ADDRESS, desk.house.system.url).replace(*LONGER)
    script = script.replace("\ninnkeeper ", f"\n{sys.executable} -m operators ")
    shell = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", "-c", script),
        env=os.environ | desk.house.system.environment(),
        stdout=PIPE,
        stderr=PIPE,
    )
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
    assert shown == 10
    assert next(answers, None) is None
