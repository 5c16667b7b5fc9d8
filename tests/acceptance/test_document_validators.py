"""Text reports and key object selections before PixelMed, dicom3tools and DCMTK; all objects together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from reports.basic_text import basic_text_report
from reports.capture import annotated_copies, summary_page
from reports.dataset import encode
from reports.key_objects import key_objects
from reports.presentation import presentation_states
from reports.source import source_study
from reports.sr import measurement_report
from studies.model import Box, Region
from tests.support.dicom_making import make, to_bytes
from tests.support.identities import IDENTITIES, with_identity
from tests.support.peers import dciodvfy, dsrdump, pixelmed_sr, require_program, run_program
from tests.support.readings import DEVICE, image_reading, reading_of, region_reading
from tests.support.sr_trees import parse

pytestmark = pytest.mark.peer

BOX = Box(left=10, top=20, right=30.5, bottom=44)


def headers_of(identity: str) -> list[Dataset]:
    """Return a study of three images."""
    return [with_identity(make(seed=f"s/{n}"), IDENTITIES[identity]) for n in range(3)]


def objects_of(identity: str) -> dict[str, Dataset]:
    """Return every object that a positive study gives."""
    headers = headers_of(identity)
    hand, elbow, chest = headers
    reading = reading_of(
        hand,
        image_reading(hand, region_reading(hand, boxes=(BOX,))),
        image_reading(elbow, region_reading(elbow, Region.ELBOW, 0.5, experimental=True)),
        image_reading(chest, not_analysed="a chest is no limb", laterality=None),
    )
    source = source_study(headers)
    pictures = {h.SOPInstanceUID: np.zeros((h.Rows, h.Columns), np.float32) for h in headers[:2]}
    report = measurement_report(reading, source, DEVICE)
    states = presentation_states(reading, source, DEVICE)
    captures = [
        summary_page(reading, source, DEVICE, pictures),
        *annotated_copies(reading, source, DEVICE, pictures),
    ]
    selection = key_objects(
        reading, source, DEVICE, report=report, states=states, captures=captures
    )
    assert selection is not None
    named = {
        "text": basic_text_report(reading, source, DEVICE),
        "selection": selection,
        "report": report,
    }
    named |= {f"state {n}": state for n, state in enumerate(states)}
    return named | {f"capture {n}": capture for n, capture in enumerate(captures)}


def write(folder: Path, name: str, made: Dataset) -> Path:
    """Write an object and return its path."""
    path = folder / f"{name.replace(' ', '-')}.dcm"
    path.write_bytes(encode(made))
    return path


@pytest.mark.slow
@pytest.mark.parametrize(("name", "template"), [("text", "TID_2000"), ("selection", "TID_2010")])
def test_pixelmed_finds_no_error(name, template, tmp_path):
    """No errors, and the template recognised."""
    verdict = pixelmed_sr(write(tmp_path, name, objects_of("japanese-87")[name]))

    assert verdict.errors == (), verdict.output
    assert f"Found Root Template {template}" in verdict.output


@pytest.mark.parametrize("identity", IDENTITIES)
@pytest.mark.parametrize("name", ["text", "selection"])
def test_dciodvfy_and_dsrdump_find_no_error(name, identity, tmp_path):
    """In every character set."""
    path = write(tmp_path, name, objects_of(identity)[name])

    assert dciodvfy(path).errors == ()
    assert dsrdump(path).errors == ()


def _entity_errors(paths: list[Path]) -> list[str]:
    result = run_program([require_program("dcentvfy"), *paths])
    return [line for line in result.stdout.splitlines() if line.startswith("Error")]


@pytest.mark.parametrize("identity", ["ascii", "latin-1", "japanese-87"])
def test_images_and_objects_are_of_one_patient_and_one_study(identity, tmp_path):
    """dcentvfy compares what objects say of the same patient, study and series."""
    paths = []
    for number, header in enumerate(headers_of(identity)):
        path = tmp_path / f"image{number}.dcm"
        path.write_bytes(to_bytes(header))
        paths.append(path)
    paths += [write(tmp_path, name, made) for name, made in objects_of(identity).items()]

    assert _entity_errors(paths) == []


def test_dcentvfy_is_able_to_find_an_error(tmp_path):
    """The check above can fail: the same study under another name."""
    made = objects_of("ascii")
    first, second = (write(tmp_path, name, made[name]) for name in ("text", "report"))
    other = parse(second.read_bytes())
    other.PatientName = "Another^Patient"
    second.write_bytes(encode(other))

    assert _entity_errors([first, second])
