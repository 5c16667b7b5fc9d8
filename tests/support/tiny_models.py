"""Small ONNX models with known answers, in both shapes: whole networks, and heads on a trunk.

What they look at is the mean grey of a model's input (0 black to 1 white), so that a test can
draw an image which gives the answer that it needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from worker.cards import FRACTURE, LIMB, MODEL_FILE, Card, file_sha256, fingerprint, write_card
from worker.golden import GOLDEN, golden_image
from worker.preprocess import SCHEME, preprocess

SIZE: Final = 64
CELLS: Final = 4  # edge of the feature and heat maps
REGIONS: Final = ("hand_wrist", "leg")
VERSION: Final = "1.0.0"


def tiny_models(
    root: Path,
    *,
    through_trunk: bool = True,
    regions: Sequence[str] = REGIONS,
    bones: Sequence[str] = REGIONS,
    region_logits: Sequence[float] = (4.0, -4.0),
    limb_logit: float = 4.0,
    fracture_logit: float = 4.0,
    box: tuple[float, float, float, float] | None = (16.0, 16.0, 48.0, 40.0),
    rounds: int = 0,
    **changed: Any,
) -> Path:
    """Write a router and bone models whose logits are constant, whatever they see.

    Parameters
    ----------
    through_trunk
        Heads on one trunk, or whole networks that read pixels.
    box
        The one box of each bone model in pixels of its input, with a logit of 3; None for a
        model that knows no boxes. The heat map is highest in its second cell of the second row.
    rounds
        Multiplications of 512 x 512 matrices that the router does for nothing (each takes some
        milliseconds), so that a test can meet a worker in the middle of a study.
    **changed
        Keys of the bone models' cards.
    """
    trunk: dict[str, Any] = {}
    reads, source = "pixels", "pixels"
    if through_trunk:
        trunk = _trunk(root)
        reads, source = "layer4", "features"
    constants: dict[str, NDArray[Any]] = {
        "region_logits": np.array([region_logits], np.float32),
        "limb_logit": np.array([[limb_logit]], np.float32),
    }
    write_model(
        root,
        _constant_graph("router", reads, constants, rounds),
        kind="router",
        regions=list(regions),
        labels=_labels(*regions, LIMB),
        input=_input(source, trunk),
    )
    heat = np.zeros((1, 1, CELLS, CELLS), np.float32)
    heat[0, 0, 1, 1] = 5.0
    constants = {"fracture_logit": np.array([[fracture_logit]], np.float32), "heatmap": heat}
    if box is not None:
        constants["boxes"] = np.array([[box]], np.float32)
        constants["box_logits"] = np.array([[3.0]], np.float32)
        changed = {"boxes": {"threshold": 0.5, "nms_iou": 0.4}, **changed}
    for region in bones:
        name = f"bone-{region.replace('_', '-')}"
        write_model(
            root,
            _constant_graph(name, reads, constants),
            kind="bone",
            **{
                "regions": [region],
                "labels": _labels(FRACTURE),
                "input": _input(source, trunk),
                **changed,
            },
        )
    return root


def write_model(root: Path, model: onnx.ModelProto, *, kind: str, **values: Any) -> Card:
    """Write a network and its card, with the answers to the golden image that it really gives."""
    version = values.pop("version", VERSION)
    folder = root / model.graph.name / version
    folder.mkdir(parents=True)
    path = folder / MODEL_FILE
    onnx.save(model, path)
    card = {
        "name": model.graph.name,
        "version": version,
        "kind": kind,
        "sha256": file_sha256(path),
        "summary": f"a made-up {kind}",
        "licence": "Apache-2.0",
        "training": {"commit": "0", "data": "none", "recipe": "none", "seed": 0, "split": "none"},
        "golden": {"input": GOLDEN, "tolerance": 1e-3, "outputs": _answers(path)},
        **values,
    }
    if kind != "trunk":
        card["figures"] = {"test": {"auc": {"value": 0.9, "low": 0.8, "high": 1.0, "n": 10}}}
    made = Card.model_validate(card)
    write_card(made, folder)
    return made


def _trunk(root: Path) -> dict[str, Any]:
    """Mean grey of each cell; what a head's card says of it."""
    edge = SIZE // CELLS
    pool = helper.make_node(
        "AveragePool", ["pixels"], ["layer4"], kernel_shape=[edge, edge], strides=[edge, edge]
    )
    card = write_model(
        root, _model("trunk", [pool], ["pixels"], ["layer4"]), kind="trunk", input=_input("pixels")
    )
    return {"trunk": card.name, "trunk_version": card.version, "trunk_sha256": card.sha256}


def _constant_graph(
    name: str, reads: str, constants: Mapping[str, NDArray[Any]], rounds: int = 0
) -> onnx.ModelProto:
    """A network that reads its input and answers with constants all the same."""
    nodes = [
        helper.make_node("ReduceMean", [reads], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "nothing"], ["zero"]),
    ]
    nodes += [helper.make_node("Add", [f"{key}_is", "zero"], [key]) for key in constants]
    values = {"nothing": np.array(0, np.float32)}
    values |= {f"{key}_is": value for key, value in constants.items()}
    if rounds:
        nodes[1:2], more = _idle_work(rounds)
        values |= more
    return _model(name, nodes, [reads], list(constants), values)


def _idle_work(rounds: int) -> tuple[list[onnx.NodeProto], dict[str, NDArray[Any]]]:
    """Nodes that make "zero" of "mean" in a roundabout way."""
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["before", "square"], ["after"]),
            helper.make_node("Identity", ["go"], ["go_on"]),
        ],
        "round",
        [
            helper.make_tensor_value_info("number", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, [512, 512]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, [512, 512]),
        ],
    )
    nodes = [
        helper.make_node("Mul", ["square", "mean"], ["start"]),
        helper.make_node("Loop", ["rounds", "", "start"], ["end"], body=body),
        helper.make_node("ReduceMean", ["end"], ["result"], keepdims=0),
        helper.make_node("Mul", ["result", "nothing"], ["zero"]),
    ]
    values: dict[str, NDArray[Any]] = {
        "rounds": np.array(rounds, np.int64),
        "square": np.full((512, 512), 1 / 512, np.float32),
    }
    return nodes, values


def _model(
    name: str,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[str],
    outputs: Sequence[str],
    values: Mapping[str, NDArray[Any]] | None = None,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        name,
        [helper.make_tensor_value_info(i, TensorProto.FLOAT, None) for i in inputs],
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs],
        initializer=[numpy_helper.from_array(v, k) for k, v in (values or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _answers(path: Path) -> dict[str, list[float]]:
    """Fingerprints of a network's outputs on the golden image; of a head's, on made-up features."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    pixels, _ = preprocess(golden_image(), size=SIZE)
    value = pixels if given.name == "pixels" else np.zeros((1, 1, CELLS, CELLS), np.float32)
    names = [output.name for output in session.get_outputs()]
    found = session.run(names, {given.name: value})
    return {name: list(fingerprint(v)) for name, v in zip(names, found, strict=True)}


def _labels(*names: str) -> list[dict[str, Any]]:
    return [{"name": name, "sensitive": 0.3, "specific": 0.7} for name in names]


def _input(source: str, trunk: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {"source": source, "size": SIZE, "preprocessing": SCHEME, **(trunk or {})}
