"""Out-of-fold figures: no image is judged by heads that have seen its block."""

import numpy as np
import pytest

from tests.unit.training.made_models import make_data
from training.folds import Selected, main, out_of_fold
from training.heads import Features
from training.network import REGIONS, TINY
from training.samples import Sample

RECIPE = """
name = "tiny"
size = 64
[heads]
size = 64
epochs = 1
batch = 4
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE)
    return path


def test_selected_rows_are_read_by_their_new_numbers():
    """Row 0 of a selection is the first that was selected."""
    layer3 = np.arange(5, dtype=np.float16).reshape(5, 1, 1, 1)
    some = Selected(Features(layer3, layer3 + 10), np.array([4, 1]))

    first, second = some.at([1, 0])

    assert first.ravel().tolist() == [1, 4]
    assert second.ravel().tolist() == [11, 14]


def test_every_image_is_judged_once_by_heads_that_have_not_seen_its_block(
    tmp_path, recipe, monkeypatch
):
    """What is trained on and what is asked about share no block, and together they are all."""
    data = make_data(tmp_path / "set")
    seen: list[set[str]] = []

    def remember(network, features, samples: list[Sample], **_) -> None:
        assert len(samples) == len(features.rows)
        seen.append({str(row // 3) for row in features.rows})

    monkeypatch.setattr("training.folds.train_heads", remember)
    found = out_of_fold(recipe, data, tmp_path / "out", folds=3, shape=TINY, draws=5)

    everything = {str(block) for block in range(8)}
    held = [everything - blocks for blocks in seen]
    assert sorted(b for blocks in held for b in blocks) == sorted(everything)
    by_name = {row.name: row for row in found}
    assert set(by_name) == {*REGIONS, "pooled"}
    assert by_name["pooled"].auc.n == 24
    assert by_name["pooled"].positives == 8
    assert by_name["elbow"].positives == 4
    assert np.isnan(by_name["hip"].auc.value)


def test_folds_that_are_done_are_not_done_again(tmp_path, recipe, monkeypatch):
    """A run that was stopped goes on, and gives the same figures."""
    data = make_data(tmp_path / "set")
    first = out_of_fold(recipe, data, tmp_path / "out", folds=2, shape=TINY, draws=5)
    monkeypatch.setattr("training.folds.train_heads", None)

    again = out_of_fold(recipe, data, tmp_path / "out", folds=2, shape=TINY, draws=5)

    assert str(again) == str(first)


def test_the_table_is_printed(tmp_path, recipe, monkeypatch, capsys):
    """A row per region, with its fractures and its interval."""
    data = make_data(tmp_path / "set")
    monkeypatch.setattr("training.folds.start_network", _tiny)

    main([str(recipe), "--data", str(data), "--out", str(tmp_path / "out"), "--folds", "2"])

    assert "hand_wrist" in capsys.readouterr().out


def _tiny(recipe, start, shape):
    from training.train import start_network

    return start_network(recipe, start, TINY)
