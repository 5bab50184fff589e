"""Three questions of a hotel are answered from an export with the ledger's own figures; the page shows those."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from operators.export.columns import COLUMNS
from sandbox.replay import _record
from sandbox.trace import read_trace
from storage.settings import DatabaseSettings
from tests.operators.export.conftest import Export
from tests.operators.export.questions import PAGE, QUESTIONS, Question, as_text, check_against
from tests.sandbox.test_replay import first_rows
from tests.support.log import open_log, open_processor, process_all
from tests.system.trace.replayed import ReplayedTrace
from topics.catalogue import BOOKING_COMMANDS
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import ChangeInventory, OpenInventory
from workers.reservations.handler import build

# Nights opened, stays refused, reserved and confirmed at once, cancelled, and cancellations refused.
EVENTS_OF_THE_TRACE = 18 + 716 + 2 * 118_674 + 44_189 + 35


def test_a_few_guests_are_counted_as_the_ledger_counts_them(
    timed: KafkaSettings, database: DatabaseSettings, export: Export, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(book(timed, database, first_rows(150, folder.parent)))
    assert export().exit_code == 0
    monkeypatch.chdir(folder.parent)

    answers = check_against(database)

    _, lead_times = answers["lead_time"]
    assert sum(row[1] for row in lead_times) > 100
    _, nights = answers["occupancy"]
    assert len({row[3] for row in nights}) > 1


async def book(settings: KafkaSettings, database: DatabaseSettings, trace: Path) -> None:
    """Have a worker decide the trace; then a manager takes rooms off sale, where no more are sold than that."""
    steps = read_trace(trace, rooms=20)
    last = steps[-1]
    nights = [step.command for step in steps if isinstance(step.command, OpenInventory)]
    fewer = ChangeInventory(
        room_id=nights[0].room_id,
        first_night=nights[0].first_night,
        end_night=nights[0].end_night,
        total_count=3,
    )
    role = build(settings, database)
    async with open_log(settings) as log, open_processor(role, log, database) as processor:
        topic = settings.topic(BOOKING_COMMANDS)
        await log.write(*(_record(topic, step) for step in (*steps, last._replace(command=fewer))))
        await process_all(processor, role, log)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)
def test_the_page_shows_what_the_example_asks(question: Question) -> None:
    assert f"```sql\n{question.sql}```" in PAGE.read_text()


def test_the_page_names_every_column_and_who_fills_it() -> None:
    page = PAGE.read_text()

    for column in COLUMNS:
        filled_by = ", ".join(f"`{family}`" for family in column.families)
        named_if_few = f" {filled_by} |" if 0 < len(column.families) <= 5 else ""
        assert f"| `{column.name}` | {column.shape} |{named_if_few}" in page


@pytest.mark.trace
@pytest.mark.timeout(1800)
async def test_the_pages_figures_are_those_of_the_whole_trace(
    replayed_trace: ReplayedTrace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = await export_all(replayed_trace.kafka.kafka_url, tmp_path / "export")
    monkeypatch.chdir(tmp_path)
    answers = check_against(replayed_trace.database)

    page = PAGE.read_text()
    # An event that is on the log twice is exported once.
    assert f" {EVENTS_OF_THE_TRACE:,} events (" in summary
    assert f"{EVENTS_OF_THE_TRACE:,} events" in page
    for question in QUESTIONS:
        assert as_text(answers[question.name]) in page


async def export_all(kafka_url: str, folder: Path) -> str:
    """Export as an analyst does; return the line that it ends with."""
    command = (sys.executable, "-m", "operators", "export", "booking.events", "--out", str(folder))
    process = await asyncio.create_subprocess_exec(*command, env={**os.environ, "KAFKA_URL": kafka_url}, stderr=PIPE)
    _, summary = await process.communicate()
    assert process.returncode == 0, summary
    return summary.decode()
