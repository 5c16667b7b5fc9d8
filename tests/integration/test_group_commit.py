"""Commits of many threads at once on SQLite."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import IntegrityError

from studies import tables
from studies.group_commit import GroupCommit
from studies.journal import Journal, Receipt
from studies.model import StudyDescription
from tests.support.domain import NOON, empty_database, instance


def _process(number: int) -> dict[str, Any]:
    return {
        "id": f"p{number}",
        "kind": "listener",
        "host": "here",
        "pid": number,
        "started_at": NOON,
        "seen_at": NOON,
        "facts": "{}",
    }


def test_every_thread_gets_its_own_result_and_its_own_error(tmp_path: Path):
    """A job that fails takes no other with it, and no other waits for ever."""
    with empty_database(tmp_path) as database:
        group = GroupCommit(database)
        results: dict[int, object] = {}

        def write(number: int) -> None:
            def work(connection: Connection) -> int:
                connection.execute(tables.processes.insert(), _process(number // 2))
                return number

            try:
                results[number] = group.run(work)
            except IntegrityError as error:
                results[number] = error

        threads = [threading.Thread(target=write, args=(n,)) for n in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

        with database.reading() as connection:
            count = connection.scalar(select(func.count()).select_from(tables.processes))

    assert len(results) == 40
    assert count == 20
    for pair in range(20):
        one, other = results[2 * pair], results[2 * pair + 1]
        assert isinstance(one, IntegrityError) != isinstance(other, IntegrityError)
        assert all(r == n for n, r in results.items() if not isinstance(r, IntegrityError))


def test_what_was_run_is_committed_when_it_returns(tmp_path: Path):
    """Another connection sees it at once."""
    with empty_database(tmp_path) as database:
        GroupCommit(database).run(lambda c: c.execute(tables.processes.insert(), _process(1)))

        with database.reading() as connection:
            assert connection.scalar(select(tables.processes.c.id)) == "p1"


def test_an_error_that_is_not_the_database_s_reaches_its_thread(tmp_path: Path):
    """And the next job is served."""

    def broken(_: Connection) -> None:
        raise ZeroDivisionError

    with empty_database(tmp_path) as database:
        group = GroupCommit(database)
        with pytest.raises(ZeroDivisionError):
            group.run(broken)

        assert group.run(lambda c: c.scalar(select(1))) == 1


def test_the_same_instance_from_many_threads_is_accepted_once(tmp_path: Path):
    """However the threads are grouped."""
    with empty_database(tmp_path) as database:
        journal = Journal(database)
        receipts: list[Receipt] = []
        ready = threading.Barrier(16)

        def offer() -> None:
            ready.wait()
            receipts.append(journal.receive(instance(), StudyDescription()).receipt)

        threads = [threading.Thread(target=offer) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

    assert sorted(receipts) == [Receipt.ACCEPTED] + [Receipt.DUPLICATE] * 15
