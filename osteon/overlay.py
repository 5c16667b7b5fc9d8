"""A radiograph with what was found drawn on it, as a PNG for people. No reading, no DICOM."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from math import ceil, floor
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from studies.model import Band, Box, ImageReading
from worklist import words

Colour = tuple[int, int, int]

# Told apart by the line as well as by the colour: positive is solid, doubtful is dashed.
_COLOURS: Final[dict[Band, Colour]] = {
    Band.POSITIVE: (255, 138, 101),
    Band.DOUBTFUL: (255, 213, 79),
    Band.NEGATIVE: (165, 214, 167),
}
_PLAIN: Final[Colour] = (224, 224, 224)
_STRIP: Final[Colour] = (18, 18, 18)
_SMALLEST_FONT: Final = 12


def draw_overlay(pixels: npt.NDArray[np.float32], reading: ImageReading) -> Image.Image:
    """Draw boxes on the image and what was said below it.

    Parameters
    ----------
    pixels
        [rows, columns] of the stored image, 0 black to 1 white, bone bright.
    reading
        Of the same image; its boxes are in the same pixels.

    Returns
    -------
    Image
        RGB. The image's pixels stay where they are, (0, 0) at the top left; a strip with the
        words is added below them.
    """
    grey = np.round(np.clip(pixels, 0.0, 1.0) * 255.0).astype(np.uint8)
    picture = Image.fromarray(grey).convert("RGB")
    font = ImageFont.load_default(size=max(_SMALLEST_FONT, min(picture.size) // 36))
    pen = ImageDraw.Draw(picture)
    width = max(2, min(picture.size) // 250)
    for seen in reading.readings:
        for finding in seen.findings:
            if finding.box is not None:
                box = finding.box.clipped(picture.width, picture.height)
                _frame(pen, box, _COLOURS[seen.band], width, dashed=seen.band is Band.DOUBTFUL)
                _label(pen, box, words.percent(finding.probability), _COLOURS[seen.band], font)
    return _with_strip(picture, lines_of(reading), font)


def lines_of(reading: ImageReading) -> list[tuple[str, Colour]]:
    """What the strip says: a line per region, or why there is none; and who has not looked."""
    lines: list[tuple[str, Colour]] = []
    for seen in sorted(reading.readings, key=lambda r: (-r.band.urgency, -r.probability)):
        doubt = " (experimental model)" if seen.experimental else ""
        text = (
            f"{words.REGIONS[seen.region].capitalize()}: {words.BANDS[seen.band]}, fracture "
            f"probability {words.percent(seen.probability)}{doubt}"
        )
        lines.append((text, _COLOURS[seen.band]))
    if not lines:
        reason = reading.not_analysed or words.NO_REGION
        lines.append((f"Not analysed, because {reason}", _PLAIN))
    lines.append((f"Osteon. {words.UNVERIFIED}.", _PLAIN))
    return lines


def as_png(picture: Image.Image) -> bytes:
    """The picture as the bytes of a PNG file."""
    stream = BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


def _frame(pen: ImageDraw.ImageDraw, box: Box, colour: Colour, width: int, *, dashed: bool) -> None:
    """Draw around a box, on none of its pixels: never over the finding."""
    left, top = floor(box.left) - width, floor(box.top) - width
    right, bottom = ceil(box.right) + width, ceil(box.bottom) + width
    across, down = right - left, bottom - top
    for first, last in _dashes(across, 5 * width) if dashed else [(0, across)]:
        for y in (top, bottom - width):
            pen.rectangle((left + first, y, left + last - 1, y + width - 1), fill=colour)
    for first, last in _dashes(down, 5 * width) if dashed else [(0, down)]:
        for x in (left, right - width):
            pen.rectangle((x, top + first, x + width - 1, top + last - 1), fill=colour)


def _dashes(length: int, dash: int) -> list[tuple[int, int]]:
    """Where a side is drawn, as half-open spans in pixels; it begins and ends with a dash."""
    count = 2 * max(1, round(length / dash / 2)) + 1
    edges = [round(length * number / count) for number in range(count + 1)]
    return [(edges[n], edges[n + 1]) for n in range(0, count, 2) if edges[n] < edges[n + 1]]


def _label(
    pen: ImageDraw.ImageDraw,
    box: Box,
    text: str,
    colour: Colour,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    pad = max(2, round((bottom - top) / 4))
    height = round(bottom - top) + 2 * pad
    # Above the box, or below it where the image ends.
    y = box.top - height - pad if box.top >= height + pad else box.bottom + pad
    x = max(0.0, box.left - pad)
    pen.rectangle((x, y, x + right - left + 2 * pad, y + height), fill=_STRIP)
    pen.text((x + pad - left, y + pad - top), text, fill=colour, font=font)


def _with_strip(
    picture: Image.Image,
    lines: Sequence[tuple[str, Colour]],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> Image.Image:
    """Add the lines below the picture; a line that is too long goes on in the next one."""
    pen = ImageDraw.Draw(picture)
    pad = max(4, round(pen.textbbox((0, 0), "Ag", font=font)[3] / 2))
    room = picture.width - 2 * pad
    broken = [(part, colour) for text, colour in lines for part in _broken(pen, text, font, room)]
    step = round(pen.textbbox((0, 0), "Ag", font=font)[3] * 1.3)
    whole = Image.new("RGB", (picture.width, picture.height + 2 * pad + step * len(broken)), _STRIP)
    whole.paste(picture, (0, 0))
    pen = ImageDraw.Draw(whole)
    for number, (text, colour) in enumerate(broken):
        place = (pad, picture.height + pad + step * number)
        pen.text(place, text, fill=colour, font=font)
    return whole


def _broken(
    pen: ImageDraw.ImageDraw,
    text: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    room: int,
) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and pen.textlength(longer, font=font) > room:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
