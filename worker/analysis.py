"""One image, from its file to what the models say of it. Knows no database and no queue."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from pydicom.dataset import Dataset

from reports.source import stated_laterality
from reports.uids import derived_uid
from studies.errors import NotAnalysable, UnreadablePixels
from studies.model import ImageReading, ModelRef, Region, RegionReading
from studies.settings import Settings
from worker.body_part import Stated, stated_regions
from worker.elements import integer, uid, word
from worker.eligibility import why_not_analysed
from worker.findings import Place, Routing, box_rules, region_reading, routing
from worker.heat_maps import HeatMap, encode_heat_maps
from worker.inference import ImageInput
from worker.models import Models, load_models
from worker.pixels import DisplayedImage, display, is_picture, open_dicom, read_picture
from worker.preprocess import SCHEME

# From this probability on, a region that the file names is read though the router would not have
# it in view; below it the picture contradicts the file. Free text may be about a neighbouring image.
CODED_BELIEVED: Final = 0.02
TEXT_BELIEVED: Final = 0.1

# What decides an answer. A card's words and measured figures may change without a new reading.
_DECISIVE: Final = {
    *("name", "version", "kind", "sha256", "regions", "experimental"),
    *("input", "labels", "calibration", "boxes", "types"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Analysis:
    """What the models say of an image, and their heat maps.

    Attributes
    ----------
    image
        Without `heat_map`: where the maps are kept is the caller's business.
    heat_maps
        `worker.heat_maps` archive; None if no region was read.
    """

    image: ImageReading
    heat_maps: bytes | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Subject:
    """An image's names, as far as its file tells them."""

    SOPInstanceUID: str
    SOPClassUID: str
    SeriesInstanceUID: str
    rows: int
    columns: int
    stated: Stated
    dataset: Dataset | None


class Analyst:
    """Reads images with the node's models, which are opened once.

    Parameters
    ----------
    models
        Open.
    settings
        For the devices that lie about polarity, and the configuration's digest.
    """

    def __init__(self, models: Models, settings: Settings) -> None:
        self._models = models
        self._inverted_devices = frozenset(name.upper() for name in settings.inverted_devices)
        self.configuration = _configuration(models, settings)

    @classmethod
    def open(cls, settings: Settings, *, threads: int = 1) -> Self:
        """Open the models of a node.

        Raises
        ------
        ConfigurationError
            As `worker.models.load_models`.
        """
        return cls(load_models(settings, threads=threads), settings)

    @property
    def models(self) -> tuple[ModelRef, ...]:
        """What a reading names as its models."""
        return self._models.refs

    @property
    def provider(self) -> str:
        """The execution provider that is really used."""
        return self._models.provider

    def read_file(self, path: Path) -> ImageReading:
        """Read a DICOM file, a PNG or a JPEG; errors as `analyse`."""
        return self.analyse(path).image

    def analyse(self, path: Path) -> Analysis:
        """Read a DICOM file, a PNG or a JPEG.

        An image that no model may read, or whose pixels cannot be decoded, is an answer:
        `ImageReading.not_analysed` says why.

        Raises
        ------
        UnreadablePixels
            If the file is neither, or is damaged.
        """
        started = time.perf_counter()
        subject, image, reason = (
            _open_picture(path) if _is_picture(path) else self._open_dicom(path)
        )
        if image is None:
            return Analysis(image=_refused(subject, reason or "", started))
        try:
            return self._analyse(subject, image, started)
        except NotAnalysable as error:
            return Analysis(image=_refused(subject, str(error), started))

    def _open_dicom(self, path: Path) -> tuple[_Subject, DisplayedImage | None, str | None]:
        dataset = open_dicom(path)
        subject = _Subject(
            SOPInstanceUID=str(uid(dataset, "SOPInstanceUID")),
            SOPClassUID=str(uid(dataset, "SOPClassUID")),
            SeriesInstanceUID=str(uid(dataset, "SeriesInstanceUID")),
            rows=integer(dataset, "Rows") or 0,
            columns=integer(dataset, "Columns") or 0,
            stated=stated_regions(dataset),
            dataset=dataset,
        )
        reason = why_not_analysed(dataset)
        if reason is None and subject.stated.other is not None and subject.stated.is_coded:
            reason = f"{subject.stated.other}, which is not a limb"
        if reason is not None:
            return subject, None, reason
        try:
            return subject, display(dataset, invert=self._inversion(dataset)), None
        except UnreadablePixels as error:
            return subject, None, f"the pixels cannot be read: {error}"
        except NotAnalysable as error:
            return subject, None, str(error)

    def _inversion(self, dataset: Dataset) -> bool | None:
        """The site's word on a device's polarity; None believes the file."""
        device = f"{word(dataset, 'Manufacturer')}/{word(dataset, 'ManufacturerModelName')}"
        if device not in self._inverted_devices:
            return None
        return word(dataset, "PhotometricInterpretation") != "MONOCHROME1"

    def _analyse(self, subject: _Subject, image: DisplayedImage, started: float) -> Analysis:
        given = ImageInput(self._models, image)
        router = self._models.router
        outputs, _ = given.run(router)
        route = routing(router.card, outputs)
        regions, notes = _regions_to_read(route, subject.stated)
        readable = self._by_model(regions)
        reason = self._why_nothing_is_read(route, subject.stated, regions, readable)
        readings: list[RegionReading] = []
        maps: list[HeatMap] = []
        for region in readable if reason is None else ():
            bone = self._models.bones[region]
            outputs, letterbox = given.run(bone)
            place = Place(
                SOPInstanceUID=subject.SOPInstanceUID,
                rows=image.rows,
                columns=image.columns,
                letterbox=letterbox,
                configuration=self.configuration,
            )
            reading = region_reading(bone.card, region, outputs, place)
            readings.append(reading)
            heat = outputs["heatmap"][0, 0]
            maps.append(HeatMap.over(heat, region, bone.card.input.size, letterbox))
            if reading.findings and box_rules(bone.card, outputs) is None:
                notes = (*notes, f"the box of the {region} is the heat map's highest part")
        if reason is None:
            notes = (*notes, *self._about_unread(regions, readable))
        dataset = subject.dataset
        return Analysis(
            image=ImageReading(
                SOPInstanceUID=subject.SOPInstanceUID,
                SOPClassUID=subject.SOPClassUID,
                SeriesInstanceUID=subject.SeriesInstanceUID,
                rows=subject.rows,
                columns=subject.columns,
                laterality=stated_laterality(dataset) if dataset is not None else None,
                regions=route.scores,
                readings=tuple(readings),
                not_analysed=reason,
                notes=image.notes + notes,
                milliseconds=_milliseconds(started),
            ),
            heat_maps=encode_heat_maps(maps) if maps else None,
        )

    def _by_model(self, regions: tuple[Region, ...]) -> list[Region]:
        """The regions that are read, one for each model: it judges an image once, not a region."""
        chosen: dict[str, Region] = {}
        for region in regions:
            if region in self._models.bones:
                chosen.setdefault(self._models.bones[region].card.name, region)
        return list(chosen.values())

    def _why_nothing_is_read(
        self, route: Routing, stated: Stated, regions: tuple[Region, ...], readable: list[Region]
    ) -> str | None:
        if not route.is_limb:
            return f"it does not look like a radiograph of a limb ({route.limb:.2f})"
        if stated.other is not None and not route.beyond_doubt:
            return f"{stated.other}, and the picture does not show a limb beyond doubt"
        if not regions:
            best = route.scores[0]
            return (
                f"no limb region is recognised (likeliest: {best.region}, {best.probability:.2f})"
            )
        if not readable:
            return "; ".join(self._about_unread(regions, readable))
        return None

    def _about_unread(self, regions: tuple[Region, ...], readable: list[Region]) -> list[str]:
        """What is in view and not read, each with the reason."""
        sentences = []
        for region in regions:
            if region in readable:
                continue
            if region in self._models.bones:
                name = self._models.bones[region].card.name
                sentences.append(f"region {region}: {name} has judged the image as a whole")
            elif region in self._models.inactive:
                sentences.append(f"region {region}: its model is experimental and switched off")
            else:
                sentences.append(f"region {region}: no active model")
        return sentences


def _regions_to_read(route: Routing, stated: Stated) -> tuple[tuple[Region, ...], tuple[str, ...]]:
    """The router's regions, and those that the file names unless the picture contradicts."""
    scores = {score.region: score.probability for score in route.scores}
    believed_from = CODED_BELIEVED if stated.is_coded else TEXT_BELIEVED
    regions = list(route.in_view)
    notes = []
    for region in sorted(stated.regions - set(regions)):
        probability = scores.get(region, 0.0)
        is_read = probability >= believed_from
        if is_read:
            regions.append(region)
        notes.append(
            f"the file names the {region}, the router gives it {probability:.2f}"
            + ("" if is_read else " and it is not read")
        )
    if stated.other is not None:
        notes.append(f"{stated.other}, the picture shows a limb beyond doubt")
    return tuple(regions), tuple(notes)


def _is_picture(path: Path) -> bool:
    try:
        return is_picture(path)
    except OSError as error:
        raise UnreadablePixels(f"{path.name} cannot be opened: {error.strerror}") from error


def _open_picture(path: Path) -> tuple[_Subject, DisplayedImage | None, str | None]:
    image: DisplayedImage | None
    try:
        image, reason = read_picture(path), None
    except NotAnalysable as error:
        image, reason = None, str(error)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    subject = _Subject(
        SOPInstanceUID=str(derived_uid("picture", digest)),
        SOPClassUID="",
        SeriesInstanceUID=str(derived_uid("picture series", digest)),
        rows=image.rows if image else 0,
        columns=image.columns if image else 0,
        stated=Stated(),
        dataset=None,
    )
    return subject, image, reason


def _refused(subject: _Subject, reason: str, started: float) -> ImageReading:
    return ImageReading(
        SOPInstanceUID=subject.SOPInstanceUID,
        SOPClassUID=subject.SOPClassUID,
        SeriesInstanceUID=subject.SeriesInstanceUID,
        rows=subject.rows,
        columns=subject.columns,
        not_analysed=reason,
        milliseconds=_milliseconds(started),
    )


def _milliseconds(started: float) -> float:
    return (time.perf_counter() - started) * 1000.0


def _configuration(models: Models, settings: Settings) -> str:
    """SHA-256 of everything that decides an outcome: models with their cards, and settings."""
    decides = {
        "models": [m.card.model_dump(mode="json", include=_DECISIVE) for m in models.all],
        "preprocessing": SCHEME,
        "inverted_devices": sorted(settings.inverted_devices),
        "regions": {region: model.card.name for region, model in sorted(models.bones.items())},
        "words": [CODED_BELIEVED, TEXT_BELIEVED],
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
