"""`osteon up` as a test sees it: started, sent to by DCMTK, asked through its database and PACS."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom.filereader import read_dataset

from studies.catalogue import Catalogue
from studies.database import Database
from studies.model import Status, Study
from tests.support.pacs import Pacs, running_pacs
from tests.support.peers import Peer, free_port, require_program, run_program
from tests.support.waiting import wait_until


@dataclass
class Up:
    """A node that runs, or is about to."""

    folder: Path
    environment: dict[str, str]
    pacs: Pacs

    @property
    def port(self) -> str:
        return self.environment["OSTEON_DICOM_PORT"]

    @property
    def data(self) -> Path:
        return Path(self.environment["OSTEON_DATA_DIR"])

    def start(self) -> Peer:
        """`osteon up`; returns once it says that it is up."""
        peer = Peer(
            command=[sys.executable, "-m", "osteon", "up"],
            name="up",
            env=self.environment,
            cwd=self.folder,
        ).start()
        peer.wait_for_output("Osteon is up", 180)
        return peer

    def send(self, *files: Path) -> None:
        """C-STORE by DCMTK; every file must be accepted."""
        told = self.offer(*files)
        accepted = re.search(r"with status SUCCESS\s*: (\d+)", told)
        assert accepted is not None, told
        assert int(accepted[1]) == len(files), told

    def offer(self, *files: Path) -> str:
        """C-STORE by DCMTK; what dcmsend says of it, since it exits 0 after a refusal too."""
        command = [require_program("dcmsend"), "-v", "-aec", "OSTEON", "127.0.0.1", self.port]
        return run_program([*command, *map(str, files)]).stdout

    def statuses(self, *uids: str) -> list[Status]:
        with Database(f"sqlite:///{self.data / 'osteon.sqlite'}") as database:
            return [Catalogue(database).study(uid).status for uid in uids]

    def study(self, uid: str) -> Study:
        """The study as the node's database holds it."""
        with Database(f"sqlite:///{self.data / 'osteon.sqlite'}") as database:
            return Catalogue(database).study(uid)

    def wait_for_reports(self, *uids: str) -> None:
        """Wait until every study is read and its report has come to the PACS."""

        def all_there() -> bool:
            return set(uids) <= set(self.reported())

        wait_until(all_there, 180, "every report")

    def reported(self) -> list[str]:
        """Studies whose report came to the PACS, once for each time that it came."""
        return [study_of(data) for data in self.pacs.files]


def study_of(encoded: bytes) -> str:
    """The Study Instance UID of an encoded data set."""
    return str(read_dataset(BytesIO(encoded), False, True).StudyInstanceUID)


@contextmanager
def node_with_pacs(parent: Path) -> Iterator[Up]:
    """A node on free ports, in a folder whose name has a space, with a PACS; not yet started."""
    folder = parent / "my node"
    folder.mkdir()
    with running_pacs() as pacs:
        destination = f'[{{ae_title = "PACS", host = "127.0.0.1", port = {pacs.port}}}]'
        yield Up(
            folder=folder,
            pacs=pacs,
            environment={
                "OSTEON_DATA_DIR": str(folder / "data"),
                "OSTEON_DICOM_PORT": str(free_port()),
                "OSTEON_WEB_PORT": str(free_port()),
                "OSTEON_QUIET_SECONDS": "0.5",
                "OSTEON_LEASE_SECONDS": "3",
                "OSTEON_RESERVE_BYTES": "0",
                "OSTEON_DESTINATIONS": destination,
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
        )
