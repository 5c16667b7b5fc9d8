"""What a file's own words say of the part of the body. Pure; the picture is not looked at.

Order of trust: Anatomic Region Sequence (0008,2218), Body Part Examined (0018,0015), then free
text: Protocol Name (0018,1030), Acquisition Device Processing Description (0018,1400), Series and
Study Description. A coded element that names something decides; free text is asked only where
those are silent, or say no more than EXTREMITY. What follows from it is decided in
`worker.analysis` (docs/decisions/0011).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from pydicom.dataset import Dataset

from studies.model import Region
from worker.elements import word, words

_FREE_TEXT: Final = (
    "ProtocolName",
    "AcquisitionDeviceProcessingDescription",
    "SeriesDescription",
    "StudyDescription",
)

# PS3.16 Annex L, SNOMED CT (and its SRT predecessors): the parts that a limb model may read.
_CODED: Final = {
    "85562004": Region.HAND_WRIST,
    "T-D8700": Region.HAND_WRIST,
    "74670003": Region.HAND_WRIST,
    "8205005": Region.HAND_WRIST,
    "7569003": Region.HAND_WRIST,
    "76505004": Region.HAND_WRIST,
    "14975008": Region.FOREARM,
    "62413002": Region.FOREARM,
    "23416004": Region.FOREARM,
    "16953009": Region.ELBOW,
    "85050009": Region.HUMERUS,
    "40983000": Region.HUMERUS,
    "16982005": Region.SHOULDER,
    "51299004": Region.SHOULDER,
    "79601000": Region.SHOULDER,
    "85856004": Region.SHOULDER,
    "24136001": Region.HIP,
    "68367000": Region.THIGH,
    "71341001": Region.THIGH,
    "72696002": Region.KNEE,
    "64234005": Region.KNEE,
    "30021000": Region.LEG,
    "12611008": Region.LEG,
    "110536004": Region.LEG,
    "87342007": Region.LEG,
    "70258002": Region.ANKLE,
    "56459004": Region.FOOT,
    "80144004": Region.FOOT,
    "29707007": Region.FOOT,
}

# Whole words, upper case. "LOWER LEG" before "LEG": the longest match of a text counts.
_LIMB_WORDS: Final = (
    (r"WRISTS?|CARP(US|AL)|SCAPHOID|HANDS?|FINGERS?|THUMB|METACARP\w*", Region.HAND_WRIST),
    (r"FORE ?ARM|RADIUS|RADIAL|ULNAR?|RADIUSULNA|RADIUS ?ULNA", Region.FOREARM),
    (r"ELBOW|OLECRANON", Region.ELBOW),
    (r"HUMERUS|HUMERAL|UPPER ?ARM|(?<!FORE )ARM", Region.HUMERUS),
    (r"SHOULDERS?|CLAVICLE|SCAPULA|ACJOINT|AC JOINTS?", Region.SHOULDER),
    (r"HIPS?|PELVIS", Region.HIP),
    (r"THIGH|FEMUR|FEMORAL|UPPER ?LEG", Region.THIGH),
    (r"KNEES?|PATELLA", Region.KNEE),
    (r"LOWER ?LEG|(?<!UPPER )LEG|TIBIA|TIBIAL|FIBULA|FIBULAR|TIBIAFIBULA|TIB ?FIB", Region.LEG),
    (r"ANKLES?|MALLEOL\w*", Region.ANKLE),
    (r"FOOT|FEET|TOES?|CALCANEUS|HEEL|METATARS\w*", Region.FOOT),
)
_OTHER_WORDS: Final = (
    r"CHEST|THORAX|LUNGS?|RIBS?|STERNUM|HEART|ABDOMEN|KUB|BOWEL|SKULL|HEAD|BRAIN|"
    r"FACE|FACIAL|SINUS(?:ES)?|ORBITS?|NOSE|JAW|MANDIBLE|MAXILLA|TEETH|TOOTH|DENTAL|PANORAMIC|"
    r"NECK|[CTL] ?SPINE|[CTLS]+SPINE|SPINE|SACRUM|COCCYX|BREAST|WHOLEBODY|PHANTOM"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stated:
    """What the words say.

    Attributes
    ----------
    regions
        Limb regions that are named; none where the words are silent.
    other
        "BodyPartExamined says CHEST": what is named instead of a limb, and where; or None.
    is_coded
        Whether a coded element says so, and not only free text.
    """

    regions: frozenset[Region] = frozenset()
    other: str | None = None
    is_coded: bool = False


def stated_regions(dataset: Dataset) -> Stated:
    """The regions that a file's words name, and what they name instead of a limb."""
    items = _items(dataset, "AnatomicRegionSequence")
    codes = {word(item, "CodeValue") for item in items}
    regions = frozenset(region for code, region in _CODED.items() if code in codes)
    if regions:
        return Stated(regions=regions, is_coded=True)
    meanings = [("AnatomicRegionSequence", word(item, "CodeMeaning")) for item in items]
    examined = [("BodyPartExamined", value) for value in words(dataset, "BodyPartExamined")]
    for coded in (meanings, examined):
        found = _read(coded)
        if found.regions or found.other:
            return replace(found, is_coded=True)
    return _read((keyword, value) for keyword in _FREE_TEXT for value in words(dataset, keyword))


def _read(texts: Iterable[tuple[str, str]]) -> Stated:
    regions: set[Region] = set()
    other: str | None = None
    for keyword, value in texts:
        plain = re.sub(r"[^A-Z]+", " ", value.upper()).strip()
        for pattern, region in _LIMB_WORDS:
            if re.search(rf"\b(?:{pattern})\b", plain):
                regions.add(region)
        if other is None and (match := re.search(rf"\b(?:{_OTHER_WORDS})\b", plain)):
            other = f"{keyword} says {match.group()}"
    # "SHOULDER, CHEST": as long as a limb is named, the picture decides.
    return Stated(regions=frozenset(regions), other=None if regions else other)


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    value = dataset.get(keyword)
    return list(value) if value else []
