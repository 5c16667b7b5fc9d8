"""Values of the domain: studies, instances, readings. Knows nothing of DICOM files, SQL or queues."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Region(StrEnum):
    """The part of a limb that an image shows; an image may show several."""

    HAND_WRIST = "hand_wrist"
    FOREARM = "forearm"
    ELBOW = "elbow"
    HUMERUS = "humerus"
    SHOULDER = "shoulder"
    HIP = "hip"
    THIGH = "thigh"
    KNEE = "knee"
    LEG = "leg"
    ANKLE = "ankle"
    FOOT = "foot"


class Laterality(StrEnum):
    """Side of the body, as in (0020,0060) and (0020,0062); unknown is None, never a guess."""

    RIGHT = "R"
    LEFT = "L"
    BOTH = "B"


class Band(StrEnum):
    """What a reading says of a region, by its model's two operating points."""

    POSITIVE = "positive"  # at or above the specific threshold: fracture likely
    DOUBTFUL = "doubtful"  # between the two thresholds: a person has to decide
    NEGATIVE = "negative"  # below the sensitive threshold: no fracture seen

    @property
    def urgency(self) -> int:
        """0 for what can wait, 2 for what is read first."""
        return {Band.NEGATIVE: 0, Band.DOUBTFUL: 1, Band.POSITIVE: 2}[self]


class Status(StrEnum):
    """Where a study stands."""

    RECEIVING = "receiving"  # images may still come
    READY = "ready"  # complete; waits for a worker
    READING = "reading"  # a worker holds the lease
    READ = "read"  # read; its objects wait for delivery, or there is nowhere to send them
    REPORTED = "reported"  # every object has reached every destination
    NOT_ANALYSED = "not_analysed"  # no image that a model may read; the reason is kept
    FAILED = "failed"  # could not be read for a reason that a retry does not mend
    QUARANTINED = "quarantined"  # contradicts what we hold; a person has to look

    @property
    def is_final(self) -> bool:
        """True where nothing more happens unless an image or a person comes."""
        return self in _FINAL


_FINAL = frozenset(
    {Status.READ, Status.REPORTED, Status.NOT_ANALYSED, Status.FAILED, Status.QUARANTINED}
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """Where a finding is, on the image as it was received.

    Attributes
    ----------
    left, top, right, bottom
        Edges in pixels of the stored image, not of the model's input.
        (0, 0) is the outer corner of the top-left pixel (PS3.3 C.18.6-1),
        so a whole image is (0, 0, Columns, Rows).

    Raises
    ------
    ValueError
        If the box has no area.
    """

    left: float
    top: float
    right: float
    bottom: float

    def __post_init__(self) -> None:
        if not (self.left < self.right and self.top < self.bottom):
            raise ValueError(f"box without area: {self}")

    @property
    def edges(self) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) in pixels of the stored image."""
        return (self.left, self.top, self.right, self.bottom)

    def clipped(self, columns: int, rows: int) -> Box:
        """The part of the box that lies on an image of that size, in the same pixels."""
        return Box(
            left=max(0.0, self.left),
            top=max(0.0, self.top),
            right=min(float(columns), self.right),
            bottom=min(float(rows), self.bottom),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelRef:
    """The model that said something, exactly.

    Attributes
    ----------
    name, version
        As on the model's card.
    sha256
        Digest of model.onnx, 64 hexadecimal digits.
    kind
        "trunk", "router" or "bone".
    """

    name: str
    version: str
    sha256: str
    kind: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RegionScore:
    """How sure the router is that a region is in view: probability 0 to 1, calibrated."""

    region: Region
    probability: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One suspected fracture.

    Attributes
    ----------
    box
        Where it is, or None if the model only judges the whole region.
    probability
        0 to 1, calibrated.
    tracking_uid
        Names this finding in every object that shows it (DCM 112040).
    site, type
        Anatomical site and kind of fracture in radiology's words; None where no model says so.
    """

    box: Box | None
    probability: float
    tracking_uid: str
    site: str | None = None
    type: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RegionReading:
    """What one bone model says of one region of one image.

    Attributes
    ----------
    probability
        Of a fracture in this region, 0 to 1, calibrated.
    sensitive, specific
        The two thresholds that were applied: below the first is negative,
        at or above the second is positive.
    experimental
        True where the model's card says that the evidence is too thin to rely on.
    """

    region: Region
    probability: float
    band: Band
    sensitive: float
    specific: float
    model: ModelRef
    findings: tuple[Finding, ...] = ()
    experimental: bool = False

    def __post_init__(self) -> None:
        if self.band is Band.NEGATIVE and self.findings:
            raise ValueError(f"a negative reading of {self.region} carries findings")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageReading:
    """What was seen on one image, or why it was not analysed.

    Attributes
    ----------
    rows, columns
        Size of the stored image in pixels.
    regions
        The router's scores, all regions it knows, highest first.
    readings
        One per region in view that an active model may read.
    not_analysed
        The reason, completing "not analysed, because …"; None if it was read.
    notes
        What was odd and how it was handled ("WindowWidth 0: percentiles used").
    heat_map
        Name of the stored activation map, relative to the data directory, or None.
    """

    SOPInstanceUID: str
    SOPClassUID: str
    SeriesInstanceUID: str
    rows: int
    columns: int
    laterality: Laterality | None = None
    regions: tuple[RegionScore, ...] = ()
    readings: tuple[RegionReading, ...] = ()
    not_analysed: str | None = None
    notes: tuple[str, ...] = ()
    heat_map: str | None = None
    milliseconds: float = 0.0

    def __post_init__(self) -> None:
        if self.not_analysed is not None and self.readings:
            raise ValueError(f"{self.SOPInstanceUID} is both read and not analysed")

    @property
    def band(self) -> Band | None:
        """The most urgent band of its regions; None if not analysed."""
        return max((r.band for r in self.readings), key=lambda b: b.urgency, default=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """Everything that was read on one study, at one revision of its images.

    Attributes
    ----------
    revision
        Counts the readings of a study from 1; a late image or a replay gives the next one.
    configuration
        Digest of the models and settings that decide the outcome; with the revision and
        the images' UIDs it makes the UIDs of everything we send.
    created_at
        UTC.
    predecessor
        Revision that this reading replaces, or None.
    """

    StudyInstanceUID: str
    revision: int
    images: tuple[ImageReading, ...]
    models: tuple[ModelRef, ...]
    configuration: str
    created_at: datetime
    predecessor: int | None = None

    @property
    def band(self) -> Band | None:
        """The most urgent band of its images; None if no image was analysed."""
        bands = [image.band for image in self.images if image.band is not None]
        return max(bands, key=lambda b: b.urgency, default=None)

    @property
    def certainty(self) -> float | None:
        """Highest fracture probability of any region, 0 to 1; None if nothing was analysed."""
        return max((r.probability for i in self.images for r in i.readings), default=None)

    @property
    def not_analysed(self) -> str | None:
        """The reason why nothing could be read; None as soon as one image was."""
        if any(image.not_analysed is None for image in self.images):
            return None
        reasons = sorted({image.not_analysed for image in self.images if image.not_analysed})
        return "; ".join(reasons) or "the study has no image"

    def by_region(self) -> dict[Region, tuple[tuple[ImageReading, RegionReading], ...]]:
        """Each region that was read, with its readings, the most certain first."""
        found: dict[Region, list[tuple[ImageReading, RegionReading]]] = {}
        for image in self.images:
            for reading in image.readings:
                found.setdefault(reading.region, []).append((image, reading))
        return {
            region: tuple(sorted(pairs, key=lambda pair: -pair[1].probability))
            for region, pairs in found.items()
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Sender:
    """Who sent something: calling AE title and network address."""

    ae_title: str
    address: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Instance:
    """One DICOM instance that we have promised to keep.

    Attributes
    ----------
    path
        File as received, relative to the data directory.
    sha256
        Digest of the data set as it came over the network (PS3.5 encoded, without file meta).
    size
        Bytes of that data set.
    PatientID, IssuerOfPatientID
        As sent; empty if the sender gave none. Never invented, never logged.
    """

    StudyInstanceUID: str
    SeriesInstanceUID: str
    SOPInstanceUID: str
    SOPClassUID: str
    TransferSyntaxUID: str
    Modality: str
    PatientID: str
    IssuerOfPatientID: str
    path: str
    sha256: str
    size: int
    sender: Sender
    received_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyDescription:
    """What the worklist shows of a study before it opens an image; empty where the sender is silent.

    Text is decoded, at most 64 to 256 characters as the database allows. Personal: never logged.
    """

    PatientName: str = ""
    PatientBirthDate: str = ""
    PatientSex: str = ""
    AccessionNumber: str = ""
    StudyDate: str = ""
    StudyTime: str = ""
    StudyDescription: str = ""
    BodyPartExamined: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """A study as the database knows it.

    Attributes
    ----------
    revision
        Grows with every accepted instance.
    read_revision
        The study's revision that the newest reading covers; 0 if none.
    readings
        How many readings there are.
    """

    id: int
    StudyInstanceUID: str
    status: Status
    reason: str | None
    description: StudyDescription
    PatientID: str
    instances: int
    revision: int
    read_revision: int
    readings: int
    band: Band | None
    certainty: float | None
    attempts: int
    first_received_at: datetime
    last_received_at: datetime
    changed_at: datetime
    sender: Sender


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One step of a study's timeline.

    Attributes
    ----------
    name
        "received", "complete", "claimed", "read", "sent" …
    detail
        One sentence for the person who asks why; no patient's name.
    seconds
        How long the step took; None where it has no duration.
    """

    at: datetime
    name: str
    detail: str = ""
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
    """A worker's right to read a study until it expires.

    Attributes
    ----------
    token
        Unguessable; only its holder may write the outcome.
    revision
        The study's revision that is read.
    """

    study_id: int
    StudyInstanceUID: str
    token: str
    revision: int
    attempt: int
    expires_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Overdue:
    """A study that stands in a state for longer than it should; somebody has to look."""

    StudyInstanceUID: str
    status: Status
    since: datetime


class ObjectKind(StrEnum):
    """What we make for a PACS."""

    MEASUREMENT_REPORT = "sr"


@dataclass(frozen=True, kw_only=True, slots=True)
class ProducedObject:
    """A DICOM object that we built, kept, and send as kept.

    Attributes
    ----------
    path
        File (PS3.10), relative to the data directory.
    """

    kind: ObjectKind
    SOPClassUID: str
    SOPInstanceUID: str
    SeriesInstanceUID: str
    path: str
    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Outgoing:
    """A produced object and the names of the destinations that want it; there may be none."""

    object: ProducedObject
    destinations: tuple[str, ...]


class DeliveryState(StrEnum):
    """Where one object stands on its way to one destination."""

    PENDING = "pending"  # waits for its next try
    SENDING = "sending"  # a sender holds it
    SENT = "sent"  # the peer answered success or a warning
    DEAD = "dead"  # refused for good; a person has to look


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """One object on its way to one destination."""

    id: int
    StudyInstanceUID: str
    destination: str
    state: DeliveryState
    attempts: int
    next_attempt_at: datetime
    last_error: str | None
    object: ProducedObject
