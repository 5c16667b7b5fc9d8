"""Which findings of a reading are shown, with which name and box: the same in every object."""

from __future__ import annotations

from dataclasses import dataclass

from reports import uids
from reports.codes import REGIONS
from studies.model import Band, Box, Finding, ImageReading, Reading, RegionReading


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportedFinding:
    """A finding where it was seen.

    Attributes
    ----------
    label
        What people call it: "Elbow 1". Unique within a study's objects.
    box
        The finding's box as far as it lies on the image, in pixels of the stored image, or None.
    """

    image: ImageReading
    region: RegionReading
    finding: Finding
    label: str
    box: Box | None


def reported_findings(reading: Reading) -> tuple[ReportedFinding, ...]:
    """Return the findings that our objects show, in the order of the images.

    A positive region whose model locates nothing gives one finding without a box, so that no
    positive study goes out without a Finding.

    Raises
    ------
    ValueError
        If a box lies outside its image.
    """
    reported: list[ReportedFinding] = []
    counted: dict[str, int] = {}
    for image in reading.images:
        for region in image.readings:
            name = REGIONS[region.region].name.capitalize()
            for finding in region.findings or _unlocated(reading, image, region):
                counted[name] = counted.get(name, 0) + 1
                box = finding.box
                if box is not None and image.rows and image.columns:
                    box = box.clipped(image.columns, image.rows)
                reported.append(
                    ReportedFinding(
                        image=image,
                        region=region,
                        finding=finding,
                        label=f"{name} {counted[name]}",
                        box=box,
                    )
                )
    return tuple(reported)


def _unlocated(reading: Reading, image: ImageReading, region: RegionReading) -> tuple[Finding, ...]:
    if region.band is not Band.POSITIVE:
        return ()
    uid = uids.tracking_uid(
        image.SOPInstanceUID, region.region, region.model, reading.configuration, 1
    )
    return (Finding(box=None, probability=region.probability, tracking_uid=uid),)
