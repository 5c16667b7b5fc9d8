"""A made-up set in the project's own layout: sticks that are whole or broken."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

IMAGE_KEYS = [
    "file",
    "width",
    "height",
    "split",
    "block",
    "fractured",
    "hardware",
    "primary",
    "regions",
    "cast",
    "implant",
    "multiview",
]
BOX_KEYS = ["file", "ann_id", "x", "y", "w", "h", "site", "region", "kind"]


def make_set(folder: Path, *, count: int = 24, width: int = 80, height: int = 96) -> Path:
    """Write `count` images of a forearm or a leg, every third broken, into three splits."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    images: list[dict[str, object]] = []
    boxes: list[dict[str, object]] = []
    for index in range(count):
        broken = index % 3 == 0
        region = "forearm" if index % 2 else "leg"
        name = f"{index:03}.jpg"
        grey = np.full((height, width), 40.0)
        middle = int(rng.integers(30, 50))
        grey[:, middle - 5 : middle + 5] = 180
        if region == "leg":
            grey[:, middle + 8 : middle + 12] = 160
        row = int(rng.integers(30, 60))
        if broken:
            grey[row : row + 5, middle - 5 : middle + 5] = 60
            box = {"x": middle - 8, "y": row - 6, "w": 16, "h": 18}
            labels = {"site": f"{region}_shaft", "region": region, "kind": "transverse"}
            boxes.append({"file": name, "ann_id": len(boxes), **box, **labels})
        grey += rng.normal(0, 4, grey.shape)
        Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).save(folder / "images" / name)
        images.append(
            {
                "file": name,
                "width": width,
                "height": height,
                "split": ("train", "train", "val", "test")[index // 3 % 4],
                "block": index // 3,
                "fractured": int(broken),
                "hardware": 0,
                "primary": region,
                "regions": region,
                "cast": 0,
                "implant": 0,
                "multiview": 0,
            }
        )
    write_table(folder / "images.csv", IMAGE_KEYS, images)
    write_table(folder / "boxes.csv", BOX_KEYS, boxes)
    return folder


def write_table(path: Path, keys: list[str], rows: list[dict[str, object]]) -> None:
    """Write a CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, keys)
        writer.writeheader()
        writer.writerows(rows)
