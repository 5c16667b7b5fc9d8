"""The exported models of a folder, run together on batches of radiographs.

Reads model folders as the service does and keeps raw outputs: what they are worth, and where a
band begins, is asked of the cards afterwards.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from studies.errors import ConfigurationError
from training.metrics import Calibration, Thresholds
from worker.cards import CARD_FILE, MODEL_FILE, Card, Kind, Source, check_trunk, load_card
from worker.preprocess import Letterbox, preprocess

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFile:
    """One model folder: its card, and where its network is."""

    folder: Path
    card: Card

    @property
    def name(self) -> str:
        """Name that the card bears."""
        return self.card.name

    @property
    def path(self) -> Path:
        """The network's file."""
        return self.folder / MODEL_FILE

    @property
    def regions(self) -> tuple[str, ...]:
        """Regions of the card, as plain words."""
        return tuple(str(region) for region in self.card.regions)

    @property
    def box_threshold(self) -> float:
        """Score, 0 to 1, below which a box is dropped."""
        return self.card.boxes.threshold if self.card.boxes else 0.5

    def thresholds(self, label: str) -> Thresholds:
        """Operating points of a label."""
        found = self.card.label(label)
        return Thresholds(sensitive=found.sensitive, specific=found.specific)

    def probabilities(self, label: str, logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Calibrated probabilities, 0 to 1, of a label's logits."""
        rule = self.card.label(label).calibration or self.card.calibration
        return Calibration(temperature=rule.temperature, bias=rule.bias)(logits)


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Answers:
    """Raw outputs of all models on a batch of N images.

    Attributes
    ----------
    region_logits, limb_logits
        [N, R] in the order of the router's regions, and [N].
    fracture_logits
        [N, B], one per bone model.
    peaks
        [N, B, 2] (x, y) of the middle of the heat map's hottest cell, in pixels of the image.
    boxes, box_logits
        [N, B, K, 4] in pixels of the image, and [N, B, K]; -inf where there is no box.
    """

    region_logits: Floats
    limb_logits: Floats
    fracture_logits: Floats
    peaks: Floats
    boxes: Floats
    box_logits: Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """The models that judge: what their cards say is needed to understand their answers."""

    router: ModelFile
    bones: tuple[ModelFile, ...]


class Suite:
    """A router, the bone models, and the trunk that they share, ready to run.

    Parameters
    ----------
    models_dir
        ``<name>/<version>/{model.onnx,card.toml}``; of each name the newest version is taken.
    threads
        Intra-operator threads per network.

    Raises
    ------
    ConfigurationError
        If there is no router or no bone model, or a card lacks something; names file and key.
    """

    most_boxes = 48
    """Boxes kept of each bone model and image, the surest."""

    def __init__(self, models_dir: Path, *, threads: int = 2) -> None:
        found = newest_models(models_dir)
        routers = [model for model in found if model.card.kind is Kind.ROUTER]
        bones = tuple(model for model in found if model.card.kind is Kind.BONE)
        self._trunks = {model.name: model for model in found if model.card.kind is Kind.TRUNK}
        if len(routers) != 1 or not bones:
            raise ConfigurationError(
                f"{models_dir}: {len(routers)} routers and {len(bones)} bone models; "
                "one router and at least one bone model are needed"
            )
        self.panel = Panel(router=routers[0], bones=bones)
        for model in (routers[0], *bones):
            trunk = self._trunks.get(model.card.input.trunk or "")
            origin = str(model.folder / CARD_FILE)
            check_trunk(model.card, None if trunk is None else trunk.card, origin=origin)
        self._sessions = {model.name: _session(model.path, threads) for model in found}

    @property
    def models(self) -> list[ModelFile]:
        """Every model, trunk first."""
        return [*self._trunks.values(), self.panel.router, *self.panel.bones]

    def digest(self) -> str:
        """Of all the networks' files: what predictions are cached under."""
        total = hashlib.sha256()
        for model in self.models:
            total.update(model.path.read_bytes())
        return total.hexdigest()

    def run(self, images: Sequence[NDArray[np.float32]]) -> Answers:
        """Outputs of every model on images [rows, columns] of any size, bone bright."""
        inputs: dict[int, tuple[Floats, list[Letterbox]]] = {}
        features: dict[str, dict[str, Floats]] = {}

        def prepared(size: int) -> tuple[Floats, list[Letterbox]]:
            if size not in inputs:
                made = [preprocess(image, size=size) for image in images]
                inputs[size] = np.concatenate([m[0] for m in made]), [m[1] for m in made]
            return inputs[size]

        def outputs(model: ModelFile) -> dict[str, Floats]:
            session = self._sessions[model.name]
            if model.card.input.source is Source.PIXELS:
                feeds = {session.get_inputs()[0].name: prepared(model.card.input.size)[0]}
            else:
                trunk = self._trunk_of(model)
                if trunk.name not in features:
                    features[trunk.name] = outputs(trunk)
                feeds = {i.name: features[trunk.name][i.name] for i in session.get_inputs()}
            names = [output.name for output in session.get_outputs()]
            return dict(zip(names, session.run(names, feeds), strict=True))

        routed = outputs(self.panel.router)
        count = len(images)
        bones = len(self.panel.bones)
        logits = np.zeros((count, bones), np.float32)
        peaks = np.full((count, bones, 2), np.nan, np.float32)
        boxes = np.zeros((count, bones, self.most_boxes, 4), np.float32)
        box_logits = np.full((count, bones, self.most_boxes), -np.inf, np.float32)
        for at, bone in enumerate(self.panel.bones):
            said = outputs(bone)
            size = bone.card.input.size
            letterboxes = prepared(size)[1]
            logits[:, at] = said["fracture_logit"][:, 0]
            if "heatmap" in said:
                peaks[:, at] = _peaks(said["heatmap"], letterboxes, size)
            if "boxes" in said:
                kept = min(self.most_boxes, said["box_logits"].shape[1])
                order = np.argsort(-said["box_logits"], axis=1, kind="stable")[:, :kept]
                found = np.take_along_axis(said["boxes"], order[:, :, None], axis=1)
                boxes[:, at, :kept] = _to_image(found, letterboxes)
                box_logits[:, at, :kept] = np.take_along_axis(said["box_logits"], order, axis=1)
        return Answers(
            region_logits=routed["region_logits"],
            limb_logits=routed["limb_logit"][:, 0],
            fracture_logits=logits,
            peaks=peaks,
            boxes=boxes,
            box_logits=box_logits,
        )

    def _trunk_of(self, model: ModelFile) -> ModelFile:
        return self._trunks[str(model.card.input.trunk)]


def newest_models(models_dir: Path) -> list[ModelFile]:
    """Newest version of each model below a folder, sorted by name.

    Raises
    ------
    ConfigurationError
        If a card is not sound, or does not fit its network; names file and key.
    """
    newest: dict[str, ModelFile] = {}
    for path in sorted(models_dir.glob(f"*/*/{CARD_FILE}")):
        model = ModelFile(folder=path.parent, card=load_card(path.parent))
        held = newest.get(model.name)
        if held is None or model.card.order > held.card.order:
            newest[model.name] = model
    return [newest[name] for name in sorted(newest)]


def _session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])


def _to_image(boxes: Floats, letterboxes: Sequence[Letterbox]) -> Floats:
    """Boxes [N, K, 4] of the model's input, in pixels of each image."""
    moved = np.empty_like(boxes)
    for at, letterbox in enumerate(letterboxes):
        moved[at, :, 0::2] = (boxes[at, :, 0::2] - letterbox.pad_x) / letterbox.scale_x
        moved[at, :, 1::2] = (boxes[at, :, 1::2] - letterbox.pad_y) / letterbox.scale_y
        moved[at, :, 0::2] += letterbox.left
        moved[at, :, 1::2] += letterbox.top
    return moved


def _peaks(heatmaps: Floats, letterboxes: Sequence[Letterbox], size: int) -> Floats:
    """(x, y) of the hottest cell's middle [N, 2], in pixels of each image."""
    count, _, rows, columns = heatmaps.shape
    hottest = heatmaps.reshape(count, -1).argmax(axis=1)
    x = (hottest % columns + 0.5) * size / columns
    y = (hottest // columns + 0.5) * size / rows
    points = np.stack([x, y, x, y], axis=1).astype(np.float32)[:, None]
    return _to_image(points, letterboxes)[:, 0, :2]
