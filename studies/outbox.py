"""Queries of the outbox: which object goes where, what became of it, what is dead."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from studies import tables
from studies.clock import Clock, utc_now
from studies.database import Database
from studies.events import add_event
from studies.model import (
    Delivery,
    DeliveryState,
    ObjectKind,
    ProducedObject,
    Status,
)

_ON_THE_WAY = (DeliveryState.PENDING, DeliveryState.SENDING)


class Outbox:
    """Objects on their way to destinations; each row is delivered until it is sent or dead."""

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    def take(self, destination: str, *, hold_seconds: float) -> Delivery | None:
        """Take the most urgent delivery that is due, for `hold_seconds`; None if there is none.

        A sender that dies keeps its delivery only until the hold ends. A study's objects go out in
        the order in which they were made: a report must not arrive after the one that replaces it.
        """
        now = self._clock()
        deliveries = tables.deliveries
        earlier = tables.deliveries.alias("earlier")
        is_next = ~(
            select(earlier.c.id)
            .where(earlier.c.study_id == deliveries.c.study_id)
            .where(earlier.c.destination == destination)
            .where(earlier.c.state.in_(_ON_THE_WAY))
            .where(earlier.c.id < deliveries.c.id)
            .exists()
        )
        with self._database.writing() as connection:
            next_one = (
                select(deliveries.c.id)
                .where(deliveries.c.destination == destination)
                .where(deliveries.c.state.in_(_ON_THE_WAY))
                .where(deliveries.c.due_at <= now)
                .where(is_next)
                .order_by(deliveries.c.priority, deliveries.c.due_at, deliveries.c.id)
                .limit(1)
                .with_for_update(skip_locked=True)
            )
            row = connection.execute(
                update(deliveries)
                .where(deliveries.c.id == next_one.scalar_subquery())
                .values(
                    state=DeliveryState.SENDING,
                    attempts=deliveries.c.attempts + 1,
                    due_at=now + timedelta(seconds=hold_seconds),
                )
                .returning(deliveries.c.id)
            ).one_or_none()
            if row is None:
                return None
            return _delivery(connection, row.id)

    def sent(self, delivery: Delivery, *, detail: str = "", seconds: float | None = None) -> None:
        """Note that the peer has the object; the study is REPORTED once all its objects are."""
        now = self._clock()
        with self._database.writing() as connection:
            _lock_study(connection, delivery)
            study_id = self._settle(
                connection, delivery, state=DeliveryState.SENT, last_error=None, sent_at=now
            )
            what = f"{delivery.object.kind.value} to {delivery.destination}"
            add_event(
                connection, study_id, now, "sent", f"{what}; {detail}" if detail else what, seconds
            )
            _report_if_all_sent(connection, study_id, now)

    def try_again(self, delivery: Delivery, error: str, *, delay: float) -> None:
        """Note a transient failure; the next try is due after `delay` seconds."""
        due_at = self._clock() + timedelta(seconds=delay)
        with self._database.writing() as connection:
            self._settle(
                connection, delivery, state=DeliveryState.PENDING, last_error=error, due_at=due_at
            )

    def bury(self, delivery: Delivery, error: str) -> None:
        """Note a permanent refusal: a dead letter, until a person revives it."""
        now = self._clock()
        with self._database.writing() as connection:
            study_id = self._settle(
                connection, delivery, state=DeliveryState.DEAD, last_error=error
            )
            what = f"{delivery.object.kind.value} to {delivery.destination}: {error}"
            add_event(connection, study_id, now, "dead letter", what)

    def dead_letters(self) -> tuple[Delivery, ...]:
        """Every delivery that was refused for good, the oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(
                _all_columns()
                .where(tables.deliveries.c.state == DeliveryState.DEAD)
                .order_by(tables.deliveries.c.id)
            ).all()
        return tuple(_delivery_of(row) for row in rows)

    def revive(self, delivery_id: int) -> bool:
        """Send a dead letter again; False if there is no such dead letter."""
        now = self._clock()
        deliveries = tables.deliveries
        with self._database.writing() as connection:
            row = connection.execute(
                update(deliveries)
                .where(deliveries.c.id == delivery_id, deliveries.c.state == DeliveryState.DEAD)
                .values(state=DeliveryState.PENDING, attempts=0, due_at=now)
                .returning(deliveries.c.study_id, deliveries.c.destination)
            ).one_or_none()
            if row is None:
                return False
            add_event(connection, row.study_id, now, "revived", f"dead letter to {row.destination}")
        return True

    def waiting(self) -> dict[str, int]:
        """How many deliveries wait, by destination."""
        deliveries = tables.deliveries
        with self._database.reading() as connection:
            rows = connection.execute(
                select(deliveries.c.destination, func.count().label("waiting"))
                .where(deliveries.c.state.in_(_ON_THE_WAY))
                .group_by(deliveries.c.destination)
            ).all()
        return {row.destination: row.waiting for row in rows}

    def of_study(self, StudyInstanceUID: str) -> tuple[Delivery, ...]:
        """Every delivery of a study's objects, in the order in which they were made."""
        with self._database.reading() as connection:
            rows = connection.execute(
                _all_columns()
                .where(tables.studies.c.study_instance_uid == StudyInstanceUID)
                .order_by(tables.deliveries.c.id)
            ).all()
        return tuple(_delivery_of(row) for row in rows)

    def _settle(self, connection: Connection, delivery: Delivery, **values: Any) -> int:
        row = connection.execute(
            update(tables.deliveries)
            .where(tables.deliveries.c.id == delivery.id)
            .values(**values)
            .returning(tables.deliveries.c.study_id)
        ).one()
        return int(row.study_id)


def _lock_study(connection: Connection, delivery: Delivery) -> None:
    """Let the last deliveries of a study end one after the other.

    Side by side, each would see the other's as not yet sent, and nobody would report the study.
    """
    connection.execute(
        select(tables.studies.c.id)
        .where(tables.studies.c.study_instance_uid == delivery.StudyInstanceUID)
        .with_for_update(key_share=True)
    )


def _report_if_all_sent(connection: Connection, study_id: int, now: datetime) -> None:
    deliveries, studies = tables.deliveries, tables.studies
    left = connection.scalar(
        select(func.count())
        .select_from(deliveries)
        .where(deliveries.c.study_id == study_id, deliveries.c.state != DeliveryState.SENT)
    )
    if left:
        return
    row = connection.execute(
        update(studies)
        .where(studies.c.id == study_id, studies.c.status == Status.READ)
        .values(status=Status.REPORTED, changed_at=now)
        .returning(studies.c.id)
    ).one_or_none()
    if row is not None:
        add_event(
            connection, study_id, now, "reported", "every object has reached its destinations"
        )


def _all_columns() -> Any:
    return (
        select(
            tables.deliveries,
            tables.studies.c.study_instance_uid,
            tables.objects.c.kind,
            tables.objects.c.sop_class_uid,
            tables.objects.c.sop_instance_uid,
            tables.objects.c.series_instance_uid,
            tables.objects.c.path,
            tables.objects.c.sha256,
            tables.objects.c.size,
        )
        .join(tables.objects, tables.objects.c.id == tables.deliveries.c.object_id)
        .join(tables.studies, tables.studies.c.id == tables.deliveries.c.study_id)
    )


def _delivery(connection: Connection, delivery_id: int) -> Delivery:
    return _delivery_of(
        connection.execute(_all_columns().where(tables.deliveries.c.id == delivery_id)).one()
    )


def _delivery_of(row: Row[Any]) -> Delivery:
    return Delivery(
        id=row.id,
        StudyInstanceUID=row.study_instance_uid,
        destination=row.destination,
        state=DeliveryState(row.state),
        attempts=row.attempts,
        next_attempt_at=row.due_at,
        last_error=row.last_error,
        object=object_of(row),
    )


def object_of(row: Row[Any]) -> ProducedObject:
    """The value of a row that has the columns of `objects`."""
    return ProducedObject(
        kind=ObjectKind(row.kind),
        SOPClassUID=row.sop_class_uid,
        SOPInstanceUID=row.sop_instance_uid,
        SeriesInstanceUID=row.series_instance_uid,
        path=row.path,
        sha256=row.sha256,
        size=row.size,
    )
