"""One study, many hands: claimed once, given back, failed, re-opened; on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from studies.catalogue import Catalogue
from studies.database import Database
from studies.journal import Journal
from studies.lifecycle import DOORBELL_REPEAT, Lifecycle
from studies.model import Lease, Sender, Status, Study, StudyDescription
from studies.presence import Presence
from tests.support.domain import STUDY, HandClock, instance, outgoing, reading

LEASE_SECONDS = 15.0


@pytest.fixture
def clock() -> HandClock:
    """Noon."""
    return HandClock()


class Desk:
    """Everything that a test does with one study."""

    def __init__(self, database: Database, clock: HandClock) -> None:
        self.database = database
        self.clock = clock
        self.lifecycle = Lifecycle(database, clock)
        self.journal = Journal(database, clock)
        self.catalogue = Catalogue(database)

    def receive(self, number: int = 1, *, association: str | None = None) -> None:
        self.journal.receive(instance(number), StudyDescription(), association_id=association)

    def complete(self) -> tuple[str, ...]:
        return self.lifecycle.complete_studies(quiet_seconds=5, open_association_seconds=60)

    def make_ready(self) -> None:
        self.receive()
        self.clock.forward(5)
        assert self.complete() == (STUDY,)

    def claim(self, owner: str = "worker-1") -> Lease:
        lease = self.lifecycle.claim(STUDY, owner, seconds=LEASE_SECONDS)
        assert lease is not None
        return lease

    def reap(self) -> tuple[str, ...]:
        return self.lifecycle.reap(max_attempts=3)

    @property
    def study(self) -> Study:
        return self.catalogue.study(STUDY)

    def status(self) -> Status:
        return self.study.status

    @property
    def steps(self) -> list[str]:
        return [event.name for event in self.catalogue.timeline(self.study)]


@pytest.fixture
def desk(any_database: Database, clock: HandClock) -> Desk:
    """An empty database."""
    return Desk(any_database, clock)


@pytest.fixture
def ready(desk: Desk) -> Desk:
    """One study that waits for a worker."""
    desk.make_ready()
    return desk


def test_a_study_is_complete_only_when_it_has_been_quiet(desk: Desk, clock: HandClock):
    """Every image starts the wait anew."""
    desk.receive(1)
    clock.forward(4)
    desk.receive(2)
    clock.forward(4)

    assert desk.complete() == ()
    clock.forward(1)
    assert desk.complete() == (STUDY,)
    assert desk.complete() == ()
    assert desk.status() is Status.READY


def test_an_open_association_holds_a_study_back_while_its_listener_lives(
    desk: Desk, clock: HandClock
):
    """More may come; but neither a dead listener nor a lazy sender holds it for ever."""
    with Presence(desk.database, "listener", clock=clock) as listener:
        sender = Sender(ae_title="CR1", address="127.0.0.1")
        desk.journal.open_association("a1", listener.id, sender)
        desk.receive(association="a1")
        clock.forward(6)
        while_open = desk.complete()
        clock.forward(30)  # the listener's row has not been touched for longer than it may be
        when_dead = desk.complete()

    assert while_open == ()
    assert when_dead == (STUDY,)


def test_a_released_association_lets_its_study_go(desk: Desk, clock: HandClock):
    """Released and quiet: nothing more is on its way."""
    with Presence(desk.database, "listener", clock=clock) as listener:
        sender = Sender(ae_title="CR1", address="127.0.0.1")
        desk.journal.open_association("a1", listener.id, sender)
        desk.receive(association="a1")
        desk.journal.close_association("a1", "released")
        clock.forward(5)

        assert desk.complete() == (STUDY,)


def test_of_many_workers_one_claims_a_study(ready: Desk):
    """Eight hear the same doorbell at the same time."""
    with ThreadPoolExecutor(8) as pool:
        leases = list(
            pool.map(
                lambda n: ready.lifecycle.claim(STUDY, f"worker-{n}", seconds=LEASE_SECONDS),
                range(8),
            )
        )

    won = [lease for lease in leases if lease is not None]
    assert len(won) == 1
    assert (won[0].attempt, won[0].revision) == (1, 1)
    assert ready.steps.count("claimed") == 1


def test_a_study_that_is_not_ready_cannot_be_claimed(desk: Desk):
    """A doorbell that rings too early, or for nothing, changes nothing."""
    assert desk.lifecycle.claim(STUDY, "worker-1", seconds=LEASE_SECONDS) is None
    desk.receive()
    assert desk.lifecycle.claim(STUDY, "worker-1", seconds=LEASE_SECONDS) is None
    assert desk.status() is Status.RECEIVING


def test_a_worker_that_shows_no_life_loses_its_study(ready: Desk, clock: HandClock):
    """Not before the lease ends; and then to exactly one other."""
    lost = ready.claim()
    clock.forward(LEASE_SECONDS - 1)
    assert ready.reap() == ()
    clock.forward(1)

    assert ready.reap() == (STUDY,)
    assert ready.reap() == ()
    again = ready.claim("worker-2")
    assert again.attempt == 2
    assert not ready.lifecycle.extend(lost, seconds=LEASE_SECONDS)
    assert ready.steps[-2:] == ["given back", "claimed"]


def test_a_worker_that_shows_life_keeps_its_study(ready: Desk, clock: HandClock):
    """A long study is read as long as its worker's heart beats."""
    lease = ready.claim()
    for _ in range(5):
        clock.forward(LEASE_SECONDS - 1)
        assert ready.lifecycle.extend(lease, seconds=LEASE_SECONDS)
        assert ready.reap() == ()


def test_the_outcome_of_a_lost_lease_does_not_count(ready: Desk, clock: HandClock):
    """A worker that was only slow comes too late: one reading, that of the other one."""
    slow = ready.claim("slow")
    clock.forward(LEASE_SECONDS)
    ready.reap()
    quick = ready.claim("quick")

    assert ready.lifecycle.finish(quick, reading(probability=0.9), [outgoing("PACS")])
    assert not ready.lifecycle.finish(slow, reading(probability=0.1), [outgoing("PACS")])
    assert not ready.lifecycle.fail(slow, "no")
    assert ready.lifecycle.retry_later(slow, "no", delay=1, max_attempts=3) is Status.READING
    (kept,) = ready.catalogue.readings(ready.study)
    assert kept.certainty == 0.9
    assert ready.status() is Status.READ


def test_a_late_image_opens_a_study_again(ready: Desk, clock: HandClock):
    """It is received, complete and read a second time."""
    assert ready.lifecycle.finish(ready.claim(), reading(), [outgoing("PACS")])
    ready.receive(2)
    assert ready.status() is Status.RECEIVING
    clock.forward(5)
    assert ready.complete() == (STUDY,)
    lease = ready.claim()

    assert (lease.revision, lease.attempt) == (2, 1)
    second = reading(2, predecessor=1)
    assert ready.lifecycle.finish(lease, second, [outgoing("PACS", revision=2)])
    assert ready.study.readings == 2
    assert "late image" in ready.steps


def test_an_image_that_comes_while_its_study_is_read_is_read_next(ready: Desk, clock: HandClock):
    """The worker keeps its lease and finishes what it began with; then comes the rest."""
    lease = ready.claim()
    ready.receive(2)
    assert ready.status() is Status.READING
    assert [i.SOPInstanceUID for i in ready.lifecycle.instances(lease)] == [
        instance(1).SOPInstanceUID
    ]

    assert ready.lifecycle.finish(lease, reading(), [outgoing("PACS")])
    assert ready.status() is Status.RECEIVING
    clock.forward(5)
    assert ready.complete() == (STUDY,)
    assert len(ready.lifecycle.instances(ready.claim())) == 2


def test_an_image_that_comes_while_its_study_fails_is_read_all_the_same(ready: Desk):
    """It was promised, and nobody has tried to read it yet."""
    lease = ready.claim()
    ready.receive(2)

    assert ready.lifecycle.fail(lease, "the first image is beyond repair")
    assert ready.status() is Status.RECEIVING
    assert ready.study.attempts == 0


def test_a_study_that_keeps_failing_is_given_up(ready: Desk, clock: HandClock):
    """After as many tries as the site allows, with the reason; each try after its delay."""
    for attempt in (1, 2):
        lease = ready.claim()
        assert lease.attempt == attempt
        status = ready.lifecycle.retry_later(lease, "the share is away", delay=7, max_attempts=3)
        assert status is Status.READY
        assert ready.lifecycle.unanswered() == ()
        clock.forward(7)
        assert ready.lifecycle.unanswered() == (STUDY,)
    last = ready.lifecycle.retry_later(ready.claim(), "the share is away", delay=7, max_attempts=3)

    assert last is Status.FAILED
    assert ready.study.reason == "the share is away (3 tries)"
    clock.forward(3600)
    assert ready.lifecycle.unanswered() == ()


def test_a_full_disk_costs_a_study_none_of_its_tries(ready: Desk, clock: HandClock):
    """It has no part in the trouble, and is read once there is room again."""
    for _ in range(10):
        lease = ready.lifecycle.claim(STUDY, "worker", seconds=15)
        assert lease is not None
        status = ready.lifecycle.retry_later(
            lease, "the disk is full", delay=60, max_attempts=3, counts=False
        )
        clock.forward(60)

        assert status is Status.READY
    assert ready.study.attempts == 0


def test_a_study_that_kills_its_workers_is_given_up(ready: Desk, clock: HandClock):
    """It must not take down one worker after the other for ever."""
    given_back = []
    for _ in range(3):
        ready.claim()
        clock.forward(LEASE_SECONDS)
        given_back.append(ready.reap())

    assert given_back == [(STUDY,), (STUDY,), ()]
    assert ready.status() is Status.FAILED
    assert "showed no life" in (ready.study.reason or "")


def test_a_doorbell_that_nobody_answers_is_rung_again(ready: Desk, clock: HandClock):
    """Once per interval, until somebody claims the study."""
    assert ready.lifecycle.unanswered() == ()
    clock.forward(DOORBELL_REPEAT.total_seconds())

    assert ready.lifecycle.unanswered() == (STUDY,)
    assert ready.lifecycle.unanswered() == ()
    clock.forward(DOORBELL_REPEAT.total_seconds())
    assert ready.lifecycle.unanswered() == (STUDY,)
    ready.claim()
    clock.forward(DOORBELL_REPEAT.total_seconds())
    assert ready.lifecycle.unanswered() == ()


def test_a_study_without_a_readable_image_ends_as_not_analysed(ready: Desk):
    """With its reason; never as negative."""
    images = reading().images
    refused = reading(
        images=tuple(
            type(image)(
                SOPInstanceUID=image.SOPInstanceUID,
                SOPClassUID=image.SOPClassUID,
                SeriesInstanceUID=image.SeriesInstanceUID,
                rows=image.rows,
                columns=image.columns,
                not_analysed="it is a chest",
            )
            for image in images
        )
    )
    assert ready.lifecycle.finish(ready.claim(), refused, [])

    assert ready.status() is Status.NOT_ANALYSED
    assert ready.study.reason == "it is a chest"
    assert ready.study.band is None


def test_a_person_can_have_a_study_read_again(ready: Desk):
    """Once it has come to an end, not while it is being read."""
    lease = ready.claim()
    assert not ready.lifecycle.replay(STUDY)
    ready.lifecycle.finish(lease, reading(), [outgoing("PACS")])

    assert ready.lifecycle.replay(STUDY)
    assert not ready.lifecycle.replay(STUDY)
    assert ready.claim().attempt == 1
    assert not ready.lifecycle.replay("1.2.3")


def test_a_study_that_stands_still_is_named(ready: Desk, clock: HandClock):
    """Each state has its own limit; a read study counts until its objects have arrived."""
    limits = {Status.READY: timedelta(minutes=15), Status.READ: timedelta(hours=1)}
    assert ready.lifecycle.overdue(limits) == ()
    clock.forward(15 * 60 + 1)
    (late,) = ready.lifecycle.overdue(limits)

    assert (late.StudyInstanceUID, late.status) == (STUDY, Status.READY)
    assert ready.lifecycle.overdue({}) == ()
    ready.lifecycle.finish(ready.claim(), reading(), [outgoing("PACS")])
    assert ready.lifecycle.overdue(limits) == ()
    clock.forward(3601)
    assert [o.status for o in ready.lifecycle.overdue(limits)] == [Status.READ]


def test_a_read_study_with_nowhere_to_go_is_never_overdue(ready: Desk, clock: HandClock):
    """Without destinations there is nothing to wait for."""
    ready.lifecycle.finish(ready.claim(), reading(), [outgoing()])
    clock.forward(1_000_000)

    assert ready.lifecycle.overdue({Status.READ: timedelta(hours=1)}) == ()
