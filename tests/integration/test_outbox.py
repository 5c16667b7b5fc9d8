"""Objects on their way: taken once, tried again, buried, revived."""

from threading import Thread

import pytest
from sqlalchemy import event, text

from studies.catalogue import Catalogue
from studies.database import Database
from studies.journal import Journal
from studies.lifecycle import Lifecycle
from studies.model import DeliveryState, Status, StudyDescription
from studies.outbox import Outbox
from tests.support.domain import STUDY, HandClock, instance, outgoing, produced, reading
from tests.support.waiting import wait_until


@pytest.fixture
def clock() -> HandClock:
    """Noon."""
    return HandClock()


@pytest.fixture
def database(any_database: Database, clock: HandClock) -> Database:
    """A database with one study, read, and its report due for two destinations."""
    database = any_database
    Journal(database, clock).receive(instance(), StudyDescription())
    lifecycle = Lifecycle(database, clock)
    clock.forward(5)
    assert lifecycle.complete_studies(quiet_seconds=5, open_association_seconds=60) == (STUDY,)
    lease = lifecycle.claim(STUDY, "worker-1", seconds=15)
    assert lease is not None
    assert lifecycle.finish(lease, reading(), [outgoing("PACS", "ARCHIVE")])
    return database


@pytest.fixture
def outbox(database: Database, clock: HandClock) -> Outbox:
    """The outbox of that database."""
    return Outbox(database, clock)


def test_a_delivery_is_taken_once(outbox: Outbox, clock: HandClock):
    """Two senders never send one object at the same time; a dead one holds it only so long."""
    taken = outbox.take("PACS", hold_seconds=60)

    assert taken is not None
    assert (taken.attempts, taken.object) == (1, produced())
    assert outbox.take("PACS", hold_seconds=60) is None
    clock.forward(60)
    again = outbox.take("PACS", hold_seconds=60)
    assert again is not None
    assert (again.id, again.attempts) == (taken.id, 2)


def test_a_study_is_reported_when_every_destination_has_it(outbox: Outbox, database: Database):
    """One of two is not enough."""
    catalogue = Catalogue(database)
    statuses = []
    for name in ("PACS", "ARCHIVE"):
        delivery = outbox.take(name, hold_seconds=60)
        assert delivery is not None
        outbox.sent(delivery, seconds=0.1)
        statuses.append(catalogue.study(STUDY).status)

    assert statuses == [Status.READ, Status.REPORTED]
    assert outbox.waiting() == {}


def test_a_transient_failure_waits_for_its_next_try(outbox: Outbox, clock: HandClock):
    """Not before the delay, and with the error kept."""
    delivery = outbox.take("PACS", hold_seconds=60)
    assert delivery is not None
    outbox.try_again(delivery, "0xA700 out of resources", delay=30)

    assert outbox.take("PACS", hold_seconds=60) is None
    assert outbox.waiting() == {"PACS": 1, "ARCHIVE": 1}
    clock.forward(30)
    again = outbox.take("PACS", hold_seconds=60)
    assert again is not None
    assert again.last_error == "0xA700 out of resources"


def test_a_dead_letter_is_listed_and_can_be_revived(outbox: Outbox, database: Database):
    """A person mends the cause and sends it again."""
    delivery = outbox.take("PACS", hold_seconds=60)
    assert delivery is not None
    outbox.bury(delivery, "0x0122 SOP class not supported")

    (dead,) = outbox.dead_letters()
    assert (dead.id, dead.state) == (delivery.id, DeliveryState.DEAD)
    assert outbox.take("PACS", hold_seconds=60) is None
    assert outbox.revive(dead.id)
    assert not outbox.revive(dead.id)
    assert outbox.dead_letters() == ()
    revived = outbox.take("PACS", hold_seconds=60)
    assert revived is not None
    assert revived.attempts == 1
    catalogue = Catalogue(database)
    names = [event.name for event in catalogue.timeline(catalogue.study(STUDY))]
    assert names[-2:] == ["dead letter", "revived"]


def test_a_report_never_arrives_after_the_one_that_replaces_it(
    outbox: Outbox, database: Database, clock: HandClock
):
    """The first try of the older one has failed; the newer one waits for it all the same."""
    older = outbox.take("PACS", hold_seconds=60)
    assert older is not None
    outbox.try_again(older, "out of resources", delay=600)
    lifecycle = Lifecycle(database, clock)
    assert lifecycle.replay(STUDY)
    lease = lifecycle.claim(STUDY, "worker-1", seconds=15)
    assert lease is not None
    assert lifecycle.finish(lease, reading(2), [outgoing("PACS", revision=2)])

    assert outbox.take("PACS", hold_seconds=60) is None
    clock.forward(600)
    uids = []
    while (delivery := outbox.take("PACS", hold_seconds=60)) is not None:
        uids.append(delivery.object.SOPInstanceUID)
        outbox.sent(delivery)
    assert uids == [produced(1).SOPInstanceUID, produced(2).SOPInstanceUID]


@pytest.mark.parametrize("any_database", ["postgresql"], indirect=True)
def test_two_last_deliveries_at_the_same_time_report_their_study(
    outbox: Outbox, database: Database
):
    """Each destination has its own courier; neither sees what the other has not committed.

    SQLite has one writer at a time, and so no such race.
    """
    first, second = (outbox.take(name, hold_seconds=60) for name in ("PACS", "ARCHIVE"))
    assert first is not None
    assert second is not None
    other = Thread(target=outbox.sent, args=(second,))
    waits = text("SELECT count(*) FROM pg_locks WHERE NOT granted")

    def is_overtaken_or_waits() -> bool:
        with database.engine.connect() as connection:
            return not other.is_alive() or bool(connection.scalar(waits))

    def before_commit(_connection: object) -> None:
        if other.ident is None:
            other.start()
            wait_until(is_overtaken_or_waits, 60, "the other courier to end or to wait for us")

    event.listen(database.engine, "commit", before_commit)
    outbox.sent(first)
    other.join()

    assert Catalogue(database).study(STUDY).status is Status.REPORTED
