"""The measurement report before the programs that judge and read SR documents."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from highdicom.sr import srread
from pydicom.dataset import Dataset
from pydicom.uid import ComprehensiveSRStorage, EnhancedSRStorage

from reports.dataset import encode
from reports.source import source_study
from reports.sr import Options, measurement_report
from studies.model import Box, Laterality, ObjectKind, ProducedObject, Reading, Region
from tests.support.dicom_making import ABSENT, make, to_bytes
from tests.support.identities import IDENTITIES, with_identity
from tests.support.peers import dciodvfy, dsrdump, pixelmed_sr, run_program
from tests.support.readings import DEVICE, image_reading, reading_of, region_reading
from tests.support.shared import require_shared
from tests.support.sr_trees import parse, tree

pytestmark = pytest.mark.peer

BOX = Box(left=10, top=20, right=30.5, bottom=44)
OTHER_BOX = Box(left=1, top=2, right=9, bottom=12)
STRICT = Options(strict_codes=True)
Case = tuple[Reading, list[Dataset]]


def several_regions() -> Case:
    """Two boxes, a doubtful region without, a negative one, an image not analysed, no spacing."""
    hand = make(seed="s/1", ViewPosition="AP")
    elbow = make(
        seed="s/2", body_part="ELBOW", kind="CR", photometric="MONOCHROME1", spacing_mm=None
    )
    chest = make(seed="s/3", body_part="CHEST", kind="CR")
    shoulder = make(seed="s/4", body_part="SHOULDER", laterality="R")
    headers = [hand, elbow, chest, shoulder]
    for header in headers:
        with_identity(header, IDENTITIES["japanese-87"])
    reading = reading_of(
        hand,
        image_reading(hand, region_reading(hand, boxes=(BOX, OTHER_BOX), type="avulsion")),
        image_reading(elbow, region_reading(elbow, Region.ELBOW, 0.5, experimental=True)),
        image_reading(chest, not_analysed="a chest is no limb", laterality=None),
        image_reading(
            shoulder,
            region_reading(shoulder, Region.SHOULDER, 0.02),
            laterality=Laterality.RIGHT,
        ),
    )
    return reading, headers


def one_box() -> Case:
    """Exactly one Image Region, beside a finding that has none; every fact stated."""
    request = Dataset()
    request.RequestedProcedureID = "RP1"
    hand = make(
        seed="s/1",
        RequestAttributesSequence=[request],
        IssuerOfPatientID="HOSP",
        TimezoneOffsetFromUTC="+0100",
        Manufacturer="Acme",
        ManufacturerModelName="X",
    )
    foot = make(seed="s/2", body_part="FOOT")
    reading = reading_of(
        hand,
        image_reading(hand, region_reading(hand, boxes=(BOX,), type="spiral", site="scaphoid")),
        image_reading(foot, region_reading(foot, Region.FOOT)),
        revision=2,
        predecessor=1,
    )
    return reading, [hand, foot]


def no_box() -> Case:
    """A model that judges the whole region; the patient almost unknown."""
    header = make(
        kind="CR",
        PatientSex=b"X",
        PatientBirthDate=ABSENT,
        PatientID=ABSENT,
        StudyTime=ABSENT,
        laterality="",
    )
    seen = image_reading(header, region_reading(header, Region.ANKLE), laterality=None)
    return reading_of(header, seen), [header]


def negative() -> Case:
    """No fracture."""
    header = make()
    return reading_of(header, image_reading(header, region_reading(header, probability=0.05))), [
        header
    ]


def not_analysed() -> Case:
    """Nothing that a model may read."""
    header = make(body_part="CHEST")
    seen = image_reading(header, not_analysed="a chest is no limb", laterality=None)
    return reading_of(header, seen), [header]


CASES: dict[str, Callable[[], Case]] = {
    case.__name__: case for case in (several_regions, one_box, no_box, negative, not_analysed)
}
PREDECESSOR = ProducedObject(
    kind=ObjectKind.MEASUREMENT_REPORT,
    SOPClassUID="1.2.840.10008.5.1.4.1.1.88.34",
    SOPInstanceUID="2.25.1",
    SeriesInstanceUID="2.25.2",
    path="x",
    sha256="0" * 64,
    size=1,
)


def write_report(folder: Path, case: Case, options: Options) -> Path:
    """Write a case's report and return its path."""
    reading, headers = case
    received = [
        pydicom.dcmread(io.BytesIO(to_bytes(header)), stop_before_pixels=True) for header in headers
    ]
    predecessor = PREDECESSOR if reading.predecessor is not None else None
    report = measurement_report(
        reading, source_study(received), DEVICE, options, predecessor=predecessor
    )
    path = folder / "report.dcm"
    path.write_bytes(encode(report))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_pixelmed_finds_no_error(name, tmp_path):
    """The validator of IHE's AIR tests: no errors, and TID 1500 recognised."""
    path = write_report(tmp_path, CASES[name](), STRICT)

    verdict = pixelmed_sr(path)

    assert verdict.errors == (), verdict.output
    assert "Found Root Template TID_1500" in verdict.output


@pytest.mark.slow
def test_pixelmed_objects_to_nothing_but_the_real_procedure_code(tmp_path):
    """Its copy of CID 100 is of 2022 and knows no plain X-ray; that is all that differs."""
    path = write_report(tmp_path, negative(), Options())

    verdict = pixelmed_sr(path)

    assert "Found Root Template TID_1500" in verdict.output
    assert all("Procedure reported" in error for error in verdict.errors), verdict.output


@pytest.mark.slow
def test_pixelmed_is_able_to_find_an_error(tmp_path):
    """The check above can fail: evaluations are no context of the observation."""
    path = write_report(tmp_path, negative(), STRICT)
    document = parse(path.read_bytes())
    evaluations = document.ContentSequence[-1]
    evaluations.RelationshipType = "HAS OBS CONTEXT"
    path.write_bytes(encode(document))

    assert pixelmed_sr(path).errors


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_dciodvfy_and_dsrdump_find_no_error(name, strict, tmp_path):
    """dicom3tools checks modules and values, DCMTK the tree."""
    path = write_report(tmp_path, CASES[name](), Options(strict_codes=strict))

    assert dciodvfy(path).errors == ()
    assert dsrdump(path).errors == ()


def test_dciodvfy_and_dsrdump_are_able_to_find_an_error(tmp_path):
    """The checks above can fail: without a patient's name, and without the value of a code."""
    path = write_report(tmp_path, negative(), STRICT)
    document = parse(path.read_bytes())
    del document.PatientName
    del document.ContentSequence[0].ConceptCodeSequence
    path.write_bytes(encode(document))

    assert dciodvfy(path).errors
    assert dsrdump(path).errors


@pytest.mark.parametrize("sop_class", [ComprehensiveSRStorage, EnhancedSRStorage])
@pytest.mark.parametrize("name", CASES)
def test_the_older_classes_hold_the_same_content(name, sop_class, tmp_path):
    """A peer that rejects Comprehensive 3D SR gets the next class, as valid as the first."""
    path = write_report(tmp_path, CASES[name](), Options(sop_class=sop_class))

    assert dciodvfy(path).errors == ()
    assert dsrdump(path).errors == ()


@pytest.mark.parametrize("name", IDENTITIES)
def test_a_report_is_valid_in_every_character_set(name, tmp_path):
    """The identity's bytes and the stated character set go together."""
    header = with_identity(make(), IDENTITIES[name])
    case = reading_of(header, image_reading(header, region_reading(header, boxes=(BOX,))))
    path = write_report(tmp_path, (case, [header]), Options())

    assert dciodvfy(path).errors == ()
    assert dsrdump(path).errors == ()


@pytest.mark.parametrize("name", ["several_regions", "one_box"])
def test_an_independent_reader_reads_what_we_meant(name, tmp_path):
    """dcmqi's TID 1500 reader finds our measurements, sites and tracking UIDs."""
    program = Path(sys.executable).with_name("tid1500reader")
    if not program.exists():
        pytest.skip("needs tid1500reader: pip install dcmqi")
    path = write_report(tmp_path, CASES[name](), Options())
    found = tmp_path / "read.json"
    result = run_program([program, "--inputDICOM", path, "--outputMetadata", found])
    assert result.returncode == 0, result.stdout

    groups = json.loads(found.read_text())["Measurements"]

    ours = [n for n in tree(parse(path.read_bytes())).walk() if n.name == "125007"]
    assert [group["TrackingUniqueIdentifier"] for group in groups] == [
        group.one("112040").value for group in ours
    ]
    for group, mine in zip(groups, ours, strict=True):
        assert group["Finding"]["CodeValue"] == "125605004"
        assert group["FindingSite"]["CodeValue"] == mine.one("363698007").value
        (item,) = group["measurementItems"]
        assert item["quantity"]["CodeValue"] == "111012"
        assert float(item["value"]) == mine.one("111012").value[0]


def test_highdicom_reads_what_we_meant(tmp_path):
    """A second reader, which knows planar regions: outline, image and name of each finding."""
    path = write_report(tmp_path, several_regions(), Options())

    content: Any = srread(path).content

    ours = [n for n in tree(parse(path.read_bytes())).all("125007") if n.all("111030")]
    groups = content.get_planar_roi_measurement_groups()
    assert [group.tracking_uid for group in groups] == [n.one("112040").value for n in ours]
    for group, mine in zip(groups, ours, strict=True):
        assert group.roi.value.flatten().tolist() == mine.one("111030").value
        assert group.finding_type.value == "125605004"


@pytest.mark.shared
@pytest.mark.parametrize("name", ["RG3_UNC.dcm", "Fake_MONO1.dcm", "dx_image.dcm"])
def test_reports_of_real_images_are_valid(name, tmp_path):
    """What real devices write into a header does no harm."""
    header = pydicom.dcmread(require_shared(f"dicom/{name}"), stop_before_pixels=True)
    reading = reading_of(
        header, image_reading(header, region_reading(header, Region.LEG, boxes=(BOX,)))
    )
    source = source_study([header])
    path = tmp_path / "report.dcm"
    path.write_bytes(encode(measurement_report(reading, source, DEVICE)))

    assert dciodvfy(path).errors == ()
    assert dsrdump(path).errors == ()
