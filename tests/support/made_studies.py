"""A database with made-up studies in every state, for the pages that show them."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from studies import tables
from studies.database import Database
from studies.journal import Journal
from studies.lifecycle import Lifecycle
from studies.model import (
    Box,
    Finding,
    ImageReading,
    ModelRef,
    Outgoing,
    Reading,
    Region,
    RegionReading,
    Sender,
    StudyDescription,
)
from studies.outbox import Outbox
from studies.rules import band_of
from tests.support.domain import HandClock, instance, produced

ROOT = "1.2.826.0.1.3680043.10.99"


def model_of(region: Region) -> ModelRef:
    name = f"bone-{region.replace('_', '-')}"
    return ModelRef(name=name, version="1.0.0", sha256="0" * 64, kind="bone")


def region_read(
    region: Region, probability: float, *boxes: Box, experimental: bool = False
) -> RegionReading:
    """One region, with the thresholds 0.3 and 0.7."""
    band = band_of(probability, sensitive=0.3, specific=0.7)
    findings = [
        Finding(box=box, probability=probability - 0.07 * n, tracking_uid=f"2.25.{n}")
        for n, box in enumerate(boxes)
    ]
    return RegionReading(
        region=region,
        probability=probability,
        band=band,
        sensitive=0.3,
        specific=0.7,
        model=model_of(region),
        findings=tuple(findings),
        experimental=experimental,
    )


class Studies:
    """Makes studies, one after the other, each a little later than the last."""

    def __init__(self, database: Database, now: datetime) -> None:
        self.database = database
        self.clock = HandClock(now)
        self.journal = Journal(database, self.clock)
        self.lifecycle = Lifecycle(database, self.clock)
        self.outbox = Outbox(database, self.clock)
        self._count = 0

    def receive(self, *, images: int = 1, PatientID: str = "P1", **description: str) -> str:
        """A study that is being received; its UID."""
        self._count += 1
        uid = f"{ROOT}.{self._count}"
        for number in range(1, images + 1):
            one = instance(
                number,
                StudyInstanceUID=uid,
                SeriesInstanceUID=f"{uid}.1",
                SOPInstanceUID=f"{uid}.1.{number}",
                path=f"received/{uid}/{number}.dcm",
                sha256=f"{self._count:032x}{number:032x}",
                PatientID=PatientID,
                sender=Sender(ae_title="XRAY_ROOM_1", address="10.20.0.7"),
                received_at=self.clock(),
            )
            self.journal.receive(one, StudyDescription(**description))
        return uid

    def complete(self, uid: str) -> None:
        """Let it be quiet for long enough."""
        self.clock.forward(6)
        assert uid in self.lifecycle.complete_studies(quiet_seconds=5, open_association_seconds=60)

    def read(
        self,
        uid: str,
        *per_image: tuple[RegionReading, ...] | str,
        notes: tuple[str, ...] = (),
        destinations: tuple[str, ...] = (),
    ) -> None:
        """Read a complete study; a text is the reason why an image was not analysed."""
        lease = self.lifecycle.claim(uid, "worker-1", seconds=60)
        assert lease is not None
        begun = self.clock()
        self.clock.forward(1.4)
        images = tuple(
            ImageReading(
                SOPInstanceUID=f"{uid}.1.{number}",
                SOPClassUID="1.2.840.10008.5.1.4.1.1.1.1",
                SeriesInstanceUID=f"{uid}.1",
                rows=2400,
                columns=2000,
                readings=() if isinstance(seen, str) else seen,
                not_analysed=seen if isinstance(seen, str) else None,
                notes=notes,
            )
            for number, seen in enumerate(per_image, start=1)
        )
        models = {seen.model.name: seen.model for image in images for seen in image.readings}
        reading = Reading(
            StudyInstanceUID=uid,
            revision=1,
            images=images,
            models=tuple(models.values()),
            configuration="c" * 64,
            created_at=begun,
        )
        report = produced(self._count + 1000)
        assert self.lifecycle.finish(
            lease, reading, [Outgoing(object=report, destinations=destinations)]
        )

    def deliver(self, destination: str, *, refused: str | None = None) -> None:
        """Send what is on its way to a destination, or have it refused for good."""
        self.clock.forward(0.3)
        taken = self.outbox.take(destination, hold_seconds=60)
        assert taken is not None
        if refused is None:
            self.outbox.sent(taken, detail="0x0000 Success", seconds=0.04)
        else:
            self.outbox.bury(taken, refused)

    def fail(self, uid: str, reason: str) -> None:
        """End a complete study as FAILED."""
        lease = self.lifecycle.claim(uid, "worker-1", seconds=60)
        assert lease is not None
        assert self.lifecycle.fail(lease, reason)


def made_up(database: Database, now: datetime) -> Studies:
    """A morning's work: a study in each state, of people who do not exist."""
    studies = Studies(database, now - timedelta(hours=4))

    def study(*per_image: Any, hours: float, ID: str, **values: Any) -> str:
        keep = {key: values.pop(key) for key in ("notes", "destinations") if key in values}
        uid = studies.receive(PatientID=ID, images=len(per_image), **values)
        studies.complete(uid)
        studies.read(uid, *per_image, **keep)
        studies.clock.now = now - timedelta(hours=hours)
        return uid

    wrist = Box(left=812, top=1180, right=1090, bottom=1416)
    study(
        (region_read(Region.KNEE, 0.04),),
        (region_read(Region.KNEE, 0.02),),
        hours=3.4,
        ID="MADE-UP-04",
        PatientName="SAMPLE^Ines",
        StudyDescription="Knee, 2 views",
        destinations=("pacs",),
    )
    studies.deliver("pacs")
    study(
        (region_read(Region.HAND_WRIST, 0.93, wrist), region_read(Region.FOREARM, 0.12)),
        (region_read(Region.HAND_WRIST, 0.81, wrist),),
        hours=2.5,
        ID="MADE-UP-01",
        PatientName="EXAMPLE^Anna",
        AccessionNumber="A-2001",
        PatientBirthDate="19580312",
        StudyDate="20260301",
        StudyDescription="Left wrist, 2 views",
        notes=("WindowWidth 0: percentiles used",),
        destinations=("pacs", "archive"),
    )
    studies.deliver("pacs")
    studies.deliver("archive", refused="archive: 0x0122 SOP class not supported")
    study(
        (region_read(Region.ELBOW, 0.52, Box(left=400, top=700, right=620, bottom=930)),),
        "the image is too small (64 x 64 pixels)",
        hours=1.2,
        ID="MADE-UP-02",
        PatientName="MUSTER^Jörg",
        StudyDescription="Elbow",
        destinations=("pacs",),
    )
    study(
        "BodyPartExamined says CHEST, which is not a limb",
        hours=0.9,
        ID="MADE-UP-03",
        PatientName="EJEMPLO^Zoë",
        BodyPartExamined="CHEST",
    )
    study(
        (region_read(Region.HIP, 0.78, experimental=True),),
        hours=0.5,
        ID="MADE-UP-05",
        PatientName="PROBE^Lena",
        StudyDescription="Hip, right",
        destinations=("pacs",),
    )
    broken = studies.receive(PatientID="MADE-UP-06", PatientName="TEST^Otto")
    studies.complete(broken)
    studies.fail(broken, "worker-1 showed no life while reading (3 tries)")
    ready = studies.receive(PatientID="MADE-UP-07", PatientName="DEMO^Maja", images=3)
    studies.complete(ready)
    studies.clock.now = now - timedelta(seconds=20)
    studies.receive(PatientID="MADE-UP-08", PatientName="SPECIMEN^Paul", StudyDescription="Ankle")
    return studies


def announce(database: Database, now: datetime, *kinds: str, **facts: Any) -> None:
    """Rows of processes that were seen just now."""
    with database.writing() as connection:
        for kind in kinds:
            connection.execute(
                tables.processes.insert().values(
                    id=f"{kind}-{len(facts)}-{kind}",
                    kind=kind,
                    host="made-up",
                    pid=1,
                    started_at=now,
                    seen_at=now,
                    facts=json.dumps(facts),
                )
            )
