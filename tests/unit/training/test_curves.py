"""The curves that model cards show."""

import xml.etree.ElementTree as ET

import numpy as np

from tests.unit.training.made_models import make_data, make_models
from training.curves import draw_curves, write_curves

SVG = "{http://www.w3.org/2000/svg}"


def words(path) -> str:
    return " ".join("".join(t.itertext()) for t in ET.parse(path).iter(f"{SVG}text"))


def answers(seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    y = (generator.random(200) < 0.3).astype(float)
    return y, np.clip(0.4 * y + 0.6 * generator.random(200), 0, 1)


def test_a_picture_shows_three_curves_and_their_figures(tmp_path):
    """AUC and average precision of each set stand in the legend."""
    draw_curves({"plain": answers(1), "stressed": answers(2)}, "bone-elbow", tmp_path / "a.svg")

    found = words(tmp_path / "a.svg")
    assert "bone-elbow" in found
    assert found.count("AUC 0.") == 2
    assert found.count("AP 0.") == 2
    assert "reliability" in found


def test_the_same_answers_give_the_same_file(tmp_path):
    """No date and no random names: a changed picture is a changed model."""
    for name in ("a", "b"):
        draw_curves({"plain": answers(1)}, "t", tmp_path / f"{name}.svg")

    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_a_set_with_one_answer_only_is_left_out(tmp_path):
    """A region without fractures has no curve, and the picture is drawn all the same."""
    draw_curves({"plain": (np.zeros(9), np.linspace(0, 1, 9))}, "t", tmp_path / "a.svg")

    assert "AUC" not in words(tmp_path / "a.svg")


def test_every_bone_model_and_all_together_are_drawn(tmp_path):
    """From models and data to files, plain and stressed."""
    written = write_curves(
        make_models(tmp_path / "models"), make_data(tmp_path / "data"), tmp_path, quiet=True
    )

    assert [path.name for path in written] == ["bone-elbow.svg", "bone-knee.svg", "pooled.svg"]
    assert "plain: AUC 1.000" in words(tmp_path / "bone-knee.svg")
    assert "4 of 12 fractured" in words(tmp_path / "bone-knee.svg")
