"""Queries for people: lists of studies, one study whole, the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, func, or_, select

from studies import tables
from studies.database import Database
from studies.documents import reading_from_json
from studies.errors import UnknownStudy
from studies.events import timeline
from studies.journal import instance_of
from studies.model import (
    Band,
    Event,
    Instance,
    ProducedObject,
    Reading,
    Sender,
    Status,
    Study,
    StudyDescription,
)
from studies.outbox import object_of


class Catalogue:
    """What we hold, for the worklist, the command and the administrator."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def studies(
        self, *, statuses: Sequence[Status] = (), text: str = "", limit: int = 50
    ) -> tuple[Study, ...]:
        """Studies by priority, then by the time they have waited.

        Parameters
        ----------
        statuses
            Only these; all if empty.
        text
            Start of a Study Instance UID, Patient ID or Accession Number.
        """
        table = tables.studies
        query = select(table).order_by(table.c.priority, table.c.first_received_at, table.c.id)
        if statuses:
            query = query.where(table.c.status.in_(statuses))
        if text:
            query = query.where(
                or_(
                    table.c.study_instance_uid.startswith(text, autoescape=True),
                    table.c.patient_id.startswith(text, autoescape=True),
                    table.c.accession_number.startswith(text, autoescape=True),
                )
            )
        with self._database.reading() as connection:
            rows = connection.execute(query.limit(limit)).all()
        return tuple(study_of(row) for row in rows)

    def study(self, StudyInstanceUID: str) -> Study:
        """One study.

        Raises
        ------
        UnknownStudy
            If we do not hold it.
        """
        with self._database.reading() as connection:
            row = connection.execute(
                select(tables.studies).where(
                    tables.studies.c.study_instance_uid == StudyInstanceUID
                )
            ).one_or_none()
        if row is None:
            raise UnknownStudy(f"no study {StudyInstanceUID} is held")
        return study_of(row)

    def instances(self, study: Study) -> tuple[Instance, ...]:
        """The images of a study in the order in which they came."""
        with self._database.reading() as connection:
            rows = connection.execute(
                select(tables.instances)
                .where(tables.instances.c.study_id == study.id)
                .order_by(tables.instances.c.id)
            ).all()
        return tuple(instance_of(row) for row in rows)

    def readings(self, study: Study) -> tuple[Reading, ...]:
        """Every reading of a study, the first one first."""
        with self._database.reading() as connection:
            documents = connection.scalars(
                select(tables.readings.c.document)
                .where(tables.readings.c.study_id == study.id)
                .order_by(tables.readings.c.revision)
            ).all()
        return tuple(reading_from_json(document) for document in documents)

    def objects(self, study: Study, revision: int) -> tuple[ProducedObject, ...]:
        """What was made of one reading of a study, in the order in which it was made."""
        objects, readings = tables.objects, tables.readings
        with self._database.reading() as connection:
            rows = connection.execute(
                select(objects)
                .join(readings, readings.c.id == objects.c.reading_id)
                .where(readings.c.study_id == study.id, readings.c.revision == revision)
                .order_by(objects.c.id)
            ).all()
        return tuple(object_of(row) for row in rows)

    def newest_readings(self, studies: Sequence[Study]) -> dict[str, Reading]:
        """The newest reading of each of these studies that has one, by Study Instance UID."""
        readings = tables.readings
        of_study = {study.id: study for study in studies if study.readings}
        with self._database.reading() as connection:
            rows = connection.execute(
                select(readings.c.study_id, readings.c.revision, readings.c.document).where(
                    readings.c.study_id.in_(of_study)
                )
            ).all()
        return {
            of_study[row.study_id].StudyInstanceUID: reading_from_json(row.document)
            for row in rows
            if row.revision == of_study[row.study_id].readings
        }

    def timeline(self, study: Study) -> tuple[Event, ...]:
        """Every step of a study, the oldest first."""
        with self._database.reading() as connection:
            return timeline(connection, study.id)

    def ledger(self) -> dict[Status, int]:
        """How many studies stand in each state; every state is in it."""
        with self._database.reading() as connection:
            rows = connection.execute(
                select(tables.studies.c.status, func.count()).group_by(tables.studies.c.status)
            ).all()
        counts: dict[Status, int] = dict.fromkeys(Status, 0)
        return counts | {Status(status): count for status, count in rows}

    def quarantined(self) -> int:
        """How many files were put aside."""
        with self._database.reading() as connection:
            return connection.scalar(select(func.count()).select_from(tables.quarantine)) or 0


def study_of(row: Row[Any]) -> Study:
    """The value of a row of `studies`."""
    return Study(
        id=row.id,
        StudyInstanceUID=row.study_instance_uid,
        status=Status(row.status),
        reason=row.reason,
        description=StudyDescription(
            PatientName=row.patient_name,
            PatientBirthDate=row.patient_birth_date,
            PatientSex=row.patient_sex,
            AccessionNumber=row.accession_number,
            StudyDate=row.study_date,
            StudyTime=row.study_time,
            StudyDescription=row.study_description,
            BodyPartExamined=row.body_part_examined,
        ),
        PatientID=row.patient_id,
        instances=row.instances,
        revision=row.revision,
        read_revision=row.read_revision,
        readings=row.readings,
        band=Band(row.band) if row.band else None,
        certainty=row.certainty,
        attempts=row.attempts,
        first_received_at=row.first_received_at,
        last_received_at=row.last_received_at,
        changed_at=row.changed_at,
        sender=Sender(ae_title=row.sender_ae_title, address=row.sender_address),
    )
