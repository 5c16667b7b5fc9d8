"""One commit for all who wait. SQLite has one writer, and each commit waits for the disk."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Connection

from studies.database import Database

R = TypeVar("R")


class _Job:
    """What one thread wants to write, and what came of it."""

    def __init__(self, work: Callable[[Connection], Any]) -> None:
        self.work = work
        self.is_done = False
        self.result: Any = None
        self.error: Exception | None = None


class GroupCommit:
    """Runs the short transactions of many threads together, as many as wait, in one commit.

    A job never sees another's failure: if a group fails, each of its jobs is run by itself.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._list = threading.Lock()  # of those who wait; held for moments
        self._turn = threading.Lock()  # of whoever commits; held until the disk has it
        self._waiting: list[_Job] = []

    def run(self, work: Callable[[Connection], R]) -> R:
        """Run `work` in a transaction; committed when this returns.

        Parameters
        ----------
        work
            May be run twice, in a new transaction, if the first was rolled back.
        """
        job = _Job(work)
        with self._list:
            self._waiting.append(job)
        with self._turn:
            # Whoever had the turn before us may have taken our job along.
            if not job.is_done:
                with self._list:
                    group, self._waiting = self._waiting, []
                self._commit(group)
        if job.error is not None:
            raise job.error
        result: R = job.result
        return result

    def _commit(self, group: list[_Job]) -> None:
        try:
            with self._database.writing() as connection:
                results = [job.work(connection) for job in group]
        except Exception as error:  # noqa: BLE001  raised again in the thread whose work it was
            if len(group) > 1:
                for job in group:
                    self._commit([job])
                return
            group[0].error, group[0].is_done = error, True
            return
        for job, result in zip(group, results, strict=True):
            job.result, job.is_done = result, True
