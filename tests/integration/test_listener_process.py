"""The listener as a process: started, stopped, and killed in the middle of a transfer."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian
from sqlalchemy import select

from dicom_node.listener import run_listener
from studies import tables
from studies.clock import utc_now
from studies.database import Database
from studies.files import Files
from studies.presence import living
from studies.settings import Settings
from tests.support.dicom_making import make, picture
from tests.support.listening import digest, encoded, without_meta
from tests.support.peers import Peer, accepts, free_port
from tests.support.raw_association import Ended, RawAssociation
from tests.support.shared import PROJECT_ROOT
from tests.support.waiting import wait_until

PROGRAM = """
import signal, sys, threading
from dicom_node.listener import run_listener
from studies.settings import load_settings
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
run_listener(load_settings(), stop)
"""


@contextmanager
def listener_process(folder: Path, port: int, database_url: str, *, fast: bool) -> Iterator[Peer]:
    """A listener in a process of its own."""
    environment = {
        "OSTEON_DATA_DIR": str(folder / "data"),
        "OSTEON_DICOM_PORT": str(port),
        "OSTEON_DATABASE_URL": database_url,
        "OSTEON_RESERVE_BYTES": "0",
        "OSTEON_FAST_RECEIVE": str(fast).lower(),
    }
    with Peer(
        command=[sys.executable, "-c", PROGRAM],
        name="listener",
        env=environment,
        cwd=PROJECT_ROOT,
    ) as process:
        process.wait_for_port(port)
        yield process


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database with every table, on either system."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'osteon.sqlite'}"
    else:
        url = request.getfixturevalue("postgres_url")
    database = Database(url)
    tables.metadata.create_all(database.engine)
    database.close()
    return url


@pytest.mark.kill
@pytest.mark.parametrize("fast", [True, False], ids=["fast", "plain"])
@pytest.mark.parametrize("victims", [5, 12])
def test_what_was_answered_with_success_survives_kill_9(tmp_path, database_url, fast, victims):
    """Killed in mid-transfer of four senders: every success has its row and its whole file."""
    port = free_port()
    promised: dict[str, str] = {}
    lock = threading.Lock()

    def send(sender: int) -> None:
        number = 0
        try:
            association = RawAssociation(
                port, [(make().SOPClassUID, ExplicitVRLittleEndian)], calling=f"CR{sender}"
            )
            while True:
                number += 1
                ds = make(picture(300, 300, seed=number), seed=f"study{sender}/{number}")
                data = encoded(ds)
                answer = association.store(data, ds.SOPClassUID, ds.SOPInstanceUID)
                assert answer.Status == 0
                with lock:
                    promised[ds.SOPInstanceUID] = digest(data)
        except (Ended, OSError):
            association.close()

    with listener_process(tmp_path, port, database_url, fast=fast) as process:
        senders = [threading.Thread(target=send, args=(n,)) for n in range(4)]
        for sender in senders:
            sender.start()
        wait_until(lambda: len(promised) >= victims, 60, "images")
        process.kill()
        for sender in senders:
            sender.join(60)

    files = Files(tmp_path / "data")
    database = Database(database_url)
    with database.reading() as connection:
        rows = {r.sop_instance_uid: r for r in connection.execute(select(tables.instances)).all()}
    database.close()
    assert len(promised) >= victims
    for uid, sha256 in promised.items():
        assert rows[uid].sha256 == sha256
    for row in rows.values():  # also those that were recorded and not yet answered
        assert digest(without_meta(files.absolute(row.path).read_bytes())) == row.sha256

    with listener_process(tmp_path, port, database_url, fast=fast):
        again = make(picture(300, 300, seed=1), seed="study0/1")
        with RawAssociation(port, [(again.SOPClassUID, ExplicitVRLittleEndian)]) as association:
            answer = association.store(encoded(again), again.SOPClassUID, again.SOPInstanceUID)
    assert answer.Status == 0


def test_a_listener_shows_its_presence_and_ends_when_asked(tmp_path, database_url):
    """SIGTERM ends it in order; its row says what it was."""
    port = free_port()
    database = Database(database_url)
    with listener_process(tmp_path, port, database_url, fast=True) as process:
        (shown,) = living(database, now=utc_now())
        process.signal(signal.SIGTERM)
        status = process.process.wait(30)

    assert status == 0
    assert shown.kind == "listener"
    assert shown.facts["ae_title"] == "OSTEON"
    assert shown.facts["port"] == port
    assert living(database, now=utc_now()) == []
    database.close()


def test_a_listener_waits_for_a_database_that_is_away(tmp_path):
    """A node whose database starts later than itself is not a crash loop."""
    port, stop = free_port(), threading.Event()
    (tmp_path / "data").mkdir()
    settings = Settings(data_dir=tmp_path / "data", dicom_port=port, reserve_bytes=0)
    thread = threading.Thread(target=run_listener, args=(settings, stop))
    thread.start()
    try:
        assert not accepts(port)
        database = Database(settings.resolved_database_url)
        tables.metadata.create_all(database.engine)
        database.close()

        wait_until(lambda: accepts(port), 30, "the listener")
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()
