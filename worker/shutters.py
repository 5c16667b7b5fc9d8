"""Which pixels of an image show anatomy at all: display shutters and collimators."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset

from worker.elements import numbers, words

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Visibility:
    """What covers an image.

    Attributes
    ----------
    shutter
        bool [rows, columns], False where the Display Shutter (PS3.3 C.7.6.11) covers the
        picture; None if there is none. Covered pixels are shown black.
    open
        bool [rows, columns], False where shutter or collimator (PS3.3 C.8.7.3) cover; None if
        there is neither. A collimator's edges are known roughly: its pixels keep their grey
        values, but do not count where grey values are counted.
    notes
        What was odd.
    """

    shutter: Mask | None
    open: Mask | None
    notes: tuple[str, ...]


def visibility(ds: Dataset, rows: int, columns: int) -> Visibility:
    """Return what shutters and collimators leave of an image of that size."""
    notes: list[str] = []
    shutter = _open_area(ds, "Shutter", rows, columns, notes)
    collimator = _open_area(ds, "Collimator", rows, columns, notes)
    if shutter is None or collimator is None:
        together = collimator if shutter is None else shutter
    else:
        together = shutter & collimator
        if not together.any():
            notes.append("shutter and collimator leave nothing: collimator ignored")
            together = shutter
    return Visibility(shutter=shutter, open=together, notes=tuple(notes))


def _open_area(ds: Dataset, kind: str, rows: int, columns: int, notes: list[str]) -> Mask | None:
    """Return the area that all shapes of a shutter leave open; None if there is no usable one."""
    shapes = {shape.upper() for shape in words(ds, f"{kind}Shape")}
    area: Mask | None = None
    for shape, draw in _SHAPES.items():
        if shape not in shapes:
            continue
        part = draw(ds, kind, rows, columns)
        if part is None or not part.any():
            notes.append(f"{kind}Shape {shape} without usable edges: ignored")
            continue
        area = part if area is None else area & part
    if area is not None and not area.any():
        notes.append(f"{kind} leaves nothing of the image: ignored")
        return None
    return None if area is None or area.all() else area


def _rectangle(ds: Dataset, kind: str, rows: int, columns: int) -> Mask | None:
    """Draw the inside of the four edges, which are numbers of columns and rows from 1."""
    edges = [
        numbers(ds, f"{kind}{side}Edge")
        for side in ("LeftVertical", "RightVertical", "UpperHorizontal", "LowerHorizontal")
    ]
    if not all(edges):
        return None
    left, right, upper, lower = (round(edge[0]) for edge in edges)
    if kind == "Collimator" and not (0 <= left < right <= columns + 1 and 0 <= upper < lower):
        return None  # Real devices put millimetres from the centre here.
    mask = np.zeros((rows, columns), dtype=np.bool_)
    mask[max(0, upper - 1) : max(0, lower), max(0, left - 1) : max(0, right)] = True
    return mask


def _circle(ds: Dataset, kind: str, rows: int, columns: int) -> Mask | None:
    center = numbers(ds, f"CenterOfCircular{kind}")  # row\column, from 1
    radius = numbers(ds, f"RadiusOfCircular{kind}")
    if len(center) != 2 or not radius or radius[0] <= 0:
        return None
    down = (np.arange(1, rows + 1, dtype=np.float32) - center[0]) ** 2
    across = (np.arange(1, columns + 1, dtype=np.float32) - center[1]) ** 2
    mask: Mask = down[:, None] + across[None, :] <= radius[0] ** 2
    return mask


def _polygon(ds: Dataset, kind: str, rows: int, columns: int) -> Mask | None:
    vertices = numbers(ds, f"VerticesOfThePolygonal{kind}")  # row\column\row\column…, from 1
    if len(vertices) < 6 or len(vertices) % 2:
        return None
    points = [(vertices[i + 1] - 1, vertices[i] - 1) for i in range(0, len(vertices), 2)]
    picture = Image.new("1", (columns, rows))
    ImageDraw.Draw(picture).polygon(points, fill=1, outline=1)
    return np.asarray(picture, dtype=np.bool_)


_SHAPES = {"RECTANGULAR": _rectangle, "CIRCULAR": _circle, "POLYGONAL": _polygon}
