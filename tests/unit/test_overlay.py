"""The picture with what was found: told by lines and words, never by colour alone."""

from __future__ import annotations

import numpy as np
import pytest

from osteon.overlay import draw_overlay, lines_of
from studies.model import Band, Box, Finding, ImageReading, ModelRef, Region, RegionReading

MODEL = ModelRef(name="bone-knee", version="1.0.0", sha256="0" * 64, kind="bone")


def reading(band: Band = Band.POSITIVE, *, box: Box | None = None, **changed) -> ImageReading:
    """One region of an image of 200 × 150 pixels."""
    finding = Finding(box=box, probability=0.6, tracking_uid="2.25.1")
    seen = RegionReading(
        region=Region.KNEE,
        probability=0.6,
        band=band,
        sensitive=0.5,
        specific=0.7,
        model=MODEL,
        findings=() if band is Band.NEGATIVE else (finding,),
        experimental=changed.pop("experimental", False),
    )
    values = {"readings": (seen,), **changed}
    return ImageReading(
        SOPInstanceUID="2.25.2",
        SOPClassUID="",
        SeriesInstanceUID="2.25.3",
        rows=200,
        columns=150,
        **values,
    )


def frame_around(band: Band) -> float:
    """How much of the way round a box is drawn over, 0 to 1."""
    grey = np.full((200, 150), 0.5, np.float32)
    box = Box(left=40, top=60, right=110, bottom=160)
    drawn = np.asarray(draw_overlay(grey, reading(band, box=box)))
    left, right = drawn[60:160, 39], drawn[60:160, 110]
    return float((np.concatenate([left, right]) != 128).any(axis=1).mean())


def test_positive_is_framed_and_doubtful_is_dashed():
    """Who sees no colours still tells them apart."""
    assert frame_around(Band.POSITIVE) == 1.0
    assert 0.3 < frame_around(Band.DOUBTFUL) < 0.8


def test_the_finding_itself_is_not_drawn_over():
    """The frame runs around the box, and every pixel inside keeps its grey."""
    grey = np.linspace(0, 1, 200 * 150, dtype=np.float32).reshape(200, 150)
    box = Box(left=40, top=60, right=110, bottom=160)

    drawn = np.asarray(draw_overlay(grey, reading(box=box)))

    inside = np.round(grey[60:160, 40:110] * 255).astype(np.uint8)
    assert (drawn[60:160, 40:110] == inside[..., None]).all()


def test_a_box_that_leaves_the_image_is_drawn_as_far_as_it_lies_on_it():
    """Models answer with boxes beyond the edge; that is no reason to fail."""
    grey = np.zeros((200, 150), np.float32)

    drawn = draw_overlay(grey, reading(box=Box(left=-20, top=-5, right=160, bottom=40)))

    assert drawn.width == 150


@pytest.mark.parametrize(
    ("seen", "text"),
    [
        (reading(), "Knee: fracture likely, fracture probability 60 %"),
        (reading(Band.DOUBTFUL), "Knee: doubtful, please look, fracture probability 60 %"),
        (reading(experimental=True), "(experimental model)"),
        (reading(readings=(), not_analysed="it is in colour"), "because it is in colour"),
        (reading(readings=()), "because it shows no region that a model may read"),
    ],
)
def test_the_strip_says_it_in_words(seen, text):
    """And that no physician has looked at it."""
    lines = [line for line, _ in lines_of(seen)]

    assert text in lines[0]
    assert lines[-1] == "Osteon. Not verified by a physician."
