"""From a data set to its stored pixel values: lengths, codecs, bit layout. No grey scale."""

from __future__ import annotations

import struct
import warnings
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydicom.config import IGNORE
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
from worker.elements import CONVERSION_ERRORS, integer, number, uid, word

LARGEST_IMAGE_PIXELS: Final = 120_000_000
"""Above this an image is refused before memory is asked for it (a radiograph has 4 to 16 million)."""

_TURBO: Final = "imagecodecs"

# Decoders per syntax, the fastest that is correct first (docs/performance.md, "Pixels"); the next
# is tried when one fails, since codecs disagree on streams that bend the rules. gdcm is not among
# them: on a corrupt JPEG it ends the whole process (uncaught gdcm::Exception).
_DECODERS: Final[dict[UID, tuple[str, ...]]] = {
    JPEGBaseline8Bit: ("pillow", _TURBO),
    JPEGExtended12Bit: ("pillow", _TURBO),
    JPEGLossless: (_TURBO,),
    JPEGLosslessSV1: (_TURBO,),
    JPEGLSLossless: ("pyjpegls",),
    JPEGLSNearLossless: ("pyjpegls",),
    JPEG2000Lossless: ("pylibjpeg", "pillow"),
    JPEG2000: ("pylibjpeg", "pillow"),
    HTJ2KLossless: ("pylibjpeg",),
    HTJ2KLosslessRPCL: ("pylibjpeg",),
    HTJ2K: ("pylibjpeg",),
    RLELossless: ("pylibjpeg",),  # pydicom's own cuts what does not fit without a word
}
_NATIVE: Final = frozenset(
    {
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        DeflatedExplicitVRLittleEndian,
        ExplicitVRBigEndian,
    }
)
_END_MARKED: Final = frozenset(_DECODERS) - {RLELossless}  # their streams end with FFD9
_TAIL_BYTES: Final = 64
_JPEG_2000: Final = frozenset({JPEG2000Lossless, JPEG2000, HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K})
# C4, C8 and CC are tables; F7 is JPEG-LS.
_STARTS_OF_FRAME: Final = (frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}) | {0xF7}

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
    stated = uid(meta, "TransferSyntaxUID") if meta is not None else ""
    if stated:
        return UID(stated, validation_mode=IGNORE)
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
        cells, notes = _native(data, layout, syntax, ds["PixelData"].VR)
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
    try:
        data = ds["PixelData"].value
    except CONVERSION_ERRORS as error:
        raise UnreadablePixels("the pixel data has no usable value representation") from error
    if not isinstance(data, bytes) or not data:
        raise UnreadablePixels("the pixel data is empty")
    return data


def _check_length(length: int, expected: int) -> tuple[str, ...]:
    if length < expected:
        raise UnreadablePixels(f"truncated: {length} of {expected} bytes of pixel data")
    # One byte pads to an even length; more is a sender's mistake that harms nothing.
    return (f"{length - expected} bytes after the pixel data: ignored",) * (length > expected + 1)


def _native(
    data: bytes, layout: _Layout, syntax: UID, vr: str
) -> tuple[npt.NDArray[np.uint8] | npt.NDArray[np.uint16], tuple[str, ...]]:
    """Lay the bytes of an uncompressed image out as cells, without a copy where possible."""
    count = layout.rows * layout.columns
    shape = (layout.rows, layout.columns)
    notes = _check_length(len(data), count * layout.bits_allocated // 8)
    is_big = syntax == ExplicitVRBigEndian
    if layout.bits_allocated == 16:
        words16 = np.frombuffer(data, dtype=">u2" if is_big else "<u2", count=count)
        return words16.astype("<u2", copy=False).reshape(shape), notes
    if is_big and vr == "OW":
        # Bytes in words are swapped in pairs (PS3.5 section 8.1.1 and annex A.3); OB is not.
        pairs = np.frombuffer(data[: len(data) // 2 * 2], dtype=">u2").astype("<u2")
        return pairs.view(np.uint8)[:count].reshape(shape), notes
    return np.frombuffer(data, dtype=np.uint8, count=count).reshape(shape), notes


def _check_encapsulated(data: bytes, layout: _Layout, syntax: UID) -> None:
    """Refuse compressed data that ends early: some codecs would return half a picture in grey."""
    if syntax not in _DECODERS:
        raise UnreadablePixels(f"no decoder for {syntax.name} ({syntax})")
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
    if syntax == RLELossless:
        _check_rle(frame, layout)
        return
    header = _stream_header(frame, syntax)
    # pydicom and some codecs would cut a larger picture to size, and boxes would be misplaced.
    if (header.rows, header.columns) != (layout.rows, layout.columns):
        raise UnreadablePixels(
            f"the {syntax.name} stream has {header.rows} x {header.columns} pixels, "
            f"the attributes say {layout.rows} x {layout.columns}"
        )
    if header.components != layout.samples:
        raise UnreadablePixels(
            f"the {syntax.name} stream has {header.components} components, "
            f"SamplesPerPixel is {layout.samples}"
        )
    if header.precision > layout.bits_allocated:
        raise UnreadablePixels(
            f"the {syntax.name} stream has {header.precision} bits a pixel, "
            f"BitsAllocated is {layout.bits_allocated}"
        )
    if syntax == JPEGExtended12Bit and header.precision > 8:
        raise UnreadablePixels(f"no decoder for {header.precision}-bit {syntax.name} ({syntax})")


@dataclass(frozen=True, kw_only=True, slots=True)
class _StreamHeader:
    """What a compressed stream says of itself."""

    rows: int
    columns: int
    components: int
    precision: int


def _stream_header(frame: bytes, syntax: UID) -> _StreamHeader:
    """Read the frame header of a JPEG, JPEG-LS or JPEG 2000 stream."""
    try:
        header = _siz(frame) if syntax in _JPEG_2000 else _sof(frame)
    except (struct.error, IndexError):
        header = None
    if header is None:
        raise UnreadablePixels(f"no {syntax.name} stream: it has no frame header")
    return header


def _sof(frame: bytes) -> _StreamHeader | None:
    """Find the start of frame: ISO 10918-1 annex B.2.2, for JPEG-LS ISO 14495-1 annex C.2.2."""
    if frame[:2] != b"\xff\xd8":
        return None
    place = 2
    while frame[place] == 0xFF:
        marker = frame[place + 1]
        if marker == 0xFF:  # Any number of FF may fill the space before a marker.
            place += 1
        elif marker in _STARTS_OF_FRAME:
            precision, rows, columns, components = struct.unpack_from(">BHHB", frame, place + 4)
            return _StreamHeader(
                rows=rows, columns=columns, components=components, precision=precision
            )
        else:
            place += 2 + struct.unpack_from(">H", frame, place + 2)[0]
    return None


def _siz(frame: bytes) -> _StreamHeader | None:
    """Find the SIZ segment, ISO 15444-1 annex A.5.1, also inside a JP2 box that does not belong."""
    start = frame.find(b"\xff\x4f\xff\x51")
    if start < 0:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", frame, start + 8)
    components, depth = struct.unpack_from(">HB", frame, start + 40)
    return _StreamHeader(
        rows=bottom - top,
        columns=right - left,
        components=components,
        precision=(depth & 0x7F) + 1,
    )


def _check_rle(frame: bytes, layout: _Layout) -> None:
    """Check an RLE header (PS3.5 annex G.5): one segment for each byte of a pixel, in order."""
    if len(frame) < 64:
        raise UnreadablePixels("truncated: the RLE header is 64 bytes")
    count, *offsets = struct.unpack_from("<16I", frame)
    expected = layout.samples * layout.bits_allocated // 8
    if count != expected:
        raise UnreadablePixels(f"RLE of {count} segments instead of {expected}")
    starts = offsets[:count]
    if starts[0] != 64 or starts != sorted(starts) or starts[-1] >= len(frame):
        raise UnreadablePixels("the offsets in the RLE header make no sense (truncated?)")


def _decoded(
    ds: Dataset, layout: _Layout, syntax: UID, *, as_rgb: bool
) -> tuple[npt.NDArray[np.uint8] | npt.NDArray[np.uint16], tuple[str, ...]]:
    """Decode with the decoders for the syntax, in their order."""
    failures: list[str] = []
    for name in _DECODERS.get(syntax, ("",)):
        try:
            # The codecs warn of what we check ourselves or write down as a note.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if name == _TURBO:
                    cells = _with_libjpeg_turbo(ds, layout)
                else:
                    cells, _ = get_decoder(syntax).as_array(
                        ds, index=0, raw=not as_rgb, decoding_plugin=name
                    )
        except _CODEC_ERRORS as error:
            failures.append(f"{name}: {error}")
            continue
        except BaseException as error:
            # A panic of a codec written in Rust passes by every Exception; ours it is all the same.
            if type(error).__module__ != "pyo3_runtime":
                raise
            failures.append(f"{name}: {error}")
            continue
        wrong = _shape_error(cells, layout)
        if wrong:
            failures.append(f"{name}: {wrong}")
            continue
        notes = tuple(f"decoder failed, next one used ({failure[:200]})" for failure in failures)
        return np.ascontiguousarray(cells).view(f"<u{cells.dtype.itemsize}"), notes
    raise UnreadablePixels(f"cannot decode {syntax.name}: " + "; ".join(failures)[:300])


def _with_libjpeg_turbo(ds: Dataset, layout: _Layout) -> npt.NDArray[Any]:
    """Decode a JPEG of up to 16 bits: three to five times as fast as gdcm, and it raises."""
    from imagecodecs import jpeg8_decode

    if layout.samples != 1:
        raise NotImplementedError("colour space of a JPEG with three components")
    frame = get_frame(ds["PixelData"].value, 0, number_of_frames=1)
    cells: npt.NDArray[Any] = jpeg8_decode(frame)
    return cells


def _shape_error(cells: npt.NDArray[Any], layout: _Layout) -> str | None:
    """Say what is wrong about the size of what a codec has returned."""
    expected = (layout.rows, layout.columns, layout.samples)[: cells.ndim]
    if cells.shape != expected:
        return f"{cells.shape} pixels instead of {expected}"
    if cells.dtype.kind not in "ui" or cells.dtype.itemsize > 2:
        return f"{cells.dtype} pixels"
    return None


def number_of_frames(ds: Dataset) -> int:
    """Return NumberOfFrames, 1 if absent or senseless (IS, PS3.3 C.7.6.6)."""
    frames = number(ds, "NumberOfFrames")
    return int(frames) if frames is not None and frames >= 1 else 1
