"""One image, from its file to what the models say of it: DICOM, PNG and JPEG, without a database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from studies.errors import UnreadablePixels
from studies.model import Band, Laterality, Region
from studies.settings import Settings
from tests.support.dicom_making import ABSENT, picture, write
from tests.support.reading import radiograph
from tests.support.tiny_models import tiny_models
from worker.analysis import Analyst
from worker.heat_maps import decode_heat_maps


def analyst(folder: Path, *, changed: dict[str, Any] | None = None, **models: Any) -> Analyst:
    """An analyst on tiny models in a folder of their own."""
    if not (folder / "models").exists():
        tiny_models(folder / "models", **models)
    values = {"data_dir": folder / "data", "models_dir": folder / "models", "device": "cpu"}
    return Analyst.open(Settings.model_validate({**values, **(changed or {})}))


@pytest.mark.parametrize("through_trunk", [True, False])
def test_a_radiograph_is_read_by_its_regions_model(tmp_path, through_trunk):
    """The router sees a hand, its model a fracture, in pixels of the stored image."""
    path = write(radiograph(), tmp_path / "hand.dcm")

    analysis = analyst(tmp_path, through_trunk=through_trunk).analyse(path)

    image = analysis.image
    assert image.not_analysed is None
    assert (image.rows, image.columns, image.laterality) == (240, 160, Laterality.LEFT)
    assert [score.region for score in image.regions] == [Region.HAND_WRIST, Region.LEG]
    (reading,) = image.readings
    assert (reading.region, reading.band) == (Region.HAND_WRIST, Band.POSITIVE)
    (finding,) = reading.findings
    assert finding.box is not None
    assert finding.box == finding.box.clipped(160, 240)
    assert analysis.heat_maps is not None
    maps = decode_heat_maps(analysis.heat_maps)
    assert set(maps) == {Region.HAND_WRIST}
    assert maps[Region.HAND_WRIST].values[1, 1] == 5.0
    left, top, right, bottom = maps[Region.HAND_WRIST].edges
    assert (left <= 0, right >= 160) == (True, True)
    assert (top <= 0, bottom >= 240) == (True, True)


def test_the_same_image_gives_the_same_answer(tmp_path):
    """Names of findings, boxes and heat maps included."""
    path = write(radiograph(), tmp_path / "hand.dcm")
    reader = analyst(tmp_path)
    first, second = reader.analyse(path), reader.analyse(path)

    assert first.heat_maps == second.heat_maps
    assert first.image.readings == second.image.readings


@pytest.mark.parametrize(
    ("elements", "models", "reason"),
    [
        ({"body_part": "CHEST"}, {}, "says CHEST, which is not a limb"),
        ({}, {"limb_logit": -4.0}, "does not look like a radiograph of a limb"),
        (
            {"body_part": "EXTREMITY"},
            {"region_logits": (-6.0, -5.0)},
            "no limb region is recognised (likeliest: leg, 0.01)",
        ),
        ({"body_part": ""}, {"bones": ["leg"]}, "region hand_wrist: no active model"),
        (
            {"body_part": ""},
            {"experimental": True},
            "region hand_wrist: its model is experimental and switched off",
        ),
        ({"kind": "DX-PROCESSING"}, {}, "For Processing"),
        ({"kind": "CT"}, {}, "is not a radiograph"),
        ({"PixelData": b"\0\0"}, {}, "the pixels cannot be read"),
        ({"body_part": ""}, {"fracture_logit": float("nan")}, "gives no number for fracture_logit"),
    ],
)
def test_an_image_that_no_model_may_read_says_why(tmp_path, elements, models, reason):
    """Never as a negative reading."""
    path = write(radiograph(**elements), tmp_path / "image.dcm")
    if "nan" in str(models):
        tiny_models(tmp_path / "models")
        reader = _with_nan(analyst(tmp_path))
    else:
        reader = analyst(tmp_path, **models)

    image = reader.read_file(path)

    assert image.not_analysed is not None
    assert reason in image.not_analysed
    assert image.readings == ()
    assert image.band is None


def _with_nan(reader: Analyst) -> Analyst:
    """An analyst whose hand model gives no number (its golden image was in order)."""
    model = reader._models.bones[Region.HAND_WRIST]

    class Broken:
        def __getattr__(self, name: str) -> Any:
            return getattr(model, name)

        def run(self, inputs: Any) -> Any:
            return {**model.run(inputs), "fracture_logit": np.array([[np.nan]], np.float32)}

    bones: Any = {Region.HAND_WRIST: Broken()}
    object.__setattr__(reader._models, "bones", bones)
    return reader


def test_free_text_refuses_only_where_the_router_is_in_doubt(tmp_path):
    """A study's description may be about its neighbour; a sure picture goes first, and says so."""
    words: dict[str, Any] = {
        "body_part": "",
        "ProtocolName": "Chest PA",
        "StudyDescription": ABSENT,
    }
    path = write(radiograph(**words), tmp_path / "image.dcm")
    sure = analyst(tmp_path / "sure").read_file(path)
    torn = analyst(tmp_path / "torn", limb_logit=0.0).read_file(path)

    assert sure.not_analysed is None
    assert "ProtocolName says CHEST, the picture shows a limb beyond doubt" in sure.notes
    assert torn.not_analysed is not None
    assert "ProtocolName says CHEST" in torn.not_analysed


def test_a_region_that_the_file_names_is_read_unless_the_picture_contradicts(tmp_path):
    """And the conflict is shown either way."""
    path = write(radiograph(body_part="LEG"), tmp_path / "image.dcm")
    believed = analyst(tmp_path / "believed", region_logits=(4.0, -3.0)).read_file(path)
    contradicted = analyst(tmp_path / "contradicted", region_logits=(4.0, -6.0)).read_file(path)

    assert [r.region for r in believed.readings] == [Region.HAND_WRIST, Region.LEG]
    assert "the file names the leg, the router gives it 0.05" in believed.notes
    assert [r.region for r in contradicted.readings] == [Region.HAND_WRIST]
    assert "the router gives it 0.00 and it is not read" in " ".join(contradicted.notes)


def test_a_region_in_view_that_is_not_read_is_named(tmp_path):
    """The reader must not take silence for health."""
    path = write(radiograph(body_part=""), tmp_path / "image.dcm")
    image = analyst(tmp_path, region_logits=(4.0, 4.0), bones=["leg"]).read_file(path)

    assert [r.region for r in image.readings] == [Region.LEG]
    assert "region hand_wrist: no active model" in image.notes


def test_a_box_from_a_heat_map_says_so(tmp_path):
    """It is coarser than a box that was learned."""
    path = write(radiograph(), tmp_path / "image.dcm")
    image = analyst(tmp_path, box=None).read_file(path)

    assert len(image.readings[0].findings) == 1
    assert "the box of the hand_wrist is the heat map's highest part" in image.notes


def test_a_negative_region_has_no_findings(tmp_path):
    """Whatever boxes the model gives."""
    path = write(radiograph(), tmp_path / "image.dcm")
    (reading,) = analyst(tmp_path, fracture_logit=-4.0).read_file(path).readings

    assert (reading.band, reading.findings) == (Band.NEGATIVE, ())


@pytest.mark.parametrize("name", ["hand.png", "hand.jpg"])
def test_pictures_are_read_without_dicom(tmp_path, name):
    """As `osteon scan` does; they say nothing of side or body part."""
    grey = (picture(240, 160) >> 4).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / name)
    image = analyst(tmp_path).read_file(tmp_path / name)

    assert image.not_analysed is None
    assert image.laterality is None
    assert image.SOPInstanceUID.startswith("2.25.")
    assert image.readings[0].findings[0].tracking_uid.startswith("2.25.")


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\0" * 128 + b"DICM"])
def test_a_file_that_is_no_image_is_an_error(tmp_path, content):
    """Not a reading of anything."""
    path = tmp_path / "file.bin"
    path.write_bytes(content)

    with pytest.raises(UnreadablePixels, match=r"file\.bin"):
        analyst(tmp_path).read_file(path)


def test_the_configuration_names_what_decides_and_nothing_else(tmp_path):
    """Other thresholds are another configuration; where the files lie is not."""
    first = analyst(tmp_path / "a")
    moved = analyst(tmp_path / "b")
    stricter = analyst(
        tmp_path / "c", labels=[{"name": "fracture", "sensitive": 0.4, "specific": 0.7}]
    )
    inverted = analyst(tmp_path / "a", changed={"inverted_devices": ["ACME/X1"]})

    assert first.configuration == moved.configuration
    assert len({first.configuration, stricter.configuration, inverted.configuration}) == 3


def test_a_device_that_lies_about_polarity_is_corrected(tmp_path):
    """By the site's word; its neighbours are believed."""
    ds = radiograph(Manufacturer="ACME", ManufacturerModelName="X1")
    path = write(ds, tmp_path / "image.dcm")
    listed = analyst(tmp_path, changed={"inverted_devices": ["Acme/X1"]})
    seen: list[float] = []
    for reader in (analyst(tmp_path), listed):
        _, shown, _ = reader._open_dicom(path)
        assert shown is not None
        seen.append(float(shown.pixels.mean()))

    assert sum(seen) == pytest.approx(1.0, abs=0.01)
    assert abs(seen[0] - seen[1]) > 0.1
