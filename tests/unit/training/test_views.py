"""Views of a radiograph: the labels follow the pixels, and unknown stays unknown."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from training.augment import (
    PLACE_CELLS,
    Strength,
    View,
    augmented_sample,
    degrade,
    middle_label,
    view_targets,
)
from training.fracatlas import FractureBox, Radiograph
from training.losses import Weights, task_losses, total
from training.negatives import MAKERS, make_negative
from training.network import LABELS, REGIONS, TINY, Network
from training.places import load_places, places_of, save_places
from training.samples import Sample, collate, other_sample, plain_sample
from worker.preprocess import preprocess

KNEE, LEG, ANKLE = (LABELS.index(name) for name in ("knee", "leg", "ankle"))


def radiograph(path: Path = Path("made.jpg"), *, boxes: tuple[FractureBox, ...] = ()) -> Radiograph:
    """A lower leg from knee to ankle, 200 wide and 400 high."""
    return Radiograph(
        path=path,
        width=200,
        height=400,
        split="train",
        block="0",
        fractured=bool(boxes),
        primary="leg",
        regions=("knee", "leg", "ankle"),
        boxes=boxes,
    )


def box(region: str, left: float, top: float, edge: float = 30.0) -> FractureBox:
    return FractureBox(box=(left, top, left + edge, top + edge), region=region, site="shaft")


def leg_places() -> np.ndarray:
    """Knee in the upper quarter, ankle in the lowest, leg between."""
    places = np.zeros((len(LABELS), PLACE_CELLS, PLACE_CELLS), np.float32)
    places[KNEE, :4, 4:12] = places[LEG, 4:12, 4:12] = places[ANKLE, 12:, 4:12] = 1
    sums = places.sum((1, 2), keepdims=True)
    return np.asarray(np.divide(places, sums, out=np.zeros_like(places), where=sums > 0))


@settings(max_examples=40, deadline=None)
@given(
    angle=st.floats(-math.pi, math.pi),
    mirrored=st.booleans(),
    x=st.floats(60, 140),
    y=st.floats(120, 280),
)
def test_a_box_stays_on_what_it_boxed(angle, mirrored, x, y):
    """Whatever a view does with the pixels it does with the boxes."""
    pixels = np.zeros((400, 200), np.uint8)
    yy, xx = np.mgrid[0:400, 0:200]
    pixels[(xx - x) ** 2 + (yy - y) ** 2 < 8**2] = 255
    view = View(x=100, y=200, width=300, height=260, angle=angle, mirrored=mirrored)

    spot = np.argwhere(view.render(pixels, 150, 130) > 0.5) + 0.5
    found = view.box_to_view((x - 8, y - 8, x + 8, y + 8)) * (150, 130, 150, 130)

    assert spot[:, 1].mean() == pytest.approx((found[0] + found[2]) / 2, abs=1.0)
    assert spot[:, 0].mean() == pytest.approx((found[1] + found[3]) / 2, abs=1.0)
    assert spot[:, 1].max() - spot[:, 1].min() == pytest.approx(found[2] - found[0], abs=3.0)


def test_a_view_of_one_joint_shows_that_joint_alone():
    """A crop around the knee has no ankle, and may or may not show the leg."""
    view = View(x=100, y=50, width=160, height=100)

    regions, fractures, *_ = view_targets(radiograph(), leg_places(), view)

    assert regions[KNEE] == 1
    assert regions[ANKLE] == 0
    assert regions[LABELS.index("elbow")] == 0
    assert fractures[KNEE] == 0
    assert np.isnan(fractures[ANKLE])
    assert middle_label(radiograph(), leg_places(), view) == KNEE


def test_without_places_a_crop_leaves_regions_unknown():
    """What may have left the view is not denied."""
    view = View(x=100, y=50, width=160, height=100)

    regions, fractures, *_ = view_targets(radiograph(), None, view)

    assert np.isnan(regions[[KNEE, LEG, ANKLE]]).all()
    assert regions[LABELS.index("elbow")] == 0
    assert np.isnan(fractures).all()
    assert middle_label(radiograph(), None, view) == -1


@pytest.mark.parametrize(
    ("top", "fracture", "inside", "cut"),
    [(60.0, 1.0, 1, 0), (85.0, np.nan, 0, 1), (200.0, np.nan, 0, 0)],
)
def test_a_fracture_counts_only_where_it_is_seen(top, fracture, inside, cut):
    """Whole in view: yes. Cut off: unknown. Out of view: another region's business."""
    broken = radiograph(boxes=(box("leg", 90, top),))
    view = View(x=100, y=50, width=160, height=100)

    _, fractures, boxes, owners, ignored = view_targets(broken, leg_places(), view)

    assert np.array_equal(fractures[REGIONS.index("leg")], fracture, equal_nan=True)
    assert (len(boxes), len(owners), len(ignored)) == (inside, inside, cut)


def test_dense_targets_lie_under_the_box(tmp_path):
    """Cells in a box are fractured, its core predicts it, a cut-off place says nothing."""
    broken = radiograph(boxes=(box("leg", 80, 160, 60),))
    sample = plain_sample_of(broken, tmp_path)
    batch = collate([sample])
    left, top, right, bottom = sample.boxes[0] / 16

    cells = batch.fracture_cells[0, REGIONS.index("leg")].numpy()
    rows, columns = np.nonzero(cells == 1)

    assert (rows + 0.5 >= top).all()
    assert (rows + 0.5 <= bottom).all()
    assert (columns + 0.5 >= left).all()
    assert (columns + 0.5 <= right).all()
    assert np.isnan(batch.fracture_cells[0, REGIONS.index("elbow")].numpy()).all()
    core = np.argwhere(batch.centres[0].numpy() == 1)
    row, column = core[0]
    edges = batch.edges[0, :, row, column].numpy()
    back = [column + 0.5 - edges[0], row + 0.5 - edges[1]]
    back += [column + 0.5 + edges[2], row + 0.5 + edges[3]]
    assert back == pytest.approx([left, top, right, bottom], abs=1e-4)


def plain_sample_of(made: Radiograph, folder: Path) -> Sample:
    """A sample of a radiograph whose file shows a plain limb."""
    grey = np.full((400, 200), 60, np.uint8)
    grey[:, 70:130] = 170
    grey[::7, ::5] += 9
    Image.fromarray(grey).save(folder / "made.png")
    return plain_sample(replace(made, path=folder / "made.png"), 128)


def test_a_tiny_box_has_at_least_one_cell(tmp_path):
    """A fracture smaller than a cell is learned all the same."""
    sample = plain_sample_of(radiograph(boxes=(box("ankle", 101, 351, 2),)), tmp_path)

    batch = collate([sample])

    assert int((batch.centres == 1).sum()) == 1
    assert int((batch.fracture_cells == 1).sum()) == 1


def test_every_task_has_a_gradient_and_unknown_has_none(tmp_path):
    """Each loss reaches its head; a picture of which nothing is known moves nothing."""
    network = Network(TINY)
    broken = radiograph(boxes=(box("leg", 80, 160, 60),))
    known = collate([plain_sample_of(broken, tmp_path)])
    losses = task_losses(network(known.pixels), known)
    total(losses, Weights()).backward()
    reached = {n.split(".")[0] for n, p in network.named_parameters() if p.grad is not None}

    assert reached == {"trunk", "regions", "limb", "neck", "fracture"}
    assert all(float(value.detach()) > 0 for value in losses.values())

    unknown = collate([other_sample(np.random.default_rng(0).random((64, 64), np.float32), 64)])
    losses = task_losses(network(unknown.pixels), unknown)
    silent = ("regions", "primary", "places", "fracture", "edges")
    assert {name: float(losses[name].detach()) for name in silent} == dict.fromkeys(silent, 0.0)
    assert float(losses["limb"].detach()) > 0


def test_the_same_seed_draws_the_same_view(tmp_path):
    """A run can be repeated and resumed."""
    grey = np.tile(np.linspace(20, 220, 200, dtype=np.uint8), (400, 1))
    Image.fromarray(grey).save(tmp_path / "a.png")
    made = radiograph(tmp_path / "a.png", boxes=(box("leg", 80, 160),))

    first, second, other = (
        augmented_sample(made, leg_places(), np.random.default_rng(seed), 64) for seed in (1, 1, 2)
    )

    assert np.array_equal(first.pixels, second.pixels)
    assert not np.array_equal(first.pixels, other.pixels)
    assert first.pixels.shape == (1, 64, 64)
    assert np.isfinite(first.pixels).all()


def test_degrading_stays_within_black_and_white():
    """Whatever is done to a film, it is still one."""
    rng = np.random.default_rng(0)
    everything = Strength(
        exposure=1, frame=1, letters=1, blur=1, coarse=1, jpeg=1, noise=1, inverted=0.5
    )
    grey = rng.random((90, 70), np.float32)

    for _ in range(20):
        changed = degrade(grey, rng, everything)

        assert changed.shape == grey.shape
        assert changed.min() >= 0
        assert changed.max() <= 1
        assert not np.array_equal(changed, grey)


def test_places_follow_the_region_maps_and_the_boxes(tmp_path):
    """Where the router sees a knee a knee is cut; a boxed fracture is the surer witness."""
    grey = np.full((400, 200), 0.6, np.float32)
    grey[::9] = 0.2
    pixels, letterbox = preprocess(grey, size=128)
    maps = np.full((len(LABELS), 4, 4), -6.0, np.float32)
    maps[KNEE, 0], maps[LEG, 1:3], maps[ANKLE, 3] = 6.0, 6.0, 6.0
    maps[LABELS.index("elbow")] = 9.0  # not in view, whatever the router says
    broken = radiograph(boxes=(box("leg", 90, 180),))

    places = places_of(broken, maps, pixels, letterbox)
    save_places(tmp_path / "places.npz", [broken], {"made.jpg": places})
    back = load_places(tmp_path / "places.npz")["made.jpg"]

    assert places[KNEE, :4].sum() > 0.95
    assert places[ANKLE, 12:].sum() > 0.95
    assert places[LEG, 7:9].sum() > places[LEG, 4:7].sum()
    assert places[LABELS.index("elbow")].sum() == 0
    assert places[KNEE].sum() == pytest.approx(1, abs=1e-5)
    assert np.abs(back - places).max() < 1e-2


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
def test_every_made_up_picture_is_a_picture(maker):
    """Finite, of the size asked for, and not flat by accident."""
    grey = maker(np.random.default_rng(1), 64)

    assert grey.shape == (64, 64)
    assert grey.dtype == np.float32
    assert np.isfinite(grey).all()


def test_made_up_pictures_differ():
    """A head that has seen one has not seen all."""
    rng = np.random.default_rng(0)

    pictures = [make_negative(rng, 48) for _ in range(12)]

    assert len({picture.tobytes() for picture in pictures}) == 12
    assert all(p.min() >= 0 and p.max() <= 1 for p in pictures)
