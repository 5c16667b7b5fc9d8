"""${message}

Revision ID: ${up_revision}
Revises: ${down_revision | comma,n}

The rules of a migration
- Old code runs on the new schema: a node is upgraded while its listener receives. New columns
  are nullable or have a server default; columns and tables are dropped one release after the
  code stopped using them.
- A migration imports nothing of ours: it describes the schema of its own day.
- It works on SQLite and PostgreSQL, with rows in flight; tests/migration proves it.
- There is no way down: to go back, restore the backup that `osteon migrate` names.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    """${message}."""
    ${upgrades if upgrades else "pass"}
