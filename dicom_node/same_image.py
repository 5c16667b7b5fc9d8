"""Whether two files hold one image, encoded in two of the uncompressed transfer syntaxes.

A PACS that forwards may turn Explicit into Implicit VR; that is the same image, not a contradiction.
Compressed pixels are not compared: it would take decoders into the process that must not die.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

UNCOMPRESSED: Final = frozenset(
    {
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
    }
)
MAX_BYTES: Final = 64 * 1024**2  # of either file; larger ones are a person's to compare
_PIXEL_DATA: Final = 0x7FE00010
_TRAILING_PADDING: Final = 0xFFFCFFFC


def is_same_image(one: Path, other: Path) -> bool:
    """Whether every standard element and every pixel is the same; False where we cannot tell.

    Private elements are left out: in Implicit VR their value representation is lost.
    """
    if max(one.stat().st_size, other.stat().st_size) > MAX_BYTES:
        return False
    try:
        first, second = dcmread(one), dcmread(other)
        syntaxes = {ds.file_meta.TransferSyntaxUID for ds in (first, second)}
        return syntaxes <= UNCOMPRESSED and _content(first) == _content(second)
    except Exception:  # noqa: BLE001  pydicom raises whatever a sloppy value leads it to
        return False


def _content(ds: Dataset) -> dict[int, Any]:
    content: dict[int, Any] = {}
    for element in ds:
        tag = int(element.tag)
        if element.tag.is_private or element.tag.element == 0 or tag == _TRAILING_PADDING:
            continue
        content[tag] = _pixels(ds) if tag == _PIXEL_DATA else element.value
    return content


def _pixels(ds: Dataset) -> bytes:
    """The pixel data in little endian, without padding."""
    data: bytes = ds.PixelData
    count = int(ds.Rows) * int(ds.Columns) * int(ds.SamplesPerPixel)
    size = count * int(ds.get("NumberOfFrames", 1) or 1) * int(ds.BitsAllocated) // 8
    if ds.file_meta.TransferSyntaxUID == ExplicitVRBigEndian and ds.BitsAllocated == 16:
        data = np.frombuffer(data, dtype=">u2").astype("<u2").tobytes()
    return data[:size]
