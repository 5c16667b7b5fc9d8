"""Tiny ONNX models with known answers, and a made-up data set that they can be asked about."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from worker.cards import FRACTURE, LIMB, Card, file_sha256, write_card
from worker.preprocess import SCHEME

SIZE = 64
STRIDE = 16
ROUTER_REGIONS = ("elbow", "knee")


def make_models(root: Path, *, through_trunk: bool = True) -> Path:
    """A trunk (mean grey of each cell), a router and two bone models that look for white.

    The router takes bright pictures for elbows and dark ones for knees, and half-empty ones for
    no limbs. A bone model's logit is 20 times how far its whitest cell is above 0.85.
    """
    source = "features" if through_trunk else "pixels"
    trunk: dict[str, str] = {}
    if through_trunk:
        trunk = write_model(root, "trunk", "trunk", _trunk_nodes(), ["layer3"], [])
    cells = "layer3" if through_trunk else "pooled"
    before = [] if through_trunk else [_pool("pixels", "pooled")]
    inputs = ["layer3"] if through_trunk else ["pixels"]
    write_model(
        root,
        "router",
        "router",
        [*before, *_router_nodes(cells)],
        ["region_logits", "limb_logit"],
        inputs,
        regions=ROUTER_REGIONS,
        labels=(*ROUTER_REGIONS, LIMB),
        source=source,
        trunk=trunk,
    )
    for region in ROUTER_REGIONS:
        write_model(
            root,
            f"bone-{region}",
            "bone",
            [*before, *_bone_nodes(cells)],
            ["fracture_logit", "heatmap", "boxes", "box_logits"],
            inputs,
            regions=(region,),
            labels=(FRACTURE,),
            source=source,
            trunk=trunk,
        )
    return root


def write_model(
    root: Path,
    name: str,
    kind: str,
    nodes: Sequence[onnx.NodeProto],
    outputs: Sequence[str],
    inputs: Sequence[str],
    *,
    regions: Sequence[str] = (),
    labels: Sequence[str] = (),
    source: str = "pixels",
    trunk: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Write network and card; returns what a head's card says of this trunk."""
    folder = root / name / "1.0"
    folder.mkdir(parents=True)
    read = inputs or ["pixels"]
    graph = helper.make_graph(
        list(nodes),
        name,
        [helper.make_tensor_value_info(i, TensorProto.FLOAT, None) for i in read],
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs],
        initializer=_constants(nodes),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "model.onnx")
    digest = file_sha256(folder / "model.onnx")
    card: dict[str, Any] = {
        "name": name,
        "version": "1.0",
        "kind": kind,
        "sha256": digest,
        "regions": list(regions),
        "summary": f"a made-up {kind}",
        "licence": "Apache-2.0",
        "input": {
            "source": "pixels" if kind == "trunk" else source,
            "size": SIZE,
            "preprocessing": SCHEME,
            **(trunk or {}),
        },
        "labels": [{"name": label, "sensitive": 0.3, "specific": 0.7} for label in labels],
        "training": {"commit": "0", "data": "none", "recipe": "none", "seed": 0, "split": "none"},
        "golden": {"input": "limb-v1", "tolerance": 1e-3, "outputs": {outputs[0]: [0.0]}},
    }
    if kind != "trunk":
        card["figures"] = {"val": {"auc": {"value": 0.9, "low": 0.8, "high": 1.0, "n": 10}}}
    if kind == "bone":
        card["boxes"] = {"threshold": 0.5, "nms_iou": 0.5}
    write_card(Card.model_validate(card), folder)
    return {"trunk": name, "trunk_version": "1.0", "trunk_sha256": digest}


def _pool(before: str, after: str) -> onnx.NodeProto:
    return helper.make_node(
        "AveragePool", [before], [after], kernel_shape=[STRIDE, STRIDE], strides=[STRIDE, STRIDE]
    )


def _trunk_nodes() -> list[onnx.NodeProto]:
    return [_pool("pixels", "layer3")]


def _router_nodes(cells: str) -> list[onnx.NodeProto]:
    """Mean grey m: elbow 40 (m - 0.5), knee 40 (0.5 - m), limb 40 (m - 0.1)."""
    return [
        helper.make_node("ReduceMean", [cells], ["mean4"], axes=[2, 3], keepdims=0),
        helper.make_node("Mul", ["mean4", "forty"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "twenty"], ["elbow"]),
        helper.make_node("Neg", ["elbow"], ["knee"]),
        helper.make_node("Concat", ["elbow", "knee"], ["region_logits"], axis=1),
        helper.make_node("Sub", ["scaled", "four"], ["limb_logit"]),
    ]


def _bone_nodes(cells: str) -> list[onnx.NodeProto]:
    """The whitest cell decides; its outline is the one box."""
    return [
        helper.make_node("Sub", [cells, "almost_white"], ["above"]),
        helper.make_node("Mul", ["above", "twenty"], ["heatmap"]),
        helper.make_node("Flatten", ["heatmap"], ["flat"], axis=1),
        helper.make_node("ReduceMax", ["flat"], ["fracture_logit"], axes=[1], keepdims=1),
        helper.make_node("TopK", ["flat", "two"], ["box_logits", "index"], axis=1),
        helper.make_node("Cast", ["index"], ["place"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["place", "columns"], ["quotient"]),
        helper.make_node("Floor", ["quotient"], ["row"]),
        helper.make_node("Mul", ["row", "columns"], ["passed"]),
        helper.make_node("Sub", ["place", "passed"], ["column"]),
        helper.make_node("Mul", ["column", "stride"], ["left2"]),
        helper.make_node("Mul", ["row", "stride"], ["top2"]),
        helper.make_node("Unsqueeze", ["left2", "last"], ["left"]),
        helper.make_node("Unsqueeze", ["top2", "last"], ["top"]),
        helper.make_node("Add", ["left", "stride"], ["right"]),
        helper.make_node("Add", ["top", "stride"], ["bottom"]),
        helper.make_node("Concat", ["left", "top", "right", "bottom"], ["boxes"], axis=2),
    ]


_CONSTANTS: dict[str, NDArray[Any]] = {
    "forty": np.array(40, np.float32),
    "twenty": np.array(20, np.float32),
    "four": np.array(4, np.float32),
    "almost_white": np.array(0.85, np.float32),
    "two": np.array([2], np.int64),
    "columns": np.array(SIZE / STRIDE, np.float32),
    "stride": np.array(STRIDE, np.float32),
    "last": np.array([2], np.int64),
}


def _constants(nodes: Sequence[onnx.NodeProto]) -> list[onnx.TensorProto]:
    used = {name for node in nodes for name in node.input}
    return [numpy_helper.from_array(v, k) for k, v in _CONSTANTS.items() if k in used]


IMAGE_COLUMNS = [
    "file",
    "width",
    "height",
    "split",
    "block",
    "group",
    "fractured",
    "hand",
    "leg",
    "hip",
    "shoulder",
    "mixed",
    "hardware",
    "multiscan",
    "frontal",
    "lateral",
    "oblique",
    "primary",
    "regions",
    "cast",
    "implant",
    "multiview",
]


def make_data(root: Path, *, count: int = 24, edge: int = 128) -> Path:
    """Speckled squares: bright elbows and dark knees, every third with a white lesion, boxed.

    Each image fills the model's input without scaling but for a factor of two.
    """
    (root / "images").mkdir(parents=True)
    images, boxes = [], []
    for number in range(count):
        generator = np.random.default_rng(number)
        elbow, fractured = number % 2 == 0, number % 3 == 0
        low, high = (90, 240) if elbow else (10, 160)
        grey = generator.integers(low, high, (edge, edge))
        # The same ends of the range everywhere, so that every picture has the same window.
        for level, share in ((15, 0.1), (238, 0.1), (0, 0.02), (250, 0.02)):
            grey[generator.random((edge, edge)) < share] = level
        name = f"{number:03}.png"
        if fractured:
            left, top = (int(v) * 32 for v in generator.integers(0, 4, 2))
            grey[top : top + 32, left : left + 32] = 250
            site = "distal_humerus" if elbow else "patella"
            region = "elbow" if elbow else "knee"
            boxes.append([name, number, left, top, 32, 32, site, region, ""])
        Image.fromarray(grey.astype(np.uint8)).save(root / "images" / name)
        row = dict.fromkeys(IMAGE_COLUMNS, "0")
        row |= {"file": name, "width": str(edge), "height": str(edge), "split": "test"}
        row |= {"block": str(number // 3), "group": name, "fractured": str(int(fractured))}
        row["regions"] = row["primary"] = "elbow" if elbow else "knee"
        row["frontal"], row["lateral"] = str(int(number < 12)), str(int(number >= 12))
        row["implant"] = str(int(fractured and number < 6))
        images.append(row)
    with (root / "images.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, IMAGE_COLUMNS)
        writer.writeheader()
        writer.writerows(images)
    with (root / "boxes.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "ann_id", "x", "y", "w", "h", "site", "region", "kind"])
        rows.writerows(boxes)
    return root
