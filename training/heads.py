"""Heads on a frozen trunk: one pass over the pictures, then minutes of training.

The features are kept on disk in fp16; the trunk is not touched.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.losses import Weights, task_losses, total
from training.network import Network, Trunk
from training.samples import Sample, collate

Half = NDArray[np.float16]

_FLAT_AXIS = 1e-3
"""Of the largest singular value: an axis below this is noise."""


@dataclass(frozen=True, slots=True)
class Features:
    """What the trunk says of samples: layer3 [N, C, S/16, S/16], layer4 [N, D, S/32, S/32]."""

    layer3: Half
    layer4: Half

    def at(self, rows: Sequence[int] | NDArray[np.intp]) -> tuple[Tensor, Tensor]:
        """float32 tensors of some samples."""
        return (
            torch.from_numpy(np.asarray(self.layer3[rows], np.float32)),
            torch.from_numpy(np.asarray(self.layer4[rows], np.float32)),
        )


@torch.no_grad()
def cache_features(
    trunk: Trunk, samples: Iterator[Sample], count: int, folder: Path, *, batch: int = 16
) -> Features:
    """Run the trunk once over samples and keep what it says under `folder`.

    A cache that is whole is read, not made again: the caller names the folder after
    everything that matters (trunk, size, samples).
    """
    paths = [folder / f"{name}.npy" for name in ("layer3", "layer4")]
    if all(path.exists() for path in paths):
        layer3, layer4 = (np.load(path, mmap_mode="r") for path in paths)
        return Features(layer3, layer4)
    folder.mkdir(parents=True, exist_ok=True)
    parts = [path.with_suffix(".part") for path in paths]
    maps: list[Half] = []
    trunk.eval()
    done = 0
    pending: list[Sample] = []
    for index, sample in enumerate(samples):
        pending.append(sample)
        if len(pending) < batch and index + 1 < count:
            continue
        device = trunk.conv1.weight.device
        pixels = torch.from_numpy(np.stack([s.pixels for s in pending])).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            found = trunk(pixels.contiguous(memory_format=torch.channels_last))
        if not maps:
            maps = [
                np.lib.format.open_memmap(part, "w+", np.float16, (count, *f.shape[1:]))
                for part, f in zip(parts, found, strict=True)
            ]
        for kept, values in zip(maps, found, strict=True):
            kept[done : done + len(pending)] = values.float().clamp(max=6e4).cpu().numpy()
        done += len(pending)
        pending = []
    for part, path in zip(parts, paths, strict=True):
        part.replace(path)
    return Features(maps[0], maps[1])


@torch.no_grad()
def fit_distance(network: Network, pooled: Tensor) -> None:
    """Set the limb head's subspace from pooled features [N, C] of limb radiographs.

    The slope stays as it is: zero, and so silent, until `set_radius`.
    """
    head = network.limb
    directions = head.directions(pooled)
    mean = directions.mean(0)
    _, values, axes = torch.linalg.svd((directions - mean).double().cpu(), full_matrices=False)
    count = min(len(head.axes), int((values > _FLAT_AXIS * values[0]).sum()), len(pooled) // 2)
    head.mean.copy_(mean)
    head.axes.zero_()
    head.axes[:count] = axes[:count].float().to(head.axes.device)


@torch.no_grad()
def set_radius(network: Network, pooled: Tensor, *, kept: float = 0.99, rise: float = 0.1) -> None:
    """Let the distance speak: `kept` of these limb radiographs lie inside the radius.

    They must be others than those of `fit_distance`, which lie nearer than any new one.
    Its logit is 1 where the distance is smaller by the share `rise` of the radius. The
    threshold is chosen on val, not here.
    """
    radius = float(torch.quantile(head_distance(network, pooled), kept))
    network.limb.radius.fill_(radius)
    network.limb.slope.fill_(1.0 / max(rise * radius, 1e-6))


def head_distance(network: Network, pooled: Tensor) -> Tensor:
    """Distances [N] of pooled features [N, C]."""
    return network.limb.distance(pooled)[:, 0]


def train_heads(
    network: Network,
    features: Features,
    samples: Sequence[Sample],
    *,
    epochs: int,
    batch: int = 32,
    rate: float = 1e-3,
    seed: int = 0,
    weights: Weights | None = None,
    oversample: float = 1.0,
) -> list[dict[str, float]]:
    """Train every head on cached features; the trunk is not run.

    Parameters
    ----------
    features, samples
        Row by row of the same views; the samples' pixels may be empty of content.
    oversample
        How many times an image with a box is shown per epoch.

    Returns
    -------
    list of dict
        Mean loss of each task per epoch.
    """
    generator = np.random.default_rng(seed)
    torch.manual_seed(seed)
    parameters = list(network.head_parameters())
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.02)
    copies = [round(oversample) if len(sample.boxes) else 1 for sample in samples]
    order = np.repeat(np.arange(len(samples)), copies)
    steps = epochs * (len(order) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=max(steps, 1) + 1)
    history: list[dict[str, float]] = []
    for _ in range(epochs):
        generator.shuffle(order)
        sums: dict[str, float] = {}
        for start in range(0, len(order) - batch + 1, batch):
            rows = np.sort(order[start : start + batch])
            layer3, layer4 = (layer.to(network.device) for layer in features.at(rows))
            with torch.autocast(network.device.type, torch.bfloat16):
                outputs = network.heads(layer3, layer4)
            batch_of = collate([samples[i] for i in rows]).to(network.device)
            losses = task_losses(outputs, batch_of)
            optimizer.zero_grad(set_to_none=True)
            total(losses, weights or Weights()).backward()
            torch.nn.utils.clip_grad_norm_(parameters, 5.0)
            optimizer.step()
            schedule.step()
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach())
        count = max(1, len(order) // batch)
        history.append({name: value / count for name, value in sums.items()})
    return history
