"""The sweep: rings for what is complete, lost or unheard, and outlives database and broker."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread

import pytest
from sqlalchemy import text

from studies.database import Database
from studies.journal import Journal
from studies.lifecycle import DOORBELL_REPEAT, Lifecycle
from studies.model import Status, StudyDescription
from studies.queue import Doorbell, make_celery
from studies.settings import Settings
from tests.support.broker import Broker
from tests.support.domain import STUDY, HandClock, instance
from tests.support.postgres import Postgres
from tests.support.reading import radiograph, reading_node
from tests.support.tiny_models import tiny_models
from tests.support.waiting import wait_until
from worker.app import cpu_plan, gpu_plan
from worker.sweep import Sweep, deadlines, run_sweep


class Bell(Doorbell):
    """A doorbell that writes down what it is rung for, and is deaf when told so."""

    def __init__(self) -> None:
        self.rung: list[str] = []
        self.heard = True
        self.unheard = 0

    def ring(self, StudyInstanceUID: str) -> bool:
        if self.heard:
            self.rung.append(StudyInstanceUID)
        return self.heard

    def waiting(self) -> int | None:
        return self.unheard if self.heard else None


class Desk:
    """A sweep with its clock, its bell and one study that has just been received."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.clock = HandClock()
        self.bell = Bell()
        self.settings = Settings(data_dir=folder, quiet_seconds=5, lease_seconds=15)
        self.lifecycle = Lifecycle(database, self.clock)
        Journal(database, self.clock).receive(instance(), StudyDescription())
        self.sweep = Sweep(self.settings, database, self.bell, self.clock)

    def rung(self, *, after_seconds: float) -> list[str]:
        """What the round after so many seconds rings for."""
        self.clock.forward(after_seconds)
        self.bell.rung.clear()
        self.sweep.round()
        return list(self.bell.rung)


@pytest.fixture
def desk(any_database: Database, tmp_path: Path) -> Desk:
    """Noon."""
    return Desk(any_database, tmp_path)


def test_the_sweep_rings_once_for_a_study_that_is_complete(desk: Desk):
    """When it has been quiet, and not again at every round."""
    assert desk.rung(after_seconds=4) == []
    assert desk.rung(after_seconds=1) == [STUDY]
    assert desk.rung(after_seconds=1) == []


def test_the_sweep_rings_for_a_study_whose_worker_was_lost(desk: Desk):
    """As soon as its lease has ended."""
    desk.rung(after_seconds=5)
    assert desk.lifecycle.claim(STUDY, "worker-1", seconds=15) is not None

    assert desk.rung(after_seconds=14) == []
    assert desk.rung(after_seconds=1) == [STUDY]


def test_a_doorbell_is_rung_again_unless_it_still_waits_in_the_queue(desk: Desk):
    """Busy workers do not get a longer queue; a lost message is replaced."""
    repeat = DOORBELL_REPEAT.total_seconds()
    desk.rung(after_seconds=5)
    desk.bell.unheard = 1

    assert desk.rung(after_seconds=repeat) == []
    desk.bell.unheard = 0
    assert desk.rung(after_seconds=repeat) == [STUDY]


def test_a_broker_that_is_away_is_rung_once_it_is_back(desk: Desk):
    """The row waits for it."""
    desk.bell.heard = False
    assert desk.rung(after_seconds=5) == []
    desk.bell.heard = True

    assert desk.rung(after_seconds=DOORBELL_REPEAT.total_seconds()) == [STUDY]


def test_a_study_past_its_deadline_is_named_once(desk: Desk, capsys: pytest.CaptureFixture[str]):
    """An alarm at every round would be heard by nobody."""
    desk.rung(after_seconds=5)
    late = deadlines(desk.settings)[Status.READY] + timedelta(minutes=2)
    desk.rung(after_seconds=late.total_seconds())
    desk.rung(after_seconds=120)
    said = capsys.readouterr().out

    assert said.count("study past its deadline") == 1
    assert STUDY in said


def test_every_state_that_waits_for_somebody_has_a_deadline(tmp_path: Path):
    """Nothing can stand still unseen."""
    assert set(deadlines(Settings(data_dir=tmp_path))) == {
        status for status in Status if not status.is_final
    } | {Status.READ}


def test_the_broker_counts_the_doorbells_that_nobody_has_heard(broker: Broker):
    """None while it is away, which is not the same as no doorbell."""
    doorbell = Doorbell(make_celery(Settings(broker_url=broker.url)))
    before = doorbell.waiting()
    rung = [doorbell.ring(STUDY), doorbell.ring(STUDY)]
    after = doorbell.waiting()
    broker.stop()

    assert (before, rung, after) == (0, [True, True], 2)
    assert doorbell.waiting() is None
    assert not doorbell.ring(STUDY)


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A server that this test may stop."""
    with Postgres() as server:
        yield server


@pytest.mark.kill
def test_the_sweep_outlives_its_database(own_postgres: Postgres, tmp_path: Path, broker: Broker):
    """It comes back by itself once the database does, and goes on where the rows say."""
    models = tiny_models(tmp_path / "models")
    url = own_postgres.new_database()
    with reading_node(tmp_path, models, database_url=url, broker_url=broker.url) as node:
        stop = Event()
        thread = Thread(target=run_sweep, args=(node.settings, stop))
        thread.start()
        try:
            own_postgres.kill()
            own_postgres.start()
            wait_until(lambda: _answers(node.database), 60, "the database to answer")
            uid = node.receive(radiograph()).StudyInstanceUID
            node.wait_for(uid, Status.READY)
            assert thread.is_alive()
        finally:
            stop.set()
            thread.join(60)

    assert not thread.is_alive()


def _answers(database: Database) -> bool:
    with database.reading() as connection:
        return connection.execute(text("select 1")).scalar() == 1


@pytest.mark.parametrize(
    ("processes", "cores", "expected"),
    [(0, 4, (4, 1)), (2, 8, (2, 4)), (3, 8, (3, 2)), (8, 2, (8, 1)), (1, 2, (1, 2))],
)
def test_processes_times_threads_are_the_cores(processes, cores, expected):
    """More would take the cores from one another. Threads of their own are opened after the fork."""
    plan = cpu_plan(processes, cores)

    assert (plan.concurrency, plan.threads) == expected
    assert plan.opens_before_fork == (plan.threads == 1)


def test_a_gpu_is_never_forked():
    """CUDA does not survive it: one process, with threads."""
    plan = gpu_plan(0, 16)

    assert plan.pool == "threads"
    assert plan.opens_before_fork
    assert plan.concurrency == 8
