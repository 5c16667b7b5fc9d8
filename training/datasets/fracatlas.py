"""FracAtlas (Abedeen et al. 2023) as its own archive lays it out."""

from __future__ import annotations

import re
from pathlib import Path

from studies.model import Region
from training.datasets.coco import read_annotations
from training.datasets.example import DatasetError, Example, parse_flag, read_rows

BOXES = Path("Annotations") / "COCO JSON" / "COCO_fracture_masks.json"
PARTS = ("hand", "leg", "hip", "shoulder", "mixed")
COLUMNS = ("image_id", *PARTS, "fractured")

EXACT = {"hip": Region.HIP, "shoulder": Region.SHOULDER}
"""The published "hand" is anything from hand to elbow and "leg" from knee to foot: no region."""

LARGEST_BLOCK = 25
"""Files. Neighbours are views of one patient; there are no patient identifiers."""


def read_fracatlas(root: Path) -> list[Example]:
    """Examples of the unpacked archive, which holds ``dataset.csv``, images and annotations.

    Groups are blocks of neighbouring files, cut where the published part changes. The archive
    holds truncated files (``example.readable`` finds them) and files that are only upright by
    their EXIF tag: their boxes fit ``load_pixels``, not the stored rows.

    Raises
    ------
    DatasetError
        If a file is missing or malformed, or boxes contradict ``dataset.csv``.
    """
    table = root / "dataset.csv"
    annotations = root / BOXES
    boxes = read_annotations(annotations, categories=None)
    rows = sorted(
        read_rows(table, COLUMNS), key=lambda row: (_number(row[1]["image_id"]), row[1]["image_id"])
    )
    examples = []
    block, members, last_part = 0, 0, ""
    for line, row in rows:
        name = row["image_id"].strip()
        part = "|".join(p for p in PARTS if parse_flag(table, line, p, row[p]))
        if members == LARGEST_BLOCK or (members and part != last_part):
            block, members = block + 1, 0
        members, last_part = members + 1, part
        fractured = parse_flag(table, line, "fractured", row["fractured"])
        if fractured is None:
            raise DatasetError(table, "fractured is empty", line=line)
        folder = "Fractured" if fractured else "Non_fractured"
        path = root / "images" / folder / name
        if not path.is_file():
            raise DatasetError(table, f"images/{folder}/{name} is missing", line=line)
        if not fractured and boxes.get(name):
            raise DatasetError(table, f"{name} has boxes but is not fractured", line=line)
        drawn = tuple(boxes.get(name, ()))
        examples.append(
            Example(
                image=path,
                source="fracatlas",
                group=f"fracatlas/{block}",
                regions=frozenset({EXACT[part]}) if part in EXACT else None,
                fractured=fractured,
                boxes=drawn if drawn or not fractured else None,
            )
        )
    return examples


def _number(name: str) -> int:
    """Number of a file, IMG0000019.jpg's being 19; neighbours by name need not be by text."""
    digits = re.findall(r"\d+", name)
    return int(digits[-1]) if digits else -1
