"""What is taken from a received data set, and what is refused with which status."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian
from sqlalchemy import Column, String

from dicom_node.intake import COMMENT_LENGTH, Refusal, StoreRequest, is_uid, take_in
from dicom_node.statuses import StoreStatus
from studies import tables
from studies.model import Instance, Sender, StudyDescription
from tests.support.dicom_making import ABSENT, LOSSLESS_SYNTAXES, make
from tests.support.domain import NOON
from tests.support.identities import IDENTITIES, with_identity
from tests.support.listening import digest, encoded

SENDER = Sender(ae_title="CR1", address="127.0.0.1")
MIB = 1024**2


def _width(column: Column[Any]) -> int:
    """Longest text that a column takes."""
    assert isinstance(column.type, String)
    assert column.type.length is not None
    return column.type.length


@pytest.fixture
def offered(tmp_path: Path) -> Any:
    """Offers a data set as if it had been received; the header before it is not looked at."""

    def offer(
        ds: Dataset, data: bytes | None = None, **options: Any
    ) -> tuple[Instance, StudyDescription]:
        data = encoded(ds) if data is None else data
        path = tmp_path / "part"
        path.write_bytes(b"header" + data)
        values = {"default_charset": "ISO_IR 100", "max_inflated_bytes": 4 * MIB, **options}
        request = values.pop("request", None) or StoreRequest(
            SOPClassUID=ds.SOPClassUID,
            SOPInstanceUID=ds.SOPInstanceUID,
            TransferSyntaxUID=ds.file_meta.TransferSyntaxUID,
            sender=SENDER,
        )
        return take_in(
            path, 6, request, sha256=digest(data), size=len(data), received_at=NOON, **values
        )

    return offer


@pytest.mark.parametrize("syntax", LOSSLESS_SYNTAXES, ids=lambda uid: uid.name)
def test_an_instance_is_known_by_its_uids_in_every_syntax(offered, syntax):
    """What is noted is what the data set says, however it is encoded."""
    ds = make(syntax=syntax)

    instance, description = offered(ds)

    assert instance.StudyInstanceUID == ds.StudyInstanceUID
    assert instance.SeriesInstanceUID == ds.SeriesInstanceUID
    assert instance.SOPInstanceUID == ds.SOPInstanceUID
    assert instance.TransferSyntaxUID == syntax
    assert (instance.Modality, instance.PatientID) == ("DX", "OSTEON-TEST-1")
    assert description == StudyDescription(
        PatientName="TEST^PATIENT",
        PatientBirthDate="19700101",
        PatientSex="O",
        AccessionNumber="ACC1",
        StudyDate="20260102",
        StudyTime="101112",
        StudyDescription="Test radiograph",
        BodyPartExamined="HAND",
    )


def test_the_path_names_instance_and_content(offered):
    """Two contents that claim one UID never meet in one file; a study lies in one folder."""
    one, _ = offered(make())
    other, _ = offered(make(PatientName="Other^Name"))

    assert Path(one.path).parent == Path(other.path).parent
    assert Path(one.path).parent.parent == Path("received")
    assert Path(one.path).name.startswith(f"{one.SOPInstanceUID}.")
    assert one.path != other.path


@pytest.mark.parametrize("name", IDENTITIES)
def test_a_name_is_decoded_from_every_character_set(offered, name):
    """The worklist shows the name as pydicom reads it."""
    ds = with_identity(make(), IDENTITIES[name])

    _, description = offered(ds)

    assert description.PatientName == str(ds.PatientName)
    assert description.StudyDescription == str(ds.StudyDescription)


def test_eight_bit_text_without_a_character_set_is_read_as_the_site_says(offered):
    """Devices that state nothing are read in the site's set, which the source may override."""
    ds = make(SpecificCharacterSet=ABSENT, PatientName="Иванов".encode("iso8859_5"))

    _, description = offered(ds, default_charset="ISO_IR 144")

    assert description.PatientName == "Иванов"


def test_text_that_cannot_be_decoded_or_is_too_long_is_still_an_image(offered):
    """Sloppy text is cut to its column and loses its control characters, nothing more."""
    ds = make(
        SpecificCharacterSet="ISO_IR 192",
        PatientName=b"\xff\xfe\0A\x1b[2J" + b"x" * 4000,
        PatientID=b"P" * 200,
        StudyDate=b"2026.08.26 or so, perhaps",
        PatientSex=b"X" * 40,
        BodyPartExamined=ABSENT,
    )

    instance, description = offered(ds)

    assert "\0" not in description.PatientName
    assert "\x1b" not in description.PatientName
    assert len(description.PatientName) == _width(tables.studies.c.patient_name)
    assert instance.PatientID == "P" * 64
    assert len(description.StudyDate) <= _width(tables.studies.c.study_date)
    assert description.BodyPartExamined == ""


def test_a_missing_patient_id_stays_missing(offered):
    """A Patient ID is never invented."""
    instance, _ = offered(make(PatientID=ABSENT, IssuerOfPatientID=ABSENT))

    assert (instance.PatientID, instance.IssuerOfPatientID) == ("", "")


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
@pytest.mark.parametrize(
    "value",
    [ABSENT, None, b"../../etc/passwd", b"1.2/3", b"1..2", b".1.2", b"1.2.", b"1.2." + b"3" * 64,
     b"1.2 3", b"1.2\\3.4", b"1.2\xd93", b"1.2\n3"],
    ids=repr,
)  # fmt: skip
def test_a_uid_that_may_not_become_a_path_is_refused(offered, keyword, value):
    """Only digits and dots, at most 64, name anything of ours."""
    with pytest.raises(Refusal) as refused:
        offered(make(**{keyword: value}))

    assert refused.value.status is StoreStatus.INVALID_IDENTIFIER
    assert len(refused.value.comment) <= COMMENT_LENGTH


def test_a_uid_with_leading_zeros_and_padding_is_tolerated(offered):
    """PS3.5 9.1 forbids leading zeros, devices write them, and they harm nobody."""
    instance, _ = offered(make(StudyInstanceUID=b"1.2.003.04\0\0"))

    assert instance.StudyInstanceUID == "1.2.003.04"


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "SOPClassUID"])
def test_a_data_set_that_is_not_what_the_request_says_is_refused(offered, keyword):
    """PS3.4 B.2.3: the data set has to match (0xA900)."""
    ds = make()
    request = StoreRequest(
        SOPClassUID=UID("1.2.840.10008.5.1.4.1.1.1.1"),
        SOPInstanceUID=ds.SOPInstanceUID,
        TransferSyntaxUID=ExplicitVRLittleEndian,
        sender=SENDER,
    )
    setattr(ds, keyword, "1.2.3")

    with pytest.raises(Refusal) as refused:
        offered(ds, request=request)

    assert refused.value.status is StoreStatus.DATA_SET_DOES_NOT_MATCH


def test_an_empty_data_set_is_refused(offered):
    """Zero bytes are no image."""
    with pytest.raises(Refusal, match="empty") as refused:
        offered(make(), b"")

    assert refused.value.status is StoreStatus.CANNOT_UNDERSTAND


def test_a_whole_file_sent_as_a_data_set_is_refused(offered):
    """Preamble and file meta do not belong on the network."""
    with pytest.raises(Refusal) as refused:
        offered(make(), b"\0" * 128 + b"DICM" + encoded(make()))

    assert refused.value.status is StoreStatus.CANNOT_UNDERSTAND


def test_a_deflated_bomb_is_refused_before_it_fills_the_disk(offered):
    """What inflates to more than a data set may have is too large."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = deflate.compress(b"\0" * (64 * MIB)) + deflate.flush()
    ds = make(syntax=DeflatedExplicitVRLittleEndian)

    with pytest.raises(Refusal) as refused:
        offered(ds, bomb)

    assert refused.value.status is StoreStatus.TOO_LARGE


@pytest.mark.parametrize("cut", [1, 2, 10, 500])
def test_deflated_bytes_that_were_cut_are_refused(offered, cut):
    """A deflated stream says where it ends."""
    ds = make(syntax=DeflatedExplicitVRLittleEndian)
    data = encoded(ds)

    with pytest.raises(Refusal) as refused:
        offered(ds, data[: len(data) - 1 - cut])

    assert refused.value.status is StoreStatus.CANNOT_UNDERSTAND


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300), syntax=st.sampled_from(LOSSLESS_SYNTAXES))
def test_any_bytes_are_refused_with_a_status_and_a_comment(offered, data, syntax):
    """Fuzz: no bytes raise anything else than a refusal that the sender can read."""
    ds = make()
    ds.file_meta.TransferSyntaxUID = syntax

    with pytest.raises(Refusal) as refused:
        offered(ds, data)

    assert refused.value.comment
    assert len(refused.value.comment) <= COMMENT_LENGTH


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    patches=st.lists(st.tuples(st.integers(0, 1200), st.integers(0, 255)), min_size=1, max_size=4)
)
def test_a_damaged_header_is_an_instance_or_a_refusal(offered, patches):
    """Fuzz: what is accepted fits the columns of the database and stays below received/."""
    ds = make()
    data = bytearray(_SOUND)
    for position, value in patches:
        data[position] = value

    try:
        instance, description = offered(ds, bytes(data))
    except Refusal as refusal:
        event(refusal.status.name)
        return

    assert ".." not in instance.path
    assert len(instance.Modality) <= _width(tables.instances.c.modality)
    for column, text in (
        (tables.studies.c.patient_name, description.PatientName),
        (tables.studies.c.patient_sex, description.PatientSex),
        (tables.studies.c.study_time, description.StudyTime),
    ):
        assert len(text) <= _width(column)
        assert "\0" not in text


_SOUND = encoded(make())


@given(text=st.text(alphabet="0123456789./\\\0 a", max_size=70))
def test_what_is_a_uid_is_one_harmless_path_component(text):
    """A UID never climbs, never splits, and is never empty."""
    if is_uid(text):
        assert Path(text).parts == (text,)
        assert text not in ("", ".", "..")
