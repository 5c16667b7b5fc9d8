"""The walk through an encoded data set: what it finds, and what it calls broken."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from dicom_node.structure import MAX_DEPTH, BrokenDataSet, Element, find_elements
from tests.support.dicom_making import make
from tests.support.listening import encoded

STUDY_INSTANCE_UID = 0x0020000D
SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    JPEGLSLossless,
    RLELossless,
)


def walk(data: bytes, syntax: str = ExplicitVRLittleEndian) -> dict[int, Element]:
    return find_elements(
        data,
        0,
        implicit=syntax == ImplicitVRLittleEndian,
        big_endian=syntax == ExplicitVRBigEndian,
        wanted=frozenset({STUDY_INSTANCE_UID}),
    )


def element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """One element in explicit VR little endian."""
    size = len(value) if length is None else length
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    if vr in (b"SQ", b"OB", b"OW", b"UN"):
        return head + struct.pack("<HL", 0, size) + value
    return head + struct.pack("<H", size) + value


def item(value: bytes = b"", length: int | None = None, number: int = 0xE000) -> bytes:
    """An item or, with its number, a delimiter."""
    return struct.pack("<HHL", 0xFFFE, number, len(value) if length is None else length) + value


OPEN = 0xFFFFFFFF
ITEM_END = item(number=0xE00D)
SEQUENCE_END = item(number=0xE0DD)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.name)
def test_an_element_of_the_top_level_is_found_in_every_syntax(syntax):
    """Byte order, VR and encapsulated pixels make no difference to what is found."""
    ds = make(syntax=syntax)
    data = encoded(ds)

    found = walk(data, syntax)[STUDY_INSTANCE_UID]

    value = data[found.start : found.start + found.length]
    assert value.rstrip(b"\0").decode() == ds.StudyInstanceUID


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.name)
@given(cut=st.floats(0.0, 1.0, exclude_max=True))
def test_a_data_set_that_was_cut_anywhere_is_broken_or_ends_with_an_element(syntax, cut):
    """A shorter data set passes only where it is one: never within its pixels."""
    data = encoded(make(syntax=syntax))
    shorter = data[: 1 + int(cut * (len(data) - 1))]

    try:
        walk(shorter, syntax)
    except BrokenDataSet:
        return
    assert (
        len(shorter) < data.index(b"\xe0\x7f\x10\x00" if syntax != SYNTAXES[2] else b"\x7f\xe0") + 1
    )


def test_pixels_that_are_cut_by_one_byte_are_broken():
    """The last byte counts."""
    data = encoded(make())

    with pytest.raises(BrokenDataSet, match=r"ends within \(7FE0,0010\)"):
        walk(data[:-1])


def test_a_nested_study_uid_is_not_the_study_s():
    """Only the top level names the study; a referenced study's UID is not mistaken for it."""
    nested = element(STUDY_INSTANCE_UID, b"UI", b"9.9\0")
    data = (
        element(0x00081110, b"SQ", item(nested, OPEN) + ITEM_END + SEQUENCE_END, OPEN)
        + element(0x00081115, b"SQ", item(nested))
        + element(STUDY_INSTANCE_UID, b"UI", b"1.2\0")
    )

    found = walk(data)[STUDY_INSTANCE_UID]

    assert data[found.start : found.start + found.length] == b"1.2\0"


def test_an_unknown_element_of_undefined_length_is_walked_as_implicit():
    """UN of undefined length holds implicit VR little endian (PS3.5 6.2.2)."""
    inner = struct.pack("<HHL", 0x0008, 0x0100, 2) + b"X "
    data = element(0x00091001, b"UN", item(inner, OPEN) + ITEM_END + SEQUENCE_END, OPEN)

    assert walk(data + element(STUDY_INSTANCE_UID, b"UI", b"1.2\0"))


def test_zeros_after_the_last_element_are_padding():
    """Some senders fill up with zeros; nothing is lost by it."""
    assert walk(element(STUDY_INSTANCE_UID, b"UI", b"1.2\0") + b"\0" * 21)


def test_a_wanted_element_that_comes_twice_is_broken():
    """Two readers must not see two studies in one file."""
    twice = element(STUDY_INSTANCE_UID, b"UI", b"1.2\0") + element(
        STUDY_INSTANCE_UID, b"UI", b"1.3\0"
    )

    with pytest.raises(BrokenDataSet, match="twice"):
        walk(twice)


@pytest.mark.parametrize(
    "data",
    [
        b"garbage, and more garbage",
        b"\x89PNG\r\n\x1a\n" + bytes(range(64)),
        b"\0" * 128 + b"DICM" + bytes(range(1, 64)),
        element(0x00080016, b"UI", b"1.2\0", length=400),
        element(0x00080016, b"??", b"1.2\0"),
        element(0x00080016, b"LO", b"", length=0)[:6],
        ITEM_END,
        element(0x00081110, b"SQ", item(b"", OPEN) + SEQUENCE_END, OPEN),
        element(0x00081110, b"SQ", element(0x00080016, b"UI", b"1.2\0"), OPEN),
        element(0x00081110, b"SQ", item(b"abc", length=99), OPEN),
        element(0x00081110, b"SQ", b"", OPEN),
        element(0x7FE00010, b"OB", item(b"", OPEN) + SEQUENCE_END, OPEN),
        element(0x7FE00010, b"OB", item(b"abcd"), OPEN),
        element(0x00091001, b"OB", b"", OPEN)[:12] + element(0x00080016, b"UI", b"1.2\0"),
    ],
)
def test_what_is_no_data_set_is_broken(data):
    """Each is told in words; nothing else is raised."""
    with pytest.raises(BrokenDataSet):
        walk(data)


def test_sequences_nested_without_end_are_broken():
    """A bomb of nested sequences stops at a depth that no image has."""
    nested = (element(0x00081110, b"SQ", b"", OPEN) + item(b"", OPEN)) * (MAX_DEPTH + 1)

    with pytest.raises(BrokenDataSet, match="too deeply"):
        walk(nested)


def test_a_million_empty_elements_are_broken_before_they_cost_minutes():
    """A bound on the number of elements bounds the time of a walk."""
    with pytest.raises(BrokenDataSet, match="more elements"):
        walk(element(0x00091001, b"LO", b"") * 1_000_000)


@given(data=st.binary(max_size=400), syntax=st.sampled_from(SYNTAXES))
def test_any_bytes_are_walked_or_broken(data, syntax):
    """No bytes make the walk fail otherwise, and what it finds lies within them."""
    try:
        found = walk(data, syntax)
    except BrokenDataSet:
        return

    assert all(e.start + e.length <= len(data) for e in found.values())


@given(position=st.integers(0, 2000), value=st.integers(0, 255), syntax=st.sampled_from(SYNTAXES))
def test_one_wrong_byte_in_a_header_is_walked_or_broken(position, value, syntax):
    """A flipped byte anywhere near the start ends in an answer."""
    data = bytearray(_SOUND[syntax])
    data[position % len(data)] = value

    try:
        walk(bytes(data), syntax)
    except BrokenDataSet:
        return


_SOUND = {syntax: encoded(make(syntax=syntax)) for syntax in SYNTAXES}
