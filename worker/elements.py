"""Elements as senders really write them: numbers and words of a data set, coerced. No pixels."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from typing import Any, Final

from pydicom.config import IGNORE
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.tag import Tag
from pydicom.uid import UID

CONVERSION_ERRORS: Final = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    NotImplementedError,
    OverflowError,
    BytesLengthException,
    struct.error,
)
"""What pydicom raises when it converts an element that breaks its VR."""


def words(ds: Dataset, keyword: str) -> tuple[str, ...]:
    """Return the values of a text element as strings, stripped; empty if absent or empty.

    Read from the raw bytes where pydicom has not converted them yet, so that a value which
    breaks its VR neither warns nor raises.
    """
    tag = Tag(keyword)
    if tag not in ds:
        return ()
    element: Any = ds.get_item(tag)
    value: Any = element.value
    if isinstance(element, RawDataElement) and isinstance(value, bytes):
        value = value.decode("latin-1")
    if value is None:
        return ()
    parts: Iterable[object]
    if isinstance(value, str):
        parts = value.split("\\")
    else:
        parts = value if isinstance(value, Sequence) else (value,)
    # PS3.5 section 6.2 pads with a space or, for UI, a null; senders pad with either everywhere.
    return tuple(text for part in parts if (text := str(part).strip(" \0\t\r\n")) != "")


def word(ds: Dataset, keyword: str) -> str:
    """Return the first value of a text element in upper case, or an empty string."""
    return next(iter(words(ds, keyword)), "").upper()


def numbers(ds: Dataset, keyword: str) -> tuple[float, ...]:
    """Return the values of a decimal or integer string element (DS, IS).

    "550,5" is read as 550.5. A value that is no finite number, or several of which one is none,
    gives an empty tuple: the element is as good as absent.
    """
    found = []
    for text in words(ds, keyword):
        try:
            number = float(text.replace(",", "."))
        except ValueError:
            return ()
        if not math.isfinite(number):
            return ()
        found.append(number)
    return tuple(found)


def number(ds: Dataset, keyword: str) -> float | None:
    """Return the first value of a DS or IS element, or None."""
    return next(iter(numbers(ds, keyword)), None)


def integer(ds: Dataset, keyword: str) -> int | None:
    """Return a binary integer element (US, SS, UL, or US written as text); None if absent or bad."""
    tag = Tag(keyword)
    if tag not in ds:
        return None
    try:
        value = ds[tag].value
        first = value if isinstance(value, int | str | float) else next(iter(value or ()), None)
        return None if first is None else int(first)
    except CONVERSION_ERRORS:
        return None


def integers(ds: Dataset, keyword: str) -> tuple[int, ...]:
    """Return all values of a binary integer element; empty if absent or bad."""
    tag = Tag(keyword)
    if tag not in ds:
        return ()
    try:
        value = ds[tag].value
        if value is None:
            return ()
        return (int(value),) if isinstance(value, int) else tuple(int(part) for part in value)
    except CONVERSION_ERRORS:
        return ()


def uid(ds: Dataset, keyword: str) -> UID:
    """Return a UID element as it stands, valid or not; empty if absent."""
    return UID(next(iter(words(ds, keyword)), ""), validation_mode=IGNORE)
