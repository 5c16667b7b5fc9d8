"""The timeline of a study: what happened to it, when, and how long it took."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, select

from studies import tables
from studies.model import Event

_INSERT = tables.events.insert()


def add_event(
    connection: Connection,
    study_id: int,
    at: datetime,
    name: str,
    detail: str = "",
    seconds: float | None = None,
) -> None:
    """Add a step to a study's timeline, within the caller's transaction."""
    connection.execute(
        _INSERT,
        {"study_id": study_id, "at": at, "name": name, "detail": detail, "seconds": seconds},
    )


def timeline(connection: Connection, study_id: int) -> tuple[Event, ...]:
    """Every step of a study, the oldest first."""
    rows = connection.execute(
        select(tables.events).where(tables.events.c.study_id == study_id).order_by("at", "id")
    )
    return tuple(
        Event(at=row.at, name=row.name, detail=row.detail, seconds=row.seconds) for row in rows
    )
