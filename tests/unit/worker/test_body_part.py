"""What a file's words say of the part of the body."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from studies.model import Region
from tests.support.dicom_making import override
from worker.body_part import Stated, stated_regions


def dataset(**elements: str) -> Dataset:
    """Elements as a sender writes them, whether or not their VR allows it."""
    return override(Dataset(), **{key: value.encode() for key, value in elements.items()})


def coded(value: str, meaning: str) -> Dataset:
    item = dataset(CodeValue=value, CodingSchemeDesignator="SCT", CodeMeaning=meaning)
    made = Dataset()
    made.AnatomicRegionSequence = [item]
    return made


@pytest.mark.parametrize(
    ("term", "region"),
    [
        ("HAND", Region.HAND_WRIST),
        ("WRIST", Region.HAND_WRIST),
        ("ELBOW", Region.ELBOW),
        ("FOREARM", Region.FOREARM),
        ("HUMERUS", Region.HUMERUS),
        ("CLAVICLE", Region.SHOULDER),
        ("PELVIS", Region.HIP),
        ("UPPER LEG", Region.THIGH),
        ("LOWER LEG", Region.LEG),
        ("TIBIA FIBULA", Region.LEG),
        ("KNEE", Region.KNEE),
        ("ankle", Region.ANKLE),
        ("TOE", Region.FOOT),
    ],
)
def test_a_limb_is_recognised_by_its_defined_term(term, region):
    """Body Part Examined, PS3.16 Annex L, as devices write it."""
    found = stated_regions(dataset(BodyPartExamined=term))

    assert found == Stated(regions=frozenset({region}), is_coded=True)


@pytest.mark.parametrize(
    "term", ["CHEST", "SKULL", "CSPINE", "LSPINE", "ABDOMEN", "JAW", "RIB", "TSPINE", "BREAST"]
)
def test_what_is_no_limb_is_recognised_too(term):
    """So that a chest is never read as a shoulder."""
    found = stated_regions(dataset(BodyPartExamined=term))

    assert found.regions == frozenset()
    assert found.other == f"BodyPartExamined says {term}"
    assert found.is_coded


@pytest.mark.parametrize("term", ["", "EXTREMITY", "UNKNOWN", "ARMADILLO", "HEADER"])
def test_a_term_that_says_nothing_is_silence(term):
    """Then the router stands alone; parts of words count for nothing."""
    assert stated_regions(dataset(BodyPartExamined=term)) == Stated()


def test_the_anatomic_region_goes_before_body_part_examined():
    """It is coded by the examination, not chosen on a menu."""
    made = coded("72696002", "Knee")
    override(made, BodyPartExamined=b"CHEST")

    assert stated_regions(made).regions == {Region.KNEE}
    assert stated_regions(made).other is None


def test_an_anatomic_region_with_another_code_is_read_by_its_meaning():
    """The thorax is refused, whatever code the device has for it."""
    assert stated_regions(coded("51185008", "Thorax")).other == "AnatomicRegionSequence says THORAX"


def test_free_text_is_asked_where_the_codes_are_silent():
    """And marked as what it is."""
    found = stated_regions(
        dataset(BodyPartExamined="EXTREMITY", AcquisitionDeviceProcessingDescription="FOOT,AP")
    )

    assert found == Stated(regions=frozenset({Region.FOOT}))
    chest = stated_regions(dataset(ProtocolName="Chest PA"))
    assert (chest.other, chest.is_coded) == ("ProtocolName says CHEST", False)


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("Radial head view", Region.FOREARM),
        ("femoral neck", Region.THIGH),
        ("Hands both", Region.HAND_WRIST),
        ("SHOULDER/CHEST", Region.SHOULDER),
    ],
)
def test_a_limb_that_is_named_is_not_refused_for_another_word(text, region):
    """Bones have heads and necks of their own."""
    found = stated_regions(dataset(StudyDescription=text))

    assert found.other is None
    assert region in found.regions


def test_words_that_break_their_rules_do_no_harm():
    """Odd bytes, many values, an empty sequence."""
    made = dataset(BodyPartExamined="KNEE\\ANKLE")
    made.AnatomicRegionSequence = []

    assert stated_regions(made).regions == {Region.KNEE, Region.ANKLE}
