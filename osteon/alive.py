"""Whether a process of this machine is alive, by its own heartbeat; for health checks.

``python -m osteon.alive worker`` exits 0 if a worker on this host has been seen lately. It says
more than an open port: a process that hangs, or that has lost the database, stops beating.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from datetime import datetime

from studies.clock import utc_now
from studies.database import Database
from studies.presence import living
from studies.settings import load_settings

KINDS = ("listener", "worker", "sweep", "sender", "web")


def is_alive(database: Database, kind: str, *, host: str, now: datetime) -> bool:
    """Whether a process of this kind on `host` has been seen within the last 30 seconds."""
    return any(
        process.kind == kind and process.host == host for process in living(database, now=now)
    )


def main(arguments: Sequence[str]) -> int:
    """Answer by exit status: 0 alive, 1 not, 2 asked wrongly."""
    if len(arguments) != 1 or arguments[0] not in KINDS:
        sys.stderr.write(f"usage: python -m osteon.alive {'|'.join(KINDS)}\n")
        return 2
    (kind,) = arguments
    database = Database(load_settings().resolved_database_url)
    try:
        alive = is_alive(database, kind, host=socket.gethostname(), now=utc_now())
    finally:
        database.close()
    sys.stdout.write(f"{kind}: {'alive' if alive else 'no heartbeat'}\n")
    return 0 if alive else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
