"""The models of this node: found by their cards, checked, and opened once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

import studies
from studies.errors import ConfigurationError
from studies.model import ModelRef, Region
from studies.settings import Settings
from worker.cards import (
    CARD_FILE,
    MODEL_FILE,
    Card,
    Kind,
    Source,
    check_trunk,
    fingerprint,
    fits,
    load_card,
)
from worker.golden import golden_image
from worker.preprocess import SCHEME, preprocess
from worker.sessions import Device, open_session, provider_of

Array = npt.NDArray[Any]

_NEEDED_OUTPUTS = {
    Kind.TRUNK: (),
    Kind.ROUTER: ("region_logits", "limb_logit"),
    Kind.BONE: ("fracture_logit", "heatmap"),
}


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A card and its open session."""

    card: Card
    session: onnxruntime.InferenceSession

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name; of `inputs`, those that the graph asks for are used."""
        names = [entry.name for entry in self.session.get_inputs()]
        outputs = [entry.name for entry in self.session.get_outputs()]
        values = self.session.run(outputs, {name: inputs[name] for name in names})
        return dict(zip(outputs, values, strict=True))


@dataclass(frozen=True, slots=True, eq=False)
class Models:
    """Everything that reads images on this node.

    Attributes
    ----------
    bones
        By region; of several models for a region the newest of the first name.
    inactive
        Regions whose only model is experimental and was not asked for.
    trunks
        By name and version.
    """

    router: Model
    bones: Mapping[Region, Model]
    inactive: frozenset[Region]
    trunks: Mapping[tuple[str, str], Model]

    @property
    def all(self) -> tuple[Model, ...]:
        """Every open model once: trunks, router, bones."""
        bones = {model.card.name: model for model in self.bones.values()}
        return (*self.trunks.values(), self.router, *bones.values())

    @property
    def refs(self) -> tuple[ModelRef, ...]:
        """What a reading names as its models."""
        return tuple(model.card.ref for model in self.all)

    @property
    def provider(self) -> str:
        """The execution provider that is really used; all models use the same."""
        return provider_of(self.router.session)

    def trunk_of(self, model: Model) -> Model | None:
        """The trunk whose features a model reads; None if it reads pixels."""
        wanted = model.card.input
        if wanted.source is Source.PIXELS:
            return None
        return self.trunks[wanted.trunk or "", wanted.trunk_version or ""]


def models_folder(settings: Settings) -> Path:
    """Where the models lie: the site's folder, or the one that comes with Osteon."""
    if settings.models_dir is not None:
        return settings.models_dir
    return Path(studies.__file__).parents[1] / "models_onnx"


def find_cards(folder: Path) -> tuple[tuple[Path, Card], ...]:
    """Every model of a folder, checked against its digest, by name and version.

    Raises
    ------
    ConfigurationError
        Naming file and key; or the folder, if it holds no model.
    """
    found = [(path.parent, load_card(path.parent)) for path in folder.glob(f"*/*/{CARD_FILE}")]
    if not found:
        raise ConfigurationError(f"no model (<name>/<version>/{CARD_FILE}) lies in {folder}")
    return tuple(sorted(found, key=lambda pair: (pair[1].name, pair[1].order)))


def load_models(settings: Settings, *, threads: int = 1) -> Models:
    """Open the newest version of each model that may speak, and let it prove itself.

    Raises
    ------
    ConfigurationError
        If a card, a digest, a trunk, a device or a golden image is not as it should be.
    """
    folder = models_folder(settings)
    everything = find_cards(folder)
    newest = {card.name: (path, card) for path, card in everything}
    routers = [pair for pair in newest.values() if pair[1].kind is Kind.ROUTER]
    if len(routers) != 1:
        names = ", ".join(card.name for _, card in routers) or "none"
        raise ConfigurationError(f"{folder} must hold one router, not {names}")
    opener = _Opener(everything, settings.device, threads)
    router = opener.open(*routers[0])
    wanted = _asked_for(settings)
    bones: dict[Region, Model] = {}
    inactive: set[Region] = set()
    for path, card in newest.values():
        if card.kind is not Kind.BONE:
            continue
        speaks = [
            r for r in card.regions if r not in bones and (not card.experimental or r in wanted)
        ]
        inactive.update(set(card.regions) - set(speaks))
        if speaks:
            bones.update(dict.fromkeys(speaks, opener.open(path, card)))
    return Models(
        router=router,
        bones=bones,
        inactive=frozenset(inactive - set(bones)),
        trunks=opener.trunks,
    )


class _Opener:
    """Opens models, and each trunk once."""

    def __init__(
        self, everything: tuple[tuple[Path, Card], ...], device: Device, threads: int
    ) -> None:
        self._cards = {(card.name, card.version): (path, card) for path, card in everything}
        self._device = device
        self._threads = threads
        self.trunks: dict[tuple[str, str], Model] = {}

    def open(self, path: Path, card: Card) -> Model:
        """Open one model, with its trunk if it reads features, and check its golden image."""
        key = (card.input.trunk or "", card.input.trunk_version or "")
        trunk_path, trunk_card = self._cards.get(key, (path, None))
        check_trunk(card, trunk_card, origin=str(path / CARD_FILE))
        if card.input.preprocessing != SCHEME:
            raise ConfigurationError(
                f"{path / CARD_FILE}: input.preprocessing: {card.input.preprocessing!r} is not "
                f"known here; this version knows {SCHEME!r}"
            )
        trunk = None
        if card.input.source is Source.FEATURES and trunk_card is not None:
            if key not in self.trunks:
                self.trunks[key] = self._session(trunk_path, trunk_card)
                _prove(self.trunks[key], None, trunk_path)
            trunk = self.trunks[key]
        model = self._session(path, card)
        _prove(model, trunk, path)
        return model

    def _session(self, path: Path, card: Card) -> Model:
        session = open_session(path / MODEL_FILE, device=self._device, threads=self._threads)
        has = {entry.name for entry in session.get_outputs()}
        missing = [name for name in _NEEDED_OUTPUTS[card.kind] if name not in has]
        if missing:
            raise ConfigurationError(f"{path / MODEL_FILE} has no output {', '.join(missing)}")
        return Model(card, session)


def _prove(model: Model, trunk: Model | None, path: Path) -> None:
    """Let a model read its golden image: other numbers mean another model, or a bad device."""
    card = model.card
    try:
        picture = golden_image(card.golden.input)
    except KeyError as error:
        raise ConfigurationError(f"{path / CARD_FILE}: golden.input: {error.args[0]}") from error
    pixels, _ = preprocess(picture, size=card.input.size)
    inputs: dict[str, Array] = {"pixels": pixels}
    outputs = model.run(trunk.run(inputs) if trunk else inputs)
    for name, expected in card.golden.outputs.items():
        found = fingerprint(outputs[name]) if name in outputs else ()
        if not fits(expected, found, card.golden.tolerance):
            raise ConfigurationError(
                f"{path / CARD_FILE}: golden.outputs.{name}: expected {expected}, "
                f"on this machine {tuple(np.round(found, 6))}"
            )


def _asked_for(settings: Settings) -> frozenset[Region]:
    """The regions whose experimental model the site wants to hear."""

    def parsed() -> Iterator[Region]:
        for name in settings.experimental_regions:
            try:
                yield Region(name)
            except ValueError as error:
                known = ", ".join(Region)
                raise ConfigurationError(
                    f"experimental_regions: {name!r} is no region; there are {known}"
                ) from error

    return frozenset(parsed())
