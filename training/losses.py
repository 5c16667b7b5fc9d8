"""What a network is trained to lower, task by task. Unknown targets (NaN, -1) cost nothing."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional

from training.network import REGIONS, Outputs
from training.samples import Batch


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """How much each task counts."""

    regions: float = 1.0
    primary: float = 0.3
    places: float = 0.3
    limb: float = 0.5
    fracture: float = 1.0
    cells: float = 0.5
    centres: float = 0.5
    edges: float = 0.25


def task_losses(outputs: Outputs, batch: Batch, smoothing: float = 0.0) -> dict[str, Tensor]:
    """Loss of each task of `Weights`, before weighting."""
    return {
        "regions": known_cross_entropy(outputs.region_logits, batch.regions, smoothing),
        "primary": primary_loss(outputs.region_logits, batch.centre_labels),
        "places": place_loss(outputs.region_maps, batch),
        "limb": known_cross_entropy(outputs.limb_logit, batch.limb, smoothing),
        "fracture": known_cross_entropy(outputs.fracture_logits, batch.fractures, smoothing),
        "cells": cell_loss(outputs.fracture_maps, batch.fracture_cells),
        "centres": centre_loss(outputs.centres[:, 0], batch.centres),
        "edges": edge_loss(outputs.distances, batch.edges),
    }


def total(losses: dict[str, Tensor], weights: Weights) -> Tensor:
    """Weighted sum."""
    parts = [getattr(weights, field.name) * losses[field.name] for field in fields(weights)]
    return torch.stack(parts).sum()


def known_cross_entropy(logits: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
    """Binary cross-entropy over the known targets; 0 if none is known."""
    known = ~torch.isnan(target)
    wanted = torch.where(known, target, torch.zeros_like(target))
    wanted = wanted * (1 - smoothing) + smoothing / 2
    each = functional.binary_cross_entropy_with_logits(logits.float(), wanted, reduction="none")
    return (each * known).sum() / known.sum().clamp(min=1)


def primary_loss(region_logits: Tensor, centre_labels: Tensor) -> Tensor:
    """The region on which a view is centred has the highest logit of those in view."""
    known = centre_labels >= 0
    if not known.any():
        return region_logits.sum() * 0.0
    return functional.cross_entropy(region_logits[known].float(), centre_labels[known])


def place_loss(region_maps: Tensor, batch: Batch) -> Tensor:
    """Where regions lie: at fracture boxes, and weakly in the middle of the view."""
    maps = region_maps.float()
    labels = batch.label_cells.flatten()
    known = labels >= 0
    cells = maps.permute(0, 2, 3, 1).flatten(0, 2)
    zero = maps.sum() * 0.0
    boxed = functional.cross_entropy(cells[known], labels[known]) if known.any() else zero
    edge = maps.shape[2]
    inner = slice(int(edge * 0.3), max(int(edge * 0.3) + 1, round(edge * 0.7)))
    middle = torch.logsumexp(maps[:, :, inner, inner].flatten(2), 2)
    seen = batch.centre_labels >= 0
    if not seen.any():
        return boxed
    return boxed + 0.3 * functional.cross_entropy(middle[seen], batch.centre_labels[seen])


def cell_loss(maps: Tensor, target: Tensor) -> Tensor:
    """Fracture or not, cell by cell: as much weight on all fractured as on all other cells."""
    known = ~torch.isnan(target)
    wanted = torch.where(known, target, torch.zeros_like(target))
    each = functional.binary_cross_entropy_with_logits(maps.float(), wanted, reduction="none")
    each = each * known
    hit = (each * wanted).sum() / wanted.sum().clamp(min=1)
    certain = torch.sigmoid(maps.detach().float()) * (1 - wanted) + wanted
    missed = (each * (1 - wanted) * certain).sum() / (known * (1 - wanted) * certain).sum().clamp(1)
    return 0.25 * hit * (wanted.sum() > 0) + missed


def centre_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Focal loss (Lin et al. 2017; alpha 0.25, gamma 2) per box cell."""
    known = ~torch.isnan(target)
    wanted = torch.where(known, target, torch.zeros_like(target))
    each = functional.binary_cross_entropy_with_logits(logits.float(), wanted, reduction="none")
    p = torch.sigmoid(logits.float())
    miss = wanted * (1 - p) + (1 - wanted) * p
    alpha = 0.25 * wanted + 0.75 * (1 - wanted)
    return (known * alpha * miss.square() * each).sum() / wanted.sum().clamp(min=4)


def edge_loss(distances: Tensor, target: Tensor) -> Tensor:
    """1 - generalised IoU (Rezatofighi et al. 2019) of the boxes of cells that have one."""
    known = ~torch.isnan(target[:, 0])
    if not known.any():
        return distances.sum() * 0.0
    found = distances.float().permute(0, 2, 3, 1)[known]
    true = target.permute(0, 2, 3, 1)[known]
    low, high = torch.minimum(found, true), torch.maximum(found, true)
    overlap = (low[:, 0] + low[:, 2]) * (low[:, 1] + low[:, 3])
    union = _area(found) + _area(true) - overlap
    hull = (high[:, 0] + high[:, 2]) * (high[:, 1] + high[:, 3])
    return (1 - overlap / union + (hull - union) / hull).mean()


def _area(edges: Tensor) -> Tensor:
    return (edges[:, 0] + edges[:, 2]) * (edges[:, 1] + edges[:, 3])


def fracture_score(fracture_logits: Tensor, region_logits: Tensor) -> Tensor:
    """Score [N] of a whole image: the most suspicious region that is in view.

    If no region is in view by the router, the most likely one is asked.
    """
    logits = region_logits[:, : len(REGIONS)]
    seen = (logits > 0) | (logits == logits.amax(1, keepdim=True))
    return fracture_logits.masked_fill(~seen, -30.0).amax(1)
