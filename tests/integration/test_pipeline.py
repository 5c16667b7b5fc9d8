"""One study's story against a real database: late images, replay, errors that pass and that stay."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest

from studies.database import Database
from studies.lifecycle import Lifecycle
from studies.model import Band, Status
from studies.outbox import Outbox
from tests.support.domain import HandClock
from tests.support.reading import ReadingNode, radiograph, reading_node
from tests.support.tiny_models import tiny_models
from tests.support.waiting import wait_until
from worker.analysis import Analysis, Analyst
from worker.pipeline import Heartbeat, LeaseLost, StudyReader

OWNER = "worker-1"


class Desk:
    """A node, its reader, and a list of the files that were really analysed."""

    def __init__(self, node: ReadingNode, clock: HandClock) -> None:
        self.node = node
        self.clock = clock
        self.lifecycle = Lifecycle(node.database, clock)
        self.analyst = Analyst.open(node.settings)
        self.reader = StudyReader(node.settings, node.database, self.analyst, OWNER, clock)
        self.analysed: list[str] = []
        self._analyse = self.analyst.analyse
        self.analyst.analyse = self._noted  # type: ignore[method-assign]

    def _noted(self, path: Path) -> Analysis:
        self.analysed.append(path.stem)
        return self._analyse(path)

    def complete(self) -> None:
        self.clock.forward(60)
        self.lifecycle.complete_studies(quiet_seconds=0.2, open_association_seconds=60)

    def reports(self, uid: str) -> list[pydicom.Dataset]:
        """The reports on their way, the oldest first."""
        deliveries = Outbox(self.node.database).of_study(uid)
        paths = [self.node.files.absolute(d.object.path) for d in deliveries]
        return [pydicom.dcmread(path) for path in paths]


@pytest.fixture
def clock() -> HandClock:
    """Noon."""
    return HandClock()


@pytest.fixture
def desk(tmp_path: Path, any_database: Database, clock: HandClock) -> Iterator[Desk]:
    """A node with models that find a fracture in every hand."""
    models = tiny_models(tmp_path / "models")
    url = any_database.engine.url.render_as_string(hide_password=False)
    with reading_node(tmp_path, models, database_url=url, lease_seconds=15) as node:
        node.journal = type(node.journal)(node.database, clock)
        yield Desk(node, clock)


def test_a_study_ends_with_a_report_that_names_every_image(desk: Desk):
    """What was read, and what was not, with its reason."""
    uid = desk.node.receive(radiograph("study/1")).StudyInstanceUID
    desk.node.receive(radiograph("study/2", body_part="CHEST"))
    desk.complete()

    assert desk.reader.read(uid) is Status.READ
    (reading,) = desk.node.readings(uid)
    hand, chest = reading.images
    assert hand.band is Band.POSITIVE
    assert hand.heat_map is not None
    assert desk.node.files.read(hand.heat_map)
    assert chest.not_analysed is not None
    assert "CHEST" in chest.not_analysed
    (report,) = desk.reports(uid)
    assert report.StudyInstanceUID == uid
    assert "PredecessorDocumentsSequence" not in report
    assert desk.reader.read(uid) is None


def test_a_study_without_a_limb_is_not_analysed_and_reported_so(desk: Desk):
    """The PACS is told as well; nothing about it says negative."""
    uid = desk.node.receive(radiograph("study/1", body_part="CHEST")).StudyInstanceUID
    desk.complete()

    assert desk.reader.read(uid) is Status.NOT_ANALYSED
    study = desk.node.study(uid)
    assert study.band is None
    assert study.reason is not None
    assert "CHEST" in study.reason
    assert len(desk.reports(uid)) == 1


def test_a_late_image_is_read_alone_and_gives_one_superseding_report(desk: Desk):
    """What was said before still holds; the new report names the one that it replaces."""
    first = desk.node.receive(radiograph("study/1"))
    uid = first.StudyInstanceUID
    desk.complete()
    desk.reader.read(uid)
    late = desk.node.receive(radiograph("study/2"))
    desk.complete()

    assert desk.reader.read(uid) is Status.READ
    assert desk.analysed == [first.SOPInstanceUID, late.SOPInstanceUID]
    before, after = desk.node.readings(uid)
    assert (after.revision, after.predecessor) == (2, 1)
    assert after.images[0] == before.images[0]
    assert len(after.images) == 2
    old, new = desk.reports(uid)
    (study_item,) = new.PredecessorDocumentsSequence
    (series_item,) = study_item.ReferencedSeriesSequence
    (named,) = series_item.ReferencedSOPSequence
    assert named.ReferencedSOPInstanceUID == old.SOPInstanceUID


def test_a_replay_reads_every_image_anew(desk: Desk):
    """A person asked for it: another report, which replaces the first."""
    image = desk.node.receive(radiograph("study/1"))
    uid = image.StudyInstanceUID
    desk.complete()
    desk.reader.read(uid)
    assert desk.lifecycle.replay(uid)

    assert desk.reader.read(uid) is Status.READ
    assert desk.analysed == [image.SOPInstanceUID] * 2
    old, new = desk.reports(uid)
    assert old.SOPInstanceUID != new.SOPInstanceUID
    assert "PredecessorDocumentsSequence" in new


def test_a_for_processing_image_gives_way_to_its_sibling(desk: Desk):
    """The same exposure is not judged twice."""
    desk.node.receive(radiograph("study/1", kind="DX-PROCESSING"))
    shown = desk.node.receive(radiograph("study/2"))
    desk.complete()
    desk.reader.read(shown.StudyInstanceUID)

    (reading,) = desk.node.readings(shown.StudyInstanceUID)
    assert reading.images[0].not_analysed == "the For Presentation image of the study is read"
    assert reading.images[1].readings
    assert desk.analysed == [shown.SOPInstanceUID]


def test_a_damaged_image_does_not_take_its_study_with_it(desk: Desk):
    """It is named as not analysed; the others are read."""
    damaged = radiograph("study/1", PixelData=b"\0\0")
    desk.node.receive(damaged)
    good = desk.node.receive(radiograph("study/2"))
    desk.complete()

    assert desk.reader.read(good.StudyInstanceUID) is Status.READ
    (reading,) = desk.node.readings(good.StudyInstanceUID)
    assert [image.not_analysed is None for image in reading.images] == [False, True]


def test_a_file_that_is_away_is_waited_for(desk: Desk):
    """A share that is not mounted is no reason to call a study unreadable."""
    image = desk.node.receive(radiograph("study/1"))
    uid = image.StudyInstanceUID
    path = desk.node.files.absolute(image.path)
    away = path.rename(path.with_suffix(".away"))
    desk.complete()

    assert desk.reader.read(uid) is Status.READY
    assert "cannot be opened" in desk.node.events(uid)[-1].detail
    away.rename(path)
    assert desk.reader.read(uid) is Status.READ


def test_a_defect_is_tried_again_a_bounded_number_of_times(
    desk: Desk, caplog: pytest.LogCaptureFixture
):
    """Then a person has to look. The error's text may hold a name and goes nowhere near them."""

    def broken(path: Path) -> Analysis:
        raise LookupError("SECRET^PATIENT")

    desk.analyst.analyse = broken  # type: ignore[method-assign]
    uid = desk.node.receive(radiograph("study/1")).StudyInstanceUID
    desk.complete()
    outcomes = [desk.reader.read(uid) for _ in range(desk.node.settings.max_attempts)]

    assert outcomes == [Status.READY, Status.READY, Status.FAILED]
    study = desk.node.study(uid)
    assert study.reason is not None
    assert "LookupError" in study.reason
    assert "SECRET" not in study.reason
    assert all("SECRET" not in event.detail for event in desk.node.events(uid))


def test_a_worker_that_is_stopped_at_once_gives_its_study_back(desk: Desk):
    """Nobody has to wait for the lease to end."""

    def stopped(path: Path) -> Analysis:
        raise SystemExit(1)

    desk.analyst.analyse = stopped  # type: ignore[method-assign]
    uid = desk.node.receive(radiograph("study/1")).StudyInstanceUID
    desk.complete()
    with pytest.raises(SystemExit):
        desk.reader.read(uid)

    assert desk.node.study(uid).status is Status.READY
    assert desk.lifecycle.claim(uid, "another", seconds=15) is not None


def test_a_worker_that_lost_its_lease_leaves_no_outcome(desk: Desk):
    """It was taken for dead; the other one's report stays as it is, byte for byte."""
    image = desk.node.receive(radiograph("study/1"))
    uid = image.StudyInstanceUID
    desk.complete()
    other = StudyReader(desk.node.settings, desk.node.database, desk.analyst, "other", desk.clock)
    original = desk.analyst.analyse
    outcomes: list[Any] = []

    def overtaken(path: Path) -> Analysis:
        desk.analyst.analyse = original  # type: ignore[method-assign]
        desk.clock.forward(desk.node.settings.lease_seconds + 1)
        assert desk.lifecycle.reap(max_attempts=3) == (uid,)
        outcomes.append(other.read(uid))
        return original(path)

    desk.analyst.analyse = overtaken  # type: ignore[method-assign]
    outcomes.append(desk.reader.read(uid))

    assert outcomes == [Status.READ, None]
    assert len(desk.node.readings(uid)) == 1
    (delivery,) = Outbox(desk.node.database).of_study(uid)
    data = desk.node.files.read(delivery.object.path)
    assert len(data) == delivery.object.size
    assert desk.node.files.write(delivery.object.path, data) == delivery.object.sha256


def test_a_heartbeat_notices_that_the_lease_is_lost(desk: Desk):
    """The reader stops at the next image instead of working for nothing."""
    uid = desk.node.receive(radiograph("study/1")).StudyInstanceUID
    desk.complete()
    lease = desk.lifecycle.claim(uid, OWNER, seconds=15)
    assert lease is not None
    with Heartbeat(desk.lifecycle, lease, 0.03) as heartbeat:
        heartbeat.check()
        assert desk.lifecycle.fail(lease, "taken away")

        def is_lost() -> bool:
            try:
                heartbeat.check()
            except LeaseLost:
                return True
            return False

        assert wait_until(is_lost)
