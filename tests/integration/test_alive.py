"""The health check of a container: the heartbeat of a process on this machine."""

from __future__ import annotations

import socket
import subprocess
import sys
from datetime import timedelta

import pytest

from osteon.alive import is_alive, main
from studies import tables
from studies.clock import utc_now
from studies.database import Database
from studies.presence import Presence


@pytest.fixture
def url(tmp_path, monkeypatch):
    address = f"sqlite:///{tmp_path / 'osteon.sqlite'}"
    monkeypatch.setenv("OSTEON_DATABASE_URL", address)
    database = Database(address)
    tables.metadata.create_all(database.engine)
    database.close()
    return address


def test_a_process_that_beats_is_alive(url):
    """The kind that runs is alive, another kind on the same machine is not."""
    database = Database(url)
    with Presence(database, "worker"):
        worker, sender = main(["worker"]), main(["sender"])
    database.close()

    assert (worker, sender) == (0, 1)


def test_a_process_that_has_stopped_is_not_alive(url):
    """A goodbye is told at once, not after the silence."""
    database = Database(url)
    with Presence(database, "worker"):
        pass
    database.close()

    assert main(["worker"]) == 1


def test_a_silent_process_or_one_elsewhere_is_not_alive(url):
    """A hung process stops beating; another container's heartbeat is not ours."""
    database = Database(url)
    here, now = socket.gethostname(), utc_now()
    with Presence(database, "worker"):
        later = is_alive(database, "worker", host=here, now=now + timedelta(minutes=2))
        elsewhere = is_alive(database, "worker", host=here + "x", now=now)
    database.close()

    assert not later
    assert not elsewhere


def test_a_kind_that_does_not_exist_is_refused():
    """A misspelt health check says so instead of failing for ever."""
    result = subprocess.run(
        [sys.executable, "-m", "osteon.alive", "wroker"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 2
    assert "listener|worker" in result.stderr
