"""The one task of Celery, thin: a message says which study, the pipeline does the rest."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from typing import Final

import structlog
from celery import Celery
from sqlalchemy.exc import SQLAlchemyError

from studies.queue import READ_STUDY
from worker.pipeline import StudyReader

_log = structlog.get_logger()
_C_LIBRARY: Final = ctypes.CDLL(None)


class PerProcess:
    """The reader of this process: made anew after a fork, since no connection survives one.

    Parameters
    ----------
    make
        Opens the database, and the models where they could not be opened before the fork.
    """

    def __init__(self, make: Callable[[], StudyReader]) -> None:
        self._make = make
        self._reader: StudyReader | None = None
        self._pid = 0
        self._lock = threading.Lock()

    def __call__(self) -> StudyReader:
        """The reader of the process that calls, made at its first call."""
        with self._lock:
            if self._reader is None or self._pid != os.getpid():
                self._reader = self._make()
                self._pid = os.getpid()
            return self._reader


def register(app: Celery, reader: Callable[[], StudyReader]) -> None:
    """Let an application read studies."""

    def read_study(StudyInstanceUID: str) -> None:
        try:
            reader().read(StudyInstanceUID)
        except SQLAlchemyError as error:
            # The message is done with all the same: the row is the truth. Once the database is
            # back, the sweep rings again, or takes the study from us when its lease ends.
            _log.warning(
                "database away", StudyInstanceUID=StudyInstanceUID, error=type(error).__name__
            )

        finally:
            _give_memory_back()

    app.task(name=READ_STUDY)(read_study)


def _give_memory_back() -> None:
    """Return the room of a study's images to the system: glibc would keep it for each process."""
    trim = getattr(_C_LIBRARY, "malloc_trim", None)
    if trim is not None:
        trim(0)
