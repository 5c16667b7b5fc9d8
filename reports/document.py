"""What all our objects share: device, options, identity, equipment, evidence. No content tree."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo

from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
)

from reports import codes, uids
from reports.content import HAS_OBS_CONTEXT, coded, text, uid_reference
from reports.dataset import (
    code_item,
    new_dataset,
    plain,
    put,
    put_identity,
    reference,
    source_items,
)
from reports.source import SourceStudy
from studies.model import ImageReading, ModelRef, ProducedObject, Reading

MANUFACTURER = "Osteon"
MODEL_NAME = "Osteon"
MEASUREMENT_REPORT_CLASSES = (Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage)
"""What can hold TID 1500, the one to try first at the head."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """The installation that reports.

    Attributes
    ----------
    uid
        Persistent, one per installation; see `reports.uids.deployment_uid`.
    name
        Station name, at most 16 characters; the AE title does well.
    serial_number, software_version
        At most 64 characters each, not empty.
    """

    uid: str
    name: str
    serial_number: str
    software_version: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """How a destination wants its SR documents.

    Attributes
    ----------
    sop_class
        Comprehensive 3D SR, or an older class for a peer that rejects it.
    strict_codes
        Connectathon mode: only codes that the validators' context groups of 2022 know, and IHE
        AIR's placeholder as the purpose of an algorithm.
    series_number, series_description
        The same in every study, so that the rules of a PACS can recognise the series.
    local_zone
        For content times where the images state no time zone.

    Raises
    ------
    ValueError
        If the SOP class cannot hold measurements with coordinates.
    """

    sop_class: UID = Comprehensive3DSRStorage
    strict_codes: bool = False
    series_number: int = 9101
    series_description: str = "Osteon AI fracture report"
    local_zone: tzinfo = UTC

    def __post_init__(self) -> None:
        if self.sop_class not in MEASUREMENT_REPORT_CLASSES:
            raise ValueError(f"{self.sop_class} ({self.sop_class.name}) cannot hold TID 1500")

    @property
    def variant(self) -> str:
        """What makes two documents of the same reading different; goes into their UIDs."""
        return f"{self.sop_class} {'strict' if self.strict_codes else 'real'}"


def content_time(reading: Reading, source: SourceStudy, local_zone: tzinfo = UTC) -> datetime:
    """Return when a reading was made, in the zone in which the study's times are meant.

    TimezoneOffsetFromUTC (0008,0201) holds for every time of an object, so if the source's is
    copied ours are converted to it.
    """
    offset = source.TimezoneOffsetFromUTC
    if offset is None:
        return reading.created_at.astimezone(local_zone)
    sign = -1 if offset[0] == "-" else 1
    shift = sign * timedelta(hours=int(offset[1:3]), minutes=int(offset[3:5]))
    return reading.created_at.astimezone(timezone(shift))


def put_series(
    dataset: Dataset, *, Modality: str, uid: str, number: int, description: str, place: int = 1
) -> None:
    """Put the elements of a series that we open.

    Parameters
    ----------
    place
        InstanceNumber within it, from 1.
    """
    put(dataset, "Modality", Modality)
    put(dataset, "SeriesInstanceUID", uid)
    put(dataset, "SeriesNumber", number)
    put(dataset, "SeriesDescription", plain(description))
    put(dataset, "InstanceNumber", place)


def put_equipment(
    dataset: Dataset, reading: Reading, source: SourceStudy, device: Device, *, strict: bool
) -> None:
    """Put who made this (C.7.5.1, C.7.5.2) and who contributed (C.12.1): devices and models."""
    put(dataset, "Manufacturer", MANUFACTURER)
    put(dataset, "ManufacturerModelName", MODEL_NAME)
    put(dataset, "StationName", plain(device.name)[:16])
    put(dataset, "DeviceSerialNumber", plain(device.serial_number)[:64])
    put(dataset, "DeviceUID", device.uid)
    versions = [device.software_version, *(f"{m.name} {m.version}" for m in reading.models)]
    put(dataset, "SoftwareVersions", [plain(version)[:64] for version in versions])

    contributors = source_items(source.equipment)
    for item in contributors:
        put(item, "PurposeOfReferenceCodeSequence", [code_item(codes.ACQUISITION_EQUIPMENT)])
    purpose = codes.PROCESSING_ALGORITHM if strict else codes.PROCESSING_EQUIPMENT
    contributors += [_model_item(model, device, purpose) for model in reading.models]
    if contributors:
        put(dataset, "ContributingEquipmentSequence", contributors)


def _model_item(model: ModelRef, device: Device, purpose: codes.Code) -> Dataset:
    return new_dataset(
        PurposeOfReferenceCodeSequence=[code_item(purpose)],
        Manufacturer=MANUFACTURER,
        ManufacturerModelName=plain(model.name)[:64],
        SoftwareVersions=plain(model.version)[:64],
        DeviceUID=uids.model_device_uid(device.uid, model),
        ContributionDescription=f"{plain(model.kind)} model, SHA-256 {model.sha256}",
    )


def sr_document(
    root: Dataset,
    reading: Reading,
    source: SourceStudy,
    device: Device,
    options: Options,
    *,
    kind: str,
    predecessor: ProducedObject | None,
) -> Dataset:
    """Return a complete SR document around its root container.

    Parameters
    ----------
    kind
        As in `reports.uids.instance_uid`.
    predecessor
        The document of the same study that this one replaces.
    """
    document = root
    put_identity(document, source)
    put(document, "SOPClassUID", options.sop_class)
    uid = uids.instance_uid(reading, kind, device.uid, options.variant)
    put(document, "SOPInstanceUID", uid)
    put_series(
        document,
        Modality="SR",
        uid=uids.series_uid(reading, kind, device.uid, options.variant),
        number=options.series_number,
        description=options.series_description,
    )
    put(document, "ReferencedPerformedProcedureStepSequence", [])
    put_equipment(document, reading, source, device, strict=options.strict_codes)

    made_at = content_time(reading, source, options.local_zone)
    put(document, "ContentDate", made_at.strftime("%Y%m%d"))
    put(document, "ContentTime", made_at.strftime("%H%M%S"))
    put(document, "CompletionFlag", "COMPLETE")
    put(document, "VerificationFlag", "UNVERIFIED")
    put(document, "PreliminaryFlag", "PRELIMINARY")
    put(document, "PerformedProcedureCodeSequence", [])
    if source.requests:
        put(document, "ReferencedRequestSequence", source_items(source.requests))
    if reading.images:
        evidence = hierarchical_references(reading.StudyInstanceUID, reading.images)
        put(document, "CurrentRequestedProcedureEvidenceSequence", evidence)
    if predecessor is not None:
        earlier = study_references(
            reading.StudyInstanceUID,
            [
                (
                    predecessor.SeriesInstanceUID,
                    predecessor.SOPClassUID,
                    predecessor.SOPInstanceUID,
                )
            ],
        )
        put(document, "PredecessorDocumentsSequence", earlier)
    return document


def hierarchical_references(StudyInstanceUID: str, images: Iterable[ImageReading]) -> list[Dataset]:
    """Return references to images, by study and series (PS3.3 table C.17-3)."""
    return study_references(
        StudyInstanceUID,
        [(image.SeriesInstanceUID, image.SOPClassUID, image.SOPInstanceUID) for image in images],
    )


def study_references(
    StudyInstanceUID: str, instances: Iterable[tuple[str, str, str]]
) -> list[Dataset]:
    """Return references to (SeriesInstanceUID, SOPClassUID, SOPInstanceUID), in their order."""
    by_series: dict[str, list[Dataset]] = {}
    for series, SOPClassUID, SOPInstanceUID in instances:
        by_series.setdefault(series, []).append(reference(SOPClassUID, SOPInstanceUID))
    series_items = [
        new_dataset(ReferencedSOPSequence=references, SeriesInstanceUID=series)
        for series, references in by_series.items()
    ]
    if not series_items:
        return []
    return [new_dataset(ReferencedSeriesSequence=series_items, StudyInstanceUID=StudyInstanceUID)]


def device_observer(device: Device) -> list[Dataset]:
    """Return who observed: TID 1002, device (TID 1004)."""
    return [
        coded(HAS_OBS_CONTEXT, codes.OBSERVER_TYPE, codes.DEVICE),
        uid_reference(HAS_OBS_CONTEXT, codes.DEVICE_OBSERVER_UID, device.uid),
        text(HAS_OBS_CONTEXT, codes.DEVICE_OBSERVER_NAME, device.name),
        text(HAS_OBS_CONTEXT, codes.DEVICE_OBSERVER_MANUFACTURER, MANUFACTURER),
        text(HAS_OBS_CONTEXT, codes.DEVICE_OBSERVER_MODEL_NAME, MODEL_NAME),
        text(HAS_OBS_CONTEXT, codes.DEVICE_OBSERVER_SERIAL_NUMBER, device.serial_number),
    ]
