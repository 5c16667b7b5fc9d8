"""Queries of the receive path: promised instances, associations, quarantine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from studies import tables
from studies.clock import Clock, utc_now
from studies.database import Database
from studies.events import add_event
from studies.group_commit import GroupCommit
from studies.model import Instance, Sender, Status, StudyDescription
from studies.rules import priority_of

R = TypeVar("R")

# Made once: to build a statement anew for each image costs more time than to run it.
_FIND_INSTANCE = select(tables.instances).where(
    tables.instances.c.sop_instance_uid == bindparam("uid")
)
_INSERT_INSTANCE = tables.instances.insert()
_INSERT_STUDY = {
    dialect: insert(tables.studies)
    .on_conflict_do_nothing(index_elements=["study_instance_uid"])
    .returning(tables.studies)
    for dialect, insert in (("sqlite", sqlite.insert), ("postgresql", postgresql.insert))
}
_LOCK_STUDY = (
    select(tables.studies)
    .where(tables.studies.c.study_instance_uid == bindparam("uid"))
    .with_for_update()
)
_UPDATE_STUDY = update(tables.studies).where(tables.studies.c.id == bindparam("study_id"))


class Receipt(StrEnum):
    """What became of an instance that was offered."""

    ACCEPTED = "accepted"  # new, and promised from this commit on
    DUPLICATE = "duplicate"  # held already with the same content: success, nothing twice
    CONFLICT = "conflict"  # contradicts what we hold: to be quarantined, success refused


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The journal's answer to an instance.

    Attributes
    ----------
    reason
        Why it is a conflict, for the sender and the administrator; names UIDs only.
    held
        The instance of the same UID that we hold already, if any.
    """

    receipt: Receipt
    reason: str = ""
    held: Instance | None = None


class Journal:
    """What has been received, row by row. A row is a promise."""

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock
        # PostgreSQL groups commits by itself, and there two groups could wait for each other.
        self._group = GroupCommit(database) if database.is_sqlite else None

    def _write(self, work: Callable[[Connection], R]) -> R:
        if self._group is not None:
            return self._group.run(work)
        with self._database.writing() as connection:
            return work(connection)

    def open_association(self, association_id: str, process_id: str, sender: Sender) -> None:
        """Note an association that is about to bring an image."""
        self._write(
            lambda connection: connection.execute(
                tables.associations.insert(),
                {
                    "id": association_id,
                    "process_id": process_id,
                    "sender_ae_title": sender.ae_title,
                    "sender_address": sender.address,
                    "opened_at": self._clock(),
                },
            )
        )

    def close_association(self, association_id: str, outcome: str) -> None:
        """Note that an association has ended: "released", "aborted" or "lost"."""
        self._write(
            lambda connection: connection.execute(
                update(tables.associations)
                .where(tables.associations.c.id == association_id)
                .where(tables.associations.c.closed_at.is_(None))
                .values(closed_at=self._clock(), outcome=outcome)
            )
        )

    def find(self, SOPInstanceUID: str) -> Instance | None:
        """The instance of that UID that we hold, if any."""
        with self._database.reading() as connection:
            row = _instance_row(connection, SOPInstanceUID)
        return instance_of(row) if row is not None else None

    def receive(
        self,
        instance: Instance,
        description: StudyDescription,
        *,
        association_id: str | None = None,
    ) -> Answer:
        """Promise an instance, or say why not. Committed when this returns.

        The caller has made the file at `instance.path` durable before.
        """

        def work(connection: Connection) -> Answer:
            return self._receive(connection, instance, description, association_id)

        try:
            return self._write(work)
        except IntegrityError:
            # Somebody else was faster with the same UID (PostgreSQL): now it is there to compare.
            return self._write(work)

    def _receive(
        self,
        connection: Connection,
        instance: Instance,
        description: StudyDescription,
        association_id: str | None,
    ) -> Answer:
        held_row = _instance_row(connection, instance.SOPInstanceUID)
        if held_row is not None:
            return _compare(instance, instance_of(held_row))
        now = self._clock()
        study = self._study_row(connection, instance, description, now)
        if _identity(study) != (instance.PatientID, instance.IssuerOfPatientID):
            return Answer(
                receipt=Receipt.CONFLICT,
                reason=(
                    f"study {instance.StudyInstanceUID} is held for another Patient ID "
                    f"than instance {instance.SOPInstanceUID} states"
                ),
            )
        connection.execute(
            _INSERT_INSTANCE,
            {
                "study_id": study.id,
                "association_id": association_id,
                **_instance_values(instance),
            },
        )
        self._note_image(connection, study, instance, now)
        return Answer(receipt=Receipt.ACCEPTED)

    def _study_row(
        self,
        connection: Connection,
        instance: Instance,
        description: StudyDescription,
        now: datetime,
    ) -> Row[Any]:
        """The study's row, locked until the commit; made if this is its first instance."""
        insert = _INSERT_STUDY[connection.dialect.name]
        made = connection.execute(insert, _new_study(instance, description, now)).one_or_none()
        if made is not None:
            return made
        return connection.execute(_LOCK_STUDY, {"uid": instance.StudyInstanceUID}).one()

    def _note_image(
        self, connection: Connection, study: Row[Any], instance: Instance, now: datetime
    ) -> None:
        status = Status(study.status)
        values: dict[str, Any] = {
            "study_id": study.id,
            "instances": study.instances + 1,
            "revision": study.revision + 1,
            "last_received_at": now,
            "changed_at": now,
        }
        if status is not Status.READING:
            # While a worker reads, it keeps its lease; its outcome then re-opens the study.
            values |= {"status": Status.RECEIVING, "due_at": None, "attempts": 0}
        connection.execute(_UPDATE_STUDY, values)
        if study.instances == 0:
            add_event(
                connection,
                study.id,
                now,
                "received",
                f"first image from {instance.sender.ae_title}",
            )
        elif status is not Status.RECEIVING:
            add_event(
                connection, study.id, now, "late image", f"{instance.SOPInstanceUID} ({status})"
            )

    def quarantine(self, instance: Instance, reason: str) -> bool:
        """Note a file that was put aside; False if the same content was put aside before."""
        try:
            with self._database.writing() as connection:
                connection.execute(
                    tables.quarantine.insert().values(
                        study_instance_uid=instance.StudyInstanceUID,
                        sop_instance_uid=instance.SOPInstanceUID,
                        sha256=instance.sha256,
                        size=instance.size,
                        path=instance.path,
                        reason=reason,
                        sender_ae_title=instance.sender.ae_title,
                        sender_address=instance.sender.address,
                        received_at=instance.received_at,
                    )
                )
                study_id = connection.scalar(
                    select(tables.studies.c.id).where(
                        tables.studies.c.study_instance_uid == instance.StudyInstanceUID
                    )
                )
                if study_id is not None:
                    add_event(connection, study_id, self._clock(), "quarantined", reason)
        except IntegrityError:
            return False
        return True


def _compare(offered: Instance, held: Instance) -> Answer:
    """Tell a repetition from a contradiction (same SOP Instance UID in both)."""
    same_place = (offered.StudyInstanceUID, offered.PatientID, offered.IssuerOfPatientID) == (
        held.StudyInstanceUID,
        held.PatientID,
        held.IssuerOfPatientID,
    )
    if same_place and offered.sha256 == held.sha256:
        return Answer(receipt=Receipt.DUPLICATE, held=held)
    what = "content" if same_place else "study or patient"
    return Answer(
        receipt=Receipt.CONFLICT,
        reason=f"instance {held.SOPInstanceUID} is held already with another {what}",
        held=held,
    )


def _identity(study: Row[Any]) -> tuple[str, str]:
    return (study.patient_id, study.issuer_of_patient_id)


def _instance_row(connection: Connection, SOPInstanceUID: str) -> Row[Any] | None:
    return connection.execute(_FIND_INSTANCE, {"uid": SOPInstanceUID}).one_or_none()


def _new_study(
    instance: Instance, description: StudyDescription, now: datetime
) -> Mapping[str, Any]:
    return {
        "study_instance_uid": instance.StudyInstanceUID,
        "status": Status.RECEIVING,
        "patient_id": instance.PatientID,
        "issuer_of_patient_id": instance.IssuerOfPatientID,
        "patient_name": description.PatientName,
        "patient_birth_date": description.PatientBirthDate,
        "patient_sex": description.PatientSex,
        "accession_number": description.AccessionNumber,
        "study_date": description.StudyDate,
        "study_time": description.StudyTime,
        "study_description": description.StudyDescription,
        "body_part_examined": description.BodyPartExamined,
        "sender_ae_title": instance.sender.ae_title,
        "sender_address": instance.sender.address,
        "instances": 0,
        "revision": 0,
        "read_revision": 0,
        "readings": 0,
        "priority": priority_of(None),
        "attempts": 0,
        "first_received_at": now,
        "last_received_at": now,
        "changed_at": now,
    }


def _instance_values(instance: Instance) -> Mapping[str, Any]:
    return {
        "study_instance_uid": instance.StudyInstanceUID,
        "series_instance_uid": instance.SeriesInstanceUID,
        "sop_instance_uid": instance.SOPInstanceUID,
        "sop_class_uid": instance.SOPClassUID,
        "transfer_syntax_uid": instance.TransferSyntaxUID,
        "modality": instance.Modality,
        "patient_id": instance.PatientID,
        "issuer_of_patient_id": instance.IssuerOfPatientID,
        "path": instance.path,
        "sha256": instance.sha256,
        "size": instance.size,
        "sender_ae_title": instance.sender.ae_title,
        "sender_address": instance.sender.address,
        "received_at": instance.received_at,
    }


def instance_of(row: Row[Any]) -> Instance:
    """The value of a row of `instances`."""
    return Instance(
        StudyInstanceUID=row.study_instance_uid,
        SeriesInstanceUID=row.series_instance_uid,
        SOPInstanceUID=row.sop_instance_uid,
        SOPClassUID=row.sop_class_uid,
        TransferSyntaxUID=row.transfer_syntax_uid,
        Modality=row.modality,
        PatientID=row.patient_id,
        IssuerOfPatientID=row.issuer_of_patient_id,
        path=row.path,
        sha256=row.sha256,
        size=row.size,
        sender=Sender(ae_title=row.sender_ae_title, address=row.sender_address),
        received_at=row.received_at,
    )
