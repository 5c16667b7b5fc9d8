"""What a suite of models says of a split, with the truth beside it; kept on disk once made."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from training.cases import Case
from training.stress import Film
from training.suite import Answers, Suite
from worker.preprocess import SCHEME

Floats = NDArray[np.float32]
BATCH = 8


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Truth:
    """What is known of each of N films as a variant shows them.

    Attributes
    ----------
    regions
        [N, R] 1 in view, 0 not, NaN unknown, in the router's order.
    primary
        [N] index of the region that the view is centred on, or -1.
    fractured
        [N] 1, 0 or NaN unknown.
    fractured_regions
        [N, R] 1 fractured there, 0 not; NaN where the region is not in view, or may not be on
        a film that is fractured elsewhere.
    boxes
        Fractures of each film, [T, 4] in its pixels.
    box_regions
        Region of each of them.
    """

    regions: Floats
    primary: NDArray[np.intp]
    fractured: Floats
    fractured_regions: Floats
    boxes: tuple[NDArray[np.float64], ...]
    box_regions: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Predictions:
    """Cases of a split, their truth and the models' raw answers, row by row."""

    cases: Sequence[Case]
    truth: Truth
    answers: Answers

    @property
    def blocks(self) -> NDArray[np.str_]:
        """[N] block of each case, which the bootstrap draws whole."""
        return np.array([case.block for case in self.cases])


def predict(
    suite: Suite,
    cases: Sequence[Case],
    variant: str = "plain",
    *,
    cache_dir: Path | None = None,
    quiet: bool = False,
) -> Predictions:
    """Answers of ``suite`` to ``cases`` as ``variant`` shows them.

    Parameters
    ----------
    cache_dir
        Where answers are kept, under a digest of the networks, the files, the variant and the
        preprocessing; None keeps nothing.
    """
    names = suite.panel.router.regions
    path = None if cache_dir is None else cache_dir / f"{_key(suite, cases, variant)}.npz"
    if path is not None and path.is_file():
        plain = variant == "plain"
        films = [_plain_truth(c) if plain else _without_pixels(c.film(variant)) for c in cases]
        return Predictions(cases=cases, truth=truth_of(cases, films, names), answers=_load(path))
    parts: list[Answers] = []
    films = []
    steps = range(0, len(cases), BATCH)
    for begin in track(steps, description=variant, disable=quiet, transient=True):
        batch = [case.film(variant) for case in cases[begin : begin + BATCH]]
        parts.append(suite.run([film.pixels for film in batch]))
        films += [_without_pixels(film) for film in batch]
    answers = _join(parts)
    if path is not None:
        _save(path, answers)
    return Predictions(cases=cases, truth=truth_of(cases, films, names), answers=answers)


def ask(suite: Suite, images: Sequence[NDArray[np.float32]]) -> Answers:
    """Answers of ``suite`` to images that nothing is known of."""
    return _join([suite.run(images[b : b + BATCH]) for b in range(0, len(images), BATCH)])


def truth_of(cases: Sequence[Case], films: Sequence[Film], regions: Sequence[str]) -> Truth:
    """Truth of cases as films show them, in the order of ``regions``."""
    count = len(cases)
    seen = np.full((count, len(regions)), np.nan, np.float32)
    there = np.full((count, len(regions)), np.nan, np.float32)
    primary = np.full(count, -1, np.intp)
    for row, (case, film) in enumerate(zip(cases, films, strict=True)):
        if film.primary in regions:
            primary[row] = list(regions).index(str(film.primary))
        for column, region in enumerate(regions):
            if case.regions is not None and region not in film.uncertain:
                seen[row, column] = region in film.regions
            if region in film.box_regions:
                seen[row, column] = there[row, column] = 1
            elif case.fractured and not len(case.boxes) and case.regions == frozenset({region}):
                # Nobody drew the fracture, but there is only one region that it can be in.
                there[row, column] = 1
            elif seen[row, column] == 1 and _denies(case):
                there[row, column] = 0
            elif region in film.uncertain and case.fractured is False:
                # Sound whether or not the crop still shows it: were such films left out, every
                # zoomed film would be a fractured one, and the zoom itself would tell.
                there[row, column] = 0
    return Truth(
        regions=seen,
        primary=primary,
        fractured=np.array(
            [np.nan if case.fractured is None else case.fractured for case in cases], np.float32
        ),
        fractured_regions=there,
        boxes=tuple(film.boxes for film in films),
        box_regions=tuple(film.box_regions for film in films),
    )


def _denies(case: Case) -> bool:
    """Whether the case says that a region without a box is not fractured."""
    return case.fractured is False or bool(len(case.boxes) and "" not in case.box_regions)


def _without_pixels(film: Film) -> Film:
    """Film with a single pixel, so that a split's truth fits in memory."""
    return replace(film, pixels=np.zeros((1, 1), np.float32))


def _plain_truth(case: Case) -> Film:
    """What is known of the plain film, for which no file needs to be read."""
    return Film(
        pixels=np.zeros((1, 1), np.float32),
        boxes=case.boxes,
        box_regions=case.box_regions,
        primary=case.primary,
        regions=case.regions or frozenset(),
    )


def _join(parts: Sequence[Answers]) -> Answers:
    names = [field.name for field in fields(Answers)]
    return Answers(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in names})


def _key(suite: Suite, cases: Sequence[Case], variant: str) -> str:
    """Digest of everything that the answers follow from."""
    import training.stress

    made_by = Path(training.stress.__file__).read_bytes()
    total = hashlib.sha256(f"{suite.digest()}\0{SCHEME}\0{variant}\0".encode())
    total.update(made_by if variant != "plain" else b"")
    for case in cases:
        total.update(f"{case.name}\0{case.path.stat().st_size}\0".encode())
    return f"{variant}-{total.hexdigest()[:16]}"


def _save(path: Path, answers: Answers) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez_compressed(file, **{f.name: getattr(answers, f.name) for f in fields(Answers)})
    part.replace(path)


def _load(path: Path) -> Answers:
    with np.load(path) as file:
        return Answers(**{field.name: file[field.name] for field in fields(Answers)})
