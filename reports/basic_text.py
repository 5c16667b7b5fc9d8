"""The report as Basic Text SR (PS3.3 A.35.1, TID 2000), for a PACS that shows nothing richer."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.uid import BasicTextSRStorage

from reports import codes
from reports.content import CONTAINS, HAS_CONCEPT_MOD, coded, container, text
from reports.document import (
    Device,
    SeriesOptions,
    check_same_study,
    device_observer,
    put_header,
    put_sr_general,
)
from reports.findings import evaluations_of, reasons_not_analysed
from reports.source import SourceStudy
from reports.wording import (
    BAND_NAMES,
    NOTHING_ANALYSED,
    UNVERIFIED,
    place_name,
    score_sentences,
)
from studies.model import Band, ProducedObject, Reading

KIND = "text"


@dataclass(frozen=True, kw_only=True, slots=True)
class TextOptions(SeriesOptions):
    """How a destination wants its text reports."""

    series_number: int = 9105
    series_description: str = "Osteon AI fracture report (text)"


def basic_text_report(
    reading: Reading,
    source: SourceStudy,
    device: Device,
    options: TextOptions | None = None,
    *,
    predecessor: ProducedObject | None = None,
) -> Dataset:
    """Return a reading in words.

    Findings hold what is positive or doubtful, and there are none in a negative study, since
    viewers show any Finding as positive. Conclusions hold the answer for each region, and each
    image that was not analysed with its reason.

    Parameters
    ----------
    predecessor
        The text report that this one replaces, if it was sent.

    Raises
    ------
    ValueError
        If reading and source are of different studies.
    """
    check_same_study(reading, source)
    options = options or TextOptions()
    evaluations = evaluations_of(reading, source)
    suspected = [e for e in evaluations if e.reading.band is not Band.NEGATIVE]
    items = [coded(HAS_CONCEPT_MOD, codes.LANGUAGE, codes.ENGLISH_US), *device_observer(device)]
    if suspected:
        findings = [text(CONTAINS, codes.FINDING, score_sentences(e)) for e in suspected]
        items.append(container(CONTAINS, codes.FINDINGS, findings))

    conclusions = [
        f"{place_name(e)}: {BAND_NAMES[e.reading.band]}."
        if e.reading.band is not Band.NEGATIVE
        else f"{place_name(e)}: {BAND_NAMES[e.reading.band]}. {score_sentences(e)}"
        for e in evaluations
    ] or [NOTHING_ANALYSED]
    conclusions += [
        f"Image {SOPInstanceUID}: {reason}."
        for SOPInstanceUID, reason in reasons_not_analysed(reading).items()
    ]
    conclusions.append(UNVERIFIED)
    sentences = [text(CONTAINS, codes.CONCLUSION, sentence) for sentence in conclusions]
    items.append(container(CONTAINS, codes.CONCLUSIONS, sentences))

    report = container(None, codes.DIAGNOSTIC_IMAGING_REPORT, items, template="2000")
    put_header(
        report,
        reading,
        source,
        device,
        options,
        kind=KIND,
        SOPClassUID=BasicTextSRStorage,
        Modality="SR",
    )
    put_sr_general(report, reading, source, options, predecessor=predecessor)
    return report
