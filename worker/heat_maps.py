"""Activation maps as they are kept beside a reading: small, and placed on the stored image."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from studies.model import Region
from worker.preprocess import Letterbox

Map = npt.NDArray[np.float16]


def encode_heat_maps(
    maps: Mapping[Region, npt.NDArray[np.floating]], size: int, letterbox: Letterbox
) -> bytes:
    """A NumPy archive (.npz) of one map [h, w] per region, and where the maps lie.

    Parameters
    ----------
    size
        Edge of the model's input, in pixels, that the maps cover.

    Returns
    -------
    bytes
        Arrays named by region, float16; and "edges": left, top, right, bottom of the maps in
        pixels of the stored image, which may lie outside it. The same maps give the same bytes.
    """
    edges = np.array(letterbox.to_image((0.0, 0.0, float(size), float(size))))
    arrays = {region.value: np.asarray(value, np.float16) for region, value in maps.items()}
    stream = io.BytesIO()
    np.savez_compressed(stream, edges=edges, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def decode_heat_maps(data: bytes) -> tuple[dict[Region, Map], tuple[float, float, float, float]]:
    """The maps by region, and their edges on the stored image, of such an archive."""
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        left, top, right, bottom = (float(edge) for edge in archive["edges"])
        maps = {Region(name): archive[name] for name in archive.files if name != "edges"}
    return maps, (left, top, right, bottom)
