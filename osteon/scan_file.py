"""One file of a scan: read it, and write what is to be kept of it. Nothing may end the process."""

from __future__ import annotations

import stat
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from osteon.overlay import as_png, draw_overlay
from osteon.scanned import Outcome, Scanned, failed, of_reading
from reports import uids
from reports.dataset import encode
from reports.document import Device
from reports.source import source_study
from reports.sr import measurement_report
from studies.errors import InvalidInstance, OsteonError
from studies.model import ImageReading, ModelRef, Reading
from studies.settings import Settings
from worker.pixels import is_picture, open_dicom, read_dicom, read_picture


class Reader(Protocol):
    """What a scan needs of `worker.analysis.Analyst`."""

    @property
    def models(self) -> tuple[ModelRef, ...]:
        """Every model that is ready to be asked."""

    def read_file(self, path: Path) -> ImageReading:
        """What is seen on a file's image.

        Raises
        ------
        OsteonError
            If no image can be had from the file.
        """


OpenReader = Callable[[Settings], Reader]
"""Opens the models of a site on one thread; importable, since other processes call it too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One file to scan.

    Attributes
    ----------
    path
        As given or found.
    problem
        Why there is nothing to read, where that is known already.
    save_as
        Path, without its ending, for what is to be written; None if nothing is.
    """

    path: Path
    problem: str | None = None
    save_as: Path | None = None


def open_analyst(settings: Settings) -> Reader:
    """Open the site's models.

    Raises
    ------
    ConfigurationError
        If a model or the device is not as it should be.
    """
    from worker.analysis import Analyst

    return Analyst.open(settings, threads=1)


def scan_file(job: Job, reader: Reader, settings: Settings) -> Scanned:
    """Read one file; whatever is wrong with it, there is an answer."""
    begun = time.perf_counter()
    if job.problem is not None:
        return failed(str(job.path), job.problem)
    with warnings.catch_warnings():
        # pydicom warns of each oddity of a file; the reading's notes tell those that matter.
        warnings.simplefilter("ignore")
        scanned = _read(job, reader, begun)
        if job.save_as is None or scanned.reading is None:
            return scanned
        return _saved(job, job.save_as, scanned, scanned.reading, reader.models, settings)


def _read(job: Job, reader: Reader, begun: float) -> Scanned:
    name = str(job.path)
    try:
        if not stat.S_ISREG(job.path.stat().st_mode):
            return failed(name, "it is not a regular file")
        reading = reader.read_file(job.path)
    except OsteonError as error:
        return failed(name, str(error), _milliseconds_since(begun))
    except OSError as error:
        return failed(name, _told(error), _milliseconds_since(begun))
    except Exception as error:  # noqa: BLE001 (one file must not end the scan of the others)
        return failed(name, _fault(error), _milliseconds_since(begun))
    return of_reading(name, reading, reader.models, _milliseconds_since(begun))


def _saved(
    job: Job,
    save_as: Path,
    scanned: Scanned,
    reading: ImageReading,
    loaded: tuple[ModelRef, ...],
    settings: Settings,
) -> Scanned:
    """Write the overlay, and for DICOM the report."""
    saved: list[str] = []
    problems: list[str] = []
    made: dict[str, Callable[[], bytes | None]] = {
        ".png": lambda: _overlay(job.path, reading),
        ".sr.dcm": lambda: _report(job.path, reading, loaded, settings),
    }
    for ending, make in made.items():
        path = save_as.with_name(save_as.name + ending)
        try:
            data = make()
            if data is None:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        except OsteonError as error:
            # What was refused often has no picture to show, or no UIDs to report on.
            if scanned.outcome is Outcome.READ:
                problems.append(f"{path}: {error}")
        except OSError as error:
            problems.append(f"{path}: {_told(error)}")
        except Exception as error:  # noqa: BLE001 (the result stands, whatever its picture does)
            problems.append(f"{path}: {_fault(error)}")
        else:
            saved.append(str(path))
    return replace(scanned, saved=tuple(saved), unsaved="; ".join(problems) or None)


def _overlay(path: Path, reading: ImageReading) -> bytes:
    shown = read_picture(path) if is_picture(path) else read_dicom(path, allow_colour=True)
    return as_png(draw_overlay(shown.pixels, reading))


def _report(
    path: Path, image: ImageReading, loaded: tuple[ModelRef, ...], settings: Settings
) -> bytes | None:
    """The SR of this file alone; None for a picture, which belongs to no patient's study."""
    if is_picture(path):
        return None
    header = open_dicom(path)
    try:
        source = source_study([header], default_character_set=settings.default_charset)
    except ValueError as error:
        raise InvalidInstance(f"no report can be made: {error}") from error
    now = datetime.now(UTC)
    digests = "".join(sorted(model.sha256 for model in loaded))
    reading = Reading(
        StudyInstanceUID=source.StudyInstanceUID,
        revision=1,
        images=(image,),
        models=loaded,
        # Each scan makes a document of its own: two of one UID with other times would be one
        # object with two contents.
        configuration=sha256(f"scan {now.isoformat()} {digests}".encode()).hexdigest(),
        created_at=now,
    )
    device = Device(
        uid=uids.deployment_uid("osteon scan"),
        name=settings.ae_title,
        serial_number="scan",
        software_version=version("osteon"),
    )
    return encode(measurement_report(reading, source, device))


def _milliseconds_since(begun: float) -> float:
    return (time.perf_counter() - begun) * 1000.0


def _told(error: OSError) -> str:
    return f"it cannot be read or written: {error.strerror or type(error).__name__}"


def _fault(error: Exception) -> str:
    """Where an error of our own came from. Its text may repeat a value of the file: left out."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    return f"a fault of Osteon, please report it: {type(error).__name__} at {place}"
