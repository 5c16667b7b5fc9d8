"""What of a reading is shown, with which names and boxes: the same in every object. No wording."""

from __future__ import annotations

from dataclasses import dataclass

from reports import codes, uids
from reports.source import SourceImage, SourceStudy
from studies.model import (
    Band,
    Box,
    Finding,
    ImageReading,
    Laterality,
    Reading,
    Region,
    RegionReading,
)


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


def reported_findings(reading: Reading, source: SourceStudy) -> tuple[ReportedFinding, ...]:
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
            name = part_shown(region.region, source.image(image.SOPInstanceUID)).name.capitalize()
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


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What is said of a region on one side, over all images that show it.

    Attributes
    ----------
    part
        The region, as exactly as its images state it.
    reading
        The most urgent one.
    images
        How many images were read for it.
    """

    part: codes.BodyPart
    laterality: Laterality | None
    reading: RegionReading
    images: int


def evaluations_of(reading: Reading, source: SourceStudy) -> list[Evaluation]:
    """Return one per region and side, the most urgent first."""
    grouped: dict[tuple[Region, Laterality | None], list[tuple[ImageReading, RegionReading]]] = {}
    for seen in reading.images:
        for region_reading in seen.readings:
            key = (region_reading.region, seen.laterality)
            grouped.setdefault(key, []).append((seen, region_reading))
    evaluations = []
    for (region, laterality), pairs in grouped.items():
        parts = {part_shown(region, source.image(seen.SOPInstanceUID)) for seen, _ in pairs}
        # Images of hand and of wrist together are one region again.
        part = parts.pop() if len(parts) == 1 else codes.body_part(region)
        _, worst = max(pairs, key=lambda pair: (pair[1].band.urgency, pair[1].probability))
        evaluations.append(Evaluation(part, laterality, worst, len(pairs)))
    return sorted(
        evaluations, key=lambda e: (-e.reading.band.urgency, -e.reading.probability, e.part.name)
    )


def part_shown(region: Region, source: SourceImage | None) -> codes.BodyPart:
    """Return what a region is called on an image."""
    return codes.body_part(region, None if source is None else source.part)


def reasons_not_analysed(reading: Reading) -> dict[str, str]:
    """Return why images were not analysed, by SOP Instance UID, in their order.

    An image without any reading and without a reason is among them: it must not vanish.
    """
    reasons = {}
    for image in reading.images:
        if image.not_analysed is not None:
            reasons[image.SOPInstanceUID] = f"not analysed, because {image.not_analysed}"
        elif not image.readings:
            reasons[image.SOPInstanceUID] = (
                "not analysed, because it shows no region that a model may read"
            )
    return reasons
