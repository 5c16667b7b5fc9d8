"""Drawn limbs: pictures that behave like radiographs, for demonstration. No DICOM, no files.

Bones are tubes of dense bone around marrow, inside soft tissue; a picture is what is left of the
rays that cross them. They show that the way from modality to report works, and are no evidence of
how well any model reads.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Plane = npt.NDArray[np.float64]

_SOFT_PER_MM = 0.0075
_CORTEX_PER_MM = 0.062
_MARROW_PER_MM = 0.021
_STATIONS = 200  # places along a bone where its width is known


@dataclass(frozen=True, kw_only=True, slots=True)
class Break:
    """A fracture across a bone.

    Attributes
    ----------
    at
        Where along the bone, 0 at its start to 1 at its end.
    shift_mm
        How far the part after the break is displaced sideways (to the right of start → end).
    gap_mm
        Width of the dark line.
    slope
        Millimetres along the bone per millimetre across: 0 transverse, 1 oblique.
    """

    at: float
    shift_mm: float = 2.0
    gap_mm: float = 1.2
    slope: float = 0.4


@dataclass(frozen=True, kw_only=True, slots=True)
class Bone:
    """A tapering tube from `start` to `end`, in millimetres (x to the right, y down).

    Attributes
    ----------
    widths_mm
        Diameter at evenly spaced places from start to end.
    cortex
        Thickness of the dense shell as a share of the radius.
    blunt
        How flat the ends are: 1 is half a ball, 4 nearly a disc.
    """

    start: tuple[float, float]
    end: tuple[float, float]
    widths_mm: tuple[float, ...]
    cortex: float = 0.3
    blunt: float = 1.3
    fracture: Break | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """What lies on the detector.

    Attributes
    ----------
    size_mm
        Width and height of the detector.
    flesh
        Soft tissue, as tubes without a shell.
    marker
        Letter laid beside the limb, lead on the detector.
    """

    size_mm: tuple[float, float]
    bones: tuple[Bone, ...]
    flesh: tuple[Bone, ...]
    marker: str = "L"
    marker_mm: tuple[float, float] = (8.0, 8.0)
    seed: int = 0
    extra: tuple[Bone, ...] = field(default=())


def render(scene: Scene, *, spacing_mm: float = 0.2, bits: int = 12) -> npt.NDArray[np.uint16]:
    """Expose the detector.

    Returns
    -------
    uint16 [rows, columns], 0 to 2**bits - 1, bone bright (MONOCHROME2), with a dark rim where the
    collimator's blades were.
    """
    columns, rows = (round(edge / spacing_mm) for edge in scene.size_mm)
    rng = np.random.default_rng(scene.seed)

    flesh = np.zeros((rows, columns))
    for part in scene.flesh:
        where, outer, _ = _thickness(part, rows, columns, spacing_mm)
        flesh[where] = np.maximum(flesh[where], outer)
    density = _SOFT_PER_MM * _blur(flesh, 2.0 / spacing_mm)
    # The mesh of fine bone inside bones: a factor around 1.
    mesh = _blur(rng.normal(size=(rows, columns)), 0.35 / spacing_mm)
    spongy = 1.0 + 0.25 * mesh / mesh.std()
    for bone in (*scene.bones, *scene.extra):
        where, outer, inner = _thickness(bone, rows, columns, spacing_mm)
        density[where] += _CORTEX_PER_MM * (outer - inner) + _MARROW_PER_MM * inner * spongy[where]
    density = _blur(density, 0.12 / spacing_mm)  # The focal spot is not a point.
    light = np.exp(-density)
    light += rng.normal(0.0, 0.012, light.shape) * np.sqrt(light)
    grey = np.clip(1.0 - light, 0.0, 1.0)
    grey = np.clip((grey - 0.02) / (np.percentile(grey, 99.5) - 0.02), 0.0, 1.0) ** 0.85
    _lay_marker(grey, scene, spacing_mm)
    blade = round(3.0 / spacing_mm)
    inside = np.zeros_like(grey)
    inside[blade:-blade, blade:-blade] = 1.0
    grey *= _blur(inside, 0.6 / spacing_mm)
    top = (1 << bits) - 1
    stored: npt.NDArray[np.uint16] = np.round(grey * top).astype(np.uint16)
    return stored


def _thickness(
    bone: Bone, rows: int, columns: int, spacing_mm: float
) -> tuple[tuple[slice, slice], Plane, Plane]:
    """Return where the bone lies, and how many mm of it, and of its marrow, a ray crosses there."""
    (x0, y0), (x1, y1) = bone.start, bone.end
    length = float(np.hypot(x1 - x0, y1 - y0))
    ux, uy = (x1 - x0) / length, (y1 - y0) / length
    reach = max(bone.widths_mm) / 2.0 + (bone.fracture.shift_mm if bone.fracture else 0.0)
    where = (
        slice(*_pixels(min(y0, y1) - reach, max(y0, y1) + reach, rows, spacing_mm)),
        slice(*_pixels(min(x0, x1) - reach, max(x0, x1) + reach, columns, spacing_mm)),
    )
    y = np.arange(where[0].start, where[0].stop)[:, None] * spacing_mm
    x = np.arange(where[1].start, where[1].stop)[None, :] * spacing_mm
    along = (x - x0) * ux + (y - y0) * uy
    across = (x - x0) * -uy + (y - y0) * ux
    crack = np.ones_like(along)
    if bone.fracture is not None:
        broken = bone.fracture
        # The teeth of the line, the same on both sides, so that the parts would fit together.
        teeth = 0.8 * np.sin(across * 1.9) + 0.5 * np.sin(across * 4.3 + 1.0)
        line = along - broken.at * length - broken.slope * across - teeth
        across = across - np.where(line > 0, broken.shift_mm, 0.0)
        crack = 1.0 - np.exp(-((line / (broken.gap_mm / 2.0)) ** 2))
    radius = np.interp(along, np.linspace(0.0, length, _STATIONS), _radii(bone.widths_mm))
    beyond = np.maximum(np.maximum(-along, along - length), 0.0)
    squared = across**2 + (beyond * bone.blunt) ** 2
    outer = 2.0 * np.sqrt(np.maximum(radius**2 - squared, 0.0))
    inner = 2.0 * np.sqrt(np.maximum(((1.0 - bone.cortex) * radius) ** 2 - squared, 0.0))
    return where, outer * crack, inner * crack


def _pixels(low_mm: float, high_mm: float, edge: int, spacing_mm: float) -> tuple[int, int]:
    """Return the first pixel of a span and the one after its last, on the detector."""
    first = min(edge, max(0, int(low_mm / spacing_mm) - 1))
    return first, max(first, min(edge, int(high_mm / spacing_mm) + 2))


def _radii(widths_mm: tuple[float, ...]) -> Plane:
    """Return the radius at `_STATIONS` places, rounded off where the taper changes."""
    stations = np.linspace(0.0, 1.0, len(widths_mm))
    radii = np.interp(np.linspace(0.0, 1.0, _STATIONS), stations, np.asarray(widths_mm) / 2.0)
    reach = _STATIONS // 16
    padded = np.pad(radii, 2 * reach, mode="edge")
    for _ in range(2):
        padded = np.convolve(padded, np.full(2 * reach + 1, 1 / (2 * reach + 1)), mode="same")
    smooth: Plane = padded[2 * reach : -2 * reach]
    return smooth


def _blur(plane: Plane, sigma: float) -> Plane:
    """Blur with a Gaussian of `sigma` pixels; the picture goes on beyond its edges as a mirror."""
    reach = int(np.ceil(3 * sigma)) + 1
    for axis in (0, 1):
        widths = [(0, 0), (0, 0)]
        widths[axis] = (reach, reach)
        padded = np.pad(plane, widths, mode="reflect")
        length = padded.shape[axis]
        transfer = np.exp(-2.0 * (np.pi * sigma * np.fft.rfftfreq(length)) ** 2)
        if axis == 0:
            transfer = transfer[:, None]
        padded = np.fft.irfft(np.fft.rfft(padded, axis=axis) * transfer, n=length, axis=axis)
        plane = np.take(padded, np.arange(reach, length - reach), axis=axis)
    return plane


def _lay_marker(grey: Plane, scene: Scene, spacing_mm: float) -> None:
    height = round(9.0 / spacing_mm)
    card = Image.new("L", (height, height), 0)
    font = ImageFont.load_default(size=height * 0.9)
    ImageDraw.Draw(card).text((height * 0.15, 0), scene.marker, fill=255, font=font)
    left, top = (round(place / spacing_mm) for place in scene.marker_mm)
    part = grey[top : top + height, left : left + height]
    lead = np.asarray(card, dtype=np.float64)[: part.shape[0], : part.shape[1]] / 255.0
    np.maximum(part, lead, out=part)


def _flesh(bones: Iterable[Bone], factor: float) -> tuple[Bone, ...]:
    """Wrap each bone in soft tissue, `factor` times its mean width."""
    wrapped = []
    for bone in bones:
        mean = sum(bone.widths_mm) / len(bone.widths_mm) * factor
        widths = tuple(mean + 0.4 * (width - mean / factor) for width in bone.widths_mm)
        wrapped.append(replace(bone, widths_mm=widths, cortex=0.0, fracture=None))
    return tuple(wrapped)


def forearm(*, fracture: Break | None = None, seed: int = 1) -> Scene:
    """Return radius and ulna from the elbow (above) to the wrist (below); the radius may be broken."""
    radius = Bone(
        start=(52, 28),
        end=(47, 232),
        widths_mm=(20, 13, 13, 14, 15, 15, 17, 30),
        fracture=fracture,
    )
    ulna = Bone(start=(76, 8), end=(77, 230), widths_mm=(30, 24, 15, 14, 13, 12, 11, 15))
    wrist = tuple(
        Bone(start=(a, b), end=(a + 4, b + 3), widths_mm=(13, 14), cortex=0.16)
        for a, b in ((42, 252), (56, 254), (69, 253), (40, 268), (53, 270), (67, 269))
    )
    humerus = Bone(start=(64, -40), end=(64, 2), widths_mm=(26, 36, 50), cortex=0.14, blunt=3.0)
    arm = Bone(start=(64, -40), end=(62, 300), widths_mm=(92, 96, 92, 80, 68, 66), cortex=0.0)
    return Scene(
        size_mm=(128, 280),
        bones=(radius, ulna),
        extra=(*wrist, humerus),
        flesh=(arm,),
        marker="L",
        marker_mm=(108, 14),
        seed=seed,
    )


def lower_leg(*, fracture: Break | None = None, seed: int = 2) -> Scene:
    """Return tibia and fibula from the knee (above) to the ankle (below); the tibia may be broken."""
    tibia = Bone(
        start=(78, 24),
        end=(76, 330),
        widths_mm=(66, 44, 29, 26, 25, 25, 24, 25, 32, 42),
        cortex=0.3,
        blunt=3.0,
        fracture=fracture,
    )
    fibula = Bone(
        start=(112, 42), end=(103, 346), widths_mm=(20, 12, 11, 11, 11, 12, 12, 13, 19), cortex=0.4
    )
    femur = Bone(start=(78, -60), end=(78, 4), widths_mm=(34, 48, 76), cortex=0.08, blunt=4.0)
    talus = Bone(start=(68, 354), end=(88, 354), widths_mm=(28, 32), cortex=0.1)
    calf = Bone(
        start=(86, -60), end=(84, 400), widths_mm=(124, 126, 128, 122, 108, 90, 78, 78), cortex=0.0
    )
    return Scene(
        size_mm=(172, 372),
        bones=(tibia, fibula),
        extra=(femur, talus),
        flesh=(calf,),
        marker="R",
        marker_mm=(12, 14),
        seed=seed,
    )


def knee(*, seed: int = 3) -> Scene:
    """Return a knee from the front: femur, tibia, fibula and patella."""
    femur = Bone(
        start=(82, -30), end=(82, 92), widths_mm=(32, 34, 38, 52, 76, 80), cortex=0.1, blunt=4.0
    )
    tibia = Bone(
        start=(82, 117), end=(80, 260), widths_mm=(80, 66, 42, 31, 28), cortex=0.14, blunt=6.0
    )
    fibula = Bone(start=(122, 132), end=(114, 260), widths_mm=(22, 15, 12, 12), cortex=0.35)
    patella = Bone(start=(80, 62), end=(84, 72), widths_mm=(34, 36), cortex=0.05)
    thigh = Bone(
        start=(84, -60), end=(84, 290), widths_mm=(140, 136, 132, 128, 128, 124), cortex=0.0
    )
    return Scene(
        size_mm=(172, 220),
        bones=(femur, tibia, fibula),
        extra=(patella,),
        flesh=(thigh,),
        marker="R",
        marker_mm=(12, 14),
        seed=seed,
    )


def hand(*, seed: int = 4) -> Scene:
    """Return a left hand from the back, fingers up: 19 long bones, carpals, the forearm's ends."""
    bones: list[Bone] = []
    right, down = 24.0, 18.0
    # For each finger: base of the metacarpal, direction, lengths of its bones, width of its shaft.
    fingers = (
        ((58.0, 172.0), (-0.72, -0.70), (44.0, 30.0, 22.0), 11.0),
        ((72.0, 158.0), (-0.20, -0.98), (64.0, 40.0, 24.0, 17.0), 10.0),
        ((85.0, 155.0), (-0.02, -1.00), (62.0, 44.0, 28.0, 18.0), 10.0),
        ((97.0, 157.0), (0.14, -0.99), (56.0, 41.0, 26.0, 18.0), 9.0),
        ((108.0, 161.0), (0.32, -0.95), (51.0, 33.0, 19.0, 16.0), 8.5),
    )
    for base, (dx, dy), lengths, width in fingers:
        done = 0.0
        for place, length in enumerate(lengths):
            shrink = 1.0 - 0.12 * place
            begin, finish = done, done + length - 3.0
            bones.append(
                Bone(
                    start=(base[0] + right + dx * begin, base[1] + down + dy * begin),
                    end=(base[0] + right + dx * finish, base[1] + down + dy * finish),
                    widths_mm=tuple(share * width * shrink for share in (1.45, 0.85, 1.35)),
                    cortex=0.32,
                )
            )
            done += length + 2.5
    carpals = tuple(
        Bone(
            start=(a + right, b + down),
            end=(a + right + 5, b + down + 3),
            widths_mm=(14, 15),
            cortex=0.15,
        )
        for a, b in ((66, 170), (79, 168), (91, 169), (102, 172), (70, 183), (83, 184), (96, 185))
    )
    radius = Bone(start=(98, 219), end=(102, 298), widths_mm=(32, 20, 16), cortex=0.22)
    ulna = Bone(start=(128, 221), end=(126, 298), widths_mm=(17, 13, 13), cortex=0.3)
    palm = Bone(start=(108, 130), end=(110, 194), widths_mm=(74, 82, 64), cortex=0.0)
    arm = Bone(start=(112, 208), end=(113, 318), widths_mm=(58, 62, 68), cortex=0.0)
    return Scene(
        size_mm=(210, 250),
        bones=tuple(bones),
        extra=(*carpals, radius, ulna),
        flesh=(*_flesh(bones, 2.1), palm, arm),
        marker="L",
        marker_mm=(16, 220),
        seed=seed,
    )
