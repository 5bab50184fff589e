"""Files of an export that are whole are read in order, and any others are refused in one sentence with what to do."""

import hashlib
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from operators.export.files import checksum_path, day_file
from operators.export.formats import Format
from operators.restore import exported
from operators.restore.exported import Unfit
from tests.operators.export.records import at, record, reserved
from topics.kafka.partitions import partition_of
from topics.kafka.settings import KafkaSettings
from topics.messages.events import Event

KAFKA = KafkaSettings(_env_file=None)
TOPIC = "booking.events"
PARTITION = partition_of(b"1", KAFKA.topic_partitions)


class Kept:
    """A record as a client reads it from the log."""

    def __init__(self, sequence: int, time: datetime, event: Event | None = None) -> None:
        written = record(KAFKA, sequence, time, event)
        self.topic, self.partition, self.offset = TOPIC, PARTITION, sequence - 1
        self.timestamp = int(time.timestamp() * 1000)
        self.key, self.value, self.headers = written.key, written.value, written.headers


def write(folder: Path, day: str, numbered: Iterable[tuple[int, datetime]]) -> Path:
    """Write the file of a day as an export does."""
    path = folder / f"{TOPIC}-{day}.jsonl"
    with day_file(path, Format.JSONL) as file:
        file.write([Kept(sequence, time) for sequence, time in numbered])
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two days with events, and one without between them."""
    write(tmp_path, "2026-03-02", [(1, at(0)), (2, at(0, 13))])
    write(tmp_path, "2026-03-04", [(3, at(2)), (4, at(2, 13))])
    return tmp_path


def read(folder: Path) -> list[exported.LoggedEvent]:
    files = exported.find(folder, TOPIC)
    checked = exported.check(files, KAFKA.topic_partitions)
    events = list(exported.events(files, KAFKA.topic_partitions, checked.replaced))
    assert len(events) == checked.events
    return events


def lines(path: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    """Change the events of a file, and write its checksum anew."""
    events = change([json.loads(line) for line in path.read_text().splitlines()])
    path.write_text("".join(json.dumps(event, separators=(",", ":")) + "\n" for event in events))
    checksum_path(path).write_text(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n")


def test_events_come_back_with_all_that_they_had(folder: Path) -> None:
    events = read(folder)

    assert [(event.sequence, event.time_ms // 1000) for event in events] == [
        (sequence, int(time.timestamp())) for sequence, time in ((1, at(0)), (2, at(0, 13)), (3, at(2)), (4, at(2, 13)))
    ]
    first, kept = events[0], Kept(1, at(0))
    assert (first.partition, first.id) == (PARTITION, "command-0-1:1")
    assert (first.key, first.value, list(first.headers)) == (kept.key, kept.value, kept.headers)


def test_the_check_counts_events_and_knows_the_last_ones(folder: Path) -> None:
    checked = exported.check(exported.find(folder, TOPIC), KAFKA.topic_partitions)

    assert (checked.events, checked.last, checked.newest) == (4, {PARTITION: 4}, at(2, 13))
    assert checked.without_checksum == ()
    assert checked.end_of_whole_days_ms == int(datetime(2026, 3, 5, tzinfo=UTC).timestamp()) * 1000


def test_an_event_that_the_broker_had_before_one_that_precedes_it_is_put_in_order(tmp_path: Path) -> None:
    write(tmp_path, "2026-03-02", [(1, at(0)), (3, at(0))])
    write(tmp_path, "2026-03-03", [(2, at(1)), (4, at(1))])

    assert [event.sequence for event in read(tmp_path)] == [1, 2, 3, 4]


def write_stories(folder: Path, *days: str) -> None:
    """Write a file for each day, of events given as a sequence and a letter for the event's booking."""
    for day, story in enumerate(days):
        path = folder / f"{TOPIC}-2026-03-{2 + day:02}.jsonl"
        with day_file(path, Format.JSONL) as file:
            file.write(
                [Kept(int(each[0]), at(day), reserved(10 * int(each[0]) + ord(each[1]))) for each in story.split()]
            )


def stories(events: Iterable[exported.LoggedEvent]) -> str:
    named = (
        (event.sequence, json.loads(event.value)["booking_id"]) for event in events if event.partition == PARTITION
    )
    return " ".join(f"{number}{chr(UUID(booking).int - 10 * number)}" for number, booking in named)


@pytest.mark.parametrize(
    ("days", "restored"),
    [
        (("1a 2a 3a 2b 3b 4b",), "1a 2b 3b 4b"),
        (("1a 2a 3a", "2b 3b 4b"), "1a 2b 3b 4b"),
        # The log ended there.
        (("1a 2a 3a", "2b"), "1a 2b"),
        # The second decision of 3 was the same as the first.
        (("1a 2a 3a 2b 3a",), "1a 2b 3a"),
        (("1a 2a 3a 2b 3b", "3c 4c"), "1a 2b 3c 4c"),
        # An event came before one that precedes it, on both sides.
        (("1a 3a 2a", "2b 4b 3b"), "1a 2b 3b 4b"),
        (("1a 2a 4a 2b 3b 4b",), "1a 2b 3b 4b"),
    ],
)
def test_of_two_events_of_one_sequence_the_later_one_and_all_that_follow_it_are_restored(
    days: tuple[str, ...], restored: str, tmp_path: Path
) -> None:
    write_stories(tmp_path, *days)

    assert stories(read(tmp_path)) == restored


@pytest.mark.parametrize(
    ("kept", "last"),
    [("3a 4a", 4), ("3b 4b 5b", 2), ("3a 4b 5b", 3), ("5b", 4), ("2b 3b", 1)],
)
def test_files_end_before_an_event_that_the_outbox_has_otherwise(kept: str, last: int, tmp_path: Path) -> None:
    """The files' day ended between the decision that a failover lost and the one that replaced it."""
    write_stories(tmp_path, "1a 2a 3a 4a")
    checked = exported.check(exported.find(tmp_path, TOPIC), KAFKA.topic_partitions)

    for each in kept.split():
        event = Kept(int(each[0]), at(1), reserved(10 * int(each[0]) + ord(each[1])))
        checked.cut_before_another(
            exported.LoggedEvent(PARTITION, int(each[0]), "id", event.timestamp, event.key, event.value, event.headers)
        )

    assert checked.last == {PARTITION: last}


def test_files_with_an_old_event_behind_the_others_are_refused_with_its_sequence(tmp_path: Path) -> None:
    write_stories(tmp_path, "1a 2a 3a 2b 4a")

    with pytest.raises(Unfit, match=r"after sequence 2 and before 4.*published event 2 once more"):
        read(tmp_path)


def test_a_day_that_is_not_over_counts_too(folder: Path) -> None:
    write(folder, "2026-03-05.partial", [(5, at(3))])

    assert [event.sequence for event in read(folder)] == [1, 2, 3, 4, 5]


def test_files_from_before_checksums_are_named(folder: Path) -> None:
    checksum_path(folder / f"{TOPIC}-2026-03-04.jsonl").unlink()

    checked = exported.check(exported.find(folder, TOPIC), KAFKA.topic_partitions)

    assert checked.without_checksum == (f"{TOPIC}-2026-03-04.jsonl",)


LAST = f"{TOPIC}-2026-03-04.jsonl"


def cut(folder: Path) -> None:
    path = folder / LAST
    path.write_bytes(path.read_bytes()[:-40])


def cut_between_lines(folder: Path) -> None:
    path = folder / LAST
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def turn_a_bit(folder: Path) -> None:
    path = folder / LAST
    path.write_bytes(path.read_bytes().replace(b'"amount_minor":20000', b'"amount_minor":20001', 1))


def damage(folder: Path) -> None:
    lines(folder / LAST, lambda events: [event | {"data": {"room_id": "one"}} for event in events])


def from_the_future(folder: Path) -> None:
    lines(folder / LAST, lambda events: [event | {"type": "booking.reserved.v9"} for event in events])


def double_an_event(folder: Path) -> None:
    lines(folder / LAST, lambda events: [*events, events[-1]])


def copy_a_file(folder: Path) -> None:
    (folder / f"{TOPIC}-2026-03-03.jsonl").write_bytes((folder / f"{TOPIC}-2026-03-02.jsonl").read_bytes())


def whole_and_partial(folder: Path) -> None:
    (folder / f"{TOPIC}-2026-03-04.partial.jsonl").write_bytes((folder / LAST).read_bytes())


def swap_names(folder: Path) -> None:
    for path in sorted(folder.glob("*.sha256")):
        path.unlink()
    first, last = folder / f"{TOPIC}-2026-03-02.jsonl", folder / LAST
    text = first.read_bytes()
    first.write_bytes(last.read_bytes())
    last.write_bytes(text)


def lose_the_first_file(folder: Path) -> None:
    for path in folder.glob("*2026-03-02*"):
        path.unlink()


def lose_a_file_and_keep_its_checksum(folder: Path) -> None:
    (folder / LAST).unlink()


def lose_an_event(folder: Path) -> None:
    lines(folder / f"{TOPIC}-2026-03-02.jsonl", lambda events: events[:1])


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def only_for_analysts(folder: Path) -> None:
    empty(folder)
    (folder / f"{TOPIC}-2026-03-02.parquet").write_bytes(b"PAR1")


def other_checksum_file(folder: Path) -> None:
    checksum_path(folder / LAST).write_text("nothing of use\n")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (cut, "2026-03-04.jsonl, line 2 is cut off"),
        (cut_between_lines, "checksum differs. Bring back another copy"),
        (turn_a_bit, "checksum differs. Bring back another copy"),
        (damage, "line 1 is no event of ours"),
        (from_the_future, "newer than this program. Restore with the release that wrote it"),
        (double_an_event, f"event 4 of partition {PARTITION} is there twice. Keep one file of each day"),
        (copy_a_file, "2026-03-03.jsonl, line 1: its event is of 2026-03-02. Give the file the name of its day"),
        (whole_and_partial, "2026-03-04 has two files"),
        (swap_names, "its event is of 2026-03-04"),
        (lose_the_first_file, f"partition {PARTITION} after sequence 0 and before 3: a file of a day is missing"),
        (lose_a_file_and_keep_its_checksum, f"{LAST} is missing, though its checksum is there: bring it back"),
        (lose_an_event, "after sequence 1 and before 3"),
        (empty, "has no file booking.events-DAY.jsonl. A restore needs files of innkeeper export --format jsonl"),
        (only_for_analysts, "is for analysts and lacks a part of each event"),
        (other_checksum_file, "is no checksum of"),
    ],
)
def test_files_that_are_not_as_they_were_written_are_refused(
    folder: Path, spoil: Callable[[Path], None], sentence: str
) -> None:
    spoil(folder)

    with pytest.raises(Unfit) as refused:
        read(folder)

    assert sentence in str(refused.value), refused.value


def test_another_number_of_partitions_is_refused(folder: Path) -> None:
    files = exported.find(folder, TOPIC)
    other = next(count for count in range(2, 50) if partition_of(b"1", count) != PARTITION)

    with pytest.raises(Unfit, match="Set TOPIC_PARTITIONS as it was"):
        exported.check(files, other)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unfit, match="is no folder"):
        exported.find(tmp_path / "nowhere", TOPIC)
