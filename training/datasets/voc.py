"""Boxes as Pascal VOC: one XML file per image."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Collection
from pathlib import Path

from studies.model import Box, Region
from training.datasets.example import (
    DatasetError,
    Example,
    images_under,
    parse_box,
    says_fracture,
)


def read_voc(
    annotations: Path,
    images: Path,
    *,
    categories: Collection[str] | None = None,
    regions: frozenset[Region] | None = None,
    source: str = "voc",
) -> list[Example]:
    """Examples of the XML files in a folder. Every image is its own group.

    Parameters
    ----------
    annotations
        Folder of the XML files.
    images
        Folder below which the images lie, at any depth.
    categories
        Object names that mean a fracture; None takes those that say "fracture".

    Raises
    ------
    DatasetError
        If there is no XML file, one is malformed, or its image is missing.
    """
    files = images_under(images)
    examples = []
    for path in sorted(annotations.glob("*.xml")):
        tree = _parse(path)
        name = Path((tree.findtext("filename") or "").strip().replace("\\", "/")).name
        if name not in files:
            raise DatasetError(path, f"image {name!r} is not below {images}")
        boxes = tuple(
            _box(path, thing)
            for thing in tree.iterfind("object")
            if _means_fracture(thing.findtext("name") or "", categories)
        )
        examples.append(
            Example(
                image=files[name],
                source=source,
                group=f"{source}/{Path(name).stem}",
                regions=regions,
                fractured=bool(boxes),
                boxes=boxes,
            )
        )
    if not examples:
        raise DatasetError(annotations, "holds no XML file")
    return examples


def _parse(path: Path) -> ET.Element:
    try:
        # The user's own files; expat itself bounds what entities may expand to.
        return ET.parse(path).getroot()  # noqa: S314
    except ET.ParseError as error:
        raise DatasetError(path, f"is no XML: {error}", line=error.position[0]) from error


def _means_fracture(name: str, categories: Collection[str] | None) -> bool:
    return says_fracture(name) if categories is None else name in categories


def _box(path: Path, thing: ET.Element) -> Box:
    """Box of an object; VOC counts pixels from 1 and includes the last one."""
    try:
        left, top, right, bottom = (
            float(thing.findtext(f"bndbox/{edge}") or "")
            for edge in ("xmin", "ymin", "xmax", "ymax")
        )
    except ValueError as error:
        name = thing.findtext("name")
        raise DatasetError(path, f"object {name!r} has no whole bndbox") from error
    return parse_box(path, None, (max(0.0, left - 1), max(0.0, top - 1), right, bottom))
