"""Codes: what validators do not check, namely that a code and its meaning belong together."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydicom.sr._concepts_dict import concepts

from reports import codes
from studies.model import Band, Laterality, Region


def _all_codes() -> Iterator[codes.Code]:
    for value in vars(codes).values():
        if isinstance(value, codes.Code):
            yield value
        elif isinstance(value, dict):
            for entry in value.values():
                if isinstance(entry, codes.Code):
                    yield entry
                elif isinstance(entry, codes.BodyPart):
                    yield from (entry.site, entry.procedure)
                    if entry.order is not None:
                        yield entry.order


ALL_CODES = sorted(set(_all_codes()), key=lambda code: (code.scheme, code.value))

# Code → meaning, written down a second time and independently of the modules that emit them;
CHECKED_BY_HAND = {
    ("RFC5646", "en-US"): "English (United States)",
    ("SCT", "116676008"): "Associated morphology",
    ("UMLS", "C0034375"): "Qualitative Evaluations",
    ("SCT", "125605004"): "Fracture of bone",
    ("UCUM", "{pixels}"): "Pixels",
    ("SCT", "72704001"): "Fracture",
    ("SCT", "52329006"): "Fracture, open",
    ("SCT", "20946005"): "Fracture, closed",
    ("SCT", "13321001"): "Fracture, comminuted",
    ("SCT", "134317008"): "Linear fracture",
    ("SCT", "442085002"): "Greenstick fracture",
    ("SCT", "27515001"): "Avulsion",
    ("SCT", "23382007"): "Stress fracture",
    ("SCT", "22640007"): "Pathologic fracture",
    ("SCT", "21947006"): "Compression fracture",
    ("SCT", "87642003"): "Dislocation",
    ("99IHE", "Newcode1"): "Processing Algorithm",
    ("SCT", "168537006"): "Plain X-ray",
    ("SCT", "299706009"): "Bone structure of wrist and/or hand",
    ("SCT", "713023004"): "Plain X-ray of upper limb",
    ("SCT", "783544001"): "Plain X-ray of forearm",
    ("SCT", "713025006"): "Plain X-ray of elbow",
    ("SCT", "713026007"): "Plain X-ray of humerus",
    ("SCT", "783543007"): "Plain X-ray of shoulder",
    ("SCT", "783628002"): "Plain X-ray of hip",
    ("SCT", "241075002"): "Plain X-ray of femur",
    ("SCT", "1290407002"): "Plain X-ray of knee region",
    ("SCT", "1290525006"): "Plain X-ray of lower leg",
    ("SCT", "1290459008"): "Plain X-ray of ankle region",
    ("SCT", "1290452004"): "Plain X-ray of foot",
    ("SCT", "713027003"): "Plain X-ray of hand",
    ("SCT", "713024005"): "Plain X-ray of wrist region",
    ("SCT", "786844003"): "Plain X-ray of finger",
    ("SCT", "783542002"): "Plain X-ray of thumb",
    ("LN", "24891-4"): "XR Radius and Ulna Views",
    ("LN", "24676-9"): "XR Elbow Views",
    ("LN", "28567-6"): "XR Humerus Views",
    ("LN", "24909-4"): "XR Shoulder Views",
    ("LN", "24762-7"): "XR Hip Views",
    ("LN", "24704-9"): "XR Femur Views",
    ("LN", "28565-0"): "XR Knee Views",
    ("LN", "25011-8"): "XR Tibia and Fibula Views",
    ("LN", "24541-5"): "XR Ankle Views",
    ("LN", "24709-8"): "XR Foot Views",
    ("LN", "28582-5"): "XR Hand Views",
    ("LN", "24619-9"): "XR Wrist Views",
    ("LN", "24706-4"): "XR Finger Views",
}


@pytest.fixture(scope="module")
def dictionary_codes() -> dict[tuple[str, str], set[str]]:
    """Every (scheme, value) of pydicom's dictionary with all the meanings it gives."""
    table: dict[tuple[str, str], set[str]] = {}
    entries: Any = concepts  # its stated type is wider than what it holds
    for scheme, names in entries.items():
        for values in names.values():
            for value, (meaning, _) in values.items():
                table.setdefault((scheme, value), set()).add(meaning)
    return table


@pytest.mark.parametrize("code", ALL_CODES, ids=lambda code: f"{code.scheme} {code.value}")
def test_a_code_and_its_meaning_belong_together(code, dictionary_codes):
    """A wrong meaning passes every validator and misleads every reader."""
    if code.source is codes.Source.DICTIONARY:
        assert code.meaning in dictionary_codes[(code.scheme, code.value)]
    else:
        assert code.meaning == CHECKED_BY_HAND[(code.scheme, code.value)]


def test_a_wrong_meaning_is_found(dictionary_codes):
    """The check above is able to fail."""
    wrong = codes.Code("7771000", "SCT", "Right")

    assert wrong.meaning not in dictionary_codes[(wrong.scheme, wrong.value)]


def test_the_unverified_kinds_of_fracture_have_no_code():
    """Transverse, oblique, spiral and displaced fractures go out as words."""
    unverified = {"transverse", "oblique", "spiral", "displaced", "undisplaced"}

    assert unverified.isdisjoint(codes.MORPHOLOGY)


def test_every_region_band_and_side_has_its_code():
    """No value of the domain is left without a way to report it."""
    assert set(codes.REGIONS) == set(Region)
    assert set(codes.PRESENCE) == set(Band)
    assert set(codes.SIDES) == set(Laterality)


@pytest.mark.parametrize(
    ("stated", "site"),
    [
        ("HAND", "85562004"),
        ("WRIST", "74670003"),
        ("FINGER", "7569003"),
        ("THUMB", "76505004"),
        (None, "299706009"),
        ("EXTREMITY", "299706009"),
        ("FOOT", "299706009"),
    ],
)
def test_hand_and_wrist_are_told_apart_only_by_what_the_sender_states(stated, site):
    """One model reads both; without a statement the code covers both."""
    assert codes.body_part(Region.HAND_WRIST, stated).site.value == site


def test_a_stated_part_of_another_region_changes_nothing():
    """What the model saw counts: a foot model's finding is at the foot."""
    assert codes.body_part(Region.FOOT, "HAND") == codes.REGIONS[Region.FOOT]


def test_a_code_that_no_data_element_can_hold_is_refused():
    """CodeValue has at most 16 characters (SH), CodeMeaning 64 (LO)."""
    with pytest.raises(ValueError, match="not a code"):
        codes.Code("1" * 17, "SCT", "too long")
