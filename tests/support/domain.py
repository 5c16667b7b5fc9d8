"""Made-up values of the domain, a clock that is set by hand, and an empty database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from studies import tables
from studies.database import Database
from studies.model import (
    Band,
    Box,
    Finding,
    ImageReading,
    Instance,
    ModelRef,
    ObjectKind,
    Outgoing,
    ProducedObject,
    Reading,
    Region,
    RegionReading,
    RegionScore,
    Sender,
)

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
STUDY = "1.2.826.0.1.3680043.10.99.1"
DX = "1.2.840.10008.5.1.4.1.1.1.1"
EXPLICIT = "1.2.840.10008.1.2.1"
MODEL = ModelRef(name="fracture-leg", version="1.0.0", sha256="0" * 64, kind="bone")


@dataclass
class HandClock:
    """A clock that stands still until it is moved."""

    now: datetime = NOON
    moves: list[float] = field(default_factory=list)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> None:
        self.moves.append(seconds)
        self.now += timedelta(seconds=seconds)


def empty_database(folder: Path) -> Database:
    """A new SQLite database with every table."""
    return with_tables(f"sqlite:///{folder / 'test.sqlite'}")


def with_tables(url: str) -> Database:
    """The empty database of that URL, with every table."""
    database = Database(url)
    tables.metadata.create_all(database.engine)
    return database


@pytest.fixture(params=["sqlite", "postgresql"])
def any_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database with every table; the test runs once on each kind that we support."""
    if request.param == "sqlite":
        database = empty_database(tmp_path)
    else:
        database = with_tables(request.getfixturevalue("postgres_url"))
    yield database
    database.close()


def instance(number: int = 1, **changed: Any) -> Instance:
    """The `number`th image of a study."""
    values: dict[str, Any] = {
        "StudyInstanceUID": STUDY,
        "SeriesInstanceUID": f"{STUDY}.1",
        "SOPInstanceUID": f"{STUDY}.1.{number}",
        "SOPClassUID": DX,
        "TransferSyntaxUID": EXPLICIT,
        "Modality": "DX",
        "PatientID": "P1",
        "IssuerOfPatientID": "",
        "path": f"received/{STUDY}/{number}.dcm",
        "sha256": f"{number:064x}",
        "size": 1000 + number,
        "sender": Sender(ae_title="CR1", address="127.0.0.1"),
        "received_at": NOON,
    }
    return Instance(**{**values, **changed})


def reading(revision: int = 1, *, probability: float = 0.9, **changed: Any) -> Reading:
    """A reading of one image with one positive region."""
    values: dict[str, Any] = {
        "StudyInstanceUID": STUDY,
        "revision": revision,
        "images": (image_reading(probability),),
        "models": (MODEL,),
        "configuration": "c" * 64,
        "created_at": NOON,
    }
    return Reading(**{**values, **changed})


def image_reading(probability: float = 0.9) -> ImageReading:
    """An image of a leg, read as positive from 0.5."""
    positive = probability >= 0.5
    finding = Finding(
        box=Box(left=10, top=20, right=30, bottom=60),
        probability=probability,
        tracking_uid="2.25.1",
    )
    return ImageReading(
        SOPInstanceUID=f"{STUDY}.1.1",
        SOPClassUID=DX,
        SeriesInstanceUID=f"{STUDY}.1",
        rows=100,
        columns=80,
        regions=(RegionScore(region=Region.LEG, probability=0.99),),
        readings=(
            RegionReading(
                region=Region.LEG,
                probability=probability,
                band=Band.POSITIVE if positive else Band.NEGATIVE,
                sensitive=0.5,
                specific=0.5,
                model=MODEL,
                findings=(finding,) if positive else (),
            ),
        ),
    )


def produced(revision: int = 1) -> ProducedObject:
    """A report that was built and kept."""
    return ProducedObject(
        kind=ObjectKind.MEASUREMENT_REPORT,
        SOPClassUID="1.2.840.10008.5.1.4.1.1.88.34",
        SOPInstanceUID=f"2.25.{100 + revision}",
        SeriesInstanceUID=f"2.25.{200 + revision}",
        path=f"produced/{STUDY}/{revision}.dcm",
        sha256="1" * 64,
        size=5000,
    )


def outgoing(*destinations: str, revision: int = 1) -> Outgoing:
    """That report on its way."""
    return Outgoing(object=produced(revision), destinations=destinations)
