"""Readings for the tests: of any band, with or without boxes, for headers that a test has made."""

from __future__ import annotations

from datetime import UTC, datetime

from pydicom.dataset import Dataset

from reports import uids
from reports.document import Device
from studies.model import (
    Band,
    Box,
    Finding,
    ImageReading,
    Laterality,
    ModelRef,
    Reading,
    Region,
    RegionReading,
    RegionScore,
)
from studies.rules import band_of

CREATED_AT = datetime(2026, 1, 2, 23, 30, 15, tzinfo=UTC)
CONFIGURATION = "c0ffee"
DEVICE = Device(
    uid=uids.deployment_uid("tests"),
    name="OSTEON",
    serial_number="tests",
    software_version="0.1.0",
)
TRUNK = ModelRef(name="trunk", version="1.0.0", sha256="1" * 64, kind="trunk")
ROUTER = ModelRef(name="router", version="1.0.0", sha256="2" * 64, kind="router")
SENSITIVE, SPECIFIC = 0.3, 0.7


def bone_model(region: Region) -> ModelRef:
    """Return the model that reads a region."""
    return ModelRef(name=f"bone-{region}", version="1.2.0", sha256="3" * 64, kind="bone")


def region_reading(
    header: Dataset,
    region: Region = Region.HAND_WRIST,
    probability: float = 0.91,
    *,
    boxes: tuple[Box, ...] = (),
    experimental: bool = False,
    site: str | None = None,
    type: str | None = None,  # noqa: A002 (as in Finding)
) -> RegionReading:
    """Return a reading of a region; its band follows from the probability.

    Parameters
    ----------
    boxes
        Gives one finding per box; without boxes there is one finding without, unless negative.
    """
    band = band_of(probability, sensitive=SENSITIVE, specific=SPECIFIC)
    model = bone_model(region)
    places: tuple[Box | None, ...] = () if band is Band.NEGATIVE else boxes or (None,)
    findings = tuple(
        Finding(
            box=box,
            probability=probability,
            tracking_uid=uids.tracking_uid(
                header.SOPInstanceUID, region, model, CONFIGURATION, number
            ),
            site=site,
            type=type,
        )
        for number, box in enumerate(places, start=1)
    )
    return RegionReading(
        region=region,
        probability=probability,
        band=band,
        sensitive=SENSITIVE,
        specific=SPECIFIC,
        model=model,
        findings=findings,
        experimental=experimental,
    )


def image_reading(
    header: Dataset,
    *readings: RegionReading,
    laterality: Laterality | None = Laterality.LEFT,
    not_analysed: str | None = None,
) -> ImageReading:
    """Return what was seen on the image that a header describes."""
    return ImageReading(
        SOPInstanceUID=header.SOPInstanceUID,
        SOPClassUID=header.SOPClassUID,
        SeriesInstanceUID=header.SeriesInstanceUID,
        rows=header.Rows,
        columns=header.Columns,
        laterality=laterality,
        regions=tuple(RegionScore(region=r.region, probability=0.98) for r in readings),
        readings=readings,
        not_analysed=not_analysed,
    )


def reading_of(
    header: Dataset, *images: ImageReading, revision: int = 1, predecessor: int | None = None
) -> Reading:
    """Return a reading of the header's study."""
    bones = {r.model.name: r.model for image in images for r in image.readings}
    return Reading(
        StudyInstanceUID=header.StudyInstanceUID,
        revision=revision,
        images=images,
        models=(TRUNK, ROUTER, *bones.values()),
        configuration=CONFIGURATION,
        created_at=CREATED_AT,
        predecessor=predecessor,
    )
