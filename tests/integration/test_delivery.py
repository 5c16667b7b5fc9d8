"""The sender against a peer that accepts, refuses, fails and goes away."""

import threading
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.sop_class import Comprehensive3DSRStorage

from dicom_node.delivery import DOUBTFUL_TRIES, Courier, run_sender
from dicom_node.sender import StoreClient
from studies.catalogue import Catalogue
from studies.database import Database
from studies.errors import DeliveryRefused, DestinationUnreachable, TemporaryError
from studies.files import Files
from studies.journal import Journal
from studies.lifecycle import Lifecycle
from studies.model import DeliveryState, Status, StudyDescription
from studies.outbox import Outbox
from studies.settings import Settings
from tests.support.domain import (
    STUDY,
    HandClock,
    empty_database,
    instance,
    outgoing,
    produced,
    reading,
)
from tests.support.pacs import CAPTURES_ONLY, Pacs, running_pacs
from tests.support.peers import free_port
from tests.support.waiting import wait_until

# pynetdicom leaves the socket of a refused connection to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning"
)

REPORT_UID = produced().SOPInstanceUID


def report_file() -> bytes:
    """A file that is a Comprehensive 3D SR as far as a C-STORE looks."""
    dataset = Dataset()
    dataset.SOPClassUID = Comprehensive3DSRStorage
    dataset.SOPInstanceUID = REPORT_UID
    dataset.StudyInstanceUID = STUDY
    dataset.SeriesInstanceUID = produced().SeriesInstanceUID
    dataset.Modality = "SR"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


@pytest.fixture
def clock() -> HandClock:
    """Noon."""
    return HandClock()


@pytest.fixture
def database(tmp_path: Path, clock: HandClock) -> Database:
    """A database with one study whose report is due for the PACS."""
    database = empty_database(tmp_path)
    Journal(database, clock).receive(instance(), StudyDescription())
    lifecycle = Lifecycle(database, clock)
    clock.forward(5)
    lifecycle.complete_studies(quiet_seconds=5, open_association_seconds=60)
    lease = lifecycle.claim(STUDY, "worker-1", seconds=15)
    assert lease is not None
    assert lifecycle.finish(lease, reading(), [outgoing("PACS")])
    Files(tmp_path).write(produced().path, report_file())
    return database


def courier(pacs: Pacs, database: Database, clock: HandClock, tmp_path: Path) -> Courier:
    """Somebody who brings that database's outbox to that PACS."""
    outbox = Outbox(database, clock)
    return Courier(pacs.destination(), outbox, Files(tmp_path), "OSTEON")


def test_a_report_arrives_as_it_was_kept(database, clock, tmp_path):
    """Byte for byte, and the study is REPORTED."""
    with running_pacs() as pacs:
        post = courier(pacs, database, clock, tmp_path)
        post.step()
        post._client.close()

    kept = dcmread(BytesIO(report_file()))
    assert pacs.received == [REPORT_UID]
    assert report_file().endswith(pacs.files[0])
    assert dcmread(BytesIO(pacs.files[0]), force=True).SOPInstanceUID == kept.SOPInstanceUID
    assert Catalogue(database).study(STUDY).status is Status.REPORTED


def test_a_warning_counts_as_arrived(database, clock, tmp_path):
    """0xB000: the PACS has coerced elements of its own copy."""
    with running_pacs() as pacs:
        pacs.answers = [0xB000]
        post = courier(pacs, database, clock, tmp_path)
        post.step()
        post._client.close()

    (delivery,) = Outbox(database).of_study(STUDY)
    assert delivery.state is DeliveryState.SENT


def test_a_full_pacs_is_asked_again_until_it_has_room(database, clock, tmp_path):
    """0xA700 is transient however long it lasts."""
    with running_pacs() as pacs:
        pacs.answers = [0xA700, 0xA702]
        post = courier(pacs, database, clock, tmp_path)
        for _ in range(3):
            wait = post.step()
            clock.forward(wait or 0)
        post._client.close()

    assert pacs.received == [REPORT_UID] * 3
    assert pacs.associations == 1
    assert Catalogue(database).study(STUDY).status is Status.REPORTED


@pytest.mark.parametrize("status", [0xA900, 0xC000, 0x0122, 0x0124])
def test_a_refusal_becomes_a_dead_letter_at_once(database, clock, tmp_path, status):
    """No endless retry of what the PACS will never take."""
    with running_pacs() as pacs:
        pacs.answers = [status]
        post = courier(pacs, database, clock, tmp_path)
        post.step()
        clock.forward(100_000)
        post.step()
        post._client.close()

    (dead,) = Outbox(database).dead_letters()
    assert pacs.received == [REPORT_UID]
    assert dead.last_error is not None
    assert f"0x{status:04X}" in dead.last_error


def test_a_processing_failure_is_tried_a_bounded_number_of_times(database, clock, tmp_path):
    """0x0110 may be a hiccup or final: nobody can tell from outside."""
    with running_pacs() as pacs:
        pacs.answers = [0x0110] * 100
        post = courier(pacs, database, clock, tmp_path)
        for _ in range(DOUBTFUL_TRIES + 5):
            post.step()
            clock.forward(1000)
        post._client.close()

    assert pacs.received == [REPORT_UID] * DOUBTFUL_TRIES
    assert len(Outbox(database).dead_letters()) == 1


def test_a_pacs_that_takes_no_reports_gets_a_dead_letter(database, clock, tmp_path):
    """The presentation context is rejected: that does not change by waiting."""
    with running_pacs(sop_classes=CAPTURES_ONLY) as pacs:
        post = courier(pacs, database, clock, tmp_path)
        post.step()
        post._client.close()

    (dead,) = Outbox(database).dead_letters()
    assert pacs.received == []
    assert Comprehensive3DSRStorage in (dead.last_error or "")


def test_a_pacs_that_knows_implicit_vr_only_gets_implicit_vr(database, clock, tmp_path):
    """PS3.5 10.1: the default syntax is always offered."""
    with running_pacs(syntaxes=("1.2.840.10008.1.2",)) as pacs:
        post = courier(pacs, database, clock, tmp_path)
        post.step()
        post._client.close()

    assert pacs.received == [REPORT_UID]
    assert not report_file().endswith(pacs.files[0])


def test_a_pacs_that_is_away_costs_nothing_but_time(database, clock, tmp_path):
    """Down for a while, then there: delivered, once."""
    port = free_port()
    away = Pacs(port=port)
    post = courier(away, database, clock, tmp_path)
    waits = []
    for _ in range(8):
        wait = post.step()
        assert wait is not None
        waits.append(wait)
        clock.forward(wait)
    with running_pacs(port=port) as pacs:
        post.step()
        post._client.close()

    assert waits == sorted(waits)
    assert waits[-1] == 60
    assert pacs.received == [REPORT_UID]
    assert Catalogue(database).study(STUDY).status is Status.REPORTED


def test_a_pacs_that_goes_away_in_between_is_found_again(database, clock, tmp_path):
    """The kept-open association has died: a new one is made."""
    port = free_port()
    with running_pacs(port=port) as first:
        post = courier(first, database, clock, tmp_path)
        post._client.echo()
    wait_until(lambda: not post._client.is_open, what="the association's end")
    with running_pacs(port=port) as second:
        while Catalogue(database).study(STUDY).status is not Status.REPORTED:
            clock.forward(post.step() or 0)
        post._client.close()

    assert second.received == [REPORT_UID]


def test_the_sender_delivers_and_stops(database, tmp_path):
    """The whole process: presence, threads, delivery, a clean end."""
    stop = threading.Event()
    with running_pacs() as pacs:
        settings = Settings(
            data_dir=tmp_path,
            database_url=f"sqlite:///{tmp_path / 'test.sqlite'}",
            destinations=(pacs.destination(),),
        )
        thread = threading.Thread(target=run_sender, args=(settings, stop))
        thread.start()
        wait_until(lambda: pacs.received, what="the report")
        stop.set()
        thread.join(20)

    assert not thread.is_alive()
    assert Catalogue(database).study(STUDY).status is Status.REPORTED


def test_each_error_has_its_type(tmp_path):
    """The type decides the retry."""
    with running_pacs() as pacs, StoreClient(pacs.destination(), "OSTEON") as client:
        pacs.answers = [0xA700, 0x0110, 0xC123]
        for error in (DestinationUnreachable, TemporaryError, DeliveryRefused):
            with pytest.raises(error):
                client.send(report_file())
    with (
        StoreClient(Pacs(port=free_port()).destination(), "OSTEON") as client,
        pytest.raises(DestinationUnreachable, match="cannot be reached"),
    ):
        client.send(report_file())


def test_bytes_that_are_no_file_are_not_sent():
    """A damaged kept object is a dead letter that says so, not a crash."""
    with (
        running_pacs() as pacs,
        StoreClient(pacs.destination(), "OSTEON") as client,
        pytest.raises(DeliveryRefused, match="no DICOM file"),
    ):
        client.send(b"garbage")


def test_an_error_that_nobody_expects_does_not_stop_the_courier(database, clock, tmp_path):
    """It is tried again and told by its type alone; the thread goes on with other objects."""

    def broken(file: bytes) -> str:
        raise LookupError("SECRET^PATIENT")

    with running_pacs() as pacs:
        post = courier(pacs, database, clock, tmp_path)
        sound, post._client.send = post._client.send, broken  # type: ignore[method-assign]
        post.step()
        (waiting,) = Outbox(database).of_study(STUDY)
        post._client.send = sound  # type: ignore[method-assign]
        clock.forward(60)
        post.step()
        post._client.close()

    assert waiting.state is DeliveryState.PENDING
    assert waiting.last_error == "a defect of Osteon: LookupError"
    assert Catalogue(database).study(STUDY).status is Status.REPORTED
