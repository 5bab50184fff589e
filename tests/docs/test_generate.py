"""The documents that come from the code agree with it, and one that does not is named."""

from pathlib import Path

import pytest

from docs.generate import PAGES, main


def test_every_document_agrees_with_the_code() -> None:
    assert main(["--check"]) == 0


@pytest.mark.parametrize("name", PAGES)
def test_a_document_that_differs_is_named(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], tmp_path) == 0
    assert main(["--check"], tmp_path) == 0
    page = tmp_path / name
    page.write_text(page.read_text() + "More than the code has.\n")

    assert main(["--check"], tmp_path) == 1
    assert f"Different from the code: {name}." in capsys.readouterr().err
