"""Replays the log for the auditor: checks the order of its records, and applies each event once."""

from collections.abc import Mapping, Sequence
from typing import Any

from operators.audit.expected_ledger import ExpectedLedger
from operators.audit.expected_read_models import ExpectedReadModels, Record
from operators.audit.report import Check, Report


class Partition:
    """The progress of one partition.

    Attributes:
        last: the highest sequence that has come.
        fingerprints: a hash of each event, by sequence.
        missing: sequences below `last` that have not come.
        replaced: sequences from which on the events before an offset were decided again otherwise, and those offsets.
        decided_again: the sequence up to which events came again after the last of them; None if there is none.
        undecided: events that the ledger had not decided when it was read.
    """

    __slots__ = ("decided_again", "fingerprints", "last", "missing", "replaced", "undecided")

    def __init__(self) -> None:
        self.replaced: list[tuple[int, int]] = []
        self.decided_again: int | None = None
        self.last = 0
        self.fingerprints: dict[int, int] = {}
        self.missing: set[int] = set()
        self.undecided: list[tuple[int, str, str, bytes]] = []


class LogReplay:
    """Applies the log's events to the expected ledger and the expected read models.

    Events that the ledger had not decided when it was read are kept until `apply_undecided`, so that until then the
    expected nights and bookings are those of the ledger's snapshot.
    """

    def __init__(
        self,
        report: Report,
        ledger: ExpectedLedger,
        read_models: ExpectedReadModels,
        ledger_sequences: Mapping[int, int],
        replaced: Mapping[int, Sequence[tuple[int, int]]],
    ) -> None:
        """Leave out events that are known to be `replaced`: by partition, from a sequence on all before an offset."""
        self.events = 0
        self._replaced = replaced
        self._report = report
        self._ledger = ledger
        self._read_models = read_models
        self._ledger_sequences = ledger_sequences
        self._partitions: dict[int, Partition] = {}

    def begins(self, partition: int, offset: int) -> None:
        """Report a partition that has lost its beginning: the topic is kept for ever, so its first offset is 0."""
        self._partitions[partition] = Partition()
        if offset > 0:
            self._report.add(
                Check.LOG_MATCHES_LEDGER,
                f"partition {partition}: the log begins at offset {offset}: its beginning is gone",
            )

    def last_sequence(self, partition: int) -> int:
        """Return the highest sequence of the partition; 0 before the first."""
        known = self._partitions.get(partition)
        return 0 if known is None else known.last

    def partitions(self) -> Sequence[int]:
        """Return the numbers of the partitions."""
        return sorted(self._partitions)

    def receive(self, partition: int, records: Sequence[Any]) -> None:
        """Check the order of records and apply each event once."""
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
            self._read_models.apply(_record(partition, sequence, headers, record.value))
            if sequence > ledger_sequence:
                known.undecided.append((sequence, kind, time, record.value))
            else:
                self._ledger.apply(partition, sequence, kind, time, record.value)

    def replaced(self) -> dict[int, list[tuple[int, int]]]:
        """Return by partition the sequences from which on the events before an offset were decided again otherwise.

        Without those that lack events since then: such a log is no one's decision.
        """
        return {
            number: known.replaced
            for number, known in self._partitions.items()
            if known.decided_again is not None and known.decided_again >= known.last
        }

    def apply_undecided(self) -> None:
        """Apply the events that the ledger had not decided when it was read."""
        for partition, known in self._partitions.items():
            for event in known.undecided:
                self._ledger.apply(partition, *event)
            known.undecided.clear()

    def _next_sequence(self, partition: int, known: Partition, record: Any, headers: Mapping[str, bytes]) -> int | None:
        """Return the event's sequence; None: it is a duplicate, or has no sequence."""
        header = headers.get("ce_sequence", b"")
        if not header.isdigit():
            self._disordered(partition, record, "a record without a sequence")
            return None
        sequence = int(header)
        if any(sequence >= first and record.offset < end for first, end in self._replaced.get(partition, ())):
            return None
        fingerprint = hash((headers.get("ce_id"), headers.get("ce_type"), record.value))
        if known.fingerprints.setdefault(sequence, fingerprint) != fingerprint:
            known.fingerprints[sequence] = fingerprint
            self._disordered(partition, record, f"sequence {sequence} is there twice, as different events")
            if known.decided_again is None or sequence != known.decided_again + 1:
                known.replaced.append((sequence, record.offset))
                known.decided_again = sequence
        if known.decided_again is not None and sequence == known.decided_again + 1:
            known.decided_again = sequence
        if sequence == known.last + 1:
            known.last = sequence
            return sequence
        return self._out_of_turn(partition, known, record, sequence)

    def _out_of_turn(self, partition: int, known: Partition, record: Any, sequence: int) -> int | None:
        """Judge an event that is not the next: drop a duplicate; report any other, and apply it all the same."""
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
        self._report.add(Check.LOG_MATCHES_LEDGER, f"partition {partition}, offset {record.offset}: {sentence}")


def _record(partition: int, sequence: int, headers: Mapping[str, bytes], value: bytes) -> Record:
    values = {name: (content or b"").decode(errors="replace") for name, content in headers.items()}
    return Record(
        partition=partition,
        sequence=sequence,
        id=values.get("ce_id", ""),
        kind=values.get("ce_type", ""),
        time=values.get("ce_time", ""),
        causation=values.get("ce_causationid"),
        value=value,
    )
