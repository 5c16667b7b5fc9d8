"""What tells one installation from another, for its whole life."""

from __future__ import annotations

import uuid

from studies.errors import ConfigurationError
from studies.files import Files

_FILE = "deployment-id"


def deployment_id(files: Files) -> str:
    """The identifier of this data directory, made at the first call and kept ever after.

    Raises
    ------
    ConfigurationError
        If the kept identifier has been damaged: a new one would rename everything we send.
    """
    path = files.absolute(_FILE)
    if not path.exists():
        spooled = files.spool()
        spooled.write(str(uuid.uuid4()).encode())
        spooled.finish()
        if not files.keep(spooled, _FILE):  # another process was faster
            spooled.discard()
    text = path.read_text(encoding="utf-8", errors="replace").strip()
    try:
        return str(uuid.UUID(text))
    except ValueError as error:
        raise ConfigurationError(f"{path} holds no identifier; restore it from a backup") from error
