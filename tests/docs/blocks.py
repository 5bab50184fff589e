"""The code in the documents: fenced blocks, indented blocks, and code inside sentences."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")

_FENCED: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_INLINE: Final = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True, slots=True)
class Block:
    """One block of code: the page and line where it is, its language (`sh` for indented ones), and its text."""

    page: str
    line: int
    language: str
    code: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Return every document that people read, the generated ones too."""
    folders = (*(ROOT / "docs").rglob("*.md"), *(ROOT / "findings").rglob("*.md"))
    return [*(ROOT / name for name in PAGES), *sorted(folders)]


def blocks(*languages: str) -> list[Block]:
    """Return the blocks of all documents in these languages."""
    found = [block for page in pages() for block in (*_fenced(page), *_indented(page))]
    return [block for block in found if block.language in languages]


def _fenced(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for match in _FENCED.finditer(text):
        line = text[: match.start(2)].count("\n") + 1
        yield Block(page.relative_to(ROOT).as_posix(), line, match[1], match[2])


def _indented(page: Path) -> Iterator[Block]:
    """Yield paragraphs indented by four spaces: shell lines, as all of ours are."""
    text = _FENCED.sub(lambda match: "\n" * match[0].count("\n"), page.read_text())
    number = 1
    for paragraph in re.split(r"(\n{2,})", text):
        lines = paragraph.splitlines()
        if paragraph.strip() and all(line.startswith("    ") for line in lines):
            code = "".join(line[4:] + "\n" for line in lines)
            yield Block(page.relative_to(ROOT).as_posix(), number, "sh", code)
        number += paragraph.count("\n")


def commands(*names: str) -> list[tuple[str, list[str]]]:
    """Return every call of these programs, as `page:line` and words; a path before the program's name is cut off."""
    found = []
    for page in pages():
        name = page.relative_to(ROOT).as_posix()
        text = _FENCED.sub("", page.read_text())
        lines = [(f"{name}: {code}", code) for code in _INLINE.findall(text)]
        shell = [block for block in (*_fenced(page), *_indented(page)) if block.language == "sh"]
        lines += [(str(block), line) for block in shell for line in block.code.replace("\\\n", " ").splitlines()]
        found += [(place, words) for place, line in lines for words in calls_of(line) if words[0] in names]
    return found


def calls_of(line: str) -> Iterator[list[str]]:
    """Yield the calls of a line of shell; one that cannot be split into words has none."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;()<>")
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:
        return
    call: list[str] = []
    for word in [*words, ";"]:
        if set(word) <= set("|&;()<>"):
            if call:
                yield call
            call = []
        elif call or not re.match(r"[A-Z_]+=", word):
            call.append(word.rpartition("/")[2] if not call else word)


def differences(shown: Any, answer: Any, path: str = "") -> list[str]:
    """Return what a page shows and an answer does not have; fields that the page leaves out do not matter."""
    where = path.removeprefix(".")
    if isinstance(shown, dict) and isinstance(answer, dict):
        found = []
        for name, value in shown.items():
            missing = [f"{where}.{name}: is not there".removeprefix(".")]
            found += differences(value, answer[name], f"{path}.{name}") if name in answer else missing
        return found
    if isinstance(shown, list) and isinstance(answer, list):
        if len(shown) != len(answer):
            return [f"{where}: {len(shown)} entries are shown, the answer has {len(answer)}"]
        pairs = enumerate(zip(shown, answer, strict=True))
        return [each for number, pair in pairs for each in differences(*pair, f"{path}.{number}")]
    return [] if shown == answer else [f"{where}: {shown} is shown, the answer has {answer}"]
