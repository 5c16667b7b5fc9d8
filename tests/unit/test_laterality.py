"""Which side an image shows: stated, never guessed."""

import pytest

from studies.laterality import side_in_words, stated_side
from studies.model import Laterality


@pytest.mark.parametrize(
    ("stated", "side"),
    [
        ({"image_laterality": "R"}, Laterality.RIGHT),
        ({"image_laterality": "B"}, Laterality.BOTH),
        ({"laterality": "L"}, Laterality.LEFT),
        ({"modifiers": ["24028007"]}, Laterality.RIGHT),
        ({"modifiers": ["G-A101"]}, Laterality.LEFT),
        ({"descriptions": ["", "XR WRIST LT 3V"]}, Laterality.LEFT),
        ({"image_laterality": "R", "laterality": "R", "modifiers": ["24028007"]}, Laterality.RIGHT),
        ({"image_laterality": "U", "laterality": "L"}, Laterality.LEFT),
        ({"descriptions": ["Hand R", "Wrist left"]}, Laterality.RIGHT),
    ],
)
def test_a_side_is_what_the_sender_states_wherever_it_states_it(stated, side):
    """Devices state the side in different elements, or in words alone."""
    assert stated_side(**stated) is side


@pytest.mark.parametrize(
    "stated",
    [
        {},
        {"image_laterality": "U"},
        {"modifiers": ["66459002"]},
        {"image_laterality": "R", "laterality": "L"},
        {"image_laterality": "L", "modifiers": ["24028007"]},
        {"laterality": "L", "descriptions": ["Right elbow"]},
        {"image_laterality": "B", "laterality": "L"},
        {"image_laterality": "?"},
    ],
)
def test_what_is_not_stated_or_contradicts_itself_is_unknown(stated):
    """A wrong side is worse than none."""
    assert stated_side(**stated) is None


@pytest.mark.parametrize(
    ("words", "side"),
    [
        ("RIGHT ELBOW", Laterality.RIGHT),
        ("Rt. shoulder", Laterality.RIGHT),
        ("HAND_L", None),
        ("hand l", Laterality.LEFT),
        ("Handgelenk links", Laterality.LEFT),
        ("Poignet droit", Laterality.RIGHT),
        ("AP/LAT R", Laterality.RIGHT),
        ("R/O fracture", None),
        ("T/L spine", None),
        ("Left and right hands", None),
        ("Bilateral hands, left first", None),
        ("Elbow", None),
        ("", None),
    ],
)
def test_words_name_a_side_only_if_they_name_one(words, side):
    """A description is free text: "R/O" is no side, and two sides are none."""
    assert side_in_words(words) is side
