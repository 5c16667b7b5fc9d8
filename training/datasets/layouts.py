"""Which layout a folder has, and its reader."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from training.datasets.coco import read_coco
from training.datasets.example import DatasetError, Example
from training.datasets.folder import read_folder
from training.datasets.fracatlas import BOXES, read_fracatlas
from training.datasets.grazpedwri import read_grazpedwri
from training.datasets.mura import read_mura
from training.datasets.voc import read_voc
from training.datasets.yolo import read_yolo


def _coco(root: Path) -> list[Example]:
    files = sorted(root.glob("*.json")) + sorted(root.glob("annotations/*.json"))
    if not files:
        raise DatasetError(root, "holds no JSON file, nor does its folder annotations")
    if len(files) > 1:
        names = ", ".join(p.name for p in files)
        raise DatasetError(root, f"holds several JSON files ({names}); read them one by one")
    return read_coco(files[0], root)


def _voc(root: Path) -> list[Example]:
    folder = root / "Annotations"
    return read_voc(folder if folder.is_dir() else root, root)


LAYOUTS: Mapping[str, Callable[[Path], list[Example]]] = MappingProxyType(
    {
        "mura": read_mura,
        "fracatlas": read_fracatlas,
        "grazpedwri": read_grazpedwri,
        "yolo": read_yolo,
        "coco": _coco,
        "voc": _voc,
        "folder": read_folder,
    }
)
"""Reader by name of the layout."""


def read_dataset(root: Path, layout: str | None = None) -> list[Example]:
    """Examples of a folder; its layout is found out if it is not named.

    Raises
    ------
    DatasetError
        If the layout is unknown or not what is there.
    """
    chosen = find_layout(root) if layout is None else layout
    if chosen not in LAYOUTS:
        raise DatasetError(root, f"unknown layout {chosen!r}; known: {', '.join(LAYOUTS)}")
    return LAYOUTS[chosen](root)


def find_layout(root: Path) -> str:
    """Name of the layout that a folder has, by the files that only it has.

    Raises
    ------
    DatasetError
        If ``root`` is no folder.
    """
    if not root.is_dir():
        raise DatasetError(root, "is not a folder")
    signs = {
        "mura": [root / "train_image_paths.csv", root / "valid_image_paths.csv"],
        "fracatlas": [root / BOXES],
        "folder": [root / "labels.csv"],
        "grazpedwri": [root / "dataset.csv"],
        "yolo": [root / "data.yaml", root / "dataset.yaml", root / "classes.txt"],
    }
    for layout, files in signs.items():
        if any(path.is_file() for path in files):
            return layout
    if any(root.glob("*.json")) or any(root.glob("annotations/*.json")):
        return "coco"
    if any(root.glob("Annotations/*.xml")) or any(root.glob("*.xml")):
        return "voc"
    return "folder"
