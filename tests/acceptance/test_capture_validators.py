"""Captures before dicom3tools and DCMTK."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset

from reports.capture import annotated_copies, summary_page
from reports.dataset import encode
from reports.source import source_study
from studies.model import Box, Region
from tests.support.dicom_making import ABSENT, make
from tests.support.identities import IDENTITIES, with_identity
from tests.support.peers import dciodvfy, require_program, run_program
from tests.support.readings import DEVICE, image_reading, reading_of, region_reading
from tests.support.sr_trees import parse

pytestmark = pytest.mark.peer

BOX = Box(left=10, top=20, right=30.5, bottom=44)


def captures(header: Dataset) -> list[Dataset]:
    """Return the page and the copy of a study with one image."""
    reading = reading_of(
        header,
        image_reading(
            header,
            region_reading(header, boxes=(BOX,)),
            region_reading(header, Region.FOREARM, 0.5, experimental=True),
        ),
    )
    source = source_study([header])
    picture = np.linspace(0, 1, header.Rows * header.Columns, dtype=np.float32)
    pictures = {header.SOPInstanceUID: picture.reshape(header.Rows, header.Columns)}
    return [
        summary_page(reading, source, DEVICE, pictures),
        *annotated_copies(reading, source, DEVICE, pictures),
    ]


IMAGES = {
    "DX": make(),
    "CR": make(kind="CR", photometric="MONOCHROME1", spacing_mm=None),
    "lossy": make(
        LossyImageCompression="01",
        LossyImageCompressionRatio="12",
        LossyImageCompressionMethod="ISO_10918_1",
    ),
    "nameless": make(PatientID=ABSENT, PatientSex=b"X", laterality=""),
    **{name: with_identity(make(), identity) for name, identity in IDENTITIES.items()},
}


@pytest.mark.parametrize("name", IMAGES)
def test_dciodvfy_finds_no_error(name, tmp_path):
    """Page and copy, for every kind of source and character set."""
    for number, capture in enumerate(captures(IMAGES[name])):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(encode(capture))

        assert dciodvfy(path).errors == ()


def test_dciodvfy_is_able_to_find_an_error(tmp_path):
    """The check above can fail: a capture must say how it was converted."""
    capture, _ = captures(IMAGES["DX"])
    del capture.ConversionType
    path = tmp_path / "bad.dcm"
    path.write_bytes(encode(capture))

    assert dciodvfy(path).errors


def test_dcmtk_shows_the_pixels_that_we_drew(tmp_path: Path):
    """Another reader sees the same colours."""
    capture, _ = captures(IMAGES["DX"])
    path, out = tmp_path / "capture.dcm", tmp_path / "capture.ppm"
    path.write_bytes(encode(capture))
    result = run_program([require_program("dcm2pnm"), path, out])
    assert result.returncode == 0, result.stdout

    shown = np.asarray(Image.open(out))

    assert np.array_equal(shown, parse(path.read_bytes()).pixel_array)
