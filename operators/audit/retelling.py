"""The log heard again: the order of its records is judged, and each event is told once to the story."""

from collections.abc import Mapping, Sequence
from typing import Any

from operators.audit.mirror import Mirror, Record
from operators.audit.report import Report
from operators.audit.story import Story


class Partition:
    """How far one partition has been heard.

    `heard`: a fingerprint of each event, by sequence. `missing`: sequences below `last` that have not come.
    `waiting`: events that the ledger had not decided yet.
    """

    __slots__ = ("heard", "last", "missing", "waiting")

    def __init__(self) -> None:
        self.last = 0
        self.heard: dict[int, int] = {}
        self.missing: set[int] = set()
        self.waiting: list[tuple[int, str, str, bytes]] = []


class Retelling:
    """Hears the log and tells it to the story and the mirror.

    Events beyond what the ledger had decided when it was read wait for `tell_the_rest`, so that until then nights and
    bookings are those of the ledger's moment.
    """

    def __init__(self, report: Report, story: Story, mirror: Mirror, ledger_sequences: Mapping[int, int]) -> None:
        self.events = 0
        self._report = report
        self._story = story
        self._mirror = mirror
        self._ledger_sequences = ledger_sequences
        self._partitions: dict[int, Partition] = {}

    def begins(self, partition: int, offset: int) -> None:
        """A partition that is kept for ever still has its first record."""
        self._partitions[partition] = Partition()
        if offset > 0:
            self._report.add("I6", f"partition {partition}: the log begins at offset {offset}: its beginning is gone")

    def last_sequence(self, partition: int) -> int:
        """Return the highest sequence heard in the partition; 0 before the first."""
        known = self._partitions.get(partition)
        return 0 if known is None else known.last

    def partitions(self) -> Sequence[int]:
        """Return the partitions there are."""
        return sorted(self._partitions)

    def hear(self, partition: int, records: Sequence[Any]) -> None:
        """Judge the order of records and tell each event once."""
        known = self._partitions[partition]
        ledger_sequence = self._ledger_sequences.get(partition, 0)
        for record in records:
            self.events += 1
            headers = dict(record.headers)
            sequence = self._next_sequence(partition, known, record, headers)
            if sequence is None:
                continue
            kind = headers.get("ce_type", b"").decode(errors="replace")
            time = headers.get("ce_time", b"").decode(errors="replace")
            self._mirror.hear(_record(partition, sequence, headers, record.value))
            if sequence > ledger_sequence:
                known.waiting.append((sequence, kind, time, record.value))
            else:
                self._story.tell(partition, sequence, kind, time, record.value)

    def tell_the_rest(self) -> None:
        """Tell the events that the ledger had not decided yet when it was read."""
        for partition, known in self._partitions.items():
            for event in known.waiting:
                self._story.tell(partition, *event)
            known.waiting.clear()

    def _next_sequence(self, partition: int, known: Partition, record: Any, headers: Mapping[str, bytes]) -> int | None:
        """Return the event's sequence, or None when it is a double or has none."""
        header = headers.get("ce_sequence", b"")
        if not header.isdigit():
            self._disordered(partition, record, "a record without a sequence")
            return None
        sequence = int(header)
        fingerprint = hash((headers.get("ce_id"), headers.get("ce_type"), record.value))
        if known.heard.setdefault(sequence, fingerprint) != fingerprint:
            self._disordered(partition, record, f"sequence {sequence} is there twice, as different events")
        if sequence == known.last + 1:
            known.last = sequence
            return sequence
        return self._out_of_turn(partition, known, record, sequence)

    def _out_of_turn(self, partition: int, known: Partition, record: Any, sequence: int) -> int | None:
        """Judge an event that is not the next: a double is dropped, anything else is told all the same."""
        if sequence > known.last:
            self._disordered(partition, record, f"sequence {sequence} follows {known.last}: a gap")
            known.missing.update(range(known.last + 1, sequence))
            known.last = sequence
            return sequence
        if sequence in known.missing:
            self._disordered(partition, record, f"sequence {sequence} comes after {known.last}: out of order")
            known.missing.remove(sequence)
            return sequence
        return None

    def _disordered(self, partition: int, record: Any, sentence: str) -> None:
        self._report.add("I6", f"partition {partition}, offset {record.offset}: {sentence}")


def _record(partition: int, sequence: int, headers: Mapping[str, bytes], value: bytes) -> Record:
    told = {name: (content or b"").decode(errors="replace") for name, content in headers.items()}
    return Record(
        partition=partition,
        sequence=sequence,
        id=told.get("ce_id", ""),
        kind=told.get("ce_type", ""),
        time=told.get("ce_time", ""),
        causation=told.get("ce_causationid"),
        value=value,
    )
