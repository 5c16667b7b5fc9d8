"""The demo's radiographs: two real ones that come with pydicom-data, and four that we draw.

Nothing is downloaded: pydicom-data is a package that the installation has put on the disk, and
only its files are looked at. What we draw says so in every place where a reader may look.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from pydicom.dataset import Dataset

from osteon.drawing import Break, Scene, forearm, hand, knee, lower_leg, render
from osteon.wrapping import uid_from, wrap
from studies.errors import ConfigurationError


class Expected(StrEnum):
    """What should become of a sample."""

    READ = "read"
    NOT_ANALYSED = "not analysed"
    EITHER = "either"  # a drawing: a model may rightly say that it is no radiograph


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One sample file.

    Attributes
    ----------
    path
        DICOM Part 10 file.
    what
        What it shows, for the person who watches the demo.
    expected
        What should become of it.
    synthetic
        True if we have drawn it.
    """

    path: Path
    what: str
    expected: Expected
    synthetic: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class _Real:
    source: str
    name: str
    what: str
    expected: Expected


@dataclass(frozen=True, kw_only=True, slots=True)
class _Drawn:
    name: str
    what: str
    scene: Callable[[], Scene]
    body_part: str
    laterality: str
    view: str
    photometric: str = "MONOCHROME2"


_REAL: Final = (
    _Real(
        source="RG3_UNCR.dcm",
        name="real-lower-leg.dcm",
        what="a real lower leg (distal tibia with a non-ossifying fibroma), MONOCHROME1",
        expected=Expected.READ,
    ),
    _Real(
        source="RG1_J2KR.dcm",
        name="real-chest.dcm",
        what="a real chest, in JPEG 2000: no model may read it",
        expected=Expected.NOT_ANALYSED,
    ),
)

_DRAWN: Final = (
    _Drawn(
        name="drawn-hand.dcm",
        what="a drawn hand",
        scene=hand,
        body_part="HAND",
        laterality="L",
        view="PA",
    ),
    _Drawn(
        name="drawn-forearm-fracture.dcm",
        what="a drawn forearm with a broken, displaced radius",
        scene=lambda: forearm(fracture=Break(at=0.62, shift_mm=4.0, slope=0.3)),
        body_part="FOREARM",
        laterality="L",
        view="AP",
    ),
    _Drawn(
        name="drawn-knee.dcm",
        what="a drawn knee",
        scene=knee,
        body_part="KNEE",
        laterality="R",
        view="AP",
    ),
    _Drawn(
        name="drawn-lower-leg-fracture.dcm",
        what="a drawn lower leg with an oblique fracture of the tibia, MONOCHROME1",
        scene=lambda: lower_leg(fracture=Break(at=0.6, shift_mm=5.0, gap_mm=1.6, slope=0.9)),
        body_part="LEG",
        laterality="R",
        view="AP",
        photometric="MONOCHROME1",
    ),
)

_SPACING_MM: Final = 0.2
_BITS: Final = 12
_DATE: Final = "20260101"


def write_samples(directory: Path) -> list[Sample]:
    """Write all samples into a directory, made if need be; the same files every time.

    Raises
    ------
    ConfigurationError
        If the package pydicom-data is not installed, or lacks a file.
    """
    directory.mkdir(parents=True, exist_ok=True)
    samples = []
    for real in _REAL:
        path = directory / real.name
        shutil.copyfile(packaged_radiograph(real.source), path)
        samples.append(Sample(path=path, what=real.what, expected=real.expected, synthetic=False))
    for number, drawn in enumerate(_DRAWN, start=1):
        path = directory / drawn.name
        drawn_radiograph(drawn, number).save_as(path, enforce_file_format=True)
        samples.append(Sample(path=path, what=drawn.what, expected=Expected.EITHER, synthetic=True))
    return samples


def packaged_radiograph(name: str) -> Path:
    """Return the path of a file inside the installed package pydicom-data.

    Found without pydicom's own finder, which goes to the network for what it does not know.
    """
    package = importlib.util.find_spec("data_store")  # The module that pydicom-data installs.
    for folder in (package.submodule_search_locations or []) if package else []:
        path = Path(folder) / "data" / name
        if path.is_file():
            return path
    raise ConfigurationError(f"{name} is missing: pip install pydicom-data")


def drawn_radiograph(drawn: _Drawn, number: int) -> Dataset:
    """Return a drawing as DX For Presentation, of a patient who does not exist."""
    pixels = render(drawn.scene(), spacing_mm=_SPACING_MM, bits=_BITS)
    if drawn.photometric == "MONOCHROME1":
        pixels = ((1 << _BITS) - 1) - pixels
    # The digest of the pixels is in the UID: should a drawing ever come out differently, it is
    # another instance and no conflict.
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    ds = wrap(
        pixels,
        seed=f"osteon-demo/{drawn.name}/{digest}",
        photometric=drawn.photometric,
        bits_stored=_BITS,
        body_part=drawn.body_part,
        laterality=drawn.laterality,
        spacing_mm=_SPACING_MM,
    )
    ds.StudyInstanceUID = uid_from("study", "osteon-demo", drawn.name)
    ds.PatientName = f"DEMO^{drawn.body_part.title()}"
    ds.PatientID = f"OSTEON-DEMO-{number}"
    ds.PatientSex = "O"
    ds.PatientComments = "Synthetic: drawn by Osteon, there is no such person"
    ds.StudyID = f"DEMO{number}"
    ds.AccessionNumber = f"DEMO{number}"
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = _DATE
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = f"12{number:02d}00"
    ds.StudyDescription = f"Synthetic {drawn.body_part.lower()} (drawn, not exposed)"
    ds.SeriesDescription = f"{drawn.body_part.title()} {drawn.view} (drawn)"
    ds.ImageComments = f"Synthetic: {drawn.what}"
    ds.ImageType = ["DERIVED", "PRIMARY"]
    ds.DerivationDescription = "Drawn by Osteon for demonstration; not made from an exposure"
    ds.ManufacturerModelName = "Drawing"
    ds.ViewPosition = drawn.view
    ds.PatientOrientation = ["L", "F"]
    return ds
