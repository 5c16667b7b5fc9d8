"""Readers of the labelled sets that people bring, each giving the same ``Example`` values.

::

    ├── example      the value, its errors, and how its pixels are read
    ├── mura         MURA's study folders with its two CSVs
    ├── fracatlas    FracAtlas as published: dataset.csv and COCO boxes
    ├── grazpedwri   GRAZPEDWRI-DX: dataset.csv and YOLO boxes
    ├── coco, yolo, voc   boxes as annotation programs write them
    ├── folder       your own images, sorted into folders or listed in labels.csv
    ├── layouts      finds out which of these a folder is
    └── splits       train, validation and test by patient
"""

from training.datasets.example import DatasetError, Example, UnreadableImage, load_pixels
from training.datasets.layouts import LAYOUTS, read_dataset
from training.datasets.splits import folds_by_group, split_by_group

__all__ = [
    "LAYOUTS",
    "DatasetError",
    "Example",
    "UnreadableImage",
    "folds_by_group",
    "load_pixels",
    "read_dataset",
    "split_by_group",
]
