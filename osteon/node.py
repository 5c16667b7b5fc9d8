"""A whole node under a supervisor: what runs, when it is ready, what has failed."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Mapping
from datetime import datetime
from types import TracebackType
from typing import Self

from sqlalchemy.exc import SQLAlchemyError

from osteon.lock import Lock, private_folder
from osteon.migrations import migrate
from osteon.supervision import Program, Supervisor
from studies.clock import utc_now
from studies.database import Database
from studies.errors import ConfigurationError, OsteonError
from studies.files import Files
from studies.presence import living
from studies.settings import CONFIG_VARIABLE, PREFIX, TEST_PREFIX, Settings

# A worker opens and proves its models before it says that it is there.
READY_SECONDS = 180.0
_LOOK_SECONDS = 0.2
_ANNOUNCED = ("listener", "worker", "sweep", "sender", "web")
# A former node's programs may need a moment to end after it was killed.
_FORMER_SECONDS = 10.0


class ProgramFailed(OsteonError):
    """A program of the node does not stay alive; the message holds its last lines."""


class Node:
    """Everything that `osteon up` runs, from the lock on the data directory to the last program.

    Use as a context manager, from the main thread.

    Parameters
    ----------
    settings
        Of the node.
    environment
        What the programs get; settings that it does not hold are added.

    Raises
    ------
    ConfigurationError
        If the data directory is in use, or an address is taken.
    """

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        self._settings = settings
        folder = settings.data_dir.resolve()
        self.logs = folder / "logs"
        self._folder = folder / "run"
        self._database = Database(settings.resolved_database_url)
        self._lock: Lock | None = None
        self._supervisor: Supervisor | None = None
        # A file of settings in the current directory must not fill in what is not set here.
        self._config = self._folder / "osteon.toml"
        self._environment = {
            **_others(environment),
            **as_environment(settings),
            CONFIG_VARIABLE: str(self._config),
        }
        self._begun: datetime = utc_now()
        self._pids: dict[str, int] = {}

    @property
    def database(self) -> Database:
        """The node's database, for who looks at its studies."""
        return self._database

    def __enter__(self) -> Self:
        settings = self._settings
        Files(settings.data_dir)
        private_folder(self._folder)
        self._lock = Lock(self._folder / "lock", wait_seconds=_FORMER_SECONDS)
        self._config.write_text("# The programs' settings are in their environment.\n", "utf-8")
        private_folder(settings.socket_folder)
        _require_free("dicom_port", settings.dicom_host, settings.dicom_port)
        _require_free("web_port", settings.web_host, settings.web_port)
        migrate(self._database)
        self._begun = utc_now()
        self._supervisor = Supervisor(
            programs(settings),
            folder=self._folder,
            socket=settings.socket_folder / "supervisor.sock",
            logs=self.logs,
            environment=self._environment,
            held=self._lock.file,
        )
        self._supervisor.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._supervisor is not None:
            self._supervisor.stop()
        if self._lock is not None:
            self._lock.release()
        self._database.close()

    def wait_until_ready(self, stop: threading.Event) -> bool:
        """Return True once every part is there and answers, False if `stop` is set before.

        Raises
        ------
        ProgramFailed
            If a program ends again and again, or is not there in three minutes.
        """
        waited = 0.0
        while not stop.wait(_LOOK_SECONDS):
            self.check()
            missing = self._missing()
            if not missing:
                return True
            waited += _LOOK_SECONDS
            if waited > READY_SECONDS:
                raise ProgramFailed(self._last_words(missing[0], "is not ready"))
        return False

    def check(self) -> tuple[str, ...]:
        """Names of the programs that have ended since the last look and were started again.

        Raises
        ------
        ProgramFailed
            If one does not stay alive, or the supervisor itself has ended.
        """
        supervisor = self._supervisor
        if supervisor is None or not supervisor.is_running():
            words = "\n".join(self._lines("supervisord.err"))
            raise ProgramFailed(f"the supervisor has ended; see {self.logs}\n{words}")
        again = []
        for state in supervisor.states():
            if state.word == "FATAL":
                raise ProgramFailed(self._last_words(state.name, "does not stay alive"))
            before = self._pids.get(state.name, 0)
            if state.pid and before and state.pid != before:
                again.append(state.name)
            if state.pid:
                self._pids[state.name] = state.pid
        return tuple(again)

    def _missing(self) -> list[str]:
        """Parts that have not said since our start that they are there."""
        try:
            seen = living(self._database, now=utc_now())
        except SQLAlchemyError:
            return list(_ANNOUNCED)
        there = {process.kind for process in seen if process.started_at >= self._begun}
        # These two say that they are there before their sockets are.
        for kind, host, port in (
            ("listener", self._settings.dicom_host, self._settings.dicom_port),
            ("web", self._settings.web_host, self._settings.web_port),
        ):
            if kind in there and not _accepts(host, port):
                there.remove(kind)
        return [kind for kind in _ANNOUNCED if kind not in there]

    def _last_words(self, name: str, what: str) -> str:
        words = "\n".join(f"  {line}" for line in self._lines(f"{name}.log"))
        return f"{name} {what}. The last lines of {self.logs / name}.log:\n{words}"

    def _lines(self, file: str, count: int = 15) -> list[str]:
        path = self.logs / file
        if not path.is_file():
            return []
        return path.read_text(encoding="utf-8", errors="replace").splitlines()[-count:]


def programs(settings: Settings) -> tuple[Program, ...]:
    """What a node runs, in the order in which it is started."""
    broker = (
        () if settings.broker_url else (Program(name="broker", arguments=["broker"], priority=1),)
    )
    return (
        *broker,
        # The listener is stopped first but one: what it promised is on the disk.
        Program(name="worker", arguments=["worker"], priority=10, stop_seconds=60),
        Program(name="sweep", arguments=["sweep"], priority=20),
        Program(name="sender", arguments=["sender"], priority=30, stop_seconds=90),
        Program(name="listener", arguments=["listener"], priority=40, stop_seconds=30),
        Program(name="web", arguments=["web"], priority=50),
    )


def reachable(host: str) -> str:
    """An address under which something that listens on `host` is reached from this machine."""
    return "127.0.0.1" if host in {"", "0.0.0.0", "::"} else host


def _accepts(host: str, port: int) -> bool:
    try:
        with socket.create_connection((reachable(host), port), timeout=1.0) as connection:
            # A connection out of the port that it goes to has met itself, and nobody else.
            return bool(connection.getsockname() != connection.getpeername())
    except OSError:
        return False


def as_environment(settings: Settings) -> dict[str, str]:
    """Settings as variables, so that every program of the node has the same, whoever set them.

    Raises
    ------
    ConfigurationError
        If a value cannot be written so.
    """
    values = settings.model_dump(mode="json", exclude_none=True)
    values["data_dir"] = str(settings.data_dir.resolve())
    return {f"{PREFIX}{key.upper()}": _as_toml(value) for key, value in values.items()}


def _as_toml(value: object) -> str:
    """A plain text as it is; a list or a table as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(_inner(item) for item in value)}]"
    if isinstance(value, dict):
        return _inner(value)
    return str(value)


def _inner(value: object) -> str:
    if isinstance(value, dict):
        pairs = (f"{key} = {_inner(item)}" for key, item in value.items() if item is not None)
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, str):
        return json.dumps(
            value, ensure_ascii=False
        )  # a basic string of TOML takes the same escapes
    return _as_toml(value)


def _others(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without settings: those that are in force come from one place."""
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith(PREFIX) or name.startswith(TEST_PREFIX)
    }


def _require_free(key: str, host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigurationError(
                f"{key}: {host}:{port} cannot be listened on: {error.strerror}. "
                f"Set {PREFIX}{key.upper()} to a free one"
            ) from error
