"""Boxes as COCO JSON: one file that lists images, categories and annotations."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from studies.model import Box, Region
from training.datasets.example import (
    DatasetError,
    Example,
    images_under,
    parse_box,
    says_fracture,
)


def read_coco(
    annotations: Path,
    images: Path,
    *,
    categories: Collection[str] | None = None,
    regions: frozenset[Region] | None = None,
    group_of: dict[str, str] | None = None,
    source: str = "coco",
) -> list[Example]:
    """Examples of the images that the file lists.

    Parameters
    ----------
    annotations
        The JSON file.
    images
        Folder below which the images lie, at any depth.
    categories
        Names of the categories that mean a fracture; None takes those whose name says
        "fracture", or the only one there is.
    regions
        What all the images show, if it is known.
    group_of
        Patient of each file by its name; a file that it lacks is its own group, unless the
        listed image carries a ``patient_id``.

    Raises
    ------
    DatasetError
        If the file is no COCO JSON, names a category that it lacks, or an image is missing.
    """
    content = _load(annotations)
    boxes = read_annotations(annotations, categories=categories)
    files = images_under(images)
    examples = []
    for image in content["images"]:
        name = Path(str(image["file_name"])).name
        if name not in files:
            raise DatasetError(annotations, f"image {name} is not below {images}")
        patient = (group_of or {}).get(name, str(image.get("patient_id", Path(name).stem)))
        drawn = tuple(boxes.get(name, ()))
        examples.append(
            Example(
                image=files[name],
                source=source,
                group=f"{source}/{patient}",
                regions=regions,
                fractured=bool(drawn),
                boxes=drawn,
            )
        )
    return examples


def read_annotations(
    annotations: Path, *, categories: Collection[str] | None
) -> dict[str, list[Box]]:
    """Fracture boxes by the file name of their image.

    Raises
    ------
    DatasetError
        If the file is missing or no COCO JSON, or an annotation is of no listed image.
    """
    content = _load(annotations)
    wanted = _fracture_categories(annotations, content, categories)
    names = {image["id"]: Path(str(image["file_name"])).name for image in content["images"]}
    boxes: dict[str, list[Box]] = {}
    for number, annotation in enumerate(content["annotations"]):
        if annotation.get("category_id") not in wanted:
            continue
        if annotation.get("image_id") not in names:
            raise DatasetError(annotations, f"annotation {number} is of no listed image")
        try:
            x, y, width, height = (float(v) for v in annotation["bbox"])
        except (KeyError, TypeError, ValueError) as error:
            problem = f"annotation {number} has no bbox [x, y, width, height]"
            raise DatasetError(annotations, problem) from error
        box = parse_box(annotations, None, (x, y, x + width, y + height))
        boxes.setdefault(names[annotation["image_id"]], []).append(box)
    return boxes


def _load(path: Path) -> dict[str, Any]:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DatasetError(path, "is missing") from error
    except json.JSONDecodeError as error:
        raise DatasetError(path, f"is no JSON: {error.msg}", line=error.lineno) from error
    except UnicodeDecodeError as error:
        raise DatasetError(path, "is not UTF-8 text") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DatasetError(path, f"is no COCO JSON: it has no list {key!r}")
    for number, image in enumerate(content["images"]):
        if not isinstance(image, dict) or "id" not in image or "file_name" not in image:
            raise DatasetError(path, f"image {number} has no id or no file_name")
    return dict(content)


def _fracture_categories(
    path: Path, content: dict[str, Any], wanted: Collection[str] | None
) -> set[Any]:
    names = {category.get("name"): category.get("id") for category in content["categories"]}
    if wanted is not None:
        unknown = sorted(set(wanted) - set(names))
        if unknown:
            raise DatasetError(path, f"has no category {', '.join(unknown)}")
        return {names[name] for name in wanted}
    found = {id_ for name, id_ in names.items() if says_fracture(str(name))}
    if not found and len(names) == 1:
        found = set(names.values())
    if not found:
        raise DatasetError(path, "has no category that says fracture; name the categories")
    return found
