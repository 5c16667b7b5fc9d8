"""A training run as data: one TOML file, kept in the card of what it made."""

import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from training.augment import Strength
from training.losses import Weights


class RecipeError(ValueError):
    """A recipe that cannot be followed; names the file and the key."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Heads:
    """Training of the heads on the frozen trunk, which comes first.

    Attributes
    ----------
    size
        Edge of the input, pixels.
    negatives
        Pictures made up that are no limb radiographs.
    oversample
        How many times an image with a box is shown per epoch.
    """

    size: int = 320
    epochs: int = 4
    batch: int = 32
    rate: float = 2e-3
    negatives: int = 400
    oversample: float = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuning:
    """Training of trunk and heads together; left out when `steps` and `minutes` are 0.

    Attributes
    ----------
    sizes
        Edges of the input, pixels; one is drawn per batch.
    steps
        Batches in all; 0 where `minutes` decides.
    minutes
        Time in all, over every resumption; 0 where `steps` decides.
    rate, trunk_rate
        Highest learning rates of heads and trunk.
    warm_up
        Share of the run in which the rates rise.
    average
        Decay per step of the averaged weights, which are what is exported.
    fractured, negative
        Shares of a batch: fractured images, and pictures that are no limb radiographs.
    checkpoint_minutes, validate_minutes
        How often each is done.
    """

    sizes: tuple[int, ...] = (224, 256, 288)
    steps: int = 0
    minutes: float = 0.0
    batch: int = 16
    rate: float = 5e-4
    trunk_rate: float = 7e-5
    weight_decay: float = 0.03
    smoothing: float = 0.02
    warm_up: float = 0.05
    average: float = 0.996
    fractured: float = 0.4
    negative: float = 0.05
    checkpoint_minutes: float = 4.0
    validate_minutes: float = 20.0
    patience: int = 0  # validations without gain after which it stops; 0: never


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Everything that decides what a run makes, with the data and the starting weights."""

    name: str
    summary: str = ""
    seed: int = 0
    size: int = 320  # edge of the exported models' input, pixels
    heads: Heads = field(default_factory=Heads)
    tuning: Tuning = field(default_factory=Tuning)
    weights: Weights = field(default_factory=Weights)
    augment: Strength = field(default_factory=Strength)

    def __post_init__(self) -> None:
        for size in (self.size, self.heads.size, *self.tuning.sizes):
            if size <= 0 or size % 32:
                raise RecipeError(f"recipe {self.name}: size {size} is no multiple of 32")


_TABLES = {"heads": Heads, "tuning": Tuning, "weights": Weights, "augment": Strength}


def read_recipe(path: Path) -> Recipe:
    """Read a recipe; an unknown key is an error.

    Raises
    ------
    RecipeError
        If the file is missing, is not TOML, or a key is unknown or of the wrong type.
    """
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except FileNotFoundError as error:
        raise RecipeError(f"{path}: not found") from error
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path}: {error}") from error
    values: dict[str, Any] = {}
    for key, value in document.items():
        if key in _TABLES:
            values[key] = _build(_TABLES[key], value, f"{path}, [{key}]")
        else:
            values[key] = value
    built = _build(Recipe, values, str(path))
    assert isinstance(built, Recipe)
    return built


def _build(kind: type[Any], values: Any, where: str) -> Any:
    """A dataclass of a table, with the key named when it does not fit."""
    if not isinstance(values, dict):
        raise RecipeError(f"{where}: not a table")
    known = {f.name: f for f in fields(kind)}
    ready: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            raise RecipeError(f"{where}: unknown key {key!r}")
        ready[key] = tuple(value) if isinstance(value, list) else value
    try:
        return kind(**ready)
    except TypeError as error:
        raise RecipeError(f"{where}: {error}") from error
