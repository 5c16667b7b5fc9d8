"""What the reports need of the received images, taken from their headers. Never changes a stored byte.

Identity travels as the bytes that came: a report carries the character set of its source and the
very same PatientName, so that no PACS sees a second patient. Our own texts are plain ASCII, which
every DICOM character set contains.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pydicom.sequence
from pydicom.charset import convert_encodings, encode_string, python_encoding
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import PersonName

from reports import codes
from studies.laterality import stated_side
from studies.model import Laterality


@dataclass(frozen=True, slots=True)
class Element:
    """One element as it came.

    Attributes
    ----------
    keyword
        As in PS3.6.
    VR
        Of the dictionary, whatever the sender wrote.
    value
        The bytes in the source's character set, or the items of a sequence.
    """

    keyword: str
    VR: str
    value: bytes | tuple[tuple[Element, ...], ...]


Item = tuple[Element, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Lut:
    """A lookup table of an image (PS3.3 C.11.1, C.11.2).

    Attributes
    ----------
    descriptor
        Number of entries, first value mapped, bits of each entry.
    words
        Entries as 16-bit words, little endian.
    modality_type
        ModalityLUTType of a modality LUT, else empty.
    """

    descriptor: tuple[int, int, int]
    words: bytes
    modality_type: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """The first VOI window of an image (C.11.2.1.2), as DS where the sender's text is kept."""

    center: str
    width: str
    function: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Grayscale:
    """How an image asks to be shown. A presentation state must repeat it: it replaces all of it.

    Attributes
    ----------
    rescale
        RescaleIntercept, RescaleSlope and RescaleType as sent, or None.
    modality_lut, voi_lut
        Each goes before its linear counterpart.
    """

    rescale: tuple[str, str, str] | None = None
    modality_lut: Lut | None = None
    window: Window | None = None
    voi_lut: Lut | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceImage:
    """What a report says of an image; None or empty where the sender states nothing.

    Attributes
    ----------
    PhotometricInterpretation
        "MONOCHROME1", "MONOCHROME2" …
    part
        Part of the body, as a defined term of BodyPartExamined, upper case.
    orientation
        Anatomical direction of a row and of a column: ("L", "F").
    spacing_mm
        Distance of rows and of columns at the detector (ImagerPixelSpacing), in mm.
    aspect_ratio
        Height and width of a pixel, as whole numbers: (1, 1) where nothing else is stated.
    grayscale
        How the image asks to be shown.
    lossy
        Whether the pixels have been lossy-compressed ("01"), "" where unknown.
    lossy_details
        Ratio and method of that compression, as sent.
    """

    SOPClassUID: str
    SOPInstanceUID: str
    SeriesInstanceUID: str
    Modality: str = ""
    rows: int = 0
    columns: int = 0
    PhotometricInterpretation: str = ""
    laterality: Laterality | None = None
    part: str | None = None
    view: codes.Code | None = None
    orientation: tuple[str, str] | None = None
    spacing_mm: tuple[float, float] | None = None
    aspect_ratio: tuple[int, int] = (1, 1)
    grayscale: Grayscale = Grayscale()
    lossy: str = ""
    lossy_details: Item = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceStudy:
    """A study as its images describe it: identity to copy, and facts about each image.

    Attributes
    ----------
    SpecificCharacterSet
        Defined terms of (0008,0005), empty for the default repertoire.
    identity
        Patient and study elements to copy. Type 2 elements are always there, empty if need be.
    requests
        Items for ReferencedRequestSequence (0040,A370).
    equipment
        What acquired the images: items for ContributingEquipmentSequence, without their purpose.
    StudyDate, StudyTime
        DICOM DA and TM, empty where unknown.
    TimezoneOffsetFromUTC
        "+0100", or None where the sender states none.
    notes
        What was odd and how it was handled; no patient data.
    """

    StudyInstanceUID: str
    SpecificCharacterSet: tuple[str, ...] = ()
    identity: Item = ()
    requests: tuple[Item, ...] = ()
    equipment: tuple[Item, ...] = ()
    StudyDate: str = ""
    StudyTime: str = ""
    TimezoneOffsetFromUTC: str | None = None
    images: tuple[SourceImage, ...] = ()
    notes: tuple[str, ...] = ()

    def image(self, SOPInstanceUID: str) -> SourceImage | None:
        """Return what is known of an image, or None where its header could not be had."""
        return next((i for i in self.images if i.SOPInstanceUID == SOPInstanceUID), None)


# Patient (C.7.1.1) and General Study (C.7.2.1) modules. Type 2: present even if unknown.
_TYPE_2: Final = (
    "AccessionNumber",
    "PatientBirthDate",
    "PatientID",
    "PatientName",
    "PatientSex",
    "ReferringPhysicianName",
    "StudyDate",
    "StudyID",
    "StudyTime",
)
_TYPE_3: Final = (
    "IssuerOfAccessionNumberSequence",
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "OtherPatientIDsSequence",
    "PatientBirthTime",
    "StudyDescription",
    "TypeOfPatientID",
)
# Acquisition equipment, as far as General Equipment (C.7.5.1) and Contributing Equipment
# (C.12.1) share it.
_EQUIPMENT: Final = (
    "Manufacturer",
    "InstitutionName",
    "StationName",
    "InstitutionalDepartmentName",
    "ManufacturerModelName",
    "DeviceSerialNumber",
    "SoftwareVersions",
)
# ReferencedRequestSequence (C.17.2): what RequestAttributesSequence (10-9) of an image tells.
_REQUEST_TYPE_2: Final = (
    "AccessionNumber",
    "FillerOrderNumberImagingServiceRequest",
    "PlacerOrderNumberImagingServiceRequest",
    "ReferencedStudySequence",
    "RequestedProcedureCodeSequence",
    "RequestedProcedureDescription",
    "RequestedProcedureID",
)
_TEXT_VRS: Final = frozenset(
    "AE AS CS DA DS DT IS LO LT PN SH ST TM UC UI UR UT".split()  # noqa: SIM905 (a table)
)
_CODED_VRS: Final = frozenset("LO LT PN SH ST UC UT".split())  # noqa: SIM905 (PS3.5 6.1.2.2)
_SEXES: Final = frozenset({b"M", b"F", b"O"})
_DATE: Final = re.compile(rb"\d{8}")
_TIME: Final = re.compile(rb"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?")
# Digits and dots; leading zeros are wrong, but do arrive and harm nobody.
_UID: Final = re.compile(r"[0-9]+(\.[0-9]+)*")
_OFFSET: Final = re.compile(r"[+-](0\d|1[0-4])[0-5]\d")
_DIRECTIONS: Final = re.compile(r"[APRLHF]{1,3}")
_IR_TERM: Final = re.compile(r"ISO[ _-]?(2022)?[ _-]*IR[ _-]*(\d+)")
_PARTS: Final = re.compile(r"(?<![A-Z])(HAND|WRIST|FINGER|THUMB)S?(?![A-Z])")


def source_study(
    datasets: Iterable[Dataset], *, default_character_set: str = "ISO_IR 100"
) -> SourceStudy:
    """Return what the reports need of a study's images.

    Parameters
    ----------
    datasets
        At least one header as read from a file (pixels may be left out), in the order of the
        reading's images. The first decides identity; its elements are best not looked at before,
        since pydicom gives up the original bytes of what it has decoded.
    default_character_set
        Assumed for texts beyond ASCII whose sender states no character set.

    Raises
    ------
    ValueError
        If there is no dataset, or one lacks a valid UID that no report can do without.
    """
    headers = list(datasets)
    if not headers:
        raise ValueError("a report needs the header of at least one image")
    first = headers[0]
    notes: list[str] = []
    charset = _character_set(first, notes)
    elements = _Elements(charset or ("ISO_IR 6",))

    identity = tuple(_identity(first, elements))
    requests = tuple(_requests(first, elements))
    equipment = tuple(_equipment(headers, elements))
    if not charset and not _is_ascii((identity, *requests, *equipment)):
        charset = (default_character_set,)
        notes.append(f"text beyond ASCII without a character set: {default_character_set} assumed")

    offset = _text(first, "TimezoneOffsetFromUTC")
    uid = _text(first, "StudyInstanceUID")
    if not _is_uid(uid):
        raise ValueError("an image without a valid StudyInstanceUID")
    stated = {element.keyword: element.value for element in identity}
    return SourceStudy(
        StudyInstanceUID=uid,
        SpecificCharacterSet=charset,
        identity=identity,
        requests=requests,
        equipment=equipment,
        StudyDate=_ascii(stated["StudyDate"]),
        StudyTime=_ascii(stated["StudyTime"]),
        TimezoneOffsetFromUTC=offset if _OFFSET.fullmatch(offset) else None,
        images=tuple(_image(header) for header in headers),
        notes=tuple(notes),
    )


def stated_laterality(dataset: Dataset) -> Laterality | None:
    """Return the side that an image shows as its header states it; None where it is unknown.

    ImageLaterality, Laterality, the modifier of AnatomicRegionSequence and the descriptions are
    asked; if any two of them differ the side is unknown.
    """
    modifiers = [
        _text(modifier, "CodeValue")
        for region in _items(dataset, "AnatomicRegionSequence")
        for modifier in _items(region, "AnatomicRegionModifierSequence")
    ]
    return stated_side(
        image_laterality=_text(dataset, "ImageLaterality"),
        laterality=_text(dataset, "Laterality"),
        modifiers=modifiers,
        descriptions=[
            _text(dataset, keyword)
            for keyword in (
                "AcquisitionDeviceProcessingDescription",
                "SeriesDescription",
                "ProtocolName",
                "StudyDescription",
            )
        ],
    )


def stated_part(dataset: Dataset) -> str | None:
    """Return the part of the body as a term of BodyPartExamined, or None where nothing states it.

    AnatomicRegionSequence comes first, then BodyPartExamined, then the descriptions, of which
    only the words for hand, wrist, finger and thumb are understood: they tell apart what a
    single model reads.
    """
    for region in _items(dataset, "AnatomicRegionSequence"):
        part = codes.PARTS_BY_CODE.get(_text(region, "CodeValue"))
        if part is not None:
            return part
    examined = _text(dataset, "BodyPartExamined").upper()
    if examined and examined != "EXTREMITY":
        words = set(_PARTS.findall(examined))
        return words.pop() if len(words) == 1 else examined
    for keyword in (
        "AcquisitionDeviceProcessingDescription",
        "SeriesDescription",
        "ProtocolName",
        "StudyDescription",
    ):
        words = set(_PARTS.findall(_text(dataset, keyword).upper()))
        if words:
            return words.pop() if len(words) == 1 else None
    return None


class _Elements:
    """Takes elements out of datasets as the bytes that came, in one character set."""

    def __init__(self, charset: Sequence[str]) -> None:
        self._encodings = convert_encodings(list(charset))

    def get(self, dataset: Dataset, keyword: str) -> Element | None:
        """Return the element, or None where it is absent or not of a kind that we copy."""
        tag = Tag(keyword)
        VR = dictionary_VR(tag)
        if tag in dataset and VR == "SQ":
            items = tuple(self._item(item) for item in _items(dataset, keyword))
            return Element(keyword, VR, tuple(item for item in items if item))
        element = _undecoded(dataset, tag)
        if element is None or VR not in _TEXT_VRS:
            return None
        return Element(keyword, VR, self._bytes(element, VR))

    def get_or_empty(self, dataset: Dataset, keyword: str) -> Element:
        """Return the element, empty where it is absent: what type 2 asks for."""
        found = self.get(dataset, keyword)
        VR = dictionary_VR(keyword)
        return found or Element(keyword, VR, () if VR == "SQ" else b"")

    def _item(self, dataset: Dataset) -> Item:
        keywords = (keyword_for_tag(tag) for tag in sorted(dataset.keys()))
        return tuple(
            element
            for keyword in keywords
            if keyword and (element := self.get(dataset, keyword)) is not None
        )

    def _bytes(self, element: RawDataElement | DataElement, VR: str) -> bytes:
        if isinstance(element, RawDataElement):
            return element.value or b""
        values = element.value if isinstance(element.value, MultiValue) else [element.value]
        return b"\\".join(self._encoded(value, VR) for value in values)

    def _encoded(self, value: Any, VR: str) -> bytes:
        if value is None:
            return b""
        if isinstance(value, PersonName):
            return value.encode(self._encodings)
        if VR in _CODED_VRS:
            return encode_string(str(value), self._encodings)
        # DS and IS remember the text they came from.
        return str(getattr(value, "original_string", value)).encode("ascii", "replace")


_ASCII: Final = _Elements(("ISO_IR 6",))


def _identity(first: Dataset, elements: _Elements) -> Iterator[Element]:
    for keyword in _TYPE_2:
        element = elements.get_or_empty(first, keyword)
        yield Element(keyword, element.VR, _repaired(element))
    for keyword in _TYPE_3:
        found = elements.get(first, keyword)
        if found is not None and found.value:
            yield found


def _repaired(element: Element) -> bytes:
    """Return a value that its VR allows; what cannot be mended is empty, which says unknown."""
    value = element.value if isinstance(element.value, bytes) else b""
    if element.VR == "DA":
        digits = value.strip(b" \0").replace(b".", b"").replace(b"-", b"")
        return digits if _DATE.fullmatch(digits) else b""
    if element.VR == "TM":
        digits = value.strip(b" \0").replace(b":", b"")
        return digits if _TIME.fullmatch(digits) else b""
    if element.keyword == "PatientSex":
        # "X" and the like are no enumerated value (C.7.1.1); empty is how DICOM says unknown.
        sex = value.strip(b" \0").upper()
        return sex if sex in _SEXES else b""
    return value


def _requests(first: Dataset, elements: _Elements) -> Iterator[Item]:
    """Items of ReferencedRequestSequence, from the image's own one or from what was requested."""
    for keyword in ("ReferencedRequestSequence", "RequestAttributesSequence"):
        found = [item for item in _items(first, keyword) if _names_a_request(item)]
        for item in found:
            accession = elements.get(item, "AccessionNumber")
            uid = elements.get(item, "StudyInstanceUID") or elements.get(first, "StudyInstanceUID")
            rest = [elements.get_or_empty(item, key) for key in _REQUEST_TYPE_2]
            if accession is None:
                rest[0] = elements.get_or_empty(first, "AccessionNumber")
            if uid is not None:
                yield (*rest, uid)
        if found:
            return


def _names_a_request(item: Dataset) -> bool:
    return bool(_text(item, "RequestedProcedureID") or _text(item, "AccessionNumber"))


def _equipment(headers: Sequence[Dataset], elements: _Elements) -> Iterator[Item]:
    """Each device that made an image, once. Without Manufacturer (type 1 there) it is left out."""
    seen: set[Item] = set()
    for header in headers:
        found = tuple(e for k in _EQUIPMENT if (e := elements.get(header, k)) and e.value)
        if found and found[0].keyword == "Manufacturer" and found not in seen:
            seen.add(found)
            yield found


def _image(header: Dataset) -> SourceImage:
    uids = {
        keyword: _text(header, keyword)
        for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID")
    }
    for keyword, value in uids.items():
        if not _is_uid(value):
            raise ValueError(f"an image without a valid {keyword}")
    return SourceImage(
        **uids,
        Modality=_text(header, "Modality").upper(),
        rows=_integer(header, "Rows"),
        columns=_integer(header, "Columns"),
        PhotometricInterpretation=_text(header, "PhotometricInterpretation").upper(),
        laterality=stated_laterality(header),
        part=stated_part(header),
        view=_view(header),
        orientation=_orientation(header),
        spacing_mm=_spacing(header, "ImagerPixelSpacing"),
        aspect_ratio=_aspect_ratio(header),
        grayscale=_grayscale(header),
        lossy=_text(header, "LossyImageCompression"),
        lossy_details=tuple(
            element
            for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod")
            if (element := _ASCII.get(header, keyword)) and element.value
        ),
    )


def _view(header: Dataset) -> codes.Code | None:
    for item in _items(header, "ViewCodeSequence"):
        view = codes.VIEWS_BY_CODE.get(_text(item, "CodeValue"))
        if view is not None:
            return view
    return codes.VIEWS_BY_POSITION.get(_text(header, "ViewPosition").upper())


def _orientation(header: Dataset) -> tuple[str, str] | None:
    values = _values(header, "PatientOrientation")
    if len(values) != 2 or not all(_DIRECTIONS.fullmatch(value) for value in values):
        return None
    return values[0], values[1]


def _spacing(header: Dataset, keyword: str) -> tuple[float, float] | None:
    numbers = [_number(value) for value in _values(header, keyword)]
    if len(numbers) != 2:
        return None
    rows, columns = numbers
    if rows is None or columns is None or not (0 < rows < 100 and 0 < columns < 100):
        return None
    return rows, columns


def _number(text: str) -> float | None:
    # Some devices write a decimal comma, which DS does not know.
    try:
        number = float(text.replace(",", "."))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _aspect_ratio(header: Dataset) -> tuple[int, int]:
    stated = [_number(value) for value in _values(header, "PixelAspectRatio")]
    if len(stated) == 2 and all(stated):
        return int(stated[0] or 1), int(stated[1] or 1)
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        spacing = _spacing(header, keyword)
        if spacing is not None and spacing[0] != spacing[1]:
            return round(1000 * spacing[0]) or 1, round(1000 * spacing[1]) or 1
    return 1, 1


def _grayscale(header: Dataset) -> Grayscale:
    intercept, slope = (_text(header, k) for k in ("RescaleIntercept", "RescaleSlope"))
    rescale = None
    if _number(intercept) is not None and _number(slope):
        rescale = (_ds(intercept), _ds(slope), _text(header, "RescaleType") or "US")
    center, width = (_text(header, k) for k in ("WindowCenter", "WindowWidth"))
    window = None
    # Width 0 and half a window do arrive; they say nothing.
    if _number(center) is not None and (_number(width) or 0) > 0:
        function = _text(header, "VOILUTFunction").upper()
        known = function in {"LINEAR", "LINEAR_EXACT", "SIGMOID"}
        window = Window(center=_ds(center), width=_ds(width), function=function if known else "")
    return Grayscale(
        rescale=rescale,
        modality_lut=_lut(header, "ModalityLUTSequence"),
        window=window,
        voi_lut=_lut(header, "VOILUTSequence"),
    )


def _ds(text: str) -> str:
    """Return a number as DS (at most 16 characters), as it was sent if that is one."""
    mended = text.replace(",", ".")
    return mended if len(mended) <= 16 else f"{float(mended):.10g}"


def _lut(header: Dataset, keyword: str) -> Lut | None:
    """The first table of a sequence, or None where there is none that is complete."""
    for item in _items(header, keyword):
        descriptor, data = _value(item, "LUTDescriptor"), _value(item, "LUTData")
        if not isinstance(descriptor, MultiValue | list) or len(descriptor) != 3 or not data:
            continue
        entries, first, bits = (int(value) for value in descriptor)
        entries = entries or 65536
        if isinstance(data, bytes):
            # OW is kept in the byte order of the file.
            little = header.original_encoding[1] is not False
            words = np.frombuffer(data, dtype="<u2" if little else ">u2").astype("<u2")
        else:
            values = data if isinstance(data, list | MultiValue) else [data]
            words = np.array([int(value) & 0xFFFF for value in values], dtype="<u2")
        if len(words) == entries:
            kind = _text(item, "ModalityLUTType")
            return Lut(
                descriptor=(entries, first, bits),
                words=words.tobytes(),
                modality_type=(kind or "US") if keyword == "ModalityLUTSequence" else "",
            )
    return None


def _character_set(dataset: Dataset, notes: list[str]) -> tuple[str, ...]:
    """Defined terms of (0008,0005), with the misspellings mended that pydicom mends as well."""
    terms = [term.strip() for term in _values(dataset, "SpecificCharacterSet")]
    if not any(terms):
        return ()
    mended = [_mended_term(term) for term in terms]
    if any(term is None for term in mended):
        notes.append("the character set is not one of DICOM's: taken as not stated")
        return ()
    if mended != terms:
        notes.append("the character set was misspelt: its proper name is used")
    return tuple(term for term in mended if term is not None)


def _mended_term(term: str) -> str | None:
    if term in python_encoding:
        return term
    match = _IR_TERM.fullmatch(term.upper())
    if match is None:
        return None
    proper = f"ISO 2022 IR {match[2]}" if match[1] else f"ISO_IR {match[2]}"
    return proper if proper in python_encoding else None


def _ascii(value: bytes | tuple[Item, ...]) -> str:
    return value.decode("ascii").strip(" \0") if isinstance(value, bytes) else ""


def _is_ascii(items: Iterable[Item]) -> bool:
    for item in items:
        for element in item:
            if isinstance(element.value, bytes):
                if not element.value.isascii():
                    return False
            elif not _is_ascii(element.value):
                return False
    return True


# What pydicom raises for elements that are damaged or of a VR that does not exist.
_UNREADABLE: Final = (
    NotImplementedError,
    ValueError,
    TypeError,
    AttributeError,
    KeyError,
    OverflowError,
    EOFError,
    OSError,
    struct.error,
    BytesLengthException,
)


def _value(dataset: Dataset, keyword: str) -> Any:
    """Return what pydicom makes of an element, or None where it is absent or unreadable."""
    try:
        return dataset.get(keyword)
    except _UNREADABLE:
        # One damaged element must not cost the study its report: it is unknown, as if not sent.
        return None


def _undecoded(dataset: Dataset, tag: BaseTag) -> RawDataElement | DataElement | None:
    """Return an element as pydicom holds it: the bytes that came, unless someone looked at it."""
    try:
        return dataset.get_item(tag) if tag in dataset else None
    except _UNREADABLE:
        return None


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """Items of a sequence, none where it is absent or is no sequence at all."""
    value = _value(dataset, keyword)
    return list(value) if isinstance(value, pydicom.sequence.Sequence) else []


def _text(dataset: Dataset, keyword: str) -> str:
    """The first value of a text element as ASCII, "" where absent; never decodes the element.

    What is beyond ASCII becomes "?": names of sides, parts and devices need no more, and the
    original bytes stay where they are.
    """
    return next(iter(_values(dataset, keyword)), "")


def _values(dataset: Dataset, keyword: str) -> list[str]:
    element = _undecoded(dataset, Tag(keyword))
    if element is None:
        return []
    if isinstance(element, RawDataElement):
        text = (element.value or b"").decode("ascii", "replace").replace("\ufffd", "?")
    else:
        values = element.value if isinstance(element.value, MultiValue) else [element.value]
        text = "\\".join("" if v is None else str(getattr(v, "original_string", v)) for v in values)
        text = text.encode("ascii", "replace").decode("ascii")
    return [part.strip(" \0") for part in text.split("\\")]


def _is_uid(text: str) -> bool:
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def _integer(header: Dataset, keyword: str) -> int:
    value = _value(header, keyword)
    return value if isinstance(value, int) else 0
