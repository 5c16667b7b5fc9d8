"""What a report takes from its images: identity byte for byte, facts only where they are stated."""

from __future__ import annotations

import io
import pickle
import warnings

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from reports import codes
from reports.dataset import encode
from reports.source import Element, SourceStudy, source_study, stated_laterality, stated_part
from reports.sr import measurement_report
from studies.model import ImageReading, Laterality, Reading
from tests.support.dicom_making import ABSENT, make, override, to_bytes
from tests.support.identities import IDENTITIES, with_identity
from tests.support.readings import CREATED_AT, DEVICE
from tests.support.shared import require_shared


def received(header: Dataset) -> Dataset:
    """Return the header as it comes out of a file, undecoded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Bad values are the point of some tests.
        return pydicom.dcmread(io.BytesIO(to_bytes(header)), stop_before_pixels=True)


def value(study: SourceStudy, keyword: str) -> bytes:
    """Return the bytes of an identity element without padding."""
    (found,) = (e.value for e in study.identity if e.keyword == keyword)
    assert isinstance(found, bytes)
    return found.rstrip(b" \0")


@pytest.mark.parametrize("name", IDENTITIES)
def test_a_name_travels_as_the_bytes_that_came(name):
    """A PACS that compares bytes must not see a second patient."""
    identity = IDENTITIES[name]
    header = received(with_identity(make(), identity))

    study = source_study([header])

    assert value(study, "PatientName") == identity.PatientName
    assert value(study, "StudyDescription") == identity.StudyDescription
    stated = identity.SpecificCharacterSet
    expected = () if stated is None else (stated,) if isinstance(stated, str) else tuple(stated)
    assert study.SpecificCharacterSet == expected
    assert study.notes == ()


@pytest.mark.parametrize("name", IDENTITIES)
def test_a_name_that_was_looked_at_before_is_the_same_name(name):
    """Someone may have decoded the header first; PatientName remembers its bytes."""
    header = received(with_identity(make(), IDENTITIES[name]))
    assert str(header.PatientName)

    study = source_study([header])

    assert value(study, "PatientName") == IDENTITIES[name].PatientName


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_the_source_syntax_does_not_matter(syntax):
    """Text is the same in every transfer syntax, and VRs come from the dictionary."""
    study = source_study([received(make(syntax=syntax))])

    assert study == source_study([received(make())])


def test_text_beyond_ascii_without_a_character_set_gets_the_sites_default_and_a_note():
    """The bytes stay; declaring how the site reads them is better than an invalid object."""
    header = received(make(SpecificCharacterSet=ABSENT, PatientName=b"M\xfcller^Anna"))

    study = source_study([header], default_character_set="ISO_IR 100")

    assert value(study, "PatientName") == b"M\xfcller^Anna"
    assert study.SpecificCharacterSet == ("ISO_IR 100",)
    assert "assumed" in study.notes[0]


@pytest.mark.parametrize(
    ("sent", "understood"),
    [("ISO-IR 100", ("ISO_IR 100",)), ("ISO IR 192", ("ISO_IR 192",)), ("KLINGON", ())],
)
def test_a_misspelt_character_set_is_mended_or_dropped_with_a_note(sent, understood):
    """What we send must be valid even if what came was not."""
    header = received(make(SpecificCharacterSet=sent.encode(), PatientName=b"Doe^Jane"))

    study = source_study([header])

    assert study.SpecificCharacterSet == understood
    assert len(study.notes) == 1


def test_missing_type_2_elements_are_empty_and_nothing_is_invented():
    """An absent PatientID stays unknown."""
    absent = ("PatientID", "PatientBirthDate", "StudyDate", "StudyTime", "AccessionNumber")
    header = override(make(), **dict.fromkeys(absent, ABSENT))
    study = source_study([received(header)])

    for keyword in (*absent, "StudyID", "ReferringPhysicianName"):
        assert value(study, keyword) == b""
    assert study.StudyDate == study.StudyTime == ""


@pytest.mark.parametrize(
    ("keyword", "sent", "kept"),
    [
        ("PatientSex", b"X", b""),
        ("PatientSex", b"f", b"F"),
        ("StudyDate", b"2004.08.26", b"20040826"),
        ("StudyDate", b"yesterday", b""),
        ("StudyTime", b"10:11:12", b"101112"),
        ("StudyTime", b"101112.123", b"101112.123"),
        ("StudyTime", b"noon", b""),
        ("PatientBirthDate", b"1970", b""),
    ],
)
def test_a_value_that_its_vr_forbids_is_mended_or_unknown(keyword, sent, kept):
    """PatientSex "X", dates with dots and times with colons do arrive."""
    study = source_study([received(override(make(), **{keyword: sent}))])

    assert value(study, keyword) == kept


def test_the_time_zone_is_taken_only_if_it_is_one():
    """Content times are converted to it, so it must be right."""
    good = source_study([received(make(TimezoneOffsetFromUTC="+0530"))])
    bad = source_study([received(make(TimezoneOffsetFromUTC=b"CET"))])

    assert good.TimezoneOffsetFromUTC == "+0530"
    assert bad.TimezoneOffsetFromUTC is None


def test_the_request_of_the_images_becomes_the_referenced_request():
    """The order is how a RIS finds the report; images name it in another sequence."""
    request = Dataset()
    request.RequestedProcedureID = "RP1"
    request.RequestedProcedureDescription = "Handgelenk, beidseits"
    request.AccessionNumber = "ACC9"
    header = received(make(RequestAttributesSequence=[request]))

    (item,) = source_study([header]).requests

    values = {element.keyword: element.value for element in item}
    assert values["RequestedProcedureID"] == b"RP1 "
    assert values["AccessionNumber"] == b"ACC9"
    assert values["StudyInstanceUID"] == header.StudyInstanceUID.encode().ljust(
        len(values["StudyInstanceUID"]), b"\0"
    )
    assert values["PlacerOrderNumberImagingServiceRequest"] == b""
    assert values["ReferencedStudySequence"] == ()


def test_each_device_that_made_images_is_named_once():
    """Two images of one device have one contributor, and a device without maker has none."""
    same = [received(make(seed=f"s/{n}", Manufacturer="Acme", StationName="R1")) for n in (1, 2)]
    other = received(make(seed="s/3", Manufacturer="Acme", StationName="R2"))
    nameless = received(make(seed="s/4", Manufacturer=ABSENT))

    equipment = source_study([*same, other, nameless]).equipment

    stations = [e.value for item in equipment for e in item if e.keyword == "StationName"]
    assert stations == [b"R1", b"R2"]


def test_issuers_and_their_items_are_copied():
    """A PatientID means something only together with who issued it."""
    qualifier = Dataset()
    qualifier.UniversalEntityID = "1.2.3"
    qualifier.UniversalEntityIDType = "ISO"
    header = received(
        make(IssuerOfPatientID="HOSP", IssuerOfPatientIDQualifiersSequence=[qualifier])
    )

    study = source_study([header])

    assert value(study, "IssuerOfPatientID") == b"HOSP"
    expected = (
        (
            Element("UniversalEntityID", "UT", b"1.2.3 "),
            Element("UniversalEntityIDType", "CS", b"ISO "),
        ),
    )
    (copied,) = (e for e in study.identity if e.keyword == "IssuerOfPatientIDQualifiersSequence")
    assert copied.value == expected


def test_facts_of_an_image_are_there_only_where_they_are_stated():
    """A CR cassette states neither side, view, orientation nor spacing."""
    header = make(spacing_mm=None, laterality="", body_part="")
    for keyword in ("ViewPosition", "PatientOrientation", "ViewCodeSequence"):
        header.pop(keyword, None)

    (image,) = source_study([received(header)]).images

    assert (image.laterality, image.part, image.view) == (None, None, None)
    assert (image.orientation, image.spacing_mm) == (None, None)
    assert (image.rows, image.columns) == (96, 64)


def test_facts_of_an_image_are_there_where_they_are_stated():
    """What is stated is passed on, in the standard's terms."""
    header = make(
        ViewPosition="AP", PatientOrientation=["R", "F"], ImagerPixelSpacing=["0.2", "0.3"]
    )
    header.pop("ViewCodeSequence", None)

    (image,) = source_study([received(header)]).images

    assert image.laterality is Laterality.LEFT
    assert image.part == "HAND"
    assert image.view == codes.ANTERO_POSTERIOR
    assert image.orientation == ("R", "F")
    assert image.spacing_mm == (0.2, 0.3)


def test_a_decimal_comma_in_a_spacing_is_understood():
    """Some devices write DS in their own language."""
    (image,) = source_study([received(make(ImagerPixelSpacing=b"0,2\\0,2"))]).images

    assert image.spacing_mm == (0.2, 0.2)


@pytest.mark.parametrize(
    ("elements", "part"),
    [
        ({"BodyPartExamined": "WRIST"}, "WRIST"),
        ({"BodyPartExamined": "wrist "}, "WRIST"),
        ({"BodyPartExamined": "EXTREMITY", "SeriesDescription": "Wrist PA"}, "WRIST"),
        ({"SeriesDescription": "Fingers and hand"}, None),
        ({"SeriesDescription": "Handlebar injury"}, None),
        ({}, None),
    ],
)
def test_the_part_is_what_the_sender_states(elements, part):
    """Words are read only to tell apart what one model reads together."""
    header = override(Dataset(), **elements)

    assert stated_part(header) == part


def test_a_contradiction_between_elements_leaves_the_side_unknown():
    """ImageLaterality L beside a description of the right hand is no side at all."""
    header = received(make(laterality="L", SeriesDescription="Right hand"))

    assert stated_laterality(header) is None


def test_what_was_taken_crosses_process_borders():
    """The worker may build reports in another process."""
    study = source_study([received(make())])

    assert pickle.loads(pickle.dumps(study)) == study


_WHOLE = to_bytes(
    with_identity(
        make(
            WindowCenter="2000",
            WindowWidth="3000",
            ImagerPixelSpacing=["0.2", "0.2"],
            ViewPosition="AP",
            RescaleSlope="1",
            RescaleIntercept="0",
        ),
        IDENTITIES["japanese-87"],
    )
)


@settings(deadline=None)
@given(damage=st.dictionaries(st.integers(132, 1800), st.integers(0, 255), max_size=8))
def test_a_damaged_header_gives_a_report_or_says_which_uid_is_missing(damage):
    """One damaged element is unknown, as if it had not been sent; it costs no study its report."""
    file = bytearray(_WHOLE)
    for place, byte in damage.items():
        file[place] = byte
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            header = pydicom.dcmread(io.BytesIO(file), stop_before_pixels=True, force=True)
        except Exception:  # noqa: BLE001 (whatever cannot be read at all is not our input)
            return
        try:
            source = source_study([header])
        except ValueError as error:
            if "UID" not in str(error):
                raise
            return
        (image,) = source.images
        seen = ImageReading(
            SOPInstanceUID=image.SOPInstanceUID,
            SOPClassUID=image.SOPClassUID,
            SeriesInstanceUID=image.SeriesInstanceUID,
            rows=image.rows,
            columns=image.columns,
            not_analysed="damaged",
        )
        reading = Reading(
            StudyInstanceUID=source.StudyInstanceUID,
            revision=1,
            images=(seen,),
            models=(),
            configuration="c",
            created_at=CREATED_AT,
        )

        assert encode(measurement_report(reading, source, DEVICE))


@pytest.mark.parametrize("bad", ["", "dccc9599087131742838", "1.2.\udcff", "1." * 40 + "1"])
def test_an_image_without_a_valid_uid_is_refused(bad):
    """No valid report can refer to it."""
    header = override(make(), SOPInstanceUID=bad.encode("utf-8", "surrogateescape"))

    with pytest.raises(ValueError, match="SOPInstanceUID"):
        source_study([header])


def test_a_uid_with_leading_zeros_is_kept_as_it_is():
    """Wrong by PS3.5, but it does arrive, and the PACS knows the image by it."""
    study = source_study([override(make(), SOPInstanceUID=b"1.2.03.4")])

    assert study.images[0].SOPInstanceUID == "1.2.03.4"


def test_no_image_or_no_uid_is_an_error():
    """Nothing can be reported of nothing."""
    with pytest.raises(ValueError, match="at least one"):
        source_study([])
    with pytest.raises(ValueError, match="StudyInstanceUID"):
        source_study([received(make(StudyInstanceUID=ABSENT))])


@pytest.mark.shared
@pytest.mark.parametrize(
    "name",
    ["RG3_UNC.dcm", "Fake_MONO1.dcm", "dx_image.dcm", "explicit_VR-UN.dcm"],
)
def test_real_headers_are_understood(name):
    """Odd real files give a study, with the bytes of their names."""
    path = require_shared(f"dicom/{name}")
    header = pydicom.dcmread(path, stop_before_pixels=True, force=True)

    study = source_study([header])

    sent = pydicom.dcmread(path, stop_before_pixels=True, force=True).get_item("PatientName")
    assert value(study, "PatientName") == (sent.value or b"").rstrip(b" \0")
