"""Content items of an SR document (PS3.3 C.17.3), one function per value type. No templates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydicom.dataset import Dataset

from reports.codes import Code
from reports.dataset import code_item, new_dataset, plain, put, reference
from studies.model import Box

CONTAINS = "CONTAINS"
HAS_CONCEPT_MOD = "HAS CONCEPT MOD"
HAS_OBS_CONTEXT = "HAS OBS CONTEXT"
HAS_ACQ_CONTEXT = "HAS ACQ CONTEXT"
SELECTED_FROM = "SELECTED FROM"


def container(
    relationship: str | None,
    name: Code,
    children: Iterable[Dataset],
    *,
    template: str | None = None,
) -> Dataset:
    """Return a CONTAINER.

    Parameters
    ----------
    relationship
        To its parent; None for the root of a document.
    template
        TemplateIdentifier of PS3.16, "1500".
    """
    item = _item(relationship, "CONTAINER", name, children)
    put(item, "ContinuityOfContent", "SEPARATE")
    if template is not None:
        identification = new_dataset(MappingResource="DCMR", TemplateIdentifier=template)
        put(item, "ContentTemplateSequence", [identification])
    return item


def coded(relationship: str, name: Code, value: Code, children: Iterable[Dataset] = ()) -> Dataset:
    """Return a CODE."""
    item = _item(relationship, "CODE", name, children)
    put(item, "ConceptCodeSequence", [code_item(value)])
    return item


def text(relationship: str, name: Code, value: str) -> Dataset:
    """Return a TEXT; what is beyond ASCII becomes "?"."""
    item = _item(relationship, "TEXT", name)
    put(item, "TextValue", plain(value))
    return item


def uid_reference(relationship: str, name: Code, value: str) -> Dataset:
    """Return a UIDREF."""
    item = _item(relationship, "UIDREF", name)
    put(item, "UID", value)
    return item


def date(relationship: str, name: Code, value: str) -> Dataset:
    """Return a DATE; value as DA."""
    item = _item(relationship, "DATE", name)
    put(item, "Date", value)
    return item


def time(relationship: str, name: Code, value: str) -> Dataset:
    """Return a TIME; value as TM."""
    item = _item(relationship, "TIME", name)
    put(item, "Time", value)
    return item


def number(
    relationship: str, name: Code, value: str, unit: Code, children: Iterable[Dataset] = ()
) -> Dataset:
    """Return a NUM; value as DS, at most 16 characters."""
    item = _item(relationship, "NUM", name, children)
    measured = new_dataset(MeasurementUnitsCodeSequence=[code_item(unit)], NumericValue=value)
    put(item, "MeasuredValueSequence", [measured])
    return item


def image(
    relationship: str,
    SOPClassUID: str,
    SOPInstanceUID: str,
    *,
    name: Code | None = None,
    children: Iterable[Dataset] = (),
    presentation: tuple[str, str] | None = None,
) -> Dataset:
    """Return an IMAGE.

    Parameters
    ----------
    presentation
        SOP Class and SOP Instance UID of the presentation state to show it with.
    """
    item = _item(relationship, "IMAGE", name, children)
    referenced = reference(SOPClassUID, SOPInstanceUID)
    if presentation is not None:
        put(referenced, "ReferencedSOPSequence", [reference(*presentation)])
    put(item, "ReferencedSOPSequence", [referenced])
    return item


def composite(relationship: str, SOPClassUID: str, SOPInstanceUID: str) -> Dataset:
    """Return a COMPOSITE: a reference to an object that is no image."""
    item = _item(relationship, "COMPOSITE", None)
    put(item, "ReferencedSOPSequence", [reference(SOPClassUID, SOPInstanceUID)])
    return item


def polyline(
    relationship: str, name: Code, points: Sequence[tuple[float, float]], source: Dataset
) -> Dataset:
    """Return an SCOORD of type POLYLINE.

    Parameters
    ----------
    points
        (column, row) in pixels; (0.0, 0.0) is the top-left corner of the top-left pixel
        (C.18.6.1.2). The last equals the first where an area is meant.
    source
        The IMAGE that it lies on, SELECTED FROM.
    """
    item = _item(relationship, "SCOORD", name, [source])
    put(item, "GraphicData", [coordinate for point in points for coordinate in point])
    put(item, "GraphicType", "POLYLINE")
    return item


def outline(box: Box) -> tuple[tuple[float, float], ...]:
    """Return a box as a closed polyline of (column, row), clockwise from its top-left corner."""
    left, top, right, bottom = box.edges
    return ((left, top), (right, top), (right, bottom), (left, bottom), (left, top))


def _item(
    relationship: str | None,
    value_type: str,
    name: Code | None,
    children: Iterable[Dataset] = (),
) -> Dataset:
    item = new_dataset(ValueType=value_type)
    if relationship is not None:
        put(item, "RelationshipType", relationship)
    if name is not None:
        put(item, "ConceptNameCodeSequence", [code_item(name)])
    content = list(children)
    if content:
        put(item, "ContentSequence", content)
    return item
