"""Writes the files of an export: each is there whole or not at all, and the same events give the same bytes."""

import csv
import fcntl
import hashlib
import io
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

from operators.export.columns import COLUMNS, Column, Kind, ListOf, Parts, Shape, row_of, text_of
from operators.export.formats import Format
from topics.kafka.log_reader import Record, cloud_event

_ROW_GROUP: Final = 100_000


class Unavailable(Exception):
    """The format needs a library that is not installed."""


class InUse(Exception):
    """Another export writes into the folder."""


class Writer(Protocol):
    """Writes events to an open file."""

    def write(self, records: Sequence[Record]) -> None:
        """Write these after those before; raises Unexportable."""

    def close(self) -> None:
        """Write what is left; the file stays open."""


@contextmanager
def day_file(path: Path, format: Format) -> Iterator[Writer]:
    """Yield a writer; the file has its name once the block has ended well, and survives a power cut then.

    A file of JSON lines has its checksum beside it, from before it has its name: a restore looks for both.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as sink:
            writer = _writer(format, sink)
            try:
                yield writer
            finally:
                writer.close()
            sink.flush()
            os.fsync(sink.fileno())
        if isinstance(writer, _JsonLines):
            _write_checksum(path, writer.digest)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync(path.parent)


def checksum_path(path: Path) -> Path:
    """Return the path of the checksum of a file of JSON lines, in the form of `sha256sum`."""
    return path.with_name(f"{path.name}.sha256")


def remove(path: Path) -> None:
    """Remove a file of an export, if it is there, and its checksum."""
    path.unlink(missing_ok=True)
    checksum_path(path).unlink(missing_ok=True)


def _write_checksum(path: Path, digest: str) -> None:
    temporary = path.with_name(f".{path.name}.sha256.tmp")
    with temporary.open("w") as sink:
        sink.write(f"{digest}  {path.name}\n")
        sink.flush()
        os.fsync(sink.fileno())
    temporary.replace(checksum_path(path))


@contextmanager
def folder_of_ours(folder: Path) -> Iterator[None]:
    """Make the folder if there is none, and keep other exports out of it while the block lasts.

    Raises:
        InUse: another one is at work there.
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    opened = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse(f"Another export writes into {folder}.") from None
        yield
    finally:
        os.close(opened)


def check_available(format: Format) -> None:
    """Raise Unavailable, which names the package to install, if files of this format cannot be written here."""
    if format is Format.PARQUET:
        _arrow()


def _writer(format: Format, sink: BinaryIO) -> Writer:
    match format:
        case Format.PARQUET:
            return _Parquet(sink)
        case Format.CSV:
            return _Csv(sink)
        case Format.JSONL:
            return _JsonLines(sink)


class _Parquet:
    def __init__(self, sink: BinaryIO) -> None:
        self._arrow, parquet = _arrow()
        self._schema = self._arrow.schema([_field(self._arrow, column) for column in COLUMNS])
        self._file = parquet.ParquetWriter(sink, self._schema, compression="zstd")
        self._rows: list[list[Any]] = []

    def write(self, records: Sequence[Record]) -> None:
        self._rows += map(row_of, records)
        while len(self._rows) >= _ROW_GROUP:
            self._write(self._rows[:_ROW_GROUP])
            del self._rows[:_ROW_GROUP]

    def close(self) -> None:
        if self._rows:
            self._write(self._rows)
        self._file.close()

    def _write(self, rows: list[list[Any]]) -> None:
        columns = [
            self._arrow.array(values, field.type)
            for values, field in zip(zip(*rows, strict=True), self._schema, strict=True)
        ]
        self._file.write_table(self._arrow.Table.from_arrays(columns, schema=self._schema))


class _Csv:
    def __init__(self, sink: BinaryIO) -> None:
        self._text = io.TextIOWrapper(sink, encoding="utf-8", newline="", write_through=True)
        self._lines = csv.writer(self._text, lineterminator="\n")
        self._lines.writerow(column.name for column in COLUMNS)

    def write(self, records: Sequence[Record]) -> None:
        self._lines.writerows(map(text_of, row_of(record)) for record in records)

    def close(self) -> None:
        self._text.detach()


class _JsonLines:
    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self._hash = hashlib.sha256()

    @property
    def digest(self) -> str:
        """The SHA-256 of all that was written, in hexadecimal digits."""
        return self._hash.hexdigest()

    def write(self, records: Sequence[Record]) -> None:
        for record in records:
            line = json.dumps(cloud_event(record), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
            self._hash.update(line)
            self._sink.write(line)

    def close(self) -> None:
        pass


def _field(arrow: Any, column: Column) -> Any:
    return arrow.field(column.name, _arrow_type(arrow, column.shape), nullable=not column.required)


def _arrow_type(arrow: Any, shape: Shape) -> Any:
    match shape:
        case ListOf(item=item):
            return arrow.list_(_arrow_type(arrow, item))
        case Parts(fields=fields):
            return arrow.struct([(name, _arrow_type(arrow, each)) for name, each in fields])
        case kind:
            return {
                Kind.TEXT: arrow.string(),
                Kind.INTEGER: arrow.int64(),
                Kind.BOOLEAN: arrow.bool_(),
                Kind.DATE: arrow.date32(),
                Kind.TIMESTAMP: arrow.timestamp("us", tz="UTC"),
                Kind.TIME: arrow.time64("us"),
                Kind.WALL_TIME: arrow.timestamp("us"),
            }[kind]


def _arrow() -> tuple[Any, Any]:
    """Return pyarrow and its Parquet, which are installed for exports only; raises Unavailable."""
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        raise Unavailable(
            "Parquet files need pyarrow: pip install 'innkeeper[export]'. CSV and JSON lines need nothing more."
        ) from None


def _sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
