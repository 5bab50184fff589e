"""Draws panels of lines over time as one SVG, readable in light and dark mode and without eyes: pure functions."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH: Final = 960
_PLOT_HEIGHT: Final = 190
_LEFT: Final = 70
_RIGHT: Final = 270
_TOP: Final = 44
_BOTTOM: Final = 44
_HEAD: Final = 40
_LABEL_HEIGHT: Final = 14
_ROLE: Final = 'role="img" aria-labelledby="title description"'
_MAX_LABELS: Final = 14
#: Colours that people with a colour blindness can distinguish (Okabe and Ito, jfly.uni-koeln.de/color), then dashes.
_COLOURS: Final = 8
_DASHES: Final = ("", "6 3", "2 3")
_STYLE: Final = """
svg { background: #ffffff; font-family: system-ui, sans-serif; }
text { fill: #1f2328; font-size: 12px; }
.title { font-size: 14px; font-weight: 600; }
.axis { stroke: #59636e; fill: none; }
.grid { stroke: #d1d9e0; fill: none; stroke-width: 0.6; }
.fault { stroke: #cf222e; fill: none; stroke-width: 0.8; stroke-dasharray: 2 3; }
.number { fill: #cf222e; font-size: 10px; }
.line { fill: none; stroke-width: 1.5; stroke-linejoin: round; }
.c0 { stroke: #0072b2; } .c1 { stroke: #d55e00; } .c2 { stroke: #009e73; } .c3 { stroke: #aa4499; }
.c4 { stroke: #8a6d00; } .c5 { stroke: #2a7ab0; } .c6 { stroke: #1f2328; } .c7 { stroke: #7a5195; }
@media (prefers-color-scheme: dark) {
svg { background: #0d1117; }
text { fill: #e6edf3; }
.axis { stroke: #9198a1; }
.grid { stroke: #3d444d; }
.fault { stroke: #ff7b72; }
.number { fill: #ff7b72; }
.c0 { stroke: #56b4e9; } .c1 { stroke: #ff9e64; } .c2 { stroke: #3ddc97; } .c3 { stroke: #f0a6ca; }
.c4 { stroke: #f0e442; } .c5 { stroke: #8ecae6; } .c6 { stroke: #e6edf3; } .c7 { stroke: #c8a2ff; }
}
"""

#: Points of one part of a line: minutes and values. Between two parts the line is broken.
Part = Sequence[tuple[float, float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
    """One line with its name."""

    name: str
    parts: Sequence[Part]


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """One panel: lines over one axis of time. `unit` names the axis of values."""

    title: str
    unit: str
    lines: Sequence[Drawn]
    logarithmic: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """A fault: when it happened, in minutes, and its number in the list."""

    minutes: float
    number: int


def draw(title: str, description: str, pictures: Sequence[Picture], marks: Sequence[Mark]) -> str:
    """Return the SVG: the panels below each other, each with the marks."""
    minutes = max(
        (x for picture in pictures for line in picture.lines for part in line.parts for x, _ in part), default=1.0
    )
    height = _HEAD + len(pictures) * (_TOP + _PLOT_HEIGHT + _BOTTOM)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {_ROLE}>',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="description">{escape(description)}</desc>',
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="{_LEFT}" y="24">{escape(title)}</text>',
    ]
    for number, picture in enumerate(pictures):
        top = _HEAD + number * (_TOP + _PLOT_HEIGHT + _BOTTOM)
        parts += _panel(picture, max(minutes, 1e-9), marks, top)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(picture: Picture, minutes: float, marks: Sequence[Mark], top: float) -> Iterator[str]:
    values = [y for line in picture.lines for part in line.parts for _, y in part]
    scale = Scale.over(values, logarithmic=picture.logarithmic)
    right, bottom = WIDTH - _RIGHT, _TOP + _PLOT_HEIGHT

    def x_of(x: float) -> float:
        return _LEFT + (right - _LEFT) * x / minutes

    def y_of(y: float) -> float:
        return bottom - _PLOT_HEIGHT * scale.share(y)

    yield f'<g transform="translate(0 {top:g})">'
    yield f'<text class="title" x="{_LEFT}" y="20">{escape(picture.title)}, {escape(picture.unit)}</text>'
    for tick in scale.ticks:
        yield f'<path class="grid" d="M{_LEFT} {y_of(tick):.1f}H{right}"/>'
        yield f'<text x="{_LEFT - 6}" y="{y_of(tick) + 4:.1f}" text-anchor="end">{tick:,.10g}</text>'
    for tick in ticks(0.0, minutes, 8):
        yield f'<text x="{x_of(tick):.1f}" y="{bottom + 16}" text-anchor="middle">{tick:,.10g}</text>'
    yield f'<text x="{(_LEFT + right) / 2:.0f}" y="{bottom + 32}" text-anchor="middle">minutes of load</text>'
    for mark in marks:
        at = f"{x_of(mark.minutes):.1f}"
        yield f'<path class="fault" d="M{at} {_TOP}V{bottom}"/>'
        yield f'<text class="number" x="{at}" y="{_TOP - 3}" text-anchor="middle">{mark.number}</text>'
    yield f'<path class="axis" d="M{_LEFT} {_TOP}V{bottom}H{right}"/>'
    for number, line in enumerate(picture.lines):
        for part in line.parts:
            path = "L".join(f"{x_of(x):.1f} {y_of(y):.1f}" for x, y in part)
            name = f"<title>{escape(line.name)}</title>"
            yield f'<path class="line {_look(number)}"{_dash(number)} d="M{path}">{name}</path>'
    yield from _labels(picture.lines, right)
    yield "</g>"


def _labels(lines: Sequence[Drawn], right: float) -> Iterator[str]:
    shown = lines[:_MAX_LABELS]
    for number, line in enumerate(shown):
        y = _TOP + 6 + number * _LABEL_HEIGHT
        yield f'<path class="line {_look(number)}"{_dash(number)} d="M{right + 10} {y}h26"/>'
        yield f'<text x="{right + 42}" y="{y + 4}">{escape(line.name)}</text>'


def _look(number: int) -> str:
    return f"c{number % _COLOURS}"


def _dash(number: int) -> str:
    dash = _DASHES[number // _COLOURS % len(_DASHES)]
    return f' stroke-dasharray="{dash}"' if dash else ""


@dataclass(frozen=True, slots=True)
class Scale:
    """An axis of values from `low` to `high`, with its ticks."""

    low: float
    high: float
    ticks: Sequence[float]
    logarithmic: bool = False

    @classmethod
    def over(cls, values: Sequence[float], *, logarithmic: bool = False) -> "Scale":
        """Return an axis that has all values: from 0 on, or whole powers of ten, on which zeros are at the bottom."""
        if logarithmic:
            positive = [value for value in values if value > 0] or [1.0]
            first = math.floor(math.log10(min(positive)))
            last = max(math.ceil(math.log10(max(positive))), first + 1)
            powers = [10.0**power for power in range(first, last + 1)]
            return cls(powers[0], powers[-1], powers, logarithmic=True)
        high = max([*values, 0.0]) or 1.0
        found = ticks(0.0, high, 5)
        step = found[1] - found[0]
        top = step * math.ceil(high / step - 1e-9)
        return cls(0.0, top, ticks(0.0, top, 5))

    def share(self, value: float) -> float:
        """Return where a value is, from 0 at the bottom to 1 at the top."""
        if self.logarithmic:
            whole = math.log10(self.high / self.low)
            return math.log10(max(value, self.low) / self.low) / whole
        return (value - self.low) / (self.high - self.low)


def ticks(low: float, high: float, most: int) -> list[float]:
    """Return round numbers from `low` to `high`, about `most`, 1, 2 or 5 times a power of ten apart."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough - 1e-12)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]
