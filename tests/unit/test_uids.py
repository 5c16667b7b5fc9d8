"""UIDs: a retry gives the same, anything else gives another."""

from dataclasses import replace
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from reports import uids
from studies.model import Region
from tests.support.dicom_making import make
from tests.support.readings import DEVICE, bone_model, image_reading, reading_of, region_reading

HEADER = make()
READING = reading_of(HEADER, image_reading(HEADER, region_reading(HEADER)))


@given(parts=st.lists(st.text(max_size=20), max_size=5))
def test_every_uid_is_valid_and_the_same_for_the_same_parts(parts):
    """A UID has at most 64 characters, and below 2.25 it is a UUID (PS3.5 annex B.2)."""
    uid = uids.derived_uid("test", *parts)

    assert uid.is_valid
    assert uid == uids.derived_uid("test", *parts)
    assert UUID(int=int(uid.removeprefix("2.25."))).version == 5


def test_a_retry_makes_the_same_objects():
    """Whatever the time of the second try."""
    later = replace(READING, created_at=READING.created_at.replace(year=2030))

    assert uids.instance_uid(READING, "sr", DEVICE.uid) == uids.instance_uid(
        later, "sr", DEVICE.uid
    )


def test_whatever_changes_the_content_changes_the_uid():
    """Two different objects never share a SOP Instance UID."""
    other = make(seed="tests/2")
    made = [
        uids.instance_uid(READING, "sr", DEVICE.uid),
        uids.series_uid(READING, "sr", DEVICE.uid),
        uids.instance_uid(READING, "gsps", DEVICE.uid),
        uids.instance_uid(READING, "gsps", DEVICE.uid, part=HEADER.SOPInstanceUID),
        uids.instance_uid(READING, "sr", DEVICE.uid, "strict"),
        uids.instance_uid(READING, "sr", uids.deployment_uid("another")),
        uids.instance_uid(replace(READING, revision=2), "sr", DEVICE.uid),
        uids.instance_uid(replace(READING, configuration="other"), "sr", DEVICE.uid),
        uids.instance_uid(
            replace(READING, images=(*READING.images, image_reading(other))), "sr", DEVICE.uid
        ),
    ]

    assert len(set(made)) == len(made)


def test_a_finding_keeps_its_name_when_a_late_image_makes_a_new_reading():
    """The name depends on image, region, model, configuration and number, not on the revision."""
    model = bone_model(Region.ELBOW)

    def named(**changes):
        values: dict[str, Any] = {
            "SOPInstanceUID": "1.2",
            "region": Region.ELBOW,
            "model": model,
            "configuration": "c",
            "number": 1,
        }
        return uids.tracking_uid(**(values | changes))

    assert named() == named()
    changes: list[dict[str, Any]] = [
        {"SOPInstanceUID": "1.3"},
        {"region": Region.FOOT},
        {"model": bone_model(Region.FOOT)},
        {"configuration": "d"},
        {"number": 2},
    ]
    assert len({named(), *(named(**change) for change in changes)}) == 1 + len(changes)


def test_a_new_version_of_a_model_is_a_new_device():
    """AIR asks for one DeviceUID per version of an algorithm."""
    model = bone_model(Region.ELBOW)
    next_version = replace(model, version="9.9.9")

    assert uids.model_device_uid(DEVICE.uid, model) != uids.model_device_uid(
        DEVICE.uid, next_version
    )
