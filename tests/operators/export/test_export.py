"""An analyst exports the events of a log: whole days, each event once, however often it is cut off and called again."""

import asyncio
import csv
import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
from asyncio.subprocess import DEVNULL, create_subprocess_exec
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from typer.testing import CliRunner

from operators.cli.main import app
from operators.export import days, files
from operators.export.columns import COLUMNS, data_columns
from operators.export.days import Deduplicator
from tests.operators.export.conftest import Export
from tests.operators.export.questions import asked
from tests.operators.export.records import at, record, reserved, write
from tests.support.waiting import wait_until
from tests.workers.decisions.words_at_hotel import SALE
from topics.envelope import Outgoing
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import ReserveStay
from topics.messages.events import (
    EVENTS,
    CodeChanged,
    CodeClaimed,
    DocumentIssued,
    Event,
    GuestsAdded,
    GuestsCheckedOut,
    InventoryChanged,
    NightRange,
    RefusedNight,
    RoomsHeld,
    SaleTermsChanged,
    StayBefore,
    StayChanged,
)
from topics.messages.sale import NO_SALE_TERMS, AppliedPolicy, CancellationStep, CodeTerms, Discount
from topics.messages.values import DocumentKind, DocumentReason, NightRefusal

STORY = (
    (1, at(0), None),
    (2, at(0, 23.9999), GuestsAdded(room_id=1, booking_id=UUID(int=1), guest_ids=(3, 4))),
    (3, at(1, 0), None),
    (4, at(3), None),
)


def put(settings: KafkaSettings, records: Iterable[Outgoing]) -> None:
    asyncio.run(write(settings, records))


def put_story(settings: KafkaSettings, partition: int = 0) -> None:
    put(settings, [record(settings, number, time, event, partition) for number, time, event in STORY])


def it_is(now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an export see this time, at which no day turns."""
    clock = type("Clock", (datetime,), {"now": lambda _=None: now})
    for reader in ("operators.cli.export", "operators.cli.console"):
        monkeypatch.setattr(f"{reader}.datetime", clock)


def written(folder: Path) -> list[Path]:
    """Return the files of a folder, without their checksums."""
    return sorted(path for path in folder.iterdir() if path.suffix != ".sha256")


def names(folder: Path) -> list[str]:
    return [path.name.rpartition("booking.events-")[2] for path in written(folder)]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in written(folder)}


def checksums(folder: Path) -> set[str]:
    """Return the lines of all checksums of a folder."""
    return {path.read_text() for path in folder.glob("*.sha256")}


def csv_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.csv"))


def sequences(folder: Path) -> list[tuple[int, int]]:
    """Return partition and sequence of every row, file after file."""
    found = []
    for path in sorted(folder.glob("*.jsonl")):
        found += [(each["kafkapartition"], each["sequence"]) for each in map(json.loads, path.read_text().splitlines())]
    return found


def rows(folder: Path, what: str = "*", suffix: str = "") -> list[tuple[Any, ...]]:
    return asked(f"select {what} from '{folder}/*.parquet' {suffix}")[1]


class TestDays:
    """Which files there are."""

    def test_every_day_on_which_something_happened_has_a_file(
        self, timed: KafkaSettings, export: Export, folder: Path
    ) -> None:
        put_story(timed, partition=2)
        put_story(timed)

        result = export("--until", "2026-03-06", "--format", "jsonl")

        assert result.exit_code == 0, result.stderr
        assert names(folder) == [f"2026-03-0{day}.jsonl" for day in (2, 3, 5)]
        assert [len(text.splitlines()) for _, text in sorted(contents(folder).items())] == [4, 2, 2]
        assert checksums(folder) == {
            f"{hashlib.sha256(text).hexdigest()}  {name}\n" for name, text in contents(folder).items()
        }
        assert sequences(folder) == [(0, 1), (0, 2), (2, 1), (2, 2), (0, 3), (2, 3), (0, 4), (2, 4)]

    def test_a_day_that_is_not_over_by_then_is_left_out_and_since_takes_whole_days(
        self, timed: KafkaSettings, export: Export, folder: Path
    ) -> None:
        put_story(timed)

        assert export("--since", "2026-03-03T13:00", "--until", "2026-03-04T23:59", "--format", "csv").exit_code == 0

        assert names(folder) == ["2026-03-03.csv"]

    def test_today_is_partial_until_it_is_over(
        self, timed: KafkaSettings, export: Export, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = at(8)
        it_is(now, monkeypatch)
        put(timed, [record(timed, 1, now - timedelta(days=1)), record(timed, 2, now)])
        assert export("--format", "jsonl").exit_code == 0
        before = sequences(folder)

        assert export("--until", "now", "--format", "jsonl").exit_code == 0
        put(timed, [record(timed, 3, now)])
        assert export("--until", "now", "--format", "jsonl").exit_code == 0

        assert before == [(0, 1)]
        assert sequences(folder) == [(0, 1), (0, 2), (0, 3)]
        partial = [name for name in names(folder) if "partial" in name]
        assert f"{now.date()}.partial.jsonl" in partial
        # The next day comes: the whole file takes the partial one's place.
        it_is(now + timedelta(days=1, minutes=10), monkeypatch)
        assert export("--format", "jsonl").exit_code == 0
        assert f"{now.date()}.jsonl" in names(folder)
        assert f"{now.date()}.partial.jsonl" not in names(folder)
        assert not list(folder.glob("*.partial.jsonl.sha256"))
        assert sequences(folder) == [(0, 1), (0, 2), (0, 3)]

    def test_records_of_a_day_that_is_not_over_are_reported_with_the_option_that_writes_them(
        self, timed: KafkaSettings, export: Export, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = at(8)
        it_is(now, monkeypatch)
        put(timed, [record(timed, number, now, partition=number % 2) for number in (1, 2, 3)])
        tomorrow = str(now.date() + timedelta(days=1))
        listed = "Left out, as their day is not over: 3 records. --until now writes them, too."

        for options in ((), ("--until", tomorrow), ("--since", "1d")):
            assert listed in export(*options).stderr, options
        assert "Left out" not in export("--until", "2026-03-06").stderr
        assert not any(folder.glob("*"))
        with_today = export("--until", "now")
        assert "1 file written, 0 were there: 3 events" in with_today.stderr
        assert "Left out" not in with_today.stderr

    def test_a_log_without_events_gives_nothing(self, export: Export, folder: Path) -> None:
        assert export().exit_code == 0
        assert not folder.exists()


class TestDeduplication:
    """No event twice, none lost."""

    def test_an_event_published_twice_counts_for_the_day_of_its_first_time_wherever_the_export_begins(
        self, timed: KafkaSettings, export: Export, folder: Path
    ) -> None:
        # A worker died after publishing; its successor publishes all again the next day, and dies; and again.
        published = [(1, 0), (2, 0), (3, 0), (1, 1), (2, 1), (1, 2), (2, 2), (3, 2), (4, 2)]
        put(timed, [record(timed, number, at(day)) for number, day in published])

        for since, doubles in (("2026-03-02", 5), ("2026-03-03", 5), ("2026-03-04", 3)):
            out = str(folder / since)
            result = export("--since", since, "--until", "2026-03-05", "--format", "jsonl", "--json", "--out", out)

            listed = [json.loads(line) for line in result.stdout.splitlines()]
            events = {"2026-03-02": 3, "2026-03-04": 1}
            assert {each["day"]: each["events"] for each in listed} == {
                day: n for day, n in events.items() if day >= since
            }
            assert f"({doubles} published twice, left out)" in result.stderr

    def test_an_event_that_was_acknowledged_late_is_not_taken_for_a_double(
        self, timed: KafkaSettings, export: Export, folder: Path
    ) -> None:
        published = [(1, 0), (3, 0), (2, 1), (3, 1), (4, 1)]
        put(timed, [record(timed, number, at(day)) for number, day in published])

        result = export("--since", "2026-03-03", "--until", "2026-03-04", "--format", "jsonl")

        assert result.exit_code == 0, result.stderr
        assert sequences(folder) == [(0, 2), (0, 4)]

    def test_a_long_repeat_is_found_also_where_reading_back_has_to_go_further(
        self, timed: KafkaSettings, export: Export, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(days, "MAX_REPEAT", 3)
        again = [5, 6, 7] * 4
        put(timed, [record(timed, number, at(0)) for number in (*range(1, 8), *again)])
        put(timed, [record(timed, number, at(1)) for number in (5, 6, 7, 8)])

        assert export("--since", "2026-03-03", "--until", "2026-03-04", "--format", "jsonl").exit_code == 0

        assert sequences(folder) == [(0, 8)]

    def test_an_event_that_is_not_on_the_log_is_reported(
        self, timed: KafkaSettings, export: Export, folder: Path
    ) -> None:
        put(timed, [record(timed, number, at(0)) for number in (1, 2, 5)])

        result = export("--format", "jsonl", "--until", "2026-03-03")

        assert result.exit_code == 1
        assert "Partition 0: 2 sequences are missing." in result.stderr
        assert sequences(folder) == [(0, 1), (0, 2), (0, 5)]

    def test_a_gap_that_never_closes_is_counted_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(days, "MAX_REPEAT", 2)
        deduplicator = Deduplicator(0)

        assert [deduplicator.is_new(number) for number in (1, 4, 5, 6, 7, 4, 9)] == [True] * 5 + [False, True]
        assert deduplicator.missing() == 3

    @pytest.mark.parametrize(
        ("events", "new", "missing"),
        [
            # A failover lost events 2 and 3; their decisions were made again otherwise, and published twice.
            ("1a 2a 3a 2b 3b 2b 3b 4b", "1a 2a 3a 2b 3b 4b", 0),
            # The second decision of 3 was the same as the first, and yet follows the other 2.
            ("1a 2a 3a 2b 3a 4a", "1a 2a 3a 2b 3a 4a", 0),
            ("1a 2a 2b 2c 3c", "1a 2a 2b 2c 3c", 0),
            # Published again as they were, they are left out.
            ("1a 2a 3a 2a 3a 4a", "1a 2a 3a 4a", 0),
            # A worker that was frozen publishes an old event, and the others go on.
            ("1a 2a 3a 2b 4a 5a", "1a 2a 3a 2b 4a 5a", 0),
            ("1a 2a 3a 2b 4a 6a", "1a 2a 3a 2b 4a 6a", 1),
            # An event of a gap comes after one that follows it.
            ("1a 2a 2b 4b 3b 4b 5b", "1a 2a 2b 4b 3b 5b", 0),
        ],
    )
    def test_both_of_two_events_of_one_sequence_are_kept(self, events: str, new: str, missing: int) -> None:
        deduplicator = Deduplicator(0)

        found = [each for each in events.split() if deduplicator.is_new(int(each[0]), ord(each[1]))]

        assert found == new.split()
        assert deduplicator.missing() == missing


class TestResuming:
    """The same call goes on where the last one was cut off."""

    def test_days_that_were_lost_come_back_with_the_same_bytes_and_the_others_are_left_alone(
        self, timed: KafkaSettings, export: Export, folder: Path
    ) -> None:
        for partition in (1, 0):
            put_story(timed, partition)
        for format in ("parquet", "csv", "jsonl"):
            out = folder / format
            options = ("--format", format, "--until", "2026-03-06", "--out", str(out))
            assert export(*options).exit_code == 0
            whole = contents(out)
            first, second, third = written(out)
            second.unlink()
            (out / f".{second.name}.tmp").write_bytes(b"cut off")
            untouched = first.stat().st_mtime_ns, third.stat().st_mtime_ns

            result = export(*options)

            assert "1 file written, 2 were there: 2 events" in result.stderr
            assert contents(out) == whole
            assert (first.stat().st_mtime_ns, third.stat().st_mtime_ns) == untouched

    @pytest.mark.system
    async def test_killed_in_the_middle_it_leaves_whole_files_alone_and_the_next_call_writes_the_rest(
        self, timed: KafkaSettings, folder: Path, tmp_path: Path
    ) -> None:
        await write(timed, [record(timed, 1 + number, at(number / 10)) for number in range(2000)])
        environment = {**os.environ, "KAFKA_URL": timed.kafka_url, "TOPIC_PREFIX": timed.topic_prefix}
        options = ["--since", "2026-03-02", "--until", "2026-10-01", "--format", "csv"]
        command = [sys.executable, "-m", "operators", "export", "booking.events", *options]
        # It prints each file and nobody reads: the full pipe keeps it from ending before it is killed.
        unread, full = os.pipe()
        fcntl.fcntl(full, fcntl.F_SETPIPE_SZ, 4096)
        process = subprocess.Popen(
            [*command, "--json", "--out", str(folder)], env=environment, stdout=full, stderr=subprocess.DEVNULL
        )
        await wait_until(lambda: len(csv_files(folder)) > 5)
        process.send_signal(signal.SIGKILL)
        process.wait()
        os.close(unread)
        os.close(full)
        some = len(csv_files(folder))

        for out in (folder, tmp_path / "again"):
            again = await create_subprocess_exec(*command, "--out", str(out), env=environment, stderr=DEVNULL)
            assert await again.wait() == 0

        assert 5 < some < 200
        assert contents(folder) == contents(tmp_path / "again")
        lines = [line for path in csv_files(folder) for line in csv.DictReader(path.read_text().splitlines())]
        assert [line["sequence"] for line in lines] == [str(1 + number) for number in range(2000)]

    def test_two_exports_into_one_folder_do_not_meet(self, timed: KafkaSettings, export: Export, folder: Path) -> None:
        put_story(timed)
        folder.mkdir()
        opened = os.open(folder, os.O_RDONLY)
        fcntl.flock(opened, fcntl.LOCK_EX)

        result = export()

        os.close(opened)
        assert result.exit_code == 1
        assert "Another export writes into" in result.stderr
        assert names(folder) == []


def new_events() -> Iterable[Event]:
    """Return a change of a stay, terms and a use of a promo code, and an invoice."""
    dates: dict[str, Any] = {"check_in": date(2026, 12, 24), "check_out": date(2026, 12, 26)}
    return (
        StayChanged(
            room_id=1,
            booking_id=UUID(int=1),
            change_id=UUID(int=2),
            check_in=date(2026, 12, 27),
            check_out=date(2026, 12, 28),
            rooms_count=2,
            amount_minor=30_000,
            currency="EUR",
            night_amounts_minor=(30_000,),
            before=StayBefore(**dates, rooms_count=1, amount_minor=20_000, sale=SALE),
            held=(RoomsHeld(first_night=date(2026, 12, 27), end_night=date(2026, 12, 28), rooms_count=2),),
            extra_minor=10_000,
        ),
        CodeChanged(
            code_id=5,
            hotel_id=10,
            terms=CodeTerms(version=1, code="SPRING", percent_milli=10_000, valid_until=at(9), room_ids=(1, 2)),
        ),
        CodeClaimed(
            code_id=5,
            booking_id=UUID(int=3),
            discount=Discount(code_id=5, code="SPRING", percent_milli=10_000),
            reserve=ReserveStay(room_id=1, booking_id=UUID(int=3), hotel_id=10, **dates),
        ),
        DocumentIssued(
            hotel_id=10,
            document_id=UUID(int=4),
            kind=DocumentKind.INVOICE,
            number=7,
            reason=DocumentReason.STAY,
            booking_id=UUID(int=1),
            lines=SALE.lines,
            amount_minor=20_000,
            currency="EUR",
        ),
    )


class TestColumns:
    """The files' contents."""

    def test_every_value_has_its_type(self, timed: KafkaSettings, export: Export, folder: Path) -> None:
        changed = InventoryChanged(
            room_id=1,
            ranges=(NightRange(first_night=date(2026, 5, 1), end_night=date(2026, 5, 3)),),
            closed=True,
            refused=(RefusedNight(night=date(2026, 5, 4), reason=NightRefusal.NOT_OPEN),),
        )
        added = GuestsAdded(room_id=1, booking_id=UUID(int=1), guest_ids=(3, 4))
        put(timed, [record(timed, n, at(0), event) for n, event in enumerate((reserved(1), changed, added), start=1)])

        assert export("--until", "2026-03-03").exit_code == 0

        first, second, third = rows(folder, suffix="order by sequence")
        by_name = dict(zip([column.name for column in COLUMNS], first, strict=True))
        assert {name: value for name, value in by_name.items() if value is not None} == {
            "id": "command-0-1:1",
            "type": "booking.reserved",
            "version": 1,
            "time": at(0),
            "sequence": 1,
            "causation": "command-0-1",
            "correlation": "request-0-1",
            "partition": 0,
            "offset": 0,
            "log_time": at(0),
            "room_id": 1,
            "hotel_id": 10,
            "currency": "EUR",
            "booking_id": str(UUID(int=1)),
            "user_id": 7,
            "check_in": date(2026, 12, 24),
            "check_out": date(2026, 12, 26),
            "rooms_count": 1,
            "amount_minor": 20_000,
            "terms": "prepaid",
            "hold_expires_at": datetime(2026, 3, 2, 12, 15, 0, 250_000, tzinfo=UTC),
            "night_amounts_minor": [8_000, 12_000],
            "stay_times": {
                "time_zone": "Africa/Casablanca",
                "check_in_time": time(15),
                "check_out_time": time(11, 30),
            },
        }
        assert [{"first_night": date(2026, 5, 1), "end_night": date(2026, 5, 3)}] in second
        assert [{"night": date(2026, 5, 4), "reason": "not_open"}] in second
        assert True in second
        assert [3, 4] in third
        types: dict[str, str] = dict(
            asked(f"select column_name, column_type from (describe from '{folder}/*.parquet')")[1]
        )
        assert types["check_in"] == "DATE"
        assert types["log_time"] == types["hold_expires_at"] == "TIMESTAMP WITH TIME ZONE"
        assert types["amount_minor"] == "BIGINT"
        assert types["guest_ids"] == types["night_amounts_minor"] == "BIGINT[]"
        assert types["stay_times"] == "STRUCT(time_zone VARCHAR, check_in_time TIME, check_out_time TIME)"

    def test_the_terms_of_a_stay_and_of_a_room_have_columns(
        self, timed: KafkaSettings, export: Export, folder: Path
    ) -> None:
        until = datetime(2026, 12, 22, 15)  # noqa: DTZ001 - a wall time at the hotel
        sale = msgspec.structs.replace(SALE, steps=(CancellationStep(until=until, kept_minor=0), *SALE.steps))
        terms = SaleTermsChanged(room_id=1, hotel_id=10, terms=NO_SALE_TERMS)
        policy = AppliedPolicy(kept_minor=5_000, percent=50)
        left = GuestsCheckedOut(room_id=1, booking_id=UUID(int=1), freed_from=date(2026, 12, 25), policy=policy)
        events = (msgspec.structs.replace(reserved(1), sale=sale), terms, left)
        put(timed, [record(timed, n, at(0), event) for n, event in enumerate(events, start=1)])

        assert export("--until", "2026-03-03").exit_code == 0
        assert export("--until", "2026-03-03", "--format", "csv").exit_code == 0

        columns = "sale.steps[1].until, sale.lines[1].amount_minor, sale_terms.plans[1].id, terms, policy.kept_minor"
        _, found = asked(f"select {columns} from '{folder}/*.parquet' order by sequence")
        assert found == [
            (until, 200_00, None, "prepaid", None),
            (None, None, "standard", None, None),
            (None, None, None, None, 5_000),
        ]
        _, texts = asked(f"select sale::json ->> '$.steps[0].until' from '{folder}/*.csv' order by sequence limit 1")
        assert texts == [("2026-12-22T15:00:00.000000",)]

    def test_changes_of_stays_promo_codes_and_documents_have_columns(
        self, timed: KafkaSettings, export: Export, folder: Path
    ) -> None:
        put(timed, [record(timed, n, at(0), event) for n, event in enumerate(new_events(), start=1)])

        assert export("--until", "2026-03-03").exit_code == 0

        columns = (
            "room_id, change_id, before.check_in, before.sale.plan_id, held[1].rooms_count, extra_minor,"
            " code_terms.valid_until, code_terms.room_ids, discount.code,"
            " booking_id, kind, number, lines[1].amount_minor"
        )
        _, found = asked(f"select {columns} from '{folder}/*.parquet' order by sequence")
        first, change, third = (str(UUID(int=number)) for number in (1, 2, 3))
        nothing = (None,) * 3
        assert found == [
            (1, change, date(2026, 12, 24), SALE.plan_id, 2, 10_000, *nothing, first, *nothing),
            (*nothing, *nothing, at(9), [1, 2], None, None, *nothing),
            (*nothing, *nothing, None, None, "SPRING", third, *nothing),
            (*nothing, *nothing, *nothing, first, "invoice", 7, SALE.lines[0].amount_minor),
        ]
        # The booking's own events have the request.
        assert {"reserve", "trip"}.isdisjoint(column.name for column in COLUMNS)

    def test_all_three_formats_have_the_same_values(self, timed: KafkaSettings, export: Export, folder: Path) -> None:
        put_story(timed)

        for format in ("parquet", "csv", "jsonl"):
            assert export("--format", format, "--until", "2026-03-06").exit_code == 0

        lists = "guest_ids::json::varchar, night_amounts_minor::json::varchar, stay_times::json::varchar"
        what = f"sequence, booking_id, check_in, amount_minor, hold_expires_at, {lists}"
        query = f"select {what} from '{folder}/*.{{}}' order by sequence"
        parquet, text = (asked(query.format(suffix))[1] for suffix in ("parquet", "csv"))
        assert len(parquet) == 4
        assert [tuple(map(str, row)) for row in parquet] == [tuple(map(str, row)) for row in text]
        lines = [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]
        assert [(each["sequence"], each["data"]["booking_id"]) for each in lines] == [row[:2] for row in parquet]
        assert lines[0]["specversion"] == "1.0"

    def test_a_new_field_of_an_event_gets_a_column_and_the_page_knows_every_one(self) -> None:
        class GuestsGreeted(GuestsAdded, frozen=True, kw_only=True):
            message_type = "booking.guests_greeted.v1"
            greeted_at: datetime | None = None

        [greeted] = [each for each in data_columns((*EVENTS, GuestsGreeted)) if each.name == "greeted_at"]

        assert (str(greeted.shape), greeted.families) == ("timestamp", ("booking.guests_greeted",))

    def test_a_name_cannot_stand_for_two_types(self) -> None:
        class Odd(GuestsAdded, frozen=True, kw_only=True):
            message_type = "booking.odd.v1"
            amount_minor: str

        with pytest.raises(TypeError, match=r"Odd\.amount_minor"):
            data_columns((*EVENTS, Odd))


class TestRefusals:
    """A refusal is one sentence that names the reason."""

    def test_parquet_without_pyarrow_names_the_package_and_csv_still_works(
        self, timed: KafkaSettings, export: Export, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put_story(timed)

        def missing(name: str) -> Any:
            raise ImportError(name)

        monkeypatch.setattr(files, "import_module", missing)

        assert export("--format", "csv", "--until", "2026-03-06").exit_code == 0
        refused = export()
        assert refused.exit_code == 2
        assert "pip install 'innkeeper[export]'" in refused.stderr

    def test_a_time_that_is_none_and_a_topic_that_is_no_record(self, tmp_path: Path) -> None:
        for topic, *options in (
            ("booking.events", "--since", "soon"),
            ("booking.events", "--until", "x"),
            ("dead.letters",),
        ):
            result = CliRunner().invoke(
                app, ["export", topic, "--out", str(tmp_path), *options], env={"COLUMNS": "200"}
            )

            assert result.exit_code == 2
            assert "neither like 30s" in result.stderr or "cannot be exported" in result.stderr

    def test_a_broker_that_is_away(self, tmp_path: Path) -> None:
        environment = {"KAFKA_URL": "127.0.0.1:1"}
        result = CliRunner().invoke(app, ["export", "booking.events", "--out", str(tmp_path)], env=environment)

        assert result.exit_code == 2
        assert "does not answer (KAFKA_URL)" in result.stderr

    def test_an_event_that_cannot_be_read_is_never_left_out(
        self, timed: KafkaSettings, export: Export, folder: Path
    ) -> None:
        newer = record(timed, 3, at(0))
        headers = [(name, value.replace(b".v1", b".v9")) for name, value in newer.headers]
        put(timed, [record(timed, 1, at(-1)), record(timed, 2, at(0)), newer._replace(headers=headers)])

        result = export("--until", "2026-03-03")

        assert result.exit_code == 2
        assert "Offset 2 of partition 0" in result.stderr
        assert "UnknownVersion" in result.stderr
        assert names(folder) == ["2026-03-01.parquet"]

    def test_a_folder_that_cannot_be_made(self, timed: KafkaSettings, export: Export, folder: Path) -> None:
        put_story(timed)
        folder.parent.joinpath("file").write_text("")

        result = export("--out", str(folder.parent / "file" / "export"))

        assert result.exit_code == 2
        assert "cannot be written (--out)" in result.stderr
