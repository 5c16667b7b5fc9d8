"""From grey values to a model's input: the field, the window, and boxes there and back."""

from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.golden import GOLDEN, golden_image
from worker.preprocess import Field, Letterbox, find_field, find_window, preprocess

coordinates = st.floats(0, 3000, allow_nan=False)
scales = st.floats(0.05, 4)
GOLDEN_SUM = 41925.3262


def limb(rows: int = 300, columns: int = 200, brightness: float = 1.0) -> np.ndarray:
    """A limb with structure on a dim ground."""
    y, x = np.mgrid[0:rows, 0:columns]
    grey = 0.1 + 0.02 * np.sin(x * 0.7 + y * 0.3)
    grey += 0.5 * (np.abs(x - columns / 2) < columns / 5) * (1 + 0.2 * np.sin(y * 0.2))
    return np.asarray(grey * brightness, np.float32)


@given(
    left=coordinates,
    top=coordinates,
    width=st.floats(1, 500),
    height=st.floats(1, 500),
    scale_x=scales,
    scale_y=scales,
    pad=st.floats(0, 200),
)
def test_a_box_comes_back_from_the_model_to_where_it_was(
    left, top, width, height, scale_x, scale_y, pad
):
    """A finding is reported where it was seen, whatever the scaling."""
    letterbox = Letterbox(
        left=10, top=20, scale_x=scale_x, scale_y=scale_y, pad_x=pad, pad_y=pad / 2
    )
    box = (left, top, left + width, top + height)

    back = letterbox.to_image(letterbox.to_model(box))

    assert back == pytest.approx(box, abs=1e-6)


@given(
    rows=st.integers(40, 400),
    columns=st.integers(40, 400),
    x=st.floats(0.2, 0.8),
    y=st.floats(0.2, 0.8),
    aspect=st.floats(0.5, 2.0),
)
def test_a_bright_spot_lies_where_the_letterbox_says(rows, columns, x, y, aspect):
    """The letterbox describes the pixels that it made, square or not."""
    grey = np.full((rows, columns), 0.3, np.float32)
    grey[0, :] = grey[:, 0] = 0.31
    half = max(3, min(rows, columns) // 12)
    row, column = int(y * rows), int(x * columns)
    grey[max(0, row - half) : row + half, max(0, column - half) : column + half] = 1.0

    square, letterbox = preprocess(grey, size=160, pixel_aspect=aspect)

    spot = np.argwhere(square[0, 0] > 0.9) + 0.5
    middle = spot.mean(axis=0)
    box = (max(0, column - half), max(0, row - half), column + half, row + half)
    left, top, right, bottom = letterbox.to_model(
        (box[0], box[1], min(box[2], columns), min(box[3], rows))
    )
    assert middle[1] == pytest.approx((left + right) / 2, abs=1.5)
    assert middle[0] == pytest.approx((top + bottom) / 2, abs=1.5)


def test_a_letterbox_without_scale_cannot_be_built():
    """Once built, a letterbox can map."""
    with pytest.raises(ValueError, match="scale"):
        Letterbox(scale_x=0.0)


@pytest.mark.parametrize("frame", [0.0, 1.0])
def test_a_collimation_frame_is_cut_off_and_does_not_change_the_window(frame):
    """Black and white borders are no anatomy."""
    bare = limb()
    framed = np.full((500, 420), frame, np.float32)
    framed[100:400, 110:310] = bare

    field = find_field(framed)

    assert abs(field.left - 110) < 20
    assert abs(field.right - 310) < 20
    assert abs(field.top - 100) < 20
    assert abs(field.bottom - 400) < 20
    assert find_window(framed) == pytest.approx(find_window(bare), abs=0.03)


def test_padding_is_masked_whatever_its_value():
    """A padding value in the middle of the range would pass for tissue."""
    bare = limb()
    padded = np.full((300, 400), 0.45, np.float32)
    padded[:, 200:] = bare
    valid = np.zeros(padded.shape, bool)
    valid[:, 200:] = True

    field = find_field(padded, valid)
    square, _ = preprocess(padded, valid, size=128)
    alone, _ = preprocess(bare, size=128)

    assert field.left >= 180
    assert np.abs(square - alone).mean() < 0.08


@pytest.mark.parametrize("brightness", [0.2, 0.5, 3.0])
def test_exposure_does_not_change_the_input(brightness):
    """A dark film and a bright one of the same limb look the same to the model."""
    dark, _ = preprocess(limb(brightness=brightness), size=96)
    usual, _ = preprocess(limb(), size=96)

    assert np.abs(dark - usual).max() < 1e-3


def test_a_small_bright_marker_does_not_darken_the_bone():
    """A burned-in letter is brighter than any bone."""
    marked = limb()
    marked[5:20, 5:20] = 1.0

    black, white = find_window(marked)

    assert (black, white) == pytest.approx(find_window(limb()), abs=0.06)


@pytest.mark.parametrize(
    ("rows", "columns", "aspect"), [(300, 200, 1.0), (200, 300, 1.0), (200, 200, 2.0), (7, 500, 1)]
)
def test_the_input_is_a_square_from_zero_to_one(rows, columns, aspect):
    """Whatever comes in, the model gets what its card says."""
    square, letterbox = preprocess(limb(rows, columns), size=128, pixel_aspect=aspect)

    assert square.shape == (1, 1, 128, 128)
    assert square.dtype == np.float32
    assert square.min() >= 0
    assert square.max() <= 1
    # Rounding to whole pixels of the input may stretch a sliver of an image, nothing else.
    if min(rows, columns) > 50:
        assert letterbox.scale_y / letterbox.scale_x == pytest.approx(aspect, rel=0.02)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_an_image_of_one_grey_value_is_taken_whole(value):
    """Nothing to find is no reason to fail."""
    flat = np.full((50, 60), value, np.float32)

    square, _ = preprocess(flat, size=64)

    assert astuple(find_field(flat)) == astuple(Field(left=0, top=0, right=60, bottom=50))
    assert np.isfinite(square).all()


def test_what_is_no_image_is_refused():
    """A frame stack or a colour image needs a decision that is not made here."""
    with pytest.raises(ValueError, match="two-dimensional"):
        preprocess(np.zeros((3, 4, 5), np.float32), size=32)
    with pytest.raises(ValueError, match="aspect"):
        preprocess(np.zeros((4, 5), np.float32), size=32, pixel_aspect=0.0)


def test_the_golden_image_never_changes_and_has_no_other_name():
    """Cards hold what models say of exactly this picture."""
    image = golden_image()

    assert image.shape == (480, 400)
    assert image.dtype == np.float32
    assert float(image.astype(np.float64).sum()) == pytest.approx(GOLDEN_SUM, rel=1e-6)
    with pytest.raises(KeyError, match=GOLDEN):
        golden_image("limb-v0")
