"""Runs the migrations on the database that Osteon's settings name."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context
from sqlalchemy import Connection

from studies import tables
from studies.database import Database
from studies.settings import load_settings


def _render_item(kind: str, item: Any, _autogenerate: Any) -> str | Literal[False]:
    """A migration imports nothing of ours: our own column type is written as what it stands for."""
    if kind == "type" and isinstance(item, tables.UTCDateTime):
        return "sa.DateTime(timezone=True)"
    return False


def _run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=tables.metadata,
        # SQLite alters a table by copying it.
        render_as_batch=connection.dialect.name == "sqlite",
        transaction_per_migration=False,
        render_item=_render_item,
    )
    with context.begin_transaction():
        context.run_migrations()


def _main() -> None:
    # A caller (osteon migrate, a test) hands its own transaction over; `alembic` makes one.
    given = context.config.attributes.get("connection")
    if given is not None:
        _run(given)
        return
    database = Database(load_settings().resolved_database_url)
    with database.writing() as connection:
        _run(connection)
    database.close()


_main()
