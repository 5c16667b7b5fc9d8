"""What is promised, what is a repetition, what is a contradiction."""

from threading import Thread

import pytest

from studies.catalogue import Catalogue
from studies.database import Database
from studies.journal import Journal, Receipt
from studies.model import Status, StudyDescription
from tests.support.domain import STUDY, HandClock, instance

DESCRIPTION = StudyDescription(PatientName="DEMO^A", AccessionNumber="A1")


@pytest.fixture
def journal(any_database: Database) -> Journal:
    """The journal of an empty database."""
    return Journal(any_database, HandClock())


def test_an_accepted_instance_can_be_found(journal: Journal, any_database: Database):
    """The row says all that was received."""
    answer = journal.receive(instance(), DESCRIPTION)

    assert answer.receipt is Receipt.ACCEPTED
    assert journal.find(instance().SOPInstanceUID) == instance()
    study = Catalogue(any_database).study(STUDY)
    assert (study.status, study.instances, study.revision) == (Status.RECEIVING, 1, 1)
    assert study.description == DESCRIPTION


def test_the_same_instance_again_changes_nothing(journal: Journal, any_database: Database):
    """A sender that did not hear our success repeats itself."""
    journal.receive(instance(), DESCRIPTION)
    answer = journal.receive(instance(), DESCRIPTION)

    assert answer.receipt is Receipt.DUPLICATE
    assert answer.held == instance()
    assert Catalogue(any_database).study(STUDY).revision == 1


@pytest.mark.parametrize(
    ("changed", "reason"),
    (
        ({"sha256": "f" * 64}, "another content"),
        ({"StudyInstanceUID": "1.2.3"}, "another study or patient"),
        ({"PatientID": "P2"}, "another study or patient"),
    ),
)
def test_the_same_uid_with_other_content_is_a_conflict(journal: Journal, changed, reason):
    """Success is refused, and the reason names UIDs only."""
    journal.receive(instance(), DESCRIPTION)
    answer = journal.receive(instance(**changed), DESCRIPTION)

    assert answer.receipt is Receipt.CONFLICT
    assert reason in answer.reason
    assert instance().SOPInstanceUID in answer.reason


def test_a_study_does_not_change_its_patient(journal: Journal):
    """A second patient in a study is a mix-up that a person has to mend."""
    journal.receive(instance(1), DESCRIPTION)
    answer = journal.receive(instance(2, PatientID="P2"), DESCRIPTION)

    assert answer.receipt is Receipt.CONFLICT
    assert "P2" not in answer.reason


def test_a_file_put_aside_twice_is_one_row(journal: Journal, any_database: Database):
    """A sender that repeats a contradiction for a week does not fill the table."""
    journal.receive(instance(), DESCRIPTION)
    strange = instance(sha256="f" * 64, path="quarantine/x.dcm")

    assert journal.quarantine(strange, "another content")
    assert not journal.quarantine(strange, "another content")
    catalogue = Catalogue(any_database)
    assert catalogue.quarantined() == 1
    events = [event.name for event in catalogue.timeline(catalogue.study(STUDY))]
    assert events == ["received", "quarantined"]


def test_many_senders_of_one_study_are_all_counted(any_database: Database):
    """Sixteen associations bring one image each, at once."""
    journals = [Journal(any_database) for _ in range(16)]
    threads = [
        Thread(target=journal.receive, args=(instance(number), DESCRIPTION))
        for number, journal in enumerate(journals, start=1)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert Catalogue(any_database).study(STUDY).instances == 16
