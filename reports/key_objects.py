"""Key Object Selection (PS3.3 A.35.4): what to look at first in a positive study, after TID 2010."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.uid import KeyObjectSelectionDocumentStorage

from reports import codes
from reports.content import CONTAINS, HAS_CONCEPT_MOD, coded, composite, container, image, text
from reports.dataset import put, source_items
from reports.document import (
    Device,
    InstanceUIDs,
    SeriesOptions,
    check_same_study,
    device_observer,
    instances_of,
    put_content_time,
    put_header,
    study_references,
)
from reports.findings import evaluations_of
from reports.source import SourceStudy
from reports.wording import UNVERIFIED, percent, place_name
from studies.model import Band, Reading

KIND = "kos"


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyObjectOptions(SeriesOptions):
    """How a destination wants its key object selections."""

    series_number: int = 9104
    series_description: str = "Osteon AI key objects"


def key_objects(
    reading: Reading,
    source: SourceStudy,
    device: Device,
    options: KeyObjectOptions | None = None,
    *,
    report: Dataset | None = None,
    states: Sequence[Dataset] = (),
    captures: Sequence[Dataset] = (),
) -> Dataset | None:
    """Return the selection of a positive study's images and our objects, or None if not positive.

    Parameters
    ----------
    report, states, captures
        What goes to the same destination, as built by `reports.sr`, `reports.presentation` and
        `reports.capture`. A state is tied to its image; captures of images that are not positive
        are left out.

    Raises
    ------
    ValueError
        If reading and source are of different studies.
    """
    check_same_study(reading, source)
    options = options or KeyObjectOptions()
    positive = [seen for seen in reading.images if seen.band is Band.POSITIVE]
    if not positive:
        return None
    selected = {seen.SOPInstanceUID for seen in positive}
    state_of = {_shown_by(state): state for state in states if _shown_by(state) in selected}
    kept = [capture for capture in captures if _is_of(capture, selected)]

    items = [coded(HAS_CONCEPT_MOD, codes.LANGUAGE, codes.ENGLISH_US), *device_observer(device)]
    items.append(text(CONTAINS, codes.KEY_OBJECT_DESCRIPTION, _description(reading, source)))
    for seen in positive:
        state = state_of.get(seen.SOPInstanceUID)
        presentation = None if state is None else (state.SOPClassUID, state.SOPInstanceUID)
        # The referenced items have no concept name (TID 2010, rows 8 to 10).
        items.append(
            image(CONTAINS, seen.SOPClassUID, seen.SOPInstanceUID, presentation=presentation)
        )
    items.extend(image(CONTAINS, c.SOPClassUID, c.SOPInstanceUID) for c in kept)
    if report is not None:
        items.append(composite(CONTAINS, report.SOPClassUID, report.SOPInstanceUID))

    companions = [*state_of.values(), *kept, *([] if report is None else [report])]
    instances: list[InstanceUIDs] = [
        *instances_of(positive),
        *((c.SeriesInstanceUID, c.SOPClassUID, c.SOPInstanceUID) for c in companions),
    ]
    selection = container(None, codes.OF_INTEREST, items, template="2010")
    put_header(
        selection,
        reading,
        source,
        device,
        options,
        kind=KIND,
        SOPClassUID=KeyObjectSelectionDocumentStorage,
        Modality="KO",
        # Selections that point at different objects are different objects.
        part=" ".join(sorted(companion.SOPInstanceUID for companion in companions)),
    )
    put(selection, "ReferencedPerformedProcedureStepSequence", [])
    put_content_time(selection, reading, source, options)
    if source.requests:
        put(selection, "ReferencedRequestSequence", source_items(source.requests))
    evidence = study_references(reading.StudyInstanceUID, instances)
    put(selection, "CurrentRequestedProcedureEvidenceSequence", evidence)
    return selection


def _description(reading: Reading, source: SourceStudy) -> str:
    places = [
        f"{place_name(evaluation)} {percent(evaluation.reading.probability)} %"
        for evaluation in evaluations_of(reading, source)
        if evaluation.reading.band is Band.POSITIVE
    ]
    return f"Fracture likely: {'; '.join(places)}. {UNVERIFIED}"


def _shown_by(state: Dataset) -> str:
    """UID of the only image that a presentation state of ours is about."""
    (series,) = state.ReferencedSeriesSequence
    (shown,) = series.ReferencedImageSequence
    return str(shown.ReferencedSOPInstanceUID)


def _is_of(capture: Dataset, selected: set[str]) -> bool:
    """Whether a capture shows a selected image; the page about the whole study always does."""
    return any(item.ReferencedSOPInstanceUID in selected for item in capture.SourceImageSequence)
