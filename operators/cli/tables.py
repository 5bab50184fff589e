"""Tables that a terminal of any width shows whole: cells without room are written below their row."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as attribute
from textwrap import wrap
from typing import Final

from rich.box import SIMPLE
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

#: The text of an empty cell; below a row it is left out.
NOT_KNOWN: Final = "-"
_GAP: Final = 2
_INDENT: Final = "    "


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """A column. `yields`: the higher, the sooner it goes below its row where there is no room; 0 never does.

    `prose` may be wrapped between two words. Any other cell stays in one piece.
    """

    name: str
    yields: int = 0
    prose: bool = False
    right: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """The cells of a row, plain text, and how it looks: as a whole, and some of its cells (styles of rich)."""

    cells: Sequence[str]
    style: str = ""
    styles: Mapping[int, str] = attribute(default_factory=dict)

    def cell(self, number: int) -> Text:
        """Return a cell as it looks."""
        return Text(self.cells[number], style=self.styles.get(number, self.style))


def fitted(fields: Sequence[Field], rows: Sequence[Row], width: int) -> RenderableType:
    """Return the table for a terminal of so many columns."""
    least = [_least(field, [row.cells[number] for row in rows]) for number, field in enumerate(fields)]
    if _across(least) <= width:
        return _in_one_piece(fields, rows)
    widths = [_longest([field.name, *(row.cells[number] for row in rows)]) for number, field in enumerate(fields)]
    beside = list(range(len(fields)))
    while _across(widths[number] for number in beside) > width and any(fields[number].yields for number in beside):
        beside.remove(max(beside, key=lambda number: fields[number].yields))
    return Group(*_with_the_rest_below(fields, rows, beside, widths, width))


def _in_one_piece(fields: Sequence[Field], rows: Iterable[Row]) -> Table:
    columns = [
        Column(field.name, no_wrap=not field.prose, overflow="fold", justify="right" if field.right else "left")
        for field in fields
    ]
    table = Table(*columns, box=SIMPLE, padding=(0, 1, 0, 0), show_edge=False)
    for row in rows:
        table.add_row(*(row.cell(number) for number in range(len(fields))))
    return table


def _with_the_rest_below(
    fields: Sequence[Field], rows: Iterable[Row], beside: Sequence[int], widths: Sequence[int], width: int
) -> Iterable[Text]:
    yield _side_by_side(fields, Row(cells=[field.name for field in fields], style="bold"), beside, widths)
    yield _line("─" * min(width, _across(widths[number] for number in beside)), "")
    below = sorted(set(range(len(fields))) - set(beside), key=lambda number: fields[number].yields)
    for row in rows:
        yield _side_by_side(fields, row, beside, widths)
        texts = [f"{fields[number].name} {row.cells[number]}" for number in below if row.cells[number] != NOT_KNOWN]
        for text in _wrapped("; ".join(texts), width):
            yield _line(text, row.style)


def _wrapped(text: str, width: int) -> list[str]:
    """Return the lines of a text below a row; no word is broken."""
    return wrap(
        text,
        width,
        initial_indent=_INDENT,
        subsequent_indent=_INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _line(text: str, style: str) -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ignore")


def _side_by_side(fields: Sequence[Field], row: Row, beside: Sequence[int], widths: Sequence[int]) -> Text:
    line = _line("", "")
    for number in beside:
        cell, room = row.cell(number), " " * (widths[number] - cell_len(row.cells[number]))
        line.append_text(Text.assemble(room, cell) if fields[number].right else Text.assemble(cell, room))
        line.append(" " * _GAP)
    line.rstrip()
    return line


def _least(field: Field, cells: Iterable[str]) -> int:
    """Return how narrow a column may be: prose as its longest word."""
    texts = [field.name, *cells]
    return _longest(word for text in texts for word in text.split()) if field.prose else _longest(texts)


def _longest(texts: Iterable[str]) -> int:
    return max(map(cell_len, texts), default=0)


def _across(widths: Iterable[int]) -> int:
    found = list(widths)
    return sum(found) + _GAP * len(found)
