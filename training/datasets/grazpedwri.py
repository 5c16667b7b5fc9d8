"""GRAZPEDWRI-DX (Nagy et al. 2022): children's wrists, with dataset.csv and YOLO boxes."""

from __future__ import annotations

from pathlib import Path

from studies.model import Region
from training.datasets.example import DatasetError, Example, images_under, parse_flag, read_rows
from training.datasets.yolo import read_label_file

FRACTURE_CLASS = 3
"""Of the published nine: boneanomaly, bonelesion, foreignbody, fracture, metal, and so on."""

LABELS = (Path("folder_structure") / "yolov5" / "labels", Path("yolov5") / "labels", Path("labels"))


def read_grazpedwri(root: Path) -> list[Example]:
    """Examples of the unpacked archives below one folder.

    Images may lie in ``images`` or in the four ``images_part…`` folders. An image in
    ``dataset.csv`` whose archive was not unpacked is left out, but one of them must be there.

    Raises
    ------
    DatasetError
        If ``dataset.csv`` or the labels are missing or malformed, or no image is there.
    """
    table = root / "dataset.csv"
    labels = next((root / p for p in LABELS if (root / p).is_dir()), None)
    if labels is None:
        raise DatasetError(
            root, "holds no folder of YOLO labels, as folder_structure/yolov5/labels"
        )
    drawn = {p.stem: p for p in labels.rglob("*.txt")}
    files = {p.stem: p for p in images_under(root).values()}
    examples = []
    for line, row in read_rows(table, ["filestem", "patient_id", "fracture_visible"]):
        stem = row["filestem"].strip()
        if stem not in files:
            continue
        if not row["patient_id"].strip():
            raise DatasetError(table, "patient_id is empty", line=line)
        boxes = read_label_file(
            drawn.get(stem, labels / f"{stem}.txt"),
            image=files[stem],
            classes={FRACTURE_CLASS},
        )
        # The published column is 1 or empty, and empty means that none is visible.
        visible = parse_flag(table, line, "fracture_visible", row["fracture_visible"]) or False
        if boxes and not visible:
            raise DatasetError(table, f"{stem} has fracture boxes but none visible", line=line)
        examples.append(
            Example(
                image=files[stem],
                source="grazpedwri",
                group=f"grazpedwri/{row['patient_id'].strip()}",
                regions=frozenset({Region.HAND_WRIST}),
                fractured=visible,
                boxes=boxes if boxes or not visible else None,
            )
        )
    if not examples:
        raise DatasetError(root, "holds no image that dataset.csv lists")
    return examples
