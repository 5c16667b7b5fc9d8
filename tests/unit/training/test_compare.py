"""The literature's networks beside ours: each runs, learns, and is measured alike."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.unit.training.made_models import make_data
from training.compare import (
    CONTENDERS,
    METRICS,
    Budget,
    best_f1_threshold,
    compare,
    fit,
    gaussian_and_pca,
    print_comparison,
    three_layer_cnn,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Made-up images, half of them to train on."""
    root = make_data(tmp_path_factory.mktemp("data") / "set", count=48)
    with (root / "images.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        row["split"] = ("train", "train", "val", "test")[number // 3 % 4]
    with (root / "images.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return root


@pytest.mark.parametrize("name", CONTENDERS)
def test_every_network_gives_one_logit_per_image(name):
    """At another input than the standard one too, and the gradient reaches its first layer."""
    network = CONTENDERS[name].build(None)

    logits = network(torch.rand(2, 1, 64, 64))
    logits.sum().backward()

    assert logits.shape == (2, 1)
    assert next(network.parameters()).grad is not None


def test_a_network_learns_what_there_is_to_learn():
    """White squares are told from none: a loop that trains nothing would be at a half."""
    generator = np.random.default_rng(0)
    images = generator.random((96, 1, 32, 32), np.float32) * 0.3
    truth = np.arange(96) % 3 == 0
    images[truth, :, 8:20, 8:20] = 1.0
    torch.manual_seed(0)
    network = three_layer_cnn(None)

    fit(network, images, truth, Budget(epochs=8, batch=16), rate=3e-3, quiet=True)

    with torch.no_grad():
        logits = network.eval()(torch.from_numpy(images))[:, 0].numpy()
    assert logits[truth].min() > logits[~truth].max()


def test_contenders_are_measured_alike_and_not_twice(data, tmp_path, monkeypatch):
    """Five figures with intervals each; a second run reads what the first has written."""
    budget = Budget(size=32, epochs=1, batch=8)
    names = ["three_layer_cnn", "dilated_cnn"]
    results = compare(data, tmp_path, budget=budget, names=names, draws=20, quiet=True)

    assert [result.name for result in results] == names
    for result in results:
        assert set(result.figures) == set(METRICS)
        assert result.figures["auc"].n == 12
    assert (tmp_path / "comparison.svg").is_file()

    monkeypatch.setattr("training.compare.try_contender", None)
    again = compare(data, tmp_path, budget=budget, names=names, draws=20, quiet=True)
    # By their text, in which an unknown precision equals itself.
    assert str(again) == str(results)
    with pytest.raises(TypeError):
        compare(data, tmp_path, budget=Budget(size=64), names=names, quiet=True)


def test_the_same_seed_gives_the_same_figures(data, tmp_path):
    """A comparison can be done again."""
    budget = Budget(size=32, epochs=1, batch=8)
    results = [
        compare(data, tmp_path / n, budget=budget, names=["three_layer_cnn"], draws=5, quiet=True)
        for n in "ab"
    ]

    assert str(results[0]) == str(results[1])


def test_the_literatures_filter_learns_from_training_images_alone():
    """Test images are rebuilt of the training images' components, and are smoother for it."""
    generator = np.random.default_rng(0)
    train = generator.random((20, 1, 16, 16), np.float32)
    other = generator.random((5, 1, 16, 16), np.float32)

    seen, rebuilt = gaussian_and_pca(train, other)
    with_others, _ = gaussian_and_pca(train, other * 0)

    assert np.array_equal(seen, with_others)
    assert rebuilt.shape == other.shape
    assert np.abs(np.diff(rebuilt, axis=-1)).mean() < 0.5 * np.abs(np.diff(other, axis=-1)).mean()


def test_the_threshold_with_the_best_f1_is_chosen():
    """By hand: from 0.4 on, two hits, one false call and no miss."""
    truth = np.array([False, True, False, True])
    p = np.array([0.1, 0.4, 0.5, 0.9])

    assert best_f1_threshold(truth, p) == 0.4
    assert best_f1_threshold(np.zeros(4, bool), p) == 0.5


def test_the_comparison_is_printed(data, tmp_path, capsys):
    """By the best AUC first."""
    print_comparison(
        compare(
            data,
            tmp_path,
            budget=Budget(size=32, epochs=1, batch=8),
            names=["three_layer_cnn"],
            draws=5,
            quiet=True,
        )
    )

    assert "CNN of three layers" in capsys.readouterr().out
