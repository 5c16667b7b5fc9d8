"""MURA (Rajpurkar et al. 2017): study folders, labelled by its two CSVs per split."""

from __future__ import annotations

import re
from pathlib import Path

from training.datasets.example import DatasetError, Example, parse_region, read_rows

SPLITS = {"train": "train", "valid": "val"}
STUDY = re.compile(
    r"(?P<split>train|valid)/XR_(?P<part>[A-Z]+)/(?P<patient>patient\d+)"
    r"/(?P<study>study\d+)_(?P<answer>positive|negative)"
)


def read_mura(root: Path, *, abnormal_is_fractured: bool = False) -> list[Example]:
    """Examples of a folder ``MURA-v1.1`` with ``train`` and ``valid`` below it.

    Parameters
    ----------
    root
        The folder that holds ``train_image_paths.csv`` and its three siblings; one split alone
        will do.
    abnormal_is_fractured
        MURA says "abnormal", which is also implants, arthrosis and lesions: an abnormal study's
        ``fractured`` is therefore unknown. True takes it for a fracture all the same.

    Raises
    ------
    DatasetError
        If a CSV is missing or malformed, an image is missing or belongs to no labelled study, or
        a study's folder contradicts its label.
    """
    present = [s for s in SPLITS if (root / f"{s}_image_paths.csv").exists()]
    if not present:
        raise DatasetError(root, "holds neither train_image_paths.csv nor valid_image_paths.csv")
    examples = []
    for split in present:
        labels = _study_labels(root / f"{split}_labeled_studies.csv")
        listing = root / f"{split}_image_paths.csv"
        for line, row in read_rows(listing, ["path"], header=False):
            path = _below(root, row["path"])
            match = _study(listing, line, row["path"])
            if match["study_path"] not in labels:
                raise DatasetError(listing, f"{row['path']} is of no labelled study", line=line)
            if not path.is_file():
                raise DatasetError(listing, f"{row['path']} is missing", line=line)
            abnormal = labels[match["study_path"]]
            positive = True if abnormal_is_fractured else None
            examples.append(
                Example(
                    image=path,
                    source="mura",
                    group=f"mura/{match['patient']}",
                    regions=frozenset({parse_region(listing, line, match["part"])}),
                    fractured=positive if abnormal else False,
                    split=SPLITS[match["split"]],
                )
            )
    return examples


def _study_labels(path: Path) -> dict[str, bool]:
    """Whether each study is abnormal, by its path from the split on."""
    labels = {}
    for line, row in read_rows(path, ["study", "label"], header=False):
        match = _study(path, line, row["study"])
        if row["label"].strip() not in {"0", "1"}:
            raise DatasetError(path, f"label is {row['label']!r}, neither 0 nor 1", line=line)
        abnormal = row["label"].strip() == "1"
        if abnormal != (match["answer"] == "positive"):
            raise DatasetError(
                path, f"{row['study']} is labelled {row['label'].strip()}", line=line
            )
        labels[match["study_path"]] = abnormal
    return labels


def _study(path: Path, line: int, text: str) -> dict[str, str]:
    match = STUDY.search(text)
    if match is None:
        raise DatasetError(path, f"{text!r} is not the path of a study", line=line)
    return match.groupdict() | {"study_path": match.group(0)}


def _below(root: Path, listed: str) -> Path:
    """Path of a listed file; the CSVs' paths begin with the folder's published name."""
    parts = Path(listed.strip()).parts
    return root.joinpath(*parts[parts.index("train" if "train" in parts else "valid") :])
