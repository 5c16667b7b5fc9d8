"""A model's card: complete or refused, with the file and the key in the message."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from studies.errors import ConfigurationError
from studies.model import Region
from worker.cards import (
    CARD_FILE,
    MODEL_FILE,
    Calibration,
    Card,
    Kind,
    card_to_toml,
    check_trunk,
    fingerprint,
    fits,
    load_card,
    parse_card,
    write_card,
)

WEIGHTS = b"not a model, but it has a digest"


def values(**changed: Any) -> dict[str, Any]:
    """A complete bone model's card, as a dictionary."""
    card: dict[str, Any] = {
        "name": "bone-leg",
        "version": "1.2.0",
        "kind": "bone",
        "sha256": hashlib.sha256(WEIGHTS).hexdigest(),
        "regions": ["leg"],
        "summary": "Fractures of the lower leg",
        "licence": "Apache-2.0",
        "input": {"source": "pixels", "size": 256, "preprocessing": "letterbox-v1"},
        "labels": [{"name": "fracture", "sensitive": 0.2, "specific": 0.8}],
        "calibration": {"temperature": 1.5, "bias": -0.25},
        "boxes": {"threshold": 0.3, "nms_iou": 0.4},
        "training": {
            "commit": "abc",
            "data": "FracAtlas",
            "recipe": "[model]\nname = 'x'\n\tepochs = 4",
            "seed": 7,
            "split": "by blocks",
        },
        "figures": {"test": {"auc": {"value": 0.9, "low": 0.85, "high": 0.94, "n": 120}}},
        "golden": {"input": "limb-v1", "tolerance": 0.01, "outputs": {"fracture_logit": [0.5]}},
    }
    return {**card, **changed}


def card(**changed: Any) -> Card:
    return Card.model_validate(values(**changed))


def folder_of(root: Path, made: Card) -> Path:
    folder = root / made.name / made.version
    folder.mkdir(parents=True)
    (folder / MODEL_FILE).write_bytes(WEIGHTS)
    return folder


def test_a_card_that_was_written_is_read_back_the_same(tmp_path):
    """What the exporter writes is what the service reads."""
    written = card()
    folder = folder_of(tmp_path, written)

    write_card(written, folder)

    assert load_card(folder) == written


@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_text_survives_the_toml(text):
    """Quotes, control characters and line ends of a recipe or a licence come back as they were."""
    written = card(summary=text, training={**values()["training"], "recipe": text})

    assert parse_card(card_to_toml(written)) == written


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"colour": "red"}, "colour: unknown key"),
        ({"figures": {}}, "figures: missing"),
        (
            {"figures": {"test": {"auc": {"value": 0.9, "low": 0.8, "n": 5}}}},
            "figures.test.auc.high",
        ),
        (
            {"figures": {"test": {"auc": {"value": 0.9, "low": 0.95, "high": 1, "n": 5}}}},
            "figures.test.auc",
        ),
        ({"labels": []}, "labels"),
        ({"labels": [{"name": "fracture", "sensitive": 0.9, "specific": 0.8}]}, "labels.0"),
        ({"regions": ["skull"]}, "regions.0"),
        ({"regions": ["leg", "leg"]}, "regions"),
        ({"sha256": "abc"}, "sha256"),
        ({"version": "latest"}, "version"),
        ({"name": "../bone"}, "name"),
        ({"calibration": {"temperature": 0}}, "calibration.temperature"),
        ({"golden": {"input": "limb-v1", "tolerance": 0.1, "outputs": {}}}, "golden.outputs"),
        (
            {"input": {"source": "features", "size": 256, "preprocessing": "letterbox-v1"}},
            "input: features need trunk",
        ),
    ],
)
def test_a_bad_card_is_refused_with_file_and_key(tmp_path, changed, key):
    """Whoever made the card reads in the message what to mend, and where."""
    folder = tmp_path / "bone-leg" / "1.2.0"
    folder.mkdir(parents=True)
    (folder / MODEL_FILE).write_bytes(WEIGHTS)
    good = card()
    text = card_to_toml(good)
    (folder / CARD_FILE).write_text(text, encoding="utf-8")
    assert load_card(folder) == good
    bad = _as_toml(values(**changed))
    (folder / CARD_FILE).write_text(bad, encoding="utf-8")

    with pytest.raises(ConfigurationError) as refused:
        load_card(folder)

    assert str(folder / CARD_FILE) in str(refused.value)
    assert key in str(refused.value)


def _as_toml(table: dict[str, Any]) -> str:
    """A dictionary as TOML, whether or not it is a card."""
    from worker.cards import _write_table

    lines: list[str] = []
    _write_table(lines, (), table)
    return "\n".join(lines)


def test_weights_that_are_not_the_cards_are_refused(tmp_path):
    """A file that was damaged or exchanged never reads a radiograph."""
    folder = folder_of(tmp_path, card())
    (folder / CARD_FILE).write_text(card_to_toml(card()), encoding="utf-8")
    (folder / MODEL_FILE).write_bytes(WEIGHTS + b"!")

    with pytest.raises(ConfigurationError, match=r"card\.toml: sha256: the card says"):
        load_card(folder)


def test_missing_weights_are_named(tmp_path):
    """A folder without model.onnx is an error about that file."""
    folder = folder_of(tmp_path, card())
    (folder / CARD_FILE).write_text(card_to_toml(card()), encoding="utf-8")
    (folder / MODEL_FILE).unlink()

    with pytest.raises(ConfigurationError, match=r"model\.onnx cannot be read"):
        load_card(folder)


def test_a_card_in_another_models_folder_is_refused(tmp_path):
    """The folder's name is what people activate and roll back: it must not lie."""
    folder = tmp_path / "bone-leg" / "1.3.0"
    folder.mkdir(parents=True)
    (folder / MODEL_FILE).write_bytes(WEIGHTS)
    (folder / CARD_FILE).write_text(card_to_toml(card()), encoding="utf-8")

    with pytest.raises(ConfigurationError, match=r"must lie in bone-leg/1\.2\.0/"):
        load_card(folder)


def trunk_card(**changed: Any) -> Card:
    base = values(name="trunk", kind="trunk", sha256="a" * 64, regions=[], labels=[], figures={})
    base.pop("boxes")
    return Card.model_validate({**base, **changed})


def head_card(**changed: Any) -> Card:
    features = {
        "source": "features",
        "size": 256,
        "preprocessing": "letterbox-v1",
        "trunk": "trunk",
        "trunk_version": "1.2.0",
        "trunk_sha256": "a" * 64,
    }
    return card(input={**features, **changed})


def test_a_head_is_refused_on_another_trunk_than_its_own():
    """Features of other weights would give numbers that mean nothing."""
    check_trunk(head_card(), trunk_card(), origin="card.toml")

    with pytest.raises(ConfigurationError, match=r"card\.toml: input\.trunk_sha256"):
        check_trunk(head_card(trunk_sha256="b" * 64), trunk_card(), origin="card.toml")
    with pytest.raises(ConfigurationError, match=r"card\.toml: input\.trunk: no trunk"):
        check_trunk(head_card(), None, origin="card.toml")
    with pytest.raises(ConfigurationError, match=r"input\.size"):
        check_trunk(head_card(size=224), trunk_card(), origin="card.toml")


def test_a_routers_labels_are_its_regions_and_limb():
    """Thresholds that stand in another order than the logits would be applied to the wrong bone."""
    labels = [{"name": n, "sensitive": 0.5, "specific": 0.5} for n in ("leg", "knee", "limb")]
    base = values(name="router", kind="router", regions=["leg", "knee"], labels=labels)
    base.pop("boxes")
    router = Card.model_validate(base)

    assert router.kind is Kind.ROUTER
    assert router.regions == (Region.LEG, Region.KNEE)
    with pytest.raises(ValueError, match="labels: must be the regions in their order"):
        Card.model_validate({**base, "labels": labels[::-1]})


def test_versions_are_ordered_as_numbers():
    """1.10 is newer than 1.9."""
    assert card(version="1.10.0").order > card(version="1.9.3").order


@given(
    logit=st.floats(-1e6, 1e6),
    step=st.floats(1e-3, 10),
    temperature=st.floats(0.05, 20),
    bias=st.floats(-10, 10),
)
def test_calibration_gives_probabilities_in_the_order_of_the_logits(logit, step, temperature, bias):
    """Calibration moves probabilities, and never turns two cases round."""
    calibration = Calibration(temperature=temperature, bias=bias)
    low, high = calibration.probability(logit), calibration.probability(logit + step)

    assert 0.0 <= low <= high <= 1.0


def test_calibration_is_the_stated_formula():
    """The probability is sigmoid((logit + bias) / temperature)."""
    found = Calibration(temperature=2.0, bias=-1.0).probability(4.0)

    assert found == pytest.approx(1 / (1 + np.exp(-1.5)))


def test_a_golden_output_is_compared_within_its_tolerance():
    """Small outputs count value by value, large ones by their moments; a NaN never fits."""
    large = np.random.default_rng(0).normal(size=(1, 2048, 7, 7))

    assert fingerprint(np.array([[0.25]])) == (0.25,)
    assert len(fingerprint(large)) == 4
    assert fits((100.0,), (100.5,), 0.01)
    assert not fits((0.0,), (0.02,), 0.01)
    assert not fits((0.0,), (float("nan"),), 0.01)
    assert not fits((0.0,), (0.0, 0.0), 0.01)
