"""From a file to the picture that a radiologist would see: the entry to everything about pixels.

The steps live beside it: elements (values as senders write them), decoding (codecs), grey
(modality, VOI, polarity), shutters (what is covered), pictures (PNG, JPEG), eligibility (what
may be read at all).
"""

from __future__ import annotations

import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError

from studies.errors import NotAnalysable, UnreadablePixels
from worker.decoding import StoredPixels, decode_grey, decode_rgb, number_of_frames
from worker.elements import integer, numbers, word
from worker.grey import DEFAULT_PERCENTILES, display_table, look_up
from worker.pictures import luma, read_grey_picture
from worker.shutters import Visibility, visibility

_READ_ERRORS: Final = (
    InvalidDicomError,
    EOFError,
    ValueError,
    KeyError,
    AttributeError,
    TypeError,
    NotImplementedError,
    OverflowError,
    OSError,
    struct.error,
    zlib.error,
    BytesLengthException,
    RecursionError,
    MemoryError,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelSpacing:
    """Millimetres per pixel, where the file states them.

    Attributes
    ----------
    row_mm
        Distance of the centres of two adjacent rows (down).
    column_mm
        Distance of the centres of two adjacent columns (across).
    source
        "ImagerPixelSpacing" (at the detector, not corrected for magnification), "PixelSpacing"
        or "PixelSpacing FIDUCIAL"/"PixelSpacing GEOMETRY" (PixelSpacingCalibrationType).
    """

    row_mm: float
    column_mm: float
    source: str

    def __post_init__(self) -> None:
        if not (self.row_mm > 0 and self.column_mm > 0):
            raise ValueError(f"pixel spacing must be positive: {self}")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DisplayedImage:
    """A picture as it is meant to be seen, on the grid of the stored image.

    Attributes
    ----------
    pixels
        float32 [rows, columns], 0 black to 1 white, bone bright, not writeable.
    valid
        bool [rows, columns], False where a pixel shows no anatomy (padding, shutter,
        collimator); None where every pixel does. Padded and shuttered pixels are 0.
    PhotometricInterpretation
        As stated by the file; "" for PNG and JPEG.
    inverted
        Whether the polarity was turned round, to make bone bright.
    spacing
        None where the file does not state it: then there are no millimetres.
    pixel_aspect
        Height of a pixel divided by its width.
    notes
        What was odd and how it was handled, one sentence each.

    Raises
    ------
    ValueError
        If the arrays do not fit each other.
    """

    pixels: npt.NDArray[np.float32]
    valid: npt.NDArray[np.bool_] | None = None
    PhotometricInterpretation: str = ""
    inverted: bool = False
    spacing: PixelSpacing | None = None
    pixel_aspect: float = 1.0
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.pixels.ndim != 2 or self.pixels.dtype != np.float32:
            raise ValueError(f"not a grey picture: {self.pixels.dtype} {self.pixels.shape}")
        if self.valid is not None and self.valid.shape != self.pixels.shape:
            raise ValueError(f"mask {self.valid.shape} on a picture {self.pixels.shape}")
        self.pixels.setflags(write=False)

    @property
    def rows(self) -> int:
        """Height in pixels of the stored image."""
        return int(self.pixels.shape[0])

    @property
    def columns(self) -> int:
        """Width in pixels of the stored image."""
        return int(self.pixels.shape[1])


def is_dicom(path: Path) -> bool:
    """Whether a file has the DICOM prefix after a preamble (PS3.10 section 7.1)."""
    with path.open("rb") as file:
        head = file.read(132)
    return head[128:] == b"DICM"


def open_dicom(path: Path) -> Dataset:
    """Read a DICOM file; its pixel data is still as it was.

    A file without preamble is read too, if it turns out to be a data set with a SOP class.

    Raises
    ------
    UnreadablePixels
        If the file is empty, is no DICOM, or ends in the middle.
    """
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            # pydicom warns of every oddity; of these only the early end concerns us here.
            ds = pydicom.dcmread(path, force=not is_dicom(path))
            sop_class = word(ds, "SOPClassUID")
    except FileNotFoundError as error:
        raise UnreadablePixels(f"{path.name} does not exist") from error
    except _READ_ERRORS as error:
        # The error's own text may repeat a value of the file, and so the patient's name.
        reason = type(error).__name__
        raise UnreadablePixels(f"{path.name} is not a readable DICOM file ({reason})") from error
    if any("End of file" in str(warning.message) for warning in caught):
        raise UnreadablePixels(f"{path.name} is truncated: it ends within an element")
    if not sop_class:
        what = "has no SOP class" if is_dicom(path) else "is not a DICOM file"
        raise UnreadablePixels(f"{path.name} {what}")
    return ds


def display(
    ds: Dataset,
    *,
    invert: bool | None = None,
    allow_colour: bool = False,
    percentiles: tuple[float, float] = DEFAULT_PERCENTILES,
) -> DisplayedImage:
    """Return a data set's picture as a radiologist would see it.

    Parameters
    ----------
    ds
        A single-frame image; `worker.eligibility.why_not_analysed` says beforehand what else
        is not for the models.
    invert
        For devices that state a wrong polarity: True inverts, False does not, None (the default)
        believes the file.
    allow_colour
        Whether a picture in colour is read by its brightness.
    percentiles
        Lower and upper, in %, that become black and white where there is no usable window.

    Raises
    ------
    UnreadablePixels
        If the pixels cannot be decoded, or their attributes make no sense.
    NotAnalysable
        If the picture is in colour and may not be, has several frames, or shows the same value
        everywhere.
    """
    photometric = word(ds, "PhotometricInterpretation")
    if (integer(ds, "SamplesPerPixel") or 1) > 1:
        if not allow_colour:
            raise NotAnalysable("the image is in colour")
        return _display_colour(ds, photometric, invert=invert)
    if photometric not in {"MONOCHROME1", "MONOCHROME2"}:
        raise UnreadablePixels(
            f"PhotometricInterpretation {photometric[:16] or 'is missing: polarity unknown'}"
        )
    frames = number_of_frames(ds)
    if frames > 1:
        raise NotAnalysable(f"the image has {frames} frames")
    stored = decode_grey(ds)
    rows, columns = stored.cells.shape
    seen = visibility(ds, rows, columns)
    table = display_table(ds, stored, visible=seen.open, invert=invert, percentiles=percentiles)
    pixels = look_up(table.grey, stored.cells)
    if seen.shutter is not None:
        pixels[~seen.shutter] = 0.0
    valid = _valid(stored, table.is_padding, seen)
    _refuse_blank(pixels, valid)
    spacing, aspect, spacing_notes = read_spacing(ds)
    return DisplayedImage(
        pixels=pixels,
        valid=valid,
        PhotometricInterpretation=photometric,
        inverted=table.inverted,
        spacing=spacing,
        pixel_aspect=aspect,
        notes=stored.notes + seen.notes + table.notes + spacing_notes,
    )


def read_dicom(
    path: Path,
    *,
    invert: bool | None = None,
    allow_colour: bool = False,
    percentiles: tuple[float, float] = DEFAULT_PERCENTILES,
) -> DisplayedImage:
    """Read a DICOM file's picture: `open_dicom`, then `display`."""
    return display(
        open_dicom(path), invert=invert, allow_colour=allow_colour, percentiles=percentiles
    )


def read_picture(path: Path) -> DisplayedImage:
    """Read a PNG or JPEG as it is shown: upright, in grey, bone taken to be bright.

    Raises
    ------
    UnreadablePixels
        If the file is no whole PNG or JPEG, or too large.
    NotAnalysable
        If it shows the same value everywhere.
    """
    pixels, notes = read_grey_picture(path)
    _refuse_blank(pixels, None)
    return DisplayedImage(pixels=pixels, notes=notes)


def is_picture(path: Path) -> bool:
    """Whether a file begins as a PNG or a JPEG does."""
    with path.open("rb") as file:
        head = file.read(8)
    return head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"))


def read_spacing(ds: Dataset) -> tuple[PixelSpacing | None, float, tuple[str, ...]]:
    """Return pixel spacing, pixel aspect (height / width) and notes.

    ImagerPixelSpacing is asked first, then PixelSpacing (PS3.3 10.7.1.3); PixelAspectRatio
    (C.7.6.3.1.7) gives a shape without a size.
    """
    notes = []
    for keyword in ("ImagerPixelSpacing", "PixelSpacing"):
        stated = numbers(ds, keyword)
        if not stated:
            continue
        if len(stated) != 2 or min(stated) <= 0:
            notes.append(f"{keyword} is not two positive numbers: ignored")
            continue
        calibration = word(ds, "PixelSpacingCalibrationType") if keyword == "PixelSpacing" else ""
        spacing = PixelSpacing(
            row_mm=stated[0], column_mm=stated[1], source=f"{keyword} {calibration}".strip()
        )
        return spacing, stated[0] / stated[1], tuple(notes)
    ratio = numbers(ds, "PixelAspectRatio")
    if len(ratio) == 2 and min(ratio) > 0:
        return None, ratio[0] / ratio[1], tuple(notes)
    if ratio:
        notes.append("PixelAspectRatio is not two positive numbers: ignored")
    return None, 1.0, tuple(notes)


def _display_colour(ds: Dataset, photometric: str, *, invert: bool | None) -> DisplayedImage:
    rgb, notes = decode_rgb(ds)
    pixels = luma(rgb)
    if invert:
        pixels = np.float32(1.0) - pixels
    _refuse_blank(pixels, None)
    spacing, aspect, spacing_notes = read_spacing(ds)
    return DisplayedImage(
        pixels=pixels,
        PhotometricInterpretation=photometric,
        inverted=bool(invert),
        spacing=spacing,
        pixel_aspect=aspect,
        notes=("coloured image: brightness used", *notes, *spacing_notes),
    )


def _valid(
    stored: StoredPixels, is_padding: npt.NDArray[np.bool_] | None, seen: Visibility
) -> npt.NDArray[np.bool_] | None:
    """Join what padding, shutter and collimator leave; None where they leave everything."""
    if is_padding is None:
        return seen.open
    shows = ~is_padding[stored.cells]
    if seen.open is not None:
        shows &= seen.open
    return None if shows.all() else shows


def _refuse_blank(pixels: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_] | None) -> None:
    """Refuse a picture without any contrast: read as negative it would be a lie."""
    if valid is not None:
        shown = pixels[valid]
        blank = shown.size == 0 or shown.min() == shown.max()
    else:
        # A varied picture shows it on a grid of probes; the rest is looked at only if not.
        probes = pixels[:: max(1, pixels.shape[0] // 64), :: max(1, pixels.shape[1] // 64)]
        blank = bool(probes.min() == probes.max()) and bool(pixels.min() == pixels.max())
    if blank:
        raise NotAnalysable("the image is blank: every pixel shows the same grey")
