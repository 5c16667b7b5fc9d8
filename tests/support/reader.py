"""A reader without models, for tests of what goes on around the reading of files."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from pydicom.uid import SecondaryCaptureImageStorage

from osteon.wrapping import uid_from
from studies.model import (
    Band,
    Box,
    Finding,
    ImageReading,
    ModelRef,
    Region,
    RegionReading,
    RegionScore,
)
from studies.settings import Settings
from worker.eligibility import why_not_analysed
from worker.pixels import display, is_picture, open_dicom, read_picture

TRUNK = ModelRef(name="trunk", version="1.0.0", sha256="1" * 64, kind="trunk")
ROUTER = ModelRef(name="router", version="1.0.0", sha256="2" * 64, kind="router")
KNEE = ModelRef(name="bone-knee", version="2.1.0", sha256="3" * 64, kind="bone")
ELBOW = ModelRef(name="bone-elbow", version="1.0.0", sha256="4" * 64, kind="bone")


@dataclass(frozen=True)
class BrightnessReader:
    """Takes every image for a knee, and its mean grey for the probability of a fracture.

    A file whose name holds "kills" ends the process as a crashing decoder would; one whose name
    holds "bug" raises an error that nobody expects.
    """

    models: tuple[ModelRef, ...] = (TRUNK, ROUTER, KNEE, ELBOW)

    def read_file(self, path: Path) -> ImageReading:
        """What the mean grey says."""
        if "kills" in path.name:
            os.kill(os.getpid(), signal.SIGKILL)
        if "bug" in path.name:
            raise LookupError("PATIENT^NAME")
        if is_picture(path):
            shown, uid = read_picture(path), uid_from("picture", ascii(path.name))
            reason, sop_class, series = None, SecondaryCaptureImageStorage, f"{uid}.1"
        else:
            ds = open_dicom(path)
            reason = why_not_analysed(ds)
            uid, sop_class = ds.SOPInstanceUID, ds.SOPClassUID
            series = ds.get("SeriesInstanceUID", "")
            if reason is not None:
                return ImageReading(
                    SOPInstanceUID=uid,
                    SOPClassUID=sop_class,
                    SeriesInstanceUID=series,
                    rows=ds.Rows,
                    columns=ds.Columns,
                    not_analysed=reason,
                )
            shown = display(ds)
        probability = float(shown.pixels.mean())
        band = Band.POSITIVE if probability >= 0.5 else Band.NEGATIVE
        box = Box(left=1, top=2, right=shown.columns / 2, bottom=shown.rows / 2)
        finding = Finding(box=box, probability=probability, tracking_uid="2.25.1")
        return ImageReading(
            SOPInstanceUID=uid,
            SOPClassUID=sop_class,
            SeriesInstanceUID=series,
            rows=shown.rows,
            columns=shown.columns,
            regions=(
                RegionScore(region=Region.ELBOW, probability=0.1),
                RegionScore(region=Region.KNEE, probability=0.9),
            ),
            readings=(
                RegionReading(
                    region=Region.KNEE,
                    probability=probability,
                    band=band,
                    sensitive=0.5,
                    specific=0.5,
                    model=KNEE,
                    findings=(finding,) if band is Band.POSITIVE else (),
                ),
            ),
        )


def open_brightness(settings: Settings) -> BrightnessReader:
    """Open it, here or in a process of its own."""
    return BrightnessReader()
