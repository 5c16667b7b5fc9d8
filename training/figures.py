"""The few figures that every card must state, with intervals; evaluation prints many more."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.calibrate import Choices, image_boxes
from training.metrics import (
    Interval,
    auc,
    bootstrap_interval,
    centre_hit_rate_at,
    false_boxes_per_normal,
    macro_auc,
    map50,
    sensitivity_at,
    specificity_at,
    top_one_accuracy,
)
from training.predictions import Predictions

Figures = dict[str, Interval]


def image_scores(
    predictions: Predictions, router_regions: Sequence[str], bones: Sequence[str], choices: Choices
) -> NDArray[np.float64]:
    """Fracture probability [N] of whole images: the highest over the bones in view.

    In view is what the router says is; if it sees none, its likeliest region is asked.
    """
    columns = [list(router_regions).index(bone) for bone in bones]
    logits = predictions.answers.region_logits[:, columns]
    seen = choices.regions.calibration(logits) >= choices.regions.thresholds.sensitive
    seen |= logits == logits.max(axis=1, keepdims=True)
    p = np.stack(
        [
            choices.fracture[bone].calibration(predictions.answers.fracture_logits[:, at])
            for at, bone in enumerate(bones)
        ],
        axis=1,
    )
    return np.asarray(np.where(seen, p, 0.0).max(axis=1))


def router_figures(predictions: Predictions, choices: Choices) -> Figures:
    """Macro AUC, top-1 accuracy and the share of limb images that are let in."""
    truth, answers, blocks = predictions.truth, predictions.answers, predictions.blocks
    whole = ~np.isnan(truth.regions).any(axis=1)
    figures = {}
    if whole.any():
        figures["macro_auc"] = bootstrap_interval(
            macro_auc, truth.regions[whole], answers.region_logits[whole], blocks[whole], n=200
        )
    first = answers.region_logits.argmax(axis=1)
    # Of a crop it may be unknown whether it still shows the region that is named.
    judged = ~np.isnan(truth.regions[np.arange(len(first)), first])
    if judged.any():
        figures["top1_in_view"] = bootstrap_interval(
            top_one_accuracy,
            np.nan_to_num(truth.regions[judged]),
            answers.region_logits[judged],
            blocks[judged],
        )
    centred = truth.primary >= 0
    if centred.any():
        figures["top1_primary"] = bootstrap_interval(
            lambda y, p: float(np.mean(y == p)),
            truth.primary[centred],
            first[centred],
            blocks[centred],
        )
    accepted = choices.limb.calibration(answers.limb_logits) >= choices.limb.thresholds.sensitive
    figures["limb_accepted"] = bootstrap_interval(
        lambda _, p: float(np.mean(p)), np.ones(len(accepted)), accepted.astype(float), blocks
    )
    return figures


def bone_figures(
    predictions: Predictions, column: int, bone: int, name: str, choices: Choices
) -> Figures:
    """AUC, sensitivity and specificity at the operating points, of one bone in view."""
    truth = predictions.truth.fractured_regions[:, column]
    known = ~np.isnan(truth)
    choice = choices.fracture[name]
    p = choice.calibration(predictions.answers.fracture_logits[known, bone])
    y, blocks = truth[known], predictions.blocks[known]
    points = choice.thresholds
    figures = {
        "auc": bootstrap_interval(auc, y, p, blocks),
        "sensitivity_sensitive": bootstrap_interval(
            lambda a, b: sensitivity_at(a, b, points.sensitive), y, p, blocks
        ),
        "specificity_sensitive": bootstrap_interval(
            lambda a, b: specificity_at(a, b, points.sensitive), y, p, blocks
        ),
        "sensitivity_specific": bootstrap_interval(
            lambda a, b: sensitivity_at(a, b, points.specific), y, p, blocks
        ),
        "specificity_specific": bootstrap_interval(
            lambda a, b: specificity_at(a, b, points.specific), y, p, blocks
        ),
    }
    return {key: value for key, value in figures.items() if not np.isnan(value.low)}


def image_figures(
    predictions: Predictions, router_regions: Sequence[str], bones: Sequence[str], choices: Choices
) -> Figures:
    """AUC of whole images, all regions pooled."""
    score = image_scores(predictions, router_regions, bones, choices)
    known = ~np.isnan(predictions.truth.fractured)
    return {
        "image_auc": bootstrap_interval(
            auc, predictions.truth.fractured[known], score[known], predictions.blocks[known]
        )
    }


def box_figures(predictions: Predictions, choices: Choices) -> dict[str, float]:
    """Hit rate of box centres, false boxes per normal image, mAP50."""
    images = image_boxes(predictions)
    cut = choices.box_threshold
    return {
        "centre_hit_rate": centre_hit_rate_at(images, cut),
        "false_boxes_per_normal": false_boxes_per_normal(images, cut),
        "map50_fractured_only": map50([image for image in images if len(image.true)]),
    }
