"""Supervisor's part: a configuration for our programs, its process, and questions to it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import xmlrpc.client
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

_LOG_BYTES = "20MB"
_LOG_BACKUPS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """A program to keep running.

    Attributes
    ----------
    name
        Of the program, and of its log file.
    arguments
        Of the command `osteon`.
    priority
        Started in rising order, stopped in falling order, one after the other.
    stop_seconds
        How long it may take to finish what it has in hand.
    """

    name: str
    arguments: Sequence[str]
    priority: int
    stop_seconds: int = 15


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """How a program fares: `word` is supervisor's, as RUNNING, BACKOFF or FATAL."""

    name: str
    word: str
    pid: int


class Supervisor:
    """One supervisord in the foreground of nobody: it dies with us, and its programs with it.

    Parameters
    ----------
    programs
        What to run.
    folder
        For the configuration and supervisor's own log.
    socket
        Unix socket on which it is asked.
    logs
        Folder of the programs' logs.
    environment
        Of the programs.
    held
        File descriptor that supervisord inherits: a lock that lives as long as it does.
    """

    def __init__(
        self,
        programs: Sequence[Program],
        *,
        folder: Path,
        socket: Path,
        logs: Path,
        environment: Mapping[str, str],
        held: int,
    ) -> None:
        self._programs = programs
        self._config = folder / "supervisord.conf"
        self._socket = socket
        self._logs = logs
        # Paths go through the environment: in the file, some characters would be read as its own.
        self._environment = {
            **environment,
            "_OSTEON_COMMAND": shlex.join(
                [*die_with_parent(), sys.executable, "-P", "-m", "osteon"]
            ),
            "_OSTEON_LOGS": str(logs),
            "_OSTEON_RUN": str(folder),
            "_OSTEON_SOCKET": str(socket),
        }
        self._held = held
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start supervisord and with it every program. To be called by the main thread."""
        self._logs.mkdir(parents=True, exist_ok=True)
        self._config.write_text(_configuration(self._programs), encoding="utf-8")
        self._socket.unlink(missing_ok=True)
        with (self._logs / "supervisord.err").open("wb") as errors:
            self._process = subprocess.Popen(
                [
                    *die_with_parent(),
                    *(sys.executable, "-P", "-m", "supervisor.supervisord"),
                    *("--nodaemon", "--silent", "--configuration", str(self._config)),
                ],
                env=self._environment,
                pass_fds=(self._held,),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                # Ctrl-C in a terminal is for us alone: we stop the programs in order.
                start_new_session=True,
            )

    def is_running(self) -> bool:
        """Whether supervisord itself lives."""
        return self._process is not None and self._process.poll() is None

    def states(self) -> tuple[State, ...]:
        """How the programs fare; empty while supervisord does not answer."""
        try:
            answers: Any = self._ask().supervisor.getAllProcessInfo()
        except (OSError, HTTPException, xmlrpc.client.Error):
            return ()
        return tuple(
            State(name=str(a["name"]), word=str(a["statename"]), pid=int(a["pid"])) for a in answers
        )

    def restart(self, name: str) -> bool:
        """Start a program that supervisord has given up; False if it does not answer."""
        try:
            self._ask().supervisor.startProcess(name, False)
        except (OSError, HTTPException, xmlrpc.client.Error):
            return False
        return True

    def stop(self) -> None:
        """Stop every program in falling order of priority, and supervisord after them."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(sum(program.stop_seconds + 5 for program in self._programs))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def log_tail(self, name: str, lines: int = 15) -> list[str]:
        """The last lines that a program has written."""
        return tail(self._logs / f"{name}.log", lines)

    def _ask(self) -> Any:
        from supervisor.xmlrpc import SupervisorTransport

        transport = SupervisorTransport(None, None, serverurl=f"unix://{self._socket}")
        return xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)


def die_with_parent() -> list[str]:
    """The beginning of a command that is killed when its parent ends, where that can be had."""
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []


def tail(path: Path, lines: int) -> list[str]:
    """The last lines of a text file; none if it is not there."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 32768))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    return text.splitlines()[-lines:]


def _configuration(programs: Sequence[Program]) -> str:
    parts = [
        "[supervisord]",
        # What is received and written is about patients: for its owner alone.
        "umask=077",
        "logfile=%(ENV__OSTEON_LOGS)s/supervisord.log",
        "pidfile=%(ENV__OSTEON_RUN)s/supervisord.pid",
        f"logfile_maxbytes={_LOG_BYTES}",
        "nocleanup=true",
        "",
        "[unix_http_server]",
        "file=%(ENV__OSTEON_SOCKET)s",
        "chmod=0700",
        "",
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
    ]
    for program in programs:
        parts += [
            "",
            f"[program:{program.name}]",
            f"command=%(ENV__OSTEON_COMMAND)s {shlex.join(program.arguments)}",
            f"priority={program.priority}",
            "autorestart=true",
            # A program that ends before that has failed to start: models take a while to open.
            "startsecs=20",
            "startretries=3",
            f"stopwaitsecs={program.stop_seconds}",
            "killasgroup=true",
            "redirect_stderr=true",
            f"stdout_logfile=%(ENV__OSTEON_LOGS)s/{program.name}.log",
            f"stdout_logfile_maxbytes={_LOG_BYTES}",
            f"stdout_logfile_backups={_LOG_BACKUPS}",
        ]
    return "\n".join(parts) + "\n"
