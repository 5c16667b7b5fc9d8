"""The sweep: completes studies, rings for them, and takes them from dead workers."""

from __future__ import annotations

import threading

import structlog
from sqlalchemy.exc import SQLAlchemyError

from studies.clock import Clock, utc_now
from studies.database import Database
from studies.lifecycle import Lifecycle
from studies.presence import Presence, forget_dead
from studies.queue import Doorbell, make_celery
from studies.settings import Settings

PERIOD_SECONDS = 0.5
HOUSEKEEPING_SECONDS = 3600.0

_log = structlog.get_logger()


class Sweep:
    """Looks after the rows that wait for somebody. Several at once do no harm."""

    def __init__(self, settings: Settings, lifecycle: Lifecycle, doorbell: Doorbell) -> None:
        self._settings = settings
        self._lifecycle = lifecycle
        self._doorbell = doorbell

    def step(self) -> int:
        """Do what is due; how many doorbells were rung and heard."""
        complete = self._lifecycle.complete_studies(
            quiet_seconds=self._settings.quiet_seconds,
            open_association_seconds=self._settings.open_association_seconds,
        )
        reaped = self._lifecycle.reap(max_attempts=self._settings.max_attempts)
        for StudyInstanceUID in reaped:
            _log.warning("study taken from a silent worker", StudyInstanceUID=StudyInstanceUID)
        unanswered = self._lifecycle.unanswered()
        due = dict.fromkeys((*complete, *reaped, *unanswered))
        heard = 0
        for StudyInstanceUID in due:
            if not self._doorbell.ring(StudyInstanceUID):
                # The broker is away. The rows stay READY and are rung for again.
                break
            heard += 1
        return heard


def run_sweep(settings: Settings, stop: threading.Event, clock: Clock = utc_now) -> None:
    """Sweep until `stop` is set. A broker or database that is away is waited for."""
    doorbell = Doorbell(make_celery(settings))
    with Database(settings.resolved_database_url) as database, Presence(database, "sweep"):
        sweep = Sweep(settings, Lifecycle(database, clock), doorbell)
        until_housekeeping = 0.0
        while not stop.is_set():
            wait = PERIOD_SECONDS
            try:
                sweep.step()
                if until_housekeeping <= 0:
                    forget_dead(database, now=clock())
                    until_housekeeping = HOUSEKEEPING_SECONDS
            except SQLAlchemyError as error:
                _log.warning("database not reached", error=type(error).__name__)
                wait = 5.0
            until_housekeeping -= wait
            stop.wait(wait)
