"""Every code that we emit, with its meaning and where code and meaning were checked. Data only.

A code that was not checked against a public source is not here: transverse, oblique, spiral,
displaced and undisplaced fractures therefore go out as text, not as SNOMED CT.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from studies.model import Band, Laterality, Region


class Source(StrEnum):
    """Where a code and its meaning were checked together."""

    DICTIONARY = "code dictionary of pydicom 3.0, made from PS3.16"
    STANDARD = "text of DICOM PS3.16"
    UMLS = "PS3.16 TID 1500, row 12, as highdicom and dcmjs emit it"
    EHDSI = "value set eHDSIMorphology of the European eHealth infrastructure"
    DEMO = "SNOMED International's demonstration of post-coordination"
    BELGIUM = "value set be-vs-diagnostic-imaging-procedure of the Belgian eHealth platform"
    SNOMED = "expressions in the test suites of SNOMED CT tools"
    TEST_DATA = "procedures in public FHIR test data (two sets agree)"
    LOINC = "LOINC, long common names"
    IHE = "IHE Radiology AI Results (AIR), placeholder until the standard assigns a code"


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept (PS3.3 section 8).

    Attributes
    ----------
    value, scheme, meaning
        CodeValue (at most 16 characters), CodingSchemeDesignator, CodeMeaning.
    source
        Where value and meaning were checked together.
    """

    value: str
    scheme: str
    meaning: str
    source: Source = Source.DICTIONARY

    def __post_init__(self) -> None:
        if not (0 < len(self.value) <= 16 and 0 < len(self.meaning) <= 64):
            raise ValueError(f"not a code: {self}")


# --- Documents, observer and image library (TID 1500, 2000, 2010, 1204, 1002, 1600 to 1603) ----

IMAGING_MEASUREMENT_REPORT = Code("126000", "DCM", "Imaging Measurement Report")
LANGUAGE = Code("121049", "DCM", "Language of Content Item and Descendants")
ENGLISH_US = Code("en-US", "RFC5646", "English (United States)", Source.STANDARD)

OBSERVER_TYPE = Code("121005", "DCM", "Observer Type")
DEVICE = Code("121007", "DCM", "Device")
DEVICE_OBSERVER_UID = Code("121012", "DCM", "Device Observer UID")
DEVICE_OBSERVER_NAME = Code("121013", "DCM", "Device Observer Name")
DEVICE_OBSERVER_MANUFACTURER = Code("121014", "DCM", "Device Observer Manufacturer")
DEVICE_OBSERVER_MODEL_NAME = Code("121015", "DCM", "Device Observer Model Name")
DEVICE_OBSERVER_SERIAL_NUMBER = Code("121016", "DCM", "Device Observer Serial Number")

PROCEDURE_REPORTED = Code("121058", "DCM", "Procedure reported")
IMAGE_LIBRARY = Code("111028", "DCM", "Image Library")
IMAGE_LIBRARY_GROUP = Code("126200", "DCM", "Image Library Group")
MODALITY = Code("121139", "DCM", "Modality")
IMAGE_LATERALITY = Code("111027", "DCM", "Image Laterality")
IMAGE_VIEW = Code("111031", "DCM", "Image View")
STUDY_DATE = Code("111060", "DCM", "Study Date")
STUDY_TIME = Code("111061", "DCM", "Study Time")
PIXEL_DATA_ROWS = Code("110910", "DCM", "Pixel Data Rows")
PIXEL_DATA_COLUMNS = Code("110911", "DCM", "Pixel Data Columns")
PATIENT_ORIENTATION_ROW = Code("111044", "DCM", "Patient Orientation Row")
PATIENT_ORIENTATION_COLUMN = Code("111043", "DCM", "Patient Orientation Column")
HORIZONTAL_PIXEL_SPACING = Code("111026", "DCM", "Horizontal Pixel Spacing")
VERTICAL_PIXEL_SPACING = Code("111066", "DCM", "Vertical Pixel Spacing")

OF_INTEREST = Code("113000", "DCM", "Of Interest")
KEY_OBJECT_DESCRIPTION = Code("113012", "DCM", "Key Object Description")
DIAGNOSTIC_IMAGING_REPORT = Code("18748-4", "LN", "Diagnostic Imaging Report")
FINDINGS = Code("121070", "DCM", "Findings")
CONCLUSIONS = Code("121076", "DCM", "Conclusions")
CONCLUSION = Code("121077", "DCM", "Conclusion")

# --- Measurements and evaluations (TID 1410, 1501, 4019) --------------------------------------

IMAGING_MEASUREMENTS = Code("126010", "DCM", "Imaging Measurements")
MEASUREMENT_GROUP = Code("125007", "DCM", "Measurement Group")
TRACKING_IDENTIFIER = Code("112039", "DCM", "Tracking Identifier")
TRACKING_UNIQUE_IDENTIFIER = Code("112040", "DCM", "Tracking Unique Identifier")
FINDING = Code("121071", "DCM", "Finding")
FINDING_SITE = Code("363698007", "SCT", "Finding Site")
LATERALITY = Code("272741003", "SCT", "Laterality")
ASSOCIATED_MORPHOLOGY = Code("116676008", "SCT", "Associated morphology", Source.STANDARD)
ALGORITHM_FAMILY = Code("111000", "DCM", "Algorithm Family")
ALGORITHM_NAME = Code("111001", "DCM", "Algorithm Name")
ALGORITHM_VERSION = Code("111003", "DCM", "Algorithm Version")
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
CERTAINTY_OF_FINDING = Code("111012", "DCM", "Certainty of Finding")
IMAGE_REGION = Code("111030", "DCM", "Image Region")
SOURCE_OF_MEASUREMENT = Code("121112", "DCM", "Source of Measurement")
QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations", Source.UMLS)
COMMENT = Code("121106", "DCM", "Comment")

FRACTURE_OF_BONE = Code("125605004", "SCT", "Fracture of bone", Source.SNOMED)

PERCENT = Code("%", "UCUM", "Percent")
MILLIMETRE = Code("mm", "UCUM", "mm")
PIXELS = Code("{pixels}", "UCUM", "Pixels", Source.STANDARD)

# --- Presence (CID 240), side (CID 244), view (CID 4010) --------------------------------------

PRESENT = Code("52101004", "SCT", "Present")
ABSENT = Code("272519000", "SCT", "Absent")
UNDETERMINED = Code("373068000", "SCT", "Undetermined")

PRESENCE = {Band.POSITIVE: PRESENT, Band.DOUBTFUL: UNDETERMINED, Band.NEGATIVE: ABSENT}

SIDES = {
    Laterality.RIGHT: Code("24028007", "SCT", "Right"),
    Laterality.LEFT: Code("7771000", "SCT", "Left"),
    Laterality.BOTH: Code("51440002", "SCT", "Bilateral"),
}

ANTERO_POSTERIOR = Code("399348003", "SCT", "antero-posterior")
POSTERO_ANTERIOR = Code("272479007", "SCT", "postero-anterior")
LATERAL = Code("399067008", "SCT", "lateral")
OBLIQUE = Code("399182000", "SCT", "oblique")
AXIAL = Code("399061009", "SCT", "axial")
LEFT_LATERAL = Code("399173006", "SCT", "left lateral")
RIGHT_LATERAL = Code("399198007", "SCT", "right lateral")

# ViewCodeSequence by code value: SNOMED CT, and SRT as older devices send it.
VIEWS_BY_CODE = {
    **{
        view.value: view
        for view in (
            ANTERO_POSTERIOR,
            POSTERO_ANTERIOR,
            LATERAL,
            OBLIQUE,
            AXIAL,
            LEFT_LATERAL,
            RIGHT_LATERAL,
        )
    },
    "R-10206": ANTERO_POSTERIOR,
    "R-40888": POSTERO_ANTERIOR,
    "R-102CD": LATERAL,
    "R-102C1": OBLIQUE,
    "R-10241": AXIAL,
    "R-10236": LEFT_LATERAL,
    "R-10232": RIGHT_LATERAL,
}

# ViewPosition (0018,5101): the defined terms of CR (PS3.3 C.8.1.1), then what devices really send.
VIEWS_BY_POSITION = {
    "AP": ANTERO_POSTERIOR,
    "PA": POSTERO_ANTERIOR,
    "LL": LEFT_LATERAL,
    "RL": RIGHT_LATERAL,
    "LAT": LATERAL,
    "LATERAL": LATERAL,
    "OBL": OBLIQUE,
    "OBLIQUE": OBLIQUE,
    "AXIAL": AXIAL,
}

# CID 29, as far as radiographs go.
MODALITIES = {
    "CR": Code("CR", "DCM", "Computed Radiography"),
    "DX": Code("DX", "DCM", "Digital Radiography"),
    "RF": Code("RF", "DCM", "Radiofluoroscopy"),
    "XA": Code("XA", "DCM", "X-Ray Angiography"),
    "RG": Code("RG", "DCM", "Radiographic imaging"),
    "IO": Code("IO", "DCM", "Intra-oral Radiography"),
    "PX": Code("PX", "DCM", "Panoramic X-Ray"),
    "MG": Code("MG", "DCM", "Mammography"),
    "CT": Code("CT", "DCM", "Computed Tomography"),
    "MR": Code("MR", "DCM", "Magnetic Resonance"),
}

# --- Kind of fracture --------------------------------------------------------------------------

# Words of radiology → associated morphology. What is missing here is reported as text.
MORPHOLOGY = {
    "fracture": Code("72704001", "SCT", "Fracture", Source.EHDSI),
    "open": Code("52329006", "SCT", "Fracture, open", Source.EHDSI),
    "closed": Code("20946005", "SCT", "Fracture, closed", Source.EHDSI),
    "comminuted": Code("13321001", "SCT", "Fracture, comminuted", Source.DEMO),
    "linear": Code("134317008", "SCT", "Linear fracture", Source.DEMO),
    "greenstick": Code("442085002", "SCT", "Greenstick fracture", Source.EHDSI),
    "avulsion": Code("27515001", "SCT", "Avulsion", Source.EHDSI),
    "stress": Code("23382007", "SCT", "Stress fracture", Source.EHDSI),
    "pathologic": Code("22640007", "SCT", "Pathologic fracture", Source.EHDSI),
    "compression": Code("21947006", "SCT", "Compression fracture", Source.EHDSI),
    "dislocation": Code("87642003", "SCT", "Dislocation", Source.EHDSI),
}

# --- Equipment and other references ------------------------------------------------------------

SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")
ACQUISITION_EQUIPMENT = Code("109101", "DCM", "Acquisition Equipment")
PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment")
PROCESSING_ALGORITHM = Code("Newcode1", "99IHE", "Processing Algorithm", Source.IHE)

# --- Regions -------------------------------------------------------------------------------------

# For what is no radiograph, and in connectathon mode: PixelMed's copy of CID 100 (of 2022) knows
# no plain X-ray.
IMAGING_PROCEDURE = Code("363679005", "SCT", "Imaging procedure")
# For radiographs on which no region was read.
PLAIN_X_RAY = Code("168537006", "SCT", "Plain X-ray", Source.BELGIUM)


@dataclass(frozen=True, slots=True)
class BodyPart:
    """What a part of the body is called in the places where we name it.

    Attributes
    ----------
    name
        For people, lower case.
    site
        Anatomy: Finding Site.
    procedure
        Plain X-ray of it, SNOMED CT: Procedure reported.
    order
        The same as a LOINC order, for HL7 and FHIR; None where LOINC has none that we checked.
    """

    name: str
    site: Code
    procedure: Code
    order: Code | None


def _part(
    name: str,
    site: tuple[str, str],
    procedure: tuple[str, str],
    order: tuple[str, str] | None,
    *,
    site_source: Source = Source.DICTIONARY,
    procedure_source: Source = Source.BELGIUM,
) -> BodyPart:
    return BodyPart(
        name,
        Code(site[0], "SCT", site[1], site_source),
        Code(procedure[0], "SCT", procedure[1], procedure_source),
        None if order is None else Code(order[0], "LN", order[1], Source.LOINC),
    )


# Our model reads hand and wrist as one region. Where nothing says which one was examined, we say
# "wrist and/or hand" and "upper limb": both are true, and a guess would send half of the readers
# to the wrong place.
HAND_OR_WRIST = _part(
    "hand or wrist",
    ("299706009", "Bone structure of wrist and/or hand"),
    ("713023004", "Plain X-ray of upper limb"),
    None,
    site_source=Source.SNOMED,
)

REGIONS = {
    Region.HAND_WRIST: HAND_OR_WRIST,
    Region.FOREARM: _part(
        "forearm",
        ("14975008", "Forearm"),
        ("783544001", "Plain X-ray of forearm"),
        ("24891-4", "XR Radius and Ulna Views"),
    ),
    Region.ELBOW: _part(
        "elbow",
        ("16953009", "Elbow joint"),
        ("713025006", "Plain X-ray of elbow"),
        ("24676-9", "XR Elbow Views"),
    ),
    Region.HUMERUS: _part(
        "humerus",
        ("85050009", "Humerus"),
        ("713026007", "Plain X-ray of humerus"),
        ("28567-6", "XR Humerus Views"),
    ),
    Region.SHOULDER: _part(
        "shoulder",
        ("16982005", "Shoulder"),
        ("783543007", "Plain X-ray of shoulder"),
        ("24909-4", "XR Shoulder Views"),
    ),
    Region.HIP: _part(
        "hip",
        ("24136001", "Hip joint"),
        ("783628002", "Plain X-ray of hip"),
        ("24762-7", "XR Hip Views"),
    ),
    Region.THIGH: _part(
        "thigh",
        ("68367000", "Thigh"),
        ("241075002", "Plain X-ray of femur"),
        ("24704-9", "XR Femur Views"),
    ),
    Region.KNEE: _part(
        "knee",
        ("72696002", "Knee"),
        ("1290407002", "Plain X-ray of knee region"),
        ("28565-0", "XR Knee Views"),
        procedure_source=Source.TEST_DATA,
    ),
    Region.LEG: _part(
        "lower leg",
        ("30021000", "Lower leg"),
        ("1290525006", "Plain X-ray of lower leg"),
        ("25011-8", "XR Tibia and Fibula Views"),
    ),
    Region.ANKLE: _part(
        "ankle",
        ("70258002", "Ankle joint"),
        ("1290459008", "Plain X-ray of ankle region"),
        ("24541-5", "XR Ankle Views"),
        procedure_source=Source.TEST_DATA,
    ),
    Region.FOOT: _part(
        "foot",
        ("56459004", "Foot"),
        ("1290452004", "Plain X-ray of foot"),
        ("24709-8", "XR Foot Views"),
    ),
}

# BodyPartExamined (PS3.16 annex L) that says more than the region of the model which reads it.
PARTS_WITHIN = {
    (Region.HAND_WRIST, "HAND"): _part(
        "hand",
        ("85562004", "Hand"),
        ("713027003", "Plain X-ray of hand"),
        ("28582-5", "XR Hand Views"),
    ),
    (Region.HAND_WRIST, "WRIST"): _part(
        "wrist",
        ("74670003", "Wrist joint"),
        ("713024005", "Plain X-ray of wrist region"),
        ("24619-9", "XR Wrist Views"),
    ),
    (Region.HAND_WRIST, "FINGER"): _part(
        "finger",
        ("7569003", "Finger"),
        ("786844003", "Plain X-ray of finger"),
        ("24706-4", "XR Finger Views"),
    ),
    (Region.HAND_WRIST, "THUMB"): _part(
        "thumb", ("76505004", "Thumb"), ("783542002", "Plain X-ray of thumb"), None
    ),
}

# AnatomicRegionSequence by code value → BodyPartExamined, for the parts above.
PARTS_BY_CODE = {
    **{part.site.value: stated for (_, stated), part in PARTS_WITHIN.items()},
    "8205005": "WRIST",  # "Wrist region structure" beside CID 4031's "Wrist joint"
    "T-D8700": "HAND",
    "T-15460": "WRIST",
    "T-D8800": "FINGER",
    "T-D8810": "THUMB",
}


def body_part(region: Region, stated: str | None = None) -> BodyPart:
    """Return what a region is called, as exactly as the sender's own statement allows.

    Parameters
    ----------
    stated
        BodyPartExamined of the image, or None; one that lies outside the region says nothing.
    """
    return PARTS_WITHIN.get((region, stated or ""), REGIONS[region])
