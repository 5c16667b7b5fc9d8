"""The worker process: models opened once, then Celery on all cores."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache

import structlog
from celery import Celery

from studies.clock import utc_now
from studies.database import Database
from studies.presence import Presence
from studies.queue import make_celery
from studies.settings import Settings
from worker.analysis import Analyst
from worker.pipeline import StudyReader
from worker.sessions import CPU
from worker.tasks import register_tasks

_log = structlog.get_logger()


def run_worker(settings: Settings) -> None:
    """Read studies until SIGTERM, which lets those in hand be finished.

    On a CPU one process per core reads with one thread each: sessions are opened before the fork,
    so that a further process costs megabytes, not the models again. On a GPU two threads share
    one process, since CUDA does not survive a fork.

    Raises
    ------
    ConfigurationError
        If a model or the device is not as the settings say.
    """
    analyst = Analyst.open(settings, threads=1)
    on_cpu = analyst.provider == CPU
    processes = settings.worker_processes or ((os.cpu_count() or 1) if on_cpu else 2)
    database = Database(settings.resolved_database_url)
    facts = {
        "device": settings.device,
        "provider": analyst.provider,
        "processes": processes,
        "models": [f"{model.name} {model.version}" for model in analyst.models],
        "models_proven_at": utc_now().isoformat(),
    }
    with database, Presence(database, "worker", facts) as presence:
        app = make_celery(settings)
        register_tasks(app, _reader_of(settings, analyst, presence.id))
        _log.info("worker ready", **facts)
        _run(app, processes, pool="prefork" if on_cpu else "threads")


def _reader_of(settings: Settings, analyst: Analyst, owner: str) -> Callable[[], StudyReader]:
    """A function that gives this process's reader, with a database connection of its own."""

    @cache
    def reader_in(_pid: int) -> StudyReader:
        # A connection that was opened before the fork must not be used after it.
        database = Database(settings.resolved_database_url)
        return StudyReader(settings, database, analyst, owner)

    return lambda: reader_in(os.getpid())


def _run(app: Celery, processes: int, *, pool: str) -> None:
    worker = app.Worker(
        concurrency=processes,
        pool=pool,
        loglevel="WARNING",
        # Nobody listens to these, and each costs round trips to the broker.
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        send_events=False,
        quiet=True,
    )
    worker.start()
