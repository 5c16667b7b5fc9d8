"""The models of this node: found by their cards, checked, and opened once."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnxruntime
import structlog

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
_log = structlog.get_logger()

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
        By region: the model that speaks for it.
    inactive
        Regions that only an experimental model reads which was not asked for.
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
        return (*self.trunks.values(), self.router, *(bones[name] for name in sorted(bones)))

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Activation:
    """Which models a site lets speak, where it is not simply the newest version of each.

    Attributes
    ----------
    versions
        By model name.
    off
        Names of models that must not speak.
    """

    versions: Mapping[str, str] = field(default_factory=dict)
    off: frozenset[str] = frozenset()


ACTIVATION_FILE = "active-models.toml"
"""In the data directory, since it is the site's decision and not the package's."""


def load_activation(path: Path) -> Activation:
    """Read a site's choice of models; everything is on where there is no such file.

    ::

        off = ["bone-hip"]

        [versions]
        bone-elbow = "1.0.0"

    Raises
    ------
    ConfigurationError
        Naming file and key.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Activation()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    versions, off = values.pop("versions", {}), values.pop("off", [])
    if values:
        raise ConfigurationError(f"{path}: {', '.join(values)}: unknown key")
    if not isinstance(versions, dict) or not all(isinstance(v, str) for v in versions.values()):
        raise ConfigurationError(f"{path}: versions: must be a table of versions by model name")
    if not isinstance(off, list) or not all(isinstance(name, str) for name in off):
        raise ConfigurationError(f"{path}: off: must be a list of model names")
    return Activation(versions=versions, off=frozenset(off))


def active_cards(
    everything: Iterable[tuple[Path, Card]], activation: Activation, *, origin: str
) -> tuple[tuple[Path, Card], ...]:
    """One version of each model that may speak: the chosen one, or the newest.

    Parameters
    ----------
    everything
        By name, then by version in rising order.
    origin
        File that the activation comes from, to be named in errors.

    Raises
    ------
    ConfigurationError
        If a model or version was chosen that is not here.
    """
    known = list(everything)
    names = {card.name for _, card in known}
    for name in sorted({*activation.versions, *activation.off} - names):
        raise ConfigurationError(f"{origin}: no model {name} is here")
    chosen: dict[str, tuple[Path, Card]] = {}
    for path, card in known:
        if activation.versions.get(card.name, card.version) == card.version:
            chosen[card.name] = (path, card)
    for name in sorted(names - set(chosen)):
        raise ConfigurationError(
            f"{origin}: versions.{name}: version {activation.versions[name]} is not here"
        )
    return tuple(pair for name, pair in chosen.items() if name not in activation.off)


def speakers(
    bones: Iterable[tuple[Path, Card]], asked_for: frozenset[Region]
) -> dict[Region, tuple[Path, Card]]:
    """Which model speaks for which region.

    A model that is not experimental goes before one that is, and one made for fewer regions
    before one made for more. An experimental model speaks only where it was asked for.

    Raises
    ------
    ConfigurationError
        If two models have the same claim to a region: that is for the site to decide.
    """
    found: dict[Region, tuple[Path, Card]] = {}
    for path, card in sorted(bones, key=lambda pair: (*_claim(pair[1]), pair[1].name)):
        for region in card.regions:
            if card.experimental and region not in asked_for:
                continue
            if region not in found:
                found[region] = (path, card)
            elif _claim(found[region][1]) == _claim(card):
                raise ConfigurationError(
                    f"{found[region][1].name} and {card.name} both read the {region}: "
                    f"turn one of them off in {ACTIVATION_FILE} of the data directory"
                )
    return found


def _claim(card: Card) -> tuple[bool, int]:
    """How good a model's claim to a region is; the lower the better."""
    return (card.experimental, len(card.regions))


def load_models(settings: Settings, *, threads: int = 1) -> Models:
    """Open the models that may speak, and let each prove itself.

    Raises
    ------
    ConfigurationError
        If a card, a digest, a trunk, a device or a golden image is not as it should be.
    """
    folder = models_folder(settings)
    everything = find_cards(folder)
    choice = settings.data_dir / ACTIVATION_FILE
    active = active_cards(everything, load_activation(choice), origin=str(choice))
    routers = [pair for pair in active if pair[1].kind is Kind.ROUTER]
    if len(routers) != 1:
        names = ", ".join(card.name for _, card in routers) or "none"
        raise ConfigurationError(f"{folder} must hold one router that is on, not {names}")
    opener = _Opener(everything, settings.device, threads)
    router = opener.open(*routers[0])
    cards = [pair for pair in active if pair[1].kind is Kind.BONE]
    speaking = speakers(cards, _asked_for(settings))
    opened = {card.name: opener.open(path, card) for path, card in speaking.values()}
    bones = {region: opened[card.name] for region, (_, card) in speaking.items()}
    silent = {region for _, card in cards for region in card.regions} - set(bones)
    models = Models(router=router, bones=bones, inactive=frozenset(silent), trunks=opener.trunks)
    _log.info("models opened", provider=models.provider, device=settings.device)
    return models


class _Opener:
    """Opens models, and each trunk once."""

    def __init__(
        self, everything: tuple[tuple[Path, Card], ...], device: Device, threads: int
    ) -> None:
        self._cards = {(card.name, card.version): (path, card) for path, card in everything}
        self._device = device
        self._threads = threads
        self.trunks: dict[tuple[str, str], Model] = {}
        self._golden_features: dict[tuple[str, str], dict[str, Array]] = {}

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
                self._prove(self.trunks[key], None, trunk_path)
            trunk = self.trunks[key]
        model = self._session(path, card)
        self._prove(model, trunk, path)
        return model

    def _prove(self, model: Model, trunk: Model | None, path: Path) -> None:
        """Let a model read its golden image: other numbers mean another model, or a bad device."""
        card = model.card
        given = self._golden_input(card, path)
        if trunk is not None:
            key = (trunk.card.sha256, card.golden.input)
            if key not in self._golden_features:
                self._golden_features[key] = trunk.run(given)
            given = self._golden_features[key]
        outputs = model.run(given)
        for name, expected in card.golden.outputs.items():
            found = fingerprint(outputs[name]) if name in outputs else ()
            if not fits(expected, found, card.golden.tolerance):
                raise ConfigurationError(
                    f"{path / CARD_FILE}: golden.outputs.{name}: expected {expected}, "
                    f"on this machine {tuple(round(value, 6) for value in found)}"
                )

    def _golden_input(self, card: Card, path: Path) -> dict[str, Array]:
        try:
            picture = golden_image(card.golden.input)
        except KeyError as error:
            raise ConfigurationError(
                f"{path / CARD_FILE}: golden.input: {error.args[0]}"
            ) from error
        pixels, _ = preprocess(picture, size=card.input.size)
        return {"pixels": pixels}

    def _session(self, path: Path, card: Card) -> Model:
        session = open_session(path / MODEL_FILE, device=self._device, threads=self._threads)
        has = {entry.name for entry in session.get_outputs()}
        missing = [name for name in _NEEDED_OUTPUTS[card.kind] if name not in has]
        if missing:
            raise ConfigurationError(f"{path / MODEL_FILE} has no output {', '.join(missing)}")
        return Model(card, session)


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
