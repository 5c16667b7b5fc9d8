"""The servers that other tests stand on: they start, serve, and survive what tests do to them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import sqlalchemy

from tests.support.broker import Broker
from tests.support.postgres import Postgres
from tests.support.shared import PROJECT_ROOT


def test_postgres_gives_each_test_an_empty_database_of_its_own(postgres_server):
    """What one test writes no other test sees."""
    first, second = postgres_server.new_database(), postgres_server.new_database()
    engine = sqlalchemy.create_engine(first)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE mark (n integer)"))
    engine.dispose()

    other = sqlalchemy.create_engine(second)
    tables = sqlalchemy.inspect(other).get_table_names()
    other.dispose()

    assert first != second
    assert tables == []


def test_postgres_runs_without_rights(postgres_url):
    """The server never runs as root, whoever runs the tests."""
    with psycopg.connect(postgres_url.replace("+psycopg", "")) as connection:
        row = connection.execute("SHOW data_directory").fetchone()

    assert row is not None
    data = Path(row[0])
    assert data.stat().st_uid == (os.geteuid() or data.stat().st_uid)
    assert data.stat().st_uid != 0


@pytest.mark.kill
def test_postgres_keeps_what_was_committed_when_it_is_killed():
    """A committed row is there after kill -9 and a new start."""
    with Postgres() as server:
        url = server.new_database().replace("+psycopg", "")
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE mark AS SELECT 7 AS n")

        server.kill()
        server.start()

        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT n FROM mark").fetchone() == (7,)


@pytest.mark.kill
def test_the_broker_keeps_what_it_acknowledged_when_it_is_killed(broker: Broker):
    """A queued message is there after kill -9 and a new start on the same port."""
    with broker.client() as client:
        client.rpush("queue", "study")

    broker.kill()
    broker.start()

    with broker.client() as client:
        assert client.lrange("queue", 0, -1) == [b"study"]


def _run_pytest(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "tests.support.no_skips"),
            *("-c", os.devnull, "--rootdir", str(folder), "-p", "no:cacheprovider"),
            *(*options, str(folder)),
        ],
        capture_output=True,
        text=True,
        cwd=PROJECT_ROOT,
        check=False,
    )


@pytest.mark.parametrize(
    "body",
    [
        "import pytest\ndef test_it(): pytest.skip('no peer here')",
        "import pytest\n@pytest.mark.skip(reason='no peer here')\ndef test_it(): pass",
        "import pytest\npytest.skip('no peer here', allow_module_level=True)",
    ],
    ids=["in the test", "by a mark", "of the module"],
)
def test_no_skips_makes_a_skip_fail_and_says_why(tmp_path, body):
    """A build server that lacks a peer program is red, not green with fewer tests."""
    (tmp_path / "test_skips.py").write_text(body)

    lenient = _run_pytest(tmp_path)
    strict = _run_pytest(tmp_path, "--no-skips")

    assert "1 skipped" in lenient.stdout
    assert strict.returncode in {pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED}
    assert "--no-skips refuses: Skipped: no peer here" in strict.stdout


def test_no_skips_leaves_an_expected_failure_alone(tmp_path):
    """An expected failure is a statement about a known defect, not a missing program."""
    (tmp_path / "test_expected.py").write_text(
        "import pytest\n@pytest.mark.xfail\ndef test_it(): assert False"
    )

    strict = _run_pytest(tmp_path, "--no-skips")

    assert strict.returncode == 0
    assert "1 xfailed" in strict.stdout
