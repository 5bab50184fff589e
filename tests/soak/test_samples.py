"""A file keeps the samples of a killed run, and one sample has the figures of real processes and files."""

import os
from pathlib import Path

import pytest

from tests.soak.samples import SampleFile, read, thinned
from tests.soak.sampling import bytes_of, kind_of, of_family


def test_a_run_that_was_killed_keeps_its_samples(tmp_path: Path) -> None:
    path = tmp_path / "soak" / "samples.jsonl"
    file = SampleFile(path)
    file.append("run", seed=1)
    file.append("sample", at=0.5, bookings=3)
    file.append("sample", at=15.5, bookings=80)

    # Not closed: each line is in the file when it is written.
    with path.open("a") as cut_off:
        cut_off.write('{"kind":"sample","at":30.')
    run = read(path)

    assert run.about == {"seed": 1}
    assert [sample["at"] for sample in run.samples] == [0.5, 15.5]
    assert run.bookings == 80
    assert run.verdict is None
    file.close()


@pytest.mark.parametrize("line", ["{", '{"at":1}', '{"kind":"smaple","at":1}'])
def test_another_broken_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text(f'{{"kind":"run"}}\n{line}\n{{"kind":"sample","at":1}}\n')

    with pytest.raises(ValueError, match=r"samples\.jsonl:2: "):
        read(path)


def test_a_long_line_is_drawn_with_fewer_points_and_its_end() -> None:
    points = [(float(number), 0.0) for number in range(1_000)]

    assert thinned(points[:50], 100) == points[:50]
    assert len(thinned(points, 100)) <= 101
    assert thinned(points, 100)[-1] == points[-1]


def test_a_process_has_memory_descriptors_and_threads() -> None:
    with Path(__file__).open():
        figures = of_family(os.getpid())

    assert figures["rss"] >= figures["uss"] > 1_000_000
    assert figures["descriptors"] > figures["sockets"] >= 0
    assert figures["threads"] >= 1
    assert figures["process"] == of_family(os.getpid())["process"]


def test_a_process_that_is_gone_has_no_figures() -> None:
    assert of_family(2**22 + 1) == {}


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("kafka/log/booking.events-11/00000000000000000000.log", "topic booking.events"),
        ("kafka/log/__consumer_offsets-4/00000000000000000000.log", "topic __consumer_offsets"),
        ("kafka/log/meta.properties", "the rest"),
        ("kafka/kafka.log", "log of kafka"),
        ("postgres/postgres.log", "log of postgres"),
        ("postgres/cluster/pg_wal/000000010000000000000001", "write-ahead log"),
        ("postgres/cluster/base/16384/1259", "data of postgres"),
        ("logs/payments-1.log", "log of payments-1"),
        ("stripe/books.jsonl", "stand-in for Stripe"),
        ("jwt-secret", "the rest"),
    ],
)
def test_each_file_has_a_kind(path: str, kind: str) -> None:
    assert kind_of(Path(path)) == kind


def test_files_are_counted_by_the_blocks_that_they_take(tmp_path: Path) -> None:
    log = tmp_path / "kafka" / "log" / "booking.events-0"
    log.mkdir(parents=True)
    (log / "0.log").write_bytes(b"x" * 100_000)
    with (log / "0.index").open("wb") as index:
        index.truncate(10_000_000)

    assert 100_000 <= bytes_of(tmp_path)["topic booking.events"] < 200_000
