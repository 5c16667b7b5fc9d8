"""What we accept: SOP classes and transfer syntaxes, as data.

The list is short on purpose. pynetdicom copies it for every association, and a class that is not
on it is refused in the negotiation, where the sender's log shows it, instead of being stored and
ending as "not analysed" for a reason that was known before.
"""

from __future__ import annotations

from typing import Final

from pydicom.uid import (
    JPEG2000,
    UID,
    ComputedRadiographyImageStorage,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
    XRayAngiographicImageStorage,
    XRayRadiofluoroscopicImageStorage,
)
from pynetdicom.presentation import PresentationContext, build_context

VERIFICATION: Final = UID("1.2.840.10008.1.1")

# Verification (PS3.4 Annex A) carries no data set; any syntax would do.
VERIFICATION_SYNTAXES: Final = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)

# Storage (PS3.4 Annex B.5). RF and XA of one frame are read; cine runs of these classes are
# accepted too, because only the data set tells them apart, and end as "not analysed".
STORAGE_SOP_CLASSES: Final = (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    XRayRadiofluoroscopicImageStorage,
    XRayAngiographicImageStorage,
    SecondaryCaptureImageStorage,
)

# In the order of our preference where a sender offers several for one context. Explicit VR Little
# Endian stands first: with Implicit first, a sender drops the VRs of private elements for us.
STORAGE_SYNTAXES: Final = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    JPEGLosslessSV1,
    JPEGLossless,
    JPEGLSLossless,
    JPEG2000Lossless,
    RLELossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
    JPEG2000,
)


def supported_contexts() -> list[PresentationContext]:
    """The presentation contexts that the listener accepts, as SCP."""
    contexts = [build_context(VERIFICATION, list(VERIFICATION_SYNTAXES))]
    contexts += [build_context(uid, list(STORAGE_SYNTAXES)) for uid in STORAGE_SOP_CLASSES]
    return contexts
