"""Pictures that are no limb radiograph and that training never drew: what must be refused.

Photographs, handwriting, tomography, ultrasound, a chest, charts and noise, out of files that
the installed packages carry; none of the makers of ``training.negatives``, which the router has
learned. What is not installed is left out, and the kinds say what was there.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Grey = NDArray[np.float32]
Generator = np.random.Generator

OTHER_MODALITIES = (
    "CT_small.dcm",
    "MR_small.dcm",
    "693_UNCR.dcm",
    "MR2_UNCR.dcm",
    "MR-SIEMENS-DICOM-WithOverlays.dcm",
    "JPGLosslessP14SV1_1s_1f_8b.dcm",
    "JPEG-LL.dcm",
)
"""Of pydicom and pydicom-data: CT of spine and head, MR of shoulder and belly, ultrasound, a
scintigram. Their tags alone would refuse them; here their pixels are asked."""

CHEST = ("RG1_UNCI.dcm",)
"""Of pydicom-data: the chest film that everyone sends by mistake."""


def strangers(per_kind: int = 40, *, seed: int = 1_000_003) -> list[tuple[str, Grey]]:
    """Kind and grey values [rows, columns] from 0 to 1 of each picture.

    Parameters
    ----------
    per_kind
        Pictures of each kind; cuts and turns of the few files there are.
    """
    found = []
    for number, (kind, make) in enumerate(KINDS.items()):
        generator = np.random.default_rng([seed, number])
        found += [(kind, grey) for grey in make(generator, per_kind)]
    return found


def photographs(generator: Generator, count: int) -> Iterator[Grey]:
    """Cuts of the photographs that scikit-learn and matplotlib carry."""
    pictures = [_grey(Image.open(path)) for path in _photograph_files()]
    for number in range(count if pictures else 0):
        yield _cut(pictures[number % len(pictures)], generator)


def handwriting(generator: Generator, count: int) -> Iterator[Grey]:
    """Digits by hand, strewn over a sheet: dark on white or white on dark."""
    from sklearn.datasets import load_digits

    digits = load_digits().images / 16.0
    for _ in range(count):
        rows, columns = (int(v) for v in generator.integers(200, 520, 2))
        sheet = np.zeros((rows, columns), np.float32)
        for _ in range(int(generator.integers(1, 12))):
            size = int(generator.integers(24, min(rows, columns) - 8))
            digit = Image.fromarray(digits[generator.integers(len(digits))].astype(np.float32))
            drawn = np.asarray(digit.resize((size, size), Image.Resampling.BICUBIC))
            top = int(generator.integers(rows - size))
            left = int(generator.integers(columns - size))
            place = np.s_[top : top + size, left : left + size]
            sheet[place] = np.maximum(sheet[place], np.clip(drawn, 0, 1))
        yield sheet if generator.random() < 0.5 else np.float32(1) - sheet


def other_modalities(generator: Generator, count: int) -> Iterator[Grey]:
    """Tomography, ultrasound and scintigraphy, whole or cut, out of pydicom's own files."""
    pictures = _foreign_pictures(OTHER_MODALITIES)
    for number in range(count if pictures else 0):
        whole = pictures[number % len(pictures)]
        yield whole if number < len(pictures) else _cut(whole, generator, least=0.6)


def chests(generator: Generator, count: int) -> Iterator[Grey]:
    """One chest film, whole and then cut a little: never to where only a shoulder is left."""
    pictures = _foreign_pictures(CHEST)
    for number in range(count if pictures else 0):
        whole = pictures[number % len(pictures)]
        yield whole if number < len(pictures) else _cut(whole, generator, least=0.8)


def charts(generator: Generator, count: int) -> Iterator[Grey]:
    """Figures as papers print them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    for _ in range(count):
        figure = Figure(figsize=tuple(generator.uniform(3, 6, 2)), dpi=80)
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        x = np.linspace(0, 1, 50)
        kind = int(generator.integers(4))
        if kind == 0:
            for _ in range(int(generator.integers(1, 6))):
                axes.plot(x, generator.normal(size=50).cumsum())
        elif kind == 1:
            axes.bar(range(8), generator.random(8))
        elif kind == 2:
            axes.imshow(generator.random((12, 12)), cmap="gray")
        else:
            axes.scatter(generator.random(60), generator.random(60))
        axes.set_title("measured against expected")
        with io.BytesIO() as file:
            figure.savefig(file, format="png")
            file.seek(0)
            with Image.open(file) as image:
                yield _grey(image)


def noise(generator: Generator, count: int) -> Iterator[Grey]:
    """Salt and pepper, stripes, speckle: what a broken detector sends."""
    for _ in range(count):
        rows, columns = (int(v) for v in generator.integers(120, 500, 2))
        kind = int(generator.integers(3))
        if kind == 0:
            grey = (generator.random((rows, columns)) < generator.uniform(0.05, 0.5)) * 1.0
        elif kind == 1:
            grey = np.repeat(generator.random((1, columns)), rows, axis=0)
            grey = grey + generator.normal(0, 0.1, (rows, columns))
        else:
            grey = generator.gamma(generator.uniform(0.5, 4), 0.2, (rows, columns))
        yield np.clip(grey, 0, 1).astype(np.float32)


KINDS: dict[str, Callable[[Generator, int], Iterator[Grey]]] = {
    "photographs": photographs,
    "handwriting": handwriting,
    "other_modalities": other_modalities,
    "chests": chests,
    "charts": charts,
    "noise": noise,
}
"""Makers by kind."""


def _photograph_files() -> list[Path]:
    import matplotlib as mpl
    import sklearn.datasets

    scikit = Path(sklearn.datasets.__file__).parent / "images"
    sample = Path(mpl.get_data_path()) / "sample_data"
    paths = [scikit / "china.jpg", scikit / "flower.jpg", sample / "grace_hopper.jpg"]
    return [path for path in paths if path.is_file()]


def _foreign_pictures(names: Sequence[str]) -> list[Grey]:
    import data_store
    import pydicom.data

    from worker.pixels import read_dicom

    folders = [
        Path(pydicom.data.__file__).parent / "test_files",
        Path(data_store.__file__).parent / "data",
    ]
    found = [next((f / n for f in folders if (f / n).is_file()), None) for n in names]
    return [np.array(read_dicom(path).pixels) for path in found if path is not None]


def _grey(image: Image.Image) -> Grey:
    return np.asarray(image.convert("L"), dtype=np.float32) / np.float32(255)


def _cut(grey: Grey, generator: Generator, *, least: float = 0.35) -> Grey:
    """A window of at least that share of each side, turned by a quarter at times."""
    rows, columns = grey.shape
    height = max(1, int(rows * generator.uniform(least, 1)))
    width = max(1, int(columns * generator.uniform(least, 1)))
    top = int(generator.integers(rows - height + 1))
    left = int(generator.integers(columns - width + 1))
    turned = np.rot90(grey[top : top + height, left : left + width], int(generator.integers(4)))
    return np.ascontiguousarray(turned)
