"""One owner of a data directory at a time, whatever kills the owner."""

from __future__ import annotations

import fcntl
import os
import stat
import time
from pathlib import Path

from studies.errors import ConfigurationError

_PAUSE_SECONDS = 0.1


class Lock:
    """A lock on a file, held until the process ends, or all that inherited it have ended.

    Parameters
    ----------
    path
        The lock file; made if it is missing. What stands in it is the owner's process id.
    wait_seconds
        How long a former owner may take to end.

    Raises
    ------
    ConfigurationError
        If somebody else holds it.
    """

    def __init__(self, path: Path, *, wait_seconds: float = 0.0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + wait_seconds
        while not self._taken():
            if time.monotonic() >= deadline:
                owner = os.read(self.file, 20).decode("ascii", "replace").strip() or "unknown"
                os.close(self.file)
                raise ConfigurationError(
                    f"{path.parent} is in use by another osteon (process {owner}): "
                    "stop that one, or set data_dir to another directory"
                )
            time.sleep(_PAUSE_SECONDS)
        os.ftruncate(self.file, 0)
        os.pwrite(self.file, f"{os.getpid()}\n".encode("ascii"), 0)

    def _taken(self) -> bool:
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def keep_over_exec(self) -> None:
        """Let the lock live on in the program that this process turns into."""
        os.set_inheritable(self.file, True)

    def release(self) -> None:
        """Let others have it."""
        os.close(self.file)


def private_folder(folder: Path) -> None:
    """Make a folder for its owner alone; needed for sockets in a directory that all may write to.

    Raises
    ------
    ConfigurationError
        If it is somebody else's, or open to others.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise ConfigurationError(f"{folder} belongs to somebody else: remove it")
    if stat.S_IMODE(found.st_mode) & 0o077:
        folder.chmod(0o700)
