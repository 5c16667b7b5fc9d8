"""A training run: heads on the frozen trunk, places of the regions, then everything together.

Resumable at every stage: what `out_dir` holds is not done again. Seeded: the views of a
step depend on the recipe's seed and the step alone. Exporting is elsewhere.
"""

from __future__ import annotations

import argparse
import copy
import csv
import hashlib
import json
import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from training.augment import augmented_sample
from training.fracatlas import Radiograph, read_fracatlas
from training.heads import Features, cache_features, fit_distance, set_radius, train_heads
from training.losses import fracture_score, task_losses, total
from training.metrics import auc
from training.negatives import make_negative
from training.network import LABELS, REGIONS, Network, Shape, load_imagenet
from training.places import load_places, places_of, save_places
from training.recipe import Recipe, Tuning, read_recipe
from training.samples import Floats, Sample, collate, other_sample, plain_sample
from worker.preprocess import preprocess

CHECKPOINT: Final = "checkpoint.pt"
BEST: Final = "best.pt"


@dataclass(frozen=True, kw_only=True, slots=True)
class Validation:
    """Figures on the validation split.

    Attributes
    ----------
    fracture, fracture_stressed
        AUC, all regions pooled, on whole plates and on stressed views.
    regions, regions_stressed
        Macro AUC of the regions in view, and top-1 accuracy on stressed views of one region.
    """

    fracture: float
    fracture_stressed: float
    regions: float
    regions_stressed: float

    @property
    def score(self) -> float:
        """What the best checkpoint is chosen by: the stressed views count as much."""
        parts = (self.fracture, self.fracture_stressed, self.regions, self.regions_stressed)
        return float(np.mean([p for p in parts if not math.isnan(p)] or [0.0]))


def run_training(
    recipe_path: Path,
    data_dir: Path,
    out_dir: Path,
    resume: bool = True,  # noqa: FBT001, FBT002 - named by every caller
    *,
    start: Path | None = None,
    shape: Shape | None = None,
    device: str = "auto",
) -> Path:
    """Follow a recipe and leave a checkpoint.

    Parameters
    ----------
    recipe_path
        TOML, see `training.recipe`.
    data_dir
        images.csv, boxes.csv and images/.
    out_dir
        Holds checkpoints, caches and the CSV log. Emptied first if `resume` is false.
    start
        ImageNet weights as safetensors; random weights if None.
    shape
        Size of the network; ResNet50 if None.
    device
        "cpu", "cuda", or "auto": a GPU if torch finds one.

    Returns
    -------
    Path
        The checkpoint to export.
    """
    recipe = read_recipe(recipe_path)
    if not resume and out_dir.exists():
        shutil.rmtree(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(recipe_path, out_dir / "recipe.toml")
    radiographs = read_fracatlas(data_dir)
    network = start_network(recipe, start, shape).to(pick_device(device))
    heads_path = out_dir / "heads.pt"
    if heads_path.exists():
        network.load_state_dict(
            torch.load(heads_path, weights_only=True, map_location="cpu")["model"]
        )
    else:
        fit_heads(network, recipe, radiographs, out_dir)
        save(heads_path, network, recipe, {})
    if not (recipe.tuning.steps or recipe.tuning.minutes):
        return heads_path
    return Tuner(network, recipe, radiographs, out_dir).run()


def pick_device(name: str) -> torch.device:
    """The device of a name; "auto" is a GPU if there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def start_network(recipe: Recipe, start: Path | None, shape: Shape | None = None) -> Network:
    """A network with seeded heads and, if given, ImageNet's trunk."""
    torch.manual_seed(recipe.seed)
    network = Network(shape)
    if start is not None:
        load_imagenet(network.trunk, start)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def save(path: Path, network: Network, recipe: Recipe, more: Mapping[str, Any]) -> None:
    """Write a checkpoint so that a kill leaves the old one or the new one."""
    part = path.with_suffix(".part")
    document = {
        "model": network.state_dict(),
        "shape": asdict(network.shape),
        "recipe": json.dumps(asdict(recipe)),
        **more,
    }
    torch.save(document, part)
    part.replace(path)


# Heads on the frozen trunk ------------------------------------------------------------------


def fit_heads(
    network: Network, recipe: Recipe, radiographs: Sequence[Radiograph], out_dir: Path
) -> None:
    """Train the heads on cached features of whole plates, and place the regions with them."""
    chosen = [r for r in radiographs if r.split == "train"]
    size, count = recipe.heads.size, recipe.heads.negatives
    samples: list[Sample] = []
    cache = out_dir / f"features-{_digest(network)}-{size}-{count}"

    def every() -> Iterator[Sample]:
        with _progress() as progress:
            for radiograph in progress.track(chosen, description="whole plates"):
                samples.append(plain_sample(radiograph, size))
                yield samples[-1]
            rng = np.random.default_rng(recipe.seed)
            for _ in progress.track(range(count), description="other pictures"):
                samples.append(other_sample(make_negative(rng, size), size))
                yield samples[-1]

    features = cache_features(network.trunk, every(), len(chosen) + count, cache)
    if not samples:
        samples.extend(every())
    pooled = _pooled(features, len(chosen)).to(network.device)
    fit_distance(network, pooled[::2])
    history = train_heads(
        network,
        features,
        samples,
        epochs=recipe.heads.epochs,
        batch=recipe.heads.batch,
        rate=recipe.heads.rate,
        seed=recipe.seed,
        weights=recipe.weights,
        oversample=recipe.heads.oversample,
    )
    for epoch, losses in enumerate(history):
        append_csv(out_dir / "heads.csv", {"epoch": epoch, **losses})
    set_radius(network, pooled[1::2])
    save_places(out_dir / "places.npz", chosen, _places(network, features, chosen, size))
    shutil.rmtree(cache)


def _pooled(features: Features, count: int) -> torch.Tensor:
    """Mean features [count, C] as the limb head pools them."""
    parts = []
    for begin in range(0, count, 64):
        rows = np.arange(begin, min(begin + 64, count))
        parts.append(torch.cat([layer.mean((2, 3)) for layer in features.at(rows)], 1))
    return torch.cat(parts)


@torch.no_grad()
def _places(
    network: Network, features: Features, radiographs: Sequence[Radiograph], size: int
) -> dict[str, Floats]:
    """Places of the regions of images whose features are cached."""
    found = {}
    for index, radiograph in enumerate(radiographs):
        layer3, layer4 = (layer.to(network.device) for layer in features.at([index]))
        maps = network.regions(layer3, layer4)[0].float().cpu().numpy()
        grey = (radiograph.pixels() / 255.0).astype(np.float32)
        pixels, letterbox = preprocess(grey, size=size)
        found[radiograph.path.name] = places_of(radiograph, maps, pixels, letterbox)
    return found


def _digest(network: Network) -> str:
    """Twelve digits of the trunk's weights."""
    digest = hashlib.sha256()
    for value in network.trunk.state_dict().values():
        digest.update(value.contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()[:12]


# Trunk and heads together -------------------------------------------------------------------


class Tuner:
    """Fine-tunes everything on augmented views; holds the state that a checkpoint keeps."""

    def __init__(
        self,
        network: Network,
        recipe: Recipe,
        radiographs: Sequence[Radiograph],
        out_dir: Path,
    ) -> None:
        self.network = network
        self.recipe = recipe
        self.tuning: Tuning = recipe.tuning
        self.out_dir = out_dir
        self.train = [r for r in radiographs if r.split == "train"]
        self.val = [r for r in radiographs if r.split == "val"]
        self.places = load_places(out_dir / "places.npz")
        self.normal = [r for r in self.train if not r.fractured]
        self.broken = [r for r in self.train if r.fractured]
        self.normal_odds = _even_odds(self.normal)
        self.broken_odds = _even_odds(self.broken)
        network.trunk.freeze_early_stages()
        # The distance was measured on another trunk's features: silent until it is again.
        network.limb.slope.zero_()
        self.average = copy.deepcopy(network).requires_grad_(requires_grad=False)
        trunk = [p for p in network.trunk.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": trunk, "lr": 0.0, "peak": self.tuning.trunk_rate},
                {"params": list(network.head_parameters()), "lr": 0.0, "peak": self.tuning.rate},
            ],
            weight_decay=self.tuning.weight_decay,
            fused=True,
        )
        self.step = 0
        self.seconds = 0.0
        self.best = -1.0
        self.waited = 0
        self._resume()

    def _resume(self) -> None:
        path = self.out_dir / CHECKPOINT
        if not path.exists():
            return
        state = torch.load(path, weights_only=True, map_location="cpu")
        self.network.load_state_dict(state["live"])
        self.average.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.best, self.waited = state["best"], state["waited"]

    def keep(self) -> None:
        """Write the checkpoint."""
        more = {
            "live": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
            "waited": self.waited,
        }
        save(self.out_dir / CHECKPOINT, self.average, self.recipe, more)

    @property
    def progress(self) -> float:
        """Share of the run that is done, 0 to 1."""
        if self.tuning.steps:
            return min(1.0, self.step / self.tuning.steps)
        return min(1.0, self.seconds / (60 * self.tuning.minutes))

    def batch_samples(self, step: int) -> list[Sample]:
        """The views of a step: drawn by the seed and the step alone."""
        rng = np.random.default_rng([self.recipe.seed, step])
        size = int(rng.choice(self.tuning.sizes))
        samples = []
        for _ in range(self.tuning.batch):
            draw = rng.random()
            if draw < self.tuning.negative:
                samples.append(other_sample(make_negative(rng, size), size))
                continue
            fractured = draw < self.tuning.negative + self.tuning.fractured
            pool, odds = (
                (self.broken, self.broken_odds) if fractured else (self.normal, self.normal_odds)
            )
            radiograph = pool[int(rng.choice(len(pool), p=odds))]
            places = self.places.get(radiograph.path.name)
            samples.append(augmented_sample(radiograph, places, rng, size, self.recipe.augment))
        return samples

    def run(self) -> Path:
        """Train to the end and return the checkpoint with the best averaged weights."""
        self.network.train()
        kept = validated = time.monotonic()
        with ThreadPoolExecutor(1) as pool, _progress() as bars:
            bar = bars.add_task("fine-tuning", total=1.0)
            bars.update(bar, completed=self.progress)
            ahead = pool.submit(self.batch_samples, self.step)
            while self.progress < 1.0:
                begun = time.monotonic()
                samples = ahead.result()
                ahead = pool.submit(self.batch_samples, self.step + 1)
                losses = self.learn(samples)
                self.step += 1
                now = time.monotonic()
                self.seconds += now - begun
                append_csv(
                    self.out_dir / "tuning.csv",
                    {"step": self.step, "seconds": round(self.seconds, 1), **losses},
                )
                bars.update(bar, completed=self.progress)
                if now - validated > 60 * self.tuning.validate_minutes and self.progress < 0.97:
                    self.validate()
                    validated = time.monotonic()
                    if self.tuning.patience and self.waited >= self.tuning.patience:
                        break
                if now - kept > 60 * self.tuning.checkpoint_minutes:
                    self.keep()
                    kept = time.monotonic()
        self.validate()
        self.keep()
        return self.finish()

    def finish(self) -> Path:
        """Measure the limb head's distance on the best weights' own features, and keep them."""
        path = self.out_dir / BEST
        state = torch.load(path, weights_only=True, map_location="cpu")
        self.average.load_state_dict(state["model"])
        measure_distance(self.average, self.train, self.places, self.recipe)
        save(path, self.average, self.recipe, {"step": state["step"]})
        return path

    def learn(self, samples: Sequence[Sample]) -> dict[str, float]:
        """One step; returns each task's loss."""
        device = self.network.device
        batch = collate(samples).to(device)
        self._set_rates()
        with torch.autocast(device.type, torch.bfloat16):
            outputs = self.network(batch.pixels)
        losses = task_losses(outputs, batch, self.tuning.smoothing)
        loss = total(losses, self.recipe.weights)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), 3.0)
        if torch.isfinite(norm):
            self.optimizer.step()
            self._average()
        values = {name: round(float(value.detach()), 5) for name, value in losses.items()}
        return {**values, "norm": round(float(norm), 4)}

    def _set_rates(self) -> None:
        done = self.progress
        if done < self.tuning.warm_up:
            share = (done + 1e-3) / self.tuning.warm_up
        else:
            turn = (done - self.tuning.warm_up) / (1 - self.tuning.warm_up)
            share = 0.5 * (1 + math.cos(math.pi * turn))
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * max(share, 0.01)

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.tuning.average, (1 + self.step) / (10 + self.step))
        for mean, live in zip(self.average.parameters(), self.network.parameters(), strict=True):
            if live.requires_grad:
                mean.lerp_(live, 1 - decay)

    def validate(self) -> Validation:
        """Measure the averaged weights on val, log it, and keep them if they are the best."""
        found = validate(self.average, self.val, self.recipe.size, seed=self.recipe.seed + 1)
        append_csv(
            self.out_dir / "validation.csv",
            {"step": self.step, "minutes": round(self.seconds / 60, 1), **asdict(found)},
        )
        if found.score > self.best:
            self.best, self.waited = found.score, 0
            save(self.out_dir / BEST, self.average, self.recipe, {"step": self.step})
        else:
            self.waited += 1
        self.network.train()
        return found


@torch.no_grad()
def measure_distance(
    network: Network,
    radiographs: Sequence[Radiograph],
    places: Mapping[str, Floats],
    recipe: Recipe,
    *,
    views: int = 1000,
) -> None:
    """Let the limb head know how limbs look to this trunk: whole plates and views, half each."""
    network.eval()
    rng = np.random.default_rng([recipe.seed, 10**8])
    order = rng.permutation(len(radiographs))[: max(2, views // 2)]
    pooled: list[torch.Tensor] = []
    for begin in range(0, len(order), 8):
        samples = []
        for index in order[begin : begin + 8]:
            one = radiographs[int(index)]
            samples.append(plain_sample(one, recipe.size))
            place = places.get(one.path.name)
            view = augmented_sample(one, place, rng, recipe.size, recipe.augment)
            samples += [view] if view.limb == 1.0 else []
        pixels = torch.from_numpy(np.stack([s.pixels for s in samples])).to(network.device)
        with torch.autocast(network.device.type, torch.bfloat16):
            layer3, layer4 = network.trunk(pixels.contiguous(memory_format=torch.channels_last))
        pooled.append(network.limb.pool(layer3.float(), layer4.float()))
    every = torch.cat(pooled)
    fit_distance(network, every[::2])
    set_radius(network, every[1::2])


def _even_odds(radiographs: Sequence[Radiograph]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Odds of drawing each image: rare regions more often, by the root of their rarity."""
    counts = dict.fromkeys(LABELS, 1)
    for radiograph in radiographs:
        counts[radiograph.primary] += 1
    odds = np.array([counts[r.primary] ** -0.5 for r in radiographs])
    return odds / max(float(odds.sum()), 1e-12)


@torch.no_grad()
def predict(
    network: Network, pixels: Iterator[Floats], count: int, batch: int = 16
) -> tuple[Floats, Floats, Floats]:
    """Region logits [N, labels], fracture logits [N, regions], limb logits [N] of inputs."""
    network.eval()
    parts: list[tuple[Floats, Floats, Floats]] = []
    pending: list[Floats] = []
    for index, image in enumerate(pixels):
        pending.append(image)
        if len(pending) < batch and index + 1 < count:
            continue
        stacked = torch.from_numpy(np.concatenate(pending)).to(network.device)
        with torch.autocast(network.device.type, torch.bfloat16):
            outputs = network(stacked.contiguous(memory_format=torch.channels_last))
        parts.append(
            (
                outputs.region_logits.float().cpu().numpy(),
                outputs.fracture_logits.float().cpu().numpy(),
                outputs.limb_logit[:, 0].float().cpu().numpy(),
            )
        )
        pending = []
    regions, fractures, limb = zip(*parts, strict=True)
    return np.concatenate(regions), np.concatenate(fractures), np.concatenate(limb)


def validate(
    network: Network, radiographs: Sequence[Radiograph], size: int, *, seed: int
) -> Validation:
    """Measure on whole plates and on stressed views; the same views for the same seed."""
    figures: list[float] = []
    for inputs, samples in (
        _whole_inputs(radiographs, size),
        _stressed_inputs(radiographs, size, seed),
    ):
        regions, fractures, _ = predict(network, iter(inputs), len(inputs))
        truth = np.array([float(np.nansum(s.fractures) > 0) for s in samples])
        known = np.array([bool((~np.isnan(s.fractures)).any()) for s in samples])
        score = fracture_score(torch.from_numpy(fractures), torch.from_numpy(regions)).numpy()
        figures.append(auc(truth[known], score[known]))
        targets = np.stack([s.regions for s in samples])[:, : len(REGIONS)]
        figures.append(_known_macro_auc(targets, regions[:, : len(REGIONS)]))
    return Validation(
        fracture=figures[0],
        regions=figures[1],
        fracture_stressed=figures[2],
        regions_stressed=figures[3],
    )


def _whole_inputs(
    radiographs: Sequence[Radiograph], size: int
) -> tuple[list[Floats], list[Sample]]:
    samples = [plain_sample(radiograph, size) for radiograph in radiographs]
    return [s.pixels[None] for s in samples], samples


def _stressed_inputs(
    radiographs: Sequence[Radiograph], size: int, seed: int
) -> tuple[list[Floats], list[Sample]]:
    """Views by training's augmentation on a seed that training does not draw."""
    samples = []
    for index, radiograph in enumerate(radiographs):
        rng = np.random.default_rng([seed, 10**9, index])
        samples.append(augmented_sample(radiograph, None, rng, size))
    return [s.pixels[None] for s in samples], samples


def _known_macro_auc(targets: Floats, logits: Floats) -> float:
    """Mean AUC over regions, of the views of which it is known whether they show the region."""
    found = []
    for truth, score in zip(targets.T, logits.T, strict=True):
        known = ~np.isnan(truth)
        value = auc(truth[known], score[known])
        if not math.isnan(value):
            found.append(value)
    return float(np.mean(found)) if found else math.nan


def append_csv(path: Path, row: Mapping[str, Any]) -> None:
    """Add a row to a CSV log, with a header if the log is new."""
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>5.1f} %"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        transient=True,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m training.train RECIPE --data DIR --out DIR --start FILE`."""
    parser = argparse.ArgumentParser(prog="python -m training.train", description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="ImageNet weights, safetensors")
    parser.add_argument("--again", action="store_true", help="forget what --out holds")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=0, help="0: as many as cores")
    found = parser.parse_args(arguments)
    if found.threads:
        torch.set_num_threads(found.threads)
    checkpoint = run_training(
        found.recipe,
        found.data,
        found.out,
        not found.again,
        start=found.start,
        device=found.device,
    )
    print(f"trained: {checkpoint}")


if __name__ == "__main__":
    main()
