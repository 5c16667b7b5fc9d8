"""Secondary Captures (PS3.3 A.8.1): what every PACS can show, as pictures with words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from reports import codes
from reports.dataset import code_item, new_dataset, plain, put, put_items, reference
from reports.document import (
    Device,
    SeriesOptions,
    check_same_study,
    put_content_time,
    put_header,
)
from reports.drawing import Canvas, Line, Mark, Picture, annotated, page
from reports.findings import (
    ReportedFinding,
    evaluations_of,
    part_shown,
    reasons_not_analysed,
    reported_findings,
)
from reports.source import SourceImage, SourceStudy
from reports.wording import (
    BAND_NAMES,
    EXPERIMENTAL,
    NOTHING_ANALYSED,
    UNVERIFIED,
    percent,
    place_name,
    side_of,
)
from studies.model import Band, ImageReading, Reading

KIND = "sc"


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptureOptions(SeriesOptions):
    """How a destination wants its captures.

    Attributes
    ----------
    longest_side
        Of a drawn image, in pixels; larger ones are made smaller.
    """

    series_number: int = 9103
    series_description: str = "Osteon AI captures"
    longest_side: int = 1600

    @property
    def variant(self) -> str:
        """What makes two captures of the same reading different; goes into their UIDs."""
        return str(self.longest_side)


def summary_page(
    reading: Reading,
    source: SourceStudy,
    device: Device,
    pictures: Mapping[str, Picture],
    options: CaptureOptions | None = None,
) -> Dataset:
    """Return one page about the whole study, also where nothing could be analysed.

    Parameters
    ----------
    pictures
        By SOP Instance UID, as `reports.drawing.Picture`; an image without one is only named.
    """
    check_same_study(reading, source)
    options = options or CaptureOptions()
    marks = _marks_by_image(reading, source)
    thumbnails = [
        (
            pictures[seen.SOPInstanceUID],
            _aspect_ratio(source.image(seen.SOPInstanceUID)),
            marks.get(seen.SOPInstanceUID, []),
            _caption(seen, number, reading, source),
        )
        for number, seen in enumerate(reading.images, start=1)
        if seen.SOPInstanceUID in pictures
    ]
    canvas = page(_summary_lines(reading, source), thumbnails, _footer_lines(reading, device))
    return _capture(canvas, reading, source, device, options, reading.images, "summary", 1)


def annotated_copies(
    reading: Reading,
    source: SourceStudy,
    device: Device,
    pictures: Mapping[str, Picture],
    options: CaptureOptions | None = None,
    *,
    heat_maps: Mapping[str, Picture] | None = None,
) -> tuple[Dataset, ...]:
    """Return a copy with boxes of each positive or doubtful image that has a picture.

    Parameters
    ----------
    pictures
        As in `summary_page`.
    heat_maps
        By SOP Instance UID, [h, w], 0 to 1: shown beside the image.
    """
    check_same_study(reading, source)
    options = options or CaptureOptions()
    marks = _marks_by_image(reading, source)
    copies: list[Dataset] = []
    for number, seen in enumerate(reading.images, start=1):
        picture = pictures.get(seen.SOPInstanceUID)
        if picture is None or seen.band not in (Band.POSITIVE, Band.DOUBTFUL):
            continue
        if picture.shape != (seen.rows, seen.columns):
            raise ValueError(
                f"{seen.SOPInstanceUID}: picture of {picture.shape}, image of "
                f"{(seen.rows, seen.columns)}"
            )
        canvas = annotated(
            picture,
            marks.get(seen.SOPInstanceUID, []),
            [*_image_lines(seen, number, reading, source), Line(text=UNVERIFIED, quiet=True)],
            aspect_ratio=_aspect_ratio(source.image(seen.SOPInstanceUID)),
            longest_side=options.longest_side,
            heat_map=(heat_maps or {}).get(seen.SOPInstanceUID),
        )
        # The summary page is the first of the series.
        place = len(copies) + 2
        copies.append(
            _capture(canvas, reading, source, device, options, [seen], seen.SOPInstanceUID, place)
        )
    return tuple(copies)


# --- Words -------------------------------------------------------------------------------------


def _summary_lines(reading: Reading, source: SourceStudy) -> list[Line]:
    lines = [Line(text="AI fracture reading", large=True), Line(text=UNVERIFIED)]
    for evaluation in evaluations_of(reading, source):
        seen = evaluation.reading
        words = f"{place_name(evaluation)}: {BAND_NAMES[seen.band]}, {percent(seen.probability)} %"
        thresholds = f" (likely from {percent(seen.specific)} %, none seen below {percent(seen.sensitive)} %)"
        lines.append(Line(text=words + thresholds, band=seen.band))
        if seen.experimental:
            lines.append(Line(text=EXPERIMENTAL, quiet=True))
    if len(lines) == 2:
        lines.append(Line(text=NOTHING_ANALYSED))
    numbers = {seen.SOPInstanceUID: n for n, seen in enumerate(reading.images, start=1)}
    for SOPInstanceUID, reason in reasons_not_analysed(reading).items():
        lines.append(Line(text=plain(f"Image {numbers[SOPInstanceUID]}: {reason}.")))
    return lines


def _footer_lines(reading: Reading, device: Device) -> list[Line]:
    models = ", ".join(f"{model.name} {model.version}" for model in reading.models)
    return [Line(text=plain(f"Osteon {device.software_version}. Models: {models}."), quiet=True)]


def _image_lines(
    seen: ImageReading, number: int, reading: Reading, source: SourceStudy
) -> list[Line]:
    known = source.image(seen.SOPInstanceUID)
    lines = [
        Line(
            text=f"{part_shown(region.region, known).name.capitalize()}{side_of(seen.laterality)}: "
            f"{BAND_NAMES[region.band]}, {percent(region.probability)} %",
            band=region.band,
        )
        for region in seen.readings
    ]
    if any(region.experimental for region in seen.readings):
        lines.append(Line(text=EXPERIMENTAL, quiet=True))
    lines.append(Line(text=f"Image {number} of {len(reading.images)}", quiet=True))
    return lines


def _caption(seen: ImageReading, number: int, reading: Reading, source: SourceStudy) -> str:
    words = [f"Image {number} of {len(reading.images)}"]
    words += [line.text for line in _image_lines(seen, number, reading, source)[:-1] if line.band]
    if not seen.readings:
        words.append("not analysed")
    return ". ".join(words)


def _marks_by_image(reading: Reading, source: SourceStudy) -> dict[str, list[Mark]]:
    marks: dict[str, list[Mark]] = {}
    for found in reported_findings(reading, source):
        if found.box is not None:
            marks.setdefault(found.image.SOPInstanceUID, []).append(_mark(found))
    return marks


def _mark(found: ReportedFinding) -> Mark:
    assert found.box is not None
    text = plain(f"{found.label}: {percent(found.finding.probability)} %")
    return Mark(box=found.box, text=text, band=found.region.band)


def _aspect_ratio(known: SourceImage | None) -> tuple[int, int]:
    return (1, 1) if known is None else known.aspect_ratio


# --- The object --------------------------------------------------------------------------------


def _capture(
    canvas: Canvas,
    reading: Reading,
    source: SourceStudy,
    device: Device,
    options: CaptureOptions,
    images: Iterable[ImageReading],
    part: str,
    place: int,
) -> Dataset:
    """Return the capture as an image; its pixels are new, so it has neither spacing nor window."""
    capture = new_dataset()
    put_header(
        capture,
        reading,
        source,
        device,
        options,
        kind=KIND,
        SOPClassUID=SecondaryCaptureImageStorage,
        # Not that of the images: hanging protocols would hang a capture as a primary image.
        Modality="OT",
        part=part,
        place=place,
    )
    put(capture, "Laterality", "")
    put_content_time(capture, reading, source, options)
    put(capture, "DateOfSecondaryCapture", capture.ContentDate)
    put(capture, "TimeOfSecondaryCapture", capture.ContentTime)
    put(capture, "ConversionType", "WSD")
    put(capture, "ImageType", ["DERIVED", "SECONDARY"])
    put(capture, "PatientOrientation", "")
    put(capture, "BurnedInAnnotation", "YES")
    put(capture, "DerivationDescription", f"Drawn from the images. {UNVERIFIED}")
    sources = []
    for seen in images:
        item = reference(seen.SOPClassUID, seen.SOPInstanceUID)
        put(item, "PurposeOfReferenceCodeSequence", [code_item(codes.SOURCE_IMAGE)])
        sources.append(item)
    put(capture, "SourceImageSequence", sources)
    _put_lossy(capture, source, images)
    _put_pixels(capture, canvas)
    return capture


def _put_lossy(capture: Dataset, source: SourceStudy, images: Iterable[ImageReading]) -> None:
    """What was lost in a source stays lost: "01" once is "01" for ever (C.7.6.1.1.5)."""
    known = [image for seen in images if (image := source.image(seen.SOPInstanceUID))]
    lossy = next((image for image in known if image.lossy == "01"), None)
    put(capture, "LossyImageCompression", "00" if lossy is None else "01")
    if lossy is not None:
        put_items(capture, lossy.lossy_details)


def _put_pixels(capture: Dataset, canvas: Canvas) -> None:
    rows, columns, _ = canvas.shape
    put(capture, "SamplesPerPixel", 3)
    put(capture, "PhotometricInterpretation", "RGB")
    put(capture, "PlanarConfiguration", 0)
    put(capture, "Rows", rows)
    put(capture, "Columns", columns)
    put(capture, "BitsAllocated", 8)
    put(capture, "BitsStored", 8)
    put(capture, "HighBit", 7)
    put(capture, "PixelRepresentation", 0)
    pixels = canvas.tobytes()
    put(capture, "PixelData", pixels + b"\0" * (len(pixels) % 2), "OB")
