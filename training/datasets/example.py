"""One labelled radiograph, whatever set it came from; its pixels; and what may be wrong with it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from studies.errors import OsteonError
from studies.model import Box, Region

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"})

REGION_WORDS = {
    "finger": Region.HAND_WRIST,
    "hand": Region.HAND_WRIST,
    "wrist": Region.HAND_WRIST,
    "lower_leg": Region.LEG,
    "upper_arm": Region.HUMERUS,
    "femur": Region.THIGH,
    **{region.value: region for region in Region},
}
"""Words of the sets' own for what we call a region."""


class DatasetError(OsteonError):
    """A set is not laid out as its reader expects; the message names file and line."""

    def __init__(self, path: Path, problem: str, *, line: int | None = None) -> None:
        place = str(path) if line is None else f"{path}:{line}"
        super().__init__(f"{place}: {problem}")


class UnreadableImage(DatasetError):
    """An image's file is truncated or no image at all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One image and what its set says of it. Unknown is None, which is not "no".

    Attributes
    ----------
    image
        The file.
    source
        Name of the set.
    group
        Images of one patient share it; a split never parts a group.
    regions
        Regions in view.
    fractured
        Whether a fracture is visible.
    boxes
        Fractures, in pixels of the image turned upright (``load_pixels``). Empty says that there
        is none; None that nobody has drawn any.
    split
        "train", "val" or "test" where the set itself says so.

    Raises
    ------
    ValueError
        If boxes contradict ``fractured``, or regions are given but none.
    """

    image: Path
    source: str
    group: str
    regions: frozenset[Region] | None = None
    fractured: bool | None = None
    boxes: tuple[Box, ...] | None = None
    split: str | None = None

    def __post_init__(self) -> None:
        if self.fractured is False and self.boxes:
            raise ValueError(f"{self.image}: fracture boxes on an image without fracture")
        if self.regions is not None and not self.regions:
            raise ValueError(f"{self.image}: regions are known, but none is named")


def load_pixels(image: Path) -> NDArray[np.float32]:
    """Grey values [rows, columns] from 0 to 1 of the file, turned upright by its EXIF tag.

    Raises
    ------
    UnreadableImage
        If the file is truncated, missing or no image.
    """
    try:
        with Image.open(image) as opened:
            opened.load()
            upright = ImageOps.exif_transpose(opened)
            if upright.mode in {"I;16", "I;16B", "I;16L", "I"}:
                return np.asarray(upright, dtype=np.float32) / np.float32(65535)
            if upright.mode == "F":
                raise UnreadableImage(image, "floating-point pixels have no known range")
            return np.asarray(upright.convert("L"), dtype=np.float32) / np.float32(255)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UnreadableImage(image, f"cannot be read as an image: {error}") from error


def upright_size(image: Path) -> tuple[int, int]:
    """(columns, rows) of the image once it is upright, from its header alone.

    Raises
    ------
    UnreadableImage
        If the file is missing or no image.
    """
    try:
        with Image.open(image) as opened:
            columns, rows = opened.size
            turned = opened.getexif().get(0x0112, 1) in {5, 6, 7, 8}
    except (OSError, SyntaxError, ValueError) as error:
        raise UnreadableImage(image, f"cannot be read as an image: {error}") from error
    return (rows, columns) if turned else (columns, rows)


def readable(examples: Iterable[Example], problems: list[UnreadableImage]) -> Iterator[Example]:
    """Those of ``examples`` whose files decode whole; the others' errors go to ``problems``."""
    for example in examples:
        try:
            load_pixels(example.image)
        except UnreadableImage as error:
            problems.append(error)
        else:
            yield example


def read_rows(
    path: Path, columns: Sequence[str], *, header: bool = True
) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Line number and row of a CSV file that must have ``columns``, as they are named there.

    Raises
    ------
    DatasetError
        If the file is missing or not UTF-8, lacks a column, or a row is short.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DatasetError(path, "is missing") from error
    except UnicodeDecodeError as error:
        raise DatasetError(path, "is not UTF-8 text") from error
    reader = csv.DictReader(
        io.StringIO(text, newline=""), fieldnames=None if header else list(columns)
    )
    missing = [c for c in columns if c not in (reader.fieldnames or ())]
    if missing:
        raise DatasetError(path, f"lacks the column {', '.join(missing)}", line=1)
    for row in reader:
        if any(row[c] is None for c in columns):
            raise DatasetError(path, "has too few fields", line=reader.line_num)
        yield reader.line_num, row


def parse_flag(path: Path, line: int, column: str, text: str) -> bool | None:
    """True, False or, for an empty field, None.

    Raises
    ------
    DatasetError
        If the field holds anything else.
    """
    words = {"": None, "0": False, "1": True, "0.0": False, "1.0": True}
    words |= {"false": False, "true": True, "no": False, "yes": True}
    try:
        return words[text.strip().lower()]
    except KeyError:
        raise DatasetError(path, f"{column} is {text!r}, neither 0 nor 1", line=line) from None


def parse_region(path: Path, line: int | None, word: str) -> Region:
    """Our region for a set's own word.

    Raises
    ------
    DatasetError
        If we have no such region.
    """
    try:
        return REGION_WORDS[word.strip().lower().replace("-", "_").replace(" ", "_")]
    except KeyError:
        known = ", ".join(sorted(REGION_WORDS))
        raise DatasetError(path, f"unknown region {word!r}; known: {known}", line=line) from None


def parse_box(path: Path, line: int | None, edges: Sequence[float]) -> Box:
    """Box of four edges.

    Raises
    ------
    DatasetError
        If it has no area or is no number.
    """
    left, top, right, bottom = edges
    if not all(np.isfinite(edges)):
        raise DatasetError(path, f"a box has an edge that is no number: {tuple(edges)}", line=line)
    try:
        return Box(left=left, top=top, right=right, bottom=bottom)
    except ValueError as error:
        raise DatasetError(path, str(error), line=line) from error


def images_under(root: Path) -> dict[str, Path]:
    """Image files below ``root`` by file name.

    Raises
    ------
    DatasetError
        If ``root`` is no folder, or two files share a name.
    """
    found: dict[str, Path] = {}
    for path in image_files(root):
        if path.name in found:
            raise DatasetError(path, f"has the same name as {found[path.name]}")
        found[path.name] = path
    return found


def image_files(root: Path) -> list[Path]:
    """Image files below ``root`` at any depth, sorted; hidden ones are no images.

    Raises
    ------
    DatasetError
        If ``root`` is no folder.
    """
    if not root.is_dir():
        raise DatasetError(root, "is not a folder")
    return sorted(
        path
        for path in root.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )


def says_fracture(name: str) -> bool:
    """Whether a class of this name means a fracture: "no_fracture" does not."""
    words = name.lower().replace("-", " ").replace("_", " ").split()
    says = any(word.startswith("fracture") for word in words)
    return says and not ({"no", "non", "not", "without"} & set(words))
