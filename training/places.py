"""Where the regions lie in whole-plate films, by the router's own maps and the boxes.

Needed to cut single joints out of plates with a label that is true of the cut.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.augment import PLACE_CELLS
from training.fracatlas import Radiograph
from training.network import LABELS
from training.samples import Floats
from worker.preprocess import Letterbox

Places = Mapping[str, Floats]
"""By file name: [labels, PLACE_CELLS, PLACE_CELLS], each label in view summing to 1."""

_GREY_CELLS = 32
_BOX_SHARE = 0.5  # of a region's place that its fracture boxes make up


def places_of(
    radiograph: Radiograph,
    maps: NDArray[np.float32],
    pixels: NDArray[np.float32],
    letterbox: Letterbox,
) -> Floats:
    """Places of one image.

    Parameters
    ----------
    maps
        [labels, h, w] region maps of the whole image.
    pixels, letterbox
        The model's input [1, 1, S, S] of the whole image, and how the image lay in it.

    Returns
    -------
    ndarray
        [labels, PLACE_CELLS, PLACE_CELLS] over the image; zero where not in view.
    """
    seen = [index for index, label in enumerate(LABELS) if label in radiograph.regions]
    places = np.zeros((len(LABELS), PLACE_CELLS, PLACE_CELLS), np.float32)
    if not seen:
        return places
    middle = (np.arange(PLACE_CELLS) + 0.5) / PLACE_CELLS
    x, y = middle * radiograph.width, middle * radiograph.height
    left, top, _, _ = letterbox.to_model((0.0, 0.0, 1.0, 1.0))
    size = pixels.shape[-1]
    across = (x * letterbox.scale_x + left) / size
    down = (y * letterbox.scale_y + top) / size
    columns, rows = _nearest(across, maps.shape[2]), _nearest(down, maps.shape[1])
    bright = _bright(pixels[0, 0])[_nearest(down, _GREY_CELLS)][:, _nearest(across, _GREY_CELLS)]
    found = maps[seen][:, rows][:, :, columns].astype(np.float64)
    share = np.exp(found - found.max(0))
    share /= share.sum(0)
    anatomy = 1 / (1 + np.exp(-found.max(0)))
    for index, mass in zip(seen, share**2 * anatomy * bright, strict=True):
        places[index] = mass / max(float(mass.sum()), 1e-9)
    for box in radiograph.boxes:
        index = LABELS.index(box.region)
        inside = np.outer(
            (y >= box.box[1]) & (y <= box.box[3]), (x >= box.box[0]) & (x <= box.box[2])
        )
        if index in seen and inside.any():
            count = sum(other.region == box.region for other in radiograph.boxes)
            places[index] *= 1 - _BOX_SHARE / count
            places[index] += _BOX_SHARE / count * inside / inside.sum()
            places[index] /= places[index].sum()
    return places


def _bright(square: NDArray[np.float32]) -> NDArray[np.float32]:
    """[_GREY_CELLS, _GREY_CELLS] near 1 on bone and tissue, near 0 on air."""
    small = Image.fromarray(square).resize((_GREY_CELLS, _GREY_CELLS), Image.Resampling.BOX)
    cells = np.asarray(small, np.float32)
    limit = max(float(np.percentile(cells, 90)), 1e-3)
    return np.asarray(np.clip(cells / limit, 0.02, 1.0) ** 2, np.float32)


def _nearest(position: NDArray[np.float64], cells: int) -> NDArray[np.intp]:
    """Cells nearest to positions from 0 to 1."""
    return np.clip((position * cells).astype(np.intp), 0, cells - 1)


def save_places(path: Path, radiographs: Sequence[Radiograph], places: Places) -> None:
    """Keep places beside a run's checkpoints."""
    names = [radiograph.path.name for radiograph in radiographs]
    stacked = np.stack([places[name] for name in names]).astype(np.float16)
    np.savez_compressed(path, names=np.array(names), places=stacked)


def load_places(path: Path) -> dict[str, Floats]:
    """Read what `save_places` kept."""
    with np.load(path) as file:
        stacked = file["places"].astype(np.float32)
        sums = stacked.sum((2, 3), keepdims=True)
        stacked = np.divide(stacked, sums, out=np.zeros_like(stacked), where=sums > 0)
        return dict(zip(file["names"].tolist(), stacked, strict=True))
