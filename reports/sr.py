"""The measurement report: a reading as an SR document after TID 1500 (PS3.16). Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
)

from reports import codes
from reports.content import (
    CONTAINS,
    HAS_ACQ_CONTEXT,
    HAS_CONCEPT_MOD,
    HAS_OBS_CONTEXT,
    SELECTED_FROM,
    coded,
    container,
    date,
    image,
    number,
    outline,
    polyline,
    text,
    time,
    uid_reference,
)
from reports.document import (
    Device,
    SeriesOptions,
    check_same_study,
    device_observer,
    put_header,
    put_sr_general,
)
from reports.findings import (
    Evaluation,
    ReportedFinding,
    evaluations_of,
    part_shown,
    reasons_not_analysed,
    reported_findings,
)
from reports.source import SourceStudy
from reports.wording import NOTHING_ANALYSED, UNVERIFIED, percent, score_sentences
from studies.model import (
    Finding,
    ImageReading,
    Laterality,
    ProducedObject,
    Reading,
)

KIND = "sr"

MEASUREMENT_REPORT_CLASSES = (Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage)
"""What can hold TID 1500, the one to try first at the head."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options(SeriesOptions):
    """How a destination wants its measurement reports.

    Attributes
    ----------
    sop_class
        Comprehensive 3D SR, or an older class for a peer that rejects it.
    strict_codes
        Connectathon mode: only codes that the validators' context groups of 2022 know, and IHE
        AIR's placeholder as the purpose of an algorithm.

    Raises
    ------
    ValueError
        If the SOP class cannot hold measurements with coordinates.
    """

    series_number: int = 9101
    series_description: str = "Osteon AI fracture report"
    sop_class: UID = Comprehensive3DSRStorage
    strict_codes: bool = False

    def __post_init__(self) -> None:
        if self.sop_class not in MEASUREMENT_REPORT_CLASSES:
            raise ValueError(f"{self.sop_class} ({self.sop_class.name}) cannot hold TID 1500")

    @property
    def variant(self) -> str:
        """What makes two reports of the same reading different; goes into their UIDs."""
        return f"{self.sop_class} {'strict' if self.strict_codes else 'real'}"


def measurement_report(
    reading: Reading,
    source: SourceStudy,
    device: Device,
    options: Options | None = None,
    *,
    predecessor: ProducedObject | None = None,
) -> Dataset:
    """Return the report of a reading, ready to be encoded and sent.

    One measurement group per suspected fracture, and one qualitative evaluation per region and
    side. A region without a fracture gets no Finding, since viewers show any Finding as positive;
    an image that was not analysed is named with its reason and never counts as negative.

    Parameters
    ----------
    source
        Of the same study. An image that it does not hold is listed without acquisition context.
    predecessor
        The report that this one replaces, if it was sent.

    Raises
    ------
    ValueError
        If reading and source are of different studies.
    """
    check_same_study(reading, source)
    options = options or Options()
    evaluations = evaluations_of(reading, source)
    children = [
        coded(HAS_CONCEPT_MOD, codes.LANGUAGE, codes.ENGLISH_US),
        *device_observer(device),
        *_procedures(evaluations, source, strict=options.strict_codes),
        *_image_library(reading, source),
    ]
    groups = list(_measurement_groups(reading, source))
    if groups:
        children.append(container(CONTAINS, codes.IMAGING_MEASUREMENTS, groups))
    children.append(_qualitative_evaluations(reading, evaluations))

    report = container(None, codes.IMAGING_MEASUREMENT_REPORT, children, template="1500")
    put_header(
        report,
        reading,
        source,
        device,
        options,
        kind=KIND,
        SOPClassUID=options.sop_class,
        Modality="SR",
        strict=options.strict_codes,
    )
    put_sr_general(report, reading, source, options, predecessor=predecessor)
    return report


# --- What is said of each region ---------------------------------------------------------------


def _qualitative_evaluations(reading: Reading, evaluations: list[Evaluation]) -> Dataset:
    """TID 1500, row 12: presence per region, scores and reasons as text."""
    items = [text(CONTAINS, codes.COMMENT, UNVERIFIED)]
    for evaluation in evaluations:
        presence = codes.PRESENCE[evaluation.reading.band]
        site = _finding_site(evaluation.part, evaluation.laterality)
        items.append(coded(CONTAINS, codes.FRACTURE_OF_BONE, presence, [site]))
        items.append(text(CONTAINS, codes.COMMENT, score_sentences(evaluation)))
    if not evaluations:
        items.append(coded(CONTAINS, codes.FRACTURE_OF_BONE, codes.UNDETERMINED))
        items.append(text(CONTAINS, codes.COMMENT, NOTHING_ANALYSED))
    for SOPInstanceUID, reason in reasons_not_analysed(reading).items():
        items.append(text(CONTAINS, codes.COMMENT, f"Image {SOPInstanceUID}: {reason}."))
    return container(CONTAINS, codes.QUALITATIVE_EVALUATIONS, items)


# --- What was examined -------------------------------------------------------------------------


def _procedures(
    evaluations: list[Evaluation], source: SourceStudy, *, strict: bool
) -> Iterator[Dataset]:
    """The imaging that was done, per part of the body; not what we did with it."""
    procedures = {evaluation.part.procedure for evaluation in evaluations}
    if not procedures and all(image.Modality in _PLAIN for image in source.images):
        procedures = {codes.PLAIN_X_RAY}
    if not procedures or strict:
        procedures = {codes.IMAGING_PROCEDURE}
    for procedure in sorted(procedures, key=lambda code: code.meaning):
        yield coded(HAS_CONCEPT_MOD, codes.PROCEDURE_REPORTED, procedure)


_PLAIN = frozenset({"CR", "DX", "RG"})


def _image_library(reading: Reading, source: SourceStudy) -> Iterator[Dataset]:
    """TID 1600: every image of the study, also those that we could not analyse."""
    entries = [
        image(
            CONTAINS,
            seen.SOPClassUID,
            seen.SOPInstanceUID,
            children=_acquisition_context(seen, source),
        )
        for seen in reading.images
    ]
    if entries:
        group = container(CONTAINS, codes.IMAGE_LIBRARY_GROUP, entries)
        yield container(CONTAINS, codes.IMAGE_LIBRARY, [group])


def _acquisition_context(seen: ImageReading, source: SourceStudy) -> Iterator[Dataset]:
    """TID 1602 and 1603, as far as the sender states it."""
    known = source.image(seen.SOPInstanceUID)
    if known is not None and known.Modality in codes.MODALITIES:
        yield coded(HAS_ACQ_CONTEXT, codes.MODALITY, codes.MODALITIES[known.Modality])
    if seen.laterality is not None:
        yield coded(HAS_ACQ_CONTEXT, codes.IMAGE_LATERALITY, codes.SIDES[seen.laterality])
    if known is not None and known.view is not None:
        yield coded(HAS_ACQ_CONTEXT, codes.IMAGE_VIEW, known.view)
    if known is not None and known.orientation is not None:
        row, column = known.orientation
        yield text(HAS_ACQ_CONTEXT, codes.PATIENT_ORIENTATION_ROW, row)
        yield text(HAS_ACQ_CONTEXT, codes.PATIENT_ORIENTATION_COLUMN, column)
    if source.StudyDate:
        yield date(HAS_ACQ_CONTEXT, codes.STUDY_DATE, source.StudyDate)
    if source.StudyTime:
        yield time(HAS_ACQ_CONTEXT, codes.STUDY_TIME, source.StudyTime)
    if seen.rows and seen.columns:
        yield number(HAS_ACQ_CONTEXT, codes.PIXEL_DATA_ROWS, str(seen.rows), codes.PIXELS)
        yield number(HAS_ACQ_CONTEXT, codes.PIXEL_DATA_COLUMNS, str(seen.columns), codes.PIXELS)
    if known is not None and known.spacing_mm is not None:
        # The spacing of columns is the horizontal one.
        rows, columns = (f"{spacing:.6g}" for spacing in known.spacing_mm)
        yield number(HAS_ACQ_CONTEXT, codes.HORIZONTAL_PIXEL_SPACING, columns, codes.MILLIMETRE)
        yield number(HAS_ACQ_CONTEXT, codes.VERTICAL_PIXEL_SPACING, rows, codes.MILLIMETRE)


# --- Findings ----------------------------------------------------------------------------------


def _measurement_groups(reading: Reading, source: SourceStudy) -> Iterator[Dataset]:
    """TID 1410 for each finding with a box, TID 1501 for each without.

    A document with exactly one Image Region is held to be all TID 1410 by the validator that IHE
    prescribes (PixelMed), so one box is not mixed with findings that have none. Those then stand
    in the qualitative evaluations alone, where their region is Present anyway.
    """
    findings = reported_findings(reading, source)
    boxes = sum(found.finding.box is not None for found in findings)
    for found in findings:
        if found.finding.box is not None or boxes != 1:
            part = part_shown(found.region.region, source.image(found.image.SOPInstanceUID))
            yield _measurement_group(found, part)


def _measurement_group(found: ReportedFinding, part: codes.BodyPart) -> Dataset:
    seen, finding, model = found.image, found.finding, found.region.model
    items = [
        text(HAS_OBS_CONTEXT, codes.TRACKING_IDENTIFIER, found.label),
        uid_reference(HAS_OBS_CONTEXT, codes.TRACKING_UNIQUE_IDENTIFIER, finding.tracking_uid),
        coded(CONTAINS, codes.FINDING, codes.FRACTURE_OF_BONE),
        _finding_site(part, seen.laterality),
        coded(HAS_CONCEPT_MOD, codes.ALGORITHM_FAMILY, codes.ARTIFICIAL_INTELLIGENCE),
        text(HAS_CONCEPT_MOD, codes.ALGORITHM_NAME, model.name),
        text(HAS_CONCEPT_MOD, codes.ALGORITHM_VERSION, model.version),
    ]
    if found.box is not None:
        picture = image(SELECTED_FROM, seen.SOPClassUID, seen.SOPInstanceUID)
        items.append(polyline(CONTAINS, codes.IMAGE_REGION, outline(found.box), picture))
    else:
        items.append(
            image(
                CONTAINS,
                seen.SOPClassUID,
                seen.SOPInstanceUID,
                name=codes.SOURCE_OF_MEASUREMENT,
            )
        )
    certainty = percent(finding.probability)
    items.append(number(CONTAINS, codes.CERTAINTY_OF_FINDING, certainty, codes.PERCENT))
    items.extend(_kind_of_fracture(finding))
    template = "1501" if found.box is None else "1410"
    return container(CONTAINS, codes.MEASUREMENT_GROUP, items, template=template)


def _finding_site(part: codes.BodyPart, laterality: Laterality | None) -> Dataset:
    side = []
    if laterality is not None:
        side = [coded(HAS_CONCEPT_MOD, codes.LATERALITY, codes.SIDES[laterality])]
    return coded(HAS_CONCEPT_MOD, codes.FINDING_SITE, part.site, side)


def _kind_of_fracture(finding: Finding) -> Iterator[Dataset]:
    """The type as a code where one is verified, else in words; the exact site in words."""
    if finding.type is not None:
        morphology = codes.MORPHOLOGY.get(finding.type.strip().lower())
        if morphology is not None:
            yield coded(CONTAINS, codes.ASSOCIATED_MORPHOLOGY, morphology)
        else:
            yield text(CONTAINS, codes.COMMENT, f"Type: {finding.type}")
    if finding.site is not None:
        yield text(CONTAINS, codes.COMMENT, f"Site: {finding.site}")
