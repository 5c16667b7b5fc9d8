"""The commands of docker-compose.yml as processes, on a real PostgreSQL and a real Valkey.

No container engine is needed: what the file runs is run here, with the file's own environment
but for the addresses.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydicom import dcmread

from osteon.alive import is_alive
from osteon.samples import Expected, write_samples
from studies.catalogue import Catalogue
from studies.clock import utc_now
from studies.database import Database
from studies.model import Status
from studies.outbox import Outbox
from tests.support.broker import Broker
from tests.support.pacs import Pacs, running_pacs
from tests.support.peers import Peer, free_port, require_program, run_program
from tests.support.shared import PROJECT_ROOT
from tests.support.waiting import wait_until

SERVICES: dict[str, Any] = yaml.safe_load((PROJECT_ROOT / "docker-compose.yml").read_text())[
    "services"
]
LASTING = ("listener", "worker", "sweep", "sender", "web")


def _command(service: str) -> list[str]:
    program, *arguments = SERVICES[service]["command"]
    return [str(Path(sys.executable).with_name(program)), *arguments]


@dataclass(frozen=True)
class Site:
    """The addresses that a container engine would give."""

    variables: dict[str, str]
    database: Database
    dicom_port: int
    pacs: Pacs

    def environment(self, service: str) -> dict[str, str]:
        """The service's variables, with our addresses in the place of the containers'."""
        stated = SERVICES[service]["environment"]
        return {name: self.variables.get(name, value) for name, value in stated.items()} | {
            name: value for name, value in self.variables.items() if name.endswith(("HOST", "PORT"))
        }

    def alive(self, kind: str) -> bool:
        return is_alive(self.database, kind, host=socket.gethostname(), now=utc_now())


@pytest.fixture
def site(tmp_path: Path, postgres_url: str, broker: Broker) -> Iterator[Site]:
    """A database, a broker and a PACS, and settings that name them."""
    dicom_port, web_port = free_port(), free_port()
    with running_pacs() as pacs:
        config = tmp_path / "osteon.toml"
        config.write_text(
            "quiet_seconds = 0.5\n[[destinations]]\n"
            f'ae_title = "PACS"\nhost = "127.0.0.1"\nport = {pacs.port}\n'
        )
        database = Database(postgres_url)
        yield Site(
            variables={
                "OSTEON_CONFIG": str(config),
                "OSTEON_DATA_DIR": str(tmp_path / "data"),
                "OSTEON_DATABASE_URL": postgres_url,
                "OSTEON_BROKER_URL": broker.url,
                "OSTEON_DICOM_HOST": "127.0.0.1",
                "OSTEON_DICOM_PORT": str(dicom_port),
                "OSTEON_WEB_HOST": "127.0.0.1",
                "OSTEON_WEB_PORT": str(web_port),
            },
            database=database,
            dicom_port=dicom_port,
            pacs=pacs,
        )
        database.close()


@pytest.mark.slow
@pytest.mark.peer
def test_the_services_of_the_compose_file_take_a_study_from_c_store_to_report(
    site: Site, tmp_path: Path
):
    """What runs at scale is what is tested: the same commands, PostgreSQL and Valkey between."""
    dcmsend = require_program("dcmsend")
    films = [s for s in write_samples(tmp_path / "films") if s.expected is Expected.READ]
    studies = {str(dcmread(f.path, stop_before_pixels=True).StudyInstanceUID) for f in films}
    assert films
    migrated = [
        run_program(_command("migrate"), env=site.environment("migrate"), cwd=tmp_path)
        for _ in range(2)
    ]
    assert [m.returncode for m in migrated] == [0, 0], migrated

    with ExitStack() as running:
        for kind in LASTING:
            peer = Peer(command=_command(kind), name=kind, env=site.environment(kind), cwd=tmp_path)
            running.enter_context(peer)
        for kind in LASTING:
            wait_until(partial(site.alive, kind), 120, f"the heartbeat of {kind}")
        sent = run_program(
            [
                *(dcmsend, "--decompress-never", "-aec", "OSTEON"),
                *("127.0.0.1", str(site.dicom_port), *(str(film.path) for film in films)),
            ]
        )
        assert sent.returncode == 0, sent.stdout
        catalogue = Catalogue(site.database)
        wait_until(
            lambda: all(catalogue.study(uid).status is Status.REPORTED for uid in studies),
            240,
            "every study to be reported",
        )

    expected = sum(len(Outbox(site.database).of_study(uid)) for uid in studies)
    assert len(site.pacs.received) == len(set(site.pacs.received)) == expected
    assert expected >= len(studies)
