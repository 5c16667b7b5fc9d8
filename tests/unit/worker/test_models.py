"""The registry: which models speak, both shapes, and each model's proof that it is itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from studies.errors import ConfigurationError
from studies.model import Region
from studies.settings import Settings
from tests.support.tiny_models import tiny_models
from worker.cards import CARD_FILE, MODEL_FILE, card_to_toml, file_sha256, load_card
from worker.inference import ImageInput
from worker.models import ACTIVATION_FILE, load_models
from worker.pixels import DisplayedImage


def settings(folder: Path, **changed: object) -> Settings:
    return Settings.model_validate(
        {"data_dir": folder / "data", "models_dir": folder / "models", "device": "cpu", **changed}
    )


def activate(folder: Path, text: str) -> None:
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / ACTIVATION_FILE).write_text(text, encoding="utf-8")


def copy_as(folder: Path, name: str, version: str, **changed: object) -> None:
    """The leg's model again, under another name or version."""
    source = folder / "models" / "bone-leg" / "1.0.0"
    target = folder / "models" / name / version
    target.mkdir(parents=True)
    (target / MODEL_FILE).write_bytes((source / MODEL_FILE).read_bytes())
    card = load_card(source).model_copy(update={"name": name, "version": version, **changed})
    (target / CARD_FILE).write_text(card_to_toml(card), encoding="utf-8")


@pytest.mark.parametrize("through_trunk", [True, False])
def test_both_shapes_of_models_are_opened(tmp_path, through_trunk):
    """Heads on one trunk, and whole networks that read pixels."""
    tiny_models(tmp_path / "models", through_trunk=through_trunk)
    models = load_models(settings(tmp_path))

    assert set(models.bones) == {Region.HAND_WRIST, Region.LEG}
    assert models.provider == "CPUExecutionProvider"
    names = [ref.name for ref in models.refs]
    trunk = ["trunk"] if through_trunk else []
    assert names == [*trunk, "router", "bone-hand-wrist", "bone-leg"]


def test_a_trunk_runs_once_for_an_image(tmp_path, monkeypatch):
    """However many heads read its features."""
    tiny_models(tmp_path / "models")
    models = load_models(settings(tmp_path))
    (trunk,) = models.trunks.values()
    runs: list[object] = []
    original = type(trunk).run

    def counted(self, inputs):
        if self is trunk:
            runs.append(inputs)
        return original(self, inputs)

    monkeypatch.setattr(type(trunk), "run", counted)
    pixels = np.linspace(0, 1, 128 * 128, dtype=np.float32).reshape(128, 128)
    given = ImageInput(models, DisplayedImage(pixels=pixels))
    for model in (models.router, *models.bones.values()):
        given.run(model)

    assert len(runs) == 1


def test_the_newest_version_speaks(tmp_path):
    """By number, not by spelling."""
    tiny_models(tmp_path / "models")
    copy_as(tmp_path, "bone-leg", "1.9.0")
    copy_as(tmp_path, "bone-leg", "1.10.0")

    assert load_models(settings(tmp_path)).bones[Region.LEG].card.version == "1.10.0"


def test_a_site_can_go_back_to_an_older_version_or_turn_a_model_off(tmp_path):
    """By a file of its own, which an upgrade does not touch."""
    tiny_models(tmp_path / "models")
    copy_as(tmp_path, "bone-leg", "2.0.0")
    activate(tmp_path, 'off = ["bone-hand-wrist"]\n[versions]\nbone-leg = "1.0.0"\n')
    models = load_models(settings(tmp_path))

    assert set(models.bones) == {Region.LEG}
    assert models.bones[Region.LEG].card.version == "1.0.0"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('off = ["bone-arm"]', "no model bone-arm is here"),
        ('[versions]\nbone-leg = "9.9"', r"versions\.bone-leg: version 9\.9 is not here"),
        ("on = true", "on: unknown key"),
        ("off = 3", "off: must be a list"),
        ('versions = ["1"]', "versions: must be a table"),
        ("off = [", "cannot be read"),
        ('off = ["router"]', "one router"),
    ],
)
def test_a_choice_that_cannot_be_met_is_refused(tmp_path, text, message):
    """Rather than another model speaking in its place."""
    tiny_models(tmp_path / "models")
    activate(tmp_path, text)

    with pytest.raises(ConfigurationError, match=message):
        load_models(settings(tmp_path))


def test_an_experimental_model_speaks_only_where_it_was_asked_for(tmp_path):
    """Too little evidence is off by default."""
    tiny_models(tmp_path / "models", experimental=True)
    silent = load_models(settings(tmp_path))
    asked = load_models(settings(tmp_path, experimental_regions=["leg"]))

    assert silent.bones == {}
    assert silent.inactive == {Region.HAND_WRIST, Region.LEG}
    assert set(asked.bones) == {Region.LEG}
    with pytest.raises(ConfigurationError, match="experimental_regions: 'tail' is no region"):
        load_models(settings(tmp_path, experimental_regions=["tail"]))


def test_two_models_with_the_same_claim_are_for_the_site_to_decide(tmp_path):
    """Neither is chosen by chance; one for fewer regions or with more evidence goes first."""
    tiny_models(tmp_path / "models")
    copy_as(tmp_path, "other-leg", "1.0.0")
    with pytest.raises(ConfigurationError, match="bone-leg and other-leg both read the leg"):
        load_models(settings(tmp_path))

    activate(tmp_path, 'off = ["bone-leg"]')
    assert load_models(settings(tmp_path)).bones[Region.LEG].card.name == "other-leg"


def test_a_specialist_goes_before_a_generalist(tmp_path):
    """A model for the whole lower limb leaves the leg to the leg's own."""
    tiny_models(tmp_path / "models")
    copy_as(tmp_path, "a-lower-limb", "1.0.0", regions=(Region.LEG, Region.ANKLE))
    bones = load_models(settings(tmp_path)).bones

    assert bones[Region.LEG].card.name == "bone-leg"
    assert bones[Region.ANKLE].card.name == "a-lower-limb"


def test_a_model_that_answers_otherwise_than_its_golden_image_is_refused(tmp_path):
    """The digest is right, the numbers are not: a bad device, or a card of other weights."""
    tiny_models(tmp_path / "models")
    folder = tmp_path / "models" / "bone-leg" / "1.0.0"
    card = load_card(folder)
    outputs = {**card.golden.outputs, "fracture_logit": (3.9,)}
    golden = card.golden.model_copy(update={"outputs": outputs})
    changed = card.model_copy(update={"golden": golden})
    (folder / CARD_FILE).write_text(card_to_toml(changed), encoding="utf-8")

    with pytest.raises(ConfigurationError, match=r"golden\.outputs\.fracture_logit: expected"):
        load_models(settings(tmp_path))


def test_weights_that_are_no_network_are_refused(tmp_path):
    """With the file in the message."""
    tiny_models(tmp_path / "models")
    folder = tmp_path / "models" / "router" / "1.0.0"
    card = load_card(folder)
    (folder / MODEL_FILE).write_bytes(b"no network")
    changed = card.model_copy(update={"sha256": file_sha256(folder / MODEL_FILE)})
    (folder / CARD_FILE).write_text(card_to_toml(changed), encoding="utf-8")

    with pytest.raises(ConfigurationError, match=r"router/1\.0\.0/model\.onnx cannot be run"):
        load_models(settings(tmp_path))


def test_a_network_without_a_needed_output_is_refused(tmp_path):
    """A bone model without a heat map shows nobody why."""
    tiny_models(tmp_path / "models")
    folder = tmp_path / "models" / "bone-leg" / "1.0.0"
    network = onnx.load(folder / MODEL_FILE)
    kept = [output for output in network.graph.output if output.name != "heatmap"]
    del network.graph.output[:]
    network.graph.output.extend(kept)
    onnx.save(network, folder / MODEL_FILE)
    changed = load_card_as_is(folder).model_copy(
        update={"sha256": file_sha256(folder / MODEL_FILE)}
    )
    (folder / CARD_FILE).write_text(card_to_toml(changed), encoding="utf-8")

    with pytest.raises(ConfigurationError, match="has no output heatmap"):
        load_models(settings(tmp_path))


def load_card_as_is(folder: Path):
    """A card whose digest does not fit its weights any more."""
    from worker.cards import parse_card

    return parse_card((folder / CARD_FILE).read_text(encoding="utf-8"))


def test_a_device_that_is_configured_and_not_used_is_an_error(tmp_path):
    """No silent run on the CPU; "auto" takes what is there, and says which."""
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("needs the ONNX Runtime for CPUs: pip install onnxruntime")
    tiny_models(tmp_path / "models")

    with pytest.raises(ConfigurationError, match="device is set to cuda, but ONNX Runtime uses"):
        load_models(settings(tmp_path, device="cuda"))
    assert load_models(settings(tmp_path, device="auto")).provider == "CPUExecutionProvider"


def test_a_folder_without_models_is_named(tmp_path):
    """An empty folder, or the wrong one."""
    (tmp_path / "models").mkdir()

    with pytest.raises(ConfigurationError, match=r"no model .* lies in .*models"):
        load_models(settings(tmp_path))
