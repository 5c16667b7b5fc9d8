"""Walks an encoded data set from end to end without believing any of its lengths (PS3.5 7).

Not a parser of values: it finds a few elements of the top level, and proves that all others fit.
A data set that was cut off, or is none, is told apart here from one that a decoder can open.
"""

from __future__ import annotations

import mmap
import struct
from typing import Final, NamedTuple

Buffer = bytes | mmap.mmap

UNDEFINED: Final = 0xFFFFFFFF
MAX_DEPTH: Final = 64  # of sequences of undefined length; real ones stay below ten
MAX_STEPS: Final = 500_000  # elements, items and fragments; bounds the time that garbage costs
PIXEL_DATA: Final = 0x7FE00010
_ITEM: Final = 0xFFFEE000
_ITEM_END: Final = 0xFFFEE00D
_SEQUENCE_END: Final = 0xFFFEE0DD
# VRs with a length of two bytes (PS3.5 Table 7.1-2); all others have four and two reserved bytes.
_SHORT: Final = frozenset(
    vr.encode()
    for vr in (
        *("AE", "AS", "AT", "CS", "DA", "DS", "DT", "FL", "FD", "IS", "LO"),
        *("LT", "PN", "SH", "SL", "SS", "ST", "TM", "UI", "UL", "US"),
    )
)
_LONG: Final = frozenset(
    vr.encode()
    for vr in ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")
)


class BrokenDataSet(ValueError):
    """The bytes are no complete data set; the message is short and names a tag, never a value."""


class _Frame(NamedTuple):
    """Something of undefined length that is still open: a sequence, its item, or fragments."""

    is_item: bool
    implicit: bool
    fragments: bool


class Element(NamedTuple):
    """Where an element's value lies, in bytes."""

    start: int
    length: int


class _Header(NamedTuple):
    tag: int
    vr: bytes  # empty in implicit VR
    value: int
    length: int


class _Encoding:
    """Reads numbers and element headers in one byte order."""

    def __init__(self, data: Buffer, *, big_endian: bool) -> None:
        order = ">" if big_endian else "<"
        self._data = data
        self._tag = struct.Struct(order + "HH").unpack_from
        self._short = struct.Struct(order + "H").unpack_from
        self._long = struct.Struct(order + "L").unpack_from

    def tag(self, position: int) -> int:
        group, number = self._tag(self._data, position)
        return int(group << 16 | number)

    def long(self, position: int) -> int:
        return int(self._long(self._data, position)[0])

    def implicit_header(self, position: int, tag: int) -> _Header:
        return _Header(tag, b"", position + 8, self.long(position + 4))

    def explicit_header(self, position: int, tag: int) -> _Header:
        vr = self._data[position + 4 : position + 6]
        if vr in _SHORT:
            return _Header(tag, vr, position + 8, int(self._short(self._data, position + 6)[0]))
        if vr not in _LONG:
            raise BrokenDataSet(f"has no standard VR at {_named(tag)}")
        if len(self._data) - position < 12:
            raise BrokenDataSet("ends within an element's header")
        return _Header(tag, vr, position + 12, self.long(position + 8))


def find_elements(
    data: Buffer, start: int, *, implicit: bool, big_endian: bool, wanted: frozenset[int]
) -> dict[int, Element]:
    """Walk the data set that begins at `start`; return where the wanted top-level elements lie.

    Parameters
    ----------
    implicit, big_endian
        Of the transfer syntax.
    wanted
        Tags, group in the upper 16 bits.

    Raises
    ------
    BrokenDataSet
        If the data set does not end where its lengths say, or a wanted element comes twice:
        two readers would then see two different instances in one file.
    """
    encoding = _Encoding(data, big_endian=big_endian)
    found: dict[int, Element] = {}
    frames: list[_Frame] = []
    position, end, steps = start, len(data), 0
    while position < end:
        steps += 1
        if steps > MAX_STEPS:
            raise BrokenDataSet("has more elements than any image")
        if data[position : position + 2] == b"\0\0":
            # Group 0000 belongs to commands (PS3.7 E.1), or the sender has filled up with zeros.
            if not frames and not data[position:].strip(b"\0"):
                break
            raise BrokenDataSet("has an element of group 0000")
        if end - position < 8:
            raise BrokenDataSet("ends within an element's header")
        tag = encoding.tag(position)
        frame = frames[-1] if frames else None
        if tag >> 16 == 0xFFFE or (frame is not None and not frame.is_item):
            position = _delimit(frames, tag, encoding.long(position + 4), position + 8, end)
            continue
        within_implicit = frame.implicit if frame else implicit
        header = (
            encoding.implicit_header(position, tag)
            if within_implicit
            else encoding.explicit_header(position, tag)
        )
        position = header.value
        if header.length == UNDEFINED:
            frames.append(_opened(header, implicit=within_implicit))
            if len(frames) > MAX_DEPTH:
                raise BrokenDataSet(f"nests {_named(tag)} too deeply")
            continue
        if header.length > end - position:
            raise BrokenDataSet(f"ends within {_named(tag)}")
        if not frames and tag in wanted:
            if tag in found:
                raise BrokenDataSet(f"has {_named(tag)} twice")
            found[tag] = Element(position, header.length)
        position += header.length
    if frames:
        raise BrokenDataSet("ends within a sequence or fragments")
    return found


def _opened(header: _Header, *, implicit: bool) -> _Frame:
    """What an element of undefined length opens (PS3.5 7.5, A.4, and 6.2.2 for UN)."""
    if header.tag == PIXEL_DATA:
        return _Frame(is_item=False, implicit=implicit, fragments=True)
    if header.vr == b"UN":
        return _Frame(is_item=False, implicit=True, fragments=False)
    if header.vr in (b"SQ", b""):
        return _Frame(is_item=False, implicit=implicit, fragments=False)
    raise BrokenDataSet(f"has undefined length at {_named(header.tag)}")


def _delimit(frames: list[_Frame], tag: int, length: int, value: int, end: int) -> int:
    """Pass one item or delimiter; return the position after it."""
    if not frames:
        raise BrokenDataSet(f"has {_named(tag)} outside a sequence")
    frame = frames[-1]
    if frame.is_item:
        if tag != _ITEM_END:
            raise BrokenDataSet(f"has {_named(tag)} within an item")
        frames.pop()
        return value
    if tag == _SEQUENCE_END:
        frames.pop()
        return value
    if tag != _ITEM:
        raise BrokenDataSet(f"has {_named(tag)} between items")
    if length == UNDEFINED:
        if frame.fragments:
            raise BrokenDataSet("has a fragment of undefined length")
        frames.append(_Frame(is_item=True, implicit=frame.implicit, fragments=False))
        if len(frames) > MAX_DEPTH:
            raise BrokenDataSet("nests an item too deeply")
        return value
    if length > end - value:
        raise BrokenDataSet("ends within an item or fragment")
    return value + length


def _named(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
