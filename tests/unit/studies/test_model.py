"""Values that cannot be built wrongly."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studies.documents import reading_from_json, reading_to_json
from studies.model import Band, Box, Status
from tests.support.domain import image_reading, reading


def test_a_box_has_an_area():
    """Edges in the wrong order are a mistake of the caller."""
    with pytest.raises(ValueError, match="area"):
        Box(left=5, top=0, right=5, bottom=1)


def test_a_box_is_clipped_to_the_image():
    """A model may point a little beside the plate; a report must not."""
    box = Box(left=-3, top=-1, right=90, bottom=50).clipped(columns=80, rows=40)

    assert box.edges == (0, 0, 80, 40)


def test_a_negative_reading_carries_no_finding():
    """Naive viewers show any finding as positive."""
    positive = image_reading().readings[0]

    with pytest.raises(ValueError, match="negative"):
        replace(positive, band=Band.NEGATIVE)


def test_an_image_is_not_both_read_and_not_analysed():
    """An image that was not analysed never looks like a result."""
    with pytest.raises(ValueError, match="both"):
        replace(image_reading(), not_analysed="chest")


def test_a_study_without_a_readable_image_says_why():
    """The reasons of its images, each once."""
    refused = replace(image_reading(), readings=(), not_analysed="a chest is not read")
    study = reading(images=(refused, replace(refused, SOPInstanceUID="1.2.3")))

    assert study.not_analysed == "a chest is not read"
    assert study.band is None
    assert study.certainty is None


def test_the_most_urgent_image_decides():
    """One positive image makes the study positive."""
    study = reading(images=(image_reading(0.1), image_reading(0.8)))

    assert study.band is Band.POSITIVE
    assert study.certainty == 0.8
    assert study.not_analysed is None


@given(probability=st.floats(0, 1), revision=st.integers(1, 99))
def test_a_reading_comes_back_from_json_unchanged(probability, revision):
    """What the database keeps is what was read."""
    written = reading(revision, probability=probability)

    assert reading_from_json(reading_to_json(written)) == written


def test_final_states_are_those_that_wait_for_nobody():
    """A replay is allowed from exactly these."""
    waiting = {status for status in Status if not status.is_final}

    assert waiting == {Status.RECEIVING, Status.READY, Status.READING}
