"""Whether the node does its work: each part with the reason, and never a guess."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from studies import tables
from studies.clock import Clock, utc_now
from studies.database import Database
from studies.presence import Process, living
from studies.settings import Settings

_CUDA = "CUDAExecutionProvider"
_KINDS = ("listener", "worker", "sweep", "sender")


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One part of the node: whether it is well, and a sentence for the administrator."""

    name: str
    ok: bool
    detail: str


def parts(settings: Settings, database: Database, clock: Clock = utc_now) -> tuple[Part, ...]:
    """Every part that a study needs on its way; asked now, nothing remembered."""
    return (
        _database_part(database),
        _broker_part(settings),
        _disk_part(settings),
        *_process_parts(settings, database, clock),
    )


def is_ready(found: Sequence[Part]) -> bool:
    """Whether a study that came now would be received, read and delivered."""
    return all(part.ok for part in found)


def broker_trouble(settings: Settings, *, seconds: float = 1.0) -> str | None:
    """Why the broker in force does not answer a ping; None if it does."""
    import redis

    try:
        with broker_client(settings, seconds=seconds) as client:
            client.ping()
    except (redis.RedisError, OSError, ValueError) as error:
        return str(error) or type(error).__name__
    return None


def broker_client(settings: Settings, *, seconds: float = 1.0) -> Any:
    """A connection to the broker in force, which waits no longer than `seconds`."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    times: dict[str, Any] = {
        "socket_timeout": seconds,
        "socket_connect_timeout": seconds,
        # One try: the page that asks is waiting, and asks again when it is reloaded.
        "retry": Retry(NoBackoff(), 0),
    }
    if settings.broker_url:
        return redis.Redis.from_url(settings.broker_url, **times)
    return redis.Redis(unix_socket_path=str(settings.embedded_broker_socket), **times)


def provider_trouble(settings: Settings, workers: Sequence[Process]) -> str | None:
    """Why a worker's execution provider is not the configured one; None if all are right."""
    for worker in workers:
        device = worker.facts.get("device", settings.device)
        provider = worker.facts.get("provider")
        if device == "cuda" and provider != _CUDA:
            return f"{worker.id} is set to cuda but uses {provider or 'nothing that it states'}"
    return None


def _database_part(database: Database) -> Part:
    try:
        with database.reading() as connection:
            count = connection.scalar(select(func.count()).select_from(tables.studies))
    except SQLAlchemyError as error:
        return Part(name="database", ok=False, detail=f"not usable ({type(error).__name__})")
    return Part(name="database", ok=True, detail=f"{count} studies")


def _broker_part(settings: Settings) -> Part:
    trouble = broker_trouble(settings)
    return Part(name="broker", ok=trouble is None, detail=trouble or "answers")


def _disk_part(settings: Settings) -> Part:
    try:
        free = shutil.disk_usage(settings.data_dir).free
    except OSError as error:
        return Part(name="disk", ok=False, detail=f"data_dir: {error.strerror}")
    detail = f"{free / 1e9:.1f} GB free, reserve {settings.reserve_bytes / 1e9:.1f} GB"
    return Part(name="disk", ok=free > settings.reserve_bytes, detail=detail)


def _process_parts(settings: Settings, database: Database, clock: Clock) -> list[Part]:
    try:
        alive = living(database, now=clock())
    except SQLAlchemyError:
        return [Part(name=kind, ok=False, detail="unknown without database") for kind in _KINDS]
    found = []
    for kind in _KINDS:
        count = sum(process.kind == kind for process in alive)
        detail = f"{count} alive" if count else "no heartbeat in the last 30 seconds"
        found.append(Part(name=kind, ok=count > 0, detail=detail))
    workers = [process for process in alive if process.kind == "worker"]
    trouble = provider_trouble(settings, workers)
    used = sorted({str(w.facts["provider"]) for w in workers if w.facts.get("provider")})
    detail = trouble or (", ".join(used) or "no worker states one")
    found.append(Part(name="provider", ok=trouble is None and bool(used), detail=detail))
    return found
