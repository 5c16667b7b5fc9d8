"""Brings the database's schema up to date, once, however many processes ask for it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from studies.database import Database
from studies.errors import ConfigurationError

# Any number that no other program on the same PostgreSQL server locks.
_ADVISORY_LOCK = 7_318_112


def migrate(database: Database) -> tuple[str | None, str]:
    """Upgrade the schema to the newest revision; wait if another process is doing so.

    Returns
    -------
    tuple
        The revision before (None for an empty database) and after.
    """
    config = _config()
    with database.writing() as connection:
        # SQLite's write lock is held already; PostgreSQL needs a lock of our own.
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        before = MigrationContext.configure(connection).get_current_revision()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return before, newest_revision()


def current_revision(database: Database) -> str | None:
    """The schema's revision; None for an empty database."""
    with database.reading() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def newest_revision() -> str:
    """The revision that this code needs."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise ConfigurationError("the installation has no migrations")
    return head


def known_revisions() -> frozenset[str]:
    """Every revision that this code can bring up to date."""
    scripts = ScriptDirectory.from_config(_config()).walk_revisions()
    return frozenset(script.revision for script in scripts)


def _config() -> Config:
    config = Config()
    # A percent sign in a path is not an interpolation.
    config.set_main_option("script_location", str(_folder()).replace("%", "%%"))
    return config


def _folder() -> Path:
    """The migrations as they lie in a checkout, or beside the packages of a wheel."""
    spec = find_spec("migrations")
    found = (spec.submodule_search_locations if spec else None) or []
    for place in (*map(Path, found), Path(__file__).parent.parent / "migrations"):
        if (place / "env.py").is_file():
            return place
    raise ConfigurationError("the installation has no folder of migrations")
