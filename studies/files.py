"""Received and produced files: durable writes, digests, the disk's reserve. No DICOM parsing."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import uuid
from pathlib import Path
from typing import BinaryIO

from studies.errors import NoRoom, TemporaryError

_FULL = (errno.ENOSPC, errno.EDQUOT)


class SpoolFile:
    """A file that is being received. It is promised to nobody until `Files.keep`.

    Attributes
    ----------
    path
        Where it is spooled.
    size
        Bytes counted into the digest so far.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._digest = hashlib.sha256()
        self._file: BinaryIO = path.open("xb", buffering=0)

    @property
    def sha256(self) -> str:
        """Digest of what `write` was given, 64 hexadecimal digits."""
        return self._digest.hexdigest()

    def write_preamble(self, data: bytes) -> None:
        """Append bytes that are ours (preamble, file meta): they do not count in the digest."""
        self._append(data)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes as they came; they count in the size and in the digest.

        Raises
        ------
        NoRoom
            If the disk is full.
        """
        self._append(data)
        self._digest.update(data)
        self.size += len(data)

    def _append(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            if error.errno in _FULL:
                raise NoRoom("the disk is full") from error
            raise

    def finish(self) -> None:
        """Make the bytes durable and close the file.

        Raises
        ------
        NoRoom
            If the disk is full.
        """
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            if error.errno in _FULL:
                raise NoRoom("the disk is full") from error
            raise
        finally:
            self._file.close()

    def discard(self) -> None:
        """Remove it; nothing was promised."""
        self._file.close()
        self.path.unlink(missing_ok=True)


class Files:
    """The data directory. Paths that leave it are refused.

    Parameters
    ----------
    root
        The data directory; made if it is missing.
    reserve_bytes
        Room that receiving leaves free for work in flight.
    """

    def __init__(self, root: Path, *, reserve_bytes: int = 0) -> None:
        self.root = root.resolve()
        self._reserve_bytes = reserve_bytes
        for name in ("spool", "received", "quarantine", "produced"):
            (self.root / name).mkdir(parents=True, exist_ok=True)

    def absolute(self, relative: str) -> Path:
        """The full path of a file of ours.

        Raises
        ------
        ValueError
            If `relative` leads out of the data directory.
        """
        path = self.root / relative
        if ".." in Path(relative).parts or not path.is_relative_to(self.root):
            raise ValueError(f"{relative!r} leads out of the data directory")
        return path

    def free_bytes(self) -> int:
        """Room on the disk that we may still use, before the reserve is taken off."""
        return shutil.disk_usage(self.root).free

    def check_room(self, expected_bytes: int) -> None:
        """Refuse to receive what would touch the reserve.

        Raises
        ------
        NoRoom
            Naming what is free and what is needed.
        """
        free = self.free_bytes()
        if free - expected_bytes < self._reserve_bytes:
            raise NoRoom(
                f"{free} bytes are free; {expected_bytes} and a reserve of "
                f"{self._reserve_bytes} are needed"
            )

    def spool(self) -> SpoolFile:
        """A new file to receive into."""
        return SpoolFile(self.root / "spool" / f"{uuid.uuid4().hex}.part")

    def keep(self, spooled: SpoolFile, relative: str) -> bool:
        """Give a finished spool file its place, durably and never over another file.

        Returns
        -------
        bool
            False if something stands there already; the spool file is then left as it is.
        """
        target = self.absolute(relative)
        self._make_folder(target.parent)
        try:
            os.link(spooled.path, target)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno in _FULL:
                raise NoRoom("the disk is full") from error
            raise
        spooled.path.unlink()
        _sync_folder(target.parent)
        return True

    def put_aside(self, relative: str, into: str) -> None:
        """Move one of our files to another place of ours (quarantine), durably."""
        source, target = self.absolute(relative), self.absolute(into)
        self._make_folder(target.parent)
        source.rename(target)
        _sync_folder(target.parent)
        _sync_folder(source.parent)

    def write(self, relative: str, data: bytes) -> str:
        """Write a produced file, durably and all at once; the same bytes again change nothing.

        Returns
        -------
        str
            SHA-256 of the bytes, 64 hexadecimal digits.

        Raises
        ------
        NoRoom
            If the disk is full.
        """
        target = self.absolute(relative)
        part = self.root / "spool" / f"{uuid.uuid4().hex}.part"
        try:
            self._make_folder(target.parent)
            with part.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
        except OSError as error:
            part.unlink(missing_ok=True)
            if error.errno in _FULL:
                raise NoRoom("the disk is full") from error
            raise
        _sync_folder(target.parent)
        return hashlib.sha256(data).hexdigest()

    def read(self, relative: str) -> bytes:
        """The bytes of one of our files.

        Raises
        ------
        TemporaryError
            If it cannot be read now (a network share that is away comes back).
        """
        try:
            return self.absolute(relative).read_bytes()
        except OSError as error:
            raise TemporaryError(f"{relative} cannot be read: {error.strerror}") from error

    def clear_spool(self, *, older_than: float) -> int:
        """Remove spool files last written before `older_than` (Unix time); how many.

        They were promised to nobody: their senders were never told success.
        """
        removed = 0
        for path in (self.root / "spool").glob("*.part"):
            try:
                if path.stat().st_mtime < older_than:
                    path.unlink()
                    removed += 1
            except FileNotFoundError:
                continue  # its owner finished it just now
        return removed

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Make a new name durable: without it, a power cut may keep the bytes and lose the name."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
