"""The demo's radiographs: real ones from an installed package, and drawings that say so."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import DigitalXRayImageStorageForPresentation

from osteon.drawing import Break, forearm, lower_leg, render
from osteon.samples import Expected, Sample, packaged_radiograph, write_samples
from studies.errors import ConfigurationError
from tests.support.peers import dciodvfy, isolated, require_program
from tests.support.shared import PROJECT_ROOT
from worker.eligibility import why_not_analysed
from worker.pixels import read_dicom


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    return write_samples(tmp_path_factory.mktemp("samples"))


def test_there_is_a_real_limb_a_real_chest_and_drawings(written: list[Sample]) -> None:
    """What the demo shows: something read, something refused, something to look at."""
    real = [sample.expected for sample in written if not sample.synthetic]

    assert real == [Expected.READ, Expected.NOT_ANALYSED]
    assert sum(sample.synthetic for sample in written) == 4
    assert all(sample.path.is_file() and sample.what for sample in written)


def test_every_sample_may_be_asked_about_and_shows_a_picture(written: list[Sample]) -> None:
    """Eligible, decodable, with contrast, and nothing odd about the drawings."""
    for sample in written:
        image = read_dicom(sample.path)

        assert why_not_analysed(dcmread(sample.path)) is None
        assert image.pixels.std() > 0.1
        if sample.synthetic:
            assert image.notes == ()
            assert image.spacing is not None


def test_bone_is_bright_in_every_drawing(written: list[Sample]) -> None:
    """Whichever way it is stored: the rim that the collimator covers is the darkest there is."""
    stored = {dcmread(s.path).PhotometricInterpretation for s in written if s.synthetic}

    assert stored == {"MONOCHROME1", "MONOCHROME2"}
    for sample in written:
        if sample.synthetic:
            image = read_dicom(sample.path)
            assert image.pixels[2].max() < 0.1
            assert np.percentile(image.pixels, 99) > 0.8


def test_a_drawing_says_that_nobody_was_exposed(written: list[Sample]) -> None:
    """In the patient's name and ID, the comments, the descriptions: wherever a reader may look."""
    patients = set()
    for sample in written:
        if not sample.synthetic:
            continue
        ds = dcmread(sample.path)
        patients.add(ds.PatientID)

        assert ds.SOPClassUID == DigitalXRayImageStorageForPresentation
        assert str(ds.PatientName).startswith("DEMO^")
        assert ds.PatientID.startswith("OSTEON-DEMO-")
        assert "Synthetic" in ds.PatientComments
        assert "Synthetic" in ds.StudyDescription
        assert "Drawn" in ds.DerivationDescription
    assert len(patients) == 4


def test_writing_twice_gives_the_same_files(written: list[Sample], tmp_path: Path) -> None:
    """Sending twice is then the same instance again, never a conflict."""
    again = write_samples(tmp_path / "new" / "folder")

    assert [s.path.name for s in again] == [s.path.name for s in written]
    for first, second in zip(written, again, strict=True):
        assert first.path.read_bytes() == second.path.read_bytes()


def test_all_samples_are_different_studies(written: list[Sample]) -> None:
    """One row each in the table of results."""
    studies = {dcmread(sample.path).StudyInstanceUID for sample in written}

    assert len(studies) == len(written)


@pytest.mark.peer
def test_the_drawings_are_valid_dicom(written: list[Sample]) -> None:
    """dciodvfy finds no error in any of them."""
    for sample in written:
        if sample.synthetic:
            assert dciodvfy(sample.path).errors == ()


@pytest.mark.peer
def test_the_samples_need_no_network(tmp_path: Path) -> None:
    """In a network of its own, where nothing answers, they are written all the same."""
    require_program("ip")
    code = (
        "import json, sys; from pathlib import Path; from osteon.samples import write_samples; "
        "print(json.dumps([s.path.name for s in write_samples(Path(sys.argv[1]))]))"
    )
    result = subprocess.run(
        isolated([sys.executable, "-c", code, str(tmp_path)]),
        capture_output=True,
        text=True,
        cwd=PROJECT_ROOT,
        env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT), "HOME": str(tmp_path)},
        check=True,
    )

    assert len(json.loads(result.stdout)) == 6
    assert not (tmp_path / ".pydicom").exists()  # Where pydicom would keep what it downloads.


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the line that installs it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    with pytest.raises(ConfigurationError, match="pip install pydicom-data"):
        packaged_radiograph("RG3_UNCR.dcm")


@pytest.mark.parametrize("scene", [forearm, lower_leg])
def test_a_fracture_changes_the_bone_and_nothing_else(scene: object) -> None:
    """Above the break the picture stays as it was but for the exposure; below, bone has moved."""
    assert callable(scene)
    whole = render(scene()).astype(float)

    broken = render(scene(fracture=Break(at=0.6, shift_mm=5.0))).astype(float)

    change = np.abs(broken - whole) > 400
    rows = np.flatnonzero(change.any(axis=1))
    assert change.mean() > 0.005
    assert rows[0] > 0.45 * whole.shape[0]
