"""Splits that never part a patient: train, validation and test, or folds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from training.datasets.example import Example

SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


def split_by_group(
    examples: Sequence[Example],
    *,
    shares: Mapping[str, float] | None = None,
    seed: int = 0,
) -> dict[str, list[Example]]:
    """Examples by split, whole groups each, with fractures spread as the shares say.

    Parameters
    ----------
    shares
        Share of the images by name of the split; they sum to 1. None is 70, 15 and 15 %.
    seed
        The same seed gives the same split, in whatever order the examples come.

    Raises
    ------
    ValueError
        If the shares do not sum to 1, or there are fewer groups than splits.
    """
    wanted = dict(SHARES if shares is None else shares)
    if abs(sum(wanted.values()) - 1) > 1e-6 or min(wanted.values()) <= 0:
        raise ValueError(f"shares must be positive and sum to 1: {wanted}")
    dealt = _deal(examples, wanted, seed)
    return {name: [e for e in examples if dealt[e.group] == name] for name in wanted}


def folds_by_group(examples: Sequence[Example], *, folds: int = 5, seed: int = 0) -> list[int]:
    """Fold of each example, 0 to ``folds`` - 1; a group lies in one.

    Raises
    ------
    ValueError
        If there are fewer groups than folds.
    """
    dealt = _deal(examples, {str(i): 1 / folds for i in range(folds)}, seed)
    return [int(dealt[e.group]) for e in examples]


def _deal(examples: Sequence[Example], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """Split of each group: the largest first, each to where most of its kind is wanting."""
    groups: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        groups[example.group].append(example)
    if len(groups) < len(shares):
        raise ValueError(f"{len(groups)} groups cannot fill {len(shares)} splits")
    names = sorted(groups)
    np.random.default_rng(seed).shuffle(names)
    names.sort(key=lambda g: (-_positives(groups[g]), -len(groups[g])))
    totals = np.array([len(examples), sum(_positives(g) for g in groups.values())], dtype=float)
    wanted = {split: np.maximum(totals * share, 1e-9) for split, share in shares.items()}
    held = {split: np.zeros(2) for split in shares}
    dealt = {}
    for position, name in enumerate(names):
        size = np.array([len(groups[name]), _positives(groups[name])], dtype=float)
        empty = [s for s in shares if not held[s].any()]
        choice = empty if len(names) - position <= len(empty) else list(shares)
        kind = 1 if size[1] else 0
        split = max(choice, key=lambda s: 1 - held[s][kind] / wanted[s][kind])
        held[split] += size
        dealt[name] = split
    return dealt


def _positives(group: Sequence[Example]) -> int:
    return sum(e.fractured is True for e in group)
