"""Which images a model may be asked about, by their attributes alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from tests.support.dicom_making import ABSENT, make, picture
from tests.support.shared import require_shared
from worker.eligibility import why_not_analysed

LARGE = picture(160, 120)


@pytest.mark.parametrize("kind", ["CR", "DX", "RF", "XA", "SC"])
def test_a_single_grey_frame_of_a_radiograph_may_be_read(kind: str) -> None:
    """The classes that we accept over the network."""
    assert why_not_analysed(make(LARGE, kind=kind)) is None


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"kind": "CT"}, "CT Image Storage"),
        ({"kind": "DX-PROCESSING"}, "For Processing"),
        ({"kind": "SC", "Modality": "MR"}, "modality MR"),
        ({"kind": "DX", "Modality": "MG"}, "modality MG"),
        ({"kind": "DX", "SOPClassUID": ABSENT}, "unknown SOP class"),
        ({"kind": "XA", "NumberOfFrames": "96"}, "96 frames"),
        ({"kind": "SC", "PhotometricInterpretation": "PALETTE COLOR"}, "palette"),
        ({"kind": "DX", "Rows": 40}, "too small"),
    ],
)
def test_anything_else_is_refused_with_its_reason(arguments: dict[str, Any], reason: str) -> None:
    """The reason completes "not analysed, because …"."""
    assert reason in (why_not_analysed(make(LARGE, **arguments)) or "")


def test_a_colour_capture_may_be_read_only_where_that_is_allowed() -> None:
    """A setting decides, not the file."""
    rgb = np.zeros((160, 120, 3), dtype=np.uint8)
    ds = make(rgb, kind="SC", photometric="RGB")

    assert why_not_analysed(ds) == "the image is in colour"
    assert why_not_analysed(ds, allow_colour=True) is None


@pytest.mark.parametrize("frames", ["1", "0", b"x ", ABSENT, None])
def test_a_senseless_number_of_frames_is_one(frames: object) -> None:
    """Single-frame images often say 1, sometimes nothing useful."""
    assert why_not_analysed(make(LARGE, NumberOfFrames=frames)) is None


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("RG3_UNC", None),
        ("RG1_JLSN", None),  # A chest: for the router to say.
        ("HasFragmentSequence", "96 frames"),
        ("SC1_JPLL", "modality CT"),
        ("SC1_JLSN", "modality CT"),
        ("SC_rgb", "colour"),
        ("bad_sequence", "CT Image Storage"),
        ("explicit_VR-UN", "CT Image Storage"),
        ("sr/reportsi", "not a radiograph"),
    ],
)
def test_real_files_are_sorted_rightly(name: str, reason: str | None) -> None:
    """As the folder of real files says of each."""
    found = why_not_analysed(dcmread(require_shared(f"dicom/{name}.dcm"), stop_before_pixels=True))

    assert found == reason if reason is None else reason in (found or "")
