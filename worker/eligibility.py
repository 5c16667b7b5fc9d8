"""Which DICOM images a model may be asked about at all. Looks at attributes, never at pixels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
    XRayAngiographicImageStorage,
    XRayRadiofluoroscopicImageStorage,
)

from worker.decoding import number_of_frames
from worker.elements import integer, uid, word

SMALLEST_EDGE_PIXELS: Final = 100
"""An image with a shorter edge is a thumbnail, in which a fracture cannot be seen."""

_SECONDARY_CAPTURES: Final = frozenset(
    {
        SecondaryCaptureImageStorage,
        MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
        MultiFrameTrueColorSecondaryCaptureImageStorage,
    }
)
READABLE_SOP_CLASSES: Final[frozenset[UID]] = _SECONDARY_CAPTURES | {
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    XRayAngiographicImageStorage,
    XRayRadiofluoroscopicImageStorage,
}
"""SOP classes whose single grey frames may be radiographs."""

# Projection X-ray (PS3.3 C.7.3.1.1.1), or silent about where a captured picture came from.
_MODALITIES: Final = frozenset({"CR", "DX", "RG", "RF", "XA", "OT", "SC", ""})


def why_not_analysed(ds: Dataset, *, allow_colour: bool = False) -> str | None:
    """Return the reason why an image is not for the models, or None if it may be read.

    Parameters
    ----------
    ds
        The image's data set; its pixel data is not touched.
    allow_colour
        Whether a colour Secondary Capture may be read by its brightness.

    Returns
    -------
    str or None
        Completes "not analysed, because …".
    """
    return next(_reasons(ds, allow_colour=allow_colour), None)


def _reasons(ds: Dataset, *, allow_colour: bool) -> Iterator[str]:
    """Yield the reasons against an image, the most telling first."""
    sop_class = uid(ds, "SOPClassUID")
    if sop_class == DigitalXRayImageStorageForProcessing:
        yield "the image is For Processing; the For Presentation image is to be sent"
    elif sop_class not in READABLE_SOP_CLASSES:
        yield f"{sop_class.name or 'an unknown SOP class'} is not a radiograph"
    modality = word(ds, "Modality")
    if modality not in _MODALITIES:
        yield f"modality {modality[:16]} is not a radiograph"
    frames = number_of_frames(ds)
    if frames > 1:
        yield f"the image has {frames} frames"
    if (integer(ds, "SamplesPerPixel") or 1) > 1 and not allow_colour:
        yield "the image is in colour"
    if word(ds, "PhotometricInterpretation") == "PALETTE COLOR":
        yield "the image is in palette colour"
    rows, columns = integer(ds, "Rows"), integer(ds, "Columns")
    if rows and columns and min(rows, columns) < SMALLEST_EDGE_PIXELS:
        yield f"the image is too small ({rows} x {columns} pixels)"
