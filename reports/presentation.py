"""Grayscale Softcopy Presentation States (PS3.3 A.33.1): the boxes drawn over the received image."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage

from reports.content import outline
from reports.dataset import new_dataset, plain, put, reference
from reports.document import (
    Device,
    SeriesOptions,
    check_same_study,
    content_time,
    put_header,
)
from reports.findings import ReportedFinding, reported_findings
from reports.source import Grayscale, Lut, SourceImage, SourceStudy
from studies.model import ImageReading, Laterality, Reading

KIND = "gsps"
LAYER = "AI_FINDINGS"

# PS3.4 N.2: once a presentation state applies, the photometric interpretation of the image is
# ignored. A MONOCHROME1 image under IDENTITY is shown as its own negative.
_SHAPES = {"MONOCHROME1": "INVERSE", "MONOCHROME2": "IDENTITY"}


@dataclass(frozen=True, kw_only=True, slots=True)
class PresentationOptions(SeriesOptions):
    """How a destination wants its presentation states."""

    series_number: int = 9102
    series_description: str = "Osteon AI findings overlay"


def presentation_states(
    reading: Reading,
    source: SourceStudy,
    device: Device,
    options: PresentationOptions | None = None,
) -> tuple[Dataset, ...]:
    """Return one presentation state for each image with at least one box, in their order.

    An image whose header is not in `source`, or which is not MONOCHROME1 or MONOCHROME2, gets
    none: how it has to be shown is not known.

    Raises
    ------
    ValueError
        If reading and source are of different studies.
    """
    check_same_study(reading, source)
    options = options or PresentationOptions()
    boxed: dict[str, list[ReportedFinding]] = {}
    for found in reported_findings(reading, source):
        if found.box is not None:
            boxed.setdefault(found.image.SOPInstanceUID, []).append(found)
    states: list[Dataset] = []
    for SOPInstanceUID, findings in boxed.items():
        known = source.image(SOPInstanceUID)
        if known is not None and known.PhotometricInterpretation in _SHAPES:
            state = _state(reading, source, device, options, findings, known, len(states) + 1)
            states.append(state)
    # An element of the series, the same in all its objects; type 2C, so empty where unknown.
    sides = {findings[0].image.laterality for findings in boxed.values()}
    side = sides.pop() if len(sides) == 1 else None
    for state in states:
        one_side = side in (Laterality.RIGHT, Laterality.LEFT)
        put(state, "Laterality", str(side) if one_side else "")
    return tuple(states)


def _state(
    reading: Reading,
    source: SourceStudy,
    device: Device,
    options: PresentationOptions,
    findings: list[ReportedFinding],
    known: SourceImage,
    place: int,
) -> Dataset:
    seen = findings[0].image
    state = new_dataset()
    put_header(
        state,
        reading,
        source,
        device,
        options,
        kind=KIND,
        SOPClassUID=GrayscaleSoftcopyPresentationStateStorage,
        Modality="PR",
        part=seen.SOPInstanceUID,
        place=place,
    )
    _put_identification(state, reading, source, options)
    _put_relationship(state, seen)
    _put_displayed_area(state, seen, known)
    _put_annotations(state, seen, findings)
    _put_grayscale(state, known)
    return state


def _put_identification(
    state: Dataset, reading: Reading, source: SourceStudy, options: PresentationOptions
) -> None:
    """Presentation State Identification (C.11.10)."""
    made_at = content_time(reading, source, options.local_zone)
    put(state, "PresentationCreationDate", made_at.strftime("%Y%m%d"))
    put(state, "PresentationCreationTime", made_at.strftime("%H%M%S"))
    put(state, "ContentLabel", LAYER)
    put(state, "ContentDescription", "AI result, not verified by a physician")
    put(state, "ContentCreatorName", "")


def _put_relationship(state: Dataset, seen: ImageReading) -> None:
    """Presentation State Relationship (C.11.11)."""
    series = new_dataset(
        ReferencedImageSequence=[reference(seen.SOPClassUID, seen.SOPInstanceUID)],
        SeriesInstanceUID=seen.SeriesInstanceUID,
    )
    put(state, "ReferencedSeriesSequence", [series])


def _put_displayed_area(state: Dataset, seen: ImageReading, known: SourceImage) -> None:
    """Displayed Area (C.10.4): the whole image. Pixels are counted from 1 here, unlike boxes."""
    area = new_dataset(
        DisplayedAreaTopLeftHandCorner=[1, 1],
        DisplayedAreaBottomRightHandCorner=[seen.columns, seen.rows],
        PresentationSizeMode="SCALE TO FIT",
        PresentationPixelAspectRatio=[str(number) for number in known.aspect_ratio],
    )
    put(state, "DisplayedAreaSelectionSequence", [area])


def _put_annotations(state: Dataset, seen: ImageReading, findings: list[ReportedFinding]) -> None:
    """Graphic Annotation (C.10.5) and Graphic Layer (C.10.7)."""
    annotation = new_dataset(
        ReferencedImageSequence=[reference(seen.SOPClassUID, seen.SOPInstanceUID)],
        GraphicLayer=LAYER,
        TextObjectSequence=[_label(found) for found in findings],
        GraphicObjectSequence=[_outline(found) for found in findings],
    )
    put(state, "GraphicAnnotationSequence", [annotation])
    layer = new_dataset(
        GraphicLayer=LAYER,
        GraphicLayerOrder=1,
        GraphicLayerDescription="AI result, not verified by a physician",
    )
    put(state, "GraphicLayerSequence", [layer])


def _outline(found: ReportedFinding) -> Dataset:
    assert found.box is not None
    points = outline(found.box)
    return new_dataset(
        GraphicAnnotationUnits="PIXEL",
        GraphicDimensions=2,
        NumberOfGraphicPoints=len(points),
        GraphicData=[coordinate for point in points for coordinate in point],
        GraphicType="POLYLINE",
        GraphicFilled="N",
        TrackingID=plain(found.label),
        TrackingUID=found.finding.tracking_uid,
    )


def _label(found: ReportedFinding) -> Dataset:
    assert found.box is not None
    certainty = f"{100 * found.finding.probability:.0f} %"
    return new_dataset(
        AnchorPointAnnotationUnits="PIXEL",
        UnformattedTextValue=plain(f"{found.label}: fracture? {certainty}"),
        AnchorPoint=[found.box.left, found.box.top],
        AnchorPointVisibility="N",
        TrackingID=plain(found.label),
        TrackingUID=found.finding.tracking_uid,
    )


def _put_grayscale(state: Dataset, known: SourceImage) -> None:
    """Modality LUT, Softcopy VOI LUT (C.11.8) and Softcopy Presentation LUT (C.11.6).

    A state replaces the image's own grayscale transformations altogether, so they are repeated.
    """
    grayscale: Grayscale = known.grayscale
    if grayscale.modality_lut is not None:
        lut = _lut_item(grayscale.modality_lut)
        put(lut, "ModalityLUTType", grayscale.modality_lut.modality_type)
        put(state, "ModalityLUTSequence", [lut])
    elif grayscale.rescale is not None:
        intercept, slope, kind = grayscale.rescale
        put(state, "RescaleIntercept", intercept)
        put(state, "RescaleSlope", slope)
        put(state, "RescaleType", kind)

    if grayscale.voi_lut is not None:
        voi = new_dataset(VOILUTSequence=[_lut_item(grayscale.voi_lut)])
        put(state, "SoftcopyVOILUTSequence", [voi])
    elif grayscale.window is not None:
        voi = new_dataset(WindowCenter=grayscale.window.center, WindowWidth=grayscale.window.width)
        if grayscale.window.function:
            put(voi, "VOILUTFunction", grayscale.window.function)
        put(state, "SoftcopyVOILUTSequence", [voi])

    put(state, "PresentationLUTShape", _SHAPES[known.PhotometricInterpretation])


def _lut_item(lut: Lut) -> Dataset:
    entries, first, bits = lut.descriptor
    item = new_dataset()
    # 65536 entries are written as 0 (C.11.1.1).
    put(item, "LUTDescriptor", [entries % 65536, first, bits], "SS" if first < 0 else "US")
    put(item, "LUTData", lut.words, "OW")
    return item
