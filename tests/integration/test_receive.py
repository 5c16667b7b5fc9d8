"""The listener with real associations: what is kept, what is answered, what a crash leaves."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import structlog
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
)
from pynetdicom import AE
from sqlalchemy.exc import OperationalError

from dicom_node.contexts import STORAGE_SOP_CLASSES, STORAGE_SYNTAXES, VERIFICATION
from dicom_node.statuses import StoreStatus
from studies import tables
from studies.errors import NoRoom
from studies.lifecycle import Lifecycle
from studies.settings import Settings
from tests.support.dicom_making import ABSENT, LOSSLESS_SYNTAXES, SOP_CLASSES, make, picture
from tests.support.listening import Node, digest, encoded, read_back, running_node, without_meta
from tests.support.raw_association import (
    COMMAND,
    DATA,
    LAST,
    Ended,
    RawAssociation,
    Rejected,
    pdata,
)
from tests.support.waiting import wait_until

Start = Callable[..., Node]
MIB = 1024**2


@pytest.fixture(params=[True, False], ids=["fast", "plain"])
def fast(request: pytest.FixtureRequest) -> bool:
    """Both ways to receive: everything here holds for either."""
    return bool(request.param)


@pytest.fixture
def start(tmp_path: Path, fast: bool) -> Iterator[Start]:
    """Starts a node with the given settings; stopped at the end of the test."""
    with ExitStack() as stack:

        def begin(**changed: Any) -> Node:
            return stack.enter_context(running_node(tmp_path, **{"fast_receive": fast, **changed}))

        yield begin


@pytest.fixture
def node(start: Start) -> Node:
    """A node with the default settings."""
    return start()


@contextmanager
def raw(node: Node, *kinds: str, **options: Any) -> Iterator[RawAssociation]:
    """An association with one context per kind (DX, CR …), explicit VR little endian."""
    contexts = [(SOP_CLASSES[kind], ExplicitVRLittleEndian) for kind in kinds or ("DX",)]
    with RawAssociation(node.port, contexts, **options) as association:
        yield association


@pytest.mark.parametrize("syntax", LOSSLESS_SYNTAXES, ids=lambda uid: uid.name)
def test_an_instance_is_kept_as_it_was_received(node, syntax):
    """Bytes, digest, size, syntax and sender in the row are those of the network."""
    ds = make(syntax=syntax)
    data = encoded(ds)

    response = node.send(ds)

    assert response.Status == StoreStatus.SUCCESS
    (row,) = node.instances()
    file = node.files.absolute(row.path).read_bytes()
    assert without_meta(file) == data
    assert (row.sha256, row.size) == (digest(data), len(data))
    assert (row.sop_instance_uid, row.transfer_syntax_uid) == (ds.SOPInstanceUID, syntax)
    assert (row.sender_ae_title, row.sender_address) == ("RAW", "127.0.0.1")
    assert node.spool_files() == set()
    read = read_back(node.files.absolute(row.path))
    assert read.file_meta.TransferSyntaxUID == syntax
    assert read.file_meta.SourceApplicationEntityTitle == "RAW"
    assert read.PixelData == ds.PixelData


@pytest.mark.parametrize("kind", ["CR", "DX", "DX-PROCESSING", "RF", "XA", "SC"])
def test_every_accepted_class_is_kept(node, kind):
    """Radiographs, fluoroscopy, angiography and captures."""
    assert node.send(make(kind=kind)).Status == StoreStatus.SUCCESS


def test_every_context_of_the_list_is_accepted(node):
    """Each class with each syntax, negotiated by pynetdicom as a sender."""
    for sop_class in STORAGE_SOP_CLASSES:
        ae = AE("SCU")
        for syntax in STORAGE_SYNTAXES:
            ae.add_requested_context(sop_class, syntax)
        association = ae.associate("127.0.0.1", node.port, ae_title="OSTEON")
        try:
            accepted = {cx.transfer_syntax[0] for cx in association.accepted_contexts}
        finally:
            association.release()

        assert accepted == set(STORAGE_SYNTAXES)


def test_what_we_cannot_read_is_refused_in_the_negotiation(node):
    """A CT is not stored to end as "not analysed"."""
    with RawAssociation(
        node.port,
        [
            (CTImageStorage, ExplicitVRLittleEndian),
            ("1.2.840.10008.5.1.4.1.1.88.34", ExplicitVRLittleEndian),
            (VERIFICATION, ImplicitVRLittleEndian),
        ],
    ) as association:
        assert association.accepted == {5}


def test_explicit_vr_is_chosen_where_a_sender_offers_both(node):
    """The order of a sender's list does not cost the VRs of private elements."""
    ae = AE("SCU")
    ae.add_requested_context(SOP_CLASSES["DX"], [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
    association = ae.associate("127.0.0.1", node.port, ae_title="OSTEON")
    chosen = [cx.transfer_syntax[0] for cx in association.accepted_contexts]
    association.release()

    assert chosen == [ExplicitVRLittleEndian]


def test_pynetdicom_as_a_sender_is_served(node):
    """An SCU that is not ours: two images and two echoes on one association."""
    ae = AE("SCU")
    ae.add_requested_context(SOP_CLASSES["DX"], ExplicitVRLittleEndian)
    ae.add_requested_context(VERIFICATION)
    association = ae.associate("127.0.0.1", node.port, ae_title="OSTEON")
    statuses = [
        association.send_c_echo().Status,
        association.send_c_store(make(seed="s/1")).Status,
        association.send_c_echo().Status,
        association.send_c_store(make(seed="s/2")).Status,
    ]
    association.release()

    assert association.is_released
    assert statuses == [0, 0, 0, 0]
    assert len(node.instances()) == 2


def test_the_same_instance_again_is_success_and_nothing_twice(node):
    """A sender that missed our answer repeats; one row, one file."""
    ds = make()

    answers = [node.send(ds).Status for _ in range(3)]

    assert answers == [0, 0, 0]
    assert len(node.instances()) == len(node.kept_files()) == 1
    assert node.rows(tables.studies)[0].instances == 1
    assert node.spool_files() == node.quarantined_files() == set()


def test_the_same_uid_with_other_content_is_quarantined_and_refused(node):
    """Neither of two images is chosen silently; what was held stays as it was."""
    held, other = make(), make(picture(seed=7))
    node.send(held)

    answers = [node.send(other) for _ in range(2)]

    for answer in answers:
        assert answer.Status == StoreStatus.CONFLICTING_INSTANCE
        assert "other content" in answer.ErrorComment
    (row,) = node.instances()
    assert without_meta(node.files.absolute(row.path).read_bytes()) == encoded(held)
    (aside,) = node.rows(tables.quarantine)
    assert {aside.path} == node.quarantined_files()
    assert without_meta(node.files.absolute(aside.path).read_bytes()) == encoded(other)
    assert node.spool_files() == set()
    assert len(node.kept_files()) == 1


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
    ids=lambda uid: uid.name,
)
def test_the_same_image_in_another_uncompressed_syntax_is_a_repetition(node, syntax):
    """A PACS that forwards in Implicit VR brings nothing new."""
    node.send(make())

    again = node.send(make(syntax=syntax))

    assert again.Status == StoreStatus.SUCCESS
    assert len(node.instances()) == len(node.kept_files()) == 1
    assert node.quarantined_files() == node.spool_files() == set()


@pytest.mark.parametrize(
    "other",
    [
        {"PatientID": "SOMEBODY-ELSE"},
        {"StudyDescription": "Other"},
        {"ImageLaterality": "R"},
        {"pixels": picture(seed=9)},
        {"PatientSex": ABSENT},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_another_image_in_another_syntax_is_a_contradiction(node, other):
    """One element or one pixel that differs is enough."""
    node.send(make())

    answer = node.send(make(syntax=ImplicitVRLittleEndian, **other))

    assert answer.Status == StoreStatus.CONFLICTING_INSTANCE
    assert len(node.instances()) == len(node.quarantined_files()) == 1


def test_a_study_of_another_patient_is_quarantined_and_refused(node):
    """A Study Instance UID that two patients share is a mix-up that a person has to see."""
    node.send(make(seed="s/1"))

    answer = node.send(make(seed="s/2", PatientID="SOMEBODY-ELSE"))

    assert answer.Status == StoreStatus.CONFLICTING_INSTANCE
    assert "Patient ID" in answer.ErrorComment
    assert "SOMEBODY" not in answer.ErrorComment
    assert len(node.instances()) == 1
    assert len(node.rows(tables.quarantine)) == 1


def test_a_file_that_a_crash_left_without_its_row_is_adopted(node):
    """The sender was never told success, and sends the same bytes again."""
    ds = make()
    node.send(ds)
    (row,) = node.instances()
    path = node.files.absolute(row.path)
    with node.database.writing() as connection:
        connection.execute(tables.instances.delete())
        connection.execute(tables.studies.update().values(instances=0))
    path.write_bytes(path.read_bytes()[:1000])

    answer = node.send(ds)

    assert answer.Status == StoreStatus.SUCCESS
    (again,) = node.instances()
    assert again.path == row.path
    assert digest(without_meta(path.read_bytes())) == again.sha256
    assert node.spool_files() == set()


def test_a_file_that_a_crash_left_does_not_stand_in_the_way_of_other_content(node):
    """An orphan was promised to nobody."""
    crashed, other = make(picture(seed=1)), make(picture(seed=2))
    node.send(crashed)
    with node.database.writing() as connection:
        connection.execute(tables.instances.delete())
        connection.execute(tables.studies.update().values(instances=0))

    assert node.send(other).Status == StoreStatus.SUCCESS
    (row,) = node.instances()
    assert without_meta(node.files.absolute(row.path).read_bytes()) == encoded(other)


def test_a_lost_file_comes_back_with_a_repetition(node):
    """A row without its file is mended by whoever still has the image."""
    ds = make()
    node.send(ds)
    path = node.files.absolute(node.instances()[0].path)
    path.unlink()

    node.send(ds)

    assert without_meta(path.read_bytes()) == encoded(ds)


@pytest.mark.parametrize("cut", [1, 1000, 13000])
def test_a_data_set_that_is_cut_is_refused_with_the_reason(node, cut):
    """0xC000 and a comment; nothing is left behind, and the next image is served."""
    ds = make()
    with raw(node) as association:
        broken = association.store(encoded(ds)[:-cut], ds.SOPClassUID, ds.SOPInstanceUID)
        whole = association.store(encoded(ds), ds.SOPClassUID, ds.SOPInstanceUID)

    assert broken.Status == StoreStatus.CANNOT_UNDERSTAND
    assert broken.ErrorComment.startswith("the data set ends within")
    assert whole.Status == StoreStatus.SUCCESS
    assert len(node.kept_files()) == 1
    assert node.spool_files() == set()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", StoreStatus.CANNOT_UNDERSTAND),
        (b"not DICOM at all", StoreStatus.CANNOT_UNDERSTAND),
        (os.urandom(100_000), StoreStatus.CANNOT_UNDERSTAND),
        (encoded(make(StudyInstanceUID=ABSENT)), StoreStatus.INVALID_IDENTIFIER),
        (encoded(make(StudyInstanceUID=b"../../../tmp/x")), StoreStatus.INVALID_IDENTIFIER),
        (encoded(make(SOPInstanceUID="1.2.3")), StoreStatus.DATA_SET_DOES_NOT_MATCH),
        (encoded(make(SOPClassUID="1.2.3")), StoreStatus.DATA_SET_DOES_NOT_MATCH),
    ],
    ids=["empty", "text", "noise", "no study", "climbing study", "other instance", "other class"],
)
def test_bytes_that_cannot_be_our_instance_are_refused(node, data, status):
    """With a status that says which kind of wrong it is, and nothing left behind."""
    answer = node.send(make(), data=data)

    assert answer.Status == status
    assert 0 < len(answer.ErrorComment) <= 64
    assert node.instances() == []
    assert node.kept_files() == node.spool_files() == set()


@pytest.mark.parametrize("uid", ["../../etc/passwd", "1.2/3", ".", "1.2.3.", "1" * 64 + ".2"])
def test_a_request_with_a_uid_that_climbs_leaves_nothing_anywhere(node, uid):
    """Refused or aborted, as the network library sees fit; never a path."""
    before = {p for p in node.files.root.parent.rglob("*") if p.is_file()}
    ds = make()

    with suppress(Ended), raw(node) as association:
        status = association.store(encoded(ds), ds.SOPClassUID, uid).Status
        assert status != StoreStatus.SUCCESS

    assert node.instances() == []
    new = {p for p in node.files.root.parent.rglob("*") if p.is_file()} - before
    assert {p for p in new if "sqlite" not in p.name} == set()


def test_a_context_of_another_class_is_refused(node):
    """A CR may not come through the door of DX."""
    ds = make(kind="CR")
    with raw(node, "DX", "CR") as association:
        wrong = association.store(encoded(ds), ds.SOPClassUID, ds.SOPInstanceUID, context=1)
        right = association.store(encoded(ds), ds.SOPClassUID, ds.SOPInstanceUID, context=3)

    assert wrong.Status == StoreStatus.SOP_CLASS_NOT_SUPPORTED
    assert right.Status == StoreStatus.SUCCESS


def test_a_data_set_over_the_limit_is_refused_and_the_association_goes_on(start):
    """The rest of it is taken and dropped: a sender listens only after its last byte."""
    node = start(max_instance_bytes=20_000)
    large, small = make(picture(400, 400), seed="s/1"), make(seed="s/2")
    with raw(node) as association:
        refused = association.store(encoded(large), large.SOPClassUID, large.SOPInstanceUID)
        kept = association.store(encoded(small), small.SOPClassUID, small.SOPInstanceUID)

    assert refused.Status == StoreStatus.TOO_LARGE
    assert kept.Status == StoreStatus.SUCCESS
    assert node.spool_files() == set()


def test_a_full_disk_is_answered_before_it_is_full(start):
    """Out of resources: the sender keeps its copy, and work in flight its room."""
    node = start(reserve_bytes=2**60)

    answer = node.send(make())

    assert answer.Status == StoreStatus.OUT_OF_RESOURCES
    assert node.instances() == []
    assert node.spool_files() == node.kept_files() == set()


@pytest.mark.parametrize("method", ["finish", "write"])
def test_a_disk_that_fills_within_a_data_set_is_answered(node, monkeypatch, method):
    """Whichever write is the one that fails."""

    def full(*_: Any) -> None:
        raise NoRoom("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(f"studies.files.SpoolFile.{method}", full)
        refused = node.send(make())
    again = node.send(make())

    assert refused.Status == StoreStatus.OUT_OF_RESOURCES
    assert again.Status == StoreStatus.SUCCESS
    assert node.spool_files() == set()


def test_a_database_that_is_away_is_answered_and_caught_up_with(node, monkeypatch):
    """Never success without the row; the same image is welcome as soon as it is back."""

    def away(*_: Any, **__: Any) -> None:
        raise OperationalError("insert", {}, Exception("gone"))

    ds = make()
    answers = []
    for method in ("open_association", "receive"):
        with monkeypatch.context() as patch:
            patch.setattr(node.journal, method, away)
            answers.append(node.send(ds))
    again = node.send(ds)

    for answer in answers:
        assert answer.Status == StoreStatus.TEMPORARILY_UNABLE
    assert again.Status == StoreStatus.SUCCESS
    assert len(node.instances()) == len(node.kept_files()) == 1
    assert node.spool_files() == set()


def test_an_association_that_could_not_be_closed_is_closed_later(node, monkeypatch):
    """Else its studies would wait for the long timeout of open associations."""

    def away(*_: Any) -> None:
        raise OperationalError("update", {}, Exception("gone"))

    with structlog.testing.capture_logs() as lines, monkeypatch.context() as patch:
        patch.setattr(node.journal, "close_association", away)
        node.send(make())
        wait_until(
            lambda: any(line["event"] == "association not closed yet" for line in lines),
            what="the failed close",
        )
    node.listener.keep_house()

    assert node.closed_associations(1)[0].outcome == "released"


def test_an_error_of_our_own_is_answered_and_logged(node, monkeypatch):
    """Whatever breaks, the sender gets a failure, and keeps its image."""

    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    with structlog.testing.capture_logs() as lines, monkeypatch.context() as patch:
        patch.setattr("dicom_node.handlers.take_in", broken)
        answer = node.send(make())

    assert answer.Status == StoreStatus.PROCESSING_FAILURE
    assert any(line.get("error") == "ZeroDivisionError" for line in lines)
    assert node.spool_files() == set()


def test_a_study_is_complete_only_after_the_release(node):
    """The association's row holds its studies back until it is closed."""
    lifecycle = Lifecycle(node.database)
    ds = make()
    with raw(node) as association:
        association.store(encoded(ds), ds.SOPClassUID, ds.SOPInstanceUID)
        early = lifecycle.complete_studies(quiet_seconds=0, open_association_seconds=3600)
    node.closed_associations(1)

    late = lifecycle.complete_studies(quiet_seconds=0, open_association_seconds=3600)

    assert early == ()
    assert late == (ds.StudyInstanceUID,)


def test_an_association_without_an_image_leaves_no_row(node):
    """An echo every minute would fill the table."""
    with RawAssociation(node.port, [(VERIFICATION, ImplicitVRLittleEndian)]) as association:
        assert association.echo() == 0

    assert node.rows(tables.associations) == []


@pytest.mark.parametrize(
    ("end", "outcome"),
    [("release", "released"), ("abort", "aborted"), ("close", "lost")],
)
def test_how_an_association_ended_is_noted(node, end, outcome):
    """And said in one line, with what it has brought."""
    ds = make()
    with structlog.testing.capture_logs() as lines:
        association = RawAssociation(node.port, [(ds.SOPClassUID, ExplicitVRLittleEndian)])
        association.store(encoded(ds), ds.SOPClassUID, ds.SOPInstanceUID)
        getattr(association, end)()
        (row,) = node.closed_associations(1)
        wait_until(lambda: any(line["event"] == "association" for line in lines), what="the line")

    assert row.outcome == outcome
    (line,) = [line for line in lines if line["event"] == "association"]
    assert line["outcome"] == outcome
    assert line["success"] == 1
    assert line["bytes"] == len(encoded(ds))


@pytest.mark.parametrize("end", ["abort", "close"])
def test_a_transfer_that_breaks_off_leaves_nothing(node, end):
    """Half an image was promised to nobody; the other half may come with the next try."""
    ds = make()
    association = RawAssociation(node.port, [(ds.SOPClassUID, ExplicitVRLittleEndian)])
    association.store(encoded(ds), ds.SOPClassUID, ds.SOPInstanceUID)
    other = make(seed="s/2")
    association.request(other.SOPClassUID, other.SOPInstanceUID)
    association.send_data(encoded(other)[:9000], last=False)
    getattr(association, end)()

    node.closed_associations(1)
    wait_until(lambda: node.spool_files() == set(), what="an empty spool")
    assert len(node.instances()) == 1
    assert node.send(other).Status == StoreStatus.SUCCESS


def test_neither_logs_nor_answers_name_a_patient(node):
    """UIDs and titles only, whatever goes wrong."""
    secret = "VERYSECRET^NAME"
    ds = make(PatientName=secret, PatientID="SECRETID")
    with structlog.testing.capture_logs() as lines:
        answers = [
            node.send(ds),
            node.send(make(PatientName=secret, PatientID="OTHERSECRETID")),
            node.send(ds, data=encoded(ds)[:-5]),
        ]

    told = json.dumps(lines, default=str) + str(answers)
    assert "SECRET" not in told
    assert [answer.Status for answer in answers] == [0x0000, 0xC111, 0xC000]


def test_another_called_title_is_rejected(node):
    """PS3.8 9.3.4: rejected permanently, called AE title not recognised."""
    with pytest.raises(Rejected) as rejected, raw(node, called="SOMEBODY"):
        pass

    assert rejected.value.reason == (1, 1, 7)


def test_an_unknown_sender_is_rejected(start):
    """PS3.8 9.3.4: rejected permanently, calling AE title not recognised."""
    node = start(sources=[{"ae_title": "CR1", "host": "127.0.0.1"}])

    with pytest.raises(Rejected) as rejected, raw(node, calling="CR2"):
        pass
    with raw(node, calling="CR1") as association:
        assert association.accepted

    assert rejected.value.reason == (1, 1, 3)


def test_a_known_title_from_elsewhere_is_rejected(start):
    """The title alone opens nothing."""
    node = start(sources=[{"ae_title": "CR1", "host": "10.0.0.0/8"}])

    with pytest.raises(Rejected) as rejected, raw(node, calling="CR1"):
        pass

    assert rejected.value.reason == (1, 1, 3)


def test_an_open_node_lets_anybody_in_and_says_so_loudly(start):
    """A setting for the test bench, with a warning in the log."""
    with structlog.testing.capture_logs() as lines:
        node = start(open_node=True, sources=[])

    with raw(node, calling="ANYBODY") as association:
        assert association.accepted
    assert any("OPEN NODE" in line["event"] and line["log_level"] == "warning" for line in lines)


def test_associations_over_the_limit_are_told_so(start):
    """PS3.8 9.3.4: rejected for now, local limit exceeded; a place comes back with a release."""
    node = start(max_associations=2)
    with raw(node), raw(node):
        with pytest.raises(Rejected) as rejected, raw(node):
            pass
        assert rejected.value.reason == (2, 3, 2)

    def accepted() -> bool:
        try:
            with raw(node):
                return True
        except Rejected:
            return False

    assert wait_until(accepted, what="a free place")


def test_several_fragments_in_one_pdu_are_one_data_set(node):
    """PS3.8 9.3.5: a P-DATA-TF carries one or more fragments, command and data alike."""
    ds = make()
    data = encoded(ds)
    thirds = [data[:5000], data[5000:9001], data[9001:]]
    with raw(node) as association:
        command = association.command(
            AffectedSOPClassUID=ds.SOPClassUID, AffectedSOPInstanceUID=ds.SOPInstanceUID
        )
        association.send_pdus(
            [
                (1, COMMAND, command[:20]),
                (1, COMMAND | LAST, command[20:]),
                (1, DATA, thirds[0]),
                (1, DATA, thirds[1]),
                (1, DATA | LAST, thirds[2]),
            ]
        )
        answer = association.response()

    assert answer.Status == StoreStatus.SUCCESS
    assert node.instances()[0].sha256 == digest(data)


def test_an_empty_last_fragment_ends_a_data_set(node):
    """Some senders flush the end of a data set by itself."""
    ds = make()
    with raw(node) as association:
        association.request(ds.SOPClassUID, ds.SOPInstanceUID)
        association.send_data(encoded(ds), last=False)
        association.send_pdus([(1, DATA | LAST, b"")])

        assert association.response().Status == StoreStatus.SUCCESS


def test_a_pdu_may_come_byte_by_byte(node):
    """TCP is a stream: where it is cut means nothing."""
    ds = make()
    data = encoded(ds)
    with raw(node) as association:
        command = association.command(
            AffectedSOPClassUID=ds.SOPClassUID, AffectedSOPInstanceUID=ds.SOPInstanceUID
        )
        stream = b"".join(
            [
                pdata([(1, COMMAND | LAST, command)]),
                pdata([(1, DATA, data[:300])]),
                pdata([(1, DATA | LAST, data[300:])]),
            ]
        )
        for position in range(900):
            association.socket.send(stream[position : position + 1])
        association.socket.sendall(stream[900:])

        assert association.response().Status == StoreStatus.SUCCESS
    assert node.instances()[0].sha256 == digest(data)


def test_echoes_between_images_are_answered(node):
    """Several messages of several kinds in one segment, answered in their order."""
    ds = make()
    contexts = [(ds.SOPClassUID, ExplicitVRLittleEndian), (VERIFICATION, ImplicitVRLittleEndian)]
    with RawAssociation(node.port, contexts) as association:
        for number in range(3):
            assert association.echo(context=3) == 0
            one = make(seed=f"s/{number}")
            stored = association.store(encoded(one), one.SOPClassUID, one.SOPInstanceUID)
            assert stored.Status == StoreStatus.SUCCESS


def test_the_largest_pdu_that_we_announce_is_taken(node):
    """Fragments of the size that the negotiation allows."""
    ds = make(picture(600, 600))
    with raw(node) as association:
        association.request(ds.SOPClassUID, ds.SOPInstanceUID)
        association.send_data(encoded(ds), fragment=node.settings.max_pdu - 6)

        assert association.response().Status == StoreStatus.SUCCESS


def test_a_sender_that_takes_only_small_pdus_gets_its_answer_in_pieces(node):
    """Our answer respects the peer's maximum length (PS3.8 D.1)."""
    with raw(node, max_pdu=64) as association:
        ds = make()
        answer = association.store(b"garbage", ds.SOPClassUID, ds.SOPInstanceUID)

    assert answer.Status == StoreStatus.CANNOT_UNDERSTAND
    assert answer.ErrorComment


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"\x01\x00\xff\xff\xff\xff" + b"x" * 5000,
        b"\x01\x00\x00\x00\x00\x04abcd",
        b"\x04\x00\x00\x00\x00\x08\x00\x00\x00\x04\x01\x03ab",
        b"\x00" * 3,
        os.urandom(4096),
    ],
    ids=["http", "tls hello", "huge request", "short request", "data first", "three", "noise"],
)
def test_garbage_at_the_port_disturbs_nobody(node, garbage):
    """It is cut off, and the next sender is served."""
    with socket.create_connection(("127.0.0.1", node.port), timeout=30) as peer:
        peer.sendall(garbage)
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(4096):
            pass

    assert node.send(make()).Status == StoreStatus.SUCCESS


# pynetdicom's own thread dies of a command that is none, which is how it ends the association.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    "pdu",
    [
        struct.pack(">BxL", 0x04, 8) + struct.pack(">LBB", 99, 1, 2) + b"ab",
        struct.pack(">BxL", 0x04, 8) + struct.pack(">LBB", 1, 1, 2) + b"ab",
        pdata([(1, DATA | LAST, b"a data set without its command")]),
        pdata([(1, COMMAND | LAST, b"not a command set")]),
        pdata([(99, COMMAND | LAST, b"")]),
        struct.pack(">BxL", 0x02, 4) + b"abcd",
        struct.pack(">BxL", 0x55, 4) + b"abcd",
    ],
    ids=["long item", "short item", "no command", "bad command", "no context", "accept", "unknown"],
)
def test_a_pdu_that_breaks_the_rules_ends_its_association_alone(node, pdu):
    """Aborted; the listener and everybody else go on."""
    ds = make()
    with raw(node, "CR") as bystander:
        association = RawAssociation(node.port, [(ds.SOPClassUID, ExplicitVRLittleEndian)])
        association.socket.sendall(pdu)
        association.socket.shutdown(socket.SHUT_WR)
        with pytest.raises(Ended):
            association.response()
        association.close()

        cr = make(kind="CR")
        answer = bystander.store(encoded(cr), cr.SOPClassUID, cr.SOPInstanceUID)

    assert answer.Status == StoreStatus.SUCCESS


def test_a_sender_that_falls_silent_is_let_go(start):
    """Its place and its studies are not held for ever."""
    node = start(network_seconds=0.5)
    ds = make()
    association = RawAssociation(node.port, [(ds.SOPClassUID, ExplicitVRLittleEndian)])
    association.store(encoded(ds), ds.SOPClassUID, ds.SOPInstanceUID)

    (row,) = node.closed_associations(1)

    association.close()
    assert row.outcome == "lost"


def test_two_hundred_senders_at_once_are_all_served(start, fast):
    """Each brings one image of its own study; the plain way polls with two threads for each."""
    senders = 200 if fast else 30
    node = start(max_associations=250)
    datasets = [make(seed=f"study{number}/1") for number in range(senders)]
    with ExitStack() as stack:
        associations = [stack.enter_context(raw(node)) for _ in datasets]
        for association, ds in zip(associations, datasets, strict=True):
            association.request(ds.SOPClassUID, ds.SOPInstanceUID)
            association.send_data(encoded(ds))
        answers = [association.response().Status for association in associations]

    assert set(answers) == {StoreStatus.SUCCESS}
    assert len(node.instances()) == len(node.rows(tables.studies)) == senders
    assert {row.outcome for row in node.closed_associations(senders)} == {"released"}


def test_a_node_that_stops_ends_its_associations(tmp_path, fast):
    """And leaves no spool file, no open row, no thread."""
    with running_node(tmp_path, fast_receive=fast) as node:
        ds = make()
        association = RawAssociation(node.port, [(ds.SOPClassUID, ExplicitVRLittleEndian)])
        association.store(encoded(ds), ds.SOPClassUID, ds.SOPInstanceUID)
        association.request(ds.SOPClassUID, "1.2.3")
        association.send_data(b"half of it", last=False)
        node.listener.stop()

        assert node.spool_files() == set()
        assert len(node.closed_associations(1)) == 1
    association.close()


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, DeflatedExplicitVRLittleEndian])
def test_a_lossy_or_deflated_image_is_kept_as_it_came(node, syntax):
    """Nothing is decoded, nothing is re-encoded."""
    ds = make(picture(bits=8).astype("uint8"), syntax=syntax)

    node.send(ds)

    (row,) = node.instances()
    assert without_meta(node.files.absolute(row.path).read_bytes()) == encoded(ds)


def test_settings_decide_the_address(tmp_path):
    """The listener binds where it is told; a free port only for tests."""
    assert Settings(data_dir=tmp_path).dicom_host == "127.0.0.1"
