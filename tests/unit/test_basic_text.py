"""The report in words: the same answer as the structured one."""

from __future__ import annotations

import pytest

from reports.basic_text import basic_text_report
from reports.dataset import encode
from reports.source import source_study
from studies.model import ObjectKind, ProducedObject, Reading, Region
from tests.support.dicom_making import make
from tests.support.readings import DEVICE, image_reading, reading_of, region_reading
from tests.support.sr_trees import Node, parse, references_in, tree


def words(reading: Reading, *headers) -> tuple[list[str], list[str]]:
    """Return findings and conclusions after a round trip through the file."""
    report = basic_text_report(reading, source_study(headers), DEVICE)
    root: Node = tree(parse(encode(report)))
    return (
        [node.value for node in root.all("121071")],
        [node.value for node in root.all("121077")],
    )


def test_positive_and_doubtful_regions_are_findings():
    """With score, thresholds and model; the conclusions give the answer."""
    hand, elbow = make(seed="s/1"), make(seed="s/2")
    reading = reading_of(
        hand,
        image_reading(hand, region_reading(hand, probability=0.9)),
        image_reading(elbow, region_reading(elbow, Region.ELBOW, 0.5, experimental=True)),
    )

    findings, conclusions = words(reading, hand, elbow)

    assert findings[0].startswith("Hand, left: fracture probability 90.0 %")
    assert findings[1].startswith("Elbow, left: fracture probability 50.0 %")
    assert "experimental" in findings[1]
    assert conclusions == [
        "Hand, left: fracture likely.",
        "Elbow, left: undetermined.",
        "AI result, not verified by a physician.",
    ]


def test_a_negative_study_has_no_finding():
    """Viewers show any Finding as positive."""
    header = make()
    reading = reading_of(header, image_reading(header, region_reading(header, probability=0.1)))

    findings, conclusions = words(reading, header)

    assert findings == []
    assert conclusions[0].startswith("Hand, left: no fracture seen. Hand, left: fracture prob")


def test_what_was_not_analysed_is_told_with_its_reason_and_is_not_negative():
    """No word of "no fracture"."""
    header = make()
    reading = reading_of(header, image_reading(header, not_analysed="a chest is no limb"))

    findings, conclusions = words(reading, header)

    assert findings == []
    assert conclusions == [
        "No image of this study was analysed.",
        f"Image {header.SOPInstanceUID}: not analysed, because a chest is no limb.",
        "AI result, not verified by a physician.",
    ]


def test_it_lists_its_evidence_and_names_its_predecessor():
    """As the structured report does."""
    header = make()
    reading = reading_of(header, image_reading(header, region_reading(header)), revision=2)
    earlier = ProducedObject(
        kind=ObjectKind.MEASUREMENT_REPORT,
        SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11",
        SOPInstanceUID="2.25.1",
        SeriesInstanceUID="2.25.2",
        path="x",
        sha256="0" * 64,
        size=1,
    )

    report = basic_text_report(reading, source_study([header]), DEVICE, predecessor=earlier)

    assert references_in(report.CurrentRequestedProcedureEvidenceSequence) == {
        (header.SeriesInstanceUID, header.SOPInstanceUID)
    }
    assert references_in(report.PredecessorDocumentsSequence) == {("2.25.2", "2.25.1")}


def test_a_reading_of_another_study_is_refused():
    """A report never carries another patient's identity."""
    header, other = make(), make(seed="other/1")
    reading = reading_of(other, image_reading(other, region_reading(other)))

    with pytest.raises(ValueError, match=other.StudyInstanceUID):
        basic_text_report(reading, source_study([header]), DEVICE)
