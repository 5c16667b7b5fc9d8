"""Queries that move a study: complete, claimed, read, failed, reaped. The row is the truth."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, and_, false, func, or_, select, update

from studies import tables
from studies.clock import Clock, utc_now
from studies.database import Database
from studies.documents import reading_to_json
from studies.events import add_event
from studies.journal import instance_of
from studies.model import DeliveryState, Instance, Lease, Outgoing, Overdue, Reading, Status
from studies.rules import is_complete, priority_of, status_after

# A listener that has not been seen for so long is dead, and its associations with it.
LISTENER_SILENCE = timedelta(seconds=30)
# A doorbell that nobody has answered for so long is rung again.
DOORBELL_REPEAT = timedelta(seconds=20)


class Lifecycle:
    """Every change of a study's state, each in one transaction and with its event."""

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    def complete_studies(
        self, *, quiet_seconds: float, open_association_seconds: float, limit: int = 200
    ) -> tuple[str, ...]:
        """Move studies whose last image has come to READY; their UIDs, oldest first.

        The caller rings the doorbell for each.
        """
        now = self._clock()
        studies = tables.studies
        with self._database.reading() as connection:
            candidates = connection.execute(
                select(studies.c.id, studies.c.last_received_at, _open_associations(now))
                .where(studies.c.status == Status.RECEIVING)
                .where(studies.c.last_received_at <= now - timedelta(seconds=quiet_seconds))
                .order_by(studies.c.last_received_at)
                .limit(limit)
            ).all()
        done: list[str] = []
        for study_id, last_received_at, open_associations in candidates:
            if not is_complete(
                now=now,
                last_received_at=last_received_at,
                open_associations=open_associations,
                quiet_seconds=quiet_seconds,
                open_association_seconds=open_association_seconds,
            ):
                continue
            with self._database.writing() as connection:
                row = connection.execute(
                    update(studies)
                    .where(studies.c.id == study_id)
                    .where(studies.c.status == Status.RECEIVING)
                    .where(studies.c.last_received_at == last_received_at)
                    .values(status=Status.READY, due_at=now + DOORBELL_REPEAT, changed_at=now)
                    .returning(
                        studies.c.study_instance_uid,
                        studies.c.first_received_at,
                        studies.c.instances,
                    )
                ).one_or_none()
                if row is None:  # another image has come, or another sweep was faster
                    continue
                add_event(
                    connection,
                    study_id,
                    now,
                    "complete",
                    f"{row.instances} images",
                    (now - row.first_received_at).total_seconds(),
                )
            done.append(row.study_instance_uid)
        return tuple(done)

    def unanswered(self, *, limit: int = 200) -> tuple[str, ...]:
        """UIDs of READY studies whose doorbell nobody has answered; it is to be rung again.

        This is how a broker that was down, or lost its queue, is caught up with.
        """
        now = self._clock()
        studies = tables.studies
        with self._database.writing() as connection:
            due = (
                select(studies.c.id)
                .where(studies.c.status == Status.READY, studies.c.due_at <= now)
                .order_by(studies.c.due_at)
                .limit(limit)
            )
            rows = connection.execute(
                update(studies)
                .where(studies.c.id.in_(due), studies.c.status == Status.READY)
                .values(due_at=now + DOORBELL_REPEAT)
                .returning(studies.c.study_instance_uid)
            ).all()
        return tuple(row.study_instance_uid for row in rows)

    def claim(self, StudyInstanceUID: str, owner: str, *, seconds: float) -> Lease | None:
        """Take a READY study for reading; None if it is not ready, or somebody else has it.

        Parameters
        ----------
        owner
            Process that reads, as in the table of processes.
        seconds
            How long the lease holds without `extend`.
        """
        now = self._clock()
        token = str(uuid.uuid4())
        studies = tables.studies
        with self._database.writing() as connection:
            row = connection.execute(
                update(studies)
                .where(studies.c.study_instance_uid == StudyInstanceUID)
                .where(studies.c.status == Status.READY)
                .values(
                    status=Status.READING,
                    attempts=studies.c.attempts + 1,
                    lease_token=token,
                    lease_owner=owner,
                    lease_revision=studies.c.revision,
                    due_at=now + timedelta(seconds=seconds),
                    changed_at=now,
                )
                .returning(studies.c.id, studies.c.revision, studies.c.attempts)
            ).one_or_none()
            if row is None:
                return None
            add_event(connection, row.id, now, "claimed", f"{owner}, try {row.attempts}")
        return Lease(
            study_id=row.id,
            StudyInstanceUID=StudyInstanceUID,
            token=token,
            revision=row.revision,
            attempt=row.attempts,
            expires_at=now + timedelta(seconds=seconds),
        )

    def extend(self, lease: Lease, *, seconds: float) -> bool:
        """The heartbeat: hold a lease for `seconds` from now; False if it has been lost."""
        studies = tables.studies
        with self._database.writing() as connection:
            result = connection.execute(
                update(studies)
                .where(studies.c.id == lease.study_id, studies.c.lease_token == lease.token)
                .values(due_at=self._clock() + timedelta(seconds=seconds))
            )
            return bool(result.rowcount == 1)

    def instances(self, lease: Lease) -> tuple[Instance, ...]:
        """The images that the lease covers, in the order in which they came.

        Each image makes one revision. Those that came after the claim are for the next reading,
        which would otherwise say the same once more.
        """
        with self._database.reading() as connection:
            rows = connection.execute(
                select(tables.instances)
                .where(tables.instances.c.study_id == lease.study_id)
                .order_by(tables.instances.c.id)
                .limit(lease.revision)
            ).all()
        return tuple(instance_of(row) for row in rows)

    def finish(self, lease: Lease, reading: Reading, outgoing: Sequence[Outgoing]) -> bool:
        """Keep a reading and put its objects on their way, in one transaction.

        The files of the objects are durable already. If images came while the study was being
        read, it is received anew and gives one more reading.

        Returns
        -------
        bool
            False if the lease was lost: then nothing is kept, and another worker's outcome counts.
        """
        now = self._clock()
        with self._database.writing() as connection:
            study = _held_study(connection, lease)
            if study is None:
                return False
            reading_id = _keep_reading(connection, study, lease, reading)
            for each in outgoing:
                _keep_object(connection, study, reading_id, each, reading, now)
            late = study.revision != lease.revision
            connection.execute(
                update(tables.studies)
                .where(tables.studies.c.id == study.id)
                .values(
                    status=Status.RECEIVING if late else status_after(reading),
                    reason=reading.not_analysed,
                    band=reading.band,
                    certainty=reading.certainty,
                    priority=priority_of(reading.band),
                    read_revision=lease.revision,
                    readings=reading.revision,
                    attempts=0,
                    due_at=None,
                    changed_at=now,
                    **_NO_LEASE,
                )
            )
            outcome = (
                reading.band.value if reading.band else f"not analysed: {reading.not_analysed}"
            )
            seconds = (now - reading.created_at).total_seconds()
            add_event(connection, study.id, now, "read", outcome, max(0.0, seconds))
        return True

    def retry_later(
        self, lease: Lease, reason: str, *, delay: float, max_attempts: int, counts: bool = True
    ) -> Status:
        """Give a study back after a temporary error; FAILED once `max_attempts` are used up.

        Parameters
        ----------
        counts
            False where the study has no part in the trouble (a full disk): then it waits for
            however long that lasts, and the try is not counted.

        Returns
        -------
        Status
            Where the study stands now; READING if the lease was lost to another worker.
        """
        now = self._clock()
        with self._database.writing() as connection:
            study = _held_study(connection, lease)
            if study is None:
                return Status.READING
            if counts:
                return _give_back(connection, study, now, reason, delay, max_attempts)
            status = _give_back(connection, study, now, reason, delay, study.attempts + 1)
            connection.execute(
                update(tables.studies)
                .where(tables.studies.c.id == study.id)
                .values(attempts=study.attempts - 1)
            )
            return status

    def fail(self, lease: Lease, reason: str) -> bool:
        """End a study as FAILED; False if the lease was lost.

        If images came while it was being read, it is received anew instead.
        """
        with self._database.writing() as connection:
            study = _held_study(connection, lease)
            if study is None:
                return False
            _set_failed(connection, study, self._clock(), reason)
        return True

    def reap(self, *, max_attempts: int) -> tuple[str, ...]:
        """Take studies from workers that show no life; UIDs of those that are READY again."""
        now = self._clock()
        studies = tables.studies
        ready: list[str] = []
        with self._database.writing() as connection:
            lost = connection.execute(
                select(studies)
                .where(studies.c.status == Status.READING, studies.c.due_at <= now)
                .with_for_update(skip_locked=True)
            ).all()
            for study in lost:
                reason = f"{study.lease_owner} showed no life while reading"
                if _give_back(connection, study, now, reason, 0.0, max_attempts) is Status.READY:
                    ready.append(study.study_instance_uid)
        return tuple(ready)

    def overdue(
        self, limits: Mapping[Status, timedelta], *, limit: int = 200
    ) -> tuple[Overdue, ...]:
        """Studies that stand in a state for longer than they should, the longest first.

        Parameters
        ----------
        limits
            How long a study may stand in each state. READ counts only while an object of it has
            not reached its destination.
        """
        now = self._clock()
        studies, deliveries = tables.studies, tables.deliveries
        undelivered = (
            select(deliveries.c.id)
            .where(deliveries.c.study_id == studies.c.id)
            .where(deliveries.c.state != DeliveryState.SENT)
            .exists()
        )
        late = [
            and_(studies.c.status == status, studies.c.changed_at < now - longest)
            for status, longest in limits.items()
        ]
        with self._database.reading() as connection:
            rows = connection.execute(
                select(studies.c.study_instance_uid, studies.c.status, studies.c.changed_at)
                .where(or_(false(), *late))
                .where(or_(studies.c.status != Status.READ, undelivered))
                .order_by(studies.c.changed_at)
                .limit(limit)
            ).all()
        return tuple(
            Overdue(
                StudyInstanceUID=row.study_instance_uid,
                status=Status(row.status),
                since=row.changed_at,
            )
            for row in rows
        )

    def replay(self, StudyInstanceUID: str) -> bool:
        """Read a study that has come to an end once more; False if it has not, or is unknown."""
        now = self._clock()
        studies = tables.studies
        with self._database.writing() as connection:
            row = connection.execute(
                update(studies)
                .where(studies.c.study_instance_uid == StudyInstanceUID)
                .where(studies.c.status.in_([status for status in Status if status.is_final]))
                .values(
                    status=Status.READY, attempts=0, due_at=now + DOORBELL_REPEAT, changed_at=now
                )
                .returning(studies.c.id)
            ).one_or_none()
            if row is None:
                return False
            add_event(connection, row.id, now, "replay", "asked for by a person")
        return True


_NO_LEASE: dict[str, None] = {"lease_token": None, "lease_owner": None, "lease_revision": None}


def _open_associations(now: datetime) -> Any:
    """How many associations that brought images of a study are still open on a living listener."""
    associations, instances = tables.associations, tables.instances
    return (
        select(func.count(func.distinct(associations.c.id)))
        .select_from(associations)
        .join(instances, instances.c.association_id == associations.c.id)
        .join(tables.processes, tables.processes.c.id == associations.c.process_id)
        .where(
            and_(
                instances.c.study_id == tables.studies.c.id,
                associations.c.closed_at.is_(None),
                tables.processes.c.seen_at > now - LISTENER_SILENCE,
            )
        )
        .correlate(tables.studies)
        .scalar_subquery()
        .label("open_associations")
    )


def _held_study(connection: Connection, lease: Lease) -> Row[Any] | None:
    """The row of a leased study, locked; None if the lease was lost."""
    return connection.execute(
        select(tables.studies)
        .where(tables.studies.c.id == lease.study_id)
        .where(tables.studies.c.lease_token == lease.token)
        .with_for_update()
    ).one_or_none()


def _keep_reading(connection: Connection, study: Row[Any], lease: Lease, reading: Reading) -> int:
    key = connection.execute(
        tables.readings.insert().values(
            study_id=study.id,
            revision=reading.revision,
            study_revision=lease.revision,
            band=reading.band,
            certainty=reading.certainty,
            configuration=reading.configuration,
            document=reading_to_json(reading),
            created_at=reading.created_at,
        )
    ).inserted_primary_key
    assert key is not None  # an insert with a generated key always has one
    return int(key[0])


def _keep_object(
    connection: Connection,
    study: Row[Any],
    reading_id: int,
    outgoing: Outgoing,
    reading: Reading,
    now: datetime,
) -> None:
    produced = outgoing.object
    key = connection.execute(
        tables.objects.insert().values(
            reading_id=reading_id,
            kind=produced.kind,
            sop_class_uid=produced.SOPClassUID,
            sop_instance_uid=produced.SOPInstanceUID,
            series_instance_uid=produced.SeriesInstanceUID,
            path=produced.path,
            sha256=produced.sha256,
            size=produced.size,
        )
    ).inserted_primary_key
    assert key is not None  # as above
    for destination in outgoing.destinations:
        connection.execute(
            tables.deliveries.insert().values(
                object_id=int(key[0]),
                study_id=study.id,
                destination=destination,
                state="pending",
                attempts=0,
                due_at=now,
                priority=priority_of(reading.band),
            )
        )


def _give_back(
    connection: Connection,
    study: Row[Any],
    now: datetime,
    reason: str,
    delay: float,
    max_attempts: int,
) -> Status:
    if study.attempts >= max_attempts:
        return _set_failed(connection, study, now, f"{reason} ({study.attempts} tries)")
    late = study.revision != study.lease_revision
    status = Status.RECEIVING if late else Status.READY
    wait = delay or 0.0
    connection.execute(
        update(tables.studies)
        .where(tables.studies.c.id == study.id)
        .values(
            status=status,
            # The doorbell is rung by the sweep once the row is due.
            due_at=now + (timedelta(seconds=wait) if wait else DOORBELL_REPEAT),
            changed_at=now,
            **_NO_LEASE,
        )
    )
    add_event(connection, study.id, now, "given back", reason)
    return status


def _set_failed(connection: Connection, study: Row[Any], now: datetime, reason: str) -> Status:
    # An image that came in the meantime was promised too, and nobody has tried to read it yet.
    late = study.revision != study.lease_revision
    status = Status.RECEIVING if late else Status.FAILED
    values: dict[str, Any] = {"attempts": 0} if late else {}
    connection.execute(
        update(tables.studies)
        .where(tables.studies.c.id == study.id)
        .values(status=status, reason=reason, due_at=None, changed_at=now, **values, **_NO_LEASE)
    )
    add_event(connection, study.id, now, "failed", reason)
    return status
