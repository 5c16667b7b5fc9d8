"""Reading SR documents in tests, with pydicom alone and none of the code that builds them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pydicom
from pydicom.dataset import Dataset


@dataclass(frozen=True, slots=True)
class Node:
    """A content item with its children.

    Attributes
    ----------
    name
        CodeValue of its concept name, "" where it has none.
    value
        CodeValue of a CODE, (number, unit) of a NUM, SOP Instance UID of an IMAGE, list of floats
        of an SCOORD, text of the rest.
    """

    relationship: str
    value_type: str
    name: str
    value: Any
    children: tuple[Node, ...]

    def walk(self) -> Iterator[Node]:
        """Every node from here, in document order."""
        yield self
        for child in self.children:
            yield from child.walk()

    def all(self, name: str, value_type: str = "") -> list[Node]:
        """Nodes below with a concept name, and a value type if one is given."""
        return [n for n in self.walk() if n.name == name and value_type in ("", n.value_type)]

    def one(self, name: str) -> Node:
        """The only node below with a concept name."""
        (found,) = self.all(name)
        return found


def parse(file: bytes) -> Dataset:
    """Return the data set of a PS3.10 file."""
    return pydicom.dcmread(io.BytesIO(file))


def tree(item: Dataset) -> Node:
    """Return the content tree below a content item or a whole document."""
    names = item.get("ConceptNameCodeSequence") or []
    return Node(
        relationship=item.get("RelationshipType", ""),
        value_type=item.ValueType,
        name=names[0].CodeValue if names else "",
        value=_value(item),
        children=tuple(tree(child) for child in item.get("ContentSequence", [])),
    )


def _value(item: Dataset) -> Any:  # noqa: PLR0911 (one per value type)
    match item.ValueType:
        case "CODE":
            return item.ConceptCodeSequence[0].CodeValue
        case "TEXT":
            return item.TextValue
        case "UIDREF":
            return item.UID
        case "NUM":
            measured = item.MeasuredValueSequence[0]
            unit = measured.MeasurementUnitsCodeSequence[0].CodeValue
            return float(measured.NumericValue), unit
        case "IMAGE":
            return item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        case "SCOORD":
            return [float(coordinate) for coordinate in item.GraphicData]
        case "DATE":
            return item.Date
        case "TIME":
            return item.Time
        case _:
            return None


def codes_in(dataset: Dataset) -> Iterator[tuple[str, str, str]]:
    """Every (scheme, value, meaning) at any depth."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from codes_in(item)
    if "CodeValue" in dataset:
        yield dataset.CodingSchemeDesignator, dataset.CodeValue, dataset.CodeMeaning


def references_in(sequence: Any) -> set[tuple[str, str]]:
    """(SeriesInstanceUID, SOPInstanceUID) of hierarchical references."""
    return {
        (series.SeriesInstanceUID, sop.ReferencedSOPInstanceUID)
        for study in sequence
        for series in study.ReferencedSeriesSequence
        for sop in series.ReferencedSOPSequence
    }
