"""The listener on PostgreSQL: two listeners, many senders, and a server that goes away."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.listener import Listener
from dicom_node.statuses import StoreStatus
from studies import tables
from studies.presence import Presence
from tests.support.dicom_making import make, picture
from tests.support.listening import digest, encoded, running_node, without_meta
from tests.support.postgres import Postgres
from tests.support.raw_association import RawAssociation


@pytest.mark.kill
def test_a_database_that_is_killed_costs_no_image(tmp_path: Path):
    """While it is away senders are told to come back; afterwards all goes on by itself."""
    with Postgres() as server:
        url = server.new_database()
        first, second = make(seed="s/1"), make(seed="s/2")
        with running_node(tmp_path, database_url=url) as node:
            with RawAssociation(
                node.port, [(first.SOPClassUID, ExplicitVRLittleEndian)]
            ) as association:

                def store(ds):
                    return association.store(encoded(ds), ds.SOPClassUID, ds.SOPInstanceUID).Status

                before = store(first)
                server.kill()
                away = [store(second), store(first)]
                server.start()
                after = [store(second), store(first)]

            node.closed_associations(1)
            kept = {row.sop_instance_uid for row in node.instances()}

    assert before == StoreStatus.SUCCESS
    assert set(away) == {StoreStatus.TEMPORARILY_UNABLE}
    assert after == [StoreStatus.SUCCESS, StoreStatus.SUCCESS]
    assert kept == {first.SOPInstanceUID, second.SOPInstanceUID}


def test_two_listeners_on_one_database_keep_each_image_once(tmp_path: Path, postgres_url: str):
    """Two ways into one node, and senders that send the same images through both."""
    datasets = [make(picture(seed=n), seed=f"study{n % 5}/{n}") for n in range(20)]
    sent = {ds.SOPInstanceUID: encoded(ds) for ds in datasets}
    statuses: list[int] = []
    with (
        running_node(tmp_path, database_url=postgres_url) as node,
        Presence(node.database, "listener") as presence,
        Listener(node.settings, node.files, node.journal, presence.id, port=0) as other,
    ):

        def send(port: int) -> None:
            with RawAssociation(port, [(make().SOPClassUID, ExplicitVRLittleEndian)]) as raw:
                for ds in datasets:
                    answer = raw.store(sent[ds.SOPInstanceUID], ds.SOPClassUID, ds.SOPInstanceUID)
                    statuses.append(answer.Status)

        threads = [
            threading.Thread(target=send, args=(port,)) for port in (node.port, other.port) * 4
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        node.closed_associations(8)

        rows = node.instances()
        files = {row.path: without_meta(node.files.absolute(row.path).read_bytes()) for row in rows}
        kept_files = node.kept_files()
        studies = {row.study_instance_uid: row.instances for row in node.rows(tables.studies)}

    assert set(statuses) == {StoreStatus.SUCCESS}
    assert len(statuses) == 160
    assert {row.sop_instance_uid for row in rows} == set(sent)
    assert len(rows) == 20
    assert all(digest(files[row.path]) == row.sha256 for row in rows)
    assert kept_files == {row.path for row in rows}
    assert set(studies.values()) == {4}


def test_two_contents_of_one_uid_at_the_same_time_end_as_one_and_a_quarantine(
    tmp_path: Path, postgres_url: str
):
    """Whichever is first is held, whole; the other is aside, whole."""
    contents = [encoded(make(picture(seed=n))) for n in range(6)]
    ds = make()
    answers: list[int] = []
    with running_node(tmp_path, database_url=postgres_url) as node:
        ready = threading.Barrier(len(contents))

        def send(data: bytes) -> None:
            with RawAssociation(node.port, [(ds.SOPClassUID, ExplicitVRLittleEndian)]) as raw:
                ready.wait()
                answers.append(raw.store(data, ds.SOPClassUID, ds.SOPInstanceUID).Status)

        threads = [threading.Thread(target=send, args=(data,)) for data in contents]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        (held,) = node.instances()
        aside = node.rows(tables.quarantine)
        kept = {row.path: node.files.absolute(row.path).read_bytes() for row in [held, *aside]}
        stray = (node.kept_files() | node.quarantined_files()) - set(kept)

    assert sorted(answers) == [StoreStatus.SUCCESS] + [StoreStatus.CONFLICTING_INSTANCE] * 5
    assert {digest(without_meta(data)) for data in kept.values()} == set(map(digest, contents))
    assert stray == set()
