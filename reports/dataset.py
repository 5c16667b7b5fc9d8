"""How we build and encode data sets: elements by keyword, codes, identity, PS3.10 files.

Thin over pydicom. What we put is right by construction and is not checked again: pydicom's
checks of every value take more time than all the rest of a report.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Iterable
from typing import Any

import pydicom.sequence
from pydicom import config
from pydicom.charset import convert_encodings, default_encoding
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, ExplicitVRLittleEndian

from reports.codes import Code
from reports.source import Item, SourceStudy
from reports.uids import IMPLEMENTATION_CLASS_UID

IMPLEMENTATION_VERSION_NAME = "OSTEON"


def new_dataset(**elements: Any) -> Dataset:
    """Return a data set with elements by keyword; see `put`."""
    dataset = Dataset()
    # Says that what is inside is encoded as it will be written: pydicom then neither walks the
    # whole tree at each of its levels to mend ambiguous VRs, nor decodes the source's bytes.
    dataset.set_original_encoding(
        is_implicit_vr=False, is_little_endian=True, character_encoding=default_encoding
    )
    for keyword, value in elements.items():
        put(dataset, keyword, value)
    return dataset


def put(dataset: Dataset, keyword: str, value: Any, VR: str | None = None) -> None:
    """Set an element that we know to be valid.

    Parameters
    ----------
    VR
        Only where the dictionary leaves a choice ("US or SS").
    value
        As pydicom holds it; a list of data sets for a sequence; None or "" for an empty element.
    """
    tag, default = _entry(keyword)
    VR = VR or default
    if VR == "SQ":
        value = pydicom.sequence.Sequence(value)
    elif VR == "UI" and isinstance(value, str):
        value = UID(value, validation_mode=config.IGNORE)
    ready = isinstance(value, str | int | bytes | pydicom.sequence.Sequence)
    dataset[tag] = DataElement(
        tag, VR, value, already_converted=ready, validation_mode=config.IGNORE
    )


@functools.cache
def _entry(keyword: str) -> tuple[BaseTag, str]:
    tag = Tag(keyword)
    return tag, dictionary_VR(tag)


def code_item(code: Code) -> Dataset:
    """Return a code sequence item (PS3.3 section 8)."""
    return new_dataset(
        CodeValue=code.value, CodingSchemeDesignator=code.scheme, CodeMeaning=code.meaning
    )


def reference(SOPClassUID: str, SOPInstanceUID: str) -> Dataset:
    """Return an SOP Instance Reference (PS3.3 table 10-11)."""
    return new_dataset(ReferencedSOPClassUID=SOPClassUID, ReferencedSOPInstanceUID=SOPInstanceUID)


def put_items(dataset: Dataset, elements: Item) -> None:
    """Put what was taken from the source, byte for byte."""
    for element in elements:
        if isinstance(element.value, bytes):
            tag, VR = _entry(element.keyword)
            padding = b"\0" if VR == "UI" else b" "
            value = element.value + padding * (len(element.value) % 2)
            dataset[tag] = RawDataElement(
                tag, VR, len(value), value, 0, is_implicit_VR=False, is_little_endian=True
            )
        else:
            put(dataset, element.keyword, source_items(element.value))


def source_items(items: Iterable[Item]) -> list[Dataset]:
    """Return data sets with what was taken from items of the source."""
    made = []
    for item in items:
        dataset = new_dataset()
        put_items(dataset, item)
        made.append(dataset)
    return made


def put_identity(dataset: Dataset, source: SourceStudy) -> None:
    """Make a data set one of the source's study and patient, in the source's character set."""
    if source.SpecificCharacterSet:
        put(dataset, "SpecificCharacterSet", list(source.SpecificCharacterSet))
        dataset.set_original_encoding(
            is_implicit_vr=False,
            is_little_endian=True,
            character_encoding=convert_encodings(list(source.SpecificCharacterSet)),
        )
    put_items(dataset, source.identity)
    put(dataset, "StudyInstanceUID", source.StudyInstanceUID)
    if source.TimezoneOffsetFromUTC is not None:
        put(dataset, "TimezoneOffsetFromUTC", source.TimezoneOffsetFromUTC)


def plain(text: str) -> str:
    """Return a text of ours as ASCII, which every source's character set contains."""
    return text.encode("ascii", "replace").decode("ascii")


def encode(dataset: Dataset) -> bytes:
    """Return the data set as a PS3.10 file in Explicit VR Little Endian.

    The same data set always gives the same bytes.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    dataset.file_meta = meta
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
