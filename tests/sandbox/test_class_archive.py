"""The archive of the broker's classes is kept when Java wrote it; without one the broker only starts more slowly."""

import asyncio
from pathlib import Path
from typing import Self

import pytest

from sandbox.kafka import broker, jars
from sandbox.kafka.broker import archive_classes

_OPTION = "-XX:ArchiveClassesAtExit="


class Broker:
    """Stand-in for a broker whose Java writes its archive, or writes none, when it ends."""

    writes = True

    def __init__(self, _: Path, extra_java_options: tuple[str, ...]) -> None:
        (self._option,) = extra_java_options

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.writes:
            await asyncio.to_thread(self._write)

    def _write(self) -> None:
        Path(self._option.removeprefix(_OPTION)).write_text("classes")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jars, "folder", lambda: tmp_path)
    monkeypatch.setattr(broker, "Kafka", Broker)


def test_an_archive_that_java_wrote_is_kept_under_its_name(tmp_path: Path) -> None:
    asyncio.run(archive_classes())

    assert [path.name for path in tmp_path.iterdir()] == ["classes.jsa"]
    assert jars.class_archive().read_text() == "classes"


def test_an_archive_that_java_did_not_write_is_no_error_and_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Broker, "writes", False)

    asyncio.run(archive_classes())

    assert list(tmp_path.iterdir()) == []
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "start more slowly" in caplog.text
