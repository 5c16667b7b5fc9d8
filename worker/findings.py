"""From a model's raw outputs to scores, bands and boxes on the stored image. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from reports.uids import tracking_uid
from studies.errors import NotAnalysable
from studies.model import Band, Box, Finding, Region, RegionReading, RegionScore
from studies.rules import band_of
from worker.cards import FRACTURE, LIMB, BoxRules, Card
from worker.models import Array
from worker.preprocess import Letterbox

Boxes = npt.NDArray[np.float64]

_WIDEST_PEAK: Final = 0.5  # share of the image; a wider peak of a heat map is no place


BEYOND_DOUBT: Final = 0.95
"""What a picture must reach to overrule a file's own words. A router that never saw a dental film may
give one 0.67 for a humerus, which is above the threshold at which a region is in view."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Routing:
    """What the router says of an image; the two thresholds are those of its card's labels.

    Attributes
    ----------
    scores
        Every region it knows, the most probable first.
    in_view
        Regions at or above their threshold, the most probable first.
    limb
        Probability, 0 to 1, that it is a radiograph of a limb at all.
    is_limb
        Whether that reaches the router's sensitive threshold.
    beyond_doubt
        Whether that and a region's probability reach `BEYOND_DOUBT`, or their specific thresholds
        where those are higher.
    """

    scores: tuple[RegionScore, ...]
    in_view: tuple[Region, ...]
    limb: float
    is_limb: bool
    beyond_doubt: bool


def routing(card: Card, outputs: Mapping[str, Array]) -> Routing:
    """The router's answer of its region_logits [1, R] and limb_logit [1, 1].

    Raises
    ------
    NotAnalysable
        If an answer is not a number.
    """
    logits = _numbers(card, outputs, "region_logits")[0]
    scores = []
    in_view = set()
    is_certain = False
    for region, logit in zip(card.regions, logits, strict=True):
        label = card.label(region.value)
        probability = card.probability(label, float(logit))
        scores.append(RegionScore(region=region, probability=probability))
        if probability >= label.sensitive:
            in_view.add(region)
        is_certain = is_certain or probability >= max(label.specific, BEYOND_DOUBT)
    scores.sort(key=lambda score: -score.probability)
    limb_label = card.label(LIMB)
    limb = card.probability(limb_label, float(_numbers(card, outputs, "limb_logit").flat[0]))
    return Routing(
        scores=tuple(scores),
        in_view=tuple(score.region for score in scores if score.region in in_view),
        limb=limb,
        is_limb=limb >= limb_label.sensitive,
        beyond_doubt=is_certain and limb >= max(limb_label.specific, BEYOND_DOUBT),
    )


def _numbers(card: Card, outputs: Mapping[str, Array], name: str) -> Boxes:
    """An output as float64; a NaN would fall between all thresholds and look like an answer."""
    values = np.asarray(outputs[name], np.float64)
    if not np.isfinite(values).all():
        raise NotAnalysable(f"{card.name} {card.version} gives no number for {name}")
    return values


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a reading belongs: it makes the findings' tracking UIDs, and bounds their boxes."""

    SOPInstanceUID: str
    rows: int
    columns: int
    letterbox: Letterbox
    configuration: str


def region_reading(
    card: Card, region: Region, outputs: Mapping[str, Array], place: Place
) -> RegionReading:
    """What a bone model says of one region.

    A positive region carries its most certain box even if that stays below the card's threshold,
    since a reader wants to know where to look first. A doubtful one carries boxes above it only.

    Raises
    ------
    NotAnalysable
        If an answer is not a number.
    """
    label = card.label(FRACTURE)
    logit = float(_numbers(card, outputs, "fracture_logit").flat[0])
    probability = card.probability(label, logit)
    band = band_of(probability, sensitive=label.sensitive, specific=label.specific)
    findings: tuple[Finding, ...] = ()
    if band is not Band.NEGATIVE:
        findings = _findings(card, region, outputs, place, band, probability)
    return RegionReading(
        region=region,
        probability=probability,
        band=band,
        sensitive=label.sensitive,
        specific=label.specific,
        model=card.ref,
        findings=findings,
        experimental=card.experimental,
    )


def _findings(
    card: Card,
    region: Region,
    outputs: Mapping[str, Array],
    place: Place,
    band: Band,
    probability: float,
) -> tuple[Finding, ...]:
    found = list(_located(card, outputs, place, at_least_one=band is Band.POSITIVE))
    kind = _kind(card, outputs)
    highest = max((score for _, score in found), default=1.0)
    return tuple(
        Finding(
            box=box,
            # The most certain box carries the region's probability, the others their share of it.
            probability=probability * score / highest,
            tracking_uid=tracking_uid(
                place.SOPInstanceUID, region, card.ref, place.configuration, number
            ),
            type=kind if number == 1 else None,
        )
        for number, (box, score) in enumerate(found, start=1)
    )


def _located(
    card: Card, outputs: Mapping[str, Array], place: Place, *, at_least_one: bool
) -> Iterable[tuple[Box, float]]:
    """Boxes on the stored image with their scores (0 to 1), the most certain first."""
    rules = box_rules(card, outputs)
    if rules is None:
        yield from _peak(_numbers(card, outputs, "heatmap")[0, 0], card.input.size, place)
        return
    boxes = _numbers(card, outputs, "boxes")[0]
    # The sigmoid by way of tanh, which no logit overflows.
    scores = 0.5 + 0.5 * np.tanh(_numbers(card, outputs, "box_logits")[0] / 2.0)
    kept = 0
    for index in choose_boxes(boxes, scores, rules):
        box = on_image(boxes[index], place)
        certain = scores[index] >= rules.threshold
        if box is None or not (certain or (at_least_one and kept == 0)):
            continue
        kept += 1
        yield box, float(scores[index])


def choose_boxes(boxes: Boxes, scores: npt.NDArray[np.float64], rules: BoxRules) -> list[int]:
    """Indices of the boxes [K, 4] that stay after non-maximum suppression, best first.

    Of two boxes whose intersection over union exceeds `rules.nms_iou`, the less certain goes.
    """
    order = [int(index) for index in np.argsort(-scores, kind="stable")]
    if rules.nms == "graph":
        return order[: rules.most]
    kept: list[int] = []
    for index in order:
        if all(overlap(boxes[index], boxes[other]) <= rules.nms_iou for other in kept):
            kept.append(index)
        if len(kept) == rules.most:
            break
    return kept


def overlap(first: Boxes, second: Boxes) -> float:
    """Intersection over union, 0 to 1, of two boxes (left, top, right, bottom)."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return float(both / (_area(first) + _area(second) - both))


def _area(box: Boxes) -> float:
    return float(max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1]))


def on_image(box: Boxes, place: Place) -> Box | None:
    """A box of the model's input as far as it lies on the stored image; None if nowhere."""
    left, top, right, bottom = (float(edge) for edge in box)
    left, top, right, bottom = place.letterbox.to_image((left, top, right, bottom))
    left, right = max(0.0, left), min(float(place.columns), right)
    top, bottom = max(0.0, top), min(float(place.rows), bottom)
    if not (left < right and top < bottom):
        return None
    return Box(left=left, top=top, right=right, bottom=bottom)


def box_rules(card: Card, outputs: Mapping[str, Array]) -> BoxRules | None:
    """How a model's boxes are chosen; None if it has none, and its heat map says where."""
    return card.boxes if "boxes" in outputs else None


def _peak(heat: Boxes, size: int, place: Place) -> Iterable[tuple[Box, float]]:
    """Around the highest cell of a heat map [h, w], as far as half of its height over the rest.

    The letterbox's empty rim does not count, and a warmth that covers most of the image points
    nowhere: then there is no box.
    """
    step_y, step_x = size / heat.shape[0], size / heat.shape[1]
    shown = _cells_on_image(heat.shape, size, place)
    if not shown.any():
        return
    inside = np.where(shown, heat, -np.inf)
    high, floor = float(inside.max()), float(np.median(heat[shown]))
    if high <= floor:
        return
    hot = inside >= floor + (high - floor) / 2
    row, column = divmod(int(inside.argmax()), heat.shape[1])
    top, bottom = _run(hot[:, column], row)
    left, right = _run(hot[row, :], column)
    if (bottom - top) * (right - left) > _WIDEST_PEAK * shown.sum():
        return
    box = on_image(np.array([left * step_x, top * step_y, right * step_x, bottom * step_y]), place)
    if box is not None:
        yield box, 1.0


def _cells_on_image(shape: tuple[int, ...], size: int, place: Place) -> npt.NDArray[np.bool_]:
    """Which cells of a map over the model's input have their centre on the stored image."""
    left, top, right, bottom = place.letterbox.to_model(
        (0.0, 0.0, float(place.columns), float(place.rows))
    )
    y = (np.arange(shape[0]) + 0.5) * size / shape[0]
    x = (np.arange(shape[1]) + 0.5) * size / shape[1]
    return ((y > top) & (y < bottom))[:, None] & ((x > left) & (x < right))[None, :]


def _run(hot: npt.NDArray[np.bool_], at: int) -> tuple[int, int]:
    """First index of the run of true values around `at`, and the one after its last."""
    first = last = at
    while first > 0 and hot[first - 1]:
        first -= 1
    while last + 1 < len(hot) and hot[last + 1]:
        last += 1
    return first, last + 1


def _kind(card: Card, outputs: Mapping[str, Array]) -> str | None:
    """The kind of fracture, if the model names kinds and is certain enough of one."""
    if card.types is None or "type_logits" not in outputs:
        return None
    logits = np.asarray(outputs["type_logits"], np.float64)[0]
    shares = np.exp(logits - logits.max())
    shares /= shares.sum()
    best = int(shares.argmax())
    return card.types.names[best] if shares[best] >= card.types.threshold else None
