"""How fast images are received: ours against DCMTK's storescp, Orthanc and a naive handler.

    python -m benchmarks.receive [--rounds 5] [--associations 1 4 16] [--receivers ours storescp]

The sender is DCMTK's dcmsend. DCMTK runs with TCP_NODELAY=1 on both sides: Debian's build leaves
Nagle on, which makes it up to forty times slower than it is. Receivers take turns within a round, each with an empty folder,
because absolute numbers drift on a shared machine: the ratios within a round are what counts.
Everything runs in a network of its own, since storescp and Orthanc listen on every address.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from pydicom.uid import DigitalXRayImageStorageForPresentation

from osteon.wrapping import wrap

PORT = 11112
INSIDE = "OSTEON_BENCHMARK_INSIDE"

OURS = """
import sys, threading, signal
from pathlib import Path
from dicom_node.listener import run_listener
from studies import tables
from studies.database import Database
from studies.settings import Settings
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
settings = Settings(data_dir=Path(sys.argv[1]), dicom_port=int(sys.argv[2]), reserve_bytes=0,
                    fast_receive=sys.argv[3] == "fast")
settings.data_dir.mkdir(exist_ok=True)
tables.metadata.create_all(Database(settings.resolved_database_url).engine)
run_listener(settings, stop)
"""

NAIVE = """
import sys
from pathlib import Path
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, evt, AllStoragePresentationContexts
def store(event):
    ds = event.dataset
    ds.file_meta = event.file_meta
    ds.save_as(Path(sys.argv[1]) / f"{ds.SOPInstanceUID}.dcm", enforce_file_format=True)
    return 0
ae = AE("OSTEON")
ae.maximum_associations = 100
for context in AllStoragePresentationContexts:
    ae.add_supported_context(context.abstract_syntax, ["1.2.840.10008.1.2.1"])
ae.start_server(("127.0.0.1", int(sys.argv[2])), evt_handlers=[(evt.EVT_C_STORE, store)])
"""


@dataclass(frozen=True)
class Receiver:
    """A storage SCP.

    Attributes
    ----------
    command
        Of an empty folder for its files.
    """

    name: str
    command: Callable[[Path], list[str]]


def _orthanc(folder: Path) -> list[str]:
    configuration = {
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "HttpServerEnabled": False,
        "DicomAet": "OSTEON",
        "DicomPort": PORT,
        "DicomCheckCalledAet": False,
        "MaximumPduLength": 131072,
        "ConcurrentJobs": 1,
        "Plugins": [],
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(configuration))
    return ["/usr/sbin/Orthanc", str(path)]


RECEIVERS = (
    Receiver("ours", lambda folder: [sys.executable, "-c", OURS, str(folder), str(PORT), "fast"]),
    Receiver("plain", lambda folder: [sys.executable, "-c", OURS, str(folder), str(PORT), "plain"]),
    Receiver(
        "storescp",
        lambda folder: [
            *("/usr/bin/storescp", "--fork", "+B", "+xa", "-pdu", "131072"),
            *("-od", str(folder), str(PORT)),
        ],
    ),
    Receiver("orthanc", _orthanc),
    Receiver("naive", lambda folder: [sys.executable, "-c", NAIVE, str(folder), str(PORT)]),
)


@dataclass(frozen=True)
class Load:
    """Files of one size; `side` is the rows and columns of 16-bit pixels."""

    name: str
    count: int
    side: int


LOADS = (Load("large", 40, 2236), Load("small", 240, 500))


def make_files(load: Load, folder: Path) -> list[Path]:
    """The load's files, each an image of its own study."""
    noise = np.random.default_rng(0).integers(0, 4096, (load.side, load.side), dtype=np.uint16)
    paths = []
    for number in range(load.count):
        ds = wrap(
            noise,
            seed=f"{load.name}{number}/1",
            sop_class=DigitalXRayImageStorageForPresentation,
            bits_stored=12,
        )
        path = folder / f"{load.name}{number}.dcm"
        ds.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def measure(receiver: Receiver, paths: list[Path], associations: int) -> tuple[float, float]:
    """Seconds of wall time, and of the receiver's CPU time, for sending all files once."""
    folder = Path(tempfile.mkdtemp(prefix="osteon-receive-"))
    environment = {**os.environ, "TCP_NODELAY": "1"}  # for DCMTK on both sides
    server = subprocess.Popen(
        receiver.command(folder),
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for_port(server)
        before = _cpu_seconds(server.pid)
        started = time.perf_counter()
        senders = [
            subprocess.Popen(
                ["/usr/bin/dcmsend", "-aec", "OSTEON", "127.0.0.1", str(PORT), *map(str, share)],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for share in (paths[n::associations] for n in range(associations))
        ]
        statuses = [sender.wait() for sender in senders]
        seconds = time.perf_counter() - started
        cpu = _cpu_seconds(server.pid) - before
    finally:
        server.terminate()
        server.wait(30)
        kept = sum(1 for p in folder.rglob("*") if p.is_file() and p.stat().st_size > 100_000)
        shutil.rmtree(folder)
    if any(statuses) or kept < len(paths):
        raise SystemExit(f"{receiver.name}: {kept} of {len(paths)} files arrived, {statuses}")
    return seconds, cpu


def _wait_for_port(server: subprocess.Popen[bytes]) -> None:
    while server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", PORT)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit("a receiver has not started")


def _cpu_seconds(pid: int) -> float:
    """Of a process, its children and those that have ended."""
    total = 0.0
    parent = psutil.Process(pid)
    for process in [parent, *parent.children(recursive=True)]:
        times = process.cpu_times()
        total += times.user + times.system + times.children_user + times.children_system
    return total


def main() -> None:
    """Measure, and print a table with the median of the rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--associations", type=int, nargs="+", default=[1, 4, 16])
    names = [receiver.name for receiver in RECEIVERS]
    parser.add_argument("--receivers", nargs="+", choices=names, default=names)
    parser.add_argument(
        "--loads", nargs="+", choices=["large", "small"], default=["large", "small"]
    )
    arguments = parser.parse_args()
    if INSIDE not in os.environ:
        script = 'ip link set lo up && exec "$@"'
        command = ["unshare", "-n", "sh", "-c", script, "inside", sys.executable, "-m"]
        environment = {**os.environ, INSIDE: "1"}
        os.execvpe("unshare", [*command, "benchmarks.receive", *sys.argv[1:]], environment)  # noqa: S606, S607
    receivers = [r for r in RECEIVERS if r.name in arguments.receivers]
    with tempfile.TemporaryDirectory() as folder:
        for load in (load for load in LOADS if load.name in arguments.loads):
            paths = make_files(load, Path(folder))
            for associations in arguments.associations:
                _compare(load, paths, associations, receivers, arguments.rounds)


def _compare(
    load: Load, paths: list[Path], associations: int, receivers: list[Receiver], rounds: int
) -> None:
    megabytes = sum(path.stat().st_size for path in paths) / 1e6
    rates: dict[str, list[float]] = defaultdict(list)
    cpus: dict[str, list[float]] = defaultdict(list)
    ratios: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for receiver in receivers:
            seconds, cpu = measure(receiver, paths, associations)
            rates[receiver.name].append(len(paths) / seconds)
            cpus[receiver.name].append(1000 * cpu / len(paths))
        for receiver in receivers:
            ours = rates[receivers[0].name][-1]
            ratios[receiver.name].append(ours / rates[receiver.name][-1])
    print(f"\n{load.name}: {len(paths)} files, {megabytes:.0f} MB, {associations} associations")
    print(f"{'receiver':10} {'files/s':>9} {'MB/s':>7} {'CPU ms/file':>12} {'ours over it':>13}")
    for receiver in receivers:
        rate = statistics.median(rates[receiver.name])
        print(
            f"{receiver.name:10} {rate:9.0f} {rate * megabytes / len(paths):7.0f} "
            f"{statistics.median(cpus[receiver.name]):12.1f} "
            f"{statistics.median(ratios[receiver.name]):12.2f}×",
            flush=True,
        )


if __name__ == "__main__":
    main()
