"""Key object selections: positives only, and everything that shows them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from reports.capture import annotated_copies, summary_page
from reports.dataset import encode
from reports.key_objects import key_objects
from reports.presentation import presentation_states
from reports.source import SourceStudy, source_study
from reports.sr import measurement_report
from studies.model import Box, Reading, Region
from tests.support.dicom_making import make
from tests.support.readings import DEVICE, image_reading, reading_of, region_reading
from tests.support.sr_trees import parse, references_in, tree

BOX = Box(left=10, top=20, right=30.5, bottom=44)
POSITIVE, DOUBTFUL, NEGATIVE = make(seed="s/1"), make(seed="s/2"), make(seed="s/3")
HEADERS = [POSITIVE, DOUBTFUL, NEGATIVE]


def study(probability: float = 0.9) -> tuple[Reading, SourceStudy]:
    """Return a reading of a positive, a doubtful and a negative image."""
    reading = reading_of(
        POSITIVE,
        image_reading(POSITIVE, region_reading(POSITIVE, probability=probability, boxes=(BOX,)))
        if probability > 0.5
        else image_reading(POSITIVE, region_reading(POSITIVE, probability=probability)),
        image_reading(DOUBTFUL, region_reading(DOUBTFUL, Region.ELBOW, 0.5, boxes=(BOX,))),
        image_reading(NEGATIVE, region_reading(NEGATIVE, Region.FOOT, 0.1)),
    )
    return reading, source_study(HEADERS)


def companions(reading: Reading, source: SourceStudy) -> dict[str, Any]:
    """Return everything else that goes to a destination."""
    pictures = {h.SOPInstanceUID: np.zeros((h.Rows, h.Columns), np.float32) for h in HEADERS}
    return {
        "report": measurement_report(reading, source, DEVICE),
        "states": list(presentation_states(reading, source, DEVICE)),
        "captures": [
            summary_page(reading, source, DEVICE, pictures),
            *annotated_copies(reading, source, DEVICE, pictures),
        ],
    }


def test_only_positive_images_are_key_objects():
    """A flag on every doubtful image would be ignored soon."""
    reading, source = study()
    selection = key_objects(reading, source, DEVICE)
    assert selection is not None

    shown = [n.value for n in tree(parse(encode(selection))).walk() if n.value_type == "IMAGE"]

    assert shown == [POSITIVE.SOPInstanceUID]


def test_a_study_without_a_positive_image_has_no_key_objects():
    """Nothing to look at first."""
    reading, source = study(probability=0.1)

    assert key_objects(reading, source, DEVICE) is None


def test_the_selection_leads_to_report_overlay_and_captures():
    """The state is tied to its image, and the copy of the doubtful image is left out."""
    reading, source = study()
    others = companions(reading, source)
    selection = key_objects(reading, source, DEVICE, **others)
    assert selection is not None

    items = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID: item
        for item in parse(encode(selection)).ContentSequence
        if item.ValueType in ("IMAGE", "COMPOSITE")
    }

    summary, positive_copy, _ = others["captures"]
    assert set(items) == {
        POSITIVE.SOPInstanceUID,
        summary.SOPInstanceUID,
        positive_copy.SOPInstanceUID,
        others["report"].SOPInstanceUID,
    }
    image = items[POSITIVE.SOPInstanceUID].ReferencedSOPSequence[0]
    (state, _) = others["states"]
    assert image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == state.SOPInstanceUID
    assert all("ConceptNameCodeSequence" not in item for item in items.values())


def test_the_evidence_lists_everything_that_is_referenced():
    """Images and our own objects, each in its series."""
    reading, source = study()
    others = companions(reading, source)
    selection = key_objects(reading, source, DEVICE, **others)
    assert selection is not None

    listed = references_in(selection.CurrentRequestedProcedureEvidenceSequence)

    summary, positive_copy, _ = others["captures"]
    state, _ = others["states"]
    expected = [POSITIVE, others["report"], state, summary, positive_copy]
    assert listed == {(each.SeriesInstanceUID, each.SOPInstanceUID) for each in expected}


def test_the_description_says_what_was_found():
    """Place, side and probability, and that no physician has seen it."""
    reading, source = study()
    selection = key_objects(reading, source, DEVICE)
    assert selection is not None

    assert tree(selection).one("113012").value == (
        "Fracture likely: Hand, left 90.0 %. AI result, not verified by a physician."
    )


def test_selections_of_different_objects_are_different_objects():
    """A destination without captures gets a selection of its own; a retry the same again."""
    reading, source = study()
    others = companions(reading, source)
    made = [
        key_objects(reading, source, DEVICE),
        key_objects(reading, source, DEVICE, report=others["report"]),
        key_objects(reading, source, DEVICE, **others),
    ]

    assert len({each.SOPInstanceUID for each in made if each is not None}) == 3
    again = key_objects(reading, source, DEVICE)
    assert again is not None
    assert made[0] is not None
    assert encode(again) == encode(made[0])


def test_a_reading_of_another_study_is_refused():
    """A selection never carries another patient's identity."""
    reading, _ = study()
    other = make(seed="other/1")

    with pytest.raises(ValueError, match=reading.StudyInstanceUID):
        key_objects(reading, source_study([other]), DEVICE)
