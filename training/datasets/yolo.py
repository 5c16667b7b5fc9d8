"""Boxes as YOLO text files: one per image, a line ``class cx cy w h`` or a polygon for each."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import yaml

from studies.model import Box, Region
from training.datasets.example import (
    DatasetError,
    Example,
    image_files,
    parse_box,
    says_fracture,
    upright_size,
)

SPLITS = {"train": "train", "val": "val", "valid": "val", "test": "test"}


def read_yolo(
    root: Path,
    *,
    categories: Collection[str] | None = None,
    regions: frozenset[Region] | None = None,
    source: str = "yolo",
) -> list[Example]:
    """Examples of a folder with ``images`` and ``labels`` below it, side by side at any depth.

    Class names come from ``data.yaml`` or ``classes.txt``. An image with an empty or no label
    file has no fracture, as YOLO has it. Every image is its own group: YOLO knows no patients.

    Parameters
    ----------
    categories
        Names of the classes that mean a fracture; None takes those whose name says "fracture"
        (but not "no fracture"), or the only one there is.

    Raises
    ------
    DatasetError
        If there are no class names, no images, or a label line is malformed.
    """
    wanted = _fracture_classes(*read_class_names(root), categories)
    folders = [p for p in sorted(root.rglob("images")) if p.is_dir()]
    examples = []
    for folder in folders:
        for path in image_files(folder):
            label = _label_of(folder, path)
            boxes = read_label_file(label, image=path, classes=wanted)
            split = next((SPLITS[p] for p in path.relative_to(root).parts if p in SPLITS), None)
            examples.append(
                Example(
                    image=path,
                    source=source,
                    group=f"{source}/{path.stem}",
                    regions=regions,
                    fractured=bool(boxes),
                    boxes=boxes,
                    split=split,
                )
            )
    if not examples:
        raise DatasetError(root, "holds no folder images with images in it")
    return examples


def read_label_file(path: Path, *, image: Path, classes: Collection[int]) -> tuple[Box, ...]:
    """Boxes of ``classes``, in pixels of the upright ``image``; none if there is no such file.

    Raises
    ------
    DatasetError
        If a line is no box and no polygon, or reaches beyond the image.
    """
    if not path.is_file():
        return ()
    columns, rows = upright_size(image)
    boxes = []
    for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not text.strip():
            continue
        number, edges = _edges(path, line, text)
        if number in classes:
            left, top, right, bottom = edges
            scaled = (left * columns, top * rows, right * columns, bottom * rows)
            boxes.append(parse_box(path, line, scaled))
    return tuple(boxes)


def read_class_names(root: Path) -> tuple[Path, list[str]]:
    """File that names the classes, and their names in order.

    Raises
    ------
    DatasetError
        If there is no such file, or it names none.
    """
    for name in ("data.yaml", "dataset.yaml", "meta.yaml"):
        path = root / name
        if path.is_file():
            return path, _yaml_names(path)
    path = root / "classes.txt"
    if path.is_file():
        return path, [n.strip() for n in path.read_text(encoding="utf-8").splitlines() if n.strip()]
    raise DatasetError(root, "holds no data.yaml and no classes.txt to name its classes")


def _yaml_names(path: Path) -> list[str]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = None if mark is None else mark.line + 1
        raise DatasetError(path, "is no YAML", line=line) from error
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict):
        names = [names[key] for key in sorted(names)]
    if not isinstance(names, list) or not names:
        raise DatasetError(path, "has no list of names")
    return [str(name) for name in names]


def _fracture_classes(
    path: Path, names: list[str], wanted: Collection[str] | None
) -> frozenset[int]:
    if wanted is not None:
        unknown = sorted(set(wanted) - set(names))
        if unknown:
            raise DatasetError(path, f"has no class {', '.join(unknown)}")
        return frozenset(names.index(name) for name in wanted)
    found = {i for i, name in enumerate(names) if says_fracture(name)}
    if not found and len(names) == 1:
        found = {0}
    if not found:
        raise DatasetError(path, "has no class that says fracture; name the classes")
    return frozenset(found)


def _label_of(folder: Path, image: Path) -> Path:
    """Label file of an image: the same path with ``labels`` for ``images``."""
    relative = image.relative_to(folder).with_suffix(".txt")
    return folder.parent / "labels" / relative


def _edges(path: Path, line: int, text: str) -> tuple[int, tuple[float, float, float, float]]:
    """Class and edges as shares of the image; a polygon gives its hull."""
    try:
        number, *values = (float(v) for v in text.split())
    except ValueError as error:
        raise DatasetError(path, f"{text!r} holds what is no number", line=line) from error
    if number != int(number) or number < 0:
        raise DatasetError(path, f"class {number} is no whole number", line=line)
    if len(values) == 4:
        x, y, width, height = values
        edges = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    elif len(values) >= 6 and len(values) % 2 == 0:
        edges = (min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2]))
    else:
        problem = f"{len(values)} numbers after the class are neither a box nor a polygon"
        raise DatasetError(path, problem, line=line)
    # Rounding to six digits carries edges a little over the rim; more is pixels, not shares.
    if min(edges) < -0.01 or max(edges) > 1.01:
        raise DatasetError(path, f"{text!r} reaches beyond the image: not shares of 1", line=line)
    left, top, right, bottom = (min(max(e, 0.0), 1.0) for e in edges)
    return int(number), (left, top, right, bottom)
