"""CPU time from a DICOM file to the displayed picture, ours and the usual way: `python -m benchmarks.pixels`."""

from __future__ import annotations

import io
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pydicom
from imagecodecs import jpeg8_encode
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from osteon.drawing import lower_leg, render
from osteon.wrapping import wrap
from worker.decoding import decode_grey
from worker.pixels import display

ROWS: Final = 2500
COLUMNS: Final = 2048
ROUNDS: Final = 7
SYNTAXES: Final = (
    ExplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEGLSLossless,
    JPEGLosslessSV1,
    JPEG2000Lossless,
)


def radiograph(syntax: UID) -> bytes:
    """Return a MONOCHROME1 CR of 12 in 16 bits as a file in the syntax."""
    drawn = render(lower_leg(), spacing_mm=0.2)
    grown = np.tile(drawn, (2, 3))[:ROWS, :COLUMNS]
    noise = np.random.default_rng(0).normal(0, 12, grown.shape)
    pixels = np.clip(4095 - grown + noise, 0, 4095).astype(np.uint16)
    ds = wrap(
        pixels,
        seed="benchmarks/pixels",
        sop_class=ComputedRadiographyImageStorage,
        photometric="MONOCHROME1",
        bits_stored=12,
    )
    ds.RescaleIntercept, ds.RescaleSlope = "0", "1"
    if syntax == JPEGLosslessSV1:
        stream = jpeg8_encode(pixels, lossless=True, predictor=1, bitspersample=12)
        ds.PixelData = encapsulate([bytes(stream)])
        ds["PixelData"].is_undefined_length = True
        ds["PixelData"].VR = "OB"
    elif syntax == RLELossless:
        ds.compress(syntax, encoding_plugin="pylibjpeg")
    elif syntax in {JPEGLSLossless, JPEG2000Lossless}:
        ds.compress(syntax)
    ds.file_meta.TransferSyntaxUID = syntax
    stream_out = io.BytesIO()
    ds.save_as(stream_out, enforce_file_format=True)
    return stream_out.getvalue()


def usual(ds: Dataset) -> npt.NDArray[Any]:
    """Show the picture as pydicom's own functions do, then scale it to 0 … 1."""
    values = apply_voi_lut(apply_modality_lut(ds.pixel_array, ds), ds)
    low, high = values.min(), values.max()
    shown: npt.NDArray[Any] = 1.0 - ((values - low) / (high - low)).astype(np.float32)
    return shown


def milliseconds(action: Callable[[Dataset], object], ds: Dataset) -> float:
    """Return the CPU time of one call."""
    start = time.process_time()
    action(ds)
    return 1e3 * (time.process_time() - start)


def main() -> None:
    """Print a table: median CPU ms of interleaved rounds."""
    warnings.simplefilter("ignore")
    actions: dict[str, Callable[[Dataset], object]] = {
        "decode, pydicom": lambda ds: ds.pixel_array,
        "decode, ours": decode_grey,
        "whole, usual": usual,
        "whole, ours": display,
    }
    print(f"{COLUMNS} x {ROWS}, 12 of 16 bits, CPU ms, median of {ROUNDS} interleaved rounds")
    print(f"{'syntax':60}" + "".join(f"{name:>18}" for name in actions))
    for syntax in SYNTAXES:
        file = radiograph(syntax)
        times: dict[str, list[float]] = {name: [] for name in actions}
        for _ in range(ROUNDS):
            for name, action in actions.items():
                times[name].append(milliseconds(action, pydicom.dcmread(io.BytesIO(file))))
        medians = (statistics.median(times[name]) for name in actions)
        print(f"{syntax.name[:58]:60}" + "".join(f"{value:18.1f}" for value in medians))


if __name__ == "__main__":
    main()
