"""A run from recipe to models: resumable, seeded, and what is exported is what was trained."""

import csv
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from tests.unit.training.made_radiographs import BOX_KEYS, make_set, write_table
from training.augment import Strength
from training.calibrate import suppress
from training.export import (
    ParityError,
    Part,
    check_parity,
    export_models,
    export_part,
    load_checkpoint,
    parts_of,
    round_weights,
)
from training.fracatlas import LayoutError, read_fracatlas
from training.network import REGIONS, TINY, Network
from training.recipe import RecipeError, read_recipe
from training.train import BEST, CHECKPOINT, Tuner, run_training, start_network
from worker.cards import load_card

RECIPES = Path(__file__).resolve().parents[3] / "training" / "recipes"
RECIPE = """
name = "tiny"
seed = 3
size = 64

[heads]
size = 64
epochs = 1
batch = 4
negatives = 4

[tuning]
sizes = [64]
steps = {steps}
batch = 4
checkpoint_minutes = 0.0
validate_minutes = 60.0
"""


@pytest.fixture
def made(tmp_path):
    """A made-up set and a recipe of a few steps."""
    make_set(tmp_path / "set")
    (tmp_path / "recipe.toml").write_text(RECIPE.format(steps=3), encoding="utf-8")
    return tmp_path


def test_a_run_leaves_a_checkpoint_and_readable_logs(made):
    """Every stage can be looked at afterwards."""
    found = run_training(made / "recipe.toml", made / "set", made / "out", shape=TINY)

    assert found == made / "out" / BEST
    network, state = load_checkpoint(found)
    assert network.shape == TINY
    assert json.loads(state["recipe"])["name"] == "tiny"
    with (made / "out" / "tuning.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "3"]
    assert (made / "out" / "validation.csv").exists()
    assert not list((made / "out").glob("features-*"))


def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(made):
    """The views and the weights of each step are those of an unbroken run."""
    whole = run_training(made / "recipe.toml", made / "set", made / "whole", shape=TINY)
    (made / "short.toml").write_text(RECIPE.format(steps=2), encoding="utf-8")
    run_training(made / "short.toml", made / "set", made / "parts", shape=TINY)
    state = torch.load(made / "parts" / CHECKPOINT, weights_only=True)
    assert state["step"] == 2

    # The rates depend on the length of the run, so the first two steps are taken from the whole.
    radiographs = read_fracatlas(made / "set")
    recipe = read_recipe(made / "recipe.toml")
    (made / "parts" / CHECKPOINT).unlink()
    network = start_network(recipe, None, TINY)
    network.load_state_dict(torch.load(made / "parts" / "heads.pt", weights_only=True)["model"])
    first = Tuner(network, recipe, radiographs, made / "parts")
    for step in range(2):
        first.learn(first.batch_samples(step))
        first.step += 1
    first.keep()
    again = start_network(recipe, None, TINY)
    second = Tuner(again, recipe, radiographs, made / "parts")
    assert second.step == 2
    second.learn(second.batch_samples(2))

    unbroken = torch.load(made / "whole" / CHECKPOINT, weights_only=True)["live"]
    for name, value in again.state_dict().items():
        torch.testing.assert_close(value, unbroken[name], msg=name)
    assert whole.exists()


def test_a_run_may_be_forgotten(made):
    """Without resuming nothing of an earlier run is left."""
    (made / "out").mkdir()
    (made / "out" / "old.txt").write_text("old")
    frozen = RECIPE.format(steps=0)
    (made / "recipe.toml").write_text(frozen, encoding="utf-8")

    found = run_training(made / "recipe.toml", made / "set", made / "out", resume=False, shape=TINY)

    assert not (made / "out" / "old.txt").exists()
    assert found.name == "heads.pt"


def test_exported_models_have_complete_cards(made):
    """What the service asks of a card an export gives: digest, thresholds, figures, golden."""
    checkpoint = made / "net.pt"
    run_training(made / "recipe.toml", made / "set", made / "out", shape=TINY)
    (made / "out" / BEST).rename(checkpoint)

    folders = export_models(checkpoint, made / "models", "1.2.0", data_dir=made / "set")

    cards = [load_card(folder) for folder in folders]
    assert [card.kind.value for card in cards] == ["trunk", "router", "bone", "bone"]
    # The made-up set shows no other bone, so nothing is claimed of one.
    assert {card.name for card in cards[2:]} == {"bone-forearm", "bone-leg"}
    assert all(card.version == "1.2.0" for card in cards)
    forearm = next(card for card in cards if card.name == "bone-forearm")
    assert forearm.input.trunk_sha256 == cards[0].sha256
    assert forearm.figures["fracatlas_test_plain"]["auc"].n >= 1
    assert "size = 64" in forearm.training.recipe
    assert not list((made / "models").glob(".export-*"))


def test_every_part_says_what_the_network_says(tmp_path):
    """Parity of each file with torch, on weights as they are stored."""
    torch.manual_seed(0)
    network = Network(TINY).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    round_weights(network)
    pixels = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        whole = network(pixels)
        features = network.trunk(pixels)

    for part in parts_of(network, ["hand_wrist", "leg"]):
        examples = (pixels,) if part.inputs == ("pixels",) else features
        export_part(part, examples, tmp_path / f"{part.name}.onnx")
        assert check_parity(part, examples, tmp_path / f"{part.name}.onnx") <= 1e-4

    bone = parts_of(network, ["leg"])[2]
    with torch.no_grad():
        logit, heatmap, boxes, scores = bone.module(*features)
    index = REGIONS.index("leg")
    # The part's own weights are sums that were rounded again.
    torch.testing.assert_close(logit[:, 0], whole.fracture_logits[:, index], rtol=2e-2, atol=2e-2)
    assert heatmap.shape == (2, 1, 4, 4)
    assert boxes.shape == (2, 16, 4)
    assert bool((scores[:, :-1] >= scores[:, 1:]).all())


def test_the_logit_follows_from_the_heat_map(tmp_path):
    """What is painted is what was judged: gain * soft maximum + bias, no second run."""
    torch.manual_seed(1)
    network = Network(TINY).eval()
    part = parts_of(network, ["elbow"])[2]
    with torch.no_grad():
        logit, heatmap, *_ = part.module(
            torch.rand(1, TINY.layer3, 4, 4), torch.rand(1, TINY.layer4, 2, 2)
        )

    mean = torch.log(torch.exp(heatmap).mean())
    expected = network.fracture.gain * mean + network.fracture.bias[REGIONS.index("elbow")]
    assert float(logit) == pytest.approx(float(expected.detach()), abs=1e-4)


def test_large_weights_are_stored_in_half_precision(tmp_path):
    """So a ResNet50 fits in the repository."""
    network = Network(TINY).eval()
    round_weights(network)
    part = parts_of(network, [])[0]

    export_part(part, (torch.rand(1, 1, 64, 64),), tmp_path / "trunk.onnx")

    stored = onnx.load(str(tmp_path / "trunk.onnx")).graph.initializer
    large = [t for t in stored if len(t.dims) > 1 and np.prod(t.dims) >= 64]
    assert large
    assert {t.data_type for t in large} == {onnx.TensorProto.FLOAT16}


def test_an_export_that_says_something_else_is_refused(tmp_path):
    """Parity is a gate, not a print-out."""
    network = Network(TINY).eval()
    round_weights(network)
    part = parts_of(network, [])[0]
    pixels = (torch.rand(1, 1, 64, 64),)
    export_part(part, pixels, tmp_path / "trunk.onnx")
    other = Part(
        name="trunk",
        module=parts_of(Network(TINY).eval(), [])[0].module,
        inputs=part.inputs,
        outputs=part.outputs,
    )
    for parameter in other.module.parameters():
        torch.nn.init.normal_(parameter)

    with pytest.raises(ParityError, match="layer3"):
        check_parity(other, pixels, tmp_path / "trunk.onnx")


def test_of_boxes_alike_the_surest_is_kept():
    """One fracture is one finding."""
    boxes = np.array([[0, 0, 10, 10], [1, 1, 11, 11], [40, 40, 50, 50]], float)

    kept = suppress(boxes, np.array([0.6, 0.9, 0.3]))

    assert kept.tolist() == [1, 2]


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_recipe_can_be_followed(path):
    """A recipe's name is its file's, and every key is known."""
    assert read_recipe(path).name == path.stem


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "x"\nspeed = 3', "unknown key 'speed'"),
        ('name = "x"\n[augment]\nzooom = 2', r"\[augment\].*zooom"),
        ('name = "x"\nsize = 100', "multiple of 32"),
        ("name = ", "recipe.toml"),
        ("size = 64", "name"),
        ('name = "x"\nheads = 3', "not a table"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused(tmp_path, text, message):
    """A misspelt key would train something else for a night."""
    (tmp_path / "recipe.toml").write_text(text, encoding="utf-8")

    with pytest.raises(RecipeError, match=message):
        read_recipe(tmp_path / "recipe.toml")


def test_a_missing_recipe_is_named(tmp_path):
    """The file is in the message."""
    with pytest.raises(RecipeError, match=r"none\.toml: not found"):
        read_recipe(tmp_path / "none.toml")


def test_the_sets_own_layout_is_read(made):
    """Boxes, regions and splits arrive; hand and wrist are one region."""
    write_table(
        made / "set" / "boxes.csv",
        BOX_KEYS,
        [dict(zip(BOX_KEYS, ("001.jpg", 0, 1, 2, 3, 4, "carpal", "wrist", "a|b"), strict=True))],
    )

    images = {image.path.name: image for image in read_fracatlas(made / "set")}

    assert images["001.jpg"].boxes[0].box == pytest.approx((1, 2, 4, 6))
    assert set(images["001.jpg"].fractured_regions) == {"hand_wrist"}
    assert images["001.jpg"].boxes[0].kinds == ("a", "b")
    assert {image.split for image in images.values()} == {"train", "val", "test"}
    assert images["000.jpg"].pixels().shape == (96, 80)


def test_a_set_that_lacks_a_file_or_a_column_is_refused_by_name(made):
    """The message says what to mend."""
    write_table(made / "set" / "boxes.csv", BOX_KEYS[:-1], [])
    with pytest.raises(LayoutError, match=r"boxes\.csv: no column kind"):
        read_fracatlas(made / "set")

    (made / "set" / "boxes.csv").unlink()
    with pytest.raises(LayoutError, match="not found"):
        read_fracatlas(made / "set")


def test_strength_is_a_value():
    """Two runs of one recipe draw alike."""
    assert Strength() == Strength()
