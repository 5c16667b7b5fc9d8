"""PNG and JPEG files as grey pictures, for readings without DICOM. Nothing of DICOM here."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from studies.errors import UnreadablePixels
from worker.decoding import LARGEST_IMAGE_PIXELS

FORMATS: Final = ("PNG", "JPEG")

_LUMA: Final = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow and JPEG have it


def read_grey_picture(path: Path) -> tuple[npt.NDArray[np.float32], tuple[str, ...]]:
    """Read a picture upright and in grey.

    Parameters
    ----------
    path
        A PNG (8 or 16 bits) or JPEG file. Colour becomes luma; what is transparent becomes
        black; EXIF orientation is applied.

    Returns
    -------
    tuple
        float32 [rows, columns], 0 black to 1 white, as the file shows it, and notes.

    Raises
    ------
    UnreadablePixels
        If the file is no whole PNG or JPEG, or larger than `LARGEST_IMAGE_PIXELS`.
    """
    notes: list[str] = []
    try:
        # Pillow's own limit only warns, and its warning comes before our check can speak.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as opened:
                if opened.width * opened.height > LARGEST_IMAGE_PIXELS:
                    raise UnreadablePixels(
                        f"{path.name}: {opened.height} x {opened.width} pixels are more than "
                        f"{LARGEST_IMAGE_PIXELS}"
                    )
                if getattr(opened, "n_frames", 1) > 1:
                    notes.append("several pictures in the file: the first is used")
                opened.load()
                upright = ImageOps.exif_transpose(opened)
    except Image.DecompressionBombError as error:
        raise UnreadablePixels(f"{path.name}: more than {LARGEST_IMAGE_PIXELS} pixels") from error
    except UnidentifiedImageError as error:
        raise UnreadablePixels(f"{path.name} is neither PNG nor JPEG") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise UnreadablePixels(f"{path.name} is broken: {error}") from error
    return _grey(upright, notes), tuple(notes)


def luma(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return the brightness, 0 to 1, of uint8 [rows, columns, 3]."""
    weights = np.asarray(_LUMA, dtype=np.float32) / np.float32(255.0)
    brightness: npt.NDArray[np.float32] = rgb.astype(np.float32) @ weights
    return brightness


def is_coloured(rgb: npt.NDArray[np.uint8], tolerance: int = 24) -> bool:
    """Whether more than 1 % of uint8 [rows, columns, 3] is not some grey."""
    spread = rgb.max(axis=2).astype(np.int16) - rgb.min(axis=2)
    return bool((spread > tolerance).mean() > 0.01)


def _grey(picture: Image.Image, notes: list[str]) -> npt.NDArray[np.float32]:
    if picture.mode in {"I;16", "I;16B", "I;16L", "I"}:  # 16-bit PNG; "I" in older Pillow
        wide: npt.NDArray[np.float32] = np.asarray(picture).astype(np.float32)
        wide /= np.float32(65535.0)
        return wide
    if picture.mode == "F":
        raise UnreadablePixels("a picture of floating-point values has no known range")
    if picture.mode in {"LA", "PA", "RGBA", "La", "RGBa"} or "transparency" in picture.info:
        layered = picture.convert("RGBA")
        black = Image.new("RGBA", layered.size, (0, 0, 0, 255))
        picture = Image.alpha_composite(black, layered).convert("RGB")
        notes.append("transparent picture: laid on black")
    if picture.mode in {"1", "L"}:
        narrow: npt.NDArray[np.float32] = np.asarray(picture.convert("L"), dtype=np.float32)
        return narrow / np.float32(255.0)
    rgb = np.asarray(picture.convert("RGB"))
    if is_coloured(rgb):
        notes.append("coloured picture: brightness used")
    return luma(rgb)
