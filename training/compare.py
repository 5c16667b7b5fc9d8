"""The literature's networks and ours on the same images, split, input and number of epochs.

Not what the service runs: a small input and few epochs, the same for all, so that the comparison
is of architectures and can be done again in an evening on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional

from training.cases import Case, read_cases
from training.metrics import (
    Interval,
    accuracy_at,
    auc,
    bootstrap_interval,
    f1_at,
    precision_at,
    sensitivity_at,
    sigmoid,
)
from training.network import Trunk, load_imagenet
from worker.preprocess import preprocess

Floats = NDArray[np.float32]
Filter = Callable[[Floats, Floats], tuple[Floats, Floats]]

METRICS = ("accuracy", "precision", "recall", "f1", "auc")


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """What every contender gets, and no more.

    Attributes
    ----------
    size
        Edge of the input, pixels.
    rate
        Highest learning rate of what starts from random weights; what starts from ImageNet gets
        a tenth.
    """

    size: int = 128
    epochs: int = 6
    batch: int = 32
    rate: float = 1e-3
    seed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """A network and what is done to its images beforehand.

    Attributes
    ----------
    build
        Makes the network: pixels [N, 1, S, S] to logits [N, 1]; given ImageNet's weights or
        None.
    starts_from_imagenet
        Whether it uses those weights.
    prepare
        From training and other images [N, 1, S, S] to both as the network sees them; what it
        learns it learns from the training images.
    """

    title: str
    build: Callable[[Path | None], nn.Module]
    starts_from_imagenet: bool = False
    prepare: Filter = lambda train, other: (train, other)


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """Figures of one contender on the test split.

    Attributes
    ----------
    threshold
        On the probability, chosen for the best F1 on val.
    parameters
        Weights and biases.
    """

    name: str
    title: str
    parameters: int
    threshold: float
    figures: Mapping[str, Interval]


# The networks ------------------------------------------------------------------------------------


class _Head(nn.Module):
    """Mean over the map, and one logit."""

    def __init__(self, body: nn.Module, channels: int) -> None:
        super().__init__()
        self.body = body
        self.out = nn.Linear(channels, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        return cast(Tensor, self.out(self.body(pixels).mean((2, 3))))


class _ResNet50(nn.Module):
    """Our trunk with one logit."""

    def __init__(self, start: Path | None) -> None:
        super().__init__()
        self.trunk = Trunk()
        if start is not None:
            load_imagenet(self.trunk, start)
        self.out = nn.Linear(2048, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        return cast(Tensor, self.out(self.trunk(pixels)[1].mean((2, 3))))


def _convolution(
    channels: int, out: int, kernel: int = 3, stride: int = 1, *, groups: int = 1, dilation: int = 1
) -> nn.Sequential:
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(
            channels, out, kernel, stride, padding, groups=groups, dilation=dilation, bias=False
        ),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
    )


def three_layer_cnn(_: Path | None) -> nn.Module:
    """Three convolutions, 32, 64 and 128 channels, each halved: the web apps of the literature."""
    layers: list[nn.Module] = []
    channels = 1
    for out in (32, 64, 128):
        layers += [nn.Conv2d(channels, out, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        channels = out
    return _Head(nn.Sequential(*layers), channels)


def mobilenet(_: Path | None) -> nn.Module:
    """MobileNet V1: depthwise and pointwise convolutions in turn."""
    layers: list[nn.Module] = [_convolution(1, 32, stride=2)]
    channels = 32
    plan = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2))
    for out, stride in (*plan, (1024, 1)):
        layers += [
            _convolution(channels, channels, stride=stride, groups=channels),
            _convolution(channels, out, 1),
        ]
        channels = out
    return _Head(nn.Sequential(*layers), channels)


class _Inception(nn.Module):
    """Four ways side by side: 1x1, 3x3, two 3x3 for a 5x5, and a pooled one."""

    def __init__(self, channels: int, each: int) -> None:
        super().__init__()
        self.one = _convolution(channels, each, 1)
        self.three = nn.Sequential(_convolution(channels, each, 1), _convolution(each, each))
        self.five = nn.Sequential(
            _convolution(channels, each, 1), _convolution(each, each), _convolution(each, each)
        )
        self.pooled = nn.Sequential(nn.AvgPool2d(3, 1, 1), _convolution(channels, each, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pooled(x)], 1)


def inception(_: Path | None) -> nn.Module:
    """An Inception-style network of six modules."""
    layers: list[nn.Module] = [_convolution(1, 32, stride=2), _convolution(32, 64), nn.MaxPool2d(2)]
    channels = 64
    for each in (32, 48, 64, 96, 128, 160):
        layers.append(_Inception(channels, each))
        channels = 4 * each
        if each in {48, 96}:
            layers.append(nn.MaxPool2d(2))
    return _Head(nn.Sequential(*layers), channels)


def dilated_cnn(_: Path | None) -> nn.Module:
    """Convolutions that reach ever further at one resolution: dilations 1, 2, 4, 8, 16."""
    layers: list[nn.Module] = [_convolution(1, 32, stride=2), _convolution(32, 64, stride=2)]
    channels = 64
    for dilation in (1, 2, 4, 8, 16):
        layers.append(_convolution(channels, 96, dilation=dilation))
        channels = 96
    return _Head(nn.Sequential(*layers), channels)


def gaussian_and_pca(
    train: Floats, other: Floats, *, sigma: float = 1.0, kept: float = 0.95, most: int = 256
) -> tuple[Floats, Floats]:
    """Blur, then rebuild every image of the principal components that keep 95 % of variance."""
    from scipy.ndimage import gaussian_filter
    from sklearn.decomposition import PCA

    blurred = [
        np.asarray(gaussian_filter(images, (0, 0, sigma, sigma))).reshape(len(images), -1)
        for images in (train, other)
    ]
    components = min(most, *blurred[0].shape)
    pca = PCA(components, svd_solver="randomized", random_state=0).fit(blurred[0])
    enough = int(np.searchsorted(np.cumsum(pca.explained_variance_ratio_), kept)) + 1
    axes = pca.components_[:enough]
    rebuilt = [pca.mean_ + (flat - pca.mean_) @ axes.T @ axes for flat in blurred]
    return (
        rebuilt[0].reshape(train.shape).astype(np.float32),
        rebuilt[1].reshape(other.shape).astype(np.float32),
    )


CONTENDERS: Mapping[str, Contender] = MappingProxyType(
    {
        "resnet50": Contender(
            title="ResNet50, from ImageNet (ours)", build=_ResNet50, starts_from_imagenet=True
        ),
        "three_layer_cnn": Contender(title="CNN of three layers", build=three_layer_cnn),
        "mobilenet": Contender(title="MobileNet V1", build=mobilenet),
        "inception": Contender(title="Inception style", build=inception),
        "dilated_cnn": Contender(title="dilated CNN", build=dilated_cnn),
        "gaussian_pca_resnet50": Contender(
            title="ResNet50 after Gaussian filter and PCA",
            build=_ResNet50,
            starts_from_imagenet=True,
            prepare=gaussian_and_pca,
        ),
    }
)
"""Networks by name."""


# Training and measuring --------------------------------------------------------------------------


def compare(
    data_dir: Path,
    out_dir: Path,
    *,
    budget: Budget | None = None,
    names: Sequence[str] = tuple(CONTENDERS),
    start: Path | None = None,
    draws: int = 1000,
    quiet: bool = False,
) -> list[Result]:
    """Train and measure contenders; those that ``out_dir`` holds already are not done again.

    Parameters
    ----------
    start
        ImageNet weights as safetensors; without them the ResNet50s start from random weights,
        which is no fair trial of them.

    Raises
    ------
    KeyError
        If a name is unknown.
    """
    budget = budget or Budget()
    chosen = {name: CONTENDERS[name] for name in names}
    out_dir.mkdir(parents=True, exist_ok=True)
    splits: dict[str, tuple[list[Case], Floats]] = {}
    results = []
    for name, contender in chosen.items():
        path = out_dir / f"{name}.json"
        asked = {**asdict(budget), "start": contender.starts_from_imagenet and start is not None}
        held = _read_result(path, asked)
        if held is None:
            if not splits:
                splits = {
                    s: _split(data_dir, s, budget, quiet=quiet) for s in ("train", "val", "test")
                }
            held = try_contender(
                name, contender, splits, budget, start=start, draws=draws, quiet=quiet
            )
            _write_result(path, held, asked)
        results.append(held)
    draw_comparison(results, out_dir / "comparison.svg")
    return results


def try_contender(
    name: str,
    contender: Contender,
    splits: Mapping[str, tuple[list[Case], Floats]],
    budget: Budget,
    *,
    start: Path | None,
    draws: int = 1000,
    quiet: bool = False,
) -> Result:
    """Train one contender on train, choose its threshold on val, measure it on test."""
    torch.manual_seed(budget.seed)
    truths = {s: np.array([c.fractured for c in cases], bool) for s, (cases, _) in splits.items()}
    both = np.concatenate([splits["val"][1], splits["test"][1]])
    seen, others = contender.prepare(splits["train"][1], both)
    network = contender.build(start)
    rate = budget.rate * (0.1 if contender.starts_from_imagenet and start is not None else 1.0)
    fit(network, seen, truths["train"], budget, rate=rate, title=contender.title, quiet=quiet)
    p = sigmoid(_logits(network, others, budget.batch))
    val, test = p[: len(truths["val"])], p[len(truths["val"]) :]
    threshold = best_f1_threshold(truths["val"], val)
    blocks = np.array([case.block for case in splits["test"][0]])
    measured: dict[str, Callable[[Any, Any], float]] = {
        "accuracy": lambda y, q: accuracy_at(y, q, threshold),
        "precision": lambda y, q: precision_at(y, q, threshold),
        "recall": lambda y, q: sensitivity_at(y, q, threshold),
        "f1": lambda y, q: f1_at(y, q, threshold),
        "auc": auc,
    }
    return Result(
        name=name,
        title=contender.title,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        threshold=threshold,
        figures={
            key: bootstrap_interval(metric, truths["test"], test, blocks, n=draws)
            for key, metric in measured.items()
        },
    )


def fit(
    network: nn.Module,
    images: Floats,
    truth: NDArray[np.bool_],
    budget: Budget,
    *,
    rate: float,
    title: str = "",
    quiet: bool = False,
) -> None:
    """Train on mirrored and shifted images, fractures weighing as much as their absence."""
    generator = np.random.default_rng(budget.seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.02)
    steps = max(1, len(images) // budget.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=budget.epochs * steps + 1
    )
    weight = torch.tensor(float((~truth).sum()) / max(1, int(truth.sum())))
    network.train()
    for epoch in range(budget.epochs):
        order = generator.permutation(len(images))
        for step in track(range(steps), f"{title} {epoch + 1}", disable=quiet, transient=True):
            rows = order[step * budget.batch : (step + 1) * budget.batch]
            pixels = torch.from_numpy(_varied(images[rows], generator))
            wanted = torch.from_numpy(truth[rows].astype(np.float32))[:, None]
            loss = functional.binary_cross_entropy_with_logits(
                network(pixels), wanted, pos_weight=weight
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            schedule.step()


def best_f1_threshold(truth: NDArray[np.bool_], p: NDArray[np.float64]) -> float:
    """Threshold with the highest F1 on these examples; 0.5 where none is fractured."""
    if not truth.any():
        return 0.5
    candidates = np.unique(p)
    return float(max(candidates, key=lambda threshold: f1_at(truth, p, threshold)))


def _varied(images: Floats, generator: np.random.Generator) -> Floats:
    """Mirrored half the time, shifted by at most an eighth, a little brighter or darker."""
    made = []
    size = images.shape[-1]
    for image in images:
        varied = image[..., ::-1] if generator.random() < 0.5 else image
        dy, dx = (int(v) for v in generator.integers(-size // 8, size // 8 + 1, 2))
        made.append(np.roll(varied, (dy, dx), (1, 2)) * generator.uniform(0.8, 1.2))
    return np.asarray(np.clip(np.stack(made), 0, 1), np.float32)


@torch.no_grad()
def _logits(network: nn.Module, images: Floats, batch: int) -> NDArray[np.float64]:
    network.eval()
    parts = [
        network(torch.from_numpy(images[begin : begin + batch]))[:, 0].numpy()
        for begin in range(0, len(images), batch)
    ]
    return np.concatenate(parts).astype(np.float64)


def _split(data_dir: Path, split: str, budget: Budget, *, quiet: bool) -> tuple[list[Case], Floats]:
    """Cases of a split of which it is known whether they are fractured, and their inputs."""
    cases = [case for case in read_cases(data_dir, split) if case.fractured is not None]
    made = [
        preprocess(case.film().pixels, size=budget.size)[0]
        for case in track(cases, f"reading {split}", disable=quiet, transient=True)
    ]
    return cases, np.concatenate(made)


def _write_result(path: Path, result: Result, asked: Mapping[str, Any]) -> None:
    document = asdict(result) | {"asked": dict(asked)}
    part = path.with_suffix(".part")
    part.write_text(json.dumps(document, indent=1), encoding="utf-8")
    part.replace(path)


def _read_result(path: Path, asked: Mapping[str, Any]) -> Result | None:
    """Result of an earlier run with the same budget, or None."""
    if not path.is_file():
        return None
    document = json.loads(path.read_text(encoding="utf-8"))
    if document.pop("asked") != dict(asked):
        return None
    document["figures"] = {k: Interval(**v) for k, v in document["figures"].items()}
    return Result(**document)


# Out ---------------------------------------------------------------------------------------------


def print_comparison(results: Sequence[Result], console: Console | None = None) -> None:
    """A row per contender, the best AUC first."""
    table = Table(title="the same images, split, input and epochs for all", title_justify="left")
    table.add_column("network")
    table.add_column("parameters", justify="right")
    for metric in METRICS:
        table.add_column(metric, justify="right")
    for result in sorted(results, key=lambda r: -r.figures["auc"].value):
        cells = [
            f"{found.value:.3f}\n[{found.low:.3f}, {found.high:.3f}]"
            for found in (result.figures[metric] for metric in METRICS)
        ]
        table.add_row(result.title, f"{result.parameters / 1e6:.1f} M", *cells)
    (console or Console(width=140)).print(table)


def draw_comparison(results: Sequence[Result], path: Path) -> None:
    """A dot with its interval per contender and metric, as SVG."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    from training.curves import STYLE

    order = sorted(results, key=lambda r: r.figures["auc"].value)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 1.2 + 0.35 * len(order)), layout="constrained")
        FigureCanvasSVG(figure)
        for axes, metric in zip(
            figure.subplots(1, len(METRICS), sharey=True), METRICS, strict=True
        ):
            found = [result.figures[metric] for result in order]
            values = [f.value for f in found]
            reach = [[f.value - f.low for f in found], [f.high - f.value for f in found]]
            reach = np.clip(np.nan_to_num(reach), 0, None).tolist()
            axes.errorbar(values, range(len(order)), xerr=reach, fmt="o", color="#1f4e79", ms=4)
            axes.set_title(metric, fontsize=10)
            axes.set_xlim(0, 1.02)
            axes.set_yticks(range(len(order)), [result.title for result in order])
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def main(arguments: Sequence[str] | None = None) -> None:
    """``python -m training.compare --data DIR --out DIR --start FILE``."""
    standard = Budget()
    parser = argparse.ArgumentParser(prog="python -m training.compare", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="ImageNet weights, safetensors")
    parser.add_argument("--only", action="append", choices=sorted(CONTENDERS))
    parser.add_argument("--size", type=int, default=standard.size)
    parser.add_argument("--epochs", type=int, default=standard.epochs)
    parser.add_argument("--seed", type=int, default=standard.seed)
    parser.add_argument("--nice", type=int, default=0)
    given = parser.parse_args(arguments)
    os.nice(given.nice)
    results = compare(
        given.data,
        given.out,
        budget=Budget(size=given.size, epochs=given.epochs, seed=given.seed),
        names=given.only or tuple(CONTENDERS),
        start=given.start,
    )
    print_comparison(results)


if __name__ == "__main__":
    main()
