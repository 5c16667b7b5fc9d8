"""Pictures that are no limb radiograph, made up: what the router must learn to refuse.

Nothing here is a copy of a real picture. Each maker returns grey values [rows, columns]
from 0 to 1.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Grey = NDArray[np.float32]
Maker = Callable[[np.random.Generator, int], Grey]

_WORDS: Final = [
    "the",
    "patient",
    "was",
    "seen",
    "in",
    "clinic",
    "and",
    "returned",
    "home",
    "report",
    "findings",
    "none",
    "of",
    "note",
    "date",
    "name",
    "ward",
    "page",
    "total",
    "amount",
    "invoice",
    "letter",
    "dear",
    "sir",
    "madam",
    "table",
    "figure",
    "result",
]


def make_negative(rng: np.random.Generator, size: int = 320) -> Grey:
    """One picture of a kind drawn at random."""
    maker = MAKERS[int(rng.integers(len(MAKERS)))]
    grey = maker(rng, size)
    if rng.random() < 0.3:
        grey = 1.0 - grey
    if rng.random() < 0.5:
        rows = int(size * rng.uniform(0.6, 1.0))
        grey = grey[:rows] if rng.random() < 0.5 else grey[:, :rows]
    return np.ascontiguousarray(np.clip(grey, 0, 1), np.float32)


def smooth_noise(rng: np.random.Generator, size: int, cells: int) -> Grey:
    """Noise of about `cells` blobs along an edge, 0 to 1."""
    small = rng.random((max(2, cells), max(2, cells)), np.float32)
    image = Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(image, np.float32), 0, 1)


def white_noise(rng: np.random.Generator, size: int) -> Grey:
    """Noise, pixel by pixel."""
    noise = rng.normal(rng.uniform(0.2, 0.8), rng.uniform(0.05, 0.4), (size, size))
    return noise.astype(np.float32)


def fractal_texture(rng: np.random.Generator, size: int) -> Grey:
    """Clouds, stone, foliage: noise summed over octaves."""
    total = np.zeros((size, size), np.float32)
    fall = rng.uniform(0.4, 0.8)
    for octave in range(1, 8):
        total += fall**octave * smooth_noise(rng, size, 2**octave)
    total -= total.min()
    return np.asarray(total / max(float(total.max()), 1e-6), np.float32)


def gradient(rng: np.random.Generator, size: int) -> Grey:
    """A ramp, a disc or a flat field."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.asarray(np.cos(angle) * x + np.sin(angle) * y, np.float32)
    kind = rng.integers(3)
    if kind == 1:
        ramp = np.hypot(x - rng.random(), y - rng.random())
    elif kind == 2:
        ramp = np.full_like(x, rng.random())
    noisy = ramp + rng.normal(0, rng.uniform(0, 0.05), ramp.shape)
    return noisy.astype(np.float32)


def text_page(rng: np.random.Generator, size: int) -> Grey:
    """A page of words, or a form with lines."""
    image = Image.new("L", (size, size), 255)
    draw = ImageDraw.Draw(image)
    step = int(rng.integers(9, 28))
    font = ImageFont.load_default(step * 0.8)
    for top in range(step, size - step, step):
        if rng.random() < 0.12:
            continue
        line = " ".join(rng.choice(_WORDS, int(rng.integers(2, 14))))
        draw.text((int(rng.integers(4, 40)), top), line, fill=int(rng.integers(0, 90)), font=font)
        if rng.random() < 0.15:
            draw.line((0, top, size, top), fill=60)
    return np.asarray(np.asarray(image) / 255, np.float32)


def line_art(rng: np.random.Generator, size: int) -> Grey:
    """A drawing by hand: strokes, outlines, circles, sticks."""
    image = Image.new("L", (size, size), 255 if rng.random() < 0.7 else 0)
    draw = ImageDraw.Draw(image)
    ink = 255 - int(np.asarray(image)[0, 0])
    for _ in range(int(rng.integers(3, 25))):
        points = rng.uniform(0, size, (int(rng.integers(2, 9)), 2)).cumsum(0) / 2 % size
        width = int(rng.integers(1, 9))
        corners = [(float(x), float(y)) for x, y in points]
        kind = rng.integers(3)
        if kind == 0:
            draw.line(corners, fill=ink, width=width, joint="curve")
        elif kind == 1:
            radius = float(rng.uniform(4, size / 3))
            x, y = corners[0]
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=ink, width=width)
        else:
            draw.polygon(corners, outline=ink)
    return np.asarray(np.asarray(image) / 255, np.float32)


def scene(rng: np.random.Generator, size: int) -> Grey:
    """What photographs have: horizon, lit shapes, shadows, texture everywhere."""
    sky = smooth_noise(rng, size, 3) * 0.3 + rng.uniform(0.3, 0.7)
    image = Image.fromarray((np.clip(sky, 0, 1) * 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    horizon = int(size * rng.uniform(0.3, 0.8))
    draw.rectangle((0, horizon, size, size), fill=int(rng.integers(30, 160)))
    for _ in range(int(rng.integers(3, 16))):
        left, top = rng.uniform(-0.2, 1, 2) * size
        width, height = rng.uniform(0.05, 0.5, 2) * size
        shape = (left, top, left + width, top + height)
        fill = int(rng.integers(0, 255))
        if rng.random() < 0.5:
            draw.rectangle(shape, fill=fill)
        else:
            draw.ellipse(shape, fill=fill)
    blurred = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 2))))
    texture = fractal_texture(rng, size)
    return np.asarray(np.asarray(blurred) / 255 * (0.5 + 0.7 * texture), np.float32)


def chest_like(rng: np.random.Generator, size: int) -> Grey:
    """Two dark lungs, a bright middle, ribs: the radiograph most often sent by mistake."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    grey = np.full((size, size), rng.uniform(0.5, 0.75), np.float32)
    lean = rng.uniform(-0.05, 0.05)
    for side in (-1, 1):
        centre = 0.5 + side * rng.uniform(0.17, 0.24) + lean
        lung = ((x - centre) / rng.uniform(0.12, 0.19)) ** 2 + (
            (y - rng.uniform(0.38, 0.5)) / rng.uniform(0.25, 0.38)
        ) ** 2
        grey -= rng.uniform(0.3, 0.5) / (1 + np.exp(np.clip((lung - 1) * 8, -30, 30)))
        slope = side * rng.uniform(0.2, 0.5)
        ribs = np.sin((y - slope * np.abs(x - centre) * 2) * rng.uniform(50, 80))
        grey += rng.uniform(0.02, 0.08) * np.clip(ribs, 0, 1) * (lung < 1.4)
    spine = np.exp(-(((x - 0.5 - lean) / rng.uniform(0.04, 0.09)) ** 2))
    grey += rng.uniform(0.1, 0.3) * spine * (0.8 + 0.2 * np.sin(y * rng.uniform(50, 90)))
    grey += 0.08 * (fractal_texture(rng, size) - 0.5)
    return grey


def slice_like(rng: np.random.Generator, size: int) -> Grey:
    """A cross-section in a black field, as of CT or MR, alone or tiled."""
    tiles = int(rng.choice([1, 1, 2, 3, 4]))
    edge = size // tiles
    sheet = np.zeros((size, size), np.float32)
    y, x = np.mgrid[0:edge, 0:edge].astype(np.float32) / edge - 0.5
    for row in range(tiles):
        for column in range(tiles):
            grey = np.zeros((edge, edge), np.float32)
            for _ in range(int(rng.integers(3, 12))):
                a, b = rng.uniform(0.04, 0.4, 2)
                cx, cy = rng.uniform(-0.15, 0.15, 2)
                inside = ((x - cx) / a) ** 2 + ((y - cy) / b) ** 2 < 1
                grey[inside] = rng.uniform(0.1, 1.0)
            part = np.s_[row * edge : (row + 1) * edge, column * edge : (column + 1) * edge]
            sheet[part] = grey + rng.normal(0, 0.04, grey.shape)
    return sheet


def teeth_like(rng: np.random.Generator, size: int) -> Grey:
    """Rows of bright rounded blocks, as in dental films."""
    image = Image.new("L", (size, size), int(rng.integers(10, 90)))
    draw = ImageDraw.Draw(image)
    count = int(rng.integers(3, 14))
    width = size / count
    for row in (0.28, 0.72):
        for tooth in range(count):
            bend = rng.uniform(0.0, 0.12) * np.cos((tooth / count - 0.5) * np.pi)
            top = (row - 0.2 + bend) * size
            left = tooth * width + rng.uniform(0, width * 0.2)
            shape = (left, top, left + width * 0.85, top + size * rng.uniform(0.3, 0.42))
            draw.rounded_rectangle(shape, width * 0.3, fill=int(rng.integers(120, 235)))
    blurred = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(1, 5))))
    texture = 0.2 * (fractal_texture(rng, size) - 0.5)
    return np.asarray(np.asarray(blurred) / 255 + texture, np.float32)


def bars(rng: np.random.Generator, size: int) -> Grey:
    """Test patterns: grids, wedges, checkers."""
    y, x = np.mgrid[0:size, 0:size]
    step = int(rng.integers(4, size // 4))
    kind = rng.integers(3)
    if kind == 0:
        pattern = (x // step + y // step) % 2
    elif kind == 1:
        pattern = (x // step) / (size // step)
    else:
        pattern = (x % step < 2) | (y % step < 2)
    noise = rng.normal(0, rng.uniform(0, 0.05), x.shape)
    return np.asarray(np.asarray(pattern) + noise, np.float32)


def vessels(rng: np.random.Generator, size: int) -> Grey:
    """Dark branching lines on a soft ground, as in angiograms."""
    ground = 0.4 + 0.5 * smooth_noise(rng, size, 4)
    image = Image.fromarray((ground * 255).clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(4, 14))):
        walk = rng.normal(0, size / 18, (int(rng.integers(6, 20)), 2)).cumsum(0) + size / 2
        line = [(float(x), float(y)) for x, y in walk]
        draw.line(line, fill=int(rng.integers(0, 70)), width=int(rng.integers(1, 9)), joint="curve")
    blurred = image.filter(ImageFilter.GaussianBlur(1.5))
    return np.asarray(np.asarray(blurred) / 255 + rng.normal(0, 0.03, ground.shape), np.float32)


MAKERS: Final[tuple[Maker, ...]] = (
    white_noise,
    fractal_texture,
    gradient,
    text_page,
    line_art,
    scene,
    scene,
    chest_like,
    chest_like,
    chest_like,
    slice_like,
    teeth_like,
    bars,
    vessels,
)
