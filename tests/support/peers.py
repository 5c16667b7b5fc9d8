"""Real peers for the tests: where their programs are, and how to run them out of the way.

Programs are named by absolute path, because pynetdicom installs programs of the
same names as DCMTK's into the virtual environment, and a test "against DCMTK"
would silently test pynetdicom against itself.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import pytest

from tests.support.waiting import wait_until

_APT = "apt-get install --no-install-recommends"

_DCMTK = [
    "dcm2pnm",
    "dcm2xml",
    "dcmcjpeg",
    "dcmcjpls",
    "dcmconv",
    "dcmcrle",
    "dcmdjpeg",
    "dcmdjpls",
    "dcmdrle",
    "dcmdump",
    "dcmftest",
    "dcmj2pnm",
    "dcml2pnm",
    "dcmmkdir",
    "dcmodify",
    "dcmp2pgm",
    "dcmpschk",
    "dcmqrscp",
    "dcmrecv",
    "dcmsend",
    "dsrdump",
    "dsr2xml",
    "echoscu",
    "findscu",
    "getscu",
    "img2dcm",
    "movescu",
    "storescp",
    "storescu",
    "termscu",
    "wlmscpfs",
    "xml2dsr",
]

# Program name → (absolute path, package that brings it).
_PROGRAMS: dict[str, tuple[str, str]] = {
    **{name: (f"/usr/bin/{name}", "dcmtk") for name in _DCMTK},
    "dciodvfy": ("/usr/bin/dciodvfy", "dicom3tools"),
    "dcentvfy": ("/usr/bin/dcentvfy", "dicom3tools"),
    "gdcmconv": ("/usr/bin/gdcmconv", "libgdcm-tools"),
    "Orthanc": ("/usr/sbin/Orthanc", "orthanc orthanc-dicomweb orthanc-gdcm"),
    "DicomSRValidator": (
        "/usr/bin/DicomSRValidator",
        "pixelmed-apps libpixelmed-java default-jre-headless",
    ),
    "chromium": ("/usr/bin/chromium", "chromium"),
    "unshare": ("/usr/bin/unshare", "util-linux"),
    "nsenter": ("/usr/bin/nsenter", "util-linux"),
    "ip": ("/usr/bin/ip", "iproute2"),
}


def require_program(name: str) -> str:
    """Return the absolute path of a peer's program, or skip the test with the install line."""
    path, package = _PROGRAMS[name]
    if not os.access(path, os.X_OK):
        pytest.skip(f"needs {path}: {_APT} {package}")
    return path


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def peer_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment with ``TCP_NODELAY=1`` and ``extra``.

    Debian's DCMTK leaves Nagle's algorithm on, which makes a sender of small files forty times
    slower than it is and flatters whoever is measured against it.
    """
    return {**os.environ, "TCP_NODELAY": "1", **(extra or {})}


def run_program(
    command: Sequence[str | Path],
    *,
    seconds: float = 120.0,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; stdout and stderr come back together in ``stdout``."""
    return subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
        timeout=seconds,
        env=peer_environment(env),
        cwd=cwd,
        check=False,
    )


_LOOPBACK_UP = 'ip link set lo up && exec "$@"'


@functools.cache
def _can_isolate() -> bool:
    command = ["unshare", "-n", "sh", "-c", _LOOPBACK_UP, "isolated", "true"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def isolated(command: Sequence[str | Path]) -> list[str]:
    """Return ``command`` wrapped so that it runs in a network of its own, loopback up.

    For peers that listen on every address (Orthanc, storescp) and for proving that something
    needs no network. The process id stays that of the command. Skips the test where the system
    does not let us make a network namespace.
    """
    if not _can_isolate():
        pytest.skip(f"needs a network namespace (root, or unshare -rn): {_APT} util-linux iproute2")
    parts = [str(part) for part in command]
    return ["unshare", "-n", "sh", "-c", _LOOPBACK_UP, "isolated", *parts]


@dataclass(kw_only=True)
class Peer:
    """A process that a test has started, ended by its own process id and nobody else's.

    Use it as a context manager. Its output goes to a file, so that a full pipe never stops it.
    The process leads a session of its own: ``stop`` and ``kill`` reach its children too.
    """

    command: Sequence[str | Path]
    name: str
    env: Mapping[str, str] | None = None
    cwd: Path | None = None
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)
    _log: Path | None = field(default=None, init=False, repr=False)

    def start(self) -> Peer:
        """Start the process."""
        handle, log = tempfile.mkstemp(prefix=f"osteon-{self.name}-", suffix=".log")
        self._log = Path(log)
        try:
            self._process = subprocess.Popen(
                [str(part) for part in self.command],
                stdin=subprocess.DEVNULL,
                stdout=handle,
                stderr=subprocess.STDOUT,
                env=peer_environment(self.env),
                cwd=self.cwd,
                start_new_session=True,
            )
        finally:
            os.close(handle)
        return self

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process; an error before ``start``."""
        if self._process is None:
            raise RuntimeError(f"{self.name} has not been started")
        return self._process

    @property
    def pid(self) -> int:
        """Process id, which is the id of its group as well."""
        return self.process.pid

    def is_running(self) -> bool:
        """Whether the process has not ended yet."""
        return self.process.poll() is None

    def output(self) -> str:
        """Everything written so far to stdout and stderr."""
        return self._log.read_text(errors="replace") if self._log and self._log.exists() else ""

    def wait_for_output(self, text: str, seconds: float = 30.0) -> None:
        """Return once ``text`` has been written; fail with the output if the process ends first."""
        wait_until(
            lambda: text in self.output() or not self.is_running(),
            seconds,
            f"{text!r} from {self.name}",
        )
        if text not in self.output():
            raise AssertionError(f"{self.name} ended without {text!r}:\n{self.output()}")

    def wait_for_port(self, port: int, seconds: float = 30.0) -> None:
        """Return once 127.0.0.1:``port`` accepts connections (in *our* network)."""
        wait_until(
            lambda: accepts(port) or not self.is_running(), seconds, f"{self.name} on {port}"
        )
        if not self.is_running():
            raise AssertionError(f"{self.name} ended before listening:\n{self.output()}")

    def signal(self, number: int) -> None:
        """Send a signal to the process alone, not to its children."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """End the process and its children at once, as a lost machine would (SIGKILL)."""
        self._signal_group(signal.SIGKILL)
        self.process.wait(10)

    def stop(self, seconds: float = 10.0) -> int:
        """Ask the process to end (SIGTERM), then make it; return its exit status."""
        if self.is_running():
            self._signal_group(signal.SIGTERM)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self._signal_group(signal.SIGKILL)
        return self.process.wait(10)

    def _signal_group(self, number: int) -> None:
        # It may end between our look and our signal, which is what we wanted.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def __enter__(self) -> Peer:
        return self.start() if self._process is None else self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        if error is not None:
            # pytest shows it beside the failure, where the reason usually stands.
            sys.stderr.write(f"--- output of {self.name}\n{self.output()}\n")
        if self._log is not None:
            self._log.unlink(missing_ok=True)


class PrivateNetwork:
    """A network with nothing but loopback that several processes share.

    Examples
    --------
    >>> with PrivateNetwork() as network, Peer(
    ...     command=network.command(["/usr/sbin/Orthanc", "orthanc.json"]), name="orthanc"
    ... ) as orthanc:
    ...     network.run(["/usr/bin/echoscu", "127.0.0.1", "4242"])
    """

    def __init__(self) -> None:
        self._holder = Peer(
            command=isolated(["sh", "-c", "echo ready; exec sleep infinity"]), name="network"
        )

    def command(self, command: Sequence[str | Path]) -> list[str]:
        """Return ``command`` wrapped so that it runs inside this network (same process id)."""
        parts = [str(part) for part in command]
        return [require_program("nsenter"), "-t", str(self._holder.pid), "-n", *parts]

    def run(
        self,
        command: Sequence[str | Path],
        *,
        seconds: float = 120.0,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end inside this network."""
        return run_program(self.command(command), seconds=seconds, env=env, cwd=cwd)

    def listens(self, port: int) -> bool:
        """Whether something inside this network listens on TCP ``port``."""
        # A view of /proc/<pid>/net is that process's network; 0A is LISTEN (tcp_states.h).
        suffix = f":{port:04X}"
        for table in ("tcp", "tcp6"):
            lines = Path(f"/proc/{self._holder.pid}/net/{table}").read_text().splitlines()[1:]
            if any(f[1].endswith(suffix) and f[3] == "0A" for f in map(str.split, lines)):
                return True
        return False

    def __enter__(self) -> PrivateNetwork:
        self._holder.start()
        self._holder.wait_for_output("ready")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._holder.__exit__(kind, error, traceback)


def accepts(port: int) -> bool:
    """Whether 127.0.0.1:``port`` accepts a TCP connection."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Validation:
    """What a validator said: ``errors`` decide, the whole ``output`` explains."""

    errors: tuple[str, ...]
    output: str


def dciodvfy(path: Path) -> Validation:
    """Check a file with dicom3tools; an error is a line that starts with "Error"."""
    result = run_program([require_program("dciodvfy"), "-new", path])
    lines = result.stdout.splitlines()
    errors = tuple(line for line in lines if line.startswith(("Error", "Fatal")))
    if not lines:
        errors = ("dciodvfy said nothing at all",)
    return Validation(errors=errors, output=result.stdout)


def pixelmed_sr(path: Path) -> Validation:
    """Check an SR with PixelMed's DicomSRValidator, which IHE's AIR tests prescribe (9 to 32 s)."""
    # Java's own limits on XPath expressions are too low for the validator's style sheets.
    limits = ("ExprGrpLimit", "ExprOpLimit", "TotalOpLimit")
    options = " ".join(f"-Djdk.xml.xpath{limit}=0" for limit in limits)
    result = run_program(
        [require_program("DicomSRValidator"), path],
        seconds=300,
        env={"JAVA_TOOL_OPTIONS": options},
    )
    errors = [line for line in result.stdout.splitlines() if line.startswith("Error")]
    if "IOD validation complete" not in result.stdout:
        errors.append("the validation did not complete")
    return Validation(errors=tuple(errors), output=result.stdout)


def dsrdump(path: Path) -> Validation:
    """Read an SR with DCMTK's dsrdump; its exit status is the verdict."""
    result = run_program([require_program("dsrdump"), path])
    failed = result.returncode != 0
    return Validation(
        errors=(f"dsrdump ended with {result.returncode}",) if failed else (),
        output=result.stdout,
    )
