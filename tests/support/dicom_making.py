"""DICOM for the tests: valid radiographs from a picture, with any element overridden."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pydicom
from PIL import Image
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.tag import Tag
from pydicom.uid import (
    JPEG2000,
    UID,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
    XRayAngiographicImageStorage,
    XRayRadiofluoroscopicImageStorage,
)

from osteon.wrapping import uid_from, wrap

SOP_CLASSES: Final[dict[str, UID]] = {
    "DX": DigitalXRayImageStorageForPresentation,
    "DX-PROCESSING": DigitalXRayImageStorageForProcessing,
    "CR": ComputedRadiographyImageStorage,
    "SC": SecondaryCaptureImageStorage,
    "RF": XRayRadiofluoroscopicImageStorage,
    "XA": XRayAngiographicImageStorage,
    "CT": CTImageStorage,
}
_MODALITIES: Final = {"RF": "RF", "XA": "XA", "CT": "CT"}

LOSSLESS_SYNTAXES: Final[tuple[UID, ...]] = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEGLSLossless,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
)
_PREDICTORS: Final = {JPEGLossless: 4, JPEGLosslessSV1: 1}  # ISO 10918-1 table H.1


class _Absent:
    """Says that an element is to be left out (None makes it empty)."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()


def picture(
    rows: int = 96, columns: int = 64, *, bits: int = 12, seed: int = 0
) -> npt.NDArray[np.uint16]:
    """Return a small picture of a shaft: bright bone, grey tissue, dark air, a little noise.

    Returns
    -------
    uint16 [rows, columns], 0 to 2**bits - 1, bone bright, with no symmetry at all, so that a
    flipped, transposed or inverted picture never passes for the right one.
    """
    y, x = np.mgrid[0:rows, 0:columns]
    bone = np.exp(-(((x - 0.42 * columns - 0.05 * y) / (0.09 * columns)) ** 2))
    tissue = 0.35 * np.exp(-(((x - 0.45 * columns) / (0.3 * columns)) ** 4))
    level = 0.03 + tissue + 0.55 * bone + 0.05 * y / rows
    noise = np.random.default_rng(seed).normal(0, 0.01, (rows, columns))
    top = (1 << bits) - 1
    stored: npt.NDArray[np.uint16] = np.clip((level + noise) * top, 0, top).astype(np.uint16)
    return stored


def make(
    pixels: npt.NDArray[Any] | None = None,
    *,
    kind: str = "DX",
    seed: str = "tests/1",
    photometric: str = "MONOCHROME2",
    bits_stored: int | None = None,
    spacing_mm: float | None = 0.2,
    laterality: str = "L",
    body_part: str = "HAND",
    syntax: UID = ExplicitVRLittleEndian,
    **elements: Any,
) -> Dataset:
    """Return a radiograph, valid unless an override makes it bad.

    Parameters
    ----------
    pixels
        Stored values, see `osteon.wrapping.wrap`; `picture` by default. For
        ``photometric="MONOCHROME1"`` give them as stored (bone dark).
    kind
        A key of `SOP_CLASSES`. DX, CR and SC are complete; RF, XA and CT can be sent and read,
        but lack what the standard asks of their modules.
    seed
        ``"study/instance"``: same text, same UIDs; same study part, same study and series.
    bits_stored
        Default 12 for uint16, else the bits of the type.
    syntax
        Transfer syntax; the pixel data is encoded for it.
    **elements
        DICOM keywords. ``None`` makes the element empty, `ABSENT` leaves it out, ``bytes`` for a
        text VR are put into the file as they are ("550,5" as DS), anything else is set.
        Set after the pixel data is encoded: a wrong ``Rows`` stays wrong.
    """
    stored = picture() if pixels is None else pixels
    if bits_stored is None:
        bits_stored = min(12, stored.dtype.itemsize * 8)
    ds = wrap(
        stored,
        seed=seed,
        sop_class=SOP_CLASSES[kind],
        photometric=photometric,
        bits_stored=bits_stored,
        body_part=body_part,
        laterality=laterality,
        spacing_mm=spacing_mm,
    )
    if kind in _MODALITIES:
        ds.Modality = _MODALITIES[kind]
    ds.PatientName = "TEST^PATIENT"
    ds.PatientID = "OSTEON-TEST-1"
    ds.PatientBirthDate = "19700101"
    ds.PatientSex = "O"
    ds.StudyDate, ds.StudyTime = "20260102", "101112"
    ds.AccessionNumber = "ACC1"
    ds.StudyDescription = "Test radiograph"
    encode(ds, syntax)
    override(ds, **elements)
    return ds


def override(ds: Dataset, **elements: Any) -> Dataset:
    """Set, empty (None), remove (`ABSENT`) or fill with raw bytes elements named by keyword."""
    for keyword, value in elements.items():
        tag = Tag(keyword)
        if value is ABSENT:
            ds.pop(tag, None)
        elif isinstance(value, bytes) and keyword != "PixelData":
            vr = pydicom.datadict.dictionary_VR(tag)
            padded = value + b" " * (len(value) % 2)
            ds[tag] = RawDataElement(tag, vr, len(padded), padded, 0, False, True)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Bad values are the point of the override.
                setattr(ds, keyword, value)
    return ds


def encode(ds: Dataset, syntax: UID) -> Dataset:
    """Encode uncompressed little endian pixel data in place for another transfer syntax."""
    if syntax == ExplicitVRBigEndian and ds.BitsAllocated > 8:
        words = np.frombuffer(ds.PixelData, dtype=f"<u{ds.BitsAllocated // 8}")
        ds.PixelData = words.byteswap().tobytes()
    elif syntax == JPEGBaseline8Bit:
        _encode_jpeg_baseline(ds)
    elif syntax in _PREDICTORS:
        _encode_jpeg_lossless(ds, syntax)
    elif syntax.is_compressed and syntax != DeflatedExplicitVRLittleEndian:
        options: dict[str, Any] = {"j2k_cr": [10]} if syntax == JPEG2000 else {}
        if syntax == RLELossless:
            # gdcm would come first, and ends the process when the row length is odd.
            options["encoding_plugin"] = "pylibjpeg"
        uid = ds.SOPInstanceUID
        ds.compress(syntax, **options)
        # pydicom gives what it compresses a new UID, which would undo "same seed, same UIDs".
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid
    ds.file_meta.TransferSyntaxUID = syntax
    return ds


def _encode_jpeg_baseline(ds: Dataset) -> None:
    shape = (ds.Rows, ds.Columns) if ds.SamplesPerPixel == 1 else (ds.Rows, ds.Columns, 3)
    count = int(np.prod(shape))
    grey = np.frombuffer(ds.PixelData, dtype=np.uint8)[:count].reshape(shape)
    stream = io.BytesIO()
    Image.fromarray(grey).save(stream, "JPEG", quality=95)
    ds.PixelData = encapsulate([stream.getvalue()])
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    ds.LossyImageCompression = "01"
    ds.LossyImageCompressionRatio = "10"
    ds.LossyImageCompressionMethod = "ISO_10918_1"


def _encode_jpeg_lossless(ds: Dataset, syntax: UID) -> None:
    """JPEG Lossless, for which pydicom has no encoder; odd shapes and signed values work."""
    from imagecodecs import jpeg8_encode

    words = np.uint8 if ds.BitsAllocated == 8 else np.uint16
    count = ds.Rows * ds.Columns
    cells = np.frombuffer(ds.PixelData, dtype=words)[:count].reshape(ds.Rows, ds.Columns)
    mask = (1 << ds.BitsStored) - 1
    stream = jpeg8_encode(
        np.ascontiguousarray(cells & mask),
        lossless=True,
        predictor=_PREDICTORS[syntax],
        bitspersample=ds.BitsStored,
    )
    ds.PixelData = encapsulate([bytes(stream)])
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True


def to_bytes(ds: Dataset) -> bytes:
    """Return the dataset as a Part 10 file."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def write(ds: Dataset, path: Path) -> Path:
    """Write the dataset as a Part 10 file and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(to_bytes(ds))
    return path


__all__ = [
    "ABSENT",
    "LOSSLESS_SYNTAXES",
    "SOP_CLASSES",
    "encode",
    "make",
    "override",
    "picture",
    "to_bytes",
    "uid_from",
    "write",
]
