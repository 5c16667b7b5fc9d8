"""Activation maps as they are kept beside a reading: small, and placed on the stored image."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from studies.model import Region
from worker.preprocess import Letterbox

_EDGES = ".edges"


@dataclass(frozen=True, slots=True, eq=False)
class HeatMap:
    """Where a bone model sees signs of a fracture.

    Attributes
    ----------
    values
        float16 [h, w], logits: higher is more suspect. Their level means nothing by itself.
    edges
        Left, top, right, bottom of the map in pixels of the stored image. They may lie outside
        it, since a model's square input has an empty rim.
    """

    region: Region
    values: npt.NDArray[np.float16]
    edges: tuple[float, float, float, float]

    @classmethod
    def over(
        cls, values: npt.NDArray[Any], region: Region, size: int, letterbox: Letterbox
    ) -> HeatMap:
        """The map [h, w] of a model's whole input, whose edge is `size` pixels."""
        edges = letterbox.to_image((0.0, 0.0, float(size), float(size)))
        return cls(region, np.asarray(values, np.float16), edges)


def encode_heat_maps(maps: Iterable[HeatMap]) -> bytes:
    """A NumPy archive (.npz): for each region its map, and "<region>.edges". No two of a region.

    The same maps give the same bytes.
    """
    arrays: dict[str, npt.NDArray[Any]] = {}
    for each in maps:
        arrays[each.region.value] = each.values
        arrays[each.region.value + _EDGES] = np.array(each.edges, np.float64)
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def decode_heat_maps(data: bytes) -> dict[Region, HeatMap]:
    """The maps of such an archive."""
    found = {}
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        for name in archive.files:
            if name.endswith(_EDGES):
                continue
            left, top, right, bottom = (float(edge) for edge in archive[name + _EDGES])
            region = Region(name)
            found[region] = HeatMap(region, archive[name], (left, top, right, bottom))
    return found
