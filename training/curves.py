"""ROC, precision-recall and reliability curves of exported models, as SVG.

The same answers give the same file, byte for byte, so that a change in a picture is a change in
a model.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from numpy.typing import NDArray

from training.cases import read_cases
from training.evaluate import POOLED, bone_truth, readings_of
from training.metrics import auc, average_precision, precision_recall, reliability, roc
from training.predictions import Predictions, predict
from training.suite import Panel, Suite

Floats = NDArray[np.float64]

INK = {"plain": "#1f4e79", "stressed": "#c0504d"}
OTHER_INK = "#555555"

STYLE: dict[Any, Any] = {
    "svg.hashsalt": "osteon",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "path.simplify": True,
    "path.simplify_threshold": 1.0,
}


def draw_curves(answers: Mapping[str, tuple[Floats, Floats]], title: str, path: Path) -> None:
    """Three panels of one model: ROC, precision against recall, and reliability.

    Parameters
    ----------
    answers
        Truth (0 or 1) and probability by the name of the set, "plain" or "stressed". A set
        without both answers is left out.
    path
        SVG file to write.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 3.3), layout="constrained")
        FigureCanvasSVG(figure)
        left, middle, right = figure.subplots(1, 3)
        for name, (y, p) in answers.items():
            if len(np.unique(y)) == 2:
                _draw_set(left, middle, right, name, y, p)
        _dress(left, "ROC", "1 − specificity", "sensitivity")
        _dress(middle, "precision and recall", "recall (sensitivity)", "precision")
        _dress(right, "reliability", "stated probability", "share fractured")
        for axes in (left, right):
            axes.plot([0, 1], [0, 1], color=OTHER_INK, linewidth=0.7, linestyle=":")
        figure.suptitle(title)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _draw_set(left: Axes, middle: Axes, right: Axes, name: str, y: Floats, p: Floats) -> None:
    ink = INK.get(name, OTHER_INK)
    false_rate, sensitivity, _ = roc(y, p)
    left.plot(
        false_rate, sensitivity, color=ink, linewidth=1.4, drawstyle="steps-post",
        label=f"{name}: AUC {auc(y, p):.3f}",
    )  # fmt: skip
    precision, recall, _ = precision_recall(y, p)
    middle.plot(
        recall, precision, color=ink, linewidth=1.4, drawstyle="steps-pre",
        label=f"{name}: AP {average_precision(y, p):.3f}",
    )  # fmt: skip
    table = reliability(y, p)
    right.plot(table[:, 0], table[:, 1], color=ink, linewidth=0.8, label=name)
    # A dot's area is the number of images in its bin: a lone dot far off means little.
    right.scatter(table[:, 0], table[:, 1], color=ink, s=8 + 120 * table[:, 2] / table[:, 2].sum())


def _dress(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_aspect("equal")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", fontsize=7, frameon=False)


def answers_by_model(
    panel: Panel, sets: Mapping[str, Predictions]
) -> dict[str, dict[str, tuple[Floats, Floats]]]:
    """Truth and probability of each bone model and of all together, by set."""
    found: dict[str, dict[str, tuple[Floats, Floats]]] = {}
    for name, predictions in sets.items():
        readings = readings_of(panel, predictions.answers)
        for at, bone in enumerate(panel.bones):
            truth = bone_truth(panel, predictions, bone)
            known = ~np.isnan(truth)
            found.setdefault(bone.name, {})[name] = (truth[known], readings.fractures[known, at])
        whole = predictions.truth.fractured.astype(np.float64)
        known = ~np.isnan(whole)
        found.setdefault(POOLED, {})[name] = (whole[known], readings.pooled[known])
    return found


def write_curves(
    models_dir: Path,
    data_dir: Path,
    out_dir: Path,
    *,
    split: str = "test",
    cache_dir: Path | None = None,
    quiet: bool = False,
) -> list[Path]:
    """One SVG per bone model, and one for all together, of the plain and the stressed split."""
    suite = Suite(models_dir)
    cases = read_cases(data_dir, split)
    sets = {
        variant: predict(suite, cases, variant, cache_dir=cache_dir, quiet=quiet)
        for variant in ("plain", "stressed")
    }
    written = []
    for model, answers in answers_by_model(suite.panel, sets).items():
        counts = ", ".join(f"{int(y.sum())} of {len(y)} fractured" for y, _ in answers.values())
        path = out_dir / f"{model}.svg"
        draw_curves(answers, f"{model} ({counts})", path)
        written.append(path)
    return written


def main(arguments: Sequence[str] | None = None) -> None:
    """``python -m training.curves MODELS --data DIR --out DIR``."""
    parser = argparse.ArgumentParser(prog="python -m training.curves", description=__doc__)
    parser.add_argument("models", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--cache", type=Path)
    given = parser.parse_args(arguments)
    for path in write_curves(
        given.models, given.data, given.out, split=given.split, cache_dir=given.cache
    ):
        print(path)


if __name__ == "__main__":
    main()
