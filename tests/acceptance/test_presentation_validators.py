"""Presentation states before DCMTK's renderer, which proves their polarity, and two validators."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset

from reports.dataset import encode
from reports.presentation import presentation_states
from reports.source import source_study
from studies.model import Box, ImageReading
from tests.support.dicom_making import ABSENT, make, write
from tests.support.identities import IDENTITIES, with_identity
from tests.support.peers import dciodvfy, require_program, run_program
from tests.support.readings import DEVICE, image_reading, reading_of, region_reading
from tests.support.shared import require_shared

pytestmark = pytest.mark.peer

BOX = Box(left=10, top=20, right=30.5, bottom=44)


def write_state(folder: Path, image: Path, *, inverted: bool = False) -> Path:
    """Write the presentation state of an image with one box."""
    header = pydicom.dcmread(image, stop_before_pixels=True)
    seen: ImageReading = image_reading(header, region_reading(header, boxes=(BOX,)))
    source = source_study([pydicom.dcmread(image, stop_before_pixels=True)])
    (state,) = presentation_states(reading_of(header, seen), source, DEVICE)
    if inverted:
        shape = {"INVERSE": "IDENTITY", "IDENTITY": "INVERSE"}
        state.PresentationLUTShape = shape[state.PresentationLUTShape]
    path = folder / "state.dcm"
    path.write_bytes(encode(state))
    return path


def rendered(image: Path, out: Path, *options: str | Path) -> npt.NDArray[np.float64]:
    """Return an image as dcmp2pgm shows it, 0 black to 255 white."""
    result = run_program([require_program("dcmp2pgm"), *options, image, out])
    assert result.returncode == 0, result.stdout
    return np.asarray(Image.open(out), dtype=np.float64)


IMAGES: dict[str, dict[str, Any]] = {
    "MONOCHROME2": {},
    "MONOCHROME1": {"photometric": "MONOCHROME1"},
    "window": {"WindowCenter": "1500", "WindowWidth": "1000"},
    "window, MONOCHROME1": {
        "photometric": "MONOCHROME1",
        "WindowCenter": "1500",
        "WindowWidth": "1000",
    },
    "sigmoid": {"WindowCenter": "1500", "WindowWidth": "1000", "VOILUTFunction": "SIGMOID"},
    "rescale": {"RescaleSlope": "2", "RescaleIntercept": "-100", "RescaleType": "US"},
    "CR": {"kind": "CR", "spacing_mm": None},
}


@pytest.mark.parametrize("name", IMAGES)
def test_the_image_under_its_state_looks_as_it_did(name, tmp_path):
    """MONOCHROME1 or 2, windowed or not: only the graphics are new."""
    image = write(make(**IMAGES[name]), tmp_path / "image.dcm")
    state = write_state(tmp_path, image)

    with_state = rendered(image, tmp_path / "with.pgm", "-p", state)

    without = rendered(image, tmp_path / "without.pgm")
    assert np.abs(with_state - without).max() <= 1


def test_a_wrong_polarity_is_seen(tmp_path):
    """The check above is able to fail."""
    image = write(make(photometric="MONOCHROME1"), tmp_path / "image.dcm")
    state = write_state(tmp_path, image, inverted=True)

    with_state = rendered(image, tmp_path / "with.pgm", "-p", state)

    without = rendered(image, tmp_path / "without.pgm")
    assert np.abs(with_state - (255 - without)).max() <= 1


@pytest.mark.shared
@pytest.mark.parametrize("name", ["RG3_UNC.dcm", "mlut_18.dcm", "vlut_04.dcm"])
def test_real_images_under_their_state_look_as_they_did(name, tmp_path):
    """Devices' own lookup tables and windows are repeated."""
    image = require_shared(f"dicom/{name}")
    state = write_state(tmp_path, image)

    with_state = rendered(image, tmp_path / "with.pgm", "-p", state)

    without = rendered(image, tmp_path / "without.pgm")
    assert np.abs(with_state - without).max() <= 1


def dcmpschk(state: Path) -> set[str]:
    """Return the attributes that dcmpschk objects to; "" stands for a complaint without one."""
    result = run_program([require_program("dcmpschk"), state])
    if "Test passed" in result.stdout:
        return set()
    return set(re.findall(r"Affected attribute: (\w+)", result.stdout)) or {""}


def _valid_images() -> dict[str, Dataset]:
    images = {name: make(**elements) for name, elements in IMAGES.items()}
    for name, identity in IDENTITIES.items():
        images[f"name {name}"] = with_identity(make(), identity)
    images["nameless"] = make(PatientID=ABSENT, PatientSex=b"X", laterality="")
    return images


@pytest.mark.parametrize("name", _valid_images())
def test_dciodvfy_and_dcmpschk_find_no_error(name, tmp_path):
    """Modules, values, and what a presentation state needs to be shown."""
    image = write(_valid_images()[name], tmp_path / "image.dcm")
    state = write_state(tmp_path, image)

    complaints = dcmpschk(state)

    assert dciodvfy(state).errors == ()
    # DCMTK 3.6 takes the bytes of UTF-8 between 0x80 and 0x9F for control characters.
    utf_8 = b"ISO_IR 192" in state.read_bytes()
    assert complaints <= ({"PatientName"} if utf_8 else set())


def test_the_validators_are_able_to_find_an_error(tmp_path):
    """The check above can fail: a state must say what part of the image it shows."""
    image = write(make(), tmp_path / "image.dcm")
    path = write_state(tmp_path, image)
    state = pydicom.dcmread(path)
    del state.DisplayedAreaSelectionSequence
    path.write_bytes(encode(state))

    assert dciodvfy(path).errors
    assert dcmpschk(path)
