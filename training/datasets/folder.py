"""Your own images: listed in labels.csv, or sorted into folders that say what they show."""

from __future__ import annotations

from pathlib import Path

from studies.model import Box, Region
from training.datasets.example import (
    REGION_WORDS,
    DatasetError,
    Example,
    image_files,
    parse_box,
    parse_flag,
    parse_region,
    read_rows,
)

ANSWERS = {
    "fractured": True,
    "fracture": True,
    "positive": True,
    "normal": False,
    "negative": False,
    "not_fractured": False,
    "non_fractured": False,
    "no_fracture": False,
}
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def read_folder(root: Path) -> list[Example]:
    """Examples of a folder of images.

    With a ``labels.csv`` beside the images: ``file, fractured`` (1, 0 or empty for unknown) and,
    if wished, ``regions`` (``elbow|forearm``), ``group`` (the patient) and ``split``; with a
    ``boxes.csv`` too: ``file, left, top, right, bottom`` in pixels, for every fractured file.

    Without it, folders say the same at any depth: ``train/elbow/fractured/p12/a.png``. A folder
    below the answer is the patient; without one each image is its own group.

    Raises
    ------
    DatasetError
        If a listed file is missing or a field means nothing, or no folder says what is fractured.
    """
    listing = root / "labels.csv"
    return _from_csv(root, listing) if listing.is_file() else _from_folders(root)


def _from_csv(root: Path, listing: Path) -> list[Example]:
    boxes = _boxes(root / "boxes.csv")
    examples = []
    for line, row in read_rows(listing, ["file", "fractured"]):
        name = row["file"].strip()
        path = root / name
        if not path.is_file():
            raise DatasetError(listing, f"{name} is missing", line=line)
        fractured = parse_flag(listing, line, "fractured", row["fractured"])
        drawn = None if boxes is None else tuple(boxes.get(name, ()))
        if drawn and fractured is not True:
            raise DatasetError(listing, f"{name} has boxes but is not fractured", line=line)
        words = [w for w in (row.get("regions") or "").split("|") if w.strip()]
        split = (row.get("split") or "").strip().lower()
        if split and split not in SPLITS:
            raise DatasetError(listing, f"unknown split {split!r}", line=line)
        examples.append(
            Example(
                image=path,
                source=root.name,
                group=f"{root.name}/{(row.get('group') or '').strip() or name}",
                regions=frozenset(parse_region(listing, line, w) for w in words) or None,
                fractured=fractured,
                boxes=drawn if drawn or fractured is False else None,
                split=SPLITS.get(split),
            )
        )
    return examples


def _boxes(path: Path) -> dict[str, list[Box]] | None:
    if not path.is_file():
        return None
    boxes: dict[str, list[Box]] = {}
    edges = ("left", "top", "right", "bottom")
    for line, row in read_rows(path, ["file", *edges]):
        try:
            values = [float(row[edge]) for edge in edges]
        except ValueError as error:
            raise DatasetError(path, "an edge is no number", line=line) from error
        boxes.setdefault(row["file"].strip(), []).append(parse_box(path, line, values))
    return boxes


def _from_folders(root: Path) -> list[Example]:
    examples = []
    for path in sorted(p for folder in _answer_folders(root) for p in image_files(folder)):
        parts = [part.lower().replace("-", "_") for part in path.relative_to(root).parts[:-1]]
        at = next(i for i, part in enumerate(parts) if part in ANSWERS)
        regions: frozenset[Region] = frozenset(
            REGION_WORDS[part] for part in parts if part in REGION_WORDS
        )
        patient = [p for p in parts[at + 1 :] if p not in REGION_WORDS and p not in SPLITS]
        examples.append(
            Example(
                image=path,
                source=root.name,
                group=f"{root.name}/{patient[0] if patient else path.relative_to(root)}",
                regions=regions or None,
                fractured=ANSWERS[parts[at]],
                boxes=None if ANSWERS[parts[at]] else (),
                split=next((SPLITS[part] for part in parts if part in SPLITS), None),
            )
        )
    if not examples:
        known = ", ".join(sorted(ANSWERS))
        raise DatasetError(root, f"holds no labels.csv and no images in a folder named {known}")
    return examples


def _answer_folders(root: Path) -> list[Path]:
    """Topmost folders that say whether what is in them is fractured."""
    if not root.is_dir():
        raise DatasetError(root, "is not a folder")
    found: list[Path] = []
    for path in sorted(p for p in root.rglob("*") if p.is_dir()):
        if any(parent in found for parent in path.parents):
            continue
        if path.name.lower().replace("-", "_") in ANSWERS:
            found.append(path)
    return found
