"""Reads the files of `innkeeper export --format jsonl` for a restore: each event once, in order, none missing.

Of two events of one sequence, which a failover can leave on the log, the later one counts, and all that follow it:
`topics.kafka.replaced_events`.

Every file is read twice: once to be checked, before anything is written anywhere, and once to be put on the log. Both
read line by line, so that the memory needed does not grow with the files.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from operators.export.days import MAX_REPEAT
from operators.export.files import checksum_path
from operators.restore.target import NotRestored
from topics.envelope import Envelope, Undecodable, UnknownType, UnknownVersion, decode_value, encode_headers, header
from topics.kafka.partitions import partition_of
from topics.kafka.replaced_events import ReplacedEvents, Replacement, Replacements, hash_of

Progress = Callable[[int, int], None]
#: Progress is reported every so many events.
_EVENTS_BETWEEN_REPORTS: Final = 1_000
_CHECKSUM: Final = re.compile(r"([0-9a-f]{64})  (.+)\n?")


class Unfit(NotRestored):
    """The files cannot be restored from; the sentence has the reason and the next step."""


class LoggedEvent(NamedTuple):
    """An event as it was on the log: its position there, its key, its bytes, and the log's time (ms since 1970)."""

    partition: int
    sequence: int
    id: str
    time_ms: int
    key: bytes
    value: bytes
    headers: Sequence[tuple[str, bytes]]


class _Line(msgspec.Struct, frozen=True):
    """One line of a file: a CloudEvent in structured mode, with its position on the log."""

    id: str
    type: str
    source: str
    subject: str
    time: datetime
    sequence: int
    kafkapartition: int
    kafkatime: datetime
    partitionkey: str
    data: msgspec.Raw
    causationid: str | None = None
    correlationid: str | None = None
    traceparent: str | None = None
    causationposition: str | None = None
    actor: str | None = None
    requestid: str | None = None


_LINES: Final = msgspec.json.Decoder(_Line)


@dataclass(frozen=True, kw_only=True, slots=True)
class DayFile:
    """The file of one day (UTC); `partial`: the day was not over. `digest` None: it has no checksum beside it."""

    path: Path
    day: date
    partial: bool
    digest: str | None


@dataclass(kw_only=True)
class Checked:
    """The outcome of the check of all files.

    Attributes:
        files: the files, day by day.
        events: how many events they have, without those that others replace.
        replaced: by partition, which of its events, counted in the order of the files, others replace.
        last: the last sequence of each partition that has events.
        contents: by partition, what its events are.
        newest: the log's time of the newest event (UTC); None without any.
        without_checksum: the names of the files whose bytes cannot be checked.
    """

    files: Sequence[DayFile]
    events: int = 0
    last: dict[int, int] = field(default_factory=dict)
    newest: datetime | None = None
    without_checksum: tuple[str, ...] = ()
    replaced: Replacements = field(default_factory=dict)
    contents: Mapping[int, ReplacedEvents] = field(default_factory=dict)

    def cut_before_another(self, event: LoggedEvent) -> None:
        """Let the files end before an event that they have otherwise: a failover lost the files' one, and what follows.

        `event` is what the ledger decided.
        """
        partition, known = event.partition, self.contents.get(event.partition)
        message_type = header(event.headers, "ce_type") or b""
        if (
            known is not None
            and event.sequence <= self.last[partition]
            and known.is_other(event.sequence, message_type, event.value)
        ):
            self.last[partition] = event.sequence - 1

    @property
    def end_of_whole_days_ms(self) -> int:
        """The end of the last day that has a whole file, in ms since 1970; 0 without one."""
        whole = [file.day for file in self.files if not file.partial]
        return _midnight_ms(max(whole)) + 86_400_000 if whole else 0


def find(folder: Path, topic: str) -> list[DayFile]:
    """Return the files of a folder, day by day; `topic` is the name of `booking.events` on the broker.

    Raises:
        Unfit: there is none, or one is there twice, or without its other half.
    """
    if not folder.is_dir():
        raise Unfit(f"{folder} is no folder: name the one that innkeeper export wrote into.")
    name = re.compile(re.escape(topic) + r"-(\d{4}-\d\d-\d\d)(\.partial)?\.jsonl")
    found: dict[date, DayFile] = {}
    for path in sorted(folder.iterdir()):
        match = name.fullmatch(path.name.removesuffix(".sha256"))
        if match is None:
            continue
        if path.name.endswith(".sha256"):
            if not path.with_suffix("").exists():
                raise Unfit(f"{path.with_suffix('').name} is missing, though its checksum is there: bring it back.")
            continue
        day = date.fromisoformat(match[1])
        if day in found:
            raise Unfit(f"{day} has two files, {found[day].path.name} and {path.name}: remove the partial one.")
        found[day] = DayFile(path=path, day=day, partial=match[2] is not None, digest=_digest_of(path))
    if not found:
        others = next((path.name for path in folder.iterdir() if path.suffix in (".parquet", ".csv")), None)
        raise Unfit(
            f"{folder} has no file {topic}-DAY.jsonl."
            + (f" {others} is for analysts and lacks a part of each event." if others else "")
            + " A restore needs files of innkeeper export --format jsonl."
        )
    return [found[day] for day in sorted(found)]


def check(files: Sequence[DayFile], partitions: int, progress: Progress | None = None) -> Checked:
    """Read all files, and check each event and that none is missing.

    Args:
        files: the files, day by day.
        partitions: the number of partitions of the topic.
        progress: called with the bytes read and the bytes to read.

    Raises:
        Unfit: a file is damaged, cut, doubled, of another day, or missing.
    """
    checked = Checked(files=files, without_checksum=tuple(file.path.name for file in files if file.digest is None))
    order, newest, read, lines = _Order(), 0, 0, 0
    to_read = sum(file.path.stat().st_size for file in files)
    for file in files:
        digest = hashlib.sha256()
        for number, text in _lines(file):
            digest.update(text)
            event = _decode(file, number, text, partitions)
            order.add(event, file)
            newest = max(newest, event.time_ms)
            lines += 1
            read += len(text)
            if progress is not None and lines % _EVENTS_BETWEEN_REPORTS == 0:
                progress(read, to_read)
        if file.digest is not None and digest.hexdigest() != file.digest:
            raise Unfit(f"{file.path.name} is not as it was written: its checksum differs. Bring back another copy.")
    order.require_no_gap()
    checked.last = dict(order.last)
    checked.events = sum(order.last.values())
    checked.replaced, checked.contents = order.replaced, order.contents
    checked.newest = datetime.fromtimestamp(newest / 1000, UTC) if lines else None
    return checked


def events(files: Sequence[DayFile], partitions: int, replaced: Replacements | None = None) -> Iterator[LoggedEvent]:
    """Yield the events of files that were checked, those of a partition in the order of their sequence.

    Events that the check found to be `replaced` are left out.

    Raises:
        Unfit: a file was changed after the check.
    """
    last: Counter[int] = Counter()
    count: Counter[int] = Counter()
    known = {partition: ReplacedEvents(found) for partition, found in (replaced or {}).items()}
    # A file has an event where it was first published, which may be before one that precedes it.
    early: dict[tuple[int, int], LoggedEvent] = {}
    for file in files:
        for number, text in _lines(file):
            event = _decode(file, number, text, partitions)
            partition = event.partition
            count[partition] += 1
            if partition in known and known[partition].drops(event.sequence, count[partition]):
                continue
            early[partition, event.sequence] = event
            while (next_event := early.pop((partition, last[partition] + 1), None)) is not None:
                last[partition] += 1
                yield next_event
    if early:
        raise Unfit("The files changed while they were read: restore again.")


class _Order:
    """The sequences of all partitions: each number once, without a gap that stays, but for events that are replaced."""

    def __init__(self) -> None:
        self.last: Counter[int] = Counter()
        self.replaced: dict[int, list[Replacement]] = {}
        self._count: Counter[int] = Counter()
        self.contents: dict[int, ReplacedEvents] = {}
        #: By partition, the hashes of the events beyond a gap.
        self._early: dict[int, dict[int, int]] = {}

    def add(self, event: LoggedEvent, file: DayFile) -> None:
        """Add the next event of the files."""
        partition, sequence = event.partition, event.sequence
        self._count[partition] += 1
        early = self._early.setdefault(partition, {})
        events = self.contents.setdefault(partition, ReplacedEvents())
        number = hash_of(header(event.headers, "ce_type") or b"", event.value)
        if sequence <= self.last[partition] and events.add_hash(sequence, number):
            self.replaced.setdefault(partition, []).append(Replacement(sequence, self._count[partition]))
            self.last[partition] = sequence
            early.clear()
            return
        if sequence <= self.last[partition] or sequence in early:
            raise Unfit(
                f"{file.path.name}: event {sequence} of partition {partition} is there twice. Keep one file of each"
                " day, as the export wrote it."
            )
        early[sequence] = number
        while (following := self.last[partition] + 1) in early:
            events.add_hash(following, early.pop(following))
            self.last[partition] = following
        if len(early) > MAX_REPEAT:
            self._raise_gap(partition)

    def require_no_gap(self) -> None:
        """Raise Unfit if events are missing between those that came."""
        for partition in sorted(self._early):
            if self._early[partition]:
                self._raise_gap(partition)

    def _raise_gap(self, partition: int) -> None:
        lack = (
            f"The files lack the events of partition {partition} after sequence {self.last[partition]} and before"
            f" {min(self._early[partition])}: "
        )
        if partition in self.replaced:
            raise Unfit(
                f"{lack}a file of a day is missing, or a worker that was frozen published event"
                f" {self.replaced[partition][-1].sequence} once more, as it was before a failover: remove that line,"
                " and the checksum beside its file."
            )
        raise Unfit(f"{lack}a file of a day is missing. Bring it back.")


def _lines(file: DayFile) -> Iterator[tuple[int, bytes]]:
    try:
        with file.path.open("rb") as source:
            yield from enumerate(source, 1)
    except OSError as error:
        raise Unfit(f"{file.path.name} cannot be read ({error.strerror}).") from error


def _decode(file: DayFile, number: int, text: bytes, partitions: int) -> LoggedEvent:
    where = f"{file.path.name}, line {number}"
    try:
        line = _LINES.decode(text)
        value = bytes(line.data)
        decode_value(line.type, value)
    except UnknownVersion as error:
        raise Unfit(f"{where}: {error} is newer than this program. Restore with the release that wrote it.") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, Undecodable, UnknownType) as error:
        cut = not text.endswith(b"\n")
        raise Unfit(
            f"{where} is {'cut off' if cut else 'no event of ours'} ({error}). Bring back another copy of the file."
        ) from error
    at = line.kafkatime.astimezone(UTC)
    if at.date() != file.day:
        raise Unfit(f"{where}: its event is of {at.date()}. Give the file the name of its day again.")
    key = line.partitionkey.encode()
    if partition_of(key, partitions) != line.kafkapartition:
        raise Unfit(
            f"{where}: key {line.partitionkey} was in partition {line.kafkapartition}, and is not in it among"
            f" {partitions}. Set TOPIC_PARTITIONS as it was, and create the topics anew."
        )
    return LoggedEvent(
        line.kafkapartition, line.sequence, line.id, _ms(at), key, value, encode_headers(_envelope(line))
    )


def _envelope(line: _Line) -> Envelope:
    return Envelope(
        id=line.id,
        type=line.type,
        source=line.source,
        subject=line.subject,
        time=line.time,
        causation=line.causationid,
        correlation=line.correlationid,
        sequence=line.sequence,
        traceparent=line.traceparent,
        causation_position=line.causationposition,
        actor=line.actor,
        request_id=line.requestid,
    )


def _digest_of(path: Path) -> str | None:
    """Return the checksum that is beside a file."""
    try:
        text = checksum_path(path).read_text()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise Unfit(f"{checksum_path(path).name} cannot be read ({error}).") from error
    match = _CHECKSUM.fullmatch(text)
    if match is None or match[2] != path.name:
        raise Unfit(f"{checksum_path(path).name} is no checksum of {path.name}. Bring it back, or remove it.")
    return match[1]


def _midnight_ms(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)
