"""What all our objects share: device, options, identity, equipment, evidence. No content tree."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo

from pydicom.dataset import Dataset

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
class SeriesOptions:
    """How a destination wants the series of one kind of object.

    Attributes
    ----------
    series_number, series_description
        The same in every study, so that the rules of a PACS can recognise the series.
    local_zone
        For content times where the images state no time zone.
    """

    series_number: int
    series_description: str
    local_zone: tzinfo = UTC

    @property
    def variant(self) -> str:
        """What makes two objects of the same reading different; goes into their UIDs."""
        return ""


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


def check_same_study(reading: Reading, source: SourceStudy) -> None:
    """Raise ValueError if a reading would go out under another study's patient."""
    if reading.StudyInstanceUID != source.StudyInstanceUID:
        raise ValueError(
            f"reading of {reading.StudyInstanceUID}, headers of {source.StudyInstanceUID}"
        )


def put_header(
    dataset: Dataset,
    reading: Reading,
    source: SourceStudy,
    device: Device,
    options: SeriesOptions,
    *,
    kind: str,
    SOPClassUID: str,
    Modality: str,
    part: str = "",
    place: int = 1,
    strict: bool = False,
) -> None:
    """Put what every object of ours has: identity, UIDs, series and equipment.

    Parameters
    ----------
    kind, part
        As in `reports.uids.instance_uid`.
    place
        InstanceNumber within the series, from 1.
    strict
        Name the purpose of an algorithm as IHE AIR does.
    """
    put_identity(dataset, source)
    variant = options.variant
    put(dataset, "SOPClassUID", SOPClassUID)
    uid = uids.instance_uid(reading, kind, device.uid, variant, part)
    put(dataset, "SOPInstanceUID", uid)
    put(dataset, "Modality", Modality)
    put(dataset, "SeriesInstanceUID", uids.series_uid(reading, kind, device.uid, variant))
    put(dataset, "SeriesNumber", options.series_number)
    put(dataset, "SeriesDescription", plain(options.series_description))
    put(dataset, "InstanceNumber", place)
    _put_equipment(dataset, reading, source, device, strict=strict)


def _put_equipment(
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


def put_content_time(
    dataset: Dataset, reading: Reading, source: SourceStudy, options: SeriesOptions
) -> None:
    """Put when the content was made."""
    made_at = content_time(reading, source, options.local_zone)
    put(dataset, "ContentDate", made_at.strftime("%Y%m%d"))
    put(dataset, "ContentTime", made_at.strftime("%H%M%S"))


def put_sr_general(
    document: Dataset,
    reading: Reading,
    source: SourceStudy,
    options: SeriesOptions,
    *,
    predecessor: ProducedObject | None,
) -> None:
    """Put SR Document Series and SR Document General (C.17.1, C.17.2).

    Parameters
    ----------
    predecessor
        The document of the same study that this one replaces.
    """
    put(document, "ReferencedPerformedProcedureStepSequence", [])
    put_content_time(document, reading, source, options)
    put(document, "CompletionFlag", "COMPLETE")
    put(document, "VerificationFlag", "UNVERIFIED")
    put(document, "PreliminaryFlag", "PRELIMINARY")
    put(document, "PerformedProcedureCodeSequence", [])
    if source.requests:
        put(document, "ReferencedRequestSequence", source_items(source.requests))
    if reading.images:
        evidence = study_references(reading.StudyInstanceUID, instances_of(reading.images))
        put(document, "CurrentRequestedProcedureEvidenceSequence", evidence)
    if predecessor is not None:
        earlier = (
            predecessor.SeriesInstanceUID,
            predecessor.SOPClassUID,
            predecessor.SOPInstanceUID,
        )
        replaced = study_references(reading.StudyInstanceUID, [earlier])
        put(document, "PredecessorDocumentsSequence", replaced)


InstanceUIDs = tuple[str, str, str]
"""SeriesInstanceUID, SOPClassUID, SOPInstanceUID."""


def instances_of(images: Iterable[ImageReading]) -> list[InstanceUIDs]:
    """Return the UIDs of images, for references to them."""
    return [(image.SeriesInstanceUID, image.SOPClassUID, image.SOPInstanceUID) for image in images]


def study_references(StudyInstanceUID: str, instances: Iterable[InstanceUIDs]) -> list[Dataset]:
    """Return references to instances of one study (PS3.3 table C.17-3), in their order."""
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
