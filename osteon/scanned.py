"""What a scan says of one file, as a value and as a line of JSON. Reads nothing itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from studies.model import Band, Finding, ImageReading, ModelRef, RegionReading
from worklist import words


class Outcome(StrEnum):
    """What became of a file."""

    READ = "read"  # at least one region was judged
    NOT_ANALYSED = "not_analysed"  # a sound image that no model may judge
    FAILED = "failed"  # no image could be had from it


@dataclass(frozen=True, kw_only=True, slots=True)
class Scanned:
    """One file after the scan.

    Attributes
    ----------
    file
        Path as it was given, or as it was found below a folder that was given.
    reason
        Why it was not read; None if it was.
    reading
        What was seen; None if the file failed.
    models
        Those that were asked about this image; none if it was refused before.
    milliseconds
        From opening the file to the result, of one core.
    saved
        Files that were written beside it.
    unsaved
        Why something that was asked for could not be written, or None.
    """

    file: str
    outcome: Outcome
    reason: str | None
    reading: ImageReading | None = None
    models: tuple[ModelRef, ...] = ()
    milliseconds: float
    saved: tuple[str, ...] = ()
    unsaved: str | None = None

    @property
    def band(self) -> Band | None:
        """The most urgent band of its regions; None if nothing was judged."""
        return self.reading.band if self.reading is not None else None


def failed(file: str, reason: str, milliseconds: float = 0.0) -> Scanned:
    """A file from which no image could be had."""
    return Scanned(file=file, outcome=Outcome.FAILED, reason=reason, milliseconds=milliseconds)


def of_reading(
    file: str, reading: ImageReading, loaded: Sequence[ModelRef], milliseconds: float
) -> Scanned:
    """The outcome of an image that the models were shown, or that was refused before.

    Parameters
    ----------
    loaded
        All models that were ready to be asked.
    """
    reason = reading.not_analysed
    if reason is None and not reading.readings:
        reason = words.NO_REGION
    return Scanned(
        file=file,
        outcome=Outcome.READ if reason is None else Outcome.NOT_ANALYSED,
        reason=reason,
        reading=reading,
        models=_asked(reading, loaded),
        milliseconds=milliseconds,
    )


def as_json(scanned: Scanned) -> str:
    """One line of JSON, ASCII only, without its newline; docs/operations.md states its keys."""
    reading = scanned.reading
    line = {
        "file": scanned.file,
        "status": scanned.outcome.value,
        "reason": scanned.reason,
        "regions": [
            {"region": score.region.value, "probability": round(score.probability, 6)}
            for score in sorted(reading.regions if reading else (), key=lambda s: -s.probability)
        ],
        "readings": [
            _region_as_json(seen)
            for seen in sorted(reading.readings if reading else (), key=lambda r: -r.probability)
        ],
        "models": [
            {"name": model.name, "version": model.version, "sha256": model.sha256}
            for model in scanned.models
        ],
        "milliseconds": round(scanned.milliseconds, 1),
    }
    return json.dumps(line, allow_nan=False)


def _region_as_json(seen: RegionReading) -> dict[str, Any]:
    return {
        "region": seen.region.value,
        "probability": round(seen.probability, 6),
        "band": seen.band.value,
        "findings": [_finding_as_json(finding) for finding in seen.findings],
    }


def _finding_as_json(finding: Finding) -> dict[str, Any]:
    return {
        "box": [round(edge, 2) for edge in finding.box.edges] if finding.box else None,
        "probability": round(finding.probability, 6),
        "site": finding.site,
        "type": finding.type,
    }


def _asked(reading: ImageReading, loaded: Sequence[ModelRef]) -> tuple[ModelRef, ...]:
    """Trunk and router once an image has come to them, and the bone models that answered."""
    if not reading.regions:
        return ()
    judges = {seen.model for seen in reading.readings}
    return tuple(model for model in loaded if model.kind != "bone" or model in judges)
