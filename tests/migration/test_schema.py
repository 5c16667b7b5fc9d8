"""The schema that migrations build, and upgrades with work in flight."""

from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect

from osteon.migrations import current_revision, migrate, newest_revision
from studies import tables
from studies.database import Database
from studies.journal import Journal, Receipt
from studies.model import StudyDescription
from tests.support.domain import instance


@pytest.fixture(params=["sqlite", "postgresql"])
def blank(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database without any table, of each kind that we support."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / '100% new.sqlite'}"
    else:
        url = request.getfixturevalue("postgres_url")
    with Database(url) as database:
        yield database


def test_migrations_build_what_the_code_expects(blank: Database):
    """The schema of the migrations is the schema of studies.tables."""
    before, after = migrate(blank)

    with blank.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, tables.metadata) == []
    assert (before, after) == (None, newest_revision())
    assert current_revision(blank) == newest_revision()


def test_migrating_twice_changes_nothing(blank: Database):
    """Every start of the node migrates; what is held stays."""
    migrate(blank)
    journal = Journal(blank)
    journal.receive(instance(), StudyDescription())

    assert migrate(blank) == (newest_revision(), newest_revision())
    assert journal.receive(instance(), StudyDescription()).receipt is Receipt.DUPLICATE


def test_many_processes_migrate_once(blank: Database):
    """Listener, worker and web start at the same time: one migrates, the others wait."""
    url = blank.engine.url.render_as_string(hide_password=False)
    done: list[tuple[str | None, str]] = []

    def start() -> None:
        with Database(url) as database:
            done.append(migrate(database))

    threads = [Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(str(before) for before, _ in done) == [newest_revision()] * 3 + ["None"]
    assert "studies" in inspect(blank.engine).get_table_names()
