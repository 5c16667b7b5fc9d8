"""A listener on a free port with an empty database, and what it has kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from sqlalchemy import Row, select

from dicom_node.listener import Listener
from studies import tables
from studies.database import Database
from studies.files import Files
from studies.journal import Journal
from studies.presence import Presence
from studies.settings import Settings
from tests.support.dicom_making import to_bytes
from tests.support.raw_association import RawAssociation
from tests.support.waiting import wait_until


@dataclass
class Node:
    """A running listener with everything that it writes to."""

    settings: Settings
    listener: Listener
    database: Database
    files: Files
    journal: Journal

    @property
    def port(self) -> int:
        return self.listener.port

    def rows(self, table: Any) -> list[Row[Any]]:
        """Every row of a table."""
        with self.database.reading() as connection:
            return list(connection.execute(select(table)).all())

    def instances(self) -> list[Row[Any]]:
        return self.rows(tables.instances)

    def closed_associations(self, count: int) -> list[Row[Any]]:
        """The rows of `count` associations, once all of them are closed."""

        def closed() -> list[Row[Any]]:
            rows = self.rows(tables.associations)
            ended = len(rows) == count and all(row.closed_at for row in rows)
            return rows if ended else []

        return wait_until(closed, 20, f"{count} closed associations")

    def kept_files(self) -> set[str]:
        """Every file below received/, relative to the data directory."""
        return self._below("received")

    def spool_files(self) -> set[str]:
        return self._below("spool")

    def quarantined_files(self) -> set[str]:
        return self._below("quarantine")

    def _below(self, folder: str) -> set[str]:
        root = self.files.root
        return {str(p.relative_to(root)) for p in (root / folder).rglob("*") if p.is_file()}

    def send(self, ds: Dataset, *, data: bytes | None = None, **options: Any) -> Dataset:
        """Store one made-up instance on an association of its own; the response."""
        with RawAssociation(
            self.port, [(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID)], **options
        ) as association:
            return association.store(
                encoded(ds) if data is None else data, ds.SOPClassUID, ds.SOPInstanceUID
            )


def encoded(ds: Dataset) -> bytes:
    """The data set as it goes over the network: the file without preamble and file meta."""
    return without_meta(to_bytes(ds))


def without_meta(file: bytes) -> bytes:
    """A file's data set (PS3.10 7.1: group length of group 0002 at 140)."""
    assert file[128:132] == b"DICM"
    return file[144 + int.from_bytes(file[140:144], "little") :]


def digest(data: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def read_back(path: Path) -> Dataset:
    """A kept file as pydicom reads it."""
    return pydicom.dcmread(BytesIO(path.read_bytes()))


@contextmanager
def running_node(
    folder: Path, *, database_url: str | None = None, **changed: Any
) -> Iterator[Node]:
    """A listener on a free port of 127.0.0.1; `changed` are settings."""
    values = {"data_dir": folder / "data", "reserve_bytes": 0, "network_seconds": 20, **changed}
    settings = Settings.model_validate(values)
    files = Files(settings.data_dir, reserve_bytes=settings.reserve_bytes)
    database = Database(database_url or settings.resolved_database_url)
    tables.metadata.create_all(database.engine)
    journal = Journal(database)
    try:
        with (
            Presence(database, "listener") as presence,
            Listener(settings, files, journal, presence.id, port=0) as listener,
        ):
            yield Node(settings, listener, database, files, journal)
    finally:
        database.close()
