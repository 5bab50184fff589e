"""The picture has all lines, axes and marks, words for those who cannot see it, and colours for both modes."""

import xml.etree.ElementTree as ET

import pytest

from tests.soak.drawing import Drawn, Mark, Picture, Scale, draw, ticks

SVG = "{http://www.w3.org/2000/svg}"
MEMORY = Picture(
    title="Memory & more",
    unit="MB",
    lines=[
        Drawn(name="ingress", parts=[[(0, 90), (10, 100)], [(11, 60), (60, 70)]]),
        Drawn(name="<payments>", parts=[[(0, 80), (60, 80)]]),
    ],
)


def drawn(*pictures: Picture) -> ET.Element:
    """Return the picture of pictures, read by a parser of XML."""
    return ET.fromstring(draw("A soak", "Nothing grows.", pictures, [Mark(minutes=30, number=7)]))


def texts(element: ET.Element) -> list[str]:
    """Return all texts that are shown."""
    return [text.text or "" for text in element.iter(f"{SVG}text")]


def test_the_picture_has_words_for_those_who_cannot_see_it() -> None:
    svg = drawn(MEMORY)

    assert svg.attrib["role"] == "img"
    ids = {child.attrib["id"]: child.text for child in svg if "id" in child.attrib}
    assert [ids[id] for id in svg.attrib["aria-labelledby"].split()] == ["A soak", "Nothing grows."]


def test_each_panel_has_title_unit_axes_and_the_marks_of_faults() -> None:
    found = texts(drawn(MEMORY, MEMORY))

    assert found.count("Memory & more, MB") == 2
    assert found.count("minutes of load") == 2
    assert found.count("7") == 2
    assert {"0", "20", "100", "60"} <= set(found)


def test_a_line_is_broken_where_its_process_was_another_one() -> None:
    lines = [path for path in drawn(MEMORY).iter(f"{SVG}path") if path.find(f"{SVG}title") is not None]

    assert [path.findtext(f"{SVG}title") for path in lines] == ["ingress", "ingress", "<payments>"]
    assert all(path.attrib["d"].count("M") == 1 for path in lines)


def test_every_colour_has_another_one_in_dark_mode() -> None:
    style = drawn(MEMORY).findtext(f"{SVG}style") or ""
    light, dark = style.split("@media (prefers-color-scheme: dark)")

    assert all(f".c{number} " in light and f".c{number} " in dark for number in range(8))


def test_no_two_lines_of_a_panel_look_alike() -> None:
    many = Picture(
        title="Many", unit="", lines=[Drawn(name=str(each), parts=[[(0, each), (1, each)]]) for each in range(20)]
    )
    lines = [path for path in drawn(many).iter(f"{SVG}path") if path.find(f"{SVG}title") is not None]

    assert len({(path.attrib["class"], path.attrib.get("stroke-dasharray")) for path in lines}) == 20


def test_a_picture_of_nothing_is_drawn_too() -> None:
    assert drawn(Picture(title="Nothing", unit="rows", lines=[])) is not None
    assert drawn(Picture(title="Zeros", unit="rows", lines=[Drawn(name="a", parts=[[(0, 0), (1, 0)]])])) is not None


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 100, [0, 20, 40, 60, 80, 100]),
        (0, 0.7, [0, 0.2, 0.4, 0.6]),
        (0, 37, [0, 10, 20, 30]),
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
    ],
)
def test_ticks_are_round_numbers(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high, 5) == pytest.approx(expected)


def test_values_are_between_bottom_and_top() -> None:
    plain, powers = Scale.over([3, 96]), Scale.over([0.02, 30, 0], logarithmic=True)

    assert (plain.share(0), plain.share(100)) == (0, 1)
    assert powers.ticks == pytest.approx([0.01, 0.1, 1, 10, 100])
    assert [powers.share(value) for value in (0, 0.01, 1, 100)] == pytest.approx([0, 0, 0.5, 1])
