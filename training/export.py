"""From a checkpoint to the ONNX files and cards that the service reads.

The weights are stored in fp16 and cast to fp32 in the graph: what is exported is the
network with rounded weights, and that is what parity and every figure are taken from.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from training.answers import measure, other_limb_logits
from training.calibrate import NMS_IOU, Choice, Choices, choose
from training.cases import read_cases
from training.figures import bone_figures, image_figures, router_figures
from training.fracatlas import read_fracatlas
from training.metrics import Interval
from training.network import REGIONS, Network, Shape, cell_boxes
from training.predictions import Predictions
from worker.cards import CARD_FILE, MODEL_FILE, fingerprint, load_card
from worker.golden import GOLDEN, golden_image
from worker.preprocess import SCHEME, preprocess

OPSET: Final = 17
PARITY: Final = 1e-4
"""Largest allowed difference between torch and ONNX, relative to the largest value or 1."""

VARIANTS: Final = ("plain", "stressed")
"""What val is calibrated on and test measured on."""

ALWAYS_ON: Final = ("hand_wrist", "elbow", "shoulder", "leg")
"""Regions that are read whatever the evidence; their cards state how thin it is."""

ENOUGH_POSITIVES: Final = 30
"""Fractured images of the whole set below which any other region is experimental."""

_GOLDEN_TOLERANCE: Final = 2e-3
_SUMMARIES: Final = {
    "trunk": "ResNet50 v1 on one grey channel, read by the router's and the bones' heads",
    "router": "Which limb regions are in view, and whether it is a radiograph of a limb at all",
    "bone": "Fracture or none of the {region}, with heat map and boxes",
}
_SMALLEST_HALVED: Final = 64  # elements; vectors smaller than this stay fp32

Arrays = dict[str, NDArray[np.float32]]


class ParityError(RuntimeError):
    """ONNX Runtime and torch disagree on an exported network."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A network to export as one file.

    Attributes
    ----------
    name
        Folder under models_onnx/.
    module
        Takes the inputs in order, gives the outputs in order.
    inputs, outputs
        Names of the tensors in the file.
    """

    name: str
    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class TrunkPart(nn.Module):
    """pixels → layer3, layer4."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.trunk = network.trunk

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The outputs in the order of the part's names."""
        layer3, layer4 = self.trunk(pixels)
        return layer3, layer4


class RouterPart(nn.Module):
    """Features → region_logits [N, R], limb_logit [N, 1], region_maps [N, R, h, w]."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.regions = network.regions
        self.limb = network.limb

    def forward(self, layer3: Tensor, layer4: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The outputs in the order of the part's names."""
        maps = self.regions(layer3, layer4)
        count = len(REGIONS)
        logits = self.regions.pool(maps)[:, :count]
        return logits, self.limb(layer3, layer4), maps[:, :count]


class BonePart(nn.Module):
    """Features → fracture_logit [N, 1], heatmap [N, 1, h, w], boxes [N, K, 4], box_logits [N, K].

    Boxes are the cells with the highest scores, before non-maximum suppression. A box
    counts for this region as far as the region's own attention reaches.
    """

    def __init__(self, network: Network, region: str, boxes: int = 48) -> None:
        super().__init__()
        index = REGIONS.index(region)
        self.neck = network.neck
        self.floor = network.fracture.floor
        self.sharpness = network.fracture.sharpness
        self.boxes = boxes
        self.where3 = _slice(network.regions.layer3, index)
        self.where4 = _slice(network.regions.layer4, index)
        fracture = network.fracture
        own, shared = _slice(fracture.own, index), fracture.shared
        self.map = nn.Conv2d(own.in_channels, 1, 1)
        self.centre, self.edges = fracture.centre, fracture.edges
        self.context = nn.Linear(own.in_channels, 1)
        with torch.no_grad():
            self.map.weight.copy_(own.weight + shared.weight)
            assert self.map.bias is not None
            assert own.bias is not None
            assert shared.bias is not None
            self.map.bias.copy_(own.bias + shared.bias)
            self.context.weight.copy_(fracture.context.weight[index : index + 1])
            self.context.bias.copy_(fracture.context.bias[index : index + 1])
        self.register_buffer("gain", fracture.gain.detach().clone().reshape(1))
        self.register_buffer("bias", fracture.bias[index].detach().clone().reshape(1))

    gain: Tensor
    bias: Tensor

    def forward(self, layer3: Tensor, layer4: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The outputs in the order of the part's names."""
        neck = self.neck(layer3, layer4)
        where = nn.functional.avg_pool2d(self.where3(layer3), 2) + self.where4(layer4)
        where = nn.functional.interpolate(torch.sigmoid(where), scale_factor=2.0, mode="nearest")
        attention = torch.log(self.floor + (1.0 - self.floor) * where)
        context = self.context(neck.mean((2, 3)))[:, :, None, None]
        heatmap = self.map(neck) + attention + context
        flat = heatmap.flatten(2)[:, 0] * self.sharpness
        count = float(flat.shape[1])
        pooled = (torch.logsumexp(flat, 1, keepdim=True) - np.log(count)) / self.sharpness
        distances = torch.exp(self.edges(neck).clamp(-6.0, 6.0))
        scores = (self.centre(neck) + attention).flatten(2)[:, 0]
        best, cells = torch.topk(scores, min(self.boxes, int(count)), dim=1)
        boxes = torch.gather(cell_boxes(distances), 1, cells[:, :, None].expand(-1, -1, 4))
        return self.gain * pooled + self.bias, heatmap, boxes, best


def _slice(convolution: nn.Conv2d, index: int) -> nn.Conv2d:
    """A convolution with one of another's outputs."""
    cut = nn.Conv2d(convolution.in_channels, 1, 1)
    with torch.no_grad():
        cut.weight.copy_(convolution.weight[index : index + 1])
        assert cut.bias is not None
        assert convolution.bias is not None
        cut.bias.copy_(convolution.bias[index : index + 1])
    return cut


def round_weights(network: nn.Module) -> None:
    """Round every weight that is stored in fp16, so that torch computes what is shipped."""
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.numel() >= _SMALLEST_HALVED and tensor.dim() > 1:
                tensor.copy_(tensor.half().float())


def load_checkpoint(path: Path) -> tuple[Network, dict[str, Any]]:
    """The network of a checkpoint with rounded weights, and the checkpoint's other values."""
    state = torch.load(path, weights_only=True, map_location="cpu")
    shape = state["shape"]
    network = Network(Shape(**{**shape, "blocks": tuple(shape["blocks"])}))
    network.load_state_dict(state["model"])
    round_weights(network)
    return network.eval(), {k: v for k, v in state.items() if k not in ("model", "live")}


def parts_of(network: Network, regions: Sequence[str] = REGIONS) -> list[Part]:
    """The files that a network is exported to: trunk, router, and one per bone."""
    features = ("layer3", "layer4")
    parts = [
        Part(name="trunk", module=TrunkPart(network), inputs=("pixels",), outputs=features),
        Part(
            name="router",
            module=RouterPart(network),
            inputs=features,
            outputs=("region_logits", "limb_logit", "region_maps"),
        ),
    ]
    for region in regions:
        part = BonePart(network, region)
        round_weights(part)
        parts.append(
            Part(
                name=f"bone-{region.replace('_', '-')}",
                module=part,
                inputs=features,
                outputs=("fracture_logit", "heatmap", "boxes", "box_logits"),
            )
        )
    return parts


def export_part(part: Part, examples: Sequence[Tensor], path: Path) -> str:
    """Write a part as ONNX with fp16-stored weights and check it against torch.

    Returns
    -------
    str
        sha256 of the file.

    Raises
    ------
    ParityError
        If ONNX Runtime differs from torch by more than `PARITY`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part.module.eval()
    names = (*part.inputs, *part.outputs)
    with torch.no_grad(), warnings.catch_warnings():
        # The older exporter writes the plainer graph; its shapes are constants on purpose.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        torch.onnx.export(
            part.module,
            tuple(examples),
            str(path),
            input_names=list(part.inputs),
            output_names=list(part.outputs),
            opset_version=OPSET,
            dynamic_axes={name: {0: "images"} for name in names},
            dynamo=False,
            do_constant_folding=True,
        )
    model = store_as_half(onnx.load(str(path)))
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    check_parity(part, examples, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def store_as_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store large weights as fp16 and cast them to fp32 where they are used."""
    graph = model.graph
    casts = []
    for index, tensor in enumerate(graph.initializer):
        large = tensor.data_type == TensorProto.FLOAT and len(tensor.dims) > 1
        if not large or np.prod(tensor.dims) < _SMALLEST_HALVED:
            continue
        values = numpy_helper.to_array(tensor)
        name = tensor.name
        half = numpy_helper.from_array(values.astype(np.float16), f"{name}_half")
        graph.initializer[index].CopyFrom(half)
        casts.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def open_session(path: Path, threads: int = 0) -> onnxruntime.InferenceSession:
    """A CPU session on a file."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads:
        options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])


def check_parity(part: Part, examples: Sequence[Tensor], path: Path) -> float:
    """Largest relative difference between torch and ONNX Runtime on examples.

    Raises
    ------
    ParityError
        If it is above `PARITY`.
    """
    session = open_session(path)
    feeds = {name: x.numpy() for name, x in zip(part.inputs, examples, strict=True)}
    found = session.run(list(part.outputs), feeds)
    with torch.no_grad():
        wanted = part.module(*examples)
    worst = 0.0
    for name, ours, theirs in zip(part.outputs, wanted, found, strict=True):
        scale = max(1.0, float(ours.abs().max()))
        difference = float(np.abs(ours.numpy() - theirs).max()) / scale
        if not difference <= PARITY:
            raise ParityError(f"{path}: {name} differs from torch by {difference:.2g}")
        worst = max(worst, difference)
    return worst


# Models with cards -----------------------------------------------------------------------------


def export_models(
    checkpoint: Path,
    models_dir: Path,
    version: str,
    *,
    data_dir: Path | None = None,
    commit: str = "unknown",
) -> list[Path]:
    """Export a checkpoint as models with cards: trunk, router, one per bone.

    Parameters
    ----------
    version
        Of every model, "1.0.0".
    data_dir
        Labelled images, as training read them: val decides calibration and thresholds, test
        gives the figures. Without it nothing is calibrated, and the cards are not complete:
        the service refuses them.
    commit
        Of the code that trained.

    Returns
    -------
    list of Path
        Folders of the models, each with model.onnx and card.toml.
    """
    network, state = load_checkpoint(checkpoint)
    recipe = json.loads(state["recipe"])
    size = int(recipe["size"])
    golden, _ = preprocess(golden_image(), size=size)
    pixels = torch.from_numpy(golden).repeat(2, 1, 1, 1)
    pixels[1] = pixels[1].flip(1, 2)
    with torch.no_grad():
        features = network.trunk(pixels)
    models_dir.mkdir(parents=True, exist_ok=True)
    # Nothing lies where the service looks until all of it is there.
    with tempfile.TemporaryDirectory(dir=models_dir, prefix=".export-") as name:
        draft_dir = Path(name)
        drafts: list[dict[str, Any]] = []
        for part in parts_of(network):
            examples = (pixels,) if part.inputs == ("pixels",) else features
            path = draft_dir / part.name / version / MODEL_FILE
            digest = export_part(part, examples, path)
            drafts.append(_draft(part, version, digest, size, recipe, commit))
        _name_trunk(drafts)
        _add_golden(drafts, draft_dir, golden)
        if data_dir is not None:
            val = [measure(network, read_cases(data_dir, "val"), v, size) for v in VARIANTS]
            cases = read_cases(data_dir, "test")
            test = {v: measure(network, cases, v, size) for v in VARIANTS}
            fractures = Counter(
                region
                for radiograph in read_fracatlas(data_dir)
                for region in radiograph.fractured_regions
            )
            calibrate_models(drafts, val, test, other_limb_logits(network, size), fractures)
            # A bone that the test split does not show cannot be vouched for: it is left out.
            drafts = [d for d in drafts if d["kind"] != "bone" or any(d["figures"].values())]
        for draft in drafts:
            _write(draft, draft_dir)
            if data_dir is not None:
                load_card(draft_dir / draft["name"] / version)
        return [_move(draft_dir, models_dir, draft["name"], version) for draft in drafts]


def _name_trunk(drafts: Sequence[dict[str, Any]]) -> None:
    """Bind every head to the trunk that it was trained on."""
    trunk = drafts[0]
    for draft in drafts[1:]:
        draft["input"] |= {
            "trunk": trunk["name"],
            "trunk_version": trunk["version"],
            "trunk_sha256": trunk["sha256"],
        }


def _move(source: Path, target: Path, name: str, version: str) -> Path:
    """Move a model's folder to its place, over an older export of the same version."""
    folder = target / name / version
    if folder.exists():
        shutil.rmtree(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(source / name / version, folder)
    return folder


def calibrate_models(
    drafts: Sequence[dict[str, Any]],
    val: Sequence[Predictions],
    test: Mapping[str, Predictions],
    other_limb_logits: NDArray[np.float32],
    fractures: Mapping[str, int],
) -> None:
    """Choose on val, measure on test, and write both into the drafts of the cards.

    Parameters
    ----------
    val
        The split as each of several variants shows it, the plain one first.
    test
        By variant.
    other_limb_logits
        Of pictures that are no limb radiographs.
    fractures
        Fractured images of the whole set by region.
    """
    bones = REGIONS
    choices = choose(REGIONS, bones, val, other_limb_logits)
    for draft in drafts:
        _choose_into(draft, choices)
        for variant, said in test.items():
            if draft["kind"] == "router":
                found = router_figures(said, choices)
                found |= image_figures(said, REGIONS, bones, choices)
            elif draft["kind"] == "bone":
                region = draft["regions"][0]
                at = REGIONS.index(region)
                found = bone_figures(said, at, at, region, choices)
                if variant == "plain":
                    draft["experimental"] = is_experimental(
                        region, fractures.get(region, 0), found.get("auc")
                    )
            else:
                continue
            figures = draft.setdefault("figures", {})
            figures[f"fracatlas_test_{variant}"] = {k: asdict(v) for k, v in found.items()}


def is_experimental(region: str, fractures: int, area: Interval | None) -> bool:
    """Whether the evidence for a region is too thin for its model to speak unasked.

    Parameters
    ----------
    fractures
        Fractured images of the region in the whole set.
    area
        Area under the ROC curve on the plain test split, with its interval.
    """
    if region in ALWAYS_ON:
        return False
    return fractures < ENOUGH_POSITIVES or area is None or area.low <= 0.5


def _draft(
    part: Part, version: str, digest: str, size: int, recipe: dict[str, Any], commit: str
) -> dict[str, Any]:
    """A card as far as the export alone decides it."""
    kind = part.name.split("-", maxsplit=1)[0]
    trunk = kind == "trunk"
    regions = {"trunk": [], "router": list(REGIONS)}.get(
        kind, [part.name.removeprefix("bone-").replace("-", "_")]
    )
    draft: dict[str, Any] = {
        "name": part.name,
        "version": version,
        "kind": kind,
        "sha256": digest,
        "regions": regions,
        "experimental": False,
        "summary": _SUMMARIES[kind].format(region=" ".join(regions).replace("_", " and ")),
        "licence": "Apache-2.0; trained on FracAtlas (CC BY 4.0), from ImageNet weights (MIT)",
        "input": {
            "source": "pixels" if trunk else "features",
            "size": size,
            "preprocessing": SCHEME,
        },
        "training": {
            "commit": commit,
            "data": (
                "FracAtlas, Abedeen et al., Sci Data 10, 521 (2023), CC BY 4.0,"
                " doi 10.1038/s41597-023-02432-4; regions and sites by eye"
            ),
            "recipe": to_toml(recipe),
            "seed": int(recipe["seed"]),
            "split": "train / val / test by blocks of neighbouring files",
        },
    }
    names = {"router": [*REGIONS, "limb"], "bone": ["fracture"]}.get(kind, [])
    draft["labels"] = [{"name": n, "sensitive": 0.5, "specific": 0.5} for n in names]
    if kind == "bone":
        draft["boxes"] = {"threshold": 0.5, "nms_iou": NMS_IOU, "nms": "service"}
    return draft


def _choose_into(draft: dict[str, Any], choices: Choices) -> None:
    """Put what was chosen on val into a card."""

    def label(name: str, choice: Choice, *, own: bool) -> dict[str, Any]:
        made: dict[str, Any] = {"name": name, **_rounded(asdict(choice.thresholds))}
        if own:
            made["calibration"] = _rounded(asdict(choice.calibration))
        return made

    if draft["kind"] == "router":
        draft["calibration"] = _rounded(asdict(choices.regions.calibration))
        draft["labels"] = [label(name, choices.regions, own=False) for name in REGIONS]
        draft["labels"].append(label("limb", choices.limb, own=True))
    elif draft["kind"] == "bone":
        choice = choices.fracture[draft["regions"][0]]
        draft["calibration"] = _rounded(asdict(choice.calibration))
        draft["labels"] = [label("fracture", choice, own=False)]
        draft["boxes"]["threshold"] = round(choices.box_threshold, 6)


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {key: round(value, 6) for key, value in values.items()}


def _add_golden(
    drafts: Sequence[dict[str, Any]], models_dir: Path, golden: NDArray[np.float32]
) -> None:
    """What each model says of the golden image, as ONNX Runtime says it."""
    features: Arrays = {}
    for draft in drafts:
        session = open_session(models_dir / draft["name"] / draft["version"] / MODEL_FILE)
        known: Arrays = {"pixels": golden, **features}
        names = [output.name for output in session.get_outputs()]
        feeds = {i.name: known[i.name] for i in session.get_inputs()}
        outputs = dict(zip(names, session.run(names, feeds), strict=True))
        if draft["kind"] == "trunk":
            features = outputs
        draft["golden"] = {
            "input": GOLDEN,
            "tolerance": _GOLDEN_TOLERANCE,
            # The order of boxes with nearly equal scores may differ between machines.
            "outputs": {k: list(fingerprint(v)) for k, v in outputs.items() if k != "boxes"},
        }


def _write(draft: dict[str, Any], models_dir: Path) -> None:
    path = models_dir / draft["name"] / draft["version"] / CARD_FILE
    path.write_text(to_toml(draft), encoding="utf-8")


def to_toml(document: Mapping[str, Any]) -> str:
    """A card as TOML: values first, then tables, then lists of tables."""
    lines: list[str] = []
    _emit(document, (), lines)
    return "\n".join(lines).strip() + "\n"


def _emit(table: Mapping[str, Any], path: tuple[str, ...], lines: list[str]) -> None:
    later: list[tuple[str, Any]] = []
    for key, value in table.items():
        many = isinstance(value, list) and value and isinstance(value[0], dict)
        if isinstance(value, Mapping) or many:
            later.append((key, value))
        else:
            lines.append(f"{key} = {_literal(value)}")
    for key, value in later:
        name = ".".join((*path, key))
        for one in value if isinstance(value, list) else [value]:
            lines.extend(["", f"[[{name}]]" if isinstance(value, list) else f"[{name}]"])
            _emit(one, (*path, key), lines)


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_literal(one) for one in value) + "]"
    return repr(round(float(value), 7)) if isinstance(value, float) else repr(int(value))


def main(arguments: Sequence[str] | None = None) -> None:
    """Export from the command line."""
    parser = argparse.ArgumentParser(prog="python -m training.export", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="what training has left")
    parser.add_argument("models", type=Path, help="folder of the models, made if it is missing")
    parser.add_argument("--version", required=True, help="of every model, as 1.0.0")
    parser.add_argument(
        "--data", type=Path, help="labelled images; without them the service refuses the models"
    )
    parser.add_argument("--commit", default="unknown", help="of the code that trained")
    asked = parser.parse_args(arguments)
    folders = export_models(
        asked.checkpoint,
        asked.models,
        asked.version,
        data_dir=asked.data,
        commit=asked.commit,
    )
    for folder in folders:
        print(folder)


if __name__ == "__main__":
    main()
