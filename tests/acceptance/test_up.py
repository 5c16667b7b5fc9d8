"""`osteon up` for real: killed part by part and as a whole; nothing lost, nothing reported twice."""

import os
import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
from pydicom import dcmread

from studies.model import Status
from tests.support.dicom_making import make, picture, write
from tests.support.peers import Peer, require_program, run_program
from tests.support.up_node import Up, node_with_pacs
from tests.support.waiting import wait_until


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    """A node on free ports with a PACS; the test starts it."""
    with node_with_pacs(tmp_path) as up:
        yield up


def study(folder: Path, name: str, images: int = 1) -> tuple[str, list[Path]]:
    """A made-up study as files; its UID and the files."""
    paths = []
    for number in range(images):
        dataset = make(picture(900, 700), seed=f"{name}/{number}", body_part="LEG")
        paths.append(write(dataset, folder / f"{name}-{number}.dcm"))
    return str(dcmread(paths[0], stop_before_pixels=True).StudyInstanceUID), paths


def program(peer: Peer, name: str) -> psutil.Process:
    """The process of a program below `up`."""

    def found() -> psutil.Process | None:
        for process in psutil.Process(peer.pid).children(recursive=True):
            try:
                line = process.cmdline()
            except psutil.NoSuchProcess:
                continue
            is_ours = line[-1:] == [name] or (name == "broker" and "valkey" in line[0])
            if is_ours and "setpriv" not in line[0]:
                return process
        return None

    process = wait_until(found, 60, f"the program {name}")
    assert process is not None
    return process


def answers(echo: list[str]) -> bool:
    """Whether a C-ECHO is answered."""
    return run_program(echo).returncode == 0


def test_each_part_may_be_killed_and_no_study_is_lost(up: Up):
    """kill -9 of broker, worker, listener, sweep and sender in turn, with a study after each."""
    uids = []
    with up.start() as node:
        for name in ("broker", "worker", "listener", "sweep", "sender"):
            killed = program(node, name)
            uid, files = study(up.folder, name, images=2)
            if name != "listener":
                up.send(*files)
            killed.send_signal(signal.SIGKILL)
            psutil.wait_procs([killed], timeout=20)
            if name == "listener":
                program(node, name)
                echo = [require_program("echoscu"), "-aec", "OSTEON", "127.0.0.1", up.port]
                wait_until(partial(answers, echo), 60, "the listener")
                up.send(*files)
            uids.append(uid)
        up.wait_for_reports(*uids)
        node.signal(signal.SIGTERM)
        wait_until(lambda: not node.is_running(), 120, "the node's end")

    assert sorted(up.reported()) == sorted(uids)
    assert len(set(up.pacs.received)) == len(uids)


def test_a_node_that_is_killed_as_a_whole_goes_on_where_it_was(up: Up):
    """kill -9 of the supervisor's parent: nothing is left running, and nothing is lost."""
    uid, files = study(up.folder, "whole", images=8)
    with up.start() as node:
        children = psutil.Process(node.pid).children(recursive=True)
        up.send(*files)
        os.kill(node.pid, signal.SIGKILL)
        gone, left = psutil.wait_procs(children, timeout=30)
        assert left == []
        assert len(gone) >= 6
    with up.start():
        up.wait_for_reports(uid)

    assert up.reported() == [uid]
    assert up.statuses(uid)[0] in {Status.REPORTED, Status.NOT_ANALYSED}


def test_a_second_node_on_the_same_data_is_refused(up: Up):
    """Two nodes would take each other's studies; the message names the process."""
    with up.start() as node:
        second = run_program(
            [sys.executable, "-m", "osteon", "up"], env=up.environment, cwd=up.folder
        )

    assert second.returncode == 2
    assert f"process {node.pid}" in second.stdout
    assert "Traceback" not in second.stdout


def test_a_part_that_cannot_start_ends_the_node_with_its_last_words(up: Up):
    """A models folder without models: `up` says so instead of restarting for ever."""
    up.environment["OSTEON_MODELS_DIR"] = str(up.folder)
    ended = run_program(
        [sys.executable, "-m", "osteon", "up"], env=up.environment, cwd=up.folder, seconds=240
    )

    assert ended.returncode == 1
    assert "worker does not stay alive" in ended.stdout
    assert "no model" in ended.stdout
