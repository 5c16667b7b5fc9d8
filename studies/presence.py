"""Which processes of the node are alive, and what they really use."""

from __future__ import annotations

import json
import os
import socket
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self

import structlog
from sqlalchemy import delete, exists, select, update
from sqlalchemy.exc import SQLAlchemyError

from studies import tables
from studies.clock import Clock, utc_now
from studies.database import Database

HEARTBEAT_SECONDS = 5.0
_log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True, slots=True)
class Process:
    """A process of the node as its own row shows it.

    Attributes
    ----------
    kind
        "listener", "worker", "sweep", "sender" or "web".
    facts
        What it says of itself: provider, models, address …
    """

    id: str
    kind: str
    host: str
    pid: int
    started_at: datetime
    seen_at: datetime
    facts: Mapping[str, Any]


class Presence:
    """The heartbeat of this process: a row that a thread of its own keeps fresh.

    Use as a context manager. A database that is away does not end the process.
    """

    def __init__(
        self,
        database: Database,
        kind: str,
        facts: Mapping[str, Any] | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self.id = f"{kind}-{uuid.uuid4()}"
        self._kind = kind
        self._facts = dict(facts or {})
        self._database = database
        self._clock = clock
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="presence", daemon=True)

    def __enter__(self) -> Self:
        now = self._clock()
        with self._database.writing() as connection:
            connection.execute(
                tables.processes.insert().values(
                    id=self.id,
                    kind=self._kind,
                    host=socket.gethostname(),
                    pid=os.getpid(),
                    started_at=now,
                    seen_at=now,
                    facts=json.dumps(self._facts),
                )
            )
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._thread.join(timeout=HEARTBEAT_SECONDS)
        # Long ago: a process that has said goodbye is not alive.
        self._touch(self._clock() - timedelta(days=1))

    def state(self, **facts: Any) -> None:
        """Change or add facts; they are visible at once."""
        self._facts |= facts
        self._touch(self._clock())

    def _beat(self) -> None:
        while not self._stopped.wait(HEARTBEAT_SECONDS):
            self._touch(self._clock())

    def _touch(self, seen_at: datetime) -> None:
        try:
            with self._database.writing() as connection:
                connection.execute(
                    update(tables.processes)
                    .where(tables.processes.c.id == self.id)
                    .values(seen_at=seen_at, facts=json.dumps(self._facts))
                )
        except SQLAlchemyError as error:
            _log.warning("heartbeat not written", process=self.id, error=type(error).__name__)


def announce(
    database: Database, kind: str, facts: Mapping[str, Any], stop: threading.Event
) -> Presence | None:
    """Enter a process's presence, however long the database is away; None if `stop` is set first.

    The caller leaves it with `__exit__`.
    """
    while not stop.is_set():
        try:
            return Presence(database, kind, facts).__enter__()
        except SQLAlchemyError as error:
            _log.warning("database away; waiting for it", error=type(error).__name__)
            stop.wait(HEARTBEAT_SECONDS)
    return None


def living(database: Database, *, now: datetime, silence_seconds: float = 30.0) -> list[Process]:
    """Processes that were seen within `silence_seconds`, the oldest first."""
    with database.reading() as connection:
        rows = connection.execute(
            select(tables.processes)
            .where(tables.processes.c.seen_at > now - timedelta(seconds=silence_seconds))
            .order_by(tables.processes.c.started_at)
        ).all()
    return [
        Process(
            id=row.id,
            kind=row.kind,
            host=row.host,
            pid=row.pid,
            started_at=row.started_at,
            seen_at=row.seen_at,
            facts=json.loads(row.facts),
        )
        for row in rows
    ]


def forget_dead(database: Database, *, now: datetime, days: float = 7.0) -> int:
    """Delete processes not seen for `days` to which no association refers; how many."""
    with database.writing() as connection:
        result = connection.execute(
            delete(tables.processes)
            .where(tables.processes.c.seen_at < now - timedelta(days=days))
            .where(~exists().where(tables.associations.c.process_id == tables.processes.c.id))
        )
    return int(result.rowcount)
