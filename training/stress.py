"""What other hospitals send, made from what we have: the stressed split. Knows no models.

Each variant is drawn from a seed made of its own name and the file's, so that every run sees the
same images, and none that training's augmentation has drawn. Geometry moves the boxes along.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Generator = np.random.Generator
Step = Callable[["Film", Generator], "Film"]

KEPT_SHARE = 0.4
"""A box stays if at least this share of its area is still in view."""

SMALLEST_WINDOW = 96
"""Pixels; a joint collimated to less shows nothing."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Film:
    """One radiograph with what is known of it.

    Attributes
    ----------
    pixels
        float32 [rows, columns], 0 black to 1 white, bone bright.
    boxes
        float64 [T, 4] as (left, top, right, bottom) in pixels of ``pixels``; (0, 0) is the outer
        corner of the top-left pixel.
    box_regions
        Region of each box, T long.
    primary
        Region that the view is centred on; None if unknown.
    regions
        Regions that are surely in view.
    uncertain
        Regions that were in view before a crop and may have left it.
    focus
        (x, y) of the middle of ``primary`` in pixels; None if unknown.

    Raises
    ------
    ValueError
        If pixels, boxes and regions do not fit together.
    """

    pixels: NDArray[np.float32]
    boxes: NDArray[np.float64]
    box_regions: tuple[str, ...] = ()
    primary: str | None = None
    regions: frozenset[str] = frozenset()
    uncertain: frozenset[str] = frozenset()
    focus: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.pixels.ndim != 2 or self.pixels.dtype != np.float32 or self.pixels.size == 0:
            raise ValueError(f"pixels must be float32 [rows, columns], not {self.pixels.dtype}")
        if self.boxes.shape != (len(self.box_regions), 4):
            raise ValueError(f"{self.boxes.shape} boxes for {len(self.box_regions)} regions")

    @property
    def rows(self) -> int:
        """Height in pixels."""
        return int(self.pixels.shape[0])

    @property
    def columns(self) -> int:
        """Width in pixels."""
        return int(self.pixels.shape[1])


@dataclass(frozen=True, kw_only=True, slots=True)
class Affine:
    """Where a point of the old film lies on the new one: x' = a x + b y + c, y' = d x + e y + f."""

    a: float
    b: float
    c: float
    d: float
    e: float
    f: float

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Where (x, y) comes to lie."""
        return self.a * x + self.b * y + self.c, self.d * x + self.e * y + self.f

    def hulls(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Upright boxes around the moved ``boxes`` [T, 4]."""
        corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
        x = self.a * corners[..., 0] + self.b * corners[..., 1] + self.c
        y = self.d * corners[..., 0] + self.e * corners[..., 1] + self.f
        return np.stack([x.min(1), y.min(1), x.max(1), y.max(1)], axis=1)

    def inverse(self) -> Affine:
        """The way back."""
        determinant = self.a * self.e - self.b * self.d
        a, b = self.e / determinant, -self.b / determinant
        d, e = -self.d / determinant, self.a / determinant
        return Affine(
            a=a, b=b, c=-(a * self.c + b * self.f), d=d, e=e, f=-(d * self.c + e * self.f)
        )


def stress(film: Film, variant: str, name: str) -> Film:
    """Film as ``variant`` makes it, drawn for the file ``name``.

    Raises
    ------
    KeyError
        If there is no such variant; ``VARIANTS`` names them all.
    """
    generator = generator_for(variant, name)
    for step in VARIANTS[variant]:
        film = step(film, generator)
    return replace(film, pixels=np.clip(film.pixels, 0.0, 1.0).astype(np.float32))


def generator_for(variant: str, name: str) -> Generator:
    """Randomness that depends on the variant and the file's name alone."""
    digest = hashlib.sha256(f"stressed split\0{variant}\0{name}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


# Geometry ----------------------------------------------------------------------------------------


def move(film: Film, way: Affine, *, rows: int, columns: int, fill: float = 0.0) -> Film:
    """Film resampled along ``way`` onto ``rows`` × ``columns``, with its boxes and focus.

    Where the new film is smaller the old one is smoothed first, or thin lines would alias.
    """
    back = way.inverse()
    shrink = math.sqrt(abs(back.a * back.e - back.b * back.d))
    source = Image.fromarray(film.pixels - fill)
    if shrink > 1.5:
        smaller = (max(1, round(film.columns / shrink)), max(1, round(film.rows / shrink)))
        source = source.resize(smaller, Image.Resampling.BOX)
        sx, sy = smaller[0] / film.columns, smaller[1] / film.rows
        back = replace(
            back, a=back.a * sx, b=back.b * sx, c=back.c * sx,
            d=back.d * sy, e=back.e * sy, f=back.f * sy,
        )  # fmt: skip
    moved = source.transform(
        (columns, rows),
        Image.Transform.AFFINE,
        (back.a, back.b, back.c, back.d, back.e, back.f),
        resample=Image.Resampling.BILINEAR,
    )
    boxes, kept = _still_in_view(way.hulls(film.boxes), rows=rows, columns=columns)
    return replace(
        film,
        pixels=np.asarray(moved, dtype=np.float32) + np.float32(fill),
        boxes=boxes,
        box_regions=tuple(r for r, keep in zip(film.box_regions, kept, strict=True) if keep),
        focus=None if film.focus is None else way.point(*film.focus),
    )


def _still_in_view(
    boxes: NDArray[np.float64], *, rows: int, columns: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Boxes cut to the film, and which of them are kept."""
    edge = np.array([columns, rows, columns, rows], dtype=np.float64)
    cut = np.clip(boxes, 0, edge)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    visible = np.clip(cut[:, 2:] - cut[:, :2], 0, None).prod(axis=1)
    kept = (visible > 0) & (visible >= KEPT_SHARE * area)
    return cut[kept], kept


def crop(film: Film, *, left: float, top: float, width: float, height: float) -> Film:
    """Window of the film, as a collimator cuts it, widened to whole pixels: nothing is blurred."""
    x, y = math.floor(left), math.floor(top)
    columns, rows = math.ceil(left + width) - x, math.ceil(top + height) - y
    return move(film, Affine(a=1, b=0, c=-x, d=0, e=1, f=-y), rows=rows, columns=columns)


def zoomed(film: Film, generator: Generator) -> Film:
    """Collimated to one joint: a window of 1/1.5 to 1/3.5 of the film around it.

    A film with boxes is cut around one of them, which stays whole, so that a fractured film
    stays fractured; any other around its focus, or around its bright middle if that is unknown:
    of its regions none is then sure to be in view, unless it had only one.
    """
    share = 1 / generator.uniform(1.5, 3.5)
    aspect = math.exp(generator.uniform(-0.3, 0.3))
    offset = generator.uniform(-0.15, 0.15, 2)
    side = max(SMALLEST_WINDOW, share * math.sqrt(film.rows * film.columns))
    width, height = side * math.sqrt(aspect), side / math.sqrt(aspect)
    region = film.primary
    keep: NDArray[np.float64] | None = None
    if len(film.boxes):
        chosen = int(generator.integers(len(film.boxes)))
        keep, region = film.boxes[chosen], film.box_regions[chosen]
        width = max(width, 1.3 * (keep[2] - keep[0]))
        height = max(height, 1.3 * (keep[3] - keep[1]))
        middle = ((keep[0] + keep[2]) / 2, (keep[1] + keep[3]) / 2)
    else:
        middle = film.focus or bright_middle(film.pixels)
    width, height = min(width, film.columns), min(height, film.rows)
    left = middle[0] - width / 2 + offset[0] * width
    top = middle[1] - height / 2 + offset[1] * height
    if keep is not None:
        left = min(max(left, keep[2] - width), keep[0])
        top = min(max(top, keep[3] - height), keep[1])
    left = min(max(left, 0.0), film.columns - width)
    top = min(max(top, 0.0), film.rows - height)
    placed = keep is not None or film.focus is not None or film.regions == {region}
    sure = frozenset({region}) if region and placed else frozenset()
    narrowed = replace(
        film,
        primary=region if placed else None,
        regions=sure,
        uncertain=(film.regions | film.uncertain) - sure,
        focus=middle,
    )
    return crop(narrowed, left=left, top=top, width=width, height=height)


def bright_middle(pixels: NDArray[np.float32]) -> tuple[float, float]:
    """(x, y) of the centre of what lies above the film's mean, the limb on most films."""
    weight = np.clip(pixels - pixels.mean(), 0, None).astype(np.float64)
    total = weight.sum()
    rows, columns = pixels.shape
    if total <= 0:
        return columns / 2, rows / 2
    x = (weight.sum(0) * (np.arange(columns) + 0.5)).sum() / total
    y = (weight.sum(1) * (np.arange(rows) + 0.5)).sum() / total
    return float(x), float(y)


def rotated(film: Film, generator: Generator) -> Film:
    """Turned by any angle on a plate that grows to hold it; the corners are unexposed."""
    return rotate(film, generator.uniform(0, 360))


def tilted(film: Film, generator: Generator) -> Film:
    """Turned by at most 25 degrees, as a careless positioning is."""
    return rotate(film, generator.uniform(-25, 25))


def rotate(film: Film, degrees: float) -> Film:
    """Film turned clockwise as seen, around its middle; boxes become the hulls of the turned ones."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    columns = math.ceil(abs(film.columns * cosine) + abs(film.rows * sine) - 1e-6)
    rows = math.ceil(abs(film.columns * sine) + abs(film.rows * cosine) - 1e-6)
    x, y = film.columns / 2, film.rows / 2
    way = Affine(
        a=cosine, b=-sine, c=columns / 2 - cosine * x + sine * y,
        d=sine, e=cosine, f=rows / 2 - sine * x - cosine * y,
    )  # fmt: skip
    return move(film, way, rows=rows, columns=columns)


def mirrored(film: Film, _: Generator) -> Film:
    """Left and right exchanged, as the other hand's film looks."""
    way = Affine(a=-1, b=0, c=film.columns, d=0, e=1, f=0)
    return move(film, way, rows=film.rows, columns=film.columns)


def low_resolution(film: Film, generator: Generator) -> Film:
    """Sent as a thumbnail: 128 to 224 pixels on the longer side."""
    return resize_longer(film, int(generator.integers(128, 225)))


def resize_longer(film: Film, longer: int) -> Film:
    """Film scaled so that its longer side has ``longer`` pixels."""
    scale = longer / max(film.rows, film.columns)
    rows, columns = max(1, round(film.rows * scale)), max(1, round(film.columns * scale))
    way = Affine(a=columns / film.columns, b=0, c=0, d=0, e=rows / film.rows, f=0)
    return move(film, way, rows=rows, columns=columns)


def framed(film: Film, generator: Generator) -> Film:
    """Exposed field on a larger plate: an unexposed or printed border, at times askew."""
    share = generator.uniform(0.45, 0.8)
    border = float(generator.choice([0.0, 0.0, 0.04, 0.5, 1.0]))
    if generator.random() < 0.4:
        film = rotate(film, generator.uniform(-15, 15))
    columns, rows = round(film.columns / share), round(film.rows / share)
    dx = generator.uniform(0, columns - film.columns)
    dy = generator.uniform(0, rows - film.rows)
    moved = move(
        film, Affine(a=1, b=0, c=dx, d=0, e=1, f=dy), rows=rows, columns=columns, fill=border
    )
    if max(rows, columns) > 1024:
        moved = resize_longer(moved, 1024)
    return moved


# Exposure ----------------------------------------------------------------------------------------


def dark(film: Film, generator: Generator) -> Film:
    """Window set too high: everything at 20 to 45 % of its brightness."""
    gain, gamma = generator.uniform(0.2, 0.45), generator.uniform(1.0, 1.5)
    return replace(film, pixels=_unit(film.pixels) ** np.float32(gamma) * np.float32(gain))


def low_contrast(film: Film, generator: Generator) -> Film:
    """Window set too wide: a span of 15 to 35 % of the greys."""
    span = generator.uniform(0.15, 0.35)
    low = generator.uniform(0.1, 0.9 - span)
    return replace(film, pixels=_unit(film.pixels) * np.float32(span) + np.float32(low))


def over_exposed(film: Film, generator: Generator) -> Film:
    """Too much dose: soft tissue is burnt to black and only dense bone is left."""
    floor = float(np.quantile(film.pixels, generator.uniform(0.3, 0.55)))
    floor = min(floor, 0.7)
    pixels = np.clip((film.pixels - floor) / (1 - floor), 0, 1)
    return replace(film, pixels=pixels ** np.float32(generator.uniform(0.9, 1.3)))


def under_exposed(film: Film, generator: Generator) -> Film:
    """Too little dose: bright and flat, with the noise of few quanta."""
    lift = _unit(film.pixels) ** np.float32(generator.uniform(0.35, 0.6))
    quanta = generator.uniform(30, 120)
    noisy = generator.poisson((0.1 + lift) * quanta) / quanta - 0.1
    return replace(film, pixels=np.clip(noisy, 0, 1).astype(np.float32))


def inverted(film: Film, _: Generator) -> Film:
    """Bone dark: sent with the wrong photometric interpretation."""
    return replace(film, pixels=np.float32(1) - film.pixels)


def jpeg_artefacts(film: Film, generator: Generator) -> Film:
    """Sent through a messenger: JPEG of quality 8 to 25."""
    grey = Image.fromarray(np.round(_unit(film.pixels) * 255).astype(np.uint8))
    with io.BytesIO() as file:
        grey.save(file, "JPEG", quality=int(generator.integers(8, 26)))
        file.seek(0)
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("L"), dtype=np.float32)
    return replace(film, pixels=pixels / np.float32(255))


# Burned-in things --------------------------------------------------------------------------------


def lettered(film: Film, generator: Generator) -> Film:
    """A side marker, a few words and, half the time, a ruler burned in near the edges."""
    ink = float(generator.uniform(0.8, 1.0))
    canvas = Image.fromarray(film.pixels)
    draw = ImageDraw.Draw(canvas)
    size = max(8, round(min(film.rows, film.columns) * generator.uniform(0.06, 0.12)))
    _write(draw, film, generator, str(generator.choice(["L", "R"])), size=size, ink=ink)
    word = str(generator.choice(["AP", "LAT", "OBL", "ERECT", "PORTABLE", "12:07", "kV 55"]))
    _write(draw, film, generator, word, size=max(8, round(size * 0.6)), ink=ink)
    if generator.random() < 0.5:
        _rule(draw, film, generator, ink)
    return replace(film, pixels=np.asarray(canvas, dtype=np.float32).copy())


def _write(
    draw: ImageDraw.ImageDraw, film: Film, generator: Generator, text: str, *, size: int, ink: float
) -> None:
    font = ImageFont.load_default(size)
    margin = 0.02 * min(film.rows, film.columns)
    box = draw.textbbox((0, 0), text, font=font)
    across = max(margin, film.columns - margin - (box[2] - box[0]))
    down = max(margin, film.rows - margin - (box[3] - box[1]))
    x = generator.uniform(margin, across)
    y = down if generator.random() < 0.5 else margin
    if generator.random() < 0.5:
        x, y = (across if generator.random() < 0.5 else margin), generator.uniform(margin, down)
    draw.text((x - box[0], y - box[1]), text, fill=ink, font=font)


def _rule(draw: ImageDraw.ImageDraw, film: Film, generator: Generator, ink: float) -> None:
    """A ruler along one side, with a long tick at each tenth."""
    upright = generator.random() < 0.5
    length = film.rows if upright else film.columns
    depth = film.columns if upright else film.rows
    at_start = generator.random() < 0.5
    step = max(4.0, length / generator.uniform(40, 90))
    edge = 0 if at_start else depth - 1
    inward = 1 if at_start else -1
    for number in range(int(length / step)):
        reach = edge + inward * max(2.0, depth * (0.05 if number % 10 == 0 else 0.025))
        place = (number + 0.5) * step
        line = [(edge, place), (reach, place)] if upright else [(place, edge), (place, reach)]
        draw.line(line, fill=ink, width=1)


# Variants ----------------------------------------------------------------------------------------


def at_times(share: float, *steps: Step) -> Step:
    """One of ``steps``, drawn with even odds, on ``share`` of the films."""

    def step(film: Film, generator: Generator) -> Film:
        drawn, chosen = generator.random(), int(generator.integers(len(steps)))
        return steps[chosen](film, generator) if drawn < share else film

    return step


def unchanged(film: Film, _: Generator) -> Film:
    """The film as it is."""
    return film


def _unit(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Pixels held to 0 to 1, which powers and codecs need."""
    return np.clip(pixels, np.float32(0), np.float32(1))


VARIANTS: Mapping[str, tuple[Step, ...]] = MappingProxyType(
    {
        "plain": (unchanged,),
        "zoomed": (zoomed,),
        "rotated": (rotated,),
        "mirrored": (mirrored,),
        "dark": (dark,),
        "low_contrast": (low_contrast,),
        "over_exposed": (over_exposed,),
        "under_exposed": (under_exposed,),
        "inverted": (inverted,),
        "framed": (framed,),
        "lettered": (lettered,),
        "low_resolution": (low_resolution,),
        "jpeg": (jpeg_artefacts,),
        "stressed": (
            at_times(0.6, zoomed),
            at_times(0.5, rotated, tilted),
            at_times(0.5, mirrored),
            at_times(0.6, dark, low_contrast, over_exposed, under_exposed),
            at_times(0.4, framed),
            at_times(0.5, lettered),
            at_times(0.25, low_resolution),
            at_times(0.4, jpeg_artefacts),
            at_times(0.1, inverted),
        ),
    }
)
"""Steps of each variant, in the order in which they are done. "stressed" draws from all of them."""
