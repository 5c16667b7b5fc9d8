"""From DICOM attributes, good and odd, to the picture that is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEGLosslessSV1,
)

from studies.errors import NotAnalysable, UnreadablePixels
from tests.support.dicom_making import ABSENT, make, picture, write
from worker.decoding import StoredPixels
from worker.eligibility import why_not_analysed
from worker.grey import count_cells, display_table, look_up
from worker.pixels import (
    DisplayedImage,
    PixelSpacing,
    display,
    is_dicom,
    is_picture,
    open_dicom,
    read_dicom,
)

BONE = (48, 29)  # row, column: on the shaft that picture() draws
AIR = (48, 2)


def shown(tmp_path: Path, pixels: Any = None, **elements: Any) -> DisplayedImage:
    """Write, read and display: the way of a file, so that raw bytes are really raw."""
    return read_dicom(write(make(pixels, **elements), tmp_path / "image.dcm"))


def lut(first: int, bits: int, entries: list[int]) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries) % 65536, first, bits])
    item.add_new("LUTData", "US", entries)
    return item


def test_the_window_of_the_file_spans_black_to_white(tmp_path: Path) -> None:
    """LINEAR as PS3.3 C.11.2.1.2 writes it: 0 below, 1 above, straight between."""
    ramp = np.arange(4096, dtype=np.uint16).reshape(64, 64)

    image = shown(tmp_path, ramp, WindowCenter="1000", WindowWidth="501")

    flat = image.pixels.ravel()
    assert flat[749] == 0.0
    assert flat[1250] == 1.0
    assert flat[1000] == pytest.approx((1000 - 999.5) / 500 + 0.5)
    assert (np.diff(flat) >= 0).all()
    assert image.notes == ()


def test_linear_exact_is_centred_without_the_half_pixel(tmp_path: Path) -> None:
    """LINEAR_EXACT (C.11.2.1.3.2) puts the centre itself in the middle."""
    ramp = np.arange(4096, dtype=np.uint16).reshape(64, 64)

    image = shown(
        tmp_path, ramp, WindowCenter="1000", WindowWidth="500", VOILUTFunction="LINEAR_EXACT"
    )

    flat = image.pixels.ravel()
    assert flat[1000] == pytest.approx(0.5)
    assert flat[750] == 0.0
    assert flat[875] == pytest.approx(0.25)


def test_a_sigmoid_window_follows_the_formula(tmp_path: Path) -> None:
    """SIGMOID (C.11.2.1.3.1) never quite reaches black or white."""
    ramp = np.arange(4096, dtype=np.uint16).reshape(64, 64)

    image = shown(tmp_path, ramp, WindowCenter="1000", WindowWidth="500", VOILUTFunction="SIGMOID")

    assert image.pixels.ravel()[1100] == pytest.approx(1 / (1 + np.exp(-4 * 100 / 500)))


@pytest.mark.parametrize("kind", ["CR", "DX"])
def test_monochrome1_is_inverted_once(kind: str, tmp_path: Path) -> None:
    """The same picture stored either way looks the same, with bone bright."""
    plain = picture()
    negative = (4095 - plain).astype(np.uint16)
    window = {"WindowCenter": "2048", "WindowWidth": "4097", "VOILUTFunction": "LINEAR_EXACT"}

    first = shown(tmp_path, plain, kind=kind, **window)
    second = shown(
        tmp_path,
        negative,
        kind=kind,
        photometric="MONOCHROME1",
        **(window | {"WindowCenter": "2047"}),
    )

    assert not first.inverted
    assert second.inverted
    assert first.pixels[BONE] > first.pixels[AIR] + 0.3
    assert np.allclose(first.pixels, second.pixels, atol=1e-6)


def test_a_shape_that_contradicts_the_photometric_interpretation_decides_and_is_noted(
    tmp_path: Path,
) -> None:
    """PresentationLUTShape says what the VOI's output is, so it wins, and the contradiction stays."""
    image = shown(tmp_path, photometric="MONOCHROME1", PresentationLUTShape="IDENTITY")

    assert not image.inverted
    assert any("contradicts" in note for note in image.notes)


@pytest.mark.parametrize("invert", [True, False])
def test_a_device_that_states_a_wrong_polarity_can_be_overruled(invert: bool) -> None:
    """The override decides alone, whatever the file says."""
    right = display(make())

    image = display(make(photometric="MONOCHROME1"), invert=invert)

    expected = 1.0 - right.pixels if invert else right.pixels
    assert image.inverted is invert
    assert np.allclose(image.pixels, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("elements", "note"),
    [
        ({"WindowWidth": b"0 "}, "WindowWidth 0"),
        ({"WindowWidth": b"-5"}, "WindowWidth -5"),
        ({"WindowWidth": b"0.5", "VOILUTFunction": "LINEAR"}, "WindowWidth 0.5"),
        ({"WindowWidth": b"0", "VOILUTFunction": "SIGMOID"}, "WindowWidth 0"),
        ({"VOILUTFunction": "CUBIC"}, "VOILUTFunction CUBIC unknown"),
        ({"WindowWidth": ABSENT}, "WindowWidth missing"),
        ({"WindowCenter": ABSENT}, "WindowCenter missing"),
        ({"WindowCenter": None}, "WindowCenter missing"),
        ({"WindowCenter": None, "WindowWidth": None}, "without a number"),
        ({"WindowCenter": b"abc", "WindowWidth": b"nan"}, "without a number"),
        ({"WindowCenter": ABSENT, "WindowWidth": ABSENT}, "no window"),
        ({"WindowCenter": "60000", "WindowWidth": "10"}, "single grey value"),
    ],
)
def test_an_unusable_window_gives_percentiles_and_a_note(
    elements: dict[str, Any], note: str, tmp_path: Path
) -> None:
    """What pydicom refuses still shows a picture with full contrast, and says so."""
    image = shown(tmp_path, **elements)

    assert any(note in text for text in image.notes), image.notes
    assert image.pixels.min() == 0.0
    assert image.pixels.max() == 1.0
    assert 0.1 < image.pixels.mean() < 0.9
    assert image.pixels[BONE] > image.pixels[AIR] + 0.3


def test_of_several_windows_the_first_is_used(tmp_path: Path) -> None:
    """The first window is the sender's choice; the others are alternatives."""
    image = shown(tmp_path, WindowCenter=["1000", "3000"], WindowWidth=["800", "100"])

    assert np.array_equal(
        image.pixels, shown(tmp_path, WindowCenter="1000", WindowWidth="800").pixels
    )
    assert any("several windows" in note for note in image.notes)


def test_a_decimal_comma_is_read_as_what_it_means(tmp_path: Path) -> None:
    """Some senders write DS in their own language."""
    image = shown(tmp_path, WindowCenter=b"1550,5", WindowWidth=b"1024,0")

    assert np.array_equal(
        image.pixels, shown(tmp_path, WindowCenter="1550.5", WindowWidth="1024").pixels
    )


def test_a_voi_lut_comes_before_the_window(tmp_path: Path) -> None:
    """Where both are there, the table is used (and its output is scaled by its own depth)."""
    ramp = np.arange(256, dtype=np.uint16).reshape(16, 16)
    table = [i * i // 64 for i in range(256)]

    image = shown(tmp_path, ramp, VOILUTSequence=Sequence([lut(0, 10, table)]))

    assert np.allclose(image.pixels.ravel(), np.array(table) / 1023)


def test_a_modality_lut_is_applied_before_the_window(tmp_path: Path) -> None:
    """Values before the table's first and after its last entry take those entries."""
    ramp = np.arange(256, dtype=np.uint16).reshape(16, 16)
    table = lut(100, 12, [1000, 1500, 2000, 3000])
    table.ModalityLUTType = "US"

    image = shown(
        tmp_path,
        ramp,
        kind="CR",
        ModalityLUTSequence=Sequence([table]),
        WindowCenter="2000",
        WindowWidth="2000",
        VOILUTFunction="LINEAR_EXACT",
    )

    flat = image.pixels.ravel()
    assert flat[[0, 100, 101, 102, 103, 255]] == pytest.approx([0, 0, 0.25, 0.5, 1, 1])


def test_a_useless_lut_is_ignored_with_a_note(tmp_path: Path) -> None:
    """A sequence without data must not take the window away."""
    empty = Dataset()
    empty.LUTExplanation = "nothing"

    image = shown(tmp_path, VOILUTSequence=Sequence([empty]))

    assert np.array_equal(image.pixels, shown(tmp_path).pixels)
    assert any("VOILUTSequence" in note for note in image.notes)


def test_bits_above_bits_stored_do_not_count(tmp_path: Path) -> None:
    """Overlays and rubbish live there."""
    dirty = picture()
    dirty[::3, ::2] |= 0xF000

    assert np.array_equal(shown(tmp_path, dirty).pixels, shown(tmp_path).pixels)


def test_signed_pixels_are_twos_complement(tmp_path: Path) -> None:
    """A signed picture shifted down by half its range is the unsigned picture."""
    signed = picture().astype(np.int16) - 2048

    image = shown(tmp_path, signed)

    assert np.array_equal(image.pixels, shown(tmp_path).pixels)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_invalid_and_outside_the_percentiles(
    photometric: str, tmp_path: Path
) -> None:
    """Padding is no anatomy: it neither shows nor stretches the grey scale."""
    padded = np.minimum(picture(), 3900)
    padded[:, :20] = 4000
    windowless = {"WindowCenter": ABSENT, "WindowWidth": ABSENT, "photometric": photometric}

    image = shown(
        tmp_path, padded, PixelPaddingValue=4000, PixelPaddingRangeLimit=4095, **windowless
    )

    alone = shown(tmp_path, np.ascontiguousarray(padded[:, 20:]), **windowless)
    assert image.valid is not None
    assert not image.valid[:, :20].any()
    assert (image.pixels[:, :20] == 0).all()
    assert np.array_equal(image.pixels[:, 20:], alone.pixels)


def test_padding_that_was_written_with_the_wrong_sign_is_found(tmp_path: Path) -> None:
    """-1 for 4095 in unsigned data: senders mix US and SS up."""
    padded = picture()
    padded[:5] = 4095
    ds = make(padded)
    ds.add_new("PixelPaddingValue", "SS", -1)

    image = read_dicom(write(ds, tmp_path / "image.dcm"))

    assert image.valid is not None
    assert not image.valid[:5].any()
    assert image.valid[5:].mean() > 0.9


def test_a_shutter_is_black_and_invalid(tmp_path: Path) -> None:
    """Edges are numbers of rows and columns from 1 (PS3.3 C.7.6.11); shapes intersect."""
    image = shown(
        tmp_path,
        ShutterShape=["RECTANGULAR", "CIRCULAR"],
        ShutterLeftVerticalEdge="11",
        ShutterRightVerticalEdge="50",
        ShutterUpperHorizontalEdge="21",
        ShutterLowerHorizontalEdge="80",
        CenterOfCircularShutter=["50", "30"],
        RadiusOfCircularShutter="28",
    )

    assert image.valid is not None
    assert image.valid[49, 29]
    assert not image.valid[49, :10].any()
    assert not image.valid[:20].any()
    assert not image.valid[80:].any()
    assert not image.valid[21, 11]  # Inside the rectangle, outside the circle.
    assert (image.pixels[~image.valid] == 0).all()
    assert image.pixels[49, 29] == shown(tmp_path).pixels[49, 29]


def test_a_polygonal_shutter_leaves_its_inside(tmp_path: Path) -> None:
    """Vertices come as row, column, row, column, from 1."""
    image = shown(
        tmp_path,
        ShutterShape="POLYGONAL",
        VerticesOfThePolygonalShutter=["1", "1", "1", "64", "96", "1"],
    )

    assert image.valid is not None
    assert image.valid[5, 5]
    assert not image.valid[90, 60]
    assert image.valid.mean() == pytest.approx(0.5, abs=0.03)


def test_a_collimator_masks_without_blackening(tmp_path: Path) -> None:
    """Its edges are rough: pixels outside keep their grey, but do not count."""
    image = shown(
        tmp_path,
        CollimatorShape="RECTANGULAR",
        CollimatorLeftVerticalEdge="10",
        CollimatorRightVerticalEdge="60",
        CollimatorUpperHorizontalEdge="10",
        CollimatorLowerHorizontalEdge="90",
    )

    assert image.valid is not None
    assert image.valid.sum() == 51 * 81
    assert np.array_equal(image.pixels, shown(tmp_path).pixels)


def test_a_collimator_in_other_units_is_ignored(tmp_path: Path) -> None:
    """A real chest CR has -184 and 184 there, which are no columns."""
    image = shown(
        tmp_path,
        CollimatorShape="RECTANGULAR",
        CollimatorLeftVerticalEdge="-184",
        CollimatorRightVerticalEdge="184",
        CollimatorUpperHorizontalEdge="907",
        CollimatorLowerHorizontalEdge="1299",
    )

    assert image.valid is None
    assert any("Collimator" in note for note in image.notes)


@pytest.mark.parametrize(
    ("elements", "spacing"),
    [
        (
            {"spacing_mm": 0.15},
            PixelSpacing(row_mm=0.15, column_mm=0.15, source="ImagerPixelSpacing"),
        ),
        (
            {"spacing_mm": 0.15, "PixelSpacing": ["0.1", "0.2"]},
            PixelSpacing(row_mm=0.15, column_mm=0.15, source="ImagerPixelSpacing"),
        ),
        (
            {
                "spacing_mm": None,
                "PixelSpacing": ["0.1", "0.2"],
                "PixelSpacingCalibrationType": "FIDUCIAL",
            },
            PixelSpacing(row_mm=0.1, column_mm=0.2, source="PixelSpacing FIDUCIAL"),
        ),
        ({"spacing_mm": None}, None),
        ({"spacing_mm": None, "PixelSpacing": b"0.000\\0.000"}, None),
        (
            {"spacing_mm": None, "PixelSpacing": b"0,2\\0,2"},
            PixelSpacing(row_mm=0.2, column_mm=0.2, source="PixelSpacing"),
        ),
        ({"spacing_mm": None, "PixelSpacing": b"0.2"}, None),
    ],
)
def test_spacing_is_only_what_the_file_states(
    elements: dict[str, Any], spacing: PixelSpacing | None, tmp_path: Path
) -> None:
    """Without a stated spacing there are no millimetres."""
    assert shown(tmp_path, **elements).spacing == spacing


def test_pixels_that_are_not_square_give_an_aspect(tmp_path: Path) -> None:
    """Height over width, from the spacing or from PixelAspectRatio alone."""
    by_ratio = shown(tmp_path, spacing_mm=None, PixelAspectRatio=["2", "1"])
    by_spacing = shown(tmp_path, spacing_mm=None, PixelSpacing=["0.1", "0.2"])

    assert by_ratio.spacing is None
    assert by_ratio.pixel_aspect == 2.0
    assert by_spacing.pixel_aspect == 0.5


@pytest.mark.parametrize("value", [0, 1234, 4095])
def test_a_blank_picture_is_not_analysed(value: int, tmp_path: Path) -> None:
    """Read as negative it would be a lie."""
    blank = np.full((80, 64), value, dtype=np.uint16)

    with pytest.raises(NotAnalysable, match="blank"):
        shown(tmp_path, blank)


def test_a_picture_that_is_padding_all_over_is_not_analysed(tmp_path: Path) -> None:
    """Nothing valid is left to read."""
    with pytest.raises(NotAnalysable, match="blank"):
        shown(tmp_path, PixelPaddingValue=0, PixelPaddingRangeLimit=4095)


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ({"Rows": ABSENT}, "Rows"),
        ({"Columns": 0}, "Columns"),
        ({"BitsAllocated": 32}, "BitsAllocated is 32"),
        ({"BitsStored": 17}, "BitsStored is 17"),
        ({"PhotometricInterpretation": ABSENT}, "PhotometricInterpretation"),
        ({"PixelData": ABSENT}, "no pixel data"),
        ({"PixelData": b""}, "empty"),
        ({"Rows": 97}, "truncated"),
        ({"Rows": 60000, "Columns": 60000}, "more than"),
    ],
)
def test_attributes_that_contradict_the_pixels_are_unreadable(
    elements: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """The reason names the element."""
    with pytest.raises(UnreadablePixels, match=message):
        shown(tmp_path, **elements)


def test_missing_bits_stored_and_high_bit_are_taken_from_what_is_there(tmp_path: Path) -> None:
    """BitsAllocated and BitsStored - 1, with a note each."""
    image = shown(tmp_path, BitsStored=ABSENT, HighBit=ABSENT)

    assert np.array_equal(image.pixels, shown(tmp_path).pixels)
    assert len(image.notes) == 2


def test_a_value_that_sits_high_in_its_cell_is_shifted_down(tmp_path: Path) -> None:
    """HighBit 15 of 12 bits stored: retired, and still sent."""
    high = (picture() << 4).astype(np.uint16)

    image = shown(tmp_path, high, HighBit=15)

    assert np.array_equal(image.pixels, shown(tmp_path).pixels)


def test_colour_is_not_analysed_unless_it_is_allowed(tmp_path: Path) -> None:
    """A screen capture may be a radiograph, but only a person can decide to read it as one."""
    grey = (picture(bits=8)).astype(np.uint8)
    rgb = np.stack([grey, grey, grey], axis=2)
    path = write(make(rgb, kind="SC", photometric="RGB"), tmp_path / "colour.dcm")

    with pytest.raises(NotAnalysable, match="colour"):
        read_dicom(path)
    image = read_dicom(path, allow_colour=True)

    assert np.allclose(image.pixels, grey / 255, atol=1e-5)
    assert any("brightness" in note for note in image.notes)


def test_several_frames_are_not_analysed(tmp_path: Path) -> None:
    """A run of fluoroscopy is no radiograph."""
    with pytest.raises(NotAnalysable, match="3 frames"):
        shown(tmp_path, np.stack([picture()] * 3), kind="XA")


@pytest.mark.parametrize(
    "content",
    [b"", b"hello, this is no DICOM file" * 20, b"\0" * 128 + b"DICM", b"\x89PNG\r\n\x1a\n" * 40],
    ids=["empty", "text", "prefix only", "png"],
)
def test_a_file_that_is_no_dicom_is_unreadable(content: bytes, tmp_path: Path) -> None:
    """The message names the file, and nothing crashes."""
    path = tmp_path / "odd.dcm"
    path.write_bytes(content)

    with pytest.raises(UnreadablePixels, match=r"odd\.dcm"):
        open_dicom(path)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, JPEGLosslessSV1]
)
def test_a_damaged_file_is_shown_or_refused_but_nothing_else(
    syntax: UID, seed: int, tmp_path: Path
) -> None:
    """Bytes changed, lost and added anywhere: no other error, no warning, no ended process."""
    whole = write(make(picture(120, 110), syntax=syntax), tmp_path / "whole.dcm").read_bytes()
    rng = np.random.default_rng(seed)
    path = tmp_path / "damaged.dcm"
    for _ in range(40):
        damaged = bytearray(whole)
        for where in rng.integers(132, len(whole), rng.integers(1, 6)):
            kind = rng.integers(3)
            damaged[where : where + (0, 1, 9)[kind]] = rng.bytes((5, 1, 0)[kind])
        path.write_bytes(bytes(damaged))
        try:
            ds = open_dicom(path)
            why_not_analysed(ds)
            image = display(ds)
        except (UnreadablePixels, NotAnalysable):
            continue
        assert 0 <= image.pixels.min() < image.pixels.max() <= 1


def test_no_error_repeats_what_stands_in_the_file(tmp_path: Path) -> None:
    """pydicom's own messages quote values, a patient's name among them."""
    whole = write(make(PatientName="SECRET^NAME"), tmp_path / "whole.dcm").read_bytes()
    path = tmp_path / "damaged.dcm"
    messages = []
    for where in range(132, len(whole), 3):
        path.write_bytes(whole[:where] + b"\xfa\xfb\xfc" + whole[where + 2 :])
        if where > 2000:
            break
        try:
            display(open_dicom(path))
        except (UnreadablePixels, NotAnalysable) as error:
            messages.append(str(error))

    assert len(messages) > 20
    assert not any("SECRET" in message for message in messages)


def test_a_picture_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    """Not by its name."""
    Image.fromarray(picture(bits=8).astype(np.uint8)).save(tmp_path / "a.dcm", "PNG")
    Image.fromarray(picture(bits=8).astype(np.uint8)).save(tmp_path / "b.png", "JPEG")
    write(make(), tmp_path / "c.png")

    assert is_picture(tmp_path / "a.dcm")
    assert is_picture(tmp_path / "b.png")
    assert not is_picture(tmp_path / "c.png")
    assert is_dicom(tmp_path / "c.png")


def test_a_file_that_is_not_there_is_unreadable(tmp_path: Path) -> None:
    """The message names it."""
    with pytest.raises(UnreadablePixels, match=r"gone\.dcm does not exist"):
        open_dicom(tmp_path / "gone.dcm")


def test_a_data_set_without_preamble_is_read(tmp_path: Path) -> None:
    """Old archives write them; the syntax is guessed from the data set."""
    path = tmp_path / "bare.dcm"
    whole = write(make(), tmp_path / "whole.dcm").read_bytes()
    meta_length = int.from_bytes(whole[140:144], "little")
    path.write_bytes(whole[144 + meta_length :])

    assert np.array_equal(read_dicom(path).pixels, shown(tmp_path).pixels)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.9, 0.999])
def test_a_file_cut_anywhere_is_unreadable(share: float, tmp_path: Path) -> None:
    """A transfer that broke off never shows half a picture."""
    whole = write(make(), tmp_path / "whole.dcm").read_bytes()
    path = tmp_path / "cut.dcm"
    path.write_bytes(whole[: int(len(whole) * share)])

    with pytest.raises((UnreadablePixels, NotAnalysable)):
        read_dicom(path)


def test_trailing_padding_is_no_part_of_the_picture(tmp_path: Path) -> None:
    """Data Set Trailing Padding (FFFC,FFFC), and bytes behind the last pixel."""
    ds = make()
    ds.add_new((0xFFFC, 0xFFFC), "OB", b"\0" * 512)
    ds.PixelData += b"\xff" * 100

    image = read_dicom(write(ds, tmp_path / "image.dcm"))

    assert np.array_equal(image.pixels, shown(tmp_path).pixels)
    assert any("100 bytes after" in note for note in image.notes)


def test_the_picture_cannot_be_changed_by_who_gets_it(tmp_path: Path) -> None:
    """Two models read the same pixels."""
    image = shown(tmp_path)

    with pytest.raises(ValueError, match="read-only"):
        image.pixels[0, 0] = 1.0


@pytest.mark.parametrize(
    "elements",
    [
        {
            "SpecificCharacterSet": ["", "ISO 2022 IR 87"],
            "PatientName": b"Yamada^Tarou=\x1b$B;3ED\x1b(B",
        },
        {"SpecificCharacterSet": ABSENT, "PatientName": b"M\xfcller^J\xf6rg"},
        {"SpecificCharacterSet": "NO_SUCH_SET"},
        {"PatientSex": "X", "StudyDate": b"2026.01.02", "StudyTime": b"10:11:12"},
        {"PatientID": ABSENT, "StudyDate": ABSENT, "PatientName": None},
    ],
    ids=["japanese", "no charset", "unknown charset", "odd values", "missing type 2"],
)
def test_what_is_odd_about_the_patient_does_not_touch_the_picture(
    elements: dict[str, Any], tmp_path: Path
) -> None:
    """Pixels are read without warnings whatever stands beside them."""
    assert np.array_equal(shown(tmp_path, **elements).pixels, shown(tmp_path).pixels)


@given(
    bits=st.integers(2, 16),
    signed=st.booleans(),
    inverse=st.booleans(),
    center=st.floats(-40000, 70000),
    width=st.floats(1, 70000),
    slope=st.floats(0.01, 10),
    intercept=st.floats(-5000, 5000),
    rubbish=st.booleans(),
    data=st.data(),
)
def test_the_table_gives_what_the_formulas_give_pixel_by_pixel(
    bits: int,
    signed: bool,
    inverse: bool,
    center: float,
    width: float,
    slope: float,
    intercept: float,
    rubbish: bool,
    data: st.DataObject,
) -> None:
    """Mask, sign, rescale, window, inversion: the same in float for each pixel of any image."""
    low = -(1 << (bits - 1)) if signed else 0
    values = np.array(
        data.draw(st.lists(st.integers(low, low + (1 << bits) - 1), min_size=4, max_size=40))
    ).reshape(1, -1)
    cells = (values & ((1 << bits) - 1)).astype(np.uint16)
    if rubbish and bits < 16:
        cells[:, ::2] |= np.uint16(1 << bits)
    ds = make()
    ds.WindowCenter, ds.WindowWidth = f"{center:.6g}", f"{width:.6g}"
    ds.RescaleSlope, ds.RescaleIntercept = f"{slope:.6g}", f"{intercept:.6g}"
    ds.PresentationLUTShape = "INVERSE" if inverse else "IDENTITY"
    stored = StoredPixels(cells=cells, bits_stored=bits, shift=0, signed=signed)

    table = display_table(ds, stored)

    if any("percentiles" in note for note in table.notes):
        return  # The window shows nothing of these values; another test is about that.
    x = values * float(f"{slope:.6g}") + float(f"{intercept:.6g}")
    c, w = float(f"{center:.6g}") - 0.5, float(f"{width:.6g}") - 1
    y = np.clip((x - c) / w + 0.5, 0, 1) if w else (x > c).astype(float)
    assert np.allclose(look_up(table.grey, cells), 1 - y if inverse else y, atol=1e-6)


def test_looking_up_in_blocks_is_looking_up() -> None:
    """The fast way is the plain way, over the edge of a block and for bytes too."""
    rng = np.random.default_rng(1)
    words = rng.integers(0, 65536, (300, 777)).astype(np.uint16)
    table = rng.random(65536).astype(np.float32)

    assert np.array_equal(look_up(table, words), table[words])
    assert np.array_equal(look_up(table[:256], words.astype(np.uint8)), table[words & 255])
    assert np.array_equal(count_cells(words), np.bincount(words.ravel(), minlength=65536))
