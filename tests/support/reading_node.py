"""A node that reads: files in place, a database, a real broker, a worker process, a sweep."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import psutil
from pydicom.dataset import Dataset

from studies.catalogue import Catalogue
from studies.clock import utc_now
from studies.database import Database
from studies.files import Files
from studies.journal import Journal, Receipt
from studies.model import Instance, Sender, Status, Study, StudyDescription
from studies.presence import living
from studies.settings import Settings
from tests.support.broker import Broker
from tests.support.dicom_making import to_bytes
from tests.support.domain import with_tables
from tests.support.peers import Peer
from tests.support.waiting import wait_until
from worker.sweep import run_sweep

_WORKER = """
from studies.settings import load_settings
from worker.app import run_worker
run_worker(load_settings())
"""
SENDER = Sender(ae_title="CR1", address="127.0.0.1")
# The destination need not be there: these tests ask what is put on its way, and how often.
_DESTINATIONS = '[{ae_title = "PACS", host = "127.0.0.1", port = 104}]'


@dataclass
class ReadingNode:
    """Everything between the listener and the sender."""

    settings: Settings
    database: Database
    broker: Broker
    workers: list[Peer] = field(default_factory=list)

    @property
    def catalogue(self) -> Catalogue:
        return Catalogue(self.database)

    def receive(self, datasets: Sequence[Dataset]) -> str:
        """Keep images as the listener does, and promise them; the study's UID."""
        files, journal = Files(self.settings.data_dir), Journal(self.database)
        for dataset in datasets:
            data = to_bytes(dataset)
            path = f"received/{dataset.StudyInstanceUID}/{dataset.SOPInstanceUID}.dcm"
            files.write(path, data)
            answer = journal.receive(_instance(dataset, path, data), StudyDescription())
            assert answer.receipt is Receipt.ACCEPTED
        return str(datasets[0].StudyInstanceUID)

    def start_worker(self, *, wait: bool = True) -> Peer:
        """A worker process; returns once it is ready to read."""
        before = len(self._workers_seen())
        peer = Peer(
            command=[sys.executable, "-c", _WORKER], name="worker", env=self._environment()
        ).start()
        self.workers.append(peer)
        if wait:
            wait_until(
                lambda: len(self._workers_seen()) > before or not peer.is_running(),
                90,
                "a worker that is ready",
            )
            assert peer.is_running(), peer.output()
        return peer

    def children(self, worker: Peer) -> list[psutil.Process]:
        """The processes of a worker that read."""
        return psutil.Process(worker.pid).children()

    def study(self, uid: str) -> Study:
        return self.catalogue.study(uid)

    def wait_for(self, uid: str, *statuses: Status, seconds: float = 90) -> Study:
        """The study, once it is in one of these states."""

        def there() -> Study | None:
            study = self.study(uid)
            return study if study.status in statuses else None

        return wait_until(there, seconds, f"{uid} to be {' or '.join(statuses)}") or self.study(uid)

    def wait_until_read(self, uid: str, *, seconds: float = 90) -> Study:
        """The study, once it has been read, whatever was found."""
        return self.wait_for(
            uid, Status.READ, Status.REPORTED, Status.NOT_ANALYSED, seconds=seconds
        )

    def event_names(self, uid: str) -> list[str]:
        return [event.name for event in self.catalogue.timeline(self.study(uid))]

    def _workers_seen(self) -> list[str]:
        seen = living(self.database, now=utc_now())
        return [process.id for process in seen if process.kind == "worker"]

    def _environment(self) -> dict[str, str]:
        settings = self.settings
        return {
            "OSTEON_DATA_DIR": str(settings.data_dir),
            "OSTEON_DATABASE_URL": settings.resolved_database_url,
            "OSTEON_BROKER_URL": settings.resolved_broker_url,
            "OSTEON_LEASE_SECONDS": json.dumps(settings.lease_seconds),
            "OSTEON_WORKER_PROCESSES": str(settings.worker_processes),
            "OSTEON_DESTINATIONS": _DESTINATIONS,
            "PYTHONPATH": os.pathsep.join(sys.path),
        }


@contextmanager
def reading_node(url: str, folder: Path, broker: Broker) -> Iterator[ReadingNode]:
    """A node with its sweep running; workers are started by the test and ended here."""
    settings = Settings.model_validate(
        {
            "data_dir": folder,
            "database_url": url,
            "broker_url": broker.url,
            "quiet_seconds": 0.2,
            "lease_seconds": 3,
            "worker_processes": 2,
        }
    )
    stop = threading.Event()
    with with_tables(url) as database:
        node = ReadingNode(settings, database, broker)
        sweep = threading.Thread(target=run_sweep, args=(settings, stop), name="sweep")
        sweep.start()
        try:
            yield node
        finally:
            stop.set()
            sweep.join()
            for worker in node.workers:
                worker.__exit__(None, None, None)


def _instance(dataset: Dataset, path: str, data: bytes) -> Instance:
    return Instance(
        StudyInstanceUID=str(dataset.StudyInstanceUID),
        SeriesInstanceUID=str(dataset.SeriesInstanceUID),
        SOPInstanceUID=str(dataset.SOPInstanceUID),
        SOPClassUID=str(dataset.SOPClassUID),
        TransferSyntaxUID=str(dataset.file_meta.TransferSyntaxUID),
        Modality=str(dataset.Modality),
        PatientID=str(dataset.PatientID),
        IssuerOfPatientID="",
        path=path,
        sha256=sha256(data).hexdigest(),
        size=len(data),
        sender=SENDER,
        received_at=utc_now(),
    )
