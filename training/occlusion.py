"""Whether a model looks at the fracture: hide it, hide something else, and ask again.

A model that knows a fracture by the cast or by the hospital's marker loses nothing when the
fracture itself is hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from training.cases import Case
from training.metrics import iou
from training.stress import generator_for
from training.suite import Answers, Suite

Floats = NDArray[np.float32]
Box = NDArray[np.float64]

GROWN = 0.15
"""Of a box's size, hidden around it on each side: the radiologists draw them tight."""

TRIES = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Occlusion:
    """What hiding did to one fractured image.

    Attributes
    ----------
    row
        Of the case among those given.
    at_fracture, elsewhere
        How far the fracture logit of the region's bone model fell when all its fractures were
        hidden, and when as much was hidden elsewhere on the limb.
    """

    row: int
    at_fracture: float
    elsewhere: float


def occlude(suite: Suite, cases: Sequence[Case], *, quiet: bool = False) -> list[Occlusion]:
    """Results of the cases with boxes in a region of a bone model; others are left out.

    An image with no room for a control patch beside its fractures is left out as well.
    """
    bones = {region: at for at, bone in enumerate(suite.panel.bones) for region in bone.regions}
    found = []
    for row, case in enumerate(track(cases, "occlusion", disable=quiet, transient=True)):
        region = next((r for r in case.box_regions if r in bones), None)
        if region is None:
            continue
        pixels = case.film().pixels
        own = [r == region for r in case.box_regions]
        hidden = [grow(box, pixels.shape) for box in case.boxes[own]]
        elsewhere = control_patches(pixels, hidden, case.boxes, name=case.name)
        if elsewhere is None:
            continue
        whole, without, control = _logits(
            suite.run([pixels, hide(pixels, hidden), hide(pixels, elsewhere)]), bones[region]
        )
        found.append(Occlusion(row=row, at_fracture=whole - without, elsewhere=whole - control))
    return found


def hide(pixels: Floats, boxes: Sequence[Box]) -> Floats:
    """Image whose boxes are filled smoothly from their rims, so that no bone is left in them."""
    filled = pixels.copy()
    for box in boxes:
        left, top, right, bottom = _whole(box, pixels.shape)
        inner = filled[top:bottom, left:right]
        rows, columns = inner.shape
        before = filled[max(top - 1, 0), left:right], filled[top:bottom, max(left - 1, 0)]
        after = (
            filled[min(bottom, pixels.shape[0] - 1), left:right],
            filled[top:bottom, min(right, pixels.shape[1] - 1)],
        )
        down = ((np.arange(rows) + 0.5) / rows)[:, None]
        across = ((np.arange(columns) + 0.5) / columns)[None]
        vertical = before[0][None] * (1 - down) + after[0][None] * down
        horizontal = before[1][:, None] * (1 - across) + after[1][:, None] * across
        filled[top:bottom, left:right] = (vertical + horizontal) / 2
    return filled


def control_patches(
    pixels: Floats, hidden: Sequence[Box], fractures: Box, *, name: str
) -> list[Box] | None:
    """As many patches of the same sizes elsewhere, as bright on average; None if there is no room.

    Patches on air would prove nothing, so each is the one of many draws that comes closest to the
    brightness of what it stands for.
    """
    generator = generator_for("occlusion", name)
    rows, columns = pixels.shape
    patches = []
    for box in hidden:
        width, height = box[2] - box[0], box[3] - box[1]
        wanted = _mean(pixels, box)
        tried: list[tuple[float, int, Box]] = []
        for _ in range(TRIES):
            left = generator.uniform(0, max(columns - width, 0))
            top = generator.uniform(0, max(rows - height, 0))
            patch = np.array([left, top, left + width, top + height])
            if not iou(patch, fractures).any():
                tried.append((abs(_mean(pixels, patch) - wanted), len(tried), patch))
        if not tried:
            return None
        patches.append(min(tried)[2])
    return patches


def grow(box: Box, shape: tuple[int, ...]) -> Box:
    """Box with a margin on each side, within an image of ``shape`` [rows, columns]."""
    width, height = box[2] - box[0], box[3] - box[1]
    margin = GROWN * np.array([-width, -height, width, height])
    edge = np.array([shape[1], shape[0], shape[1], shape[0]], dtype=np.float64)
    return np.clip(box + margin, 0, edge)


def _mean(pixels: Floats, box: Box) -> float:
    left, top, right, bottom = _whole(box, pixels.shape)
    return float(pixels[top:bottom, left:right].mean())


def _whole(box: Box, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Box in whole pixels, at least one each way, on the image."""
    left = min(int(np.floor(box[0])), shape[1] - 1)
    top = min(int(np.floor(box[1])), shape[0] - 1)
    right = min(max(int(np.ceil(box[2])), left + 1), shape[1])
    bottom = min(max(int(np.ceil(box[3])), top + 1), shape[0])
    return left, top, right, bottom


def _logits(answers: Answers, bone: int) -> list[float]:
    return [float(logit) for logit in answers.fracture_logits[:, bone]]
