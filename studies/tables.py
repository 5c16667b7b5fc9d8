"""The tables, as SQLAlchemy sees them. No queries."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.types import TypeDecorator

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class UTCDateTime(TypeDecorator[datetime]):
    """Aware UTC times on every database; SQLite itself would drop the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive times: they are somebody's local time, and nobody knows whose."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"naive time: {value}")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Give the zone back."""
        if value is None:
            return None
        time: datetime = value
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


UID = String(64)
# SQLite only counts up by itself in a column that it knows as INTEGER.
Key = BigInteger().with_variant(Integer(), "sqlite")

# One row per process of the node: who is alive, and what it really uses.
processes = Table(
    "processes",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("kind", String(16), nullable=False),  # listener, worker, sweep, sender, web
    Column("host", String(255), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_at", UTCDateTime, nullable=False),
    Column("seen_at", UTCDateTime, nullable=False),
    Column("facts", Text, nullable=False),  # JSON: provider, models, address …
)

# An association that has brought at least one image; it holds back completeness until released.
associations = Table(
    "associations",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("process_id", ForeignKey("processes.id"), nullable=False),
    Column("sender_ae_title", String(16), nullable=False),
    Column("sender_address", String(255), nullable=False),
    Column("opened_at", UTCDateTime, nullable=False),
    Column("closed_at", UTCDateTime),
    Column("outcome", String(16)),  # released, aborted, lost
    Index("ix_associations_open", "process_id", "closed_at"),
)

studies = Table(
    "studies",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("study_instance_uid", UID, nullable=False, unique=True),
    Column("status", String(16), nullable=False),
    Column("reason", Text),
    Column("patient_id", String(64), nullable=False),
    Column("issuer_of_patient_id", String(64), nullable=False),
    Column("patient_name", String(324), nullable=False),
    Column("patient_birth_date", String(10), nullable=False),
    Column("patient_sex", String(16), nullable=False),
    Column("accession_number", String(64), nullable=False),
    Column("study_date", String(18), nullable=False),
    Column("study_time", String(28), nullable=False),
    Column("study_description", String(256), nullable=False),
    Column("body_part_examined", String(64), nullable=False),
    Column("sender_ae_title", String(16), nullable=False),
    Column("sender_address", String(255), nullable=False),
    Column("instances", Integer, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("read_revision", Integer, nullable=False),
    Column("readings", Integer, nullable=False),
    Column("band", String(16)),
    Column("certainty", Float),
    Column("priority", Integer, nullable=False),  # studies.rules.priority_of
    Column("attempts", Integer, nullable=False),
    Column("first_received_at", UTCDateTime, nullable=False),
    Column("last_received_at", UTCDateTime, nullable=False),
    Column("changed_at", UTCDateTime, nullable=False),
    # When the row next needs somebody: a doorbell not answered, a retry, a lease that ends.
    Column("due_at", UTCDateTime),
    Column("lease_token", String(36)),
    Column("lease_owner", String(64)),
    Column("lease_revision", Integer),
    Index("ix_studies_status_due_at", "status", "due_at"),
    Index("ix_studies_priority_first_received_at", "priority", "first_received_at", "id"),
)

instances = Table(
    "instances",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("study_id", ForeignKey("studies.id"), nullable=False),
    Column("association_id", ForeignKey("associations.id")),
    Column("study_instance_uid", UID, nullable=False),
    Column("series_instance_uid", UID, nullable=False),
    Column("sop_instance_uid", UID, nullable=False, unique=True),
    Column("sop_class_uid", UID, nullable=False),
    Column("transfer_syntax_uid", UID, nullable=False),
    Column("modality", String(16), nullable=False),
    Column("patient_id", String(64), nullable=False),
    Column("issuer_of_patient_id", String(64), nullable=False),
    Column("path", String(512), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sender_ae_title", String(16), nullable=False),
    Column("sender_address", String(255), nullable=False),
    Column("received_at", UTCDateTime, nullable=False),
    Index("ix_instances_study_id", "study_id"),
    Index("ix_instances_association_id", "association_id"),
)

# What contradicts what we hold, or is no instance: kept for a person, never read.
quarantine = Table(
    "quarantine",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("study_instance_uid", UID, nullable=False),
    Column("sop_instance_uid", UID, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("path", String(512), nullable=False),
    Column("reason", Text, nullable=False),
    Column("sender_ae_title", String(16), nullable=False),
    Column("sender_address", String(255), nullable=False),
    Column("received_at", UTCDateTime, nullable=False),
    # The same contradiction sent again and again is one row.
    UniqueConstraint("sop_instance_uid", "sha256"),
)

readings = Table(
    "readings",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("study_id", ForeignKey("studies.id"), nullable=False),
    Column("revision", Integer, nullable=False),  # counts the readings of the study from 1
    Column("study_revision", Integer, nullable=False),  # what was there to be read
    Column("band", String(16)),
    Column("certainty", Float),
    Column("configuration", String(64), nullable=False),
    Column("document", Text, nullable=False),  # JSON of studies.model.Reading
    Column("created_at", UTCDateTime, nullable=False),
    UniqueConstraint("study_id", "revision"),
)

events = Table(
    "events",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("study_id", ForeignKey("studies.id"), nullable=False),
    Column("at", UTCDateTime, nullable=False),
    Column("name", String(32), nullable=False),
    Column("detail", Text, nullable=False),
    Column("seconds", Float),
    Index("ix_events_study_id", "study_id"),
)

objects = Table(
    "objects",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("reading_id", ForeignKey("readings.id"), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("sop_class_uid", UID, nullable=False),
    Column("sop_instance_uid", UID, nullable=False, unique=True),
    Column("series_instance_uid", UID, nullable=False),
    Column("path", String(512), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Index("ix_objects_reading_id", "reading_id"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("object_id", ForeignKey("objects.id"), nullable=False),
    Column("study_id", ForeignKey("studies.id"), nullable=False),
    Column("destination", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", UTCDateTime, nullable=False),  # next try, or end of the sender's hold
    Column("priority", Integer, nullable=False),
    Column("last_error", Text),
    Column("sent_at", UTCDateTime),
    UniqueConstraint("object_id", "destination"),
    Index("ix_deliveries_due", "destination", "state", "due_at"),
    Index("ix_deliveries_study_id", "study_id"),
)
