"""FracAtlas as this project keeps it: images.csv, boxes.csv and a folder of JPEGs.

Foreign layouts are read elsewhere, into the same values.
"""

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Split = Literal["train", "val", "test"]

_REGION_OF: Final = {"hand": "hand_wrist", "wrist": "hand_wrist"}


class LayoutError(ValueError):
    """A folder is not laid out as expected; names the file and the key."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FractureBox:
    """A fracture that a radiologist boxed.

    Attributes
    ----------
    box
        (left, top, right, bottom) in pixels of the stored image.
    region, site, kinds
        By eye, not by radiologists; `kinds` is incomplete.
    """

    box: tuple[float, float, float, float]
    region: str
    site: str
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Radiograph:
    """One labelled image.

    Attributes
    ----------
    regions
        All regions clearly in view; may hold "trunk".
    primary
        The region on which the view is centred.
    block
        Neighbouring files of, probably, the same patients: never split a block.
    """

    path: Path
    width: int
    height: int
    split: Split
    block: str
    fractured: bool
    primary: str
    regions: tuple[str, ...]
    boxes: tuple[FractureBox, ...] = field(default=())
    hardware: bool = False
    cast: bool = False
    implant: bool = False
    multiview: bool = False

    @property
    def fractured_regions(self) -> frozenset[str]:
        """Regions in which a fracture is boxed."""
        return frozenset(box.region for box in self.boxes)

    def pixels(self) -> NDArray[np.uint8]:
        """Grey values [rows, columns], 0 to 255, bone bright."""
        with Image.open(self.path) as image:
            return np.asarray(image.convert("L"))


def region_name(name: str) -> str:
    """The project's region of a name of the data set: hand and wrist are one."""
    return _REGION_OF.get(name, name)


def read_fracatlas(folder: Path) -> list[Radiograph]:
    """Read every image's labels; pixels are read when asked for.

    Parameters
    ----------
    folder
        Holds images.csv, boxes.csv and images/.

    Raises
    ------
    LayoutError
        If a file or a column is missing, or a split is unknown.
    """
    boxes: dict[str, list[FractureBox]] = {}
    for row in _rows(folder / "boxes.csv", ("file", "x", "y", "w", "h", "site", "region", "kind")):
        x, y, width, height = (float(row[key]) for key in ("x", "y", "w", "h"))
        boxes.setdefault(row["file"], []).append(
            FractureBox(
                box=(x, y, x + width, y + height),
                region=region_name(row["region"]),
                site=row["site"],
                kinds=tuple(kind for kind in row["kind"].split("|") if kind),
            )
        )
    needed = ("file", "width", "height", "split", "block", "fractured", "primary", "regions")
    return [
        _radiograph(folder, row, tuple(boxes.get(row["file"], ())))
        for row in _rows(folder / "images.csv", needed)
    ]


def _radiograph(folder: Path, row: dict[str, str], boxes: tuple[FractureBox, ...]) -> Radiograph:
    if row["split"] not in ("train", "val", "test"):
        raise LayoutError(f"images.csv, {row['file']}: unknown split {row['split']!r}")
    return Radiograph(
        path=folder / "images" / row["file"],
        width=int(row["width"]),
        height=int(row["height"]),
        split=cast(Split, row["split"]),
        block=row["block"],
        fractured=row["fractured"] == "1",
        primary=region_name(row["primary"]),
        regions=tuple(dict.fromkeys(region_name(r) for r in row["regions"].split("|") if r)),
        boxes=boxes,
        hardware=row.get("hardware") == "1",
        cast=row.get("cast") == "1",
        implant=row.get("implant") == "1",
        multiview=row.get("multiview") == "1",
    )


def _rows(path: Path, needed: tuple[str, ...]) -> list[dict[str, str]]:
    """Rows of a CSV that has the needed columns."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [key for key in needed if key not in (reader.fieldnames or ())]
            if missing:
                raise LayoutError(f"{path}: no column {', '.join(missing)}")
            return list(reader)
    except FileNotFoundError as error:
        raise LayoutError(f"{path}: not found") from error
