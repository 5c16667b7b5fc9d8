"""From a data set to its stored pixel values: lengths, codecs, bit layout. No grey scale."""

from __future__ import annotations

import struct
import warnings
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.encaps import generate_fragments, get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from studies.errors import UnreadablePixels
from worker.elements import integer, number, word, words

LARGEST_IMAGE_PIXELS: Final = 120_000_000
"""Above this an image is refused before memory is asked for it (a radiograph has 4 to 16 million)."""

# Plugins of pydicom per syntax, the fastest that is correct first (docs/performance.md, "Pixels");
# the next is tried when one fails, since codecs disagree on streams that bend the rules.
_PLUGINS: Final[dict[UID, tuple[str, ...]]] = {
    JPEGBaseline8Bit: ("pillow", "gdcm"),
    JPEGExtended12Bit: ("pillow", "gdcm"),
    JPEGLossless: ("gdcm",),
    JPEGLosslessSV1: ("gdcm",),
    JPEGLSLossless: ("pyjpegls", "gdcm"),
    JPEGLSNearLossless: ("pyjpegls", "gdcm"),
    JPEG2000Lossless: ("pylibjpeg", "pillow", "gdcm"),
    JPEG2000: ("pylibjpeg", "pillow", "gdcm"),
    HTJ2KLossless: ("pylibjpeg",),
    HTJ2KLosslessRPCL: ("pylibjpeg",),
    HTJ2K: ("pylibjpeg",),
    RLELossless: ("pylibjpeg", "pydicom"),
}
_NATIVE: Final = frozenset(
    {
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        DeflatedExplicitVRLittleEndian,
        ExplicitVRBigEndian,
    }
)
_END_MARKED: Final = frozenset(_PLUGINS) - {RLELossless}  # their streams end with FFD9
_TAIL_BYTES: Final = 64

# What pydicom and its plugins raise for streams that they do not understand.
_CODEC_ERRORS: Final = (
    ValueError,
    RuntimeError,
    NotImplementedError,
    AttributeError,
    TypeError,
    KeyError,
    IndexError,
    OverflowError,
    EOFError,
    OSError,
    MemoryError,
    struct.error,
)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StoredPixels:
    """The cells of one grey image, and how a stored value lies in a cell (PS3.5 section 8.1.1).

    Attributes
    ----------
    cells
        uint8 or uint16 [rows, columns], as they stand in the file: bits above BitsStored may be
        anything, signed values are in two's complement.
    bits_stored
        Bits of a cell that are the value, 1 to 16.
    shift
        Lowest bit of the value in its cell, 0 unless HighBit says otherwise.
    signed
        PixelRepresentation.
    notes
        What was odd.
    """

    cells: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
    bits_stored: int
    shift: int
    signed: bool
    notes: tuple[str, ...] = ()

    @property
    def bits_allocated(self) -> int:
        """Bits of a cell, 8 or 16."""
        return self.cells.dtype.itemsize * 8


@dataclass(frozen=True, kw_only=True, slots=True)
class _Layout:
    """The Image Pixel module (PS3.3 C.7.6.3), checked."""

    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    notes: tuple[str, ...]


def transfer_syntax(ds: Dataset) -> UID:
    """Return the transfer syntax of a data set; guessed from how it was read if not stated."""
    meta = getattr(ds, "file_meta", None)
    stated = words(meta, "TransferSyntaxUID") if meta is not None else ()
    if stated:
        return UID(stated[0])
    is_implicit, is_little = getattr(ds, "original_encoding", (None, None))
    if is_little is False:
        return ExplicitVRBigEndian
    return ImplicitVRLittleEndian if is_implicit else ExplicitVRLittleEndian


def decode_grey(ds: Dataset) -> StoredPixels:
    """Return the stored values of a single-frame image with one sample per pixel.

    Raises
    ------
    UnreadablePixels
        If the attributes contradict each other, the data ends too early, no decoder is there
        for the syntax, or the decoder fails.
    """
    layout = _layout(ds)
    if layout.samples != 1:
        raise UnreadablePixels(f"SamplesPerPixel is {layout.samples}, not 1")
    syntax = transfer_syntax(ds)
    data = _pixel_data(ds)
    if syntax in _NATIVE:
        cells, notes = _native(data, layout, syntax)
    else:
        _check_encapsulated(data, layout, syntax)
        cells, notes = _decoded(ds, layout, syntax, as_rgb=False)
    return StoredPixels(
        cells=cells,
        bits_stored=layout.bits_stored,
        shift=layout.high_bit + 1 - layout.bits_stored,
        signed=layout.signed,
        notes=layout.notes + notes,
    )


def decode_rgb(ds: Dataset) -> tuple[npt.NDArray[np.uint8], tuple[str, ...]]:
    """Return uint8 [rows, columns, 3] of a single-frame colour image (RGB or YBR), and notes.

    Raises
    ------
    UnreadablePixels
        As `decode_grey`, and for colour of more than 8 bits or by palette.
    """
    layout = _layout(ds)
    if layout.samples != 3 or layout.bits_allocated != 8:
        raise UnreadablePixels(
            f"colour with {layout.samples} samples of {layout.bits_allocated} bits is not supported"
        )
    syntax = transfer_syntax(ds)
    data = _pixel_data(ds)
    if syntax in _NATIVE:
        samples = 2 if word(ds, "PhotometricInterpretation") == "YBR_FULL_422" else 3
        _check_length(len(data), layout.rows * layout.columns * samples)
    else:
        _check_encapsulated(data, layout, syntax)
    pixels, notes = _decoded(ds, layout, syntax, as_rgb=True)
    return pixels.astype(np.uint8, copy=False), layout.notes + notes


def _layout(ds: Dataset) -> _Layout:
    notes = []
    sizes = {}
    for keyword in ("Rows", "Columns", "BitsAllocated"):
        value = integer(ds, keyword)
        if value is None or value <= 0:
            raise UnreadablePixels(f"{keyword} is missing or not positive")
        sizes[keyword] = value
    bits_allocated = sizes["BitsAllocated"]
    if bits_allocated not in (8, 16):
        raise UnreadablePixels(f"BitsAllocated is {bits_allocated}, not 8 or 16")
    if sizes["Rows"] * sizes["Columns"] > LARGEST_IMAGE_PIXELS:
        raise UnreadablePixels(
            f"{sizes['Rows']} x {sizes['Columns']} pixels are more than {LARGEST_IMAGE_PIXELS}"
        )
    bits_stored = integer(ds, "BitsStored")
    if bits_stored is None:
        bits_stored = bits_allocated
        notes.append("BitsStored missing: BitsAllocated used")
    if not 1 <= bits_stored <= bits_allocated:
        raise UnreadablePixels(f"BitsStored is {bits_stored} of {bits_allocated} allocated")
    high_bit = integer(ds, "HighBit")
    if high_bit is None:
        high_bit = bits_stored - 1
        notes.append("HighBit missing: BitsStored - 1 used")
    if not bits_stored - 1 <= high_bit < bits_allocated:
        notes.append(f"HighBit {high_bit} contradicts BitsStored {bits_stored}: ignored")
        high_bit = bits_stored - 1
    return _Layout(
        rows=sizes["Rows"],
        columns=sizes["Columns"],
        samples=integer(ds, "SamplesPerPixel") or 1,
        bits_allocated=bits_allocated,
        bits_stored=bits_stored,
        high_bit=high_bit,
        signed=integer(ds, "PixelRepresentation") == 1,
        notes=tuple(notes),
    )


def _pixel_data(ds: Dataset) -> bytes:
    if "PixelData" not in ds:
        raise UnreadablePixels("no pixel data (the file may be truncated)")
    data = ds["PixelData"].value
    if not isinstance(data, bytes) or not data:
        raise UnreadablePixels("the pixel data is empty")
    return data


def _check_length(length: int, expected: int) -> tuple[str, ...]:
    if length < expected:
        raise UnreadablePixels(f"truncated: {length} of {expected} bytes of pixel data")
    # One byte pads to an even length; more is a sender's mistake that harms nothing.
    return (f"{length - expected} bytes after the pixel data: ignored",) * (length > expected + 1)


def _native(
    data: bytes, layout: _Layout, syntax: UID
) -> tuple[npt.NDArray[np.uint8] | npt.NDArray[np.uint16], tuple[str, ...]]:
    """Lay the bytes of an uncompressed image out as cells, without a copy where possible."""
    count = layout.rows * layout.columns
    shape = (layout.rows, layout.columns)
    notes = _check_length(len(data), count * layout.bits_allocated // 8)
    is_big = syntax == ExplicitVRBigEndian
    if layout.bits_allocated == 16:
        words16 = np.frombuffer(data, dtype=">u2" if is_big else "<u2", count=count)
        return words16.astype("<u2", copy=False).reshape(shape), notes
    if is_big:
        # Big endian data of 8 bits goes as OW, in swapped pairs (PS3.5 section 8.1.1 and annex A.3),
        # unless its VR is OB, which pydicom does not keep; pairs are what writers make.
        pairs = np.frombuffer(data[: len(data) // 2 * 2], dtype=">u2").astype("<u2")
        return pairs.view(np.uint8)[:count].reshape(shape), notes
    return np.frombuffer(data, dtype=np.uint8, count=count).reshape(shape), notes


def _check_encapsulated(data: bytes, layout: _Layout, syntax: UID) -> None:
    """Refuse compressed data that ends early: some codecs would return half a picture in grey."""
    if syntax not in _PLUGINS:
        raise UnreadablePixels(f"no decoder for {syntax.name} ({syntax})")
    if syntax == JPEGExtended12Bit and layout.bits_stored > 8:
        raise UnreadablePixels(f"no decoder for 12-bit {syntax.name} ({syntax})")
    try:
        frame = get_frame(data, 0, number_of_frames=1)
        fragments = list(generate_fragments(data))
    except _CODEC_ERRORS as error:
        raise UnreadablePixels(f"the compressed pixel data is broken: {error}") from error
    if not frame or not fragments:
        raise UnreadablePixels("the compressed pixel data is empty")
    # Fragments are padded to an even length, by some writers with anything, by some with more;
    # within a stream the marker cannot occur.
    if syntax in _END_MARKED and b"\xff\xd9" not in frame[-_TAIL_BYTES:]:
        raise UnreadablePixels(f"truncated: the {syntax.name} stream ends without its end marker")


def _decoded(
    ds: Dataset, layout: _Layout, syntax: UID, *, as_rgb: bool
) -> tuple[npt.NDArray[np.uint8] | npt.NDArray[np.uint16], tuple[str, ...]]:
    """Decode with the plugins for the syntax, in their order."""
    decoder = get_decoder(syntax)
    failures = []
    for plugin in _PLUGINS.get(syntax, ("",)):
        try:
            # The plugins warn of what we check ourselves or write down as a note.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                cells, _ = decoder.as_array(ds, index=0, raw=not as_rgb, decoding_plugin=plugin)
        except _CODEC_ERRORS as error:
            failures.append(f"{plugin}: {error}")
            continue
        expected = (layout.rows, layout.columns)
        if cells.shape[:2] != expected:
            failures.append(f"{plugin}: {cells.shape[:2]} pixels instead of {expected}")
            continue
        if cells.dtype.itemsize > 2:
            failures.append(f"{plugin}: {cells.dtype.itemsize * 8} bits a pixel")
            continue
        notes = tuple(f"decoder failed, next one used ({failure})" for failure in failures)
        return np.ascontiguousarray(cells).view(f"<u{cells.dtype.itemsize}"), notes
    raise UnreadablePixels(f"cannot decode {syntax.name}: " + "; ".join(failures)[:300])


def number_of_frames(ds: Dataset) -> int:
    """Return NumberOfFrames, 1 if absent or senseless (IS, PS3.3 C.7.6.6)."""
    frames = number(ds, "NumberOfFrames")
    return int(frames) if frames is not None and frames >= 1 else 1
