"""A real worker on a real broker: one report per study, whatever is killed and whenever."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from studies.clock import utc_now
from studies.database import Database
from studies.model import Band, Status
from studies.outbox import Outbox
from studies.presence import living
from tests.support.broker import Broker
from tests.support.peers import Peer
from tests.support.reading import ReadingNode, children_of, radiograph, reading_node
from tests.support.tiny_models import tiny_models
from tests.support.waiting import wait_until

IMAGES = 12


@pytest.fixture
def node(tmp_path: Path, broker: Broker, any_database: Database) -> Iterator[ReadingNode]:
    """A node whose router takes its time, so that a study can be met half read."""
    models = tiny_models(tmp_path / "models", rounds=40)
    url = any_database.engine.url.render_as_string(hide_password=False)
    with reading_node(tmp_path, models, database_url=url, broker_url=broker.url) as made:
        yield made


def receive_study(node: ReadingNode, study: str = "study", images: int = IMAGES) -> str:
    """A study of some images; its UID."""
    received = [node.receive(radiograph(f"{study}/{n}")) for n in range(images)]
    return received[0].StudyInstanceUID


def ready(node: ReadingNode, worker: Peer) -> None:
    """Return once a started worker has announced itself."""

    def announced() -> bool:
        alive = [p for p in living(node.database, now=utc_now()) if p.kind == "worker"]
        return any(p.pid == worker.pid for p in alive) or not worker.is_running()

    wait_until(announced, 60, "the worker to be ready")
    assert worker.is_running(), worker.output()


def assert_reported_once(node: ReadingNode, uid: str) -> None:
    """One reading, one report, one delivery on its way: nothing lost, nothing twice."""
    assert len(node.readings(uid)) == 1
    assert [d.destination for d in Outbox(node.database).of_study(uid)] == ["PACS"]
    assert node.names(uid).count("read") == 1


def test_a_study_is_read_from_the_first_image_to_the_report(node: ReadingNode):
    """Completeness, doorbell, worker, report: all with the real parts."""
    with node.sweeping(), node.worker() as worker:
        uid = receive_study(node, images=2)
        study = node.wait_for(uid, Status.READ, Status.FAILED)

        assert study.status is Status.READ, worker.output()
        assert study.band is Band.POSITIVE
        assert node.names(uid) == ["received", "complete", "claimed", "read"]
        (delivery,) = Outbox(node.database).of_study(uid)
        report = node.files.read(delivery.object.path)
        assert len(report) == delivery.object.size
        (process,) = [p for p in living(node.database, now=utc_now()) if p.kind == "worker"]
        assert process.facts["provider"] == "CPUExecutionProvider"
        assert process.facts["processes"] == 2


@pytest.mark.kill
def test_a_study_survives_the_death_of_its_worker(node: ReadingNode):
    """Everything of the worker is killed in the middle; another one reads the study once."""
    with node.sweeping(), node.worker() as first:
        uid = receive_study(node)
        node.wait_for(uid, Status.READING)
        first.kill()
        assert node.study(uid).status is Status.READING
        killed_at = utc_now()
        with node.worker() as second:
            node.wait_for(uid, Status.READ)
            assert second.is_running()

    claims = [event for event in node.events(uid) if event.name == "claimed"]
    assert len(claims) == 2
    assert "given back" in node.names(uid)
    assert (claims[1].at - killed_at).total_seconds() < 30
    assert_reported_once(node, uid)


@pytest.mark.kill
def test_a_study_survives_the_death_of_one_child(node: ReadingNode):
    """The child that reads is killed; the worker goes on with a new one."""
    with node.sweeping(), node.worker() as worker:
        uid = receive_study(node)
        node.wait_for(uid, Status.READING)
        for child in children_of(worker):
            child.kill()
        node.wait_for(uid, Status.READ)

        assert worker.is_running()
        assert node.names(uid).count("claimed") == 2
        assert_reported_once(node, uid)
        other = receive_study(node, "another", images=1)
        node.wait_for(other, Status.READ)


@pytest.mark.kill
def test_a_study_is_finished_by_a_child_whose_parent_died(node: ReadingNode):
    """What is half done by a living process is not done twice."""
    with node.sweeping(), node.worker() as worker:
        uid = receive_study(node)
        node.wait_for(uid, Status.READING)
        worker.signal(signal.SIGKILL)
        with node.worker():
            node.wait_for(uid, Status.READ)

        assert_reported_once(node, uid)


def test_a_worker_that_is_asked_to_stop_finishes_what_it_reads(node: ReadingNode):
    """SIGTERM in the middle of a study: no second try is needed."""
    with node.sweeping(), node.worker() as worker:
        uid = receive_study(node)
        node.wait_for(uid, Status.READING)
        worker.signal(signal.SIGTERM)
        wait_until(lambda: not worker.is_running(), 60, "the worker to stop")

        assert node.study(uid).status is Status.READ, worker.output()
        assert node.names(uid).count("claimed") == 1
        assert not [p for p in living(node.database, now=utc_now()) if p.kind == "worker"]


@pytest.mark.kill
def test_a_broker_that_lost_its_queue_is_caught_up_with(node: ReadingNode, broker: Broker):
    """Killed and emptied with work queued: the rows say what is to be done."""
    with node.sweeping():
        uids = [receive_study(node, f"queued{n}", images=1) for n in range(3)]
        for uid in uids:
            node.wait_for(uid, Status.READY)
        broker.kill()
        broker.start()
        with broker.client() as client:
            client.flushall()
        with node.worker():
            for uid in uids:
                node.wait_for(uid, Status.READ)

    for uid in uids:
        assert_reported_once(node, uid)


@pytest.mark.kill
def test_a_worker_outlives_its_broker(node: ReadingNode, broker: Broker):
    """The broker dies in the middle of a study and comes back; the worker goes on reading."""
    with node.sweeping(), node.worker() as worker:
        uid = receive_study(node)
        node.wait_for(uid, Status.READING)
        broker.kill()
        while_away = receive_study(node, "away", images=1)
        node.wait_for(while_away, Status.READY)
        node.wait_for(uid, Status.READ)
        broker.start()
        node.wait_for(while_away, Status.READ)

        assert worker.is_running()
        assert_reported_once(node, uid)
        assert_reported_once(node, while_away)


def test_a_worker_that_finds_no_broker_waits_for_it(node: ReadingNode, broker: Broker):
    """Started first, or in the middle of an outage: it does not end."""
    broker.stop()
    with node.sweeping(), node.worker() as worker:
        worker.wait_for_output("Cannot connect")
        broker.start()
        uid = receive_study(node, images=1)
        node.wait_for(uid, Status.READ)

        assert_reported_once(node, uid)
