"""Engine and transactions; SQLite set up so that a commit survives a power cut."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Engine, create_engine, event

from studies.errors import ConfigurationError

_WRITES = "osteon_writes"


class Database:
    """Short transactions on one database. Use as a context manager, or call `close`.

    Parameters
    ----------
    url
        SQLAlchemy URL of SQLite or PostgreSQL.

    Raises
    ------
    ConfigurationError
        If the URL is neither.
    """

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)

    @property
    def is_sqlite(self) -> bool:
        """True on SQLite, which has one writer at a time and no row locks."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that may write; committed at the end, rolled back on any error.

        On SQLite the write lock is taken at once: a transaction that reads first and then
        wants to write would fail instead of waiting for its turn.
        """
        options = {_WRITES: True}
        with self.engine.connect().execution_options(**options) as connection, connection.begin():
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads, on one consistent state."""
        with self.engine.connect() as connection, connection.begin():
            yield connection

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give every connection back to the system."""
        self.engine.dispose()


def _engine(url: str) -> Engine:
    # Parameters are hidden: an error's text ends in a log, and they hold patients' names.
    if url.startswith("sqlite:"):
        engine = create_engine(
            url, hide_parameters=True, connect_args={"timeout": 30, "check_same_thread": False}
        )
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    if url.startswith("postgresql"):
        return create_engine(
            url, hide_parameters=True, pool_pre_ping=True, pool_size=10, max_overflow=40
        )
    raise ConfigurationError(f"database_url: only sqlite and postgresql are supported, not {url!r}")


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # Transactions are begun by us (below), not by Python's driver behind our back.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    # NORMAL would lose the last commits in a power cut, and a commit is our promise to a sender.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
