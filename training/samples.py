"""What a network is asked about one view, and the same for a batch as dense targets.

Unknown is NaN, never zero: a view that shows half of a region says nothing about it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.fracatlas import Radiograph
from training.network import LABELS, REGIONS
from worker.preprocess import preprocess

STRIDE: Final = 16
"""Input pixels per cell of the fracture maps."""

_CORE: Final = 0.5  # share of a box, about its centre, whose cells must predict it

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One view and what is known of it.

    Attributes
    ----------
    pixels
        Model input [1, S, S].
    regions
        [labels] 1 in view, 0 not, NaN unknown.
    fractures
        [regions] 1 fractured, 0 not, NaN unknown.
    boxes, box_regions
        [K, 4] in input pixels and their regions [K].
    ignored
        [M, 4] places where a fracture is cut off: neither fracture nor none.
    centre_label
        Index of the label at the middle of the view, or -1.
    limb
        1 for a limb radiograph, 0 for anything else, NaN unknown.
    """

    pixels: Floats
    regions: Floats
    fractures: Floats
    boxes: Floats
    box_regions: NDArray[np.int64]
    ignored: Floats
    centre_label: int = -1
    limb: float = 1.0


def grey_values(radiograph: Radiograph) -> Floats:
    """The image as preprocessing takes it: [rows, columns], 0 to 1."""
    return np.asarray(radiograph.pixels() / 255.0, np.float32)


def plain_sample(radiograph: Radiograph, size: int) -> Sample:
    """The whole image as the service would see it, with its labels."""
    pixels, letterbox = preprocess(grey_values(radiograph), size=size)
    boxes = [letterbox.to_model(box.box) for box in radiograph.boxes]
    return Sample(
        pixels=pixels[0],
        regions=region_targets(radiograph),
        fractures=fracture_targets(radiograph),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        box_regions=np.array([REGIONS.index(b.region) for b in radiograph.boxes], np.int64),
        ignored=np.zeros((0, 4), np.float32),
        centre_label=-1 if radiograph.multiview else LABELS.index(radiograph.primary),
    )


def other_sample(grey: Floats, size: int) -> Sample:
    """A picture that is no limb radiograph."""
    pixels, _ = preprocess(grey, size=size)
    return Sample(
        pixels=pixels[0],
        regions=np.zeros(len(LABELS), np.float32) * np.nan,
        fractures=np.full(len(REGIONS), np.nan, np.float32),
        boxes=np.zeros((0, 4), np.float32),
        box_regions=np.zeros(0, np.int64),
        ignored=np.zeros((0, 4), np.float32),
        limb=0.0,
    )


def region_targets(radiograph: Radiograph) -> Floats:
    """[labels] which are in view of the whole image."""
    return np.array([label in radiograph.regions for label in LABELS], np.float32)


def fracture_targets(radiograph: Radiograph) -> Floats:
    """[regions] fractured or not; NaN where the region is not in view."""
    fractured = radiograph.fractured_regions
    seen = set(radiograph.regions) | fractured
    return np.array(
        [float(region in fractured) if region in seen else np.nan for region in REGIONS],
        np.float32,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Samples as tensors, with their dense targets at `STRIDE`.

    Attributes
    ----------
    pixels
        [N, 1, S, S].
    regions, fractures, limb
        [N, labels], [N, regions], [N, 1]; NaN unknown.
    fracture_cells
        [N, regions, h, w]: 1 in a box of the region, 0 outside, NaN unknown.
    label_cells
        [N, h/2, w/2]: index of the label at a cell of layer4's grid, -1 unknown.
    centre_labels
        [N]: index of the label in the middle, -1 unknown.
    centres
        [N, h, w]: 1 where a box must be predicted, 0 where none, NaN where it does not matter.
    edges
        [N, 4, h, w]: distances to the edges in strides, NaN where there is no box.
    """

    pixels: Tensor
    regions: Tensor
    fractures: Tensor
    limb: Tensor
    fracture_cells: Tensor
    label_cells: Tensor
    centre_labels: Tensor
    centres: Tensor
    edges: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device, pixels in channels-last order."""
        moved = {f.name: getattr(self, f.name).to(device) for f in fields(self)}
        moved["pixels"] = moved["pixels"].contiguous(memory_format=torch.channels_last)
        return Batch(**moved)


def collate(samples: Sequence[Sample]) -> Batch:
    """Join samples of one size into a batch."""
    dense = [_dense(sample) for sample in samples]
    return Batch(
        pixels=torch.from_numpy(np.stack([s.pixels for s in samples])),
        regions=torch.from_numpy(np.stack([s.regions for s in samples])),
        fractures=torch.from_numpy(np.stack([s.fractures for s in samples])),
        limb=torch.tensor([[s.limb] for s in samples]),
        fracture_cells=torch.from_numpy(np.stack([d[0] for d in dense])),
        label_cells=torch.from_numpy(np.stack([d[1] for d in dense])),
        centre_labels=torch.tensor([s.centre_label for s in samples]),
        centres=torch.from_numpy(np.stack([d[2] for d in dense])),
        edges=torch.from_numpy(np.stack([d[3] for d in dense])),
    )


def _dense(sample: Sample) -> tuple[Floats, NDArray[np.int64], Floats, Floats]:
    """Dense targets of one sample: fracture cells, label cells, centres, edges."""
    cells = sample.pixels.shape[-1] // STRIDE
    middle = np.asarray((np.arange(cells) + 0.5) * STRIDE, np.float32)
    fracture = np.zeros((len(REGIONS), cells, cells), np.float32)
    fracture[np.isnan(sample.fractures)] = np.nan
    label = np.full((cells // 2, cells // 2), -1, np.int64)
    unknown = sample.limb == 1.0 and np.isnan(sample.fractures).all()
    centres = np.full((cells, cells), np.nan if unknown else 0.0, np.float32)
    edges = np.full((4, cells, cells), np.nan, np.float32)
    for box in sample.ignored:
        rows, columns = _cells_in(box, middle)
        fracture[:, rows, columns] = np.nan
        centres[rows, columns] = np.nan
    areas = (sample.boxes[:, 2] - sample.boxes[:, 0]) * (sample.boxes[:, 3] - sample.boxes[:, 1])
    # The largest first, so that a small box inside it has the last word.
    for index in np.argsort(-areas):
        box, region = sample.boxes[index], int(sample.box_regions[index])
        rows, columns = _cells_in(box, middle)
        fracture[region, rows, columns] = 1.0
        label[
            rows.start // 2 : (rows.stop + 1) // 2, columns.start // 2 : (columns.stop + 1) // 2
        ] = region
        centres[rows, columns] = np.where(centres[rows, columns] == 1.0, 1.0, np.nan)
        rows, columns = _cells_in(_core(box), middle)
        centres[rows, columns] = 1.0
        y, x = middle[rows, None], middle[None, columns]
        for edge, distance in enumerate((x - box[0], y - box[1], box[2] - x, box[3] - y)):
            edges[edge, rows, columns] = np.maximum(distance, 1.0) / STRIDE
    return fracture, label, centres, edges


def _core(box: Floats) -> Floats:
    """The middle part of a box."""
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    return np.concatenate([centre - _CORE * half, centre + _CORE * half])


def _cells_in(box: Floats, middle: Floats) -> tuple[slice, slice]:
    """Rows and columns of cells whose middle is in a box; at least the nearest cell."""
    slices = []
    for low, high in ((box[1], box[3]), (box[0], box[2])):
        inside = np.flatnonzero((middle >= low) & (middle <= high))
        if inside.size == 0:
            nearest = int(np.abs(middle - (low + high) / 2).argmin())
            inside = np.array([nearest])
        slices.append(slice(int(inside[0]), int(inside[-1]) + 1))
    return slices[0], slices[1]
