"""`osteon scan`: files and folders read without a network, on all cores, in the order given."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from osteon.logs import set_up_logs
from osteon.scan_file import Job, OpenReader, open_analyst, scan_file
from osteon.scanned import Outcome, Scanned, as_json, failed
from studies.errors import ConfigurationError
from studies.model import Band
from studies.settings import Settings, load_settings
from worklist import words

_WORTH_A_PROCESS = 16  # files; for fewer, opening the models once more takes longer than it saves
_AHEAD = 4  # files handed out per process, so that none waits; few, so that little is lost

_STYLES = {Band.POSITIVE: "bold red", Band.DOUBTFUL: "yellow", Band.NEGATIVE: "green"}
_WIDE = 200  # columns of a table that goes into a file or a pipe


def scan(
    paths: Sequence[Path],
    settings: Settings,
    *,
    as_lines: bool = False,
    save: Path | None = None,
    processes: int | None = None,
    open_reader: OpenReader = open_analyst,
    out: TextIO | None = None,
    err: TextIO | None = None,
) -> int:
    """Read files, and folders with all that is in them.

    Parameters
    ----------
    as_lines
        One JSON object a line and file, written as soon as it is known; else a table at the end.
    save
        Folder for a PNG with what was found, and for DICOM files the report (SR).
    processes
        At most so many; by default one per core, or one where a GPU is to be used.
    open_reader
        Called once per process.
    out, err
        Where results, and progress and warnings, go.

    Returns
    -------
    int
        Exit status: 0; 1 if not a single image could be had, or not all could be saved.

    Raises
    ------
    ConfigurationError
        If a model, the device or the folder to save into is not as it should be.
    """
    results = Console(file=out or sys.stdout, width=None if _is_terminal(out) else _WIDE)
    messages = Console(file=err or sys.stderr, stderr=err is None)
    jobs = list(_jobs(paths, save))
    if save is not None:
        _make_folder(save)
    width = processes or default_processes(settings, len(jobs))
    rows: list[Scanned] = []
    images = unsaved = 0
    with _progress(messages, hidden=len(jobs) < 2 or not messages.is_terminal) as progress:
        task = progress.add_task("reading", total=len(jobs))
        for scanned in _scanned(jobs, settings, open_reader, width):
            progress.advance(task)
            images += scanned.outcome is not Outcome.FAILED
            if scanned.unsaved is not None:
                unsaved += 1
                messages.print(Text(f"not saved: {_shown(scanned.unsaved)}"), style="yellow")
            if as_lines:
                results.file.write(as_json(scanned) + "\n")
                results.file.flush()
            else:
                rows.append(scanned)
    if not jobs:
        messages.print("there is no file to read")
    elif not as_lines:
        results.print(_table(rows))
    return 1 if unsaved or not images else 0


def run_scan(paths: Sequence[Path], *, json: bool = False, save: Path | None = None) -> int:
    """Scan with the settings of this place; parameters and exit status as `scan`."""
    set_up_logs(logging.WARNING)
    return scan(paths, load_settings(), as_lines=json, save=save)


def default_processes(settings: Settings, files: int) -> int:
    """As many processes as there are cores, and work for them; one where a GPU is to be used."""
    worth = 1 + files // _WORTH_A_PROCESS
    if worth == 1 or settings.device == "cuda":
        return 1
    from worker.app import usable_cores

    return min(settings.worker_processes or usable_cores(), worth)


# --- Which files -------------------------------------------------------------------------------


def _jobs(paths: Sequence[Path], save: Path | None) -> Iterator[Job]:
    """Every file, in the order given; below a folder by name, without hidden ones."""
    taken: set[Path] = set()
    for given in paths:
        if not given.is_dir():
            problem = None if given.exists() else "it does not exist"
            yield Job(path=given, problem=problem, save_as=_place(save, Path(given.name), taken))
            continue
        for path, problem in _below(given, apart=save):
            # The folder's own name goes with it: two folders may hold the same names.
            inside = given.resolve().name / path.relative_to(given)
            yield Job(path=path, problem=problem, save_as=_place(save, inside, taken))


def _below(folder: Path, *, apart: Path | None) -> Iterator[tuple[Path, str | None]]:
    closed: list[OSError] = []
    for name, folders, files in os.walk(folder, onerror=closed.append):
        here = Path(name)
        for error in closed:
            where = Path(os.fsdecode(error.filename)) if error.filename else here
            yield where, f"the folder cannot be read: {error.strerror}"
        closed.clear()
        folders[:] = sorted(
            inner
            for inner in folders
            if not inner.startswith(".") and not (apart and _same(here / inner, apart))
        )
        for file in sorted(files):
            if not file.startswith("."):
                yield here / file, None
    for error in closed:
        where = Path(os.fsdecode(error.filename)) if error.filename else folder
        yield where, f"the folder cannot be read: {error.strerror}"


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _place(save: Path | None, inside: Path, taken: set[Path]) -> Path | None:
    """Where a file's outputs go: below `save` as it lies below its folder, never twice."""
    if save is None:
        return None
    place, number = save / inside, 2
    while place in taken:
        place = (save / inside).with_name(f"{inside.name}.{number}")
        number += 1
    taken.add(place)
    return place


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be made: {error.strerror}") from error


# --- Reading -----------------------------------------------------------------------------------


def _scanned(
    jobs: Sequence[Job], settings: Settings, open_reader: OpenReader, processes: int
) -> Iterator[Scanned]:
    if not jobs:
        return iter(())
    if processes > 1:
        return _in_processes(jobs, settings, open_reader, processes)
    return _here(jobs, settings, open_reader)


def _here(jobs: Sequence[Job], settings: Settings, open_reader: OpenReader) -> Iterator[Scanned]:
    reader = open_reader(settings)
    for job in jobs:
        yield scan_file(job, reader, settings)


def _in_processes(
    jobs: Sequence[Job], settings: Settings, open_reader: OpenReader, processes: int
) -> Iterator[Scanned]:
    """Hand out files as they are worked off; give the answers in the order of the files.

    A process that dies (a decoder that crashes, the kernel's OOM killer) takes the whole pool
    with it. The files that were out are then read one by one, so that exactly the file that kills
    is found, and the scan goes on.
    """
    # In this process first: what is wrong with the models is then said once, as one error.
    open_reader(settings)
    waiting = deque(jobs)
    while waiting:
        out: deque[tuple[Job, Future[Scanned]]] = deque()
        pool = _pool(processes, settings, open_reader)
        try:
            while waiting or out:
                while waiting and len(out) < processes * _AHEAD:
                    out.append((waiting[0], pool.submit(_scan_in_process, waiting[0])))
                    waiting.popleft()
                yield out[0][1].result()
                out.popleft()
        except BrokenProcessPool:
            pass
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        for job, future in out:
            done = future.done() and not future.cancelled() and future.exception() is None
            yield future.result() if done else _alone(job, settings, open_reader)


def _alone(job: Job, settings: Settings, open_reader: OpenReader) -> Scanned:
    """Read a file in a process of its own, which may die of it."""
    with _pool(1, settings, open_reader) as pool:
        try:
            return pool.submit(_scan_in_process, job).result()
        except BrokenProcessPool:
            return failed(str(job.path), "the process that read it died (a decoder, or no memory)")


def _pool(processes: int, settings: Settings, open_reader: OpenReader) -> ProcessPoolExecutor:
    # Spawned, not forked: ONNX Runtime's threads do not survive a fork.
    return ProcessPoolExecutor(
        max_workers=processes,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_prepare_process,
        initargs=(settings, open_reader),
    )


_of_this_process: list[Callable[[Job], Scanned]] = []


def _prepare_process(settings: Settings, open_reader: OpenReader) -> None:
    # Ctrl-C reaches the whole group; the parent ends us in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    set_up_logs(logging.WARNING)
    reader = open_reader(settings)
    _of_this_process.append(lambda job: scan_file(job, reader, settings))


def _scan_in_process(job: Job) -> Scanned:
    return _of_this_process[-1](job)


# --- Showing -----------------------------------------------------------------------------------


def _progress(console: Console, *, hidden: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=hidden,
        transient=True,
    )


def _is_terminal(stream: TextIO | None) -> bool:
    return (stream or sys.stdout).isatty()


def _table(rows: Sequence[Scanned]) -> Table:
    table = Table(title=None, caption=f"{words.UNVERIFIED}.", caption_justify="left")
    table.add_column("file", overflow="fold")
    table.add_column("result", no_wrap=True)
    table.add_column("fracture", justify="right", no_wrap=True)
    table.add_column("region or reason", overflow="fold")
    for row in rows:
        result, certainty, remark = _cells(row)
        table.add_row(Text(_shown(row.file)), result, certainty, Text(_shown(remark)))
    return table


def _cells(row: Scanned) -> tuple[Text, str, str]:
    band = row.band
    if band is None or row.reading is None:
        what = "failed" if row.outcome is Outcome.FAILED else words.NOT_ANALYSED
        return Text(what, style="dim"), "", row.reason or ""
    regions = sorted(row.reading.readings, key=lambda r: (-r.band.urgency, -r.probability))
    remark = "; ".join(
        words.REGIONS[seen.region]
        + ("" if len(regions) == 1 else f" {words.percent(seen.probability)}")
        + ("" if seen.band is band else f" ({seen.band})")
        + (" (experimental)" if seen.experimental else "")
        for seen in regions
    )
    return (
        Text(words.BANDS[band], style=_STYLES[band]),
        words.percent(regions[0].probability),
        remark,
    )


def _shown(text: str) -> str:
    """Printable anywhere: a name may hold bytes that are no text, or control characters."""
    readable = os.fsencode(text).decode("utf-8", "replace")
    return "".join(letter if letter.isprintable() else "�" for letter in readable)
