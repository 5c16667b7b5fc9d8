"""Every strange file that a hospital sends: each ends where it should, and the node goes on."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from osteon.samples import packaged_radiograph
from osteon.wrapping import uid_from
from studies.model import Status
from tests.support.dicom_making import override, write
from tests.support.peers import require_program, run_program
from tests.support.shared import require_shared
from tests.support.up_node import Up, node_with_pacs
from tests.support.waiting import wait_until

READ = (Status.READ, Status.REPORTED)
REFUSED = (Status.NOT_ANALYSED,)
REAL_LEG = "RG3_UNCR.dcm"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One node for all of them: what the first does to it, the others would see."""
    with node_with_pacs(tmp_path_factory.mktemp("strange")) as up, up.start() as running:
        yield up
        assert running.is_running()


def outcome(node: Up, dataset: Dataset, name: str, statuses: tuple[Status, ...]) -> str:
    """Send a file of its own study; return the reason once it stands in one of these states."""
    path = write(dataset, node.folder / f"{name}.dcm")
    node.send(path)
    uid = str(dataset.StudyInstanceUID)
    final = (*READ, *REFUSED, Status.FAILED, Status.QUARANTINED)
    study = wait_until(
        lambda: s if (s := node.study(uid)).status in final else None, 120, f"the end of {name}"
    )
    assert study is not None
    assert study.status in statuses, f"{name}: {study.status} {study.reason}"
    wait_until(lambda: uid in node.reported(), 60, f"the report on {name}")
    return study.reason or ""


def of_its_own(path: Path, name: str = "") -> Dataset:
    """A file with new UIDs, so that samples of one image do not contradict each other."""
    dataset = dcmread(path)
    dataset.StudyInstanceUID = uid_from(f"study {name or path.name}")
    dataset.SOPInstanceUID = uid_from(f"instance {name or path.name}")
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


@pytest.mark.parametrize("syntax", ["UNC", "RLE", "J2KR", "J2KI", "JLSL", "JLSN", "JPLL"])
def test_a_real_leg_is_read_in_every_syntax(node: Up, syntax: str):
    """The same radiograph, compressed in seven ways."""
    dataset = of_its_own(require_shared(f"dicom/RG3_{syntax}.dcm"))

    assert outcome(node, dataset, f"RG3_{syntax}", READ) == ""


# One of the samples has a UID that is none; pydicom warns when we write it.
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("RG3_JPLY", "no decoder"),
        ("RG1_JLSN", "CHEST"),
        ("CR-ModalitySequenceLUT", "TEETH"),
        ("dx_image", "THORAX"),
        ("Fake_MONO1", "CHEST"),
        ("SC1_JPLL", "modality CT"),
        ("SC1_JLSN", "modality CT"),
        ("HasFragmentSequence", "96 frames"),
        ("SC_rgb", "colour"),
        ("mlut_18", "limb"),
        ("vlut_04", "limb"),
    ],
)
def test_what_is_no_limb_radiograph_is_not_analysed(node: Up, file: str, reason: str):
    """Each with the reason that a person understands; none of them looks like negative."""
    dataset = of_its_own(require_shared(f"dicom/{file}.dcm"))

    assert reason in outcome(node, dataset, file, REFUSED)


@pytest.mark.parametrize(
    "file",
    ["bad_sequence", "explicit_VR-UN", "sr/reportsi", "sr/highdicom_sr_document", "sr/fo_test_SR"],
)
def test_other_kinds_of_object_are_refused_by_their_context(node: Up, file: str):
    """CT images and structured reports are not for us: the sender is told at once."""
    path = require_shared(f"dicom/{file}.dcm")
    sent = run_program(
        [require_program("storescu"), "-R", "-aec", "OSTEON", "127.0.0.1", node.port, path]
    )

    assert sent.returncode != 0, sent.stdout
    echo = [require_program("echoscu"), "-aec", "OSTEON", "127.0.0.1", node.port]
    assert run_program(echo).returncode == 0


JAPANESE = "山田^太郎".encode("iso2022_jp")


@pytest.mark.parametrize(
    ("name", "elements"),
    [
        ("sex", {"PatientSex": b"X "}),
        (
            "charset",
            {"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "PatientName": JAPANESE},
        ),
        ("no-window", {"WindowCenter": "2048", "WindowWidth": "0"}),
        ("half-window", {"WindowCenter": "2048", "WindowWidth": None}),
        ("comma", {"WindowCenter": b"550,5 ", "WindowWidth": b"900,0 "}),
        ("function", {"VOILUTFunction": "WONDERFUL"}),
        ("date", {"StudyDate": b"2004.08.26", "StudyTime": b"10:11:12"}),
        ("no-name", {"PatientName": None, "PatientID": None, "AccessionNumber": None}),
        ("eight-bit", {"SpecificCharacterSet": None, "PatientName": b"M\xfcller^\xc4nne "}),
    ],
)
def test_a_sloppy_header_costs_no_study_its_report(node: Up, name: str, elements: dict[str, Any]):
    """Section by section, what real senders get wrong."""
    dataset = override(of_its_own(packaged_radiograph(REAL_LEG), name), **elements)

    assert outcome(node, dataset, name, READ) == ""


def test_pixels_that_are_cut_short_are_not_analysed(node: Up):
    """Half of the pixel data is missing: the header says more than there is."""
    dataset = of_its_own(packaged_radiograph(REAL_LEG), "cut")
    dataset.PixelData = dataset.PixelData[: len(dataset.PixelData) // 4 * 2]

    assert "the pixels cannot be read" in outcome(node, dataset, "cut", REFUSED)


def test_the_same_uid_with_other_pixels_is_refused_and_kept_aside(node: Up):
    """Success is refused; the first image stays, and its study is not touched."""
    first = of_its_own(packaged_radiograph(REAL_LEG), "twice")
    outcome(node, first, "twice", READ)
    second = of_its_own(packaged_radiograph(REAL_LEG), "twice")
    second.PixelData = bytes(len(second.PixelData))
    path = write(second, node.folder / "twice-again.dcm")
    told = node.offer(path)

    assert re.search(r"with status ERROR\s*: 1", told), told
    assert len(list((node.data / "quarantine").rglob("*.dcm"))) == 1
    assert node.study(str(first.StudyInstanceUID)).instances == 1
