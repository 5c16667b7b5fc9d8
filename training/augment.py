"""Views of a radiograph as other hospitals would have sent it, with the labels moved along.

Scale comes first: whole plates become single joints. Polarity is right before this, but
for a small share, as pictures without tags may be inverted.
"""

import io
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from training.fracatlas import Radiograph
from training.network import LABELS, REGIONS
from training.samples import Floats, Sample, fracture_targets, region_targets
from worker.preprocess import preprocess

PLACE_CELLS: Final = 16
"""Cells along an edge of the grid of places that covers an image."""

_IN_VIEW: Final = 0.55  # share of a region's place at or above which it is in view
_OUT_OF_VIEW: Final = 0.12  # share at or below which it is not
_MIDDLE: Final = 0.5  # of a view's middle that the region must hold which names the view
_FILLS: Final = 0.45  # share of the view's anatomy at or above which a region is in view
_BOX_IN: Final = 0.6  # share of a box at or above which its fracture is in view
_BOX_OUT: Final = 0.1  # share at or below which it is not
_SMALLEST: Final = 80.0  # pixels: no view is smaller


@dataclass(frozen=True, kw_only=True, slots=True)
class Strength:
    """How views are drawn; probabilities, and ranges as (low, high).

    Attributes
    ----------
    whole
        Share of views that show the whole image.
    at_fracture
        Of the others, the share centred near a fracture, if there is one.
    zoom
        How much smaller than the image the other views are, log-uniform.
    turn
        Degrees of any rotation; `upright` is the share turned by little.
    """

    whole: float = 0.3
    at_fracture: float = 0.6
    zoom: tuple[float, float] = (1.0, 4.0)
    turn: tuple[float, float] = (-180.0, 180.0)
    upright: float = 0.5
    exposure: float = 0.8
    frame: float = 0.35
    letters: float = 0.3
    blur: float = 0.15
    coarse: float = 0.2
    jpeg: float = 0.25
    noise: float = 0.25
    inverted: float = 0.03


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """A rectangle of an image, turned: what becomes the next picture.

    Attributes
    ----------
    x, y
        Middle, in pixels of the image.
    width, height
        Of the rectangle, in pixels of the image.
    angle
        Radians by which the rectangle is turned.
    mirrored
        Left and right exchanged after the turn.
    """

    x: float
    y: float
    width: float
    height: float
    angle: float = 0.0
    mirrored: bool = False

    def to_view(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Image points [K, 2] in units of the view: 0 to 1 is inside."""
        moved = points - (self.x, self.y)
        cosine, sine = math.cos(self.angle), math.sin(self.angle)
        across = moved[:, 0] * cosine + moved[:, 1] * sine
        down = -moved[:, 0] * sine + moved[:, 1] * cosine
        across = -across if self.mirrored else across
        return np.stack([across / self.width + 0.5, down / self.height + 0.5], 1)

    def box_to_view(self, box: tuple[float, float, float, float]) -> NDArray[np.float64]:
        """A box in units of the view: the bounds of the turned ellipse inside it.

        The corners of a turned box hold no fracture; their bounds would be too wide.
        """
        left, top, right, bottom = box
        middle = self.to_view(np.array([[(left + right) / 2, (top + bottom) / 2]]))[0]
        a, b = (right - left) / 2, (bottom - top) / 2
        cosine, sine = math.cos(self.angle), math.sin(self.angle)
        half = np.array(
            [
                math.hypot(a * cosine, b * sine) / self.width,
                math.hypot(a * sine, b * cosine) / self.height,
            ]
        )
        return np.concatenate([middle - half, middle + half])

    def render(self, pixels: NDArray[np.uint8], width: int, height: int) -> Floats:
        """Grey values [height, width] of the view, 0 to 1, black outside the image."""
        image = Image.fromarray(pixels)
        step_x, step_y = self.width / width, self.height / height
        shrink = max(1, int(min(step_x, step_y)))
        if shrink > 1:
            image = image.reduce(shrink)
        cosine, sine = math.cos(self.angle), math.sin(self.angle)
        flip = -1.0 if self.mirrored else 1.0
        a, b = cosine * step_x * flip / shrink, -sine * step_y / shrink
        d, e = sine * step_x * flip / shrink, cosine * step_y / shrink
        c = self.x / shrink - a * width / 2 - b * height / 2
        f = self.y / shrink - d * width / 2 - e * height / 2
        turned = image.transform(
            (width, height),
            Image.Transform.AFFINE,
            (a, b, c, d, e, f),
            Image.Resampling.BICUBIC,
        )
        return np.asarray(np.asarray(turned) / 255.0, np.float32)


def draw_view(
    radiograph: Radiograph,
    places: Floats | None,
    rng: np.random.Generator,
    strength: Strength,
) -> View:
    """Choose what to show: the whole image, a fracture, or a joint.

    Parameters
    ----------
    places
        [labels, PLACE_CELLS, PLACE_CELLS] where the regions in view lie over the image,
        each summing to 1, or None if unknown.
    """
    width, height = float(radiograph.width), float(radiograph.height)
    turn = rng.uniform(*strength.turn)
    if rng.random() < strength.upright:
        turn = rng.normal(0, 6) + 90.0 * int(rng.choice([0, 0, 0, 1, 2, 3]))
    angle, mirrored = math.radians(turn), bool(rng.random() < 0.5)
    if rng.random() < strength.whole:
        grow = float(rng.uniform(0.9, 1.15))
        cosine, sine = abs(math.cos(angle)), abs(math.sin(angle))
        return View(
            x=width / 2 + rng.normal(0, 0.03) * width,
            y=height / 2 + rng.normal(0, 0.03) * height,
            width=(width * cosine + height * sine) * grow,
            height=(width * sine + height * cosine) * grow,
            angle=angle,
            mirrored=mirrored,
        )
    low, high = strength.zoom
    side = max(width, height) / math.exp(rng.uniform(math.log(low), math.log(high)))
    if radiograph.boxes and rng.random() < strength.at_fracture:
        box = radiograph.boxes[int(rng.integers(len(radiograph.boxes)))].box
        reach = max(box[2] - box[0], box[3] - box[1])
        side = float(np.clip(side, 1.8 * reach, 12 * reach))
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        jitter = 0.25
    else:
        x, y = _somewhere(radiograph, places, rng)
        jitter = 0.12
    side = max(side, _SMALLEST)
    aspect = math.exp(rng.uniform(-0.45, 0.45))
    edge = 0.35 * side  # so that little of a view lies outside the image
    return View(
        x=_between(x + rng.uniform(-jitter, jitter) * side, edge, width - edge),
        y=_between(y + rng.uniform(-jitter, jitter) * side, edge, height - edge),
        width=side * math.sqrt(aspect),
        height=side / math.sqrt(aspect),
        angle=angle,
        mirrored=mirrored,
    )


def _between(value: float, low: float, high: float) -> float:
    """The value, or the nearer limit; the middle if the limits cross."""
    return (low + high) / 2 if low > high else min(max(value, low), high)


def _somewhere(
    radiograph: Radiograph, places: Floats | None, rng: np.random.Generator
) -> tuple[float, float]:
    """A point of interest: a region drawn evenly, then a cell of its place."""
    seen = [i for i, label in enumerate(LABELS) if label in radiograph.regions]
    if places is None or not seen:
        x, y = rng.uniform(0.25, 0.75, 2)
    else:
        mass = places[seen[int(rng.integers(len(seen)))]].ravel()
        cell = int(rng.choice(mass.size, p=mass / mass.sum()))
        y, x = (np.array(divmod(cell, PLACE_CELLS)) + rng.random(2)) / PLACE_CELLS
    return float(x) * radiograph.width, float(y) * radiograph.height


def view_targets(
    radiograph: Radiograph, places: Floats | None, view: View
) -> tuple[Floats, Floats, Floats, NDArray[np.int64], Floats]:
    """What is known of a view: regions, fractures, boxes, their regions, and cut-off boxes.

    Boxes are in units of the view. What is partly in view is unknown.
    """
    regions = _regions_in(radiograph, places, view)
    fractures = np.full(len(REGIONS), np.nan, np.float32)
    whole = fracture_targets(radiograph)
    for index in range(len(REGIONS)):
        if regions[index] == 1.0:
            fractures[index] = 0.0 if whole[index] != 1.0 else np.nan
    inside: list[NDArray[np.float64]] = []
    owners: list[int] = []
    cut: list[NDArray[np.float64]] = []
    partly: set[int] = set()
    hidden: set[int] = set()
    for fracture in radiograph.boxes:
        index = REGIONS.index(fracture.region)
        box = view.box_to_view(fracture.box)
        clipped = np.clip(box, 0, 1)
        share = float(np.prod(clipped[2:] - clipped[:2]) / np.prod(box[2:] - box[:2]))
        if share >= _BOX_IN:
            inside.append(clipped)
            owners.append(index)
        elif share > _BOX_OUT:
            cut.append(clipped)
            partly.add(index)
        else:
            hidden.add(index)
    for index in set(owners):
        fractures[index] = 1.0
        regions[index] = 1.0
    for index in hidden - partly - set(owners):
        fractures[index] = 0.0 if regions[index] == 1.0 else np.nan
    for index in partly - set(owners):
        fractures[index] = np.nan
        regions[index] = np.nan
    return (
        regions,
        fractures,
        np.array(inside, np.float32).reshape(-1, 4),
        np.array(owners, np.int64),
        np.array(cut, np.float32).reshape(-1, 4),
    )


def middle_label(radiograph: Radiograph, places: Floats | None, view: View) -> int:
    """Index of the label on which a view is centred, or -1 if none stands out.

    A view of the whole image has the image's own; another the one that holds most of
    the anatomy in the middle half of the view.
    """
    middle, shown = _cells_in_view(radiograph, view)
    if shown.all():
        return -1 if radiograph.multiview else LABELS.index(radiograph.primary)
    if places is None:
        return -1
    mass = places.reshape(len(LABELS), -1)[:, middle].sum(1)
    first = int(mass.argmax())
    return first if mass[first] >= max(_MIDDLE * float(mass.sum()), 1e-3) else -1


def _cells_in_view(
    radiograph: Radiograph, view: View
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Cells of the grid of places that are in the middle half of a view, and in all of it."""
    grid = (np.arange(PLACE_CELLS) + 0.5) / PLACE_CELLS
    x, y = np.meshgrid(grid * radiograph.width, grid * radiograph.height)
    inside = view.to_view(np.stack([x.ravel(), y.ravel()], 1))
    middle = ((inside > 0.25) & (inside < 0.75)).all(1)
    shown = ((inside > 0) & (inside < 1)).all(1)
    return np.asarray(middle), np.asarray(shown)


def _regions_in(radiograph: Radiograph, places: Floats | None, view: View) -> Floats:
    """[labels] in view by the share of their place that the view holds; NaN in between."""
    whole = region_targets(radiograph)
    _, shown = _cells_in_view(radiograph, view)
    if shown.all():
        return whole
    if places is None:
        return np.where(whole == 1.0, np.nan, 0.0).astype(np.float32)
    mass = places.reshape(len(LABELS), -1)[:, shown].sum(1)
    fill = mass * whole
    fill = fill / max(float(fill.sum()), 1e-6)
    targets = np.full(len(LABELS), np.nan, np.float32)
    targets[(mass >= _IN_VIEW) | ((fill >= _FILLS) & (mass >= 0.2))] = 1.0
    targets[(mass <= _OUT_OF_VIEW) & (fill < 0.25)] = 0.0
    targets[whole == 0.0] = 0.0
    return targets


def augmented_sample(
    radiograph: Radiograph,
    places: Floats | None,
    rng: np.random.Generator,
    size: int,
    strength: Strength | None = None,
) -> Sample:
    """One view of a radiograph, degraded, preprocessed as in service, with its targets."""
    strength = strength or Strength()
    view = draw_view(radiograph, places, rng, strength)
    regions, fractures, boxes, owners, cut = view_targets(radiograph, places, view)
    longest = max(view.width, view.height)
    canvas = size * float(rng.uniform(1.0, 1.3))
    width = max(16, round(view.width / longest * canvas))
    height = max(16, round(view.height / longest * canvas))
    grey = view.render(radiograph.pixels(), width, height)
    grey = degrade(grey, rng, strength)
    pixels, letterbox = preprocess(grey, size=size)
    corners = np.array([width, height, width, height], np.float32)
    moved = [letterbox.to_model(tuple((b * corners).tolist())) for b in boxes]
    cut_moved = [letterbox.to_model(tuple((b * corners).tolist())) for b in cut]
    limb = 1.0
    anatomy = regions[: len(REGIONS)]
    if (anatomy == 0.0).all() and regions[-1] == 1.0:
        limb = 0.0  # a trunk without a limb is a chest or an abdomen
    elif not (anatomy == 1.0).any():
        limb = math.nan
    return Sample(
        pixels=pixels[0],
        regions=regions,
        fractures=fractures,
        boxes=np.array(moved, np.float32).reshape(-1, 4),
        box_regions=owners,
        ignored=np.array(cut_moved, np.float32).reshape(-1, 4),
        limb=limb,
        centre_label=middle_label(radiograph, places, view),
    )


def degrade(grey: Floats, rng: np.random.Generator, strength: Strength) -> Floats:
    """Exposure, coarseness, blur, noise, frames, letters, JPEG; 0 to 1 in and out."""
    if rng.random() < strength.coarse:
        grey = _coarser(grey, rng)
    if rng.random() < strength.blur:
        grey = _blurred(grey, float(rng.uniform(0.4, 1.4)))
    if rng.random() < strength.exposure:
        grey = _exposed(grey, rng)
    if rng.random() < strength.noise:
        grey = grey + rng.normal(0, rng.uniform(0.005, 0.04), grey.shape).astype(np.float32)
    if rng.random() < strength.frame:
        grey = _framed(grey, rng)
    if rng.random() < strength.letters:
        grey = _lettered(grey, rng)
    grey = np.clip(grey, 0, 1)
    if rng.random() < strength.inverted:
        grey = 1 - grey
    if rng.random() < strength.jpeg:
        grey = _compressed(grey, int(rng.integers(15, 80)))
    return grey


def _exposed(grey: Floats, rng: np.random.Generator) -> Floats:
    """Another exposure: gamma, contrast, haze, or saturated."""
    grey = np.power(np.clip(grey, 0, 1), math.exp(rng.uniform(-0.7, 0.7)), dtype=np.float32)
    kind = rng.random()
    if kind < 0.3:
        grey = grey * np.float32(rng.uniform(0.25, 1.0))
    elif kind < 0.5:
        grey = grey * np.float32(rng.uniform(1.0, 1.7))
    elif kind < 0.7:
        contrast = rng.uniform(0.25, 0.9)
        grey = grey * np.float32(contrast) + np.float32(rng.uniform(0, 1 - contrast))
    if rng.random() < 0.2:
        rows, columns = grey.shape
        first, last, top, bottom = rng.uniform(-0.25, 0.25, 4)
        light = 1 + np.linspace(first, last, columns) + np.linspace(top, bottom, rows)[:, None]
        grey = np.asarray(grey * light, np.float32)
    if rng.random() < 0.2:
        wide = _blurred(grey, max(grey.shape) / 16)
        sharper = 0.5 * wide + (grey - wide) * rng.uniform(1.0, 2.0) + 0.2
        grey = np.asarray(sharper, np.float32)
    return np.clip(grey, 0, 1)


def _coarser(grey: Floats, rng: np.random.Generator) -> Floats:
    rows, columns = grey.shape
    factor = rng.uniform(0.35, 0.8)
    small = (max(8, round(columns * factor)), max(8, round(rows * factor)))
    image = Image.fromarray(grey).resize(small, Image.Resampling.BILINEAR)
    return np.asarray(image.resize((columns, rows), Image.Resampling.BILINEAR), np.float32)


def _blurred(grey: Floats, radius: float) -> Floats:
    image = Image.fromarray((np.clip(grey, 0, 1) * 255).astype(np.uint8))
    return _unit(image.filter(ImageFilter.GaussianBlur(radius)))


def _framed(grey: Floats, rng: np.random.Generator) -> Floats:
    """Collimation: a turned rectangle or a disc, black, grey or white outside."""
    rows, columns = grey.shape
    mask = Image.new("L", (columns, rows), 0)
    draw = ImageDraw.Draw(mask)
    if rng.random() < 0.12:
        radius = 0.5 * max(rows, columns) * rng.uniform(0.85, 1.1)
        x, y = columns / 2, rows / 2
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    else:
        half_x, half_y = columns / 2 * rng.uniform(0.72, 1.05), rows / 2 * rng.uniform(0.72, 1.05)
        angle = math.radians(rng.normal(0, 8)) if rng.random() < 0.6 else 0.0
        cosine, sine = math.cos(angle), math.sin(angle)
        corners = [(-half_x, -half_y), (half_x, -half_y), (half_x, half_y), (-half_x, half_y)]
        draw.polygon(
            [
                (columns / 2 + x * cosine - y * sine, rows / 2 + x * sine + y * cosine)
                for x, y in corners
            ],
            fill=255,
        )
    inside = np.asarray(mask, np.float32) / 255
    kind = rng.random()
    if kind < 0.5:
        outside = np.float32(rng.uniform(0, 0.03))
    elif kind < 0.75:
        outside = np.float32(rng.uniform(0.9, 1.0))
    elif kind < 0.9:
        outside = np.float32(rng.uniform(0.05, 0.6))
    else:
        return np.asarray(grey * (inside + (1 - inside) * rng.uniform(0.1, 0.4)), np.float32)
    # Larger canvases with the field in the middle are what scanned films look like.
    pad = int(rng.uniform(0, 0.12) * max(rows, columns)) if rng.random() < 0.4 else 0
    framed = np.asarray(grey * inside + outside * (1 - inside), np.float32)
    if pad:
        framed[:pad] = framed[-pad:] = outside
        framed[:, :pad] = framed[:, -pad:] = outside
    return framed


def _lettered(grey: Floats, rng: np.random.Generator) -> Floats:
    """Side letters, names, plates and rulers, mostly near an edge."""
    rows, columns = grey.shape
    image = Image.fromarray((np.clip(grey, 0, 1) * 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(1, 4))):
        height = rng.uniform(0.03, 0.12) * max(rows, columns)
        word = str(rng.choice(["R", "L", "L", "R", "PA", "AP", "LAT", "12:04", "RT", "LT", "A/B"]))
        x = float(
            rng.choice([rng.uniform(0.0, 0.15), rng.uniform(0.75, 0.92), rng.uniform(0, 0.9)])
        )
        y = float(
            rng.choice([rng.uniform(0.0, 0.15), rng.uniform(0.75, 0.92), rng.uniform(0, 0.9)])
        )
        corner = (x * columns, y * rows)
        ink = int(rng.integers(170, 256))
        if rng.random() < 0.25:
            draw.rectangle((*corner, corner[0] + height * 1.2, corner[1] + height * 1.2), fill=ink)
            ink = int(rng.integers(0, 60))
        draw.text(corner, word, fill=ink, font=ImageFont.load_default(max(6.0, height)))
    if rng.random() < 0.15:
        x = float(rng.choice([0.02, 0.97])) * columns
        for tick in np.arange(0.1, 0.9, 0.03):
            draw.line((x - 3, tick * rows, x + 3, tick * rows), fill=230)
    return _unit(image)


def _unit(image: Image.Image) -> Floats:
    """Grey values from 0 to 1 of an 8-bit image."""
    return np.asarray(np.asarray(image) / 255.0, np.float32)


def _compressed(grey: Floats, quality: int) -> Floats:
    buffer = io.BytesIO()
    Image.fromarray((grey * 255).astype(np.uint8)).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as image:
        return _unit(image.convert("L"))
