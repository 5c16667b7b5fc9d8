"""A network's answers to a split, in the shape in which the exported models give theirs.

The exported files are checked to say the same; this shares what they would each compute.
"""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from training.cases import Case
from training.negatives import make_negative
from training.network import REGIONS, Network, cell_boxes
from training.predictions import Predictions, truth_of
from training.stress import Film
from training.suite import Answers
from worker.preprocess import Letterbox, preprocess

BOXES: Final = 48
"""Boxes per region and image, the surest."""

_OTHERS_SEED: Final = 424_242  # not a seed of training


@torch.no_grad()
def answers_of(
    network: Network, layer3: Tensor, layer4: Tensor, letterboxes: Sequence[Letterbox]
) -> Answers:
    """Answers to images whose features are at hand; bones in the order of `REGIONS`."""
    outputs = network.heads(layer3, layer4)
    regions = outputs.region_maps[:, : len(REGIONS)]
    scores = (outputs.centres + network.fracture.attention(regions)).flatten(2).float()
    most = min(BOXES, scores.shape[2])
    best, cells = torch.topk(scores, most, dim=2)
    every = cell_boxes(outputs.distances.float())[:, None].expand(-1, len(REGIONS), -1, -1)
    boxes = torch.gather(every, 2, cells[..., None].expand(-1, -1, -1, 4)).numpy()
    maps = outputs.fracture_maps.float()
    _, _, rows, columns = maps.shape
    hottest = maps.flatten(2).argmax(2).numpy()
    size = rows * 16
    x, y = (hottest % columns + 0.5) * size / columns, (hottest // columns + 0.5) * size / rows
    corners = np.array([[b.left, b.top] * 2 for b in letterboxes])[:, None, None]
    pads = np.array([[b.pad_x, b.pad_y] * 2 for b in letterboxes])[:, None, None]
    scales = np.array([[b.scale_x, b.scale_y] * 2 for b in letterboxes])[:, None, None]
    peaks = (np.stack([x, y, x, y], 2)[:, :, None] - pads) / scales + corners
    return Answers(
        region_logits=outputs.region_logits[:, : len(REGIONS)].float().numpy(),
        limb_logits=outputs.limb_logit[:, 0].float().numpy(),
        fracture_logits=outputs.fracture_logits.float().numpy(),
        peaks=peaks[:, :, 0, :2].astype(np.float32),
        boxes=((boxes - pads) / scales + corners).astype(np.float32),
        box_logits=best.numpy(),
    )


@torch.no_grad()
def measure(
    network: Network, cases: Sequence[Case], variant: str, size: int, *, batch: int = 8
) -> Predictions:
    """Answers to cases as a variant shows them, beside the truth, in fp32."""
    network.eval()
    parts: list[Answers] = []
    films: list[Film] = []
    for begin in track(range(0, len(cases), batch), description=variant, transient=True):
        made = [case.film(variant) for case in cases[begin : begin + batch]]
        pixels, letterboxes = zip(*(preprocess(f.pixels, size=size) for f in made), strict=True)
        stacked = torch.from_numpy(np.concatenate(pixels))
        layer3, layer4 = network.trunk(stacked.contiguous(memory_format=torch.channels_last))
        parts.append(answers_of(network, layer3, layer4, letterboxes))
        films += [replace(film, pixels=np.zeros((1, 1), np.float32)) for film in made]
    return Predictions(cases=cases, truth=truth_of(cases, films, REGIONS), answers=join(parts))


def join(parts: Sequence[Answers]) -> Answers:
    """Answers to several batches as one."""
    names = [field.name for field in fields(Answers)]
    return Answers(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in names})


@torch.no_grad()
def other_limb_logits(network: Network, size: int, count: int = 200) -> NDArray[np.float32]:
    """limb logits of made-up pictures that training has not seen."""
    network.eval()
    rng = np.random.default_rng(_OTHERS_SEED)
    found = []
    for _ in range(0, count, 8):
        pixels = [preprocess(make_negative(rng, size), size=size)[0] for _ in range(8)]
        features = network.trunk(torch.from_numpy(np.concatenate(pixels)))
        found.append(network.limb(*features)[:, 0].numpy())
    return np.concatenate(found)
