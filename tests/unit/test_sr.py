"""The measurement report: above all what no validator checks."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import timedelta, timezone

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import (
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    ExplicitVRLittleEndian,
)

from reports import codes
from reports.dataset import encode
from reports.source import source_study
from reports.sr import Options, measurement_report
from studies.model import Box, Laterality, ObjectKind, ProducedObject, Reading, Region
from tests.support.dicom_making import ABSENT, make, to_bytes
from tests.support.identities import IDENTITIES, with_identity
from tests.support.readings import DEVICE, image_reading, reading_of, region_reading
from tests.support.sr_trees import Node, codes_in, parse, references_in, tree

PRESENT, ABSENT_CODE, UNDETERMINED = "52101004", "272519000", "373068000"
FRACTURE = "125605004"
BOX = Box(left=10, top=20, right=30.5, bottom=44)
OTHER_BOX = Box(left=1, top=2, right=9, bottom=12)


def received(header: Dataset) -> Dataset:
    """Return the header as it comes out of a file."""
    return pydicom.dcmread(io.BytesIO(to_bytes(header)), stop_before_pixels=True)


def report_of(reading: Reading, *headers: Dataset, **kwargs) -> tuple[Dataset, Node]:
    """Return a report after a round trip through its file, and its content tree."""
    source = source_study([received(header) for header in headers])
    document = parse(encode(measurement_report(reading, source, DEVICE, **kwargs)))
    return document, tree(document)


def evaluations(root: Node) -> list[tuple[str, str | None, str | None]]:
    """(presence, site, side) of each qualitative evaluation, in order."""
    found = []
    for node in root.one("C0034375").children:
        if node.value_type == "CODE":
            sites = [below.value for below in node.all("363698007")] or [None]
            sides = [below.value for below in node.all("272741003")] or [None]
            found.append((str(node.value), sites[0], sides[0]))
    return found


def comments(root: Node) -> str:
    """All texts of the qualitative evaluations."""
    return "\n".join(n.value for n in root.one("C0034375").children if n.value_type == "TEXT")


# --- Findings ----------------------------------------------------------------------------------


def test_each_finding_has_its_own_tracking_uid():
    """It is the same in every object and unique within the report."""
    header = make()
    seen = image_reading(header, region_reading(header, boxes=(BOX, OTHER_BOX)))
    _, root = report_of(reading_of(header, seen), header)

    tracked = [node.value for node in root.all("112040")]

    assert tracked == [finding.tracking_uid for finding in seen.readings[0].findings]
    assert len(set(tracked)) == 2
    assert len({node.value for node in root.all("112039")}) == 2


def test_a_box_is_a_closed_outline_on_its_image():
    """Column and row in pixels, from the outer corner of the top-left pixel."""
    header = make()
    seen = image_reading(header, region_reading(header, boxes=(BOX,)))
    document, root = report_of(reading_of(header, seen), header)

    region = root.one("111030")

    assert region.value == [10, 20, 30.5, 20, 30.5, 44, 10, 44, 10, 20]
    assert region.children[0].relationship == "SELECTED FROM"
    assert region.children[0].value == header.SOPInstanceUID
    assert document.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


@settings(deadline=None)
@given(
    left=st.floats(-20, 60),
    top=st.floats(-20, 90),
    width=st.floats(5, 200),
    height=st.floats(7, 200),
)
def test_no_outline_leaves_its_image(left, top, width, height):
    """A box that a detector drew past the edge is cut there."""
    header = make()
    width, height = max(width, 1 - left), max(height, 1 - top)
    box = Box(left=left, top=top, right=left + width, bottom=top + height)
    seen = image_reading(header, region_reading(header, boxes=(box,)))
    source = source_study([header])

    root = tree(measurement_report(reading_of(header, seen), source, DEVICE))

    coordinates = root.one("111030").value
    assert coordinates[:2] == coordinates[-2:]
    assert all(0 <= column <= header.Columns for column in coordinates[::2])
    assert all(0 <= row <= header.Rows for row in coordinates[1::2])


def test_a_finding_tells_what_where_how_sure_and_who():
    """Finding, site, side, certainty in percent, type, and the model with its version."""
    header = make()
    reading = region_reading(
        header, probability=0.8764, boxes=(BOX,), type="Greenstick", site="distal radius"
    )
    _, root = report_of(reading_of(header, image_reading(header, reading)), header)

    group = root.one("125007")

    assert group.one("121071").value == FRACTURE
    assert group.one("363698007").value == "85562004"
    assert group.one("272741003").value == "7771000"
    assert group.one("111012").value == (87.6, "%")
    assert group.one("116676008").value == "442085002"
    assert group.one("121106").value == "Site: distal radius"
    assert group.one("111001").value == "bone-hand_wrist"
    assert group.one("111003").value == "1.2.0"


def test_a_type_without_a_verified_code_goes_out_in_words():
    """An unverified SNOMED code would look right and might be wrong."""
    header = make()
    reading = region_reading(header, boxes=(BOX,), type="spiral")
    _, root = report_of(reading_of(header, image_reading(header, reading)), header)

    group = root.one("125007")

    assert group.all("116676008") == []
    assert group.one("121106").value == "Type: spiral"


def test_a_finding_without_a_box_names_the_image_it_was_measured_on():
    """A model that judges a whole region invents no coordinates."""
    header = make()
    _, root = report_of(reading_of(header, image_reading(header, region_reading(header))), header)

    group = root.one("125007")

    assert root.all("111030") == []
    assert group.one("121112").value == header.SOPInstanceUID
    assert group.one("111012").value == (91.0, "%")


def test_a_positive_region_without_any_finding_still_gets_one():
    """No positive study goes out without a Finding."""
    header = make()
    positive = replace(region_reading(header), findings=())
    _, root = report_of(reading_of(header, image_reading(header, positive)), header)

    assert len(root.all("121071")) == 1
    assert len(root.all("112040")) == 1


def test_one_box_is_not_mixed_with_findings_that_have_none():
    """PixelMed would take all groups for TID 1410; the region is reported as present anyway."""
    hand, foot = make(seed="s/1"), make(seed="s/2", body_part="FOOT")
    reading = reading_of(
        hand,
        image_reading(hand, region_reading(hand, boxes=(BOX,))),
        image_reading(foot, region_reading(foot, Region.FOOT)),
    )
    _, root = report_of(reading, hand, foot)

    assert len(root.all("125007")) == 1
    assert [presence for presence, _, _ in evaluations(root)] == [PRESENT, PRESENT]


def test_two_boxes_are_mixed_with_findings_that_have_none():
    """From two boxes on, every finding has its measurement group."""
    hand, foot = make(seed="s/1"), make(seed="s/2", body_part="FOOT")
    reading = reading_of(
        hand,
        image_reading(hand, region_reading(hand, boxes=(BOX, OTHER_BOX))),
        image_reading(foot, region_reading(foot, Region.FOOT)),
    )
    _, root = report_of(reading, hand, foot)

    assert len(root.all("125007")) == 3


# --- Evaluations -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("probability", "presence"), [(0.9, PRESENT), (0.5, UNDETERMINED), (0.1, ABSENT_CODE)]
)
def test_the_band_is_what_the_report_says_of_a_region(probability, presence):
    """Positive, doubtful and negative are Present, Undetermined and Absent."""
    header = make()
    seen = image_reading(header, region_reading(header, probability=probability))
    _, root = report_of(reading_of(header, seen), header)

    assert evaluations(root) == [(presence, "85562004", "7771000")]


def test_a_negative_study_has_no_finding():
    """Naive viewers show any Finding as a positive one."""
    header = make()
    seen = image_reading(header, region_reading(header, probability=0.1))
    _, root = report_of(reading_of(header, seen), header)

    assert root.all("121071") == []
    assert root.all("126010") == []
    assert root.all("112040") == []


def test_an_image_that_was_not_analysed_is_named_with_its_reason_and_is_not_negative():
    """It never looks like "no fracture"."""
    read, refused = make(seed="s/1"), make(seed="s/2", body_part="CHEST")
    reading = reading_of(
        read,
        image_reading(read, region_reading(read, probability=0.1)),
        image_reading(refused, not_analysed="a chest is no limb"),
    )
    _, root = report_of(reading, read, refused)

    reason = f"Image {refused.SOPInstanceUID}: not analysed, because a chest is no limb."
    assert reason in comments(root)
    assert len(evaluations(root)) == 1


def test_a_study_without_any_analysed_image_says_so_and_nothing_else():
    """Undetermined, with the reason; above all not Absent."""
    header = make(body_part="CHEST")
    seen = image_reading(header, not_analysed="a chest is no limb")
    _, root = report_of(reading_of(header, seen), header)

    assert evaluations(root) == [(UNDETERMINED, None, None)]
    assert "No image of this study was analysed." in comments(root)
    assert root.all("121071") == []


def test_an_image_without_any_region_that_a_model_reads_is_named_as_well():
    """An image with no reading and no reason must not vanish."""
    header = make()
    _, root = report_of(reading_of(header, image_reading(header)), header)

    assert f"Image {header.SOPInstanceUID}: not analysed" in comments(root)
    assert evaluations(root) == [(UNDETERMINED, None, None)]


def test_two_images_of_a_region_give_one_answer_the_more_urgent():
    """A fracture seen on one view of two is present."""
    front, side = make(seed="s/1"), make(seed="s/2")
    reading = reading_of(
        front,
        image_reading(front, region_reading(front, probability=0.1)),
        image_reading(side, region_reading(side, probability=0.9)),
    )
    _, root = report_of(reading, front, side)

    assert evaluations(root) == [(PRESENT, "85562004", "7771000")]
    assert "90.0 % (the highest of 2 images)" in comments(root)


def test_the_sides_are_answered_apart():
    """A fracture of the left hand says nothing of the right one."""
    left, right = make(seed="s/1"), make(seed="s/2", laterality="R")
    reading = reading_of(
        left,
        image_reading(left, region_reading(left, probability=0.9)),
        image_reading(right, region_reading(right, probability=0.1), laterality=Laterality.RIGHT),
    )
    _, root = report_of(reading, left, right)

    assert evaluations(root) == [
        (PRESENT, "85562004", "7771000"),
        (ABSENT_CODE, "85562004", "24028007"),
    ]


def test_an_unknown_side_is_not_mentioned():
    """Unknown is None, never a guess."""
    header = make(laterality="")
    seen = image_reading(header, region_reading(header, boxes=(BOX,)), laterality=None)
    _, root = report_of(reading_of(header, seen), header)

    assert root.all("272741003") == []
    assert root.all("111027") == []


def test_scores_thresholds_doubt_and_experiments_are_told_in_words():
    """What a person needs to judge the answer stands beside it."""
    header = make()
    seen = image_reading(header, region_reading(header, probability=0.5, experimental=True))
    _, root = report_of(reading_of(header, seen), header)

    text = comments(root)

    assert text.startswith("AI result, not verified by a physician.")
    assert "fracture probability 50.0 %" in text
    assert "Present from 70.0 %, absent below 30.0 %" in text
    assert "lies between the two thresholds" in text
    assert "This model is experimental" in text


# --- Codes, evidence, identity -----------------------------------------------------------------


def _everything() -> tuple[Reading, list[Dataset]]:
    """A study with every kind of content that a report can have."""
    hand = make(seed="s/1", ViewPosition="AP")
    elbow = make(seed="s/2", body_part="ELBOW", photometric="MONOCHROME1", spacing_mm=None)
    chest = make(seed="s/3", body_part="CHEST", kind="CR")
    shoulder = make(seed="s/4", body_part="SHOULDER", laterality="R")
    reading = reading_of(
        hand,
        image_reading(hand, region_reading(hand, boxes=(BOX, OTHER_BOX), type="avulsion")),
        image_reading(elbow, region_reading(elbow, Region.ELBOW, 0.5, experimental=True)),
        image_reading(chest, not_analysed="a chest is no limb", laterality=None),
        image_reading(
            shoulder,
            region_reading(shoulder, Region.SHOULDER, 0.02),
            region_reading(shoulder, Region.HUMERUS, 0.03),
            laterality=Laterality.RIGHT,
        ),
    )
    return reading, [hand, elbow, chest, shoulder]


def _table() -> dict[tuple[str, str], str]:
    table = {}
    for value in vars(codes).values():
        for entry in value.values() if isinstance(value, dict) else [value]:
            parts = [entry.site, entry.procedure] if isinstance(entry, codes.BodyPart) else [entry]
            for code in parts:
                if isinstance(code, codes.Code):
                    table[(code.scheme, code.value)] = code.meaning
    return table


@pytest.mark.parametrize("strict", [False, True])
def test_every_code_in_a_report_is_one_of_the_table(strict):
    """A wrong meaning passes every validator."""
    reading, headers = _everything()
    document, _ = report_of(reading, *headers, options=Options(strict_codes=strict))
    table = _table()

    found = set(codes_in(document))

    assert len(found) > 30
    for scheme, value, meaning in found:
        assert table[(scheme, value)] == meaning


def test_the_evidence_lists_every_image_and_nothing_else():
    """CurrentRequestedProcedureEvidenceSequence covers the whole content tree."""
    reading, headers = _everything()
    document, root = report_of(reading, *headers)

    listed = references_in(document.CurrentRequestedProcedureEvidenceSequence)

    assert listed == {(h.SeriesInstanceUID, h.SOPInstanceUID) for h in headers}
    referenced = {node.value for node in root.walk() if node.value_type == "IMAGE"}
    assert referenced == {uid for _, uid in listed}


def test_the_image_library_states_what_the_sender_states():
    """Modality, side, view, orientation, size and spacing, each only if it was stated."""
    header = make(ViewPosition="AP", PatientOrientation=["R", "F"], spacing_mm=0.25)
    header.pop("ViewCodeSequence", None)
    bare = make(seed="tests/2", kind="CR", spacing_mm=None, StudyDate=ABSENT, StudyTime=ABSENT)
    for keyword in ("ViewPosition", "PatientOrientation", "ViewCodeSequence"):
        bare.pop(keyword, None)
    seen = image_reading(header, region_reading(header, probability=0.1))
    unread = image_reading(bare, not_analysed="unreadable", laterality=None)
    _, root = report_of(reading_of(header, seen, unread), header, bare)

    first, second = root.one("126200").children

    assert {child.name: child.value for child in first.children} == {
        "121139": "DX",
        "111027": "7771000",
        "111031": "399348003",
        "111044": "R",
        "111043": "F",
        "111060": "20260102",
        "111061": "101112",
        "110910": (96, "{pixels}"),
        "110911": (64, "{pixels}"),
        "111026": (0.25, "mm"),
        "111066": (0.25, "mm"),
    }
    named = {child.name for child in second.children}
    assert named == {"121139", "111060", "111061", "110910", "110911"}


@pytest.mark.parametrize("name", IDENTITIES)
def test_the_patient_is_byte_for_byte_the_patient_of_the_images(name):
    """In every character set, and the report says which."""
    identity = IDENTITIES[name]
    header = with_identity(make(), identity)
    source = source_study([received(header)])
    reading = reading_of(header, image_reading(header, region_reading(header)))

    file = encode(measurement_report(reading, source, DEVICE))

    document = parse(file)
    sent = parse(to_bytes(header))
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyDescription"):
        assert document.get_item(keyword).value == sent.get_item(keyword).value
    assert document.get("SpecificCharacterSet") == sent.get("SpecificCharacterSet")
    assert str(document.PatientName) == str(sent.PatientName)


def test_study_and_request_are_those_of_the_images():
    """Same study, same accession, same order, and a series of its own."""
    request = Dataset()
    request.RequestedProcedureID = "RP1"
    header = make(RequestAttributesSequence=[request], IssuerOfPatientID="HOSP")
    seen = image_reading(header, region_reading(header))
    document, _ = report_of(reading_of(header, seen), header)

    for keyword in (
        "StudyInstanceUID",
        "StudyDate",
        "StudyTime",
        "AccessionNumber",
        "PatientSex",
        "IssuerOfPatientID",
    ):
        assert document[keyword].value == header[keyword].value
    assert document.ReferencedRequestSequence[0].RequestedProcedureID == "RP1"
    assert document.ReferencedRequestSequence[0].AccessionNumber == header.AccessionNumber
    assert document.SeriesInstanceUID != header.SeriesInstanceUID
    assert (document.SeriesNumber, document.Modality) == (9101, "SR")


def test_content_times_are_in_the_images_time_zone():
    """A copied offset holds for every time of the object, so ours are converted to it."""
    header = make(TimezoneOffsetFromUTC="+0530")
    seen = image_reading(header, region_reading(header))
    document, _ = report_of(reading_of(header, seen), header)

    assert document.TimezoneOffsetFromUTC == "+0530"
    assert (document.ContentDate, document.ContentTime) == ("20260103", "050015")


def test_content_times_are_in_the_sites_time_zone_where_the_images_state_none():
    """Then no offset is claimed."""
    header = make()
    seen = image_reading(header, region_reading(header))
    zone = timezone(timedelta(hours=-8))
    document, _ = report_of(reading_of(header, seen), header, options=Options(local_zone=zone))

    assert "TimezoneOffsetFromUTC" not in document
    assert (document.ContentDate, document.ContentTime) == ("20260102", "153015")


def test_every_model_and_device_has_its_place():
    """DeviceUID, versions, and who contributed as what (IHE AIR)."""
    header = make(Manufacturer="Acme")
    seen = image_reading(header, region_reading(header))
    document, root = report_of(reading_of(header, seen), header)

    contributors = [
        (item.PurposeOfReferenceCodeSequence[0].CodeValue, item.ManufacturerModelName)
        for item in document.ContributingEquipmentSequence
        if "ManufacturerModelName" in item
    ]

    assert ("109102", "bone-hand_wrist") in contributors
    assert document.ContributingEquipmentSequence[0].Manufacturer == "Acme"
    assert document.DeviceUID == root.one("121012").value == DEVICE.uid
    uids = [item.DeviceUID for item in document.ContributingEquipmentSequence[1:]]
    assert len({document.DeviceUID, *uids}) == 4
    assert list(document.SoftwareVersions) == [
        "0.1.0",
        "trunk 1.0.0",
        "router 1.0.0",
        "bone-hand_wrist 1.2.0",
    ]


def test_real_procedures_by_default_and_the_strict_one_for_a_connectathon():
    """Validators of 2022 know no X-ray procedure; hospitals do."""
    reading, headers = _everything()
    _, real = report_of(reading, *headers)
    _, strict = report_of(reading, *headers, options=Options(strict_codes=True))

    assert [node.value for node in real.all("121058")] == [
        "713025006",
        "713027003",
        "713026007",
        "783543007",
    ]
    assert [node.value for node in strict.all("121058")] == ["363679005"]


@pytest.mark.parametrize(
    ("kind", "procedure"), [("DX", "168537006"), ("CR", "168537006"), ("CT", "363679005")]
)
def test_the_procedure_of_what_was_not_analysed_is_no_guess(kind, procedure):
    """A CT that was refused is not reported as a plain X-ray."""
    header = make(kind=kind, body_part="CHEST")
    if kind == "CR":
        header.Modality = "CR"
    seen = image_reading(header, not_analysed="a chest is no limb", laterality=None)
    _, root = report_of(reading_of(header, seen), header)

    assert root.one("121058").value == procedure


def test_a_new_report_names_the_one_it_replaces():
    """A late image gives one superseding report, never two that contradict."""
    header = make()
    seen = image_reading(header, region_reading(header))
    earlier = ProducedObject(
        kind=ObjectKind.MEASUREMENT_REPORT,
        SOPClassUID=Comprehensive3DSRStorage,
        SOPInstanceUID="2.25.1",
        SeriesInstanceUID="2.25.2",
        path="x",
        sha256="0" * 64,
        size=1,
    )
    reading = reading_of(header, seen, revision=2, predecessor=1)
    document, _ = report_of(reading, header, predecessor=earlier)
    first, _ = report_of(reading_of(header, seen), header)

    assert references_in(document.PredecessorDocumentsSequence) == {("2.25.2", "2.25.1")}
    assert document.PredecessorDocumentsSequence[0].StudyInstanceUID == header.StudyInstanceUID
    assert "PredecessorDocumentsSequence" not in first
    assert first.SOPInstanceUID != document.SOPInstanceUID


# --- The file ----------------------------------------------------------------------------------


def test_building_twice_gives_the_same_bytes():
    """A retry sends the same object again."""
    reading, headers = _everything()
    files = set()
    for _ in range(2):
        source = source_study([received(header) for header in headers])
        files.add(encode(measurement_report(reading, source, DEVICE)))

    assert len(files) == 1


def test_encoding_twice_gives_the_same_bytes():
    """Looking at a document between two encodings changes nothing."""
    header = with_identity(make(), IDENTITIES["japanese-87"])
    source = source_study([received(header)])
    seen = image_reading(header, region_reading(header))
    document = measurement_report(reading_of(header, seen), source, DEVICE)

    first = encode(document)
    assert "山田" in str(document.PatientName)

    assert encode(document) == first


def test_a_class_for_an_older_peer_is_another_object():
    """Same content, other SOP class, other UID."""
    header = make()
    reading = reading_of(header, image_reading(header, region_reading(header, boxes=(BOX,))))
    newest, _ = report_of(reading, header)
    older, _ = report_of(reading, header, options=Options(sop_class=ComprehensiveSRStorage))

    assert older.SOPClassUID == ComprehensiveSRStorage
    assert older.file_meta.MediaStorageSOPClassUID == ComprehensiveSRStorage
    assert older.SOPInstanceUID != newest.SOPInstanceUID


def test_text_beyond_ascii_in_what_we_say_harms_no_character_set():
    """Our texts must be readable in the source's character set, whatever it is."""
    header = with_identity(make(), IDENTITIES["korean"])
    seen = image_reading(header, not_analysed="größer als 4 µm")
    _, root = report_of(reading_of(header, seen), header)

    assert "gr??er als 4 ?m" in comments(root)


def test_a_reading_of_another_study_is_refused():
    """A report never carries another patient's identity."""
    header, other = make(), make(seed="other/1")
    reading = reading_of(other, image_reading(other, region_reading(other)))

    with pytest.raises(ValueError, match=other.StudyInstanceUID):
        measurement_report(reading, source_study([header]), DEVICE)


def test_a_class_that_cannot_hold_the_template_is_refused():
    """Basic Text SR has neither measurements nor regions."""
    with pytest.raises(ValueError, match="Basic Text SR"):
        Options(sop_class=BasicTextSRStorage)
