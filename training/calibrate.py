"""What is chosen on the validation split once a network is exported: nothing is learned here.

Calibration, the two operating points per label, and the boxes' threshold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.metrics import (
    Calibration,
    ImageBoxes,
    Thresholds,
    box_threshold,
    choose_thresholds,
    fit_calibration,
    iou,
    sigmoid,
)
from training.predictions import Predictions

Floats = NDArray[np.float64]

NMS_IOU: Final = 0.3
"""Of two boxes that overlap more than this the less sure one is dropped."""

ENOUGH: Final = 12
"""Positives on val from which a bone has a calibration and thresholds of its own."""

_REFUSED_LIMBS: Final = 0.01  # share of limb radiographs that may be refused, on val
_FALSE_BOXES: Final = 0.3  # per normal image


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """How a label's logit is read."""

    calibration: Calibration
    thresholds: Thresholds
    own: bool  # chosen on this label alone, not pooled over all


@dataclass(frozen=True, kw_only=True, slots=True)
class Choices:
    """Everything that was chosen on val."""

    regions: Choice
    limb: Choice
    fracture: dict[str, Choice]
    box_threshold: float


def choose(
    router_regions: Sequence[str],
    bones: Sequence[str],
    val: Sequence[Predictions],
    other_limb_logits: NDArray[np.float32],
) -> Choices:
    """Choose on val, whole plates and stressed views together.

    Parameters
    ----------
    router_regions, bones
        Regions in the order of the region logits and of the fracture logits.
    val
        Answers to the same split as several variants show it.
    other_limb_logits
        limb logits of pictures that are no limb radiographs.
    """
    seen = np.concatenate([p.truth.regions.ravel() for p in val])
    region_logits = np.concatenate([p.answers.region_logits.ravel() for p in val])
    known = ~np.isnan(seen)
    return Choices(
        regions=_choice(seen[known], region_logits[known], own=False),
        limb=_limb(np.concatenate([p.answers.limb_logits for p in val]), other_limb_logits),
        fracture=_fractures(router_regions, bones, val),
        box_threshold=_box_threshold(val),
    )


def _choice(truth: NDArray[np.generic], logits: NDArray[np.generic], *, own: bool) -> Choice:
    calibration = fit_calibration(truth, logits)
    thresholds = choose_thresholds(truth, calibration(logits))
    return Choice(calibration=calibration, thresholds=thresholds, own=own)


def _limb(limbs: NDArray[np.float32], others: NDArray[np.float32]) -> Choice:
    """A threshold that lets nearly all limb radiographs pass, midway to the others if apart."""
    lowest = float(np.quantile(limbs, _REFUSED_LIMBS))
    highest = float(np.quantile(others, 1 - _REFUSED_LIMBS))
    cut = (lowest + highest) / 2 if highest < lowest else lowest
    plain = Calibration()
    point = float(plain(cut))
    thresholds = Thresholds(sensitive=point, specific=max(point, float(plain(lowest))))
    return Choice(calibration=plain, thresholds=thresholds, own=True)


def _fractures(
    router_regions: Sequence[str], bones: Sequence[str], val: Sequence[Predictions]
) -> dict[str, Choice]:
    columns = [list(router_regions).index(bone) for bone in bones]
    truth = np.concatenate([p.truth.fractured_regions[:, columns] for p in val])
    logits = np.concatenate([p.answers.fracture_logits for p in val])
    known = ~np.isnan(truth)
    pooled = _choice(truth[known], logits[known], own=False)
    # A film and its stressed view are one patient: positives are counted on the first alone.
    counts = np.nansum(val[0].truth.fractured_regions[:, columns], axis=0)
    choices = {}
    for at, bone in enumerate(bones):
        chosen = pooled
        if counts[at] >= ENOUGH:
            mask = known[:, at]
            chosen = _choice(truth[mask, at], logits[mask, at], own=True)
        choices[bone] = chosen
    return choices


def _box_threshold(val: Sequence[Predictions]) -> float:
    images = [image for predictions in val for image in image_boxes(predictions)]
    return float(np.clip(box_threshold(images, false_per_normal=_FALSE_BOXES), 0.0, 1.0))


def image_boxes(predictions: Predictions) -> list[ImageBoxes]:
    """True boxes of each image beside the boxes that all bones found, once each.

    Images whose truth is unknown to hold boxes or none are left out.
    """
    found = []
    answers, truth = predictions.answers, predictions.truth
    for row in range(len(truth.boxes)):
        true = np.asarray(truth.boxes[row], np.float64).reshape(-1, 4)
        if len(true) == 0 and truth.fractured[row] != 0:
            continue
        boxes = answers.boxes[row].reshape(-1, 4).astype(np.float64)
        scores = sigmoid(np.maximum(answers.box_logits[row].ravel(), -50.0))
        kept = suppress(boxes, scores)
        found.append(ImageBoxes(true=true, found=boxes[kept], scores=scores[kept]))
    return found


def suppress(boxes: Floats, scores: Floats, *, most: int = 20) -> NDArray[np.intp]:
    """Rows of boxes [K, 4] that are left when the less sure of two alike are dropped."""
    order = np.argsort(-scores, kind="stable")[:200]
    kept: list[int] = []
    for row in order:
        if len(kept) >= most:
            break
        if not kept or float(iou(boxes[row], boxes[kept]).max()) <= NMS_IOU:
            kept.append(int(row))
    return np.array(kept, np.intp)
