"""A node without its network: images received into files and journal, workers as processes."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psutil
from pydicom.dataset import Dataset

from studies import tables
from studies.catalogue import Catalogue
from studies.clock import utc_now
from studies.database import Database
from studies.files import Files
from studies.journal import Journal, Receipt
from studies.model import Event as TimelineEvent
from studies.model import Instance, Reading, Sender, Status, Study, StudyDescription
from studies.settings import Settings
from tests.support.dicom_making import make, picture, to_bytes
from tests.support.peers import Peer
from tests.support.shared import PROJECT_ROOT
from tests.support.waiting import wait_until

_WORKER = """
from osteon.logs import set_up_logs
from studies.settings import load_settings
from worker.app import run_worker
set_up_logs()
raise SystemExit(run_worker(load_settings()))
"""


def radiograph(seed: str = "study/1", **elements: Any) -> Dataset:
    """A radiograph that no rule of ours refuses: large enough, of a hand."""
    return make(picture(240, 160), seed=seed, **elements)


@dataclass
class ReadingNode:
    """Settings, files and database of a node, to which a test gives images directly."""

    settings: Settings
    database: Database
    files: Files = field(init=False)
    journal: Journal = field(init=False)
    catalogue: Catalogue = field(init=False)

    def __post_init__(self) -> None:
        self.files = Files(self.settings.data_dir)
        self.journal = Journal(self.database)
        self.catalogue = Catalogue(self.database)

    def receive(self, ds: Dataset, *, file: bytes | None = None) -> Instance:
        """Keep and promise an image as the listener does; `file` stands for its bytes."""
        data = to_bytes(ds) if file is None else file
        path = f"received/{ds.StudyInstanceUID}/{ds.SOPInstanceUID}.dcm"
        self.files.write(path, data)
        instance = Instance(
            StudyInstanceUID=str(ds.StudyInstanceUID),
            SeriesInstanceUID=str(ds.SeriesInstanceUID),
            SOPInstanceUID=str(ds.SOPInstanceUID),
            SOPClassUID=str(ds.SOPClassUID),
            TransferSyntaxUID=str(ds.file_meta.TransferSyntaxUID),
            Modality=str(ds.Modality),
            PatientID=str(ds.PatientID),
            IssuerOfPatientID="",
            path=path,
            sha256=hashlib.sha256(data).hexdigest(),
            size=len(data),
            sender=Sender(ae_title="CR1", address="127.0.0.1"),
            received_at=utc_now(),
        )
        answer = self.journal.receive(instance, StudyDescription())
        assert answer.receipt is Receipt.ACCEPTED
        return instance

    def study(self, StudyInstanceUID: str) -> Study:
        return self.catalogue.study(StudyInstanceUID)

    def readings(self, StudyInstanceUID: str) -> tuple[Reading, ...]:
        return self.catalogue.readings(self.study(StudyInstanceUID))

    def events(self, StudyInstanceUID: str) -> list[TimelineEvent]:
        return list(self.catalogue.timeline(self.study(StudyInstanceUID)))

    def names(self, StudyInstanceUID: str) -> list[str]:
        """Names of the steps of a study's timeline."""
        return [event.name for event in self.events(StudyInstanceUID)]

    def wait_for(self, StudyInstanceUID: str, *statuses: Status, seconds: float = 90.0) -> Study:
        """The study once it stands in one of these states."""
        what = f"{StudyInstanceUID} to be {' or '.join(statuses)}"
        wait_until(lambda: self.study(StudyInstanceUID).status in statuses, seconds, what)
        return self.study(StudyInstanceUID)

    @contextmanager
    def sweeping(self) -> Iterator[None]:
        """The sweep in a thread of the test."""
        from worker.sweep import run_sweep

        stop = Event()
        thread = Thread(target=run_sweep, args=(self.settings, stop), name="sweep")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(60)
            assert not thread.is_alive()

    def worker(self) -> Peer:
        """A worker as a process of its own, on this node's settings; to be started."""
        return Peer(
            command=[sys.executable, "-W", "ignore", "-c", _WORKER],
            name="worker",
            env=self._environment(),
            cwd=PROJECT_ROOT,
        )

    def _environment(self) -> dict[str, str]:
        settings = self.settings
        values = {
            "DATA_DIR": settings.data_dir,
            "DATABASE_URL": settings.resolved_database_url,
            "BROKER_URL": settings.resolved_broker_url,
            "MODELS_DIR": settings.models_dir,
            "DEVICE": "cpu",
            "WORKER_PROCESSES": settings.worker_processes,
            "LEASE_SECONDS": settings.lease_seconds,
            "MAX_ATTEMPTS": settings.max_attempts,
            "AE_TITLE": settings.ae_title,
        }
        names = ", ".join(
            f'{{ae_title = "{d.ae_title}", host = "{d.host}", port = {d.port}}}'
            for d in settings.destinations
        )
        return {
            **{f"OSTEON_{key}": str(value) for key, value in values.items()},
            "OSTEON_DESTINATIONS": f"[{names}]",
            "PYTHONPATH": os.pathsep.join(map(str, [PROJECT_ROOT])),
        }


@contextmanager
def reading_node(
    folder: Path, models: Path, *, database_url: str | None = None, **changed: Any
) -> Iterator[ReadingNode]:
    """A node with an empty database; `changed` are settings."""
    values = {
        "data_dir": folder / "data",
        "models_dir": models,
        "database_url": database_url,
        "device": "cpu",
        "worker_processes": 2,
        "quiet_seconds": 0.2,
        "lease_seconds": 3.0,
        "reserve_bytes": 0,
        "destinations": [{"ae_title": "PACS", "host": "127.0.0.1", "port": 11113}],
        **changed,
    }
    settings = Settings.model_validate(values)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    database = Database(settings.resolved_database_url)
    tables.metadata.create_all(database.engine)
    try:
        yield ReadingNode(settings, database)
    finally:
        database.close()


def children_of(peer: Peer) -> list[psutil.Process]:
    """The processes that a worker has forked."""
    return psutil.Process(peer.pid).children(recursive=True)
