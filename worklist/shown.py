"""What a page shows of a study, as plain values in words. No HTML, no queries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from studies.model import Band, ImageReading, Reading, Region, RegionReading, Status, Study
from worklist import words


class Mark(StrEnum):
    """What a study's sign says; each has a shape of its own, so that colour is never needed."""

    POSITIVE = "positive"
    DOUBTFUL = "doubtful"
    NEGATIVE = "negative"
    NOT_ANALYSED = "not-analysed"
    TROUBLE = "trouble"  # failed or quarantined: a person has to look
    WAITING = "waiting"  # no result yet


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """A result as it is shown.

    Attributes
    ----------
    certainty
        Probability of a fracture in percent, "" where there is none.
    """

    mark: Mark
    text: str
    certainty: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One study on the worklist.

    Attributes
    ----------
    regions
        Those that were read, the most urgent first.
    remark
        Why it was not read, or what is left to wait for.
    """

    StudyInstanceUID: str
    result: Result
    regions: str
    patient: str
    PatientID: str
    description: str
    images: int
    status: str
    remark: str
    sender: str
    age: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageRow:
    """One region of one image, or the image alone where nothing was read.

    Attributes
    ----------
    places
        Boxes in pixels of the stored image, with their probabilities.
    """

    name: str
    SOPInstanceUID: str
    region: str
    result: Result
    places: tuple[str, ...]
    model: str
    notes: tuple[str, ...]


def row_of(study: Study, reading: Reading | None, now: datetime) -> Row:
    """A study as a row of the worklist.

    Parameters
    ----------
    reading
        The newest one, if there is any.
    """
    description = study.description
    return Row(
        StudyInstanceUID=study.StudyInstanceUID,
        result=result_of(study),
        regions=regions_of(reading),
        patient=person(description.PatientName),
        PatientID=study.PatientID,
        description=description.StudyDescription or description.BodyPartExamined,
        images=study.instances,
        status=words.STATUSES[study.status],
        remark=_remark(study),
        sender=study.sender.ae_title,
        age=words.age(now - study.first_received_at),
    )


def result_of(study: Study) -> Result:
    """A study's result in one word or two, and never a negative one that nobody has read."""
    if study.status in (Status.FAILED, Status.QUARANTINED):
        return Result(mark=Mark.TROUBLE, text=words.STATUSES[study.status])
    if study.band is not None:
        return _banded(study.band, study.certainty)
    if study.status is Status.NOT_ANALYSED:
        return Result(mark=Mark.NOT_ANALYSED, text=words.NOT_ANALYSED)
    return Result(mark=Mark.WAITING, text="no result yet")


def regions_of(reading: Reading | None) -> str:
    """The regions that were read, the most urgent first."""
    if reading is None:
        return ""
    worst: dict[Region, tuple[int, float]] = {}
    for image in reading.images:
        for seen in image.readings:
            rank = (-seen.band.urgency, -seen.probability)
            worst[seen.region] = min(worst.get(seen.region, rank), rank)
    return ", ".join(words.REGIONS[region] for region in sorted(worst, key=lambda r: worst[r]))


def image_rows(reading: Reading) -> tuple[ImageRow, ...]:
    """Every image of a reading in the order in which they came, each with its regions."""
    return tuple(
        row
        for number, image in enumerate(reading.images, start=1)
        for row in _rows_of_image(f"Image {number}", image)
    )


def person(name: str) -> str:
    """A person name (PS3.5 6.2.1) for reading: "DOE^JANE=…" becomes "DOE JANE (…)"."""
    groups = [" ".join(group.replace("^", " ").split()) for group in name.split("=")]
    first, *others = [group for group in groups if group] or [""]
    return f"{first} ({', '.join(others)})" if others else first


def date(text: str) -> str:
    """A DICOM date (DA, PS3.5 6.2) as people write it; anything else as it came."""
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if len(text) == 8 and text.isdecimal() else text


def _remark(study: Study) -> str:
    if study.reason:
        return study.reason
    if study.band is not None and study.revision != study.read_revision:
        return "an image has come since"
    return ""


def _rows_of_image(name: str, image: ImageReading) -> Iterable[ImageRow]:
    if not image.readings:
        reason = image.not_analysed or words.NO_REGION
        yield ImageRow(
            name=name,
            SOPInstanceUID=image.SOPInstanceUID,
            region="",
            result=Result(mark=Mark.NOT_ANALYSED, text=words.NOT_ANALYSED),
            places=(),
            model="",
            notes=(f"because {reason}", *image.notes),
        )
    for seen in _most_urgent_first(image.readings):
        yield ImageRow(
            name=name,
            SOPInstanceUID=image.SOPInstanceUID,
            region=words.REGIONS[seen.region],
            result=_banded(seen.band, seen.probability),
            places=tuple(_places(seen)),
            model=f"{seen.model.name} {seen.model.version}"
            + (" (experimental)" if seen.experimental else ""),
            notes=image.notes,
        )


def _most_urgent_first(readings: Sequence[RegionReading]) -> list[RegionReading]:
    return sorted(readings, key=lambda seen: (-seen.band.urgency, -seen.probability))


def _places(seen: RegionReading) -> Iterable[str]:
    for finding in seen.findings:
        told = [words.percent(finding.probability)]
        if finding.box is not None:
            left, top, right, bottom = (round(edge) for edge in finding.box.edges)
            told.append(f"columns {left} to {right}, rows {top} to {bottom}")
        told.extend(part for part in (finding.site, finding.type) if part is not None)
        yield ", ".join(told)


def _banded(band: Band, probability: float | None) -> Result:
    certainty = "" if probability is None else words.percent(probability)
    return Result(mark=Mark(band.value), text=words.BANDS[band], certainty=certainty)
