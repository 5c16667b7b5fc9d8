"""The preamble and file meta information that we put before a data set as received (PS3.10 7.1)."""

from __future__ import annotations

import struct

from dicom_node.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.intake import StoreRequest


def file_header(request: StoreRequest) -> bytes:
    """Everything that stands in a file before the data set.

    Encoded by hand: it is the same few elements each time, and pydicom's writer would cost more
    than the rest of a small image.
    """
    elements = b"".join(
        (
            _long(0x0001, b"OB", b"\0\1"),
            _uid(0x0002, request.SOPClassUID),
            _uid(0x0003, request.SOPInstanceUID),
            _uid(0x0010, request.TransferSyntaxUID),
            _uid(0x0012, IMPLEMENTATION_CLASS_UID),
            _text(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME),
            _text(0x0016, b"AE", request.sender.ae_title),
        )
    )
    group_length = _short(0x0000, b"UL", struct.pack("<L", len(elements)))
    return b"\0" * 128 + b"DICM" + group_length + elements


def _uid(number: int, value: str) -> bytes:
    data = value.encode("ascii")
    return _short(number, b"UI", data + b"\0" * (len(data) % 2))


def _text(number: int, vr: bytes, value: str) -> bytes:
    data = value.encode("ascii", errors="replace")
    return _short(number, vr, data + b" " * (len(data) % 2))


def _short(number: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", 0x0002, number, vr, len(value)) + value


def _long(number: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sHL", 0x0002, number, vr, 0, len(value)) + value
