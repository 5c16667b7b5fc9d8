"""Our pictures against DCMTK's renderer, an implementation that shares nothing with ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tests.support.dicom_making import ABSENT, make, picture, write
from tests.support.peers import require_program, run_program
from tests.support.shared import require_shared
from worker.pixels import DisplayedImage, read_dicom

pytestmark = pytest.mark.peer

_JPEG_LS = ("RG1_JLSN", "RG3_JLSL", "RG3_JLSN", "SC1_JLSN")


def rendered(path: Path, tmp_path: Path, *options: str) -> npt.NDArray[np.float64]:
    """What DCMTK shows of a file, 0 to 255."""
    tool = "dcml2pnm" if path.stem in _JPEG_LS else "dcmj2pnm"
    output = tmp_path / "rendered.png"
    result = run_program([require_program(tool), "+on", "-O", *options, path, output])
    assert result.returncode == 0, result.stdout
    return np.asarray(Image.open(output), dtype=np.float64)


def ours(image: DisplayedImage) -> npt.NDArray[np.float64]:
    """What we show, as the whole grey levels of an 8-bit display."""
    return np.rint(image.pixels.astype(np.float64) * 255)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("RG3_UNC", ["+Wi", "1"]),
        ("RG3_RLE", ["+Wi", "1"]),
        ("RG3_JPLL", ["+Wi", "1"]),
        ("RG3_JLSL", ["+Wi", "1"]),
        ("RG3_JLSN", ["+Wi", "1"]),
        ("RG1_JLSN", ["+Wi", "1"]),
        ("dx_image", ["+Wi", "1"]),
        ("bad_sequence", ["+Wi", "1"]),
        ("Fake_MONO1", []),
        ("vlut_04", ["+Wl", "1"]),
        ("mlut_18", ["+Wm"]),
        ("CR-ModalitySequenceLUT", ["+Wm"]),
        ("SC1_JPLL", ["+Wm"]),
        ("SC1_JLSN", ["+Wm"]),
    ],
)
def test_a_real_file_looks_as_in_dcmtk(name: str, options: list[str], tmp_path: Path) -> None:
    """Real files, MONOCHROME1, Modality and VOI LUTs among them, agree within one grey level."""
    path = require_shared(f"dicom/{name}.dcm")
    theirs = rendered(path, tmp_path, *options)

    image = read_dicom(path, percentiles=(0.0, 100.0))

    assert image.pixels.shape == theirs.shape
    assert theirs.std() > 5  # A blank page would agree with a blank page.
    assert np.abs(ours(image) - theirs).max() <= 1.0


@pytest.mark.shared
def test_jpeg_2000_looks_as_the_uncompressed_file_in_dcmtk(tmp_path: Path) -> None:
    """DCMTK has no JPEG 2000, but the lossless file holds the picture of the uncompressed one."""
    theirs = rendered(require_shared("dicom/RG3_UNC.dcm"), tmp_path, "+Wi", "1")

    image = read_dicom(require_shared("dicom/RG3_J2KR.dcm"))

    assert np.abs(ours(image) - theirs).max() <= 1.0


@pytest.mark.parametrize("shape", ["IDENTITY", "INVERSE", "LIN OD", ABSENT])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_polarity_is_that_of_dcmtk(photometric: str, shape: object, tmp_path: Path) -> None:
    """Whatever PhotometricInterpretation and PresentationLUTShape say together."""
    ds = make(photometric=photometric, PresentationLUTShape=shape)
    path = write(ds, tmp_path / "a.dcm")
    theirs = rendered(path, tmp_path, "+Wi", "1")

    image = read_dicom(path)

    assert np.abs(ours(image) - theirs).max() <= 1.0


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(
    ("function", "center", "width"),
    [
        ("LINEAR", "1500", "2000"),
        ("LINEAR", "-20", "3000"),
        ("LINEAR", "100.5", "1"),
        # No narrow sigmoid: DCMTK rounds the rescaled values to integers, which shows there.
        ("SIGMOID", "1500", "2000"),
        ("SIGMOID", "-20", "3000"),
    ],
)
def test_a_window_is_that_of_dcmtk(
    function: str, signed: bool, center: str, width: str, tmp_path: Path
) -> None:
    """Signed or not, narrow or wide, linear or sigmoid, with a rescale before it."""
    pixels = picture().astype(np.int16) - 2048 if signed else picture()
    ds = make(
        pixels,
        WindowCenter=center,
        WindowWidth=width,
        VOILUTFunction=function,
        RescaleSlope="1.25",
        RescaleIntercept="-300",
    )
    path = write(ds, tmp_path / "a.dcm")
    theirs = rendered(path, tmp_path, "+Wi", "1", *(["+Wfs"] if function == "SIGMOID" else []))

    image = read_dicom(path)

    assert np.abs(ours(image) - theirs).max() <= 1.0


def test_bits_above_those_stored_are_masked_as_in_dcmtk(tmp_path: Path) -> None:
    """An overlay in the upper bits must not turn into white pixels."""
    pixels = picture()
    pixels[10:20, 10:20] |= 0x8000
    path = write(make(pixels), tmp_path / "a.dcm")
    theirs = rendered(path, tmp_path, "+Wi", "1")

    image = read_dicom(path)

    assert np.abs(ours(image) - theirs).max() <= 1.0
    assert np.array_equal(image.pixels, read_dicom(write(make(), tmp_path / "b.dcm")).pixels)
