"""Captures: the same boxes as everywhere, the words a reader needs, and no patient in the pixels."""

from __future__ import annotations

import io

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from reports.capture import CaptureOptions, annotated_copies, summary_page
from reports.dataset import encode
from reports.drawing import COLOURS, Line, Mark, annotated
from reports.source import source_study
from studies.model import Band, Box, Reading, Region
from tests.support.dicom_making import make, to_bytes
from tests.support.readings import DEVICE, image_reading, reading_of, region_reading
from tests.support.sr_trees import parse

BOX = Box(left=100, top=150, right=220, bottom=330)
ROWS, COLUMNS = 700, 520


def received(header: Dataset) -> Dataset:
    """Return the header as it comes out of a file."""
    return pydicom.dcmread(io.BytesIO(to_bytes(header)), stop_before_pixels=True)


def grey(rows: int = ROWS, columns: int = COLUMNS) -> np.ndarray:
    """Return a picture of one grey, so that whatever is drawn stands out."""
    return np.full((rows, columns), 0.25, dtype=np.float32)


def image(seed: str = "s/1", **elements) -> Dataset:
    """Return a header of an image as large as `grey`."""
    return make(np.zeros((ROWS, COLUMNS), dtype=np.uint16), seed=seed, **elements)


def coloured(pixels: np.ndarray, band: Band) -> tuple[int, int, int, int]:
    """Return (left, top, right, bottom) of all that is drawn in a band's colour."""
    rows, columns = np.nonzero(np.all(pixels == np.array(COLOURS[band]), axis=-1))
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def test_a_box_is_drawn_where_it_is():
    """On a picture that is not resampled, the outline lies on the box's own pixels."""
    mark = Mark(box=BOX, text="", band=Band.POSITIVE)

    drawn = coloured(annotated(grey(), [mark], []), Band.POSITIVE)

    assert drawn == pytest.approx(BOX.edges, abs=2)


@pytest.mark.parametrize("aspect_ratio", [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("longest_side", [600, 1600])
def test_a_box_stays_where_it_is_when_the_picture_is_resampled(aspect_ratio, longest_side):
    """Non-square pixels become square ones, and large pictures smaller."""
    mark = Mark(box=BOX, text="", band=Band.POSITIVE)

    pixels = annotated(
        grey(), [mark], [], aspect_ratio=aspect_ratio, longest_side=longest_side, shortest_side=100
    )

    height, width = pixels.shape[:2]
    assert width / height == pytest.approx(
        COLUMNS * aspect_ratio[1] / (ROWS * aspect_ratio[0]), rel=0.01
    )
    expected = (
        BOX.left * width / COLUMNS,
        BOX.top * height / ROWS,
        BOX.right * width / COLUMNS,
        BOX.bottom * height / ROWS,
    )
    assert coloured(pixels, Band.POSITIVE) == pytest.approx(expected, abs=3)


def test_no_text_lies_on_the_picture_but_the_names_of_boxes():
    """Anatomy is not hidden: the lines stand beneath."""
    pixels = annotated(grey(), [], [Line(text="Elbow: fracture likely", band=Band.POSITIVE)])

    assert np.all(pixels[:ROWS, :COLUMNS] == 64)
    assert coloured(pixels, Band.POSITIVE)[1] >= ROWS


def test_a_doubtful_box_is_dashed():
    """A colour-blind reader tells it from a positive one."""
    solid = annotated(grey(), [Mark(box=BOX, text="", band=Band.POSITIVE)], [])
    dashed = annotated(grey(), [Mark(box=BOX, text="", band=Band.DOUBTFUL)], [])

    def drawn(pixels: np.ndarray) -> int:
        return int((pixels != 64).any(axis=-1)[:ROWS, :COLUMNS].sum())

    assert 0 < drawn(dashed) < 0.7 * drawn(solid)


def test_a_heat_map_stands_beside_the_picture():
    """Hot where the map is 1, untouched where it is 0."""
    heat = np.zeros((7, 5), dtype=np.float32)
    heat[0, 0] = 1

    pixels = annotated(grey(), [], [], heat_map=heat)

    left, right = pixels[:ROWS, :COLUMNS], pixels[:ROWS, COLUMNS : 2 * COLUMNS]
    assert np.all(left == 64)
    assert right[5, 5, 0] > 150
    assert np.all(right[-5:, -5:] == 64)


def _study() -> tuple[Reading, list[Dataset], dict[str, np.ndarray]]:
    headers = [image(f"s/{number}") for number in range(1, 5)]
    positive, doubtful, negative, refused = headers
    reading = reading_of(
        positive,
        image_reading(positive, region_reading(positive, boxes=(BOX,))),
        image_reading(doubtful, region_reading(doubtful, Region.ELBOW, 0.5)),
        image_reading(negative, region_reading(negative, Region.FOOT, 0.1)),
        image_reading(refused, not_analysed="a chest is no limb"),
    )
    pictures = {header.SOPInstanceUID: grey() for header in headers[:3]}
    return reading, headers, pictures


def test_positive_and_doubtful_images_get_a_copy_and_no_others():
    """A negative image needs none, one without pixels can have none."""
    reading, headers, pictures = _study()
    copies = annotated_copies(reading, source_study(headers), DEVICE, pictures)

    sources = [copy.SourceImageSequence[0].ReferencedSOPInstanceUID for copy in copies]

    assert sources == [headers[0].SOPInstanceUID, headers[1].SOPInstanceUID]
    assert [copy.InstanceNumber for copy in copies] == [2, 3]


def test_the_copy_shows_the_findings_box():
    """The pixels of the object, read back, bear the box where the finding is."""
    reading, headers, pictures = _study()
    copy, _ = annotated_copies(reading, source_study(headers), DEVICE, pictures)

    pixels = parse(encode(copy)).pixel_array[:ROWS]

    left, _, right, bottom = coloured(pixels[int(BOX.top) :], Band.POSITIVE)
    assert (left, right) == pytest.approx((BOX.left, BOX.right), abs=2)
    assert bottom + int(BOX.top) == pytest.approx(BOX.bottom, abs=2)


def test_the_summary_refers_to_every_image_and_is_first_in_the_series():
    """One page per study, whatever came of its images."""
    reading, headers, pictures = _study()
    source = source_study(headers)
    summary = parse(encode(summary_page(reading, source, DEVICE, pictures)))
    copies = annotated_copies(reading, source, DEVICE, pictures)

    listed = [item.ReferencedSOPInstanceUID for item in summary.SourceImageSequence]

    assert listed == [header.SOPInstanceUID for header in headers]
    assert summary.InstanceNumber == 1
    assert {copy.SeriesInstanceUID for copy in copies} == {summary.SeriesInstanceUID}
    uids = {summary.SOPInstanceUID, *(copy.SOPInstanceUID for copy in copies)}
    assert len(uids) == 3


def test_the_summary_says_different_things_of_different_readings():
    """Each band in its colour, and a page even where nothing was analysed."""
    header = image()
    source = source_study([header])
    pages = {}
    for name, seen in {
        "positive": image_reading(header, region_reading(header, probability=0.9)),
        "negative": image_reading(header, region_reading(header, probability=0.1)),
        "refused": image_reading(header, not_analysed="a chest is no limb"),
    }.items():
        page = summary_page(reading_of(header, seen), source, DEVICE, {})
        pages[name] = parse(encode(page)).pixel_array

    assert coloured(pages["positive"], Band.POSITIVE)
    assert coloured(pages["negative"], Band.NEGATIVE)
    for band in Band:
        assert not np.all(pages["refused"] == np.array(COLOURS[band]), axis=-1).any()


def test_a_capture_is_marked_as_what_it_is():
    """Not a primary image, with burned-in words, derived, and without invented spacing."""
    reading, headers, pictures = _study()
    capture, _ = annotated_copies(reading, source_study(headers), DEVICE, pictures)

    assert capture.Modality == "OT"
    assert list(capture.ImageType) == ["DERIVED", "SECONDARY"]
    assert capture.BurnedInAnnotation == "YES"
    assert capture.ConversionType == "WSD"
    assert capture.SeriesNumber == 9103
    assert "not verified" in capture.DerivationDescription
    purpose = capture.SourceImageSequence[0].PurposeOfReferenceCodeSequence[0]
    assert purpose.CodeValue == "121322"
    assert {"PixelSpacing", "ImagerPixelSpacing", "WindowCenter"}.isdisjoint(capture.dir())


def test_what_was_lost_in_a_source_stays_lost():
    """LossyImageCompression never goes back from 01, and its ratio comes along."""
    lossy = image(
        LossyImageCompression="01",
        LossyImageCompressionRatio="12.5",
        LossyImageCompressionMethod="ISO_10918_1",
    )
    seen = image_reading(lossy, region_reading(lossy))
    source = source_study([received(lossy)])
    pictures = {lossy.SOPInstanceUID: grey()}
    (capture,) = annotated_copies(reading_of(lossy, seen), source, DEVICE, pictures)

    read = parse(encode(capture))

    assert read.LossyImageCompression == "01"
    assert read.LossyImageCompressionRatio == 12.5
    assert read.LossyImageCompressionMethod == "ISO_10918_1"


def test_a_picture_of_another_size_is_refused():
    """Its boxes would lie elsewhere."""
    header = image()
    reading = reading_of(header, image_reading(header, region_reading(header)))

    with pytest.raises(ValueError, match=header.SOPInstanceUID):
        annotated_copies(
            reading, source_study([header]), DEVICE, {header.SOPInstanceUID: grey(10, 10)}
        )


def test_building_twice_gives_the_same_bytes_and_other_options_another_object():
    """A retry sends the same object again."""
    reading, headers, pictures = _study()
    source = source_study(headers)
    files = {encode(summary_page(reading, source, DEVICE, pictures)) for _ in range(2)}
    smaller = CaptureOptions(longest_side=640)

    assert len(files) == 1
    (first, _), (second, _) = (
        annotated_copies(reading, source, DEVICE, pictures, options) for options in (None, smaller)
    )
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert second.Rows < first.Rows
