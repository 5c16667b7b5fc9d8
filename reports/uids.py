"""UIDs of what we send: the same inputs give the same UID, so that a retry is never a second object.

Nothing here is random and nothing is registered: every UID is a name-based UUID (RFC 9562,
version 5) below 2.25 (PS3.5 annex B.2), made from UIDs that exist already.
"""

from __future__ import annotations

import uuid

from pydicom.uid import UID

from studies.model import ModelRef, Reading, Region

# Our own name space for name-based UUIDs; changing it would change every UID we ever sent.
_NAMESPACE = uuid.UUID("6f0b6a52-6f53-5d2c-9a0e-3d1f0b7c2e41")


def derived_uid(kind: str, *parts: str) -> UID:
    """Return the UID that belongs to `parts` as seen under `kind`.

    Parameters
    ----------
    kind
        What the UID names ("instance sr", "tracking" …); keeps equal parts apart.
    parts
        Texts that decide what is named. Their order matters.
    """
    # The unit separator occurs in no UID, name or version, so no two lists read the same.
    name = "\x1f".join((kind, *parts))
    return UID(f"2.25.{uuid.uuid5(_NAMESPACE, name).int}")


IMPLEMENTATION_CLASS_UID = derived_uid("implementation class", "reports")
"""(0002,0012) of the files that we write."""


def tracking_uid(
    SOPInstanceUID: str, region: Region, model: ModelRef, configuration: str, number: int
) -> UID:
    """Return the UID (DCM 112040) that names a finding in every object that shows it.

    It leaves out the reading's revision: a finding keeps its name when a late image
    makes us report the study again.

    Parameters
    ----------
    configuration
        As in `studies.model.Reading`.
    number
        Place of the finding among those of this region on this image, from 1.
    """
    parts = (SOPInstanceUID, region.value, model.name, model.version, model.sha256)
    return derived_uid("tracking", *parts, configuration, str(number))


def deployment_uid(deployment: str) -> UID:
    """Return the DeviceUID (0018,1002) of one installation.

    Parameters
    ----------
    deployment
        What makes the installation unique, kept for its lifetime (a UUID made at its first start).
    """
    return derived_uid("deployment", deployment)


def model_device_uid(deployment_device_uid: str, model: ModelRef) -> UID:
    """Return the DeviceUID of one version of a model on one installation."""
    parts = (model.name, model.version, model.sha256)
    return derived_uid("model device", deployment_device_uid, *parts)


def series_uid(reading: Reading, kind: str, device_uid: str, variant: str = "") -> UID:
    """Return the UID of the series which holds a reading's objects of one kind.

    Parameters
    ----------
    kind
        "sr", "gsps" … : one new series per kind.
    device_uid
        Of the deployment, so that a test node and a productive one never send the same UID.
    variant
        Options that change the content, since two destinations may get different objects.
    """
    return derived_uid(f"series {kind}", *_parts(reading, device_uid, variant))


def instance_uid(
    reading: Reading, kind: str, device_uid: str, variant: str = "", part: str = ""
) -> UID:
    """Return the UID of one object made from a reading; arguments as in `series_uid`.

    Parameters
    ----------
    part
        What the object is about where a reading gives several (an image's UID); else empty.
    """
    return derived_uid(f"instance {kind}", *_parts(reading, device_uid, variant), part)


def _parts(reading: Reading, device_uid: str, variant: str) -> tuple[str, ...]:
    images = sorted(image.SOPInstanceUID for image in reading.images)
    return (
        reading.StudyInstanceUID,
        str(reading.revision),
        reading.configuration,
        device_uid,
        variant,
        *images,
    )
