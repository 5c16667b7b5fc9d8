"""The colours of the pages against WCAG 2.2: text 4.5 to 1, edges of what is used 3 to 1."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import worklist

STYLE = (Path(worklist.__file__).parent / "static" / "osteon.css").read_text(encoding="utf-8")
TEXTS = [
    ("text", "ground"),
    ("text", "sheet"),
    ("text", "stripe"),
    ("quiet", "ground"),
    ("quiet", "sheet"),
    ("quiet", "stripe"),
    ("link", "ground"),
    ("link", "sheet"),
    ("link", "stripe"),
    *((f"{mark}-text", mark) for mark in ("positive", "doubtful", "negative", "plain", "trouble")),
]


def palette(scheme: str) -> dict[str, str]:
    """The colours of a scheme: light as they stand first, dark over them."""
    blocks = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    assert len(blocks) == 2
    colours: dict[str, str] = {}
    for block in blocks[: 1 if scheme == "light" else 2]:
        colours.update(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", block))
    return colours


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb, as WCAG 2.2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_the_measure_is_right():
    """Black on white is 21 to 1; a grey that is known to fail does."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") < 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), TEXTS)
def test_text_can_be_read(scheme, text, ground):
    """In both schemes, on each ground that it stands on."""
    colours = palette(scheme)

    assert contrast(colours[text], colours[ground]) >= 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_can_be_used_has_an_edge_that_can_be_seen(scheme):
    """Fields, buttons and the ring of the focus."""
    colours = palette(scheme)

    assert contrast(colours["quiet"], colours["ground"]) >= 3
    assert contrast(colours["link"], colours["ground"]) >= 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_colour_stands_outside_the_palette(scheme):
    """What is not in it is not checked."""
    outside = re.sub(r":root \{.*?\}", "", STYLE, flags=re.DOTALL)

    assert re.findall(r"#[0-9a-fA-F]{3,8}\b", outside) == []
    assert set(palette(scheme)) == set(palette("light"))
