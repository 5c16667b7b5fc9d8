"""What keeps studies moving: completeness, doorbells, lost workers, alarms. One loop, no state.

Several sweeps may run at the same time: each change of a study is one conditional update.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from studies.clock import Clock, utc_now
from studies.database import Database
from studies.lifecycle import Lifecycle
from studies.model import Status
from studies.presence import Presence, forget_dead
from studies.queue import Doorbell, make_celery
from studies.settings import Settings

_log = structlog.get_logger()

PAUSE_SECONDS: Final = 0.5
MOST_PAUSE_SECONDS: Final = 15.0
HOUSEKEEPING: Final = timedelta(minutes=1)

Ring = Callable[[str], bool]


class Sweep:
    """One round after the other; each does what is due and remembers only what it has said.

    Parameters
    ----------
    doorbell
        Rings for a study, and knows how many rings are still unheard.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        doorbell: Doorbell,
        clock: Clock = utc_now,
    ) -> None:
        self._settings = settings
        self._database = database
        self._lifecycle = Lifecycle(database, clock)
        self._doorbell = doorbell
        self._clock = clock
        self._housekeeping_due = clock()
        self._alarmed: set[tuple[str, Status, datetime]] = set()

    def round(self) -> None:
        """Do everything that is due now.

        Raises
        ------
        SQLAlchemyError
            If the database is away. Nothing is lost: the next round finds the same rows.
        """
        settings = self._settings
        complete = self._lifecycle.complete_studies(
            quiet_seconds=settings.quiet_seconds,
            open_association_seconds=settings.open_association_seconds,
        )
        lost = self._lifecycle.reap(max_attempts=settings.max_attempts)
        for uid in lost:
            _log.warning("worker lost, study given back", StudyInstanceUID=uid)
        unanswered = self._lifecycle.unanswered()
        if unanswered and (self._doorbell.waiting() or 0) >= len(unanswered):
            # The workers are busy and the rings are still there: more of them would only pile up.
            unanswered = ()
        self._ring((*complete, *lost, *unanswered))
        if self._clock() >= self._housekeeping_due:
            self._housekeeping_due = self._clock() + HOUSEKEEPING
            self._raise_alarms()
            forget_dead(self._database, now=self._clock())

    def _ring(self, uids: Iterable[str]) -> None:
        for uid in uids:
            if not self._doorbell.ring(uid):
                return  # the broker is away: the rows come up again as unanswered

    def _raise_alarms(self) -> None:
        """Name each study that stands still, once for each time it does."""
        overdue = self._lifecycle.overdue(deadlines(self._settings))
        known = self._alarmed
        self._alarmed = {(o.StudyInstanceUID, o.status, o.since) for o in overdue}
        for each in overdue:
            if (each.StudyInstanceUID, each.status, each.since) not in known:
                _log.error(
                    "study past its deadline",
                    StudyInstanceUID=each.StudyInstanceUID,
                    status=each.status.value,
                    since=each.since.isoformat(),
                )


def deadlines(settings: Settings) -> dict[Status, timedelta]:
    """How long a study may stand in a state before somebody is told."""
    quiet = max(settings.quiet_seconds, settings.open_association_seconds)
    return {
        Status.RECEIVING: timedelta(seconds=quiet + 60),
        Status.READY: timedelta(minutes=15),
        Status.READING: timedelta(minutes=15),
        Status.READ: timedelta(hours=1),
    }


def run_sweep(settings: Settings, stop: threading.Event, clock: Clock = utc_now) -> None:
    """Sweep until `stop` is set. Outages of database and broker are waited out, never fatal."""
    database = Database(settings.resolved_database_url)
    presence = Presence(database, "sweep", {"quiet_seconds": settings.quiet_seconds}, clock)
    sweep = Sweep(settings, database, Doorbell(make_celery(settings)), clock)
    pause = PAUSE_SECONDS
    entered = False
    try:
        while not stop.is_set():
            try:
                if not entered:
                    presence.__enter__()
                    entered = True
                sweep.round()
                pause = PAUSE_SECONDS
            except SQLAlchemyError as error:
                pause = min(2 * pause, MOST_PAUSE_SECONDS)
                _log.warning("database away", error=type(error).__name__, again_in_seconds=pause)
            stop.wait(pause)
    finally:
        if entered:
            presence.__exit__(None, None, None)
        database.close()
