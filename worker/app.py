"""The worker as a process: how it uses the cores or the GPU, its Celery application, its presence.

On a CPU: one process per core, forked after the models are opened, so that all share the weights.
On a GPU: one process with threads, since CUDA does not survive a fork.
"""

from __future__ import annotations

import gc
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

import structlog
from celery import Celery, signals
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from studies.database import Database
from studies.presence import Presence
from studies.queue import QUEUE, make_celery
from studies.settings import Settings
from worker.tasks import PerProcess, register

_log = structlog.get_logger()

_GPU_THREADS: Final = 8  # enough to decode while the GPU computes; more only hold memory
_RETRY_SECONDS: Final = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How a worker uses the machine.

    Attributes
    ----------
    pool
        Celery's: "prefork" (processes) or "threads".
    concurrency
        Studies read at the same time.
    threads
        Within one operator of ONNX Runtime.
    """

    pool: Literal["prefork", "threads"]
    concurrency: int
    threads: int

    @property
    def opens_before_fork(self) -> bool:
        """Whether open models survive the fork: they do unless they have threads of their own."""
        return self.pool == "threads" or self.threads == 1


def cpu_plan(processes: int, cores: int) -> Plan:
    """Processes × threads = cores; 0 processes is one per core."""
    concurrency = processes or cores
    return Plan(pool="prefork", concurrency=concurrency, threads=max(1, cores // concurrency))


def gpu_plan(processes: int, cores: int) -> Plan:
    """One process; its threads prepare images for the GPU. 0 is as many as that takes."""
    return Plan(pool="threads", concurrency=processes or min(cores, _GPU_THREADS), threads=1)


def usable_cores() -> int:
    """Cores that this process may use: a container often has fewer than the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_worker(settings: Settings) -> int:
    """Read studies until SIGTERM; then finish the ones in hand.

    Returns
    -------
    int
        Exit status.

    Raises
    ------
    ConfigurationError
        If a model or the device is not as it should be.
    """
    _one_thread_per_library()
    from studies.files import Files
    from worker.analysis import Analyst
    from worker.pipeline import StudyReader
    from worker.sessions import CUDA

    cores = usable_cores()
    plan = cpu_plan(settings.worker_processes, cores)
    analyst: Analyst | None = Analyst.open(settings, threads=plan.threads)
    assert analyst is not None  # just opened; below it may be let go
    if analyst.provider == CUDA:
        plan = gpu_plan(settings.worker_processes, cores)
    facts = _facts(analyst, plan, settings)
    _log.info("worker starts", **facts)
    opened = analyst if plan.opens_before_fork else None
    analyst = None
    Files(settings.data_dir)
    presence = Presence(_HeldAtFork(settings.resolved_database_url), "worker", facts)

    def make_reader() -> StudyReader:
        models = opened or Analyst.open(settings, threads=plan.threads)
        return StudyReader(
            settings, Database(settings.resolved_database_url), models, owner=presence.id
        )

    reader = PerProcess(make_reader)
    app = make_celery(settings)
    register(app, reader)
    # What lives now lives as long as the worker: uncollected, its pages stay shared by all children.
    gc.collect()
    gc.freeze()
    with _announced(presence), _ready_after_fork(reader):
        return _work(app, plan, presence.id)


def _work(app: Celery, plan: Plan, name: str) -> int:
    """Run Celery's worker in this process until it is asked to end."""
    app.conf.update(
        worker_redirect_stdouts=False,
        worker_enable_remote_control=False,
        # Opening the models in a child may take longer than Celery's four seconds.
        worker_proc_alive_timeout=120.0,
    )
    worker: Any = app.Worker(
        hostname=f"{name}@{socket.gethostname()}",
        pool=plan.pool,
        concurrency=plan.concurrency,
        queues=[QUEUE],
        optimization="fair",
        loglevel="INFO",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    worker.start()
    return int(worker.exitcode or 0)


class _HeldAtFork(Database):
    """A database of the parent process that no fork catches in the middle of a transaction.

    A child that replaces a dead one is forked while the heartbeat's thread lives. Were that thread
    inside SQLite or the driver just then, the child would wait for ever for a lock of theirs.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._lock = threading.RLock()
        os.register_at_fork(
            before=self._lock.acquire,
            after_in_parent=self._lock.release,
            after_in_child=self._lock.release,
        )

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """As in `Database`, but not during a fork."""
        with self._lock, super().writing() as connection:
            yield connection


@contextmanager
def _announced(presence: Presence) -> Iterator[None]:
    """Show the worker as alive from the time at which it is ready, until the end.

    Not before: its first children are forked while no other thread of ours runs, which might
    hold a lock that nobody in the child would ever release.
    """
    stop = threading.Event()
    lock = threading.Lock()
    entered = False

    def announce() -> None:
        nonlocal entered
        while not stop.is_set():
            try:
                with lock:
                    if not stop.is_set():
                        presence.__enter__()
                        entered = True
            except SQLAlchemyError as error:
                _log.warning("presence not written", error=type(error).__name__)
                stop.wait(_RETRY_SECONDS)
            else:
                return

    def on_ready(**_: Any) -> None:
        threading.Thread(target=announce, name="announce", daemon=True).start()

    signals.worker_ready.connect(on_ready, weak=False)
    try:
        yield
    finally:
        signals.worker_ready.disconnect(on_ready)
        stop.set()
        with lock:
            if entered:
                presence.__exit__(None, None, None)


@contextmanager
def _ready_after_fork(reader: Callable[[], object]) -> Iterator[None]:
    """Let each child open what it needs before its first study, not during it."""

    def on_init(**_: Any) -> None:
        try:
            reader()
        except SQLAlchemyError as error:  # away: the first study tries again
            _log.warning("database away", error=type(error).__name__)

    signals.worker_process_init.connect(on_init, weak=False)
    try:
        yield
    finally:
        signals.worker_process_init.disconnect(on_init)


def _facts(analyst: Any, plan: Plan, settings: Settings) -> dict[str, Any]:
    """What the worker says of itself in its row: what is configured, and what is really used."""
    return {
        "device": settings.device,
        "provider": analyst.provider,
        "models": [f"{model.name} {model.version}" for model in analyst.models],
        "configuration": analyst.configuration,
        "pool": plan.pool,
        "processes": plan.concurrency if plan.pool == "prefork" else 1,
        "threads": plan.threads if plan.pool == "prefork" else plan.concurrency,
    }


def _one_thread_per_library() -> None:
    """Keep NumPy's and the codecs' own threads from taking cores that are given out already.

    Holds for libraries that are loaded after this, and for every child.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
