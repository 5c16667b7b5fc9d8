"""Bytes → Instance and StudyDescription. The one place that distrusts senders.

Strict about what becomes a path or a key: UIDs are digits and dots, at most 64 (PS3.5 9.1), and
those of the data set must be those of the request. Tolerant of everything that a person can put
right: leading zeros in a UID's components, padding, long or garbled text, missing Patient ID.
Nothing is invented.
"""

from __future__ import annotations

import hashlib
import mmap
import re
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final

from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from dicom_node.statuses import StoreStatus
from dicom_node.structure import BrokenDataSet, Buffer, Element, find_elements
from dicom_node.text import NAME_DELIMITERS, TEXT_DELIMITERS, decode, encodings_of
from studies.errors import InvalidInstance
from studies.model import Instance, Sender, StudyDescription

COMMENT_LENGTH: Final = 64  # of Error Comment (0000,0902), VR LO
_UID: Final = re.compile(r"[0-9]+(?:\.[0-9]+)*")
_CHUNK: Final = 1 << 20
_LONGEST_VALUE: Final = 4096  # bytes of a value that are looked at

_SpecificCharacterSet: Final = 0x00080005
_SOPClassUID: Final = 0x00080016
_SOPInstanceUID: Final = 0x00080018
_StudyDate: Final = 0x00080020
_StudyTime: Final = 0x00080030
_AccessionNumber: Final = 0x00080050
_Modality: Final = 0x00080060
_StudyDescription: Final = 0x00081030
_PatientName: Final = 0x00100010
_PatientID: Final = 0x00100020
_IssuerOfPatientID: Final = 0x00100021
_PatientBirthDate: Final = 0x00100030
_PatientSex: Final = 0x00100040
_BodyPartExamined: Final = 0x00180015
_StudyInstanceUID: Final = 0x0020000D
_SeriesInstanceUID: Final = 0x0020000E

# Element → longest text that its column takes, characters (studies/tables.py).
_TEXTS: Final[Mapping[int, int]] = {
    _StudyDate: 18,
    _StudyTime: 28,
    _AccessionNumber: 64,
    _Modality: 16,
    _StudyDescription: 256,
    _PatientName: 324,
    _PatientID: 64,
    _IssuerOfPatientID: 64,
    _PatientBirthDate: 10,
    _PatientSex: 16,
    _BodyPartExamined: 64,
}
_WANTED: Final = frozenset(
    {
        *_TEXTS,
        _SpecificCharacterSet,
        _SOPClassUID,
        _SOPInstanceUID,
        _StudyInstanceUID,
        _SeriesInstanceUID,
    }
)


class Refusal(InvalidInstance):
    """The data set cannot be kept; carries what the sender is told.

    Parameters
    ----------
    status
        Of the C-STORE response.
    comment
        Why; names tags and UIDs only, cut to what Error Comment takes.
    """

    def __init__(self, status: StoreStatus, comment: str) -> None:
        super().__init__(comment)
        self.status = status
        self.comment = comment[:COMMENT_LENGTH]


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreRequest:
    """What a C-STORE request says of its data set before the first byte of it has come.

    Attributes
    ----------
    SOPClassUID, SOPInstanceUID
        The Affected… elements of the command (PS3.7 9.3.1.1).
    TransferSyntaxUID
        Of the presentation context.
    """

    SOPClassUID: str
    SOPInstanceUID: str
    TransferSyntaxUID: str
    sender: Sender


def is_uid(text: str) -> bool:
    """Whether a text may name something of ours: digits and dots, 1 to 64 characters."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def check_request(request: StoreRequest) -> None:
    """Refuse a request whose UIDs cannot be written down.

    Raises
    ------
    Refusal
        Before anything is received.
    """
    for name, value in (
        ("SOP Class", request.SOPClassUID),
        ("SOP Instance", request.SOPInstanceUID),
    ):
        if not is_uid(value):
            raise Refusal(
                StoreStatus.INVALID_IDENTIFIER, f"Affected {name} UID of the request is no UID"
            )


def take_in(
    path: Path,
    start: int,
    request: StoreRequest,
    *,
    sha256: str,
    size: int,
    received_at: datetime,
    default_charset: str,
    max_inflated_bytes: int,
) -> tuple[Instance, StudyDescription]:
    """Read a received data set as far as we must know it.

    Parameters
    ----------
    path, start
        The spool file, and where the data set begins in it.
    sha256, size
        Digest and bytes of the data set as it came.
    default_charset
        Assumed for 8-bit text where the data set names no character set.
    max_inflated_bytes
        Largest data set that a deflated one may become.

    Raises
    ------
    Refusal
        If it is no data set that we may keep.
    """
    check_request(request)
    if size == 0:
        raise Refusal(StoreStatus.CANNOT_UNDERSTAND, "the data set is empty")
    try:
        if request.TransferSyntaxUID == DeflatedExplicitVRLittleEndian:
            with path.open("rb") as deflated, tempfile.TemporaryFile(dir=path.parent) as inflated:
                deflated.seek(start)
                _inflate(deflated, inflated, max_inflated_bytes)
                values = _values(inflated, 0, request.TransferSyntaxUID)
        else:
            with path.open("rb") as file:
                values = _values(file, start, request.TransferSyntaxUID)
    except BrokenDataSet as error:
        raise Refusal(StoreStatus.CANNOT_UNDERSTAND, f"the data set {error}") from error
    return _judge(values, request, sha256, size, received_at, default_charset)


def _inflate(deflated: BinaryIO, inflated: BinaryIO, limit: int) -> None:
    """Undo Deflated Explicit VR Little Endian (PS3.5 A.5: raw deflate), up to `limit` bytes."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    written = 0
    try:
        while not stream.eof and (chunk := stream.unconsumed_tail or deflated.read(_CHUNK)):
            written += inflated.write(stream.decompress(chunk, _CHUNK))
            if written > limit:
                raise Refusal(StoreStatus.TOO_LARGE, f"inflates to more than {limit} bytes")
    except zlib.error as error:
        raise BrokenDataSet("cannot be inflated") from error
    if not stream.eof:
        raise BrokenDataSet("ends within its deflated bytes")
    inflated.flush()


def _values(file: BinaryIO, start: int, TransferSyntaxUID: str) -> dict[int, bytes]:
    try:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError as error:  # an empty file cannot be mapped
        raise BrokenDataSet("is empty") from error
    with data:
        elements = find_elements(
            data,
            start,
            implicit=TransferSyntaxUID == ImplicitVRLittleEndian,
            big_endian=TransferSyntaxUID == ExplicitVRBigEndian,
            wanted=_WANTED,
        )
        return {tag: _cut(data, element) for tag, element in elements.items()}


def _cut(data: Buffer, element: Element) -> bytes:
    return bytes(data[element.start : element.start + min(element.length, _LONGEST_VALUE)])


def _judge(
    values: Mapping[int, bytes],
    request: StoreRequest,
    sha256: str,
    size: int,
    received_at: datetime,
    default_charset: str,
) -> tuple[Instance, StudyDescription]:
    SOPClassUID = _uid(values, _SOPClassUID, "SOP Class UID")
    SOPInstanceUID = _uid(values, _SOPInstanceUID, "SOP Instance UID")
    if SOPClassUID != request.SOPClassUID:
        raise Refusal(
            StoreStatus.DATA_SET_DOES_NOT_MATCH, "SOP Class UID differs from the request's"
        )
    if SOPInstanceUID != request.SOPInstanceUID:
        raise Refusal(
            StoreStatus.DATA_SET_DOES_NOT_MATCH, "SOP Instance UID differs from the request's"
        )
    StudyInstanceUID = _uid(values, _StudyInstanceUID, "Study Instance UID")
    SeriesInstanceUID = _uid(values, _SeriesInstanceUID, "Series Instance UID")
    texts = _texts(values, default_charset)
    instance = Instance(
        StudyInstanceUID=StudyInstanceUID,
        SeriesInstanceUID=SeriesInstanceUID,
        SOPInstanceUID=SOPInstanceUID,
        SOPClassUID=SOPClassUID,
        TransferSyntaxUID=request.TransferSyntaxUID,
        Modality=texts[_Modality],
        PatientID=texts[_PatientID],
        IssuerOfPatientID=texts[_IssuerOfPatientID],
        path=f"received/{_shard(StudyInstanceUID)}/{file_name(SOPInstanceUID, sha256)}",
        sha256=sha256,
        size=size,
        sender=request.sender,
        received_at=received_at,
    )
    description = StudyDescription(
        PatientName=texts[_PatientName],
        PatientBirthDate=texts[_PatientBirthDate],
        PatientSex=texts[_PatientSex],
        AccessionNumber=texts[_AccessionNumber],
        StudyDate=texts[_StudyDate],
        StudyTime=texts[_StudyTime],
        StudyDescription=texts[_StudyDescription],
        BodyPartExamined=texts[_BodyPartExamined],
    )
    return instance, description


def _shard(StudyInstanceUID: str) -> str:
    """The folder of a study: one of 256, since a new folder per study would cost an fsync more."""
    return hashlib.sha256(StudyInstanceUID.encode("ascii")).hexdigest()[:2]


def file_name(SOPInstanceUID: str, sha256: str) -> str:
    """Name of the file of an instance with this content.

    The digest is part of it: two contents that claim one UID never meet in one name, so a file
    that a crash has left without its row can only be met by its own content.
    """
    return f"{SOPInstanceUID}.{sha256[:32]}.dcm"


def _uid(values: Mapping[int, bytes], tag: int, name: str) -> str:
    value = values.get(tag, b"").strip(b" \0")
    if not value:
        raise Refusal(StoreStatus.INVALID_IDENTIFIER, f"{name} is missing")
    text = value.decode("ascii", errors="replace")
    if not is_uid(text):
        raise Refusal(StoreStatus.INVALID_IDENTIFIER, f"{name} is no UID (PS3.5 9.1)")
    return text


def _texts(values: Mapping[int, bytes], default_charset: str) -> dict[int, str]:
    terms = values.get(_SpecificCharacterSet, b"").decode("ascii", errors="replace").split("\\")
    encodings = encodings_of([term.strip(" \0") for term in terms], default_charset)
    return {
        tag: decode(
            values.get(tag, b""),
            encodings,
            NAME_DELIMITERS if tag == _PatientName else TEXT_DELIMITERS,
        )[:length].rstrip()
        for tag, length in _TEXTS.items()
    }
