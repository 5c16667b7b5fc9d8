"""From a radiograph's grey values to a model's input, and boxes there and back.

Used by the service and by training alike, so that a model sees in service what it
saw in training. Knows nothing of DICOM, ONNX or torch.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SCHEME: Final = "letterbox-v1"
"""Name of this preprocessing in model cards: a change of behaviour needs a new name."""

_FIELD_SAMPLES: Final = 192  # samples along the longer edge when the field is sought
_WINDOW_SAMPLES: Final = 256  # samples along the longer edge when the window is sought
_BLACK: Final = 0.02  # of the range: at or below this a pixel is collimated or air
_WHITE: Final = 0.985  # of the range: at or above this a pixel is unexposed plate
_FLAT_LINE: Final = 0.995  # share of flat pixels at which an edge line holds no anatomy
_WHITE_LINE: Final = 0.75  # share of white pixels at which an edge line is a plate's rim
_WHITE_REACH: Final = 0.25  # a white rim reaches at most so far into the image
_MARGIN: Final = 0.02  # kept around the field, as a share of its size
_SMALLEST_FIELD: Final = 0.05  # share of an edge; a smaller field is no field
_PERCENTILES: Final = (0.5, 99.7)


@dataclass(frozen=True, kw_only=True, slots=True)
class Letterbox:
    """How a stored image lies in a model's square input.

    Attributes
    ----------
    left, top
        Corner of the part that was taken, in pixels of the stored image.
    scale_x, scale_y
        Model-input pixels per stored pixel, across and down. They differ when the
        stored pixels are not square.
    pad_x, pad_y
        Where that part's corner lies in the input, in model-input pixels.

    Raises
    ------
    ValueError
        If a scale is not positive.
    """

    left: float = 0.0
    top: float = 0.0
    scale_x: float = 1.0
    scale_y: float = 1.0
    pad_x: float = 0.0
    pad_y: float = 0.0

    def __post_init__(self) -> None:
        if not (self.scale_x > 0 and self.scale_y > 0):
            raise ValueError(f"letterbox without scale: {self}")

    def to_model(self, box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        """Move a box (left, top, right, bottom) from the stored image to the input."""
        left, top, right, bottom = box
        return (
            (left - self.left) * self.scale_x + self.pad_x,
            (top - self.top) * self.scale_y + self.pad_y,
            (right - self.left) * self.scale_x + self.pad_x,
            (bottom - self.top) * self.scale_y + self.pad_y,
        )

    def to_image(self, box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        """Move a box (left, top, right, bottom) from the input to the stored image."""
        left, top, right, bottom = box
        return (
            (left - self.pad_x) / self.scale_x + self.left,
            (top - self.pad_y) / self.scale_y + self.top,
            (right - self.pad_x) / self.scale_x + self.left,
            (bottom - self.pad_y) / self.scale_y + self.top,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """The exposed part of an image: edges in stored pixels, half open."""

    left: int
    top: int
    right: int
    bottom: int


def find_field(pixels: NDArray[np.float32], valid: NDArray[np.bool_] | None = None) -> Field:
    """Find the rectangle outside which there is only collimation, padding or plate rim.

    Parameters
    ----------
    pixels
        Grey values [rows, columns], any range, bone bright.
    valid
        False where a pixel holds no image (padding); everything is valid if None.

    Returns
    -------
    Field
        The whole image when no better rectangle is found.
    """
    rows, columns = pixels.shape
    step = max(1, max(rows, columns) // _FIELD_SAMPLES)
    small = pixels[::step, ::step]
    outside = np.zeros(small.shape, bool) if valid is None else ~valid[::step, ::step]
    low, high = _range(small, outside)
    if high <= low:
        return Field(left=0, top=0, right=columns, bottom=rows)
    grey = (small - low) / (high - low)
    white = (grey >= _WHITE) & ~outside
    flat = (grey <= _BLACK) | white | outside
    top, bottom = _edges(flat, white)
    left, right = _edges(flat[top:bottom].T, white[top:bottom].T)
    margin_y = int(_MARGIN * (bottom - top) * step) + step
    margin_x = int(_MARGIN * (right - left) * step) + step
    return Field(
        left=max(0, left * step - margin_x) if left else 0,
        top=max(0, top * step - margin_y) if top else 0,
        right=min(columns, right * step + margin_x) if right < small.shape[1] else columns,
        bottom=min(rows, bottom * step + margin_y) if bottom < small.shape[0] else rows,
    )


def find_window(
    pixels: NDArray[np.float32], valid: NDArray[np.bool_] | None = None
) -> tuple[float, float]:
    """Find the grey values that become black and white: percentiles of the anatomy.

    Pixels at either end of the range (collimation, air, markers, plate) do not count,
    so a frame or a letter does not darken the bone.

    Parameters
    ----------
    pixels
        Grey values [rows, columns] of the exposed field.
    valid
        False where a pixel holds no image; everything is valid if None.

    Returns
    -------
    tuple of float
        (black, white) with black < white, in the units of `pixels`.
    """
    step = max(1, max(pixels.shape) // _WINDOW_SAMPLES)
    small = pixels[::step, ::step]
    outside = np.zeros(small.shape, bool) if valid is None else ~valid[::step, ::step]
    low, high = _range(small, outside)
    if high <= low:
        return low, low + 1.0
    span = high - low
    inner = small[(small > low + _BLACK * span) & (small < low + _WHITE * span) & ~outside]
    if inner.size < 0.01 * small.size:
        return low, high
    black, white = np.percentile(inner, _PERCENTILES)
    if white - black < 1e-3 * span:
        return low, high
    return float(black), float(white)


def preprocess(
    pixels: NDArray[np.float32],
    valid: NDArray[np.bool_] | None = None,
    *,
    size: int,
    pixel_aspect: float = 1.0,
) -> tuple[NDArray[np.float32], Letterbox]:
    """Make a model's input of a radiograph.

    The exposed field is cut out, resampled to fit a square, and windowed to the
    percentiles of what it shows.

    Parameters
    ----------
    pixels
        Grey values [rows, columns], 0 black to 1 white, bone bright. Other ranges
        work: only the order of grey values and their ratios matter.
    valid
        False where a pixel holds no image (padding, shutter); all valid if None.
    size
        Edge of the model's input, in pixels.
    pixel_aspect
        Height of a stored pixel divided by its width (row spacing / column spacing).

    Returns
    -------
    tuple
        float32 [1, 1, size, size] from 0 to 1, zero outside the image, and the
        letterbox that moves boxes between the two.

    Raises
    ------
    ValueError
        If `pixels` is not a two-dimensional image, or the aspect is not positive.
    """
    if pixels.ndim != 2 or 0 in pixels.shape:
        raise ValueError(f"not a two-dimensional image: shape {pixels.shape}")
    if not pixel_aspect > 0:
        raise ValueError(f"pixel aspect must be positive, not {pixel_aspect}")
    field = find_field(pixels, valid)
    inside = (slice(field.top, field.bottom), slice(field.left, field.right))
    black, white = find_window(pixels[inside], None if valid is None else valid[inside])
    width = field.right - field.left
    height = field.bottom - field.top
    scale = size / max(width, height * pixel_aspect)
    new_width = min(size, max(1, round(width * scale)))
    new_height = min(size, max(1, round(height * pixel_aspect * scale)))
    whole = pixels if valid is None else np.where(valid, pixels, np.float32(black))
    resized = np.asarray(
        Image.fromarray(np.ascontiguousarray(whole, np.float32)).resize(
            (new_width, new_height),
            Image.Resampling.BICUBIC,
            box=(field.left, field.top, field.right, field.bottom),
            reducing_gap=2.0,
        )
    )
    pad_x, pad_y = (size - new_width) // 2, (size - new_height) // 2
    square = np.zeros((1, 1, size, size), np.float32)
    square[0, 0, pad_y : pad_y + new_height, pad_x : pad_x + new_width] = np.clip(
        (resized - black) / (white - black), 0.0, 1.0
    )
    letterbox = Letterbox(
        left=float(field.left),
        top=float(field.top),
        scale_x=new_width / width,
        scale_y=new_height / height,
        pad_x=float(pad_x),
        pad_y=float(pad_y),
    )
    return square, letterbox


def _range(grey: NDArray[np.float32], outside: NDArray[np.bool_]) -> tuple[float, float]:
    """Lowest and highest valid grey value, (0, 0) when nothing is valid."""
    inside = grey[~outside]
    if inside.size == 0:
        return 0.0, 0.0
    return float(inside.min()), float(inside.max())


def _edges(flat: NDArray[np.bool_], white: NDArray[np.bool_]) -> tuple[int, int]:
    """First row with anatomy and the row after the last one."""
    rows = flat.shape[0]
    reach = int(_WHITE_REACH * rows)
    index = np.arange(rows)
    rim = white.mean(axis=1) >= _WHITE_LINE
    rim &= (index < reach) | (index >= rows - reach)
    content = np.flatnonzero(~((flat.mean(axis=1) >= _FLAT_LINE) | rim))
    if content.size == 0 or content[-1] + 1 - content[0] < _SMALLEST_FIELD * rows:
        return 0, rows
    return int(content[0]), int(content[-1]) + 1
