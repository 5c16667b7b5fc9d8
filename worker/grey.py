"""From stored values to display values: modality, VOI and polarity as one lookup table.

PS3.4 N.2 in its order: Modality LUT, VOI LUT or window, presentation shape. Everything
happens on the table's few entries, never on the millions of pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from worker.decoding import StoredPixels
from worker.elements import CONVERSION_ERRORS, integer, integers, number, numbers, word

Values = npt.NDArray[np.float64]

DEFAULT_PERCENTILES: Final = (0.5, 99.5)
"""Shares of the valid pixels, in %, that become black and white where no window may be used."""

_BLOCK: Final = 1 << 16
"""Pixels looked up at a time: numpy widens each index to 64 bits, which has to fit the cache."""

_PROBES: Final = 128
"""Rows and columns looked at to see whether a window shows anything at all."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DisplayTable:
    """What each cell of an image looks like.

    Attributes
    ----------
    grey
        float32 [2**8 or 2**16], indexed by cell: 0 black to 1 white, bone bright.
    is_padding
        bool, indexed by cell, or None where the image declares no padding.
    inverted
        Whether polarity was turned round on the way (once, or not at all).
    notes
        What was odd and how it was handled.
    """

    grey: npt.NDArray[np.float32]
    is_padding: npt.NDArray[np.bool_] | None
    inverted: bool
    notes: tuple[str, ...]


def display_table(
    ds: Dataset,
    stored: StoredPixels,
    *,
    visible: npt.NDArray[np.bool_] | None = None,
    invert: bool | None = None,
    percentiles: tuple[float, float] = DEFAULT_PERCENTILES,
) -> DisplayTable:
    """Build the table of an image.

    Parameters
    ----------
    ds
        Its attributes.
    stored
        Its cells.
    visible
        [rows, columns], False where a shutter or collimator covers the picture: such pixels
        do not count where grey values are counted.
    invert
        For devices that state a wrong polarity: True inverts, False does not, None (the default)
        believes the file.
    percentiles
        Lower and upper, in %, for images without a usable window.
    """
    notes: list[str] = []
    index = _index_of_cell(stored)
    values = _stored_values(stored)
    padding = _padding(ds, stored)

    def counts() -> npt.NDArray[np.intp]:
        """How often each stored value occurs among the pixels that show something."""
        per_cell = count_cells(stored.cells, visible)
        per_value = np.bincount(index, weights=per_cell, minlength=values.size).astype(np.intp)
        if padding is not None:
            per_value[padding] = 0
        return per_value

    modality = _modality(ds, values, stored, notes)
    shown = _voi(ds, modality, stored, notes)
    if shown is not None and _shows_nothing(shown[index], stored.cells):
        notes.append("window shows a single grey value: percentiles used")
        shown = None
    if shown is None:
        shown = _by_percentiles(modality, counts, percentiles, notes)
    inverted = is_inverted(ds, notes) if invert is None else invert
    if inverted:
        shown = 1.0 - shown
    if padding is not None:
        shown[padding] = 0.0
    return DisplayTable(
        grey=shown.astype(np.float32)[index],
        is_padding=None if padding is None else padding[index],
        inverted=inverted,
        notes=tuple(notes),
    )


def look_up(
    table: npt.NDArray[np.float32], cells: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
) -> npt.NDArray[np.float32]:
    """Return ``table[cells]``, twice as fast (5 ms instead of 11 for 5 million pixels)."""
    out = np.empty(cells.shape, dtype=np.float32)
    flat_in, flat_out = cells.reshape(-1), out.reshape(-1)
    for start in range(0, flat_in.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        # The table has an entry for every cell; "wrap" only spares numpy's check.
        np.take(table, flat_in[block], out=flat_out[block], mode="wrap")
    return out


def count_cells(
    cells: npt.NDArray[np.uint8] | npt.NDArray[np.uint16],
    visible: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.intp]:
    """Return how often each cell value occurs, over the visible pixels."""
    flat = (cells if visible is None else cells[visible]).reshape(-1)
    total = np.zeros(1 << (8 * cells.dtype.itemsize), dtype=np.intp)
    for start in range(0, flat.size, _BLOCK):
        total += np.bincount(flat[start : start + _BLOCK], minlength=total.size)
    return total


def is_inverted(ds: Dataset, notes: list[str]) -> bool:
    """Whether high output values are dark: PresentationLUTShape, else PhotometricInterpretation.

    A shape of IDENTITY or INVERSE says what the output of the VOI stage is (PS3.3 C.11.6), so it
    decides where both are there, as in DCMTK; they should agree (C.8.11.3), and a note is added
    where they do not.
    """
    is_monochrome1 = word(ds, "PhotometricInterpretation") == "MONOCHROME1"
    shape = word(ds, "PresentationLUTShape")
    if shape not in {"IDENTITY", "INVERSE"}:
        if shape:
            notes.append(f"PresentationLUTShape {shape[:16]} unknown: ignored")
        return is_monochrome1
    by_shape = shape == "INVERSE"
    if by_shape != is_monochrome1:
        photometric = word(ds, "PhotometricInterpretation")
        notes.append(f"PresentationLUTShape {shape} contradicts {photometric}: the shape is used")
    return by_shape


def _index_of_cell(stored: StoredPixels) -> npt.NDArray[np.intp]:
    """Map every possible cell to its stored value's place: masks what is above BitsStored."""
    cells = np.arange(1 << stored.bits_allocated, dtype=np.intp)
    return (cells >> stored.shift) & ((1 << stored.bits_stored) - 1)


def _stored_values(stored: StoredPixels) -> Values:
    """Return all stored values in the order of their bits: 0 … 2**n - 1, or two's complement."""
    values = np.arange(1 << stored.bits_stored, dtype=np.float64)
    if stored.signed:
        values[values.size // 2 :] -= values.size
    return values


def _padding(ds: Dataset, stored: StoredPixels) -> npt.NDArray[np.bool_] | None:
    """Which stored values are padding (PS3.3 C.7.5.1.1.2), in the order of their bits."""
    first = integer(ds, "PixelPaddingValue")
    if first is None:
        return None
    limit = integer(ds, "PixelPaddingRangeLimit")
    limit = first if limit is None else limit
    size = 1 << stored.bits_stored
    # The VR is US or SS by PixelRepresentation, and senders mix them up: read both the same way.
    places = [value % size for value in (first, limit)]
    signed = [p - size if stored.signed and p >= size // 2 else p for p in places]
    values = _stored_values(stored)
    return (values >= min(signed)) & (values <= max(signed))


def _modality(ds: Dataset, values: Values, stored: StoredPixels, notes: list[str]) -> Values:
    """Apply the Modality LUT or the rescale (PS3.3 C.11.1)."""
    table = _lut(ds, "ModalityLUTSequence", signed=stored.signed, notes=notes)
    if table is not None:
        return table.apply(values)
    slope, intercept = number(ds, "RescaleSlope"), number(ds, "RescaleIntercept")
    if slope == 0.0:
        notes.append("RescaleSlope 0: rescale ignored")
        return values
    if slope is None and intercept is None:
        return values
    return values * (1.0 if slope is None else slope) + (intercept or 0.0)


def _voi(ds: Dataset, modality: Values, stored: StoredPixels, notes: list[str]) -> Values | None:
    """Apply the VOI LUT or window, to 0 … 1; None where percentiles have to do."""
    table = _lut(ds, "VOILUTSequence", signed=bool((modality < 0).any()), notes=notes)
    if table is not None:
        return table.apply(np.rint(modality)) / table.top
    center, width = numbers(ds, "WindowCenter"), numbers(ds, "WindowWidth")
    if not center and not width:
        if "WindowCenter" in ds or "WindowWidth" in ds:
            notes.append("WindowCenter and WindowWidth without a number: percentiles used")
            return None
        if stored.bits_stored <= 8 and not ("ModalityLUTSequence" in ds or "RescaleSlope" in ds):
            # A picture of 8 bits without any window is one that was meant to be shown as it is.
            lowest, highest = float(modality.min()), float(modality.max())
            as_it_is: Values = (modality - lowest) / max(1.0, highest - lowest)
            return as_it_is
        notes.append("no window: percentiles used")
        return None
    if not center or not width:
        missing = "WindowWidth" if center else "WindowCenter"
        notes.append(f"{missing} missing: percentiles used")
        return None
    if len(center) > 1 or len(width) > 1:
        notes.append("several windows: the first is used")
    return _window(word(ds, "VOILUTFunction") or "LINEAR", center[0], width[0], modality, notes)


def _window(
    function: str, center: float, width: float, values: Values, notes: list[str]
) -> Values | None:
    """Apply one of the three window functions of PS3.3 C.11.2.1.2 and C.11.2.1.3."""
    if function not in {"LINEAR", "LINEAR_EXACT", "SIGMOID"}:
        notes.append(f"VOILUTFunction {function[:16]} unknown: percentiles used")
        return None
    if width < 1 if function == "LINEAR" else width <= 0:
        notes.append(f"WindowWidth {width:g}: percentiles used")
        return None
    if function == "SIGMOID":
        # Beyond ±40 the result is 0 or 1 in float64 anyway, and exp would overflow.
        sigmoid: Values = 1.0 / (1.0 + np.exp(np.clip(-4 * (values - center) / width, -40, 40)))
        return sigmoid
    if function == "LINEAR":
        center, width = center - 0.5, width - 1.0
    if width == 0:
        return (values > center).astype(np.float64)
    linear: Values = np.clip((values - center) / width + 0.5, 0.0, 1.0)
    return linear


def _shows_nothing(shown: Values, cells: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> bool:
    """Whether a varied picture comes out as one grey value, on a grid of probes."""
    steps = [max(1, edge // _PROBES) for edge in cells.shape]
    probes = cells[:: steps[0], :: steps[1]]
    if probes.min() == probes.max():
        return False
    seen = shown[probes]
    return bool(seen.min() == seen.max())


def _by_percentiles(
    modality: Values,
    counts: Callable[[], npt.NDArray[np.intp]],
    percentiles: tuple[float, float],
    notes: list[str],
) -> Values:
    """Stretch the values between two percentiles of the picture to 0 … 1."""
    per_value = counts()
    order = np.argsort(modality, kind="stable")
    order = order[per_value[order] > 0]
    if order.size == 0:
        return np.zeros_like(modality)
    total = np.cumsum(per_value[order])
    lower, upper = (
        float(modality[order][np.searchsorted(total, max(1.0, share / 100 * total[-1]))])
        for share in percentiles
    )
    if upper <= lower:
        lower, upper = float(modality[order[0]]), float(modality[order[-1]])
    if upper <= lower:
        notes.append("every pixel has the same value")
        return np.zeros_like(modality)
    stretched: Values = np.clip((modality - lower) / (upper - lower), 0.0, 1.0)
    return stretched


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Lut:
    """A lookup table of a LUT sequence item: first value mapped, entries, highest output."""

    first: int
    entries: Values
    top: float

    def apply(self, values: Values) -> Values:
        """Map input values; those outside go to the first or last entry (PS3.3 C.11.1.1)."""
        place = np.clip(values - self.first, 0, self.entries.size - 1)
        return self.entries[place.astype(np.intp)]


def _lut(ds: Dataset, keyword: str, *, signed: bool, notes: list[str]) -> _Lut | None:
    """Read the first item of a Modality or VOI LUT sequence; None, with a note, if it is useless."""
    try:
        items = ds.get(keyword)
        item = items[0] if items else None
    except CONVERSION_ERRORS:
        item = None
        notes.append(f"{keyword} cannot be read: ignored")
    if not isinstance(item, Dataset):
        return None
    descriptor = integers(item, "LUTDescriptor")
    entries = _entries(ds, item, descriptor)
    if entries is None or entries.size == 0:
        notes.append(f"{keyword} without descriptor or data: ignored")
        return None
    # 0 means 65536 (PS3.3 C.11.1.1): the count is 16 bits.
    count = descriptor[0] % 65536 or 65536
    if entries.size < count:
        notes.append(f"{keyword} has {entries.size} of {count} entries: the last one is repeated")
    entries = entries[:count]
    first = descriptor[1] % 65536
    if signed and first >= 32768:
        first -= 65536
    bits = descriptor[2]
    highest = int(entries.max())
    top = (1 << bits) - 1 if 8 <= bits <= 16 else 0
    if highest > top:
        notes.append(f"{keyword} holds values above its {bits} bits: the real depth is used")
        top = (1 << highest.bit_length()) - 1
    if top == 0:
        notes.append(f"{keyword} is all zeros: ignored")
        return None
    return _Lut(first=first, entries=entries, top=float(top))


def _entries(ds: Dataset, item: Dataset, descriptor: tuple[int, ...]) -> Values | None:
    """Return LUTData as numbers, whether it came as US values or as OW bytes."""
    if len(descriptor) != 3 or "LUTData" not in item:
        return None
    try:
        data = item["LUTData"].value
    except CONVERSION_ERRORS:
        return None
    is_little = getattr(ds, "original_encoding", (None, True))[1] is not False
    try:
        if isinstance(data, bytes):
            cells = np.frombuffer(data[: len(data) // 2 * 2], dtype="<u2" if is_little else ">u2")
        else:
            listed = [data] if isinstance(data, int) else list(data or ())
            cells = (np.asarray(listed, dtype=np.int64) % 65536).astype("<u2")
    except (ValueError, TypeError):
        return None
    # Tables of 8 bits may lie two entries in a word (PS3.3 C.11.1.1.1).
    count = descriptor[0] % 65536 or 65536
    if descriptor[2] <= 8 and cells.size * 2 in (count, count + 1):
        return cells.astype("<u2").view(np.uint8).astype(np.float64)
    return cells.astype(np.float64)
