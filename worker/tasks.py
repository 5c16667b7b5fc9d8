"""The Celery task: a message that says "look at this study". Thin; the row decides."""

from __future__ import annotations

from collections.abc import Callable

from celery import Celery

from studies.queue import READ_STUDY
from worker.pipeline import StudyReader


def register_tasks(app: Celery, reader: Callable[[], StudyReader]) -> None:
    """Teach an application to read studies.

    Parameters
    ----------
    reader
        Gives this process's reader; called at the first task, after the fork.
    """

    @app.task(name=READ_STUDY, acks_late=True, ignore_result=True)
    def read_study(StudyInstanceUID: str) -> None:
        # The outcome stands in the row. A message of a study that is not ready does nothing.
        reader().read(StudyInstanceUID)
