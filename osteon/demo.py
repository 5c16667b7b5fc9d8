"""`osteon demo`: a node, a small PACS, and sample radiographs that go in and come back as reports."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

from pydicom import dcmread
from rich.console import Console
from rich.live import Live

from osteon.console import FAILED, say
from osteon.demo_table import Row, demo_table
from osteon.lock import Lock
from osteon.logs import set_up_logs
from osteon.node import Node, reachable
from osteon.samples import Expected, Sample, write_samples
from osteon.sending import send_files, this_node
from osteon.simulator import Simulator
from studies.catalogue import Catalogue
from studies.errors import ConfigurationError, OsteonError, UnknownStudy
from studies.model import DeliveryState, Reading, Status, Study
from studies.outbox import Outbox
from studies.settings import PREFIX, Settings, load_settings

# With one slow core, opening the models takes longest.
MOST_SECONDS = 300.0
_LOOK_SECONDS = 0.3
_MARK = "osteon-demo"
_DONE = (Status.REPORTED, Status.NOT_ANALYSED, Status.FAILED, Status.QUARANTINED)


def run_demo(stop: threading.Event, *, once: bool) -> int:
    """Run the demonstration until `stop` is set, or with `once` until every report is back.

    Returns
    -------
    int
        0 if every sample ended as it should, and its report came back.

    Raises
    ------
    OsteonError
        If the node does not start.
    """
    set_up_logs(logging.WARNING)  # the table tells the rest
    settings = _settings_of_its_own(load_settings())
    _empty(settings.data_dir)
    with Simulator(settings.data_dir / "pacs") as pacs:
        settings = settings.model_copy(update={"destinations": (pacs.destination(),)})
        say("Osteon is starting, with a small PACS that gets its reports …")
        with Node(settings, os.environ) as node:
            if not node.wait_until_ready(stop):
                return FAILED
            samples = _by_study(write_samples(settings.data_dir / "samples"))
            say(f"Sending {len(samples)} sample radiographs by C-STORE …")
            paths = [sample.path for sample in samples.values()]
            answers = send_files(paths, this_node(settings), calling_ae_title="MODALITY")
            for answer in answers:
                if not answer.accepted:
                    say(f"{answer.path.name}: {answer.told}")
            rows = _watch(node, pacs, samples, stop)
            say(f"\nReports    {pacs.folder}/<study>/<report>.dcm (dsrdump shows them as text)")
            say(f"Page       http://{reachable(settings.web_host)}:{settings.web_port}/")
            say(f"Data       {settings.data_dir}")
            if not once:
                say("The node goes on. Ctrl-C stops it.")
                while not stop.wait(_LOOK_SECONDS):
                    node.check()
    wrong = [row for row in rows if not row.as_expected]
    for row in wrong:
        say(f"{row.sample.path.name} did not end as it should: {row.outcome}")
    return FAILED if wrong else 0


def _watch(
    node: Node, pacs: Simulator, samples: Mapping[str, Sample], stop: threading.Event
) -> list[Row]:
    """Show the results as they come, until all have come or it takes too long."""
    console = Console(file=sys.stdout)
    live = Live(console=console, transient=True) if console.is_terminal else None
    deadline = time.monotonic() + MOST_SECONDS
    with live or nullcontext():
        while True:
            node.check()
            rows = [_row(node, pacs, uid, sample) for uid, sample in samples.items()]
            if live is not None:
                live.update(demo_table(rows, pacs.folder), refresh=True)
            done = all(row.is_done for row in rows)
            if done or time.monotonic() > deadline or stop.wait(_LOOK_SECONDS):
                break
    width = None if console.is_terminal else 160
    Console(file=sys.stdout, width=width).print(demo_table(rows, pacs.folder))
    return rows


def _row(node: Node, pacs: Simulator, uid: str, sample: Sample) -> Row:
    catalogue = Catalogue(node.database)
    try:
        study = catalogue.study(uid)
    except UnknownStudy:
        return Row(sample=sample, outcome="not received")
    readings = catalogue.readings(study)
    deliveries = Outbox(node.database).of_study(uid)
    delivered = bool(deliveries) and all(d.state is DeliveryState.SENT for d in deliveries)
    report = next((kept.path for kept in pacs.kept() if kept.StudyInstanceUID == uid), None)
    return Row(
        sample=sample,
        outcome=study.status.value.replace("_", " "),
        reading=readings[-1] if readings else None,
        report=report,
        is_done=study.status in _DONE and (delivered or study.status is Status.FAILED),
        as_expected=report is not None and _fits(sample, study, readings),
    )


def _fits(sample: Sample, study: Study, readings: Sequence[Reading]) -> bool:
    """Whether a sample was read or refused as it should be; what was found is not prescribed."""
    if not readings or study.status is Status.FAILED:
        return False
    refused = readings[-1].not_analysed is not None
    return sample.expected is Expected.EITHER or refused == (
        sample.expected is Expected.NOT_ANALYSED
    )


def _by_study(samples: Sequence[Sample]) -> dict[str, Sample]:
    return {
        str(dcmread(sample.path, specific_tags=["StudyInstanceUID"]).StudyInstanceUID): sample
        for sample in samples
    }


def _settings_of_its_own(settings: Settings) -> Settings:
    """The node's settings on a data directory of its own, on ports that are free."""
    named = f"{PREFIX}DATA_DIR" in os.environ
    return settings.model_copy(
        update={
            "data_dir": (settings.data_dir if named else settings.data_dir / "demo").resolve(),
            "database_url": None,
            "broker_url": None,
            "quiet_seconds": min(settings.quiet_seconds, 2.0),
            "dicom_port": _free(settings.dicom_host, settings.dicom_port),
            "web_port": _free(settings.web_host, settings.web_port),
        }
    )


def _free(host: str, port: int) -> int:
    """The port if nobody listens on it, else one that the system gives."""
    for candidate in (port, 0):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, candidate))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OsteonError(f"no port is free on {host}")


def _empty(folder: Path) -> None:
    """Begin anew: the samples are the same each time, and would be repetitions.

    Raises
    ------
    ConfigurationError
        If the folder holds anything but a former demonstration, or one that still runs.
    """
    if folder.exists() and any(folder.iterdir()):
        if not (folder / _MARK).is_file():
            raise ConfigurationError(
                f"{folder} holds something else: the demonstration wants a folder of its own"
            )
        Lock(folder / "run" / "lock").release()
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARK).write_text("This folder is emptied by `osteon demo`.\n", encoding="utf-8")
