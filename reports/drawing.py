"""Pictures for people: an image with its boxes, and one page per study. No DICOM."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from studies.model import Band, Box

Picture = npt.NDArray[np.float32]
"""[rows, columns], 0 black to 1 white, as `worker.pixels` gives it."""

Canvas = npt.NDArray[np.uint8]
"""[rows, columns, 3], RGB."""

# Told apart by a colour-blind reader as well; doubtful boxes are dashed besides.
COLOURS = {
    Band.POSITIVE: (255, 96, 48),
    Band.DOUBTFUL: (255, 208, 0),
    Band.NEGATIVE: (120, 200, 255),
}
_PAPER = (16, 16, 16)
_INK = (240, 240, 240)
_QUIET = (170, 170, 170)
_MARGIN = 12
_PAGE_WIDTH = 1200


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """A box to draw.

    Attributes
    ----------
    box
        In pixels of the picture, (0, 0) the outer corner of its top-left pixel.
    text
        Written beside it; ASCII.
    """

    box: Box
    text: str
    band: Band


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A line of text; long ones are wrapped."""

    text: str
    band: Band | None = None
    quiet: bool = False
    large: bool = False


def annotated(
    picture: Picture,
    marks: Iterable[Mark],
    lines: Iterable[Line],
    *,
    aspect_ratio: tuple[int, int] = (1, 1),
    shortest_side: int = 512,
    longest_side: int = 1600,
    heat_map: Picture | None = None,
) -> Canvas:
    """Return a picture with boxes on it and text beneath it, so that no text hides anatomy.

    Parameters
    ----------
    aspect_ratio
        Height and width of a pixel; the result has square ones.
    shortest_side, longest_side
        The drawn picture's longer side lies between these, in pixels; what lies there already is
        not resampled.
    heat_map
        [h, w], 0 to 1, over the whole picture: drawn in a second panel to the right.
    """
    panel = _panel(picture, aspect_ratio, shortest_side, longest_side)
    panels = [panel.copy()]
    scale_x, scale_y = panel.width / picture.shape[1], panel.height / picture.shape[0]
    _draw_marks(panels[0], marks, scale_x, scale_y)
    if heat_map is not None:
        panels.append(_heated(panel, heat_map))

    width = max(shortest_side, sum(part.width for part in panels))
    rows = _wrapped(lines, width - 2 * _MARGIN)
    canvas = Image.new("RGB", (width, panel.height + _height(rows)), _PAPER)
    left = 0
    for part in panels:
        canvas.paste(part, (left, 0))
        left += part.width
    _write(canvas, rows, panel.height)
    return np.asarray(canvas)


def page(
    lines: Iterable[Line],
    thumbnails: Sequence[tuple[Picture, tuple[int, int], Sequence[Mark], str]],
    footer: Iterable[Line],
) -> Canvas:
    """Return one page: text, then small pictures with their boxes and captions, then a footer.

    Parameters
    ----------
    thumbnails
        Picture, height and width of its pixels, boxes in its pixels, caption.
    """
    inner = _PAGE_WIDTH - 2 * _MARGIN
    head, foot = _wrapped(lines, inner), _wrapped(footer, inner)
    cells = [_thumbnail(*thumbnail) for thumbnail in thumbnails]
    strips = [cells[start : start + _PER_ROW] for start in range(0, len(cells), _PER_ROW)]
    heights = [max(cell.height for cell in strip) + _MARGIN for strip in strips]
    height = _height(head) + sum(heights) + _height(foot)
    canvas = Image.new("RGB", (_PAGE_WIDTH, height), _PAPER)
    _write(canvas, head, 0)
    top = _height(head)
    for strip, strip_height in zip(strips, heights, strict=True):
        for place, cell in enumerate(strip):
            canvas.paste(cell, (_MARGIN + place * (_CELL_WIDTH + _MARGIN), top))
        top += strip_height
    _write(canvas, foot, top)
    return np.asarray(canvas)


_PER_ROW = 3
_CELL_WIDTH = (_PAGE_WIDTH - (_PER_ROW + 1) * _MARGIN) // _PER_ROW


def _thumbnail(
    picture: Picture, aspect_ratio: tuple[int, int], marks: Sequence[Mark], caption: str
) -> Image.Image:
    panel = _panel(picture, aspect_ratio, _CELL_WIDTH, _CELL_WIDTH)
    unnamed = [Mark(box=mark.box, text="", band=mark.band) for mark in marks]
    _draw_marks(panel, unnamed, panel.width / picture.shape[1], panel.height / picture.shape[0])
    rows = _wrapped([Line(text=caption, quiet=True)], _CELL_WIDTH)
    cell = Image.new("RGB", (_CELL_WIDTH, panel.height + _height(rows)), _PAPER)
    cell.paste(panel, ((_CELL_WIDTH - panel.width) // 2, 0))
    _write(cell, rows, panel.height, left=0)
    return cell


def _panel(
    picture: Picture, aspect_ratio: tuple[int, int], shortest: int, longest: int
) -> Image.Image:
    """The picture in RGB with square pixels, its longer side from `shortest` to `longest`."""
    rows, columns = picture.shape
    tall, wide = aspect_ratio
    height, width = rows * max(1.0, tall / wide), columns * max(1.0, wide / tall)
    longer = max(height, width)
    scale = min(max(longer, shortest), longest) / longer
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    grey = np.clip(np.rint(picture * 255), 0, 255).astype(np.uint8)
    image = Image.fromarray(grey)
    if size != image.size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    return image.convert("RGB")


def _draw_marks(panel: Image.Image, marks: Iterable[Mark], scale_x: float, scale_y: float) -> None:
    draw = ImageDraw.Draw(panel)
    thickness = max(2, round(max(panel.size) / 400))
    for mark in marks:
        left, right = mark.box.left * scale_x, mark.box.right * scale_x
        top, bottom = mark.box.top * scale_y, mark.box.bottom * scale_y
        colour = COLOURS[mark.band]
        corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
        for start, end in itertools.pairwise(corners):
            for part_start, part_end in _dashes(start, end, dashed=mark.band is Band.DOUBTFUL):
                draw.line([part_start, part_end], fill=colour, width=thickness)
        if mark.text:
            font = _font(18)
            above = top - font.size - 2 * thickness
            # Above the box, or below where there is no room, and never over the right edge.
            column = max(0.0, min(left, panel.width - font.getlength(mark.text) - 2))
            place = (column, above if above >= 0 else bottom + 2 * thickness)
            draw.text(place, mark.text, fill=colour, font=font, stroke_width=2, stroke_fill=_PAPER)


Point = tuple[float, float]


def _dashes(start: Point, end: Point, *, dashed: bool) -> list[tuple[Point, Point]]:
    if not dashed:
        return [(start, end)]
    (x, y), (to_x, to_y) = start, end
    length = max(abs(to_x - x), abs(to_y - y))
    count = max(1, round(length / 20)) * 2 - 1
    points = [
        (x + (to_x - x) * step / count, y + (to_y - y) * step / count) for step in range(count + 1)
    ]
    return [(points[step], points[step + 1]) for step in range(0, count, 2)]


def _heated(panel: Image.Image, heat_map: Picture) -> Image.Image:
    """The panel with the heat map over it, red where it is highest and clear where it is 0."""
    heat = Image.fromarray(np.clip(heat_map, 0, 1).astype(np.float32))
    opacity = np.asarray(heat.resize(panel.size, Image.Resampling.BILINEAR))[..., None] * 0.6
    colour = np.array(COLOURS[Band.POSITIVE], dtype=np.float32)
    blended = np.asarray(panel, dtype=np.float32) * (1 - opacity) + colour * opacity
    return Image.fromarray(np.clip(np.rint(blended), 0, 255).astype(np.uint8))


# --- Text --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Row:
    text: str
    colour: tuple[int, int, int]
    size: int


def _wrapped(lines: Iterable[Line], width: float) -> list[_Row]:
    rows = []
    for line in lines:
        colour = _QUIET if line.quiet else _INK
        if line.band is not None:
            colour = COLOURS[line.band]
        size = 30 if line.large else 18
        font = _font(size)
        words, current = line.text.split(" "), ""
        for word in words:
            longer = f"{current} {word}" if current else word
            if current and font.getlength(longer) > width:
                rows.append(_Row(current, colour, size))
                longer = word
            current = longer
        rows.append(_Row(current, colour, size))
    return rows


def _height(rows: Sequence[_Row]) -> int:
    return sum(_row_height(row) for row in rows) + 2 * _MARGIN if rows else 0


def _row_height(row: _Row) -> int:
    return round(row.size * 1.35)


def _write(canvas: Image.Image, rows: Sequence[_Row], top: int, left: int = _MARGIN) -> None:
    draw = ImageDraw.Draw(canvas)
    y = top + _MARGIN
    for row in rows:
        draw.text((left, y), row.text, fill=row.colour, font=_font(row.size))
        y += _row_height(row)


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    # Comes inside Pillow: the same letters on every machine.
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise TypeError("Pillow was built without FreeType, which draws the letters")
    return font
