"""The stressed split: reproducible, and its boxes stay on what they showed."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.stress import (
    VARIANTS,
    Affine,
    Film,
    bright_middle,
    generator_for,
    jpeg_artefacts,
    move,
    resize_longer,
    rotate,
    stress,
)

LESION = (60.0, 150.0, 84.0, 174.0)
EXPOSURE = ("dark", "low_contrast", "over_exposed", "under_exposed", "jpeg", "lettered")


def limb(*, boxes=(LESION,), rows: int = 300, columns: int = 200) -> Film:
    """A grey limb on black with a white square wherever a box says so."""
    pixels = np.zeros((rows, columns), np.float32)
    pixels[:, 40:140] = 0.4
    pixels += np.linspace(0, 0.05, columns, dtype=np.float32)
    for left, top, right, bottom in boxes:
        pixels[int(top) : int(bottom), int(left) : int(right)] = 1.0
    return Film(
        pixels=pixels,
        boxes=np.array(boxes, dtype=float).reshape(-1, 4),
        box_regions=("elbow",) * len(boxes),
        primary="forearm",
        regions=frozenset({"forearm", "elbow"}),
    )


def white_hull(pixels: np.ndarray, level: float = 0.75) -> tuple[float, float, float, float]:
    rows, columns = np.flatnonzero((pixels > level).any(1)), np.flatnonzero((pixels > level).any(0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_a_variant_is_the_same_on_every_run(variant):
    """Figures of two runs are of the same images."""
    first, second = stress(limb(), variant, "a.png"), stress(limb(), variant, "a.png")

    assert np.array_equal(first.pixels, second.pixels)
    assert np.array_equal(first.boxes, second.boxes)


@pytest.mark.parametrize("variant", sorted(set(VARIANTS) - {"plain", "mirrored", "inverted"}))
def test_each_file_is_drawn_anew(variant):
    """Two files are not turned by the same angle."""
    drawn = [stress(limb(), variant, f"{i}.png").pixels for i in range(3)]

    assert any(a.shape != b.shape or not np.array_equal(a, b) for a, b in pairwise(drawn))


@pytest.mark.parametrize("variant", sorted(VARIANTS))
@pytest.mark.parametrize("name", ("a", "b", "c", "d"))
def test_a_variant_is_a_radiograph_again(variant, name):
    """Whatever is done, pixels stay in range and boxes on the film."""
    film = stress(limb(), variant, name)

    assert film.pixels.dtype == np.float32
    assert film.pixels.min() >= 0
    assert film.pixels.max() <= 1
    assert len(film.boxes) == len(film.box_regions) == 1
    left, top, right, bottom = film.boxes[0]
    assert 0 <= left < right <= film.columns
    assert 0 <= top < bottom <= film.rows


@pytest.mark.parametrize("variant", ("zoomed", "mirrored", "low_resolution", "framed", "rotated"))
@pytest.mark.parametrize("name", ("1", "2", "3", "4", "5", "6"))
def test_the_box_stays_on_what_it_showed(variant, name):
    """The white square is where its box says, on the moved film too."""
    marked = limb()
    bare = limb(boxes=())
    moved = stress(marked, variant, name)
    without = stress(
        Film(
            pixels=bare.pixels,
            boxes=marked.boxes,
            box_regions=marked.box_regions,
            primary=marked.primary,
            regions=marked.regions,
        ),
        variant,
        name,
    )

    changed = np.abs(moved.pixels - without.pixels)
    tolerance = 1.5 + 0.01 * max(moved.rows, moved.columns)
    assert white_hull(changed, 0.2) == pytest.approx(tuple(moved.boxes[0]), abs=tolerance)


@pytest.mark.parametrize("variant", EXPOSURE)
def test_exposure_moves_no_box(variant):
    """Grey values change, places do not."""
    film = stress(limb(), variant, "a")

    assert film.boxes.tolist() == [list(LESION)]
    assert film.pixels.shape == (300, 200)
    assert not np.allclose(film.pixels, limb().pixels, atol=0.01)


def test_plain_changes_nothing():
    """The plain split runs through the same code."""
    assert np.array_equal(stress(limb(), "plain", "a").pixels, limb().pixels)


def test_twice_mirrored_is_the_film():
    """Mirroring is exact, not resampled."""
    once = stress(limb(), "mirrored", "a")
    twice = stress(once, "mirrored", "a")

    assert np.allclose(twice.pixels, limb().pixels)
    assert twice.boxes.tolist() == [list(LESION)]
    assert once.boxes.tolist() == [[200 - 84, 150, 200 - 60, 174]]


def test_inverted_twice_is_the_film():
    """Bone dark and bright again."""
    twice = stress(stress(limb(), "inverted", "a"), "inverted", "a")

    assert np.allclose(twice.pixels, limb().pixels, atol=1e-6)


def test_a_quarter_turn_is_exact():
    """Clockwise: what was at the left is at the top."""
    film = rotate(limb(), 90)

    assert film.pixels.shape == (200, 300)
    assert np.allclose(film.pixels, np.rot90(limb().pixels, k=-1), atol=1e-5)
    assert film.boxes[0] == pytest.approx([300 - 174, 60, 300 - 150, 84])


@given(degrees=st.floats(-360, 360), x=st.floats(0, 200), y=st.floats(0, 300))
def test_a_turn_and_its_inverse_meet(degrees, x, y):
    """The way back leads back."""
    way = Affine(
        a=np.cos(degrees), b=-np.sin(degrees), c=3, d=np.sin(degrees), e=np.cos(degrees), f=-7
    )

    assert way.inverse().point(*way.point(x, y)) == pytest.approx((x, y), abs=1e-9)


@pytest.mark.parametrize("name", [str(i) for i in range(20)])
def test_a_zoom_keeps_a_fractured_film_fractured(name):
    """One of the boxes is whole in the window, and the view is of its region."""
    boxes = (LESION, (20.0, 10.0, 60.0, 40.0))
    film = stress(limb(boxes=boxes), "zoomed", name)

    sizes = film.boxes[:, 2:] - film.boxes[:, :2]
    assert max(s[0] * s[1] for s in sizes) >= 24 * 24
    assert film.primary == "elbow"
    assert film.regions == {"elbow"}
    assert film.uncertain == {"forearm"}
    assert film.rows < 300
    assert film.columns <= 200


def test_a_zoom_without_boxes_goes_to_the_focus():
    """Where the joint's place is known, the window lies around it."""
    whole = Film(
        pixels=limb(boxes=(LESION,)).pixels,
        boxes=np.empty((0, 4)),
        primary="elbow",
        regions=frozenset({"elbow"}),
        focus=(72.0, 162.0),
    )

    for name in "abcdefgh":
        film = stress(whole, "zoomed", name)
        assert film.focus is not None
        assert 0 <= film.focus[0] <= film.columns
        assert 0 <= film.focus[1] <= film.rows
        assert film.pixels.max() == 1.0


def test_a_zoom_to_nowhere_in_particular_claims_no_region():
    """Without boxes and focus nobody knows which of two regions is left in the window."""
    whole = limb(boxes=())

    film = stress(whole, "zoomed", "a")

    assert film.primary is None
    assert film.regions == frozenset()
    assert film.uncertain == {"forearm", "elbow"}


def test_a_box_that_leaves_the_film_is_dropped_and_a_cut_one_is_cut():
    """Less than 40 % in view is no box any more."""
    film = limb(boxes=((0.0, 0.0, 20.0, 20.0), (0.0, 100.0, 100.0, 120.0)))

    moved = move(film, Affine(a=1, b=0, c=-50, d=0, e=1, f=0), rows=300, columns=150)

    assert moved.boxes.tolist() == [[0, 100, 50, 120]]
    assert moved.box_regions == ("elbow",)


def test_a_smaller_film_is_smoothed_before_it_is_sampled():
    """Thin stripes become grey, not a moiré of black and white."""
    stripes = np.zeros((256, 256), np.float32)
    stripes[:, ::2] = 1
    film = Film(pixels=stripes, boxes=np.empty((0, 4)))

    small = resize_longer(film, 64)

    assert small.pixels[4:-4, 4:-4] == pytest.approx(0.5, abs=0.05)


def test_thumbnails_are_small():
    """The longer side has 128 to 224 pixels."""
    for name in "abcdefgh":
        film = stress(limb(), "low_resolution", name)
        assert 128 <= max(film.pixels.shape) <= 224


def test_a_frame_surrounds_the_field():
    """The field takes less than the plate, and its border has one grey."""
    for name in "abcdefgh":
        film = stress(limb(), "framed", name)
        assert film.rows * film.columns > 1.4 * 300 * 200
        edge = np.concatenate([film.pixels[0], film.pixels[-1]])
        values, counts = np.unique(np.round(edge, 3), return_counts=True)
        assert counts.max() / edge.size > 0.4
        assert values.size


def test_jpeg_leaves_traces_but_the_picture():
    """Quality 8 to 25 changes pixels a little everywhere."""
    noisy = limb()
    pixels = noisy.pixels + np.random.default_rng(0).normal(0, 0.05, noisy.pixels.shape)
    film = Film(pixels=pixels.astype(np.float32), boxes=np.empty((0, 4)))

    after = jpeg_artefacts(film, np.random.default_rng(1)).pixels

    difference = np.abs(after - np.clip(pixels, 0, 1))
    assert 0.005 < difference.mean() < 0.06


def test_the_bright_middle_of_nothing_is_the_middle():
    """An empty film has no limb to aim at."""
    assert bright_middle(np.zeros((10, 20), np.float32)) == (10, 5)
    assert bright_middle(limb(boxes=()).pixels)[0] == pytest.approx(90, abs=2)


def test_seeds_depend_on_variant_and_file():
    """No two variants turn one file alike."""
    draws = {generator_for(v, n).random() for v in VARIANTS for n in ("a", "b")}

    assert len(draws) == 2 * len(VARIANTS)


def test_an_unknown_variant_is_named():
    """A misspelt variant does not become a plain figure."""
    with pytest.raises(KeyError, match="zomed"):
        stress(limb(), "zomed", "a")


def test_films_that_do_not_fit_together_cannot_be_made():
    """Boxes without regions, or pixels of another type, are a mistake of the caller."""
    with pytest.raises(ValueError, match="float32"):
        Film(pixels=np.zeros((4, 4), np.uint8), boxes=np.empty((0, 4)))
    with pytest.raises(ValueError, match="regions"):
        Film(pixels=np.zeros((4, 4), np.float32), boxes=np.zeros((1, 4)))
