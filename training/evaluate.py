"""Figures of exported models on a split, plain and stressed, each with its interval.

The models are run as the service runs them, from their ONNX files and cards. What is printed is
what ``training.export`` writes into the cards.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from training.cases import VIEWS, Case, read_cases
from training.metrics import (
    ImageBoxes,
    Interval,
    auc,
    average_precision,
    bootstrap_interval,
    bootstrap_over,
    centre_hit_rate_at,
    centre_hits,
    expected_calibration_error,
    false_boxes_per_normal,
    iou,
    macro_auc,
    map50,
    sensitivity_at,
    sigmoid,
    specificity_at,
    top_one_accuracy,
)
from training.occlusion import occlude
from training.predictions import Predictions, ask, predict
from training.strangers import strangers
from training.stress import VARIANTS
from training.suite import Answers, ModelFile, Panel, Suite, newest_models
from worker.cards import FRACTURE, LIMB, Card, Figure, Kind, write_card

Figures = dict[str, dict[str, dict[str, Interval]]]
"""By model ("router", a bone model's name, or "pooled"), set and metric."""

Floats = NDArray[np.float64]
Rows = NDArray[np.bool_]

POOLED = "pooled"
"""All bones together as the service asks them: the highest probability of the regions it reads."""

BOX_DRAWS = 200
"""Bootstrap draws of box figures, which are slow to compute."""

FALSE_PER_NORMAL = 0.3


def evaluate_models(
    models_dir: Path,
    data_dir: Path,
    split: str = "test",
    stressed: bool = False,  # noqa: FBT001, FBT002 - the command's flag by the same name
    *,
    variants: Sequence[str] = (),
    cache_dir: Path | None = None,
    draws: int = 1000,
    threads: int = 2,
    per_kind: int = 40,
    occlusion: bool = False,
    quiet: bool = False,
) -> Figures:
    """Figures of the models of a folder on a split.

    Parameters
    ----------
    models_dir
        As ``models_onnx``: a router, bone models, and the trunk that they read.
    data_dir
        Our own layout, or any that ``training.datasets`` reads.
    split
        "train", "val" or "test", several joined by "+", or "all".
    stressed
        Whether the stressed split is measured too.
    variants
        Of ``training.stress``, measured one by one as well.
    cache_dir
        Where the models' answers are kept; None runs them anew.
    draws
        Of the bootstrap, by block.
    per_kind
        Out-of-scope pictures of each kind; 0 measures no refusal of them.
    occlusion
        Whether fractures are hidden to see if the models notice; three runs per fractured image.

    Returns
    -------
    dict
        Sets are named after the split: "test", "test_stressed", "test_without_implants" and so
        on. A figure without meaning is NaN.
    """
    suite = Suite(models_dir, threads=threads)
    cases = read_cases(data_dir, split)
    figures: Figures = {}
    wanted = ["plain", *(["stressed"] if stressed else []), *variants]
    for variant in dict.fromkeys(wanted):
        predictions = predict(suite, cases, variant, cache_dir=cache_dir, quiet=quiet)
        name = split if variant == "plain" else f"{split}_{variant}"
        _merge(figures, figures_of(suite.panel, predictions, name, draws=draws))
    if occlusion:
        found = occlusion_figures(suite, cases, draws=draws, quiet=quiet)
        _merge(figures, {POOLED: {split: found}})
    _merge(figures, published_figures(suite, data_dir, cache_dir=cache_dir, quiet=quiet))
    if per_kind:
        _merge(figures, {"router": refusals(suite, per_kind)})
    return figures


def occlusion_figures(
    suite: Suite, cases: Sequence[Case], *, draws: int, quiet: bool = False
) -> dict[str, Interval]:
    """How far the logit falls when the fracture is hidden, and when something else is.

    "occlusion_finds" is the share of images in which hiding the fracture takes more away; a model
    that does not look at it is at a half.
    """
    results = occlude(suite, cases, quiet=quiet)
    blocks = np.array([cases[r.row].block for r in results], dtype=np.str_)
    at = np.array([r.at_fracture for r in results])
    elsewhere = np.array([r.elsewhere for r in results])

    def mean(values: NDArray[Any]) -> Interval:
        return bootstrap_interval(lambda y, _: float(np.mean(y)), values, values, blocks, n=draws)

    if not results:
        return {}
    return {
        "occlusion_drop": mean(at),
        "occlusion_drop_elsewhere": mean(elsewhere),
        "occlusion_finds": mean(at > elsewhere),
    }


def published_figures(
    suite: Suite, data_dir: Path, *, cache_dir: Path | None = None, quiet: bool = False
) -> Figures:
    """mAP50 on the fractured images that the set's publication tested on, if there is a list.

    Most of them are in our train split, which is drawn by patient and not by the publication:
    "published_unseen" leaves those out, and is the honest one, of few images.
    """
    cases = [case for case in read_cases(data_dir, "all") if "published" in case.flags]
    if not cases:
        return {}
    predictions = predict(suite, cases, cache_dir=cache_dir, quiet=quiet)
    asked = readings_of(suite.panel, predictions.answers).asked
    images = image_boxes(suite.panel, predictions, asked)
    unseen = [row for row, case in enumerate(cases) if case.split != "train"]
    found = {}
    for name, rows in (("published", [*range(len(cases))]), ("published_unseen", unseen)):
        score = _map50_of([images[row] for row in rows], predictions.blocks[rows])
        found[name] = {"map50_fractured_only": score}
    return {POOLED: found}


def _map50_of(images: Sequence[ImageBoxes], blocks: NDArray[np.str_]) -> Interval:
    return bootstrap_over(lambda rows: map50([images[i] for i in rows]), blocks, n=BOX_DRAWS)


def figures_of(panel: Panel, predictions: Predictions, name: str, *, draws: int = 1000) -> Figures:
    """Figures of one set of predictions, under its name and those of its parts."""
    figures: Figures = {"router": {name: router_figures(panel, predictions, draws=draws)}}
    for at, bone in enumerate(panel.bones):
        figures[bone.name] = bone_figures(panel, predictions, at, name, draws=draws)
    figures[POOLED] = pooled_figures(panel, predictions, name, draws=draws)
    return figures


# What the service would say ------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Readings:
    """Calibrated answers to N images.

    Attributes
    ----------
    regions
        [N, R] probability that each region is in view.
    limb
        [N] probability that the image is a limb radiograph at all.
    fractures
        [N, B] probability of a fracture, by each bone model.
    asked
        [N, B] whether the service would ask that model.
    """

    regions: Floats
    limb: Floats
    fractures: Floats
    asked: Rows

    @property
    def pooled(self) -> Floats:
        """[N] highest probability of the models asked; 0 where none is."""
        return np.asarray(np.where(self.asked, self.fractures, 0.0).max(axis=1))


def readings_of(panel: Panel, answers: Answers) -> Readings:
    """What the cards make of raw answers.

    A bone model is asked where its region is in view by the router's sensitive threshold; where
    that asks none, the one of the likeliest region is.
    """
    names = panel.router.regions
    columns = [
        panel.router.probabilities(name, answers.region_logits[:, at])
        for at, name in enumerate(names)
    ]
    regions = np.stack(columns, axis=1)
    thresholds = np.array([panel.router.thresholds(name).sensitive for name in names])
    of_bone = [[names.index(r) for r in bone.regions if r in names] for bone in panel.bones]
    in_view: Rows = np.asarray(regions >= thresholds)
    asked = np.stack([in_view[:, own].any(axis=1) for own in of_bone], axis=1)
    likelihood = np.stack([regions[:, own].max(axis=1) for own in of_bone], axis=1)
    nothing = ~asked.any(axis=1)
    asked[nothing, likelihood[nothing].argmax(axis=1)] = True
    fractures = [
        bone.probabilities(FRACTURE, answers.fracture_logits[:, at])
        for at, bone in enumerate(panel.bones)
    ]
    return Readings(
        regions=regions,
        limb=panel.router.probabilities(LIMB, answers.limb_logits),
        fractures=np.stack(fractures, axis=1),
        asked=asked,
    )


def image_boxes(panel: Panel, predictions: Predictions, asked: Rows) -> list[ImageBoxes]:
    """Boxes of each image by the models asked, overlapping ones suppressed; scores 0 to 1.

    Bone models that share a box head find the same box: it is kept once, as in a report.
    """
    answers = predictions.answers
    rules = [bone.card.boxes for bone in panel.bones if bone.card.boxes is not None]
    overlap = min((rule.nms_iou for rule in rules), default=0.5)
    most = max((rule.most for rule in rules), default=0)
    found = []
    for row, true in enumerate(predictions.truth.boxes):
        boxes = answers.boxes[row][asked[row]].reshape(-1, 4)
        logits = answers.box_logits[row][asked[row]].reshape(-1)
        there = np.isfinite(logits)
        scores = sigmoid(logits[there])
        kept = suppress(boxes[there].astype(np.float64), scores, overlap)[:most]
        found.append(
            ImageBoxes(true=true, found=boxes[there][kept].astype(np.float64), scores=scores[kept])
        )
    return found


def suppress(boxes: Floats, scores: Floats, overlap: float) -> NDArray[np.intp]:
    """Indices of the boxes left, surest first, once those that overlap a surer one are gone."""
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while order.size:
        best = int(order[0])
        kept.append(best)
        rest = order[1:]
        order = rest[iou(boxes[[best]], boxes[rest])[0] <= overlap]
    return np.array(kept, dtype=np.intp)


# Router --------------------------------------------------------------------------------------------


def router_figures(panel: Panel, predictions: Predictions, *, draws: int) -> dict[str, Interval]:
    """Regions in view, the region that the view is centred on, and limbs wrongly refused.

    "top1_in_view" is right with any region that is or may be in view, "top1_primary" only with
    the one that the view is centred on.
    """
    truth, blocks = predictions.truth, predictions.blocks
    readings = readings_of(panel, predictions.answers)
    figures = {}
    for at, region in enumerate(panel.router.regions):
        known: Rows = ~np.isnan(truth.regions[:, at])
        figures[f"auc_{region}"] = bootstrap_interval(
            auc, truth.regions[known, at], readings.regions[known, at], blocks[known], n=draws
        )
    known = np.all(~np.isnan(truth.regions), axis=1)
    figures["macro_auc"] = bootstrap_over(
        lambda rows: _macro_auc(truth.regions[rows], readings.regions[rows]), blocks, n=draws
    )
    in_view = np.nan_to_num(truth.regions, nan=1.0)
    some = np.any(~np.isnan(truth.regions), axis=1)
    figures["top1_in_view"] = bootstrap_interval(
        top_one_accuracy, in_view[some], readings.regions[some], blocks[some], n=draws
    )
    placed = truth.primary >= 0
    one_hot = np.eye(len(panel.router.regions))[truth.primary[placed]]
    figures["top1_primary"] = bootstrap_interval(
        top_one_accuracy, one_hot, readings.regions[placed], blocks[placed], n=draws
    )
    figures["ece"] = bootstrap_interval(
        lambda y, p: expected_calibration_error(y.ravel(), p.ravel()),
        truth.regions[known],
        readings.regions[known],
        blocks[known],
        n=draws,
    )
    refused = readings.limb < panel.router.thresholds(LIMB).sensitive
    figures["limbs_refused"] = _share(refused, blocks, draws)
    return figures


def refusals(suite: Suite, per_kind: int) -> dict[str, dict[str, Interval]]:
    """Share of out-of-scope pictures that are refused, of each kind and of all."""
    pictures = strangers(per_kind)
    limb = readings_of(suite.panel, ask(suite, [grey for _, grey in pictures])).limb
    refused = limb < suite.panel.router.thresholds(LIMB).sensitive
    kinds = np.array([kind for kind, _ in pictures])
    figures = {"refused": _share(refused, np.arange(len(kinds)).astype(str), 1000)}
    for kind in dict.fromkeys(kinds.tolist()):
        of_kind = kinds == kind
        own = np.arange(int(of_kind.sum())).astype(str)
        figures[f"refused_{kind}"] = _share(refused[of_kind], own, 1000)
    return {"out_of_scope": figures}


# Bones ---------------------------------------------------------------------------------------------


def bone_figures(
    panel: Panel, predictions: Predictions, at: int, name: str, *, draws: int
) -> dict[str, dict[str, Interval]]:
    """Figures of one bone model on images that show its region.

    "auc" counts a fracture of another bone in the same view as none: a model that points at the
    wrong bone is wrong. "auc_other_bones_sound" leaves such images out.
    """
    bone = panel.bones[at]
    truth = bone_truth(panel, predictions, bone)
    p = readings_of(panel, predictions.answers).fractures[:, at]
    known = ~np.isnan(truth)
    sound = known & ~((truth == 0) & (predictions.truth.fractured == 1))
    figures = {}
    for part, rows in parts_of(predictions, name, known).items():
        figures[part] = _fracture_figures(truth, p, rows, predictions.blocks, bone, draws)
    figures[name]["auc_other_bones_sound"] = bootstrap_interval(
        auc, truth[sound], p[sound], predictions.blocks[sound], n=draws
    )
    figures[name]["pointing"] = _pointing(panel, predictions, at, draws)
    return figures


def bone_truth(panel: Panel, predictions: Predictions, bone: ModelFile) -> Floats:
    """[N] 1 fractured in one of the model's regions, 0 not, NaN where none is surely in view."""
    columns = [panel.router.regions.index(r) for r in bone.regions if r in panel.router.regions]
    own = predictions.truth.fractured_regions[:, columns].astype(np.float64)
    unknown = np.isnan(own).all(axis=1)
    return np.where(unknown, np.nan, np.nan_to_num(own, nan=0.0).max(axis=1))


def _fracture_figures(
    truth: Floats, p: Floats, rows: Rows, blocks: NDArray[np.str_], bone: ModelFile, draws: int
) -> dict[str, Interval]:
    y, q, b = truth[rows], p[rows], blocks[rows]
    cuts = bone.thresholds(FRACTURE)
    positives = float((y == 1).sum())
    measured: dict[str, Callable[[Any, Any], float]] = {
        "auc": auc,
        "average_precision": average_precision,
        "ece": expected_calibration_error,
        "sensitivity_at_sensitive": lambda t, s: sensitivity_at(t, s, cuts.sensitive),
        "specificity_at_sensitive": lambda t, s: specificity_at(t, s, cuts.sensitive),
        "sensitivity_at_specific": lambda t, s: sensitivity_at(t, s, cuts.specific),
        "specificity_at_specific": lambda t, s: specificity_at(t, s, cuts.specific),
    }
    figures = {k: bootstrap_interval(m, y, q, b, n=draws) for k, m in measured.items()}
    figures["positives"] = Interval(value=positives, low=positives, high=positives, n=len(y))
    return figures


def _pointing(panel: Panel, predictions: Predictions, at: int, draws: int) -> Interval:
    """Share of fractured images whose heat map is hottest inside a box of the model's regions."""
    bone = panel.bones[at]
    hits, rows = [], []
    for row, boxes in enumerate(predictions.truth.boxes):
        own = [r in bone.regions for r in predictions.truth.box_regions[row]]
        peak = predictions.answers.peaks[row, at]
        if not any(own) or np.isnan(peak).any():
            continue
        point = np.concatenate([peak, peak]).astype(np.float64)[None]
        hits.append(bool(centre_hits(boxes[own], point)[0]))
        rows.append(row)
    return _share(np.array(hits, dtype=bool), predictions.blocks[rows], draws)


# All bones together --------------------------------------------------------------------------------


def pooled_figures(
    panel: Panel, predictions: Predictions, name: str, *, draws: int
) -> dict[str, dict[str, Interval]]:
    """Whole images: is anything fractured, and where."""
    readings = readings_of(panel, predictions.answers)
    truth, blocks = predictions.truth.fractured.astype(np.float64), predictions.blocks
    known = ~np.isnan(truth)
    figures: dict[str, dict[str, Interval]] = {}
    for part, rows in parts_of(predictions, name, known).items():
        y, p, b = truth[rows], readings.pooled[rows], blocks[rows]
        positives = float((y == 1).sum())
        figures[part] = {
            "auc": bootstrap_interval(auc, y, p, b, n=draws),
            "average_precision": bootstrap_interval(average_precision, y, p, b, n=draws),
            "ece": bootstrap_interval(expected_calibration_error, y, p, b, n=draws),
            "positives": Interval(
                value=positives, low=positives, high=positives, n=int(rows.sum())
            ),
        }
    figures[name] |= band_figures(panel, readings, truth, blocks, draws)
    boxes = image_boxes(panel, predictions, readings.asked)
    if any(len(image.found) for image in boxes):
        figures[name] |= box_figures(panel, boxes, truth, blocks)
    if name and all(len(case.sites) == len(case.boxes) for case in predictions.cases):
        _merge_sets(figures, site_figures(panel, predictions, readings, name, draws))
    return figures


def band_figures(
    panel: Panel, readings: Readings, truth: Floats, blocks: NDArray[np.str_], draws: int
) -> dict[str, Interval]:
    """Shares of fractured and sound images by the most urgent band of their readings."""
    urgency = bands_of(panel, readings)
    broken, sound = truth == 1, truth == 0
    return {
        "fractured_not_negative": _share(urgency[broken] > 0, blocks[broken], draws),
        "fractured_positive": _share(urgency[broken] == 2, blocks[broken], draws),
        "sound_negative": _share(urgency[sound] == 0, blocks[sound], draws),
        "sound_not_positive": _share(urgency[sound] < 2, blocks[sound], draws),
    }


def bands_of(panel: Panel, readings: Readings) -> NDArray[np.intp]:
    """[N] 2 where a model asked says positive, 1 where one is in doubt, 0 where all say no."""
    cuts = [bone.thresholds(FRACTURE) for bone in panel.bones]
    sensitive = np.array([c.sensitive for c in cuts])
    specific = np.array([c.specific for c in cuts])
    p = readings.fractures
    each = np.where(p >= specific, 2, np.where(p >= sensitive, 1, 0))
    return np.asarray(np.where(readings.asked, each, 0).max(axis=1))


def box_figures(
    panel: Panel, images: Sequence[ImageBoxes], truth: Floats, blocks: NDArray[np.str_]
) -> dict[str, Interval]:
    """Boxes against the radiologists': hits by their centre, false ones, and mAP50.

    "box_hits" and "false_boxes_per_normal" are at the cards' threshold, "box_hits_at_0.3" at the
    score that leaves that many false boxes on these very images.
    """
    known = np.flatnonzero([t == 0 or len(i.true) > 0 for i, t in zip(images, truth, strict=True)])
    of = [images[int(i)] for i in known]
    b = blocks[known]
    cut = max(bone.box_threshold for bone in panel.bones)
    best, normal = _best_hits(of)

    def hits_at_allowance(rows: NDArray[np.intp]) -> float:
        return _hits_at_allowance([best[i] for i in rows], [normal[i] for i in rows])

    def over(figure: Callable[[list[ImageBoxes]], float]) -> Interval:
        return bootstrap_over(lambda rows: figure([of[i] for i in rows]), b, n=BOX_DRAWS)

    return {
        "box_hits": over(lambda some: centre_hit_rate_at(some, cut)),
        "false_boxes_per_normal": over(lambda some: false_boxes_per_normal(some, cut)),
        "box_hits_at_0.3": bootstrap_over(hits_at_allowance, b, n=BOX_DRAWS),
        "map50_fractured_only": over(lambda some: map50([i for i in some if len(i.true)])),
    }


def _best_hits(images: Sequence[ImageBoxes]) -> tuple[list[float | None], list[Floats | None]]:
    """Of fractured images the surest box that hits (-inf if none), of sound ones all scores."""
    best: list[float | None] = []
    normal: list[Floats | None] = []
    for image in images:
        if len(image.true):
            hit = image.scores[centre_hits(image.true, image.found)]
            best.append(float(hit.max()) if hit.size else -math.inf)
            normal.append(None)
        else:
            best.append(None)
            normal.append(image.scores)
    return best, normal


def _hits_at_allowance(best: Iterable[float | None], normal: Iterable[Floats | None]) -> float:
    """Share of fractured images hit where sound ones carry at most 0.3 boxes each."""
    found = np.array([score for score in best if score is not None])
    quiet = [scores for scores in normal if scores is not None]
    if not quiet or not found.size:
        return math.nan
    scores = np.sort(np.concatenate(quiet))[::-1]
    allowed = int(np.floor(FALSE_PER_NORMAL * len(quiet) + 1e-9))
    cut = scores[allowed] if scores.size > allowed else -math.inf
    return float((found > cut).mean())


def site_figures(
    panel: Panel, predictions: Predictions, readings: Readings, name: str, draws: int
) -> dict[str, dict[str, Interval]]:
    """By bone that is fractured: how often its image is not called negative, and is positive."""
    rows_of: dict[str, list[int]] = {}
    for row, case in enumerate(predictions.cases):
        for site in {site for site in case.sites if site}:
            rows_of.setdefault(site, []).append(row)
    urgency = bands_of(panel, readings)
    figures = {}
    for site, rows in sorted(rows_of.items()):
        blocks = predictions.blocks[rows]
        figures[f"{name}_site_{site}"] = {
            "fractured_not_negative": _share(urgency[rows] > 0, blocks, draws),
            "fractured_positive": _share(urgency[rows] == 2, blocks, draws),
        }
    return figures


# Parts of a set, and helpers -----------------------------------------------------------------------


def parts_of(predictions: Predictions, name: str, known: Rows) -> dict[str, Rows]:
    """Rows of the set and of its parts: shortcuts left out, and view by view."""
    flags = [case.flags for case in predictions.cases]

    def has(flag: str) -> Rows:
        return np.array([flag in f for f in flags], dtype=bool)

    parts = {name: known}
    if not any(flags):
        return parts
    parts[f"{name}_without_implants"] = known & ~has("implant")
    parts[f"{name}_without_casts"] = known & ~has("cast")
    parts[f"{name}_without_both"] = known & ~has("implant") & ~has("cast")
    for view in VIEWS:
        parts[f"{name}_{view}"] = known & has(view)
    return {part: rows for part, rows in parts.items() if rows.any()}


def _share(what: Rows, blocks: NDArray[np.str_], draws: int) -> Interval:
    """Share of True, drawn by block."""
    return bootstrap_interval(lambda y, _: float(np.mean(y)), what, what, blocks, n=draws)


def _macro_auc(truth: NDArray[np.float32], p: Floats) -> float:
    """Mean over regions of the AUC on images for which it is known whether they show it."""
    if not np.isnan(truth).any():
        return macro_auc(truth, p)
    known = ~np.isnan(truth)
    each = [auc(t[k], s[k]) for t, s, k in zip(truth.T, p.T, known.T, strict=True)]
    each = [value for value in each if not math.isnan(value)]
    return float(np.mean(each)) if each else math.nan


def _merge(into: Figures, more: Figures) -> None:
    for model, sets in more.items():
        _merge_sets(into.setdefault(model, {}), sets)


def _merge_sets(
    into: dict[str, dict[str, Interval]], more: Mapping[str, Mapping[str, Interval]]
) -> None:
    for name, metrics in more.items():
        into.setdefault(name, {}).update(metrics)


# Out ---------------------------------------------------------------------------------------------


def card_figures(sets: Mapping[str, Mapping[str, Interval]]) -> dict[str, dict[str, Figure]]:
    """Sets as a card holds them, to four digits; a figure without meaning is left out."""
    made = {
        name: {
            metric: Figure(
                value=round(found.value, 4),
                # A bootstrap of few blocks can lie beside the value; the card holds both.
                low=round(min(found.low, found.value), 4),
                high=round(max(found.high, found.value), 4),
                n=found.n,
            )
            for metric, found in metrics.items()
            if not math.isnan(found.value) and not math.isnan(found.low)
        }
        for name, metrics in sets.items()
    }
    return {name: metrics for name, metrics in made.items() if metrics}


def write_figures(models_dir: Path, figures: Figures, *, data: str = "fracatlas") -> list[Path]:
    """Write figures into the models' cards in place of those there; returns the cards.

    Sets bear the name of the data before their own. What all bones say together is written into
    the router's card, which is the one that decides who is asked.
    """
    written = []
    for model in newest_models(models_dir):
        sets = {f"{data}_{name}": metrics for name, metrics in figures.get(model.name, {}).items()}
        if model.card.kind is Kind.ROUTER:
            for name, metrics in figures.get("router", {}).items():
                sets[f"{data}_{name}"] = metrics
            for name, metrics in figures.get(POOLED, {}).items():
                sets[f"{data}_{name}_all_bones"] = metrics
        if not sets:
            continue
        fields = model.card.model_dump() | {"figures": card_figures(sets)}
        written.append(write_card(Card.model_validate(fields), model.folder))
    return written


GOALS: tuple[tuple[str, str, str, float, float | None], ...] = (
    ("router", "macro_auc", "router: macro AUC", 0.99, 0.97),
    ("router", "top1_in_view", "router: likeliest region is in view", 0.95, 0.90),
    ("router", "limbs_refused", "limb radiographs refused", 0.02, 0.02),
    (POOLED, "auc", "fracture: AUC of whole images", 0.93, None),
    ("bone-hand-wrist", "auc", "fracture: AUC, hand and wrist", 0.92, None),
    ("bone-leg", "auc", "fracture: AUC, leg", 0.92, None),
    ("bone-elbow", "auc", "fracture: AUC, elbow", math.nan, None),
    ("bone-shoulder", "auc", "fracture: AUC, shoulder", math.nan, None),
    (POOLED, "box_hits_at_0.3", "fractured images hit at 0.3 false boxes", 0.75, None),
    (POOLED, "map50_fractured_only", "mAP50, fractured images only", math.nan, None),
    (POOLED, "ece", "expected calibration error", 0.05, None),
)
"""Model, metric, what it is, and what we aim for on the plain and on the stressed split."""

COLUMNS = 6
"""Sets side by side in one table."""


def print_figures(figures: Figures, console: Console | None = None, *, split: str = "test") -> None:
    """Print what we aim for beside what was reached, then every figure model by model."""
    out = console or Console(width=170)
    out.print(_summary(figures, split))
    for model, sets in figures.items():
        names = list(sets)
        for begin in range(0, len(names), COLUMNS):
            some = {name: sets[name] for name in names[begin : begin + COLUMNS]}
            out.print(_sets_table(model, some))


def _summary(figures: Figures, plain: str) -> Table:
    table = Table(title=f"{plain}: aimed for and reached", title_justify="left")
    for column in ("", "aim", "plain", "aim, stressed", "stressed"):
        table.add_column(column)
    for model, metric, words, aim, aim_stressed in GOALS:
        sets = figures.get(model, {})
        stressed = sets.get(f"{plain}_stressed", {}).get(metric)
        aims = ["–" if a is None or math.isnan(a) else f"{a:g}" for a in (aim, aim_stressed)]
        cells = [_cell(metric, found) for found in (sets.get(plain, {}).get(metric), stressed)]
        table.add_row(words, aims[0], cells[0], aims[1], cells[1])
    refused = figures.get("router", {}).get("out_of_scope", {}).get("refused")
    table.add_row("pictures out of scope refused", "0.98", _cell("refused", refused), "–", "–")
    return table


def _sets_table(model: str, sets: Mapping[str, Mapping[str, Interval]]) -> Table:
    table = Table(title=model, title_justify="left")
    table.add_column("")
    for name in sets:
        table.add_column(name.replace("_", " "))
    for metric in dict.fromkeys(metric for metrics in sets.values() for metric in metrics):
        cells = [_cell(metric, metrics.get(metric)) for metrics in sets.values()]
        table.add_row(metric.replace("_", " "), *cells)
    return table


def _cell(metric: str, found: Interval | None) -> str:
    if found is None or math.isnan(found.value):
        return "–"
    if metric == "positives":
        return f"{found.value:.0f} of {found.n}"
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def main(arguments: Sequence[str] | None = None) -> None:
    """``python -m training.evaluate MODELS --data DIR``."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("models", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--stressed", action="store_true")
    parser.add_argument("--variant", action="append", default=[], choices=sorted(VARIANTS))
    parser.add_argument("--occlusion", action="store_true")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--nice", type=int, default=0)
    parser.add_argument(
        "--into-cards", metavar="NAME", help="write them into the cards, as of NAME"
    )
    given = parser.parse_args(arguments)
    os.nice(given.nice)
    figures = evaluate_models(
        given.models,
        given.data,
        given.split,
        given.stressed,
        variants=given.variant,
        cache_dir=given.cache,
        draws=given.draws,
        threads=given.threads,
        occlusion=given.occlusion,
    )
    print_figures(figures, split=given.split)
    if given.into_cards:
        write_figures(given.models, figures, data=given.into_cards)
    if given.json is not None:
        plain = {m: {s: {k: asdict(i) for k, i in f.items()} for s, f in sets.items()}
                 for m, sets in figures.items()}  # fmt: skip
        given.json.write_text(json.dumps(plain, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
