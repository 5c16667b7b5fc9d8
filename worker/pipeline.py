"""One study's story, in order: claim, read each image, build the reports, finish."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import structlog
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
)
from sqlalchemy.exc import SQLAlchemyError

from dicom_node.admission import Admission
from reports.dataset import encode
from reports.document import Device
from reports.source import SourceStudy, source_study
from reports.sr import KIND, Options, measurement_report
from reports.uids import deployment_uid, instance_uid
from studies.catalogue import Catalogue
from studies.clock import Clock, utc_now
from studies.database import Database
from studies.deployment import deployment_id
from studies.errors import NoRoom, PermanentError, TemporaryError
from studies.files import Files
from studies.lifecycle import Lifecycle
from studies.model import (
    ImageReading,
    Instance,
    Lease,
    ObjectKind,
    Outgoing,
    ProducedObject,
    Reading,
    Sender,
    Status,
)
from studies.rules import retry_delay
from studies.settings import Settings
from studies.version import VERSION
from worker.analysis import Analyst

_log = structlog.get_logger()

_FOR_PRESENTATION: Final[str] = DigitalXRayImageStorageForPresentation
_FOR_PROCESSING: Final[str] = DigitalXRayImageStorageForProcessing


class StudyReader:
    """Reads studies one after the other.

    Parameters
    ----------
    owner
        Process that reads, as in the table of processes.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        analyst: Analyst,
        owner: str,
        clock: Clock = utc_now,
    ) -> None:
        self._settings = settings
        self._lifecycle = Lifecycle(database, clock)
        self._catalogue = Catalogue(database)
        self._files = Files(settings.data_dir)
        self._admission = Admission(settings.sources, open_node=settings.open_node)
        self._analyst = analyst
        self._owner = owner
        self._clock = clock
        deployment = deployment_id(self._files)
        self._device = Device(
            uid=deployment_uid(deployment),
            name=settings.ae_title,
            serial_number=deployment,
            software_version=VERSION,
        )

    def read(self, StudyInstanceUID: str) -> Status | None:
        """Read a study if it is ready and nobody else reads it.

        Returns
        -------
        Status or None
            Where the study stands; None if there was nothing to do, or the lease was lost.
        """
        seconds = self._settings.lease_seconds
        lease = self._lifecycle.claim(StudyInstanceUID, self._owner, seconds=seconds)
        if lease is None:
            return None
        started = time.perf_counter()
        with Heartbeat(self._lifecycle, lease, seconds) as heartbeat:
            status = self._outcome(lease, heartbeat)
        _log.info(
            "study read",
            StudyInstanceUID=StudyInstanceUID,
            status=status,
            attempt=lease.attempt,
            seconds=round(time.perf_counter() - started, 3),
        )
        return status

    def _outcome(self, lease: Lease, heartbeat: Heartbeat) -> Status | None:
        try:
            return self._read(lease, heartbeat)
        except LeaseLost:
            return None
        except NoRoom as error:
            return self._give_back(lease, str(error), error.delay, counts=False)
        except TemporaryError as error:
            return self._give_back(lease, str(error), error.delay)
        except PermanentError as error:
            return Status.FAILED if self._lifecycle.fail(lease, str(error)) else None
        except SQLAlchemyError:
            raise  # the database is away: the reaper gives the study back once it is there again
        except (SystemExit, KeyboardInterrupt):
            # Asked to end at once, in the middle: another worker need not wait for our lease to end.
            self._give_back(lease, "the worker was stopped while reading", 1.0)
            raise
        except Exception as error:  # noqa: BLE001
            # A defect of ours must not stop the node: the study is tried again, a bounded number
            # of times, and then waits for a person as FAILED. The text may repeat a value of the
            # file, and so the patient's name: it goes nowhere.
            _log.exception("defect", StudyInstanceUID=lease.StudyInstanceUID)
            reason = f"a defect of Osteon: {type(error).__name__}"
            return self._give_back(lease, reason, retry_delay(lease.attempt))

    def _give_back(self, lease: Lease, reason: str, delay: float, *, counts: bool = True) -> Status:
        return self._lifecycle.retry_later(
            lease, reason, delay=delay, max_attempts=self._settings.max_attempts, counts=counts
        )

    def _read(self, lease: Lease, heartbeat: Heartbeat) -> Status | None:
        begun = self._clock()
        study = self._catalogue.study(lease.StudyInstanceUID)
        earlier = self._catalogue.readings(study)
        instances = self._lifecycle.instances(lease)
        is_replay = study.read_revision == lease.revision
        known = {} if is_replay else self._still_true(earlier)
        shown = any(i.SOPClassUID == _FOR_PRESENTATION for i in instances)
        images = []
        for instance in instances:
            heartbeat.check()
            if shown and instance.SOPClassUID == _FOR_PROCESSING:
                images.append(_unread(instance, "the For Presentation image of the study is read"))
                continue
            images.append(known.get(instance.SOPInstanceUID) or self._image(instance))
        reading = Reading(
            StudyInstanceUID=lease.StudyInstanceUID,
            revision=study.readings + 1,
            images=tuple(images),
            models=self._analyst.models,
            configuration=self._analyst.configuration,
            created_at=begun,
            predecessor=earlier[-1].revision if earlier else None,
        )
        source = self._source(instances)
        previous = earlier[-1] if earlier else None
        sent_before = self._catalogue.objects(study, previous.revision) if previous else ()
        outgoing = tuple(self._reports(reading, source, previous, sent_before))
        heartbeat.check()
        if not self._lifecycle.finish(lease, reading, outgoing):
            return None
        return Status.READ if reading.not_analysed is None else Status.NOT_ANALYSED

    def _still_true(self, earlier: Sequence[Reading]) -> Mapping[str, ImageReading]:
        """What was said before of images, where the same models and settings would say it again."""
        return {
            image.SOPInstanceUID: image
            for reading in earlier
            if reading.configuration == self._analyst.configuration
            for image in reading.images
        }

    def _image(self, instance: Instance) -> ImageReading:
        path = self._files.absolute(instance.path)
        _check_there(path, instance)
        try:
            analysis = self._analyst.analyse(path)
        except PermanentError as error:
            # One image that nobody can read does not take the others with it.
            return _unread(instance, str(error))
        if analysis.heat_maps is None:
            return analysis.image
        folder = f"produced/{instance.StudyInstanceUID}"
        name = f"{folder}/{instance.SOPInstanceUID}.{self._analyst.configuration[:16]}.npz"
        self._files.write(name, analysis.heat_maps)
        return replace(analysis.image, heat_map=name)

    def _source(self, instances: Sequence[Instance]) -> SourceStudy:
        headers = []
        for instance in instances:
            path = self._files.absolute(instance.path)
            _check_there(path, instance)
            headers.append(dcmread(path, stop_before_pixels=True, force=True))
        return source_study(headers, default_character_set=self._charset(instances[0].sender))

    def _charset(self, sender: Sender) -> str:
        """What a sender's text is taken for where it states no character set."""
        try:
            known = self._admission.source_of(sender.ae_title, sender.address)
        except ValueError:  # not an address: it did not come over the network
            known = None
        return (known.charset if known else None) or self._settings.default_charset

    def _reports(
        self,
        reading: Reading,
        source: SourceStudy,
        previous: Reading | None,
        sent_before: Sequence[ProducedObject],
    ) -> Iterator[Outgoing]:
        """The measurement report, once for each way in which a destination wants it."""
        wanted: dict[bool, list[str]] = {}
        for destination in self._settings.destinations:
            wanted.setdefault(destination.connectathon, []).append(destination.name)
        for strict, names in (wanted or {False: []}).items():
            options = Options(strict_codes=strict)
            predecessor = None
            if previous is not None:
                uid = instance_uid(previous, KIND, self._device.uid, options.variant)
                predecessor = next((o for o in sent_before if o.SOPInstanceUID == uid), None)
            report = measurement_report(
                reading, source, self._device, options, predecessor=predecessor
            )
            yield Outgoing(object=self._keep(report), destinations=tuple(names))

    def _keep(self, report: Dataset) -> ProducedObject:
        data = encode(report)
        # A worker that has lost its lease unnoticed may write the same report at another time, and
        # its bytes must not come to lie under the digest that the other one's row states.
        digest = sha256(data).hexdigest()
        path = f"produced/{report.StudyInstanceUID}/{report.SOPInstanceUID}.{digest[:12]}.dcm"
        return ProducedObject(
            kind=ObjectKind.MEASUREMENT_REPORT,
            SOPClassUID=str(report.SOPClassUID),
            SOPInstanceUID=str(report.SOPInstanceUID),
            SeriesInstanceUID=str(report.SeriesInstanceUID),
            path=path,
            sha256=self._files.write(path, data),
            size=len(data),
        )


def _check_there(path: Path, instance: Instance) -> None:
    """Tell a file that is away (a share that is not mounted) from one that is damaged."""
    try:
        path.open("rb").close()
    except OSError as error:
        raise TemporaryError(
            f"the file of {instance.SOPInstanceUID} cannot be opened: {error.strerror}", delay=30.0
        ) from error


def _unread(instance: Instance, reason: str) -> ImageReading:
    """An image of which no more is known than what the journal says."""
    return ImageReading(
        SOPInstanceUID=instance.SOPInstanceUID,
        SOPClassUID=instance.SOPClassUID,
        SeriesInstanceUID=instance.SeriesInstanceUID,
        rows=0,
        columns=0,
        not_analysed=reason,
    )


class LeaseLost(Exception):
    """Another worker has the study by now: what we know of it counts no more."""


class Heartbeat:
    """Extends a lease from a thread of its own while a study is read.

    A worker that is killed stops beating, and the reaper gives its study to another one.
    """

    def __init__(self, lifecycle: Lifecycle, lease: Lease, seconds: float) -> None:
        self._lifecycle = lifecycle
        self._lease = lease
        self._seconds = seconds
        self._lost = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def check(self) -> None:
        """Raise `LeaseLost` if another worker may have the study."""
        if self._lost:
            raise LeaseLost(self._lease.StudyInstanceUID)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(self._seconds / 3):
            try:
                if not self._lifecycle.extend(self._lease, seconds=self._seconds):
                    self._lost = True
                    return
            except SQLAlchemyError as error:
                # Away for a moment. If it lasts, the lease ends by itself.
                _log.warning("heartbeat not written", error=type(error).__name__)
