"""Figures of merit, their intervals and the choices made on them. Knows arrays, no models and no files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

Floats = NDArray[np.float64]
Metric = Callable[[Any, Any], float]

SMALLEST_TEMPERATURE = 0.05
LARGEST_TEMPERATURE = 20.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A figure with its 95 % bootstrap interval.

    Attributes
    ----------
    value, low, high
        NaN where the figure has no meaning, as the AUC of a set without positives.
    n
        Examples that the figure was computed on.
    """

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f}, n={self.n})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Thresholds:
    """The two operating points that make the three bands.

    ``p >= specific`` is positive, ``p < sensitive`` negative, between them doubtful.

    Raises
    ------
    ValueError
        If ``sensitive`` lies above ``specific``, since a probability would be in two bands.
    """

    sensitive: float
    specific: float

    def __post_init__(self) -> None:
        if not self.sensitive <= self.specific:
            raise ValueError(f"thresholds cross: {self}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """What turns a logit into a probability: ``sigmoid((logit + bias) / temperature)``."""

    temperature: float = 1.0
    bias: float = 0.0

    def __call__(self, logits: ArrayLike) -> Floats:
        """Probabilities of ``logits``, of the same shape."""
        scaled = (np.asarray(logits, dtype=np.float64) + self.bias) / self.temperature
        return sigmoid(scaled)


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class ImageBoxes:
    """True and found boxes of one image, as ``(left, top, right, bottom)`` in the same pixels.

    Attributes
    ----------
    true
        [T, 4]; empty for an image without fracture.
    found
        [K, 4], in any order.
    scores
        [K], higher is surer.
    """

    true: Floats
    found: Floats
    scores: Floats


# Figures -----------------------------------------------------------------------------------------


def auc(y: ArrayLike, p: ArrayLike) -> float:
    """Area under the ROC curve: how often a positive scores above a negative, ties counting half."""
    truth, score = _pair(y, p)
    positives = int(truth.sum())
    negatives = truth.size - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    _, where, counts = np.unique(score, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    rank_sum = float(mean_rank[where][truth].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def average_precision(y: ArrayLike, p: ArrayLike) -> float:
    """Area under the precision-recall curve as a step function, as scikit-learn defines it."""
    precision, recall, _ = precision_recall(y, p)
    if precision.size == 0:
        return float("nan")
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def macro_auc(y: ArrayLike, p: ArrayLike) -> float:
    """Mean AUC over the columns of ``y`` and ``p`` [N, labels] that have both answers."""
    truth, score = np.asarray(y), np.asarray(p, dtype=np.float64)
    each = np.array([auc(truth[:, i], score[:, i]) for i in range(truth.shape[1])])
    each = each[~np.isnan(each)]
    return float(each.mean()) if each.size else float("nan")


def top_one_accuracy(y: ArrayLike, p: ArrayLike) -> float:
    """Share of rows whose highest score is on a true label, of ``y`` and ``p`` [N, labels]."""
    truth, score = np.asarray(y).astype(bool), np.asarray(p, dtype=np.float64)
    if truth.shape[0] == 0:
        return float("nan")
    return float(truth[np.arange(truth.shape[0]), score.argmax(axis=1)].mean())


def sensitivity_at(y: ArrayLike, p: ArrayLike, threshold: float) -> float:
    """Share of positives with ``p >= threshold``."""
    truth, score = _pair(y, p)
    return float((score[truth] >= threshold).mean()) if truth.any() else float("nan")


def specificity_at(y: ArrayLike, p: ArrayLike, threshold: float) -> float:
    """Share of negatives with ``p < threshold``."""
    truth, score = _pair(y, p)
    return float((score[~truth] < threshold).mean()) if not truth.all() else float("nan")


def precision_at(y: ArrayLike, p: ArrayLike, threshold: float) -> float:
    """Share of those with ``p >= threshold`` that are positive; NaN if there is none."""
    truth, score = _pair(y, p)
    called = score >= threshold
    return float(truth[called].mean()) if called.any() else float("nan")


def accuracy_at(y: ArrayLike, p: ArrayLike, threshold: float) -> float:
    """Share of examples on the right side of ``threshold``."""
    truth, score = _pair(y, p)
    return float(((score >= threshold) == truth).mean()) if truth.size else float("nan")


def f1_at(y: ArrayLike, p: ArrayLike, threshold: float) -> float:
    """Harmonic mean of precision and sensitivity at ``p >= threshold``."""
    truth, score = _pair(y, p)
    called = score >= threshold
    total = int(truth.sum()) + int(called.sum())
    return 2.0 * int((truth & called).sum()) / total if total else float("nan")


def expected_calibration_error(y: ArrayLike, p: ArrayLike, *, bins: int = 10) -> float:
    """Mean distance between stated probability and observed share, over bins of equal width.

    Parameters
    ----------
    p
        Probability of the positive answer, 0 to 1.
    bins
        Bins over 0 to 1; each counts by the examples in it, empty ones not at all.
    """
    table = reliability(y, p, bins=bins)
    counts = table[:, 2]
    if counts.sum() == 0:
        return float("nan")
    return float(np.sum(np.abs(table[:, 0] - table[:, 1]) * counts) / counts.sum())


def reliability(y: ArrayLike, p: ArrayLike, *, bins: int = 10) -> Floats:
    """Rows of mean stated probability, observed share and count [bins in use, 3]."""
    truth, score = _pair(y, p)
    if score.size and (score.min() < 0 or score.max() > 1):
        raise ValueError("probabilities must lie between 0 and 1")
    bin_of = np.minimum((score * bins).astype(int), bins - 1)
    rows = [
        (score[bin_of == b].mean(), truth[bin_of == b].mean(), float((bin_of == b).sum()))
        for b in np.unique(bin_of)
    ]
    return np.array(rows, dtype=np.float64).reshape(-1, 3)


# Curves ------------------------------------------------------------------------------------------


def roc(y: ArrayLike, p: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Curve of false positive rate, sensitivity and threshold, one point per distinct score."""
    hits, called, thresholds, truth = _running_counts(y, p)
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if positives == 0 or negatives == 0:
        empty = np.empty(0)
        return empty, empty, empty
    return (
        np.concatenate([[0.0], (called - hits) / negatives]),
        np.concatenate([[0.0], hits / positives]),
        np.concatenate([[np.inf], thresholds]),
    )


def precision_recall(y: ArrayLike, p: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and threshold at every distinct score, from the highest down."""
    hits, called, thresholds, truth = _running_counts(y, p)
    if not truth.any():
        empty = np.empty(0)
        return empty, empty, empty
    return hits / called, hits / truth.sum(), thresholds


# Intervals ---------------------------------------------------------------------------------------


def bootstrap_interval(
    metric: Metric,
    y: ArrayLike,
    p: ArrayLike,
    blocks: ArrayLike | None = None,
    *,
    n: int = 1000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap of ``metric(y, p)`` that draws whole blocks.

    Neighbouring images are views of one patient: drawing images would count one patient as
    several and make the interval too narrow.

    Parameters
    ----------
    y, p
        Truth and score, first axis over the examples; further axes are the metric's business.
    blocks
        [N] name of the block of each example; None makes each example its own block.
    n
        Draws. Those in which the metric has no meaning are left out.
    """
    truth, score = np.asarray(y), np.asarray(p)
    return bootstrap_over(
        lambda rows: metric(truth[rows], score[rows]),
        np.arange(len(truth)) if blocks is None else blocks,
        n=n,
        seed=seed,
    )


def bootstrap_over(
    figure: Callable[[NDArray[np.intp]], float],
    blocks: ArrayLike,
    *,
    n: int = 1000,
    seed: int = 0,
) -> Interval:
    """Bootstrap by block of any ``figure(rows)``, where ``rows`` may name a row more than once."""
    names = np.asarray(blocks)
    size = names.shape[0]
    if size == 0:
        return Interval(value=float("nan"), low=float("nan"), high=float("nan"), n=0)
    _, block_of = np.unique(names, return_inverse=True)
    members = [np.flatnonzero(block_of == b) for b in range(int(block_of.max()) + 1)]
    value = figure(np.arange(size))
    generator = np.random.default_rng(seed)
    drawn = []
    for _ in range(n if not np.isnan(value) else 0):
        chosen = generator.integers(0, len(members), len(members))
        drawn.append(figure(np.concatenate([members[b] for b in chosen])))
    kept = np.array([d for d in drawn if not np.isnan(d)])
    if kept.size == 0:
        return Interval(value=float(value), low=float("nan"), high=float("nan"), n=size)
    low, high = np.percentile(kept, [2.5, 97.5])
    return Interval(value=float(value), low=float(low), high=float(high), n=size)


# Choices made on the validation split --------------------------------------------------------------


def choose_thresholds(
    y: ArrayLike,
    p: ArrayLike,
    *,
    sensitivity: float = 0.95,
    specificity: float = 0.95,
) -> Thresholds:
    """Operating points that reach the wanted sensitivity and specificity on these examples.

    ``sensitive`` is as high, and ``specific`` as low, as the wish allows; each lies half-way to
    the next score, so that it does not hang on the last digit of one image. Where one point
    serves both wishes the doubtful band is empty.

    Raises
    ------
    ValueError
        If there is no positive or no negative to choose by.
    """
    truth, score = _pair(y, p)
    if truth.all() or not truth.any():
        raise ValueError("thresholds need positives and negatives")
    distinct = np.unique(score)
    between = (distinct[1:] + distinct[:-1]) / 2
    candidates = np.concatenate([[distinct[0]], between, [np.nextafter(distinct[-1], np.inf)]])
    sensitive = max(t for t in candidates if sensitivity_at(truth, score, t) >= sensitivity)
    specific = min(t for t in candidates if specificity_at(truth, score, t) >= specificity)
    if sensitive > specific:
        sensitive = specific = (sensitive + specific) / 2
    return Thresholds(sensitive=float(sensitive), specific=float(specific))


def fit_calibration(y: ArrayLike, logits: ArrayLike, *, with_bias: bool = True) -> Calibration:
    """Temperature, and bias if wanted, that make the logits of these examples likeliest.

    Temperature stays within 0.05 to 20: separable examples would otherwise ask for certainty.
    """
    truth, logit = _pair(y, logits)
    if truth.all() or not truth.any():
        raise ValueError("calibration needs positives and negatives")
    target = truth.astype(np.float64)

    def loss(parameters: Floats) -> float:
        bias = parameters[1] if with_bias else 0.0
        scaled = (logit + bias) / np.exp(parameters[0])
        return float(np.mean(np.logaddexp(0.0, scaled) - target * scaled))

    limits = (float(np.log(SMALLEST_TEMPERATURE)), float(np.log(LARGEST_TEMPERATURE)))
    reach = float(np.abs(logit).max()) + 1.0
    bounds = [limits, (-reach, reach)] if with_bias else [limits]
    found = minimize(loss, np.zeros(len(bounds)), method="L-BFGS-B", bounds=bounds)
    return Calibration(
        temperature=float(np.exp(found.x[0])), bias=float(found.x[1]) if with_bias else 0.0
    )


# Boxes -------------------------------------------------------------------------------------------


def iou(a: ArrayLike, b: ArrayLike) -> Floats:
    """Intersection over union of boxes ``a`` [A, 4] with boxes ``b`` [B, 4], as [A, B]."""
    first = np.asarray(a, dtype=np.float64).reshape(-1, 4)[:, None]
    second = np.asarray(b, dtype=np.float64).reshape(-1, 4)[None]
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., 2:], second[..., 2:])
    common = np.clip(high - low, 0, None).prod(axis=-1)
    area = (first[..., 2:] - first[..., :2]).prod(-1) + (second[..., 2:] - second[..., :2]).prod(-1)
    return np.asarray(common / np.maximum(area - common, np.finfo(np.float64).tiny))


def centre_hits(true: ArrayLike, found: ArrayLike) -> NDArray[np.bool_]:
    """Which of ``found`` [K, 4] have their centre in any box of ``true`` [T, 4], as [K]."""
    boxes = np.asarray(found, dtype=np.float64).reshape(-1, 4)
    inside = np.asarray(true, dtype=np.float64).reshape(-1, 4)
    centre = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
    within = (centre >= inside[None, :, :2]) & (centre <= inside[None, :, 2:])
    return np.asarray(np.any(np.all(within, axis=-1), axis=1))


def centre_hit_rate(
    images: Sequence[ImageBoxes], *, false_per_normal: float = 0.3
) -> tuple[float, float]:
    """Share of fractured images with a box centred in a true box, and the score it was cut at.

    The cut is the lowest score at which images without fracture carry at most
    ``false_per_normal`` boxes each on average.
    """
    threshold = box_threshold(images, false_per_normal=false_per_normal)
    return centre_hit_rate_at(images, threshold), threshold


def box_threshold(images: Sequence[ImageBoxes], *, false_per_normal: float = 0.3) -> float:
    """Lowest score that leaves at most ``false_per_normal`` boxes per image without fracture."""
    normal = [image.scores for image in images if len(image.true) == 0]
    if not normal:
        raise ValueError("false boxes are counted on images without fracture, and there is none")
    allowed = int(np.floor(false_per_normal * len(normal) + 1e-9))
    scores = np.sort(np.concatenate(normal))[::-1]
    every = np.concatenate([image.scores for image in images])
    if scores.size <= allowed:
        return float(every.min()) if every.size else 0.0
    return float(np.nextafter(scores[allowed], np.inf))


def centre_hit_rate_at(images: Sequence[ImageBoxes], threshold: float) -> float:
    """Share of fractured images with a box of ``score >= threshold`` centred in a true box."""
    hits = [
        bool(centre_hits(image.true, image.found[image.scores >= threshold]).any())
        for image in images
        if len(image.true)
    ]
    return float(np.mean(hits)) if hits else float("nan")


def false_boxes_per_normal(images: Sequence[ImageBoxes], threshold: float) -> float:
    """Boxes of ``score >= threshold`` per image without fracture."""
    counts = [int((image.scores >= threshold).sum()) for image in images if len(image.true) == 0]
    return float(np.mean(counts)) if counts else float("nan")


def map50(images: Sequence[ImageBoxes], *, overlap: float = 0.5, per_image: int = 100) -> float:
    """Average precision of one class at IoU ``overlap``, at COCO's 101 points of recall.

    Boxes are matched greedily from the surest on, each to the free true box that it overlaps
    most; the ``per_image`` surest of an image count.
    """
    total = sum(len(image.true) for image in images)
    if total == 0:
        return float("nan")
    scores: list[Floats] = []
    matched: list[NDArray[np.bool_]] = []
    for image in images:
        order = np.argsort(-image.scores, kind="stable")[:per_image]
        scores.append(image.scores[order])
        matched.append(_match(image.true, image.found[order], overlap))
    score, hit = np.concatenate(scores), np.concatenate(matched)
    hit = hit[np.argsort(-score, kind="stable")]
    true_so_far = np.cumsum(hit)
    recall = true_so_far / total
    precision = true_so_far / np.arange(1, hit.size + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(recall, np.linspace(0, 1, 101), side="left")
    return float(np.mean([precision[i] if i < precision.size else 0.0 for i in at]))


def _match(true: Floats, found: Floats, overlap: float) -> NDArray[np.bool_]:
    """Which of ``found``, surest first, take a true box of their own."""
    hit = np.zeros(len(found), dtype=bool)
    if len(true) == 0 or len(found) == 0:
        return hit
    overlaps = iou(found, true)
    for i in range(len(found)):
        best = int(overlaps[i].argmax())
        if overlaps[i, best] >= overlap:
            hit[i] = True
            overlaps[:, best] = -1.0
    return hit


# Helpers -----------------------------------------------------------------------------------------


def sigmoid(x: ArrayLike) -> Floats:
    """Logistic function, without overflow at either end."""
    values = np.asarray(x, dtype=np.float64)
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * values)))


def _pair(y: ArrayLike, p: ArrayLike) -> tuple[NDArray[np.bool_], Floats]:
    truth = np.asarray(y).astype(bool)
    score = np.asarray(p, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != score.shape:
        raise ValueError(f"truth {truth.shape} and score {score.shape} are not two equal vectors")
    if np.isnan(score).any():
        raise ValueError("a score is NaN")
    return truth, score


def _running_counts(y: ArrayLike, p: ArrayLike) -> tuple[Floats, Floats, Floats, NDArray[np.bool_]]:
    """Hits, calls and threshold at each distinct score from the highest down, and the truth."""
    truth, score = _pair(y, p)
    order = np.argsort(-score, kind="stable")
    sorted_score = score[order]
    last = np.flatnonzero(np.diff(sorted_score, append=-np.inf))
    hits = np.cumsum(truth[order]).astype(np.float64)[last]
    return hits, (last + 1).astype(np.float64), sorted_score[last], truth
