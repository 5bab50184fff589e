"""The documents that come from the code are what the code says, and one that is not is named."""

from pathlib import Path

import pytest

from docs.generate import PAGES, main


def test_every_document_is_what_the_code_says() -> None:
    assert main(["--check"]) == 0


@pytest.mark.parametrize("name", PAGES)
def test_a_document_that_differs_is_named(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], tmp_path) == 0
    assert main(["--check"], tmp_path) == 0
    page = tmp_path / name
    page.write_text(page.read_text() + "More than the code says.\n")

    assert main(["--check"], tmp_path) == 1
    assert f"Not what the code says: {name}." in capsys.readouterr().err
