"""Labelled radiographs as evaluation asks about them, of our own data or of another set."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.datasets import Example, load_pixels, read_dataset
from training.fracatlas import Radiograph, read_fracatlas
from training.stress import Film, stress

VIEWS = ("frontal", "lateral", "oblique")


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Case:
    """One image and its truth. Unknown is None.

    Attributes
    ----------
    name
        File name, from which the stressed variants are drawn.
    block
        Patient, or block of neighbouring files: drawn as one by the bootstrap.
    regions
        Regions in view.
    boxes, box_regions, sites
        Fractures: [T, 4] in pixels of the stored image, the region ("" if unknown) and bone of
        each.
    split
        "train", "val" or "test" where the set says so.
    flags
        What else is known: "cast", "implant", "multiview", the views, and "published" for an
        image of the list that the set's own publication tested on.
    """

    name: str
    path: Path
    block: str
    fractured: bool | None
    primary: str | None = None
    regions: frozenset[str] | None = None
    boxes: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 4)))
    box_regions: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    split: str | None = None
    flags: frozenset[str] = frozenset()

    def film(self, variant: str = "plain") -> Film:
        """The image as a variant of the stressed split shows it."""
        whole = Film(
            pixels=load_pixels(self.path),
            boxes=self.boxes,
            box_regions=self.box_regions,
            primary=self.primary,
            regions=self.regions or frozenset(),
        )
        return stress(whole, variant, self.name)


def read_cases(data_dir: Path, split: str = "test") -> list[Case]:
    """Cases of one split, or of several joined by "+"; "all" is every image.

    Parameters
    ----------
    data_dir
        Our own layout (images.csv, boxes.csv, images/), or any that ``training.datasets`` reads:
        then a set without splits of its own is taken whole.

    Raises
    ------
    ValueError
        If no image is in that split.
    """
    wanted = None if split == "all" else set(split.split("+"))
    if (data_dir / "images.csv").is_file():
        flags = _flags(data_dir)
        radiographs = read_fracatlas(data_dir)
        cases = [
            _of_radiograph(r, flags.get(r.path.name, frozenset()))
            for r in radiographs
            if wanted is None or r.split in wanted
        ]
    else:
        cases = [
            _of_example(e, data_dir)
            for e in read_dataset(data_dir)
            if wanted is None or e.split is None or e.split in wanted
        ]
    if not cases:
        raise ValueError(f"{data_dir}: no image is in the split {split!r}")
    return cases


def _of_radiograph(radiograph: Radiograph, more: frozenset[str]) -> Case:
    flags = {
        name
        for name, present in (
            ("cast", radiograph.cast),
            ("implant", radiograph.implant or radiograph.hardware),
            ("multiview", radiograph.multiview),
        )
        if present
    }
    boxes = [box.box for box in radiograph.boxes]
    return Case(
        name=radiograph.path.name,
        path=radiograph.path,
        block=radiograph.block,
        fractured=radiograph.fractured,
        primary=radiograph.primary,
        regions=frozenset(radiograph.regions),
        boxes=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        box_regions=tuple(box.region for box in radiograph.boxes),
        sites=tuple(box.site for box in radiograph.boxes),
        split=radiograph.split,
        flags=more | flags,
    )


def _of_example(example: Example, root: Path) -> Case:
    regions = None if example.regions is None else frozenset(str(r) for r in example.regions)
    only = next(iter(regions)) if regions is not None and len(regions) == 1 else None
    boxes = example.boxes or ()
    inside = example.image.is_relative_to(root)
    return Case(
        name=str(example.image.relative_to(root) if inside else example.image),
        path=example.image,
        block=example.group,
        fractured=example.fractured,
        primary=only,
        regions=regions,
        boxes=np.array([b.edges for b in boxes], dtype=np.float64).reshape(-1, 4),
        box_regions=(only or "",) * len(boxes),
        sites=("",) * len(boxes),
        split=example.split,
    )


def _flags(data_dir: Path) -> dict[str, frozenset[str]]:
    """Views of each file, and whether the publication tested on it, where the tables say so."""
    published: set[str] = set()
    listing = data_dir / "fracatlas_test.csv"
    if listing.is_file():
        with listing.open(newline="", encoding="utf-8") as file:
            published = {row["file"] for row in csv.DictReader(file)}
    with (data_dir / "images.csv").open(newline="", encoding="utf-8") as file:
        return {
            row["file"]: frozenset(
                [*(view for view in VIEWS if row.get(view) == "1")]
                + (["published"] if row["file"] in published else [])
            )
            for row in csv.DictReader(file)
        }
