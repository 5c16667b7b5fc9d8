"""Presentation states: the right box, on the right image, with the image's own greys."""

from __future__ import annotations

import io

import pydicom
import pytest
from pydicom.dataset import Dataset

from reports.dataset import encode
from reports.presentation import presentation_states
from reports.source import source_study
from reports.sr import measurement_report
from studies.model import Box, Laterality, Reading
from tests.support.dicom_making import ABSENT, make, to_bytes
from tests.support.identities import IDENTITIES, with_identity
from tests.support.readings import DEVICE, image_reading, reading_of, region_reading
from tests.support.sr_trees import parse, tree

BOX = Box(left=10, top=20, right=30.5, bottom=44)
OTHER_BOX = Box(left=1, top=2, right=9, bottom=12)


def received(header: Dataset) -> Dataset:
    """Return the header as it comes out of a file."""
    return pydicom.dcmread(io.BytesIO(to_bytes(header)), stop_before_pixels=True)


def states_of(reading: Reading, *headers: Dataset) -> list[Dataset]:
    """Return the presentation states after a round trip through their files."""
    source = source_study([received(header) for header in headers])
    return [parse(encode(state)) for state in presentation_states(reading, source, DEVICE)]


def boxed(header: Dataset, *boxes: Box) -> Reading:
    """Return a reading of one image with boxes."""
    return reading_of(header, image_reading(header, region_reading(header, boxes=boxes)))


@pytest.mark.parametrize(
    ("photometric", "shape"), [("MONOCHROME1", "INVERSE"), ("MONOCHROME2", "IDENTITY")]
)
def test_the_polarity_follows_the_photometric_interpretation(photometric, shape):
    """Under a state the image's own is ignored (PS3.4 N.2); validators do not look."""
    header = make(photometric=photometric)
    (state,) = states_of(boxed(header, BOX), header)

    assert state.PresentationLUTShape == shape


def test_the_boxes_and_names_are_those_of_the_report():
    """One finding has one name and one outline wherever it is shown."""
    header = make()
    reading = boxed(header, BOX, OTHER_BOX)
    source = source_study([received(header)])
    report = tree(parse(encode(measurement_report(reading, source, DEVICE))))
    (state,) = states_of(reading, header)

    drawn = {
        item.TrackingUID: [float(value) for value in item.GraphicData]
        for item in state.GraphicAnnotationSequence[0].GraphicObjectSequence
    }

    assert drawn == {
        group.one("112040").value: group.one("111030").value for group in report.all("125007")
    }


def test_a_text_beside_each_box_says_what_it_is():
    """The text is anchored at the corner of its box and bears its name."""
    header = make()
    (state,) = states_of(boxed(header, BOX), header)

    (text,) = state.GraphicAnnotationSequence[0].TextObjectSequence

    assert text.UnformattedTextValue == "Hand 1: fracture? 91 %"
    assert list(text.AnchorPoint) == [10, 20]
    assert state.GraphicAnnotationSequence[0].GraphicLayer == "AI_FINDINGS"
    assert state.GraphicLayerSequence[0].GraphicLayer == "AI_FINDINGS"


def test_each_image_with_a_box_gets_one_state_and_no_other_image():
    """Nothing is drawn where nothing was located."""
    headers = [make(seed=f"s/{number}") for number in range(4)]
    first, second, negative, unlocated = headers
    reading = reading_of(
        first,
        image_reading(first, region_reading(first, boxes=(BOX, OTHER_BOX))),
        image_reading(second, region_reading(second, boxes=(BOX,))),
        image_reading(negative, region_reading(negative, probability=0.1)),
        image_reading(unlocated, region_reading(unlocated)),
    )

    states = states_of(reading, *headers)

    shown = [
        state.ReferencedSeriesSequence[0].ReferencedImageSequence[0].ReferencedSOPInstanceUID
        for state in states
    ]
    assert shown == [first.SOPInstanceUID, second.SOPInstanceUID]
    assert [state.InstanceNumber for state in states] == [1, 2]
    assert len({state.SeriesInstanceUID for state in states}) == 1
    assert len({state.SOPInstanceUID for state in states}) == 2


def test_a_colour_image_or_one_without_a_header_gets_no_state():
    """A grayscale state of it would be a guess."""
    colour, unknown = make(seed="s/1"), make(seed="s/2")
    colour.PhotometricInterpretation = "RGB"
    reading = reading_of(
        colour,
        image_reading(colour, region_reading(colour, boxes=(BOX,))),
        image_reading(unknown, region_reading(unknown, boxes=(BOX,))),
    )

    assert states_of(reading, colour) == []


def test_the_whole_image_is_shown_with_its_pixels_in_shape():
    """Displayed areas count pixels from 1."""
    header = make(PixelAspectRatio=["2", "1"])
    (state,) = states_of(boxed(header, BOX), header)

    (area,) = state.DisplayedAreaSelectionSequence

    assert list(area.DisplayedAreaTopLeftHandCorner) == [1, 1]
    assert list(area.DisplayedAreaBottomRightHandCorner) == [header.Columns, header.Rows]
    assert area.PresentationSizeMode == "SCALE TO FIT"
    assert list(area.PresentationPixelAspectRatio) == [2, 1]


def test_the_greys_of_the_image_are_repeated():
    """A state replaces window and rescale; without them the image would look different."""
    header = make(
        WindowCenter=["2000", "100"],
        WindowWidth=["3000", "10"],
        RescaleIntercept="-5",
        RescaleSlope="2",
        RescaleType="US",
    )
    (state,) = states_of(boxed(header, BOX), header)

    assert (state.RescaleIntercept, state.RescaleSlope, state.RescaleType) == (-5, 2, "US")
    (voi,) = state.SoftcopyVOILUTSequence
    assert (voi.WindowCenter, voi.WindowWidth) == (2000, 3000)


@pytest.mark.parametrize(
    "bad", [{"WindowWidth": b"0"}, {"WindowWidth": ABSENT}, {"WindowCenter": b"bright"}]
)
def test_a_window_that_says_nothing_is_left_out(bad):
    """WindowWidth 0 and half a window do arrive."""
    header = make(**{"WindowCenter": "2000", "WindowWidth": "3000", **bad})
    (state,) = states_of(boxed(header, BOX), header)

    assert "SoftcopyVOILUTSequence" not in state


def test_a_lookup_table_goes_before_the_window():
    """VOI LUT before window, with its entries as they were."""
    lut = Dataset()
    lut.add_new("LUTDescriptor", "US", [4, 0, 12])
    lut.add_new("LUTData", "US", [0, 100, 2000, 4095])
    header = make(VOILUTSequence=[lut], WindowCenter="2000", WindowWidth="3000")
    (state,) = states_of(boxed(header, BOX), header)

    (voi,) = state.SoftcopyVOILUTSequence
    (item,) = voi.VOILUTSequence
    assert "WindowCenter" not in voi
    assert list(item.LUTDescriptor) == [4, 0, 12]
    assert item.LUTData == b"\x00\x00\x64\x00\xd0\x07\xff\x0f"


@pytest.mark.parametrize(
    ("sides", "stated"),
    [
        ([Laterality.LEFT, Laterality.LEFT], "L"),
        ([Laterality.LEFT, Laterality.RIGHT], ""),
        ([None], ""),
        ([Laterality.BOTH], ""),
    ],
)
def test_the_side_of_the_series_is_stated_only_if_it_is_one(sides, stated):
    """Laterality belongs to the series, so all its objects agree."""
    headers = [make(seed=f"s/{number}") for number in range(len(sides))]
    images = [
        image_reading(header, region_reading(header, boxes=(BOX,)), laterality=side)
        for header, side in zip(headers, sides, strict=True)
    ]

    states = states_of(reading_of(headers[0], *images), *headers)

    assert {state["Laterality"].value or "" for state in states} == {stated}


def test_the_patient_is_that_of_the_image():
    """Byte for byte, in its character set."""
    header = with_identity(make(), IDENTITIES["japanese-87"])
    (state,) = states_of(boxed(header, BOX), header)

    assert state.get_item("PatientName").value.rstrip() == IDENTITIES["japanese-87"].PatientName
    assert state.StudyInstanceUID == header.StudyInstanceUID


def test_building_twice_gives_the_same_bytes():
    """A retry sends the same object again."""
    header = make()
    reading = boxed(header, BOX)
    source = source_study([received(header)])
    files = {
        encode(state) for _ in range(2) for state in presentation_states(reading, source, DEVICE)
    }

    assert len(files) == 1


def test_a_reading_of_another_study_is_refused():
    """A state never carries another patient's identity."""
    header, other = make(), make(seed="other/1")

    with pytest.raises(ValueError, match=other.StudyInstanceUID):
        presentation_states(boxed(other, BOX), source_study([header]), DEVICE)
