"""Raw outputs become bands and boxes, on the stored image and nowhere else."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from studies.errors import NotAnalysable
from studies.model import Band, Region
from worker.cards import FRACTURE, LIMB, BoxRules, Card
from worker.findings import Place, choose_boxes, on_image, overlap, region_reading, routing
from worker.preprocess import Letterbox, preprocess

SIZE = 64
WHOLE = Place(
    SOPInstanceUID="1.2.3", rows=128, columns=128, letterbox=Letterbox(scale_x=0.5, scale_y=0.5),
    configuration="c",
)  # fmt: skip


def card(kind: str = "bone", **changed: Any) -> Card:
    regions = ["leg"] if kind == "bone" else ["leg", "knee"]
    names = [FRACTURE] if kind == "bone" else [*regions, LIMB]
    values = {
        "name": kind,
        "version": "1.0",
        "kind": kind,
        "sha256": "a" * 64,
        "regions": regions,
        "summary": "made up",
        "licence": "Apache-2.0",
        "input": {"source": "pixels", "size": SIZE, "preprocessing": "letterbox-v1"},
        "labels": [{"name": n, "sensitive": 0.3, "specific": 0.7} for n in names],
        "training": {"commit": "0", "data": "none", "recipe": "none", "seed": 0, "split": "none"},
        "figures": {"test": {"auc": {"value": 0.9, "low": 0.8, "high": 1.0, "n": 10}}},
        "golden": {"input": "limb-v1", "tolerance": 0.1, "outputs": {"x": [0.0]}},
    }
    return Card.model_validate({**values, **changed})


BOXED = card(boxes={"threshold": 0.5, "nms_iou": 0.4, "most": 3})


def outputs(logit: float, boxes: Any = (), box_logits: Any = ()) -> dict[str, np.ndarray]:
    heat = np.zeros((1, 1, 4, 4), np.float32)
    heat[0, 0, 1, 2] = 8.0
    found = {"fracture_logit": np.array([[logit]], np.float32), "heatmap": heat}
    if len(boxes):
        found["boxes"] = np.array([boxes], np.float32)
        found["box_logits"] = np.array([box_logits], np.float32)
    return found


@pytest.mark.parametrize(
    ("logit", "band"), [(-3.0, Band.NEGATIVE), (0.0, Band.DOUBTFUL), (3.0, Band.POSITIVE)]
)
def test_the_two_thresholds_make_three_bands(logit, band):
    """On the calibrated probability: below the sensitive one, between, from the specific one."""
    reading = region_reading(BOXED, Region.LEG, outputs(logit, [[0, 0, 9, 9]], [2.0]), WHOLE)

    assert reading.band is band
    assert reading.probability == pytest.approx(1 / (1 + np.exp(-logit)))
    assert (reading.sensitive, reading.specific) == (0.3, 0.7)
    assert bool(reading.findings) == (band is not Band.NEGATIVE)


def test_calibration_moves_the_band():
    """The same logit is another probability on another card."""
    shifted = card(calibration={"temperature": 2.0, "bias": -8.0})

    assert region_reading(shifted, Region.LEG, outputs(3.0), WHOLE).band is Band.NEGATIVE


def test_a_box_is_reported_in_pixels_of_the_stored_image():
    """Twice as large here, since the input is half as large as the image."""
    reading = region_reading(BOXED, Region.LEG, outputs(3.0, [[8, 4, 20, 30]], [2.0]), WHOLE)

    (finding,) = reading.findings
    assert finding.box is not None
    assert finding.box.edges == (16, 8, 40, 60)


def test_of_overlapping_boxes_the_most_certain_stays():
    """One fracture is one finding; another place is another one."""
    boxes = [[0, 0, 20, 20], [1, 1, 21, 21], [40, 40, 60, 60]]
    reading = region_reading(BOXED, Region.LEG, outputs(3.0, boxes, [1.0, 2.0, 1.5]), WHOLE)

    found = [finding.box.edges for finding in reading.findings if finding.box]
    assert found == [(2, 2, 42, 42), (80, 80, 120, 120)]
    assert reading.findings[0].probability >= reading.findings[1].probability


def test_a_doubtful_region_shows_no_box_below_the_threshold():
    """A positive one shows its best all the same, since a reader wants to know where to look."""
    weak = ([[0, 0, 20, 20], [30, 30, 50, 50]], [-1.0, -2.0])

    assert region_reading(BOXED, Region.LEG, outputs(0.0, *weak), WHOLE).findings == ()
    assert len(region_reading(BOXED, Region.LEG, outputs(3.0, *weak), WHOLE).findings) == 1


def test_a_box_beside_the_image_is_no_finding():
    """A model may point into its empty rim; nothing is there."""
    boxes = [[-30, 0, -10, 20], [70, 70, 90, 90], [60, 0, 90, 20]]
    reading = region_reading(BOXED, Region.LEG, outputs(3.0, boxes, [3.0, 2.0, 1.0]), WHOLE)

    assert [f.box.edges for f in reading.findings if f.box] == [(120, 0, 128, 40)]


def test_without_boxes_the_heat_maps_peak_is_the_place():
    """The highest cell, in pixels of the stored image."""
    reading = region_reading(card(), Region.LEG, outputs(3.0), WHOLE)

    (finding,) = reading.findings
    assert finding.box is not None
    assert finding.box.edges == (64, 32, 96, 64)


def test_a_peak_in_the_empty_rim_does_not_count():
    """The image takes the left half of the input: its own highest cell is the place."""
    half = Place(
        SOPInstanceUID="1.2.3", rows=64, columns=32, letterbox=Letterbox(), configuration="c"
    )
    heat = outputs(3.0)
    heat["heatmap"][0, 0, 3, 0] = 4.0

    (finding,) = region_reading(card(), Region.LEG, heat, half).findings
    assert finding.box is not None
    assert finding.box.edges == (0, 48, 16, 64)


def test_warmth_everywhere_points_nowhere():
    """No box is invented where the map has no peak."""
    flat = outputs(3.0)
    flat["heatmap"][:] = 1.0
    broad = outputs(3.0)
    broad["heatmap"][0, 0, :, 1:] = 1.0

    assert region_reading(card(), Region.LEG, flat, WHOLE).findings == ()
    assert region_reading(card(), Region.LEG, broad, WHOLE).findings == ()


@pytest.mark.parametrize("name", ["fracture_logit", "boxes", "box_logits"])
def test_an_answer_that_is_no_number_is_refused(name):
    """A NaN lies in no band, and must not look like one."""
    broken = outputs(3.0, [[0, 0, 9, 9]], [2.0])
    broken[name][...] = np.nan

    with pytest.raises(NotAnalysable, match=name):
        region_reading(BOXED, Region.LEG, broken, WHOLE)


def test_tracking_uids_are_the_same_each_time_and_different_for_each_finding():
    """A finding keeps its name when a study is reported again."""
    given_outputs = outputs(3.0, [[0, 0, 9, 9], [30, 30, 50, 50]], [2.0, 1.0])
    first = region_reading(BOXED, Region.LEG, given_outputs, WHOLE)
    second = region_reading(BOXED, Region.LEG, given_outputs, WHOLE)

    assert first == second
    assert len({finding.tracking_uid for finding in first.findings}) == 2


def test_a_kind_of_fracture_is_named_only_when_the_model_is_certain():
    """Otherwise it stays unknown."""
    typed = card(types={"names": ["spiral", "oblique"], "threshold": 0.8})
    certain, torn = outputs(3.0), outputs(3.0)
    certain["type_logits"] = np.array([[0.0, 4.0]], np.float32)
    torn["type_logits"] = np.array([[0.0, 0.5]], np.float32)

    assert region_reading(typed, Region.LEG, certain, WHOLE).findings[0].type == "oblique"
    assert region_reading(typed, Region.LEG, torn, WHOLE).findings[0].type is None


def route_of(leg: float, knee: float, limb: float) -> Any:
    return routing(
        card("router"),
        {"region_logits": np.array([[leg, knee]]), "limb_logit": np.array([[limb]])},
    )


def test_the_router_names_what_is_in_view():
    """Several regions may be; the scores come highest first."""
    both = route_of(1.0, 3.0, 3.0)

    assert both.in_view == (Region.KNEE, Region.LEG)
    assert [score.region for score in both.scores] == [Region.KNEE, Region.LEG]
    assert both.is_limb
    assert both.beyond_doubt
    assert route_of(-3.0, -3.0, 3.0).in_view == ()
    assert not route_of(3.0, -3.0, -3.0).is_limb
    assert not route_of(3.0, -3.0, 0.0).beyond_doubt
    assert not route_of(0.0, -3.0, 3.0).beyond_doubt


def test_a_router_that_gives_no_number_is_refused():
    """Rather than a region by chance."""
    with pytest.raises(NotAnalysable, match="region_logits"):
        route_of(float("nan"), 0.0, 3.0)


@st.composite
def boxes(draw: st.DrawFn) -> np.ndarray:
    """Any box with an area."""
    left, top = draw(st.floats(-100, 100)), draw(st.floats(-100, 100))
    return np.array([left, top, left + draw(st.floats(1, 200)), top + draw(st.floats(1, 200))])


@given(first=boxes(), second=boxes())
def test_overlap_is_a_share(first, second):
    """Between 0 and 1, the same both ways, and 1 of a box with itself."""
    assert 0.0 <= overlap(first, second) <= 1.0 + 1e-9
    assert overlap(first, second) == pytest.approx(overlap(second, first))
    assert overlap(first, first) == pytest.approx(1.0)


@given(
    data=st.lists(
        st.tuples(st.floats(0, 50), st.floats(0, 50), st.floats(1, 30), st.floats(1, 30)),
        min_size=1,
        max_size=12,
    ),
    seed=st.integers(0, 1000),
)
def test_no_two_chosen_boxes_overlap_more_than_allowed(data, seed):
    """Whatever the model gives, and the most certain box is always among them."""
    found = np.array([[x, y, x + w, y + h] for x, y, w, h in data])
    scores = np.random.default_rng(seed).random(len(found))
    rules = BoxRules(threshold=0.0, nms_iou=0.3, most=100)

    kept = choose_boxes(found, scores, rules)

    assert kept[0] == int(scores.argmax())
    for index, one in enumerate(kept):
        assert all(overlap(found[one], found[other]) <= 0.3 for other in kept[:index])


@given(
    rows=st.integers(120, 900),
    columns=st.integers(120, 900),
    aspect=st.sampled_from([0.5, 1.0, 2.0]),
    left=st.floats(0.1, 0.5),
    top=st.floats(0.1, 0.5),
)
def test_a_box_comes_back_from_a_real_letterbox_to_where_it_was(rows, columns, aspect, left, top):
    """Padded, scaled, with pixels that are not square: a finding is reported where it was seen."""
    pixels = np.linspace(0.2, 0.8, rows * columns, dtype=np.float32).reshape(rows, columns)
    _, letterbox = preprocess(pixels, size=SIZE, pixel_aspect=aspect)
    place = Place(
        SOPInstanceUID="1", rows=rows, columns=columns, letterbox=letterbox, configuration="c"
    )
    box = (left * columns, top * rows, (left + 0.3) * columns, (top + 0.3) * rows)

    back = on_image(np.array(letterbox.to_model(box)), place)

    assert back is not None
    assert astuple(back) == pytest.approx(box, abs=1e-6 * max(rows, columns))
