"""A model's card: what card.toml must say of a model before we run it. Opens no session.

The card stands beside the weights, ``<models>/<name>/<version>/card.toml`` beside ``model.onnx``.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from studies.errors import ConfigurationError
from studies.model import ModelRef, Region

CARD_FILE = "card.toml"
MODEL_FILE = "model.onnx"
FRACTURE = "fracture"
"""Name of a bone model's one label."""
LIMB = "limb"
"""Name of the router's label for "this is a radiograph of a limb"."""

_WHOLE_OUTPUT = 32  # values; a larger output is compared by its moments


class Kind(StrEnum):
    """What a model is for."""

    TRUNK = "trunk"  # pixels → feature maps, for the heads
    ROUTER = "router"  # which regions are in view, and whether it is a limb at all
    BONE = "bone"  # fracture or not, and where


class Source(StrEnum):
    """What a model reads."""

    PIXELS = "pixels"  # the preprocessed image
    FEATURES = "features"  # a trunk's outputs


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Version = Annotated[str, Field(pattern=r"^\d{1,6}(\.\d{1,6}){0,3}$")]
Text = Annotated[str, Field(min_length=1)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Temperature = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class Input(_Section):
    """What the model reads.

    Attributes
    ----------
    source
        "pixels" or "features".
    size
        Edge of the square input in pixels; for features, of the trunk's input.
    preprocessing
        Name of the scheme in `worker.preprocess`; for features, the trunk's.
    trunk, trunk_version, trunk_sha256
        The trunk whose features are read; all three or none.
    """

    source: Source
    size: Annotated[int, Field(ge=32, le=4096)]
    preprocessing: Text
    trunk: Name | None = None
    trunk_version: Version | None = None
    trunk_sha256: Digest | None = None

    @model_validator(mode="after")
    def _features_name_their_trunk(self) -> Input:
        stated = [self.trunk, self.trunk_version, self.trunk_sha256]
        if self.source is Source.FEATURES and None in stated:
            raise ValueError("features need trunk, trunk_version and trunk_sha256")
        if self.source is Source.PIXELS and stated != [None] * 3:
            raise ValueError("a model that reads pixels has no trunk")
        return self


class Calibration(_Section):
    """How a logit becomes a probability: sigmoid((logit + bias) / temperature)."""

    temperature: Temperature = 1.0
    bias: Number = 0.0

    def probability(self, logit: float) -> float:
        """The calibrated probability, 0 to 1, of a logit."""
        scaled = np.clip((logit + self.bias) / self.temperature, -700.0, 700.0)
        return float(1.0 / (1.0 + np.exp(-scaled)))


class Label(_Section):
    """One thing that the model judges, with its two operating points.

    Attributes
    ----------
    name
        A bone model's is "fracture"; a router's are its regions and "limb".
    sensitive, specific
        On the calibrated probability p. Fracture: p >= specific is positive, p < sensitive is
        negative, between is doubtful. Router: p >= sensitive is in view, and p >= specific is
        so beyond doubt.
    calibration
        This label's own, over the model's.
    """

    name: Text
    sensitive: Probability
    specific: Probability
    calibration: Calibration | None = None

    @model_validator(mode="after")
    def _thresholds_are_ordered(self) -> Label:
        if self.sensitive > self.specific:
            raise ValueError(f"sensitive {self.sensitive} is above specific {self.specific}")
        return self


class BoxRules(_Section):
    """How the boxes of a model are chosen.

    Attributes
    ----------
    threshold
        Of sigmoid(box_logit); a box below it is dropped.
    nms_iou
        Of two boxes that overlap more than this, the less certain one is dropped.
    nms
        Who does that: the exported "graph" already, or the "service".
    most
        At most so many boxes are kept, the most certain ones.
    """

    threshold: Probability
    nms_iou: Probability
    nms: Literal["graph", "service"] = "service"
    most: Annotated[int, Field(ge=1, le=100)] = 5


class Types(_Section):
    """Kinds of fracture, in the order of type_logits [N, T]; probabilities by softmax.

    Attributes
    ----------
    threshold
        A kind less probable than this is not stated.
    """

    names: Annotated[tuple[Text, ...], Field(min_length=1)]
    threshold: Probability = 0.5


class Training(_Section):
    """Where the weights come from.

    Attributes
    ----------
    recipe
        The recipe's TOML text, or its name and digest.
    split
        What was kept apart from what, and how.
    """

    commit: Text
    data: Text
    recipe: Text
    seed: int
    split: Text


class Figure(_Section):
    """A measured figure with its 95 % interval.

    Attributes
    ----------
    n
        How many images or studies it was measured on.
    """

    value: Number
    low: Number
    high: Number
    n: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _value_lies_in_its_interval(self) -> Figure:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"{self.value} is not between {self.low} and {self.high}")
        return self


class Golden(_Section):
    """What the model must say of a made-up image, on every machine.

    Attributes
    ----------
    input
        Name of the image in `worker.golden`.
    tolerance
        Largest allowed difference, relative to the larger of 1 and the expected value.
    outputs
        `fingerprint` of each output that is checked, by its name.
    """

    input: Text
    tolerance: Annotated[float, Field(gt=0.0, le=1.0)]
    outputs: Annotated[dict[str, tuple[Number, ...]], Field(min_length=1)]


class Card(_Section):
    """Everything that a model says of itself. Once built, it is complete and consistent.

    Attributes
    ----------
    sha256
        Digest of model.onnx.
    regions
        A bone model's: those it may read. A router's: those it knows. A trunk's: none.
    experimental
        The evidence is too thin to rely on; off unless the site asks for it.
    labels
        A router's: the regions in the order of region_logits, then "limb".
    figures
        By data set, then by metric.
    """

    name: Name
    version: Version
    kind: Kind
    sha256: Digest
    regions: tuple[Region, ...] = ()
    experimental: bool = False
    summary: Text
    licence: Text
    input: Input
    labels: tuple[Label, ...] = ()
    calibration: Calibration = Calibration()
    boxes: BoxRules | None = None
    types: Types | None = None
    training: Training
    figures: dict[str, dict[str, Figure]] = {}
    golden: Golden

    @model_validator(mode="after")
    def _sections_fit_the_kind(self) -> Card:
        for problem in _problems(self):
            raise ValueError(problem)
        return self

    @property
    def ref(self) -> ModelRef:
        """The model's name in a reading."""
        return ModelRef(
            name=self.name, version=self.version, sha256=self.sha256, kind=self.kind.value
        )

    @property
    def order(self) -> tuple[int, ...]:
        """The version as numbers, so that 1.10 comes after 1.9."""
        return tuple(int(part) for part in self.version.split("."))

    def label(self, name: str) -> Label:
        """The label of that name.

        Raises
        ------
        KeyError
            If the card has none.
        """
        for label in self.labels:
            if label.name == name:
                return label
        raise KeyError(f"{self.name} {self.version} has no label {name!r}")

    def probability(self, label: Label, logit: float) -> float:
        """The calibrated probability, 0 to 1, of a label's logit."""
        return (label.calibration or self.calibration).probability(logit)


def _problems(card: Card) -> Iterable[str]:
    """What contradicts itself in a card, each naming the key."""
    names = [label.name for label in card.labels]
    if card.kind is Kind.TRUNK:
        if card.input.source is not Source.PIXELS:
            yield "input.source: a trunk reads pixels"
        if card.labels or card.regions:
            yield "labels: a trunk judges nothing, so it has neither labels nor regions"
        return
    if not card.regions:
        yield f"regions: a {card.kind} needs at least one"
    if len(set(card.regions)) != len(card.regions):
        yield "regions: one is named twice"
    if not any(card.figures.values()):
        yield f"figures: missing; a {card.kind} states at least one measured figure"
    if card.kind is Kind.ROUTER:
        wanted = [*(region.value for region in card.regions), LIMB]
        if names != wanted:
            yield f"labels: must be the regions in their order, then {LIMB!r}, not {names}"
        if card.boxes or card.types:
            yield "boxes: a router finds no fractures"
    elif names != [FRACTURE]:
        yield f"labels: a bone model has the one label {FRACTURE!r}, not {names}"


def fingerprint(output: npt.NDArray[Any]) -> tuple[float, ...]:
    """What an output is compared by: its values, or if they are many, its moments.

    Returns
    -------
    tuple of float
        Up to 32 values as they are; else mean, standard deviation, lowest and highest value.
    """
    values = np.asarray(output, dtype=np.float64).ravel()
    if values.size <= _WHOLE_OUTPUT:
        return tuple(float(value) for value in values)
    moments = (values.mean(), values.std(), values.min(), values.max())
    return tuple(float(value) for value in moments)


def fits(expected: tuple[float, ...], found: tuple[float, ...], tolerance: float) -> bool:
    """Whether two fingerprints are the same within `Golden.tolerance`."""
    if len(expected) != len(found):
        return False
    # Written so that a NaN never fits.
    return all(
        abs(a - b) <= tolerance * max(1.0, abs(a)) for a, b in zip(expected, found, strict=True)
    )


def parse_card(text: str, *, origin: str = CARD_FILE) -> Card:
    """Read a card's TOML text.

    Parameters
    ----------
    origin
        File to name in errors.

    Raises
    ------
    ConfigurationError
        Naming file and key.
    """
    try:
        return Card.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{origin} is not valid TOML: {error}") from error
    except ValidationError as error:
        raise ConfigurationError(_told(error, origin)) from error


def load_card(folder: Path) -> Card:
    """Read and check the card of a model's folder: its place, and the digest of the weights.

    Raises
    ------
    ConfigurationError
        Naming file and key.
    """
    path = folder / CARD_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    card = parse_card(text, origin=str(path))
    if (folder.parent.name, folder.name) != (card.name, card.version):
        raise ConfigurationError(
            f"{path}: name, version: {card.name} {card.version} must lie in "
            f"{card.name}/{card.version}/"
        )
    found = file_sha256(folder / MODEL_FILE)
    if found != card.sha256:
        raise ConfigurationError(
            f"{path}: sha256: the card says {card.sha256}, {MODEL_FILE} has {found}"
        )
    return card


def check_trunk(card: Card, trunk: Card | None, *, origin: str) -> None:
    """Refuse a head that was trained on another trunk than the one we have.

    Raises
    ------
    ConfigurationError
        Naming file and key.
    """
    wanted = card.input
    if wanted.source is Source.PIXELS:
        return
    name = f"{wanted.trunk} {wanted.trunk_version}"
    if trunk is None or trunk.kind is not Kind.TRUNK:
        raise ConfigurationError(f"{origin}: input.trunk: no trunk {name} is here")
    if trunk.sha256 != wanted.trunk_sha256:
        raise ConfigurationError(
            f"{origin}: input.trunk_sha256: made for {wanted.trunk_sha256}, "
            f"trunk {name} here has {trunk.sha256}"
        )
    ours = (wanted.size, wanted.preprocessing)
    theirs = (trunk.input.size, trunk.input.preprocessing)
    if ours != theirs:
        raise ConfigurationError(
            f"{origin}: input.size, input.preprocessing: {ours} differ from trunk {name}: {theirs}"
        )


def file_sha256(path: Path) -> str:
    """Digest of a file, 64 hexadecimal digits.

    Raises
    ------
    ConfigurationError
        If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error


def card_to_toml(card: Card) -> str:
    """The card as TOML text, which `parse_card` reads back to the same card."""
    lines: list[str] = []
    _write_table(lines, (), card.model_dump(mode="json", exclude_none=True))
    return "\n".join(lines).strip() + "\n"


def write_card(card: Card, folder: Path) -> Path:
    """Write a card into its model's folder and read it back.

    Raises
    ------
    ConfigurationError
        If what was written is not what the folder holds (place, digest of model.onnx).
    """
    path = folder / CARD_FILE
    path.write_text(card_to_toml(card), encoding="utf-8")
    load_card(folder)
    return path


def _write_table(lines: list[str], keys: tuple[str, ...], table: Mapping[str, Any]) -> None:
    """Values first, then tables: in TOML a value after a table would belong to that table."""
    for key, value in table.items():
        if not _is_table(value):
            lines.append(f"{_key(key)} = {_value(value)}")
    for key, value in table.items():
        inner = (*keys, key)
        title = ".".join(_key(part) for part in inner)
        if isinstance(value, dict):
            lines += ["", f"[{title}]"]
            _write_table(lines, inner, value)
        elif _is_table(value):
            for item in value:
                lines += ["", f"[[{title}]]"]
                _write_table(lines, inner, item)


def _is_table(value: Any) -> bool:
    is_list_of_tables = isinstance(value, list) and bool(value) and isinstance(value[0], dict)
    return isinstance(value, dict) or is_list_of_tables


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_value(item) for item in value)}]"
    if isinstance(value, str) and "\n" in value and _is_plain(value):
        # A recipe stays readable; the newline after the opening quotes is not part of it.
        return f"'''\n{value}'''"
    # JSON's numbers, booleans and strings are TOML's, apart from DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _is_plain(text: str) -> bool:
    """Whether a text may stand in a TOML literal as it is."""
    return "'''" not in text and all(
        line.isprintable() for line in text.replace("\t", " ").split("\n")
    )


def _told(error: ValidationError, origin: str) -> str:
    """One line per problem: file, key, what is wrong."""
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "unknown key"
        elif problem["type"] == "missing":
            message = "missing"
        lines.append(f"{origin}: {key}: {message}" if key else f"{origin}: {message}")
    return "\n".join(lines)
