"""A picture as a valid radiograph in DICOM: for samples, the simulator and tests. No drawing."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)

# Anatomic regions for DX, CID 4009 of PS3.16: BodyPartExamined → (SNOMED CT code, meaning, paired).
ANATOMIC_REGIONS: dict[str, tuple[str, str, bool]] = {
    "HAND": ("85562004", "Hand", True),
    "WRIST": ("74670003", "Wrist", True),
    "FOREARM": ("14975008", "Forearm", True),
    "ELBOW": ("16953009", "Elbow", True),
    "HUMERUS": ("85050009", "Humerus", True),
    "SHOULDER": ("16982005", "Shoulder", True),
    "HIP": ("24136001", "Hip", True),
    "THIGH": ("68367000", "Thigh", True),
    "KNEE": ("72696002", "Knee", True),
    "LEG": ("30021000", "Lower leg", True),
    "ANKLE": ("70258002", "Ankle", True),
    "FOOT": ("56459004", "Foot", True),
    "CHEST": ("51185008", "Chest", False),
}


def uid_from(*parts: str) -> UID:
    """Return a UID below 2.25 that is the same for the same parts (PS3.5 annex B.2).

    The 128 bits are the head of a SHA-256, so that sending what was made twice sends the same
    instance twice and never a second one.
    """
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return UID(f"2.25.{int.from_bytes(digest[:16], 'big')}")


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """Return a code sequence item (PS3.3 section 8)."""
    item = Dataset()
    item.CodeValue = value
    item.CodingSchemeDesignator = scheme
    item.CodeMeaning = meaning
    return item


def wrap(
    pixels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16] | npt.NDArray[np.int16],
    *,
    seed: str,
    sop_class: UID = DigitalXRayImageStorageForPresentation,
    photometric: str = "MONOCHROME2",
    bits_stored: int | None = None,
    body_part: str = "HAND",
    laterality: str = "L",
    spacing_mm: float | None = 0.2,
) -> Dataset:
    """Return a picture as an instance in Explicit VR Little Endian, complete for its SOP class.

    Parameters
    ----------
    pixels
        [rows, columns], [frames, rows, columns] or, for a colour picture, uint8
        [rows, columns, 3] with ``photometric="RGB"``. Stored values as they will stand in the file.
    seed
        Names the instance: same seed, same UIDs. What precedes its last ``/`` names the study.
    sop_class
        DX (either), CR or Secondary Capture; any other class gets only what is common to all
        images, which is enough to be sent but not to be valid.
    photometric
        PhotometricInterpretation. The pixels are not touched.
    bits_stored
        BitsStored, at most the bits of the array's type (the default).
    body_part
        BodyPartExamined; a key of `ANATOMIC_REGIONS` is coded for DX as well.
    laterality
        R, L, B or U (unpaired).
    spacing_mm
        ImagerPixelSpacing (PixelSpacing in Secondary Captures) in both directions, or None to
        leave it out.

    Returns
    -------
    Dataset
        With ``file_meta``. Patient, dates and descriptions are empty for the caller to set.
    """
    colour = photometric == "RGB"
    bits_allocated = pixels.dtype.itemsize * 8
    bits_stored = bits_stored or bits_allocated
    study = seed.rpartition("/")[0] or seed

    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = uid_from("instance", seed)
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID

    # Patient, General Study, General Series (PS3.3 C.7.1.1, C.7.2.1, C.7.3.1): type 2 may be empty.
    for keyword in [
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "StudyDate",
        "StudyTime",
        "AccessionNumber",
        "ReferringPhysicianName",
        "StudyID",
    ]:
        setattr(ds, keyword, "")
    ds.StudyInstanceUID = uid_from("study", study)
    ds.SeriesInstanceUID = uid_from("series", study, str(sop_class))
    ds.SeriesNumber = 1
    ds.InstanceNumber = 1
    ds.Manufacturer = "Osteon"
    ds.BodyPartExamined = body_part
    ds.PatientOrientation = ["L", "F"]
    ds.ImageType = ["ORIGINAL", "PRIMARY", ""]
    ds.BurnedInAnnotation = "NO"
    ds.LossyImageCompression = "00"

    # Image Pixel (PS3.3 C.7.6.3)
    if colour:
        rows, columns = pixels.shape[:2]
        ds.PlanarConfiguration = 0
    else:
        rows, columns = pixels.shape[-2:]
        if pixels.ndim == 3:
            ds.NumberOfFrames = pixels.shape[0]
    ds.SamplesPerPixel = 3 if colour else 1
    ds.PhotometricInterpretation = photometric
    ds.Rows, ds.Columns = rows, columns
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits_allocated, bits_stored, bits_stored - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    data = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("<")).tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OB" if bits_allocated == 8 else "OW"

    _SPECIFIC.get(sop_class, _only_modality)(ds, laterality)
    if spacing_mm is not None and not colour:
        if sop_class == SecondaryCaptureImageStorage:
            ds.PixelSpacing = [spacing_mm, spacing_mm]
        else:
            ds.ImagerPixelSpacing = [spacing_mm, spacing_mm]
    return ds


def _dx(ds: Dataset, laterality: str) -> None:
    """Add DX Series, DX Anatomy, DX Image and DX Detector (PS3.3 C.8.11.1 to C.8.11.4)."""
    processed = ds.SOPClassUID == DigitalXRayImageStorageForPresentation
    ds.Modality = "DX"
    ds.PresentationIntentType = "FOR PRESENTATION" if processed else "FOR PROCESSING"
    ds.ImageLaterality = laterality
    known = ANATOMIC_REGIONS.get(str(ds.BodyPartExamined))
    value, meaning, _ = known if known else ("66019005", "Limb", True)
    ds.AnatomicRegionSequence = Sequence([code(value, "SCT", meaning)])
    ds.PixelIntensityRelationship = "LOG"
    ds.PixelIntensityRelationshipSign = -1 if ds.PhotometricInterpretation == "MONOCHROME1" else 1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", "1", "US"
    ds.PresentationLUTShape = (
        "INVERSE" if ds.PhotometricInterpretation == "MONOCHROME1" else "IDENTITY"
    )
    ds.DetectorType = "SCINTILLATOR"
    ds.PositionerType = "NONE"
    ds.AcquisitionContextSequence = Sequence([])
    if processed:
        _whole_range_window(ds)


def _cr(ds: Dataset, laterality: str) -> None:
    """Add CR Series and CR Image (PS3.3 C.8.1.1, C.8.1.2)."""
    ds.Modality = "CR"
    ds.Laterality = laterality if laterality in {"L", "R"} else ""
    ds.ViewPosition = ""
    _whole_range_window(ds)


def _sc(ds: Dataset, laterality: str) -> None:
    """Add SC Equipment (PS3.3 C.8.6.1)."""
    ds.Modality = "OT"
    ds.ConversionType = "WSD"
    ds.Laterality = laterality if laterality in {"L", "R"} else ""
    ds.ImageType = ["DERIVED", "SECONDARY"]


def _only_modality(ds: Dataset, laterality: str) -> None:
    ds.Modality = "OT"
    ds.Laterality = laterality if laterality in {"L", "R"} else ""


def _whole_range_window(ds: Dataset) -> None:
    """Add the window that shows every stored value, as stored (PS3.3 C.11.2)."""
    half = 1 << (ds.BitsStored - 1)
    ds.WindowCenter = str(0 if ds.PixelRepresentation else half)
    ds.WindowWidth = str(2 * half)


_SPECIFIC = {
    DigitalXRayImageStorageForPresentation: _dx,
    DigitalXRayImageStorageForProcessing: _dx,
    ComputedRadiographyImageStorage: _cr,
    SecondaryCaptureImageStorage: _sc,
}
