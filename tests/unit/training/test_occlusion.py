"""Hiding the fracture: what is hidden, what stands for it, and what the figures make of it."""

import numpy as np
import pytest

from tests.unit.training.made_models import make_data, make_models
from training.cases import read_cases
from training.evaluate import POOLED, evaluate_models
from training.metrics import iou
from training.occlusion import control_patches, grow, hide, occlude
from training.suite import Suite


def test_what_is_hidden_takes_the_greys_of_its_rim():
    """A white square on a ramp is gone, and the ramp goes on."""
    ramp = np.linspace(0.2, 0.6, 50, dtype=np.float32)[None].repeat(40, axis=0)
    marked = ramp.copy()
    marked[10:20, 15:30] = 1.0

    hidden = hide(marked, [np.array([15.0, 10, 30, 20])])

    assert hidden == pytest.approx(ramp, abs=0.02)
    assert marked[12, 20] == 1.0


def test_a_box_at_the_rim_of_the_image_can_be_hidden():
    """There is nothing beyond, and no error."""
    pixels = np.random.default_rng(0).random((20, 20), np.float32)

    hidden = hide(pixels, [np.array([-3.0, 12, 8, 25])])

    assert hidden.shape == pixels.shape
    assert np.isfinite(hidden).all()
    assert np.array_equal(hidden[:10], pixels[:10])


def test_a_control_patch_is_elsewhere_and_as_bright():
    """On the limb and not on air, of the same size, beside every fracture."""
    pixels = np.zeros((200, 200), np.float32)
    pixels[:, 80:120] = 0.6
    fracture = np.array([[85.0, 50, 115, 80]])

    patches = control_patches(pixels, [fracture[0]], fracture, name="a")

    assert patches is not None
    assert (patches[0][2:] - patches[0][:2]).tolist() == [30, 30]
    assert not iou(patches[0], fracture).any()
    left, top = (int(v) for v in patches[0][:2])
    assert pixels[top : top + 30, left : left + 30].mean() > 0.35


def test_where_there_is_no_room_there_is_no_control():
    """A fracture over the whole image leaves nothing to compare with."""
    pixels = np.zeros((20, 20), np.float32)
    box = np.array([[0.0, 0, 20, 20]])

    assert control_patches(pixels, [box[0]], box, name="a") is None


def test_a_box_grows_within_the_image():
    """By 15 % a side, and not beyond the rim."""
    assert grow(np.array([10.0, 10, 30, 20]), (20, 100)).tolist() == [7, 8.5, 33, 20]


def test_a_model_that_looks_at_the_fracture_notices(tmp_path):
    """The made-up models see nothing but the lesion: hidden, the logit falls; elsewhere not."""
    models, data = make_models(tmp_path / "models"), make_data(tmp_path / "data")
    results = occlude(Suite(models), read_cases(data), quiet=True)
    figures = evaluate_models(models, data, draws=10, per_kind=0, occlusion=True, quiet=True)[
        POOLED
    ]["test"]

    assert len(results) == 8
    assert all(r.at_fracture > 1 > abs(r.elsewhere) for r in results)
    assert figures["occlusion_finds"].value == 1
    assert figures["occlusion_drop"].value > 1 > figures["occlusion_drop_elsewhere"].value
