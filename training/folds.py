"""Out-of-fold figures: heads trained on all folds but one, and asked about that one.

For regions of which the test split shows a handful of fractures. The trunk stays as ImageNet left
it, for a fine-tuned one has seen the other folds: what is measured is what the data carry, not the
shipped model.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from training.datasets import Example, folds_by_group
from training.fracatlas import Radiograph, read_fracatlas
from training.heads import Features, cache_features, train_heads
from training.losses import fracture_score
from training.metrics import Interval, auc, bootstrap_interval
from training.network import REGIONS, Shape
from training.recipe import Recipe, read_recipe
from training.samples import Sample, fracture_targets, plain_sample
from training.train import start_network

Floats = NDArray[np.float32]


class Selected(Features):
    """Some rows of features, as features."""

    def __init__(self, whole: Features, rows: NDArray[np.intp]) -> None:
        super().__init__(whole.layer3, whole.layer4)
        object.__setattr__(self, "rows", rows)

    rows: NDArray[np.intp]

    def at(self, rows: Sequence[int] | NDArray[np.intp]) -> tuple[torch.Tensor, torch.Tensor]:
        """float32 tensors of some of the selected samples."""
        return super().at(self.rows[np.asarray(rows)])


@dataclass(frozen=True, kw_only=True, slots=True)
class OutOfFold:
    """Figures of one region, or of whole images, over every image of the set."""

    name: str
    positives: int
    auc: Interval


def out_of_fold(
    recipe_path: Path,
    data_dir: Path,
    out_dir: Path,
    *,
    folds: int = 5,
    start: Path | None = None,
    shape: Shape | None = None,
    draws: int = 1000,
) -> list[OutOfFold]:
    """AUC of each region and of whole images, each image judged by heads that never saw it.

    Parameters
    ----------
    recipe_path
        Its heads, size and seed are followed; tuning is not done.
    out_dir
        Holds the trunk's features and each fold's logits: what is there is not done again.
    """
    recipe = read_recipe(recipe_path)
    radiographs = read_fracatlas(data_dir)
    fold_of = np.array(folds_by_group([_example(r) for r in radiographs], folds=folds, seed=0))
    samples = [plain_sample(radiograph, recipe.heads.size) for radiograph in radiographs]
    network = start_network(recipe, start, shape)
    features = cache_features(network.trunk, iter(samples), len(samples), out_dir / "features")
    fractures = np.full((len(samples), len(REGIONS)), np.nan, np.float32)
    regions = np.full_like(fractures, np.nan)
    for fold in range(folds):
        held = np.flatnonzero(fold_of == fold)
        path = out_dir / f"fold-{fold}-of-{folds}.npz"
        if not path.is_file():
            rest = np.flatnonzero(fold_of != fold)
            said = _judge(recipe, features, samples, rest, held, shape)
            np.savez(path, fractures=said[0], regions=said[1])
        with np.load(path) as file:
            fractures[held], regions[held] = file["fractures"], file["regions"]
    return _figures(radiographs, fractures, regions, draws)


def _judge(
    recipe: Recipe,
    features: Features,
    samples: Sequence[Sample],
    rest: NDArray[np.intp],
    held: NDArray[np.intp],
    shape: Shape | None,
) -> tuple[Floats, Floats]:
    """Fracture and region logits [held, regions] by heads that were trained on the rest."""
    network = start_network(recipe, None, shape)
    train_heads(
        network,
        Selected(features, rest),
        [samples[row] for row in rest],
        epochs=recipe.heads.epochs,
        batch=recipe.heads.batch,
        rate=recipe.heads.rate,
        seed=recipe.seed,
        weights=recipe.weights,
        oversample=recipe.heads.oversample,
    )
    fractures, regions = [], []
    network.eval()
    with torch.no_grad():
        for begin in range(0, len(held), recipe.heads.batch):
            outputs = network.heads(*features.at(held[begin : begin + recipe.heads.batch]))
            fractures.append(outputs.fracture_logits.numpy())
            regions.append(outputs.region_logits[:, : len(REGIONS)].numpy())
    return np.concatenate(fractures), np.concatenate(regions)


def _figures(
    radiographs: Sequence[Radiograph], fractures: Floats, regions: Floats, draws: int
) -> list[OutOfFold]:
    truth = np.stack([fracture_targets(radiograph) for radiograph in radiographs])
    blocks = np.array([radiograph.block for radiograph in radiographs])
    found = []
    for at, region in enumerate(REGIONS):
        known = ~np.isnan(truth[:, at])
        y = truth[known, at]
        score = bootstrap_interval(auc, y, fractures[known, at], blocks[known], n=draws)
        found.append(OutOfFold(name=region, positives=int(y.sum()), auc=score))
    whole = np.array([radiograph.fractured for radiograph in radiographs])
    pooled = fracture_score(torch.from_numpy(fractures), torch.from_numpy(regions)).numpy()
    score = bootstrap_interval(auc, whole, pooled, blocks, n=draws)
    return [*found, OutOfFold(name="pooled", positives=int(whole.sum()), auc=score)]


def _example(radiograph: Radiograph) -> Example:
    return Example(
        image=radiograph.path,
        source="fracatlas",
        group=radiograph.block,
        fractured=radiograph.fractured,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """``python -m training.folds RECIPE --data DIR --out DIR --start FILE``."""
    parser = argparse.ArgumentParser(prog="python -m training.folds", description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="ImageNet weights, safetensors")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--nice", type=int, default=0)
    given = parser.parse_args(arguments)
    os.nice(given.nice)
    table = Table(title="out of fold, by block, heads on the frozen trunk", title_justify="left")
    for column in ("", "fractured", "AUC"):
        table.add_column(column)
    for row in out_of_fold(
        given.recipe, given.data, given.out, folds=given.folds, start=given.start
    ):
        table.add_row(row.name, str(row.positives), str(row.auc))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
