"""Which side an image shows, from what its sender states. Plain values in, no DICOM objects."""

from __future__ import annotations

import re
from collections.abc import Iterable

from studies.model import Laterality

# (0020,0062) and (0020,0060); "U" says that the part is not paired, which is no side.
_STATED = {"R": Laterality.RIGHT, "L": Laterality.LEFT, "B": Laterality.BOTH}

# CID 244, and the SRT codes that older devices send for the same concepts. "Unilateral" is no side.
_MODIFIERS = {
    "24028007": Laterality.RIGHT,
    "G-A100": Laterality.RIGHT,
    "7771000": Laterality.LEFT,
    "G-A101": Laterality.LEFT,
    "51440002": Laterality.BOTH,
    "G-A102": Laterality.BOTH,
}

# Words of the languages that we have seen in descriptions. "B" and "both" are left out: an
# examination of both hands is usually one image of each, so the word says nothing of one image.
# A lone "D" or "G" (droite, gauche) is left out as well, since it means too many other things.
_WORDS = {
    Laterality.RIGHT: ("R", "RT", "RIGHT", "RECHTS", "DROIT", "DROITE", "DERECHA", "DERECHO"),
    Laterality.LEFT: ("L", "LT", "LEFT", "LINKS", "GAUCHE", "IZQUIERDA", "IZQUIERDO"),
}
# A letter beside a slash or a hyphen is an abbreviation: "R/O fracture", "T/L spine".
_WORD = re.compile(r"(?<![\w/-])[RL](?![\w/-])|[^\W\d_]{2,}")
_SIDE_OF_WORD = {word: side for side, words in _WORDS.items() for word in words}
_BOTH_WORDS = frozenset({"BOTH", "BILATERAL", "BILAT", "BEIDE", "BEIDSEITS", "BDS"})


def stated_side(
    *,
    image_laterality: str = "",
    laterality: str = "",
    modifiers: Iterable[str] = (),
    descriptions: Iterable[str] = (),
) -> Laterality | None:
    """Return the side that an image shows, or None where nothing states it or two things differ.

    A marker burned into the pixels is never read: it may be missing, cut off or mirrored.

    Parameters
    ----------
    image_laterality
        (0020,0062): R, L, B or U.
    laterality
        (0020,0060), of the series: R or L.
    modifiers
        Code values of AnatomicRegionModifierSequence (0008,2220).
    descriptions
        Free texts, the nearest to the image first (series before study). The first that names a
        side counts; one that names both sides counts as naming none.
    """
    codes = (_MODIFIERS.get(value.strip()) for value in modifiers)
    stated = (
        _STATED.get(image_laterality.strip().upper()),
        _STATED.get(laterality.strip().upper()),
    )
    described = next((side for side in map(side_in_words, descriptions) if side is not None), None)

    sides = {side for side in (*stated, *codes, described) if side is not None}
    return sides.pop() if len(sides) == 1 else None


def side_in_words(text: str) -> Laterality | None:
    """Return the side that a description names, or None if it names none or more than one."""
    words = _WORD.findall(text.upper())
    if any(word in _BOTH_WORDS for word in words):
        return None
    sides = {_SIDE_OF_WORD[word] for word in words if word in _SIDE_OF_WORD}
    return sides.pop() if len(sides) == 1 else None
