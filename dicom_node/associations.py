"""What one association brings, from acceptance to its end: its row, its numbers, its log line."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from enum import StrEnum

import structlog
from sqlalchemy.exc import SQLAlchemyError

from dicom_node.statuses import StoreStatus
from studies.journal import Journal
from studies.model import Sender
from studies.settings import Source

_log = structlog.get_logger()


class Outcome(StrEnum):
    """How an association has ended."""

    RELEASED = "released"  # as it should
    ABORTED = "aborted"  # by the sender
    LOST = "lost"  # the connection broke, or the sender fell silent


class AssociationBook:
    """The rows of this listener's associations.

    A row is opened when an association brings its first instance, and holds back the completeness
    of its studies until it is closed. What cannot be closed now is closed later.

    Parameters
    ----------
    process_id
        The listener's, as its presence states it.
    limit
        Associations at once.
    """

    def __init__(self, journal: Journal, process_id: str, *, limit: int) -> None:
        self._journal = journal
        self._process_id = process_id
        self._places = threading.BoundedSemaphore(limit)
        self._lock = threading.Lock()
        self._unclosed: dict[str, Outcome] = {}

    def admit(self, sender: Sender, source: Source) -> AssociationRecord | None:
        """A record for one more association; None if there are as many as there may be."""
        if not self._places.acquire(blocking=False):
            return None
        return AssociationRecord(self, sender, source)

    def leave(self) -> None:
        """Give a place back."""
        self._places.release()

    def open(self, association_id: str, sender: Sender) -> None:
        """Write the row; an error of the database is the caller's to answer."""
        self._journal.open_association(association_id, self._process_id, sender)

    def close(self, association_id: str, outcome: Outcome) -> None:
        """Close the row, now or as soon as the database is back."""
        with self._lock:
            self._unclosed[association_id] = outcome
        self.close_what_is_left()

    def close_what_is_left(self) -> None:
        """Close the rows that could not be closed before."""
        with self._lock:
            waiting = dict(self._unclosed)
        for association_id, outcome in waiting.items():
            try:
                self._journal.close_association(association_id, outcome)
            except SQLAlchemyError as error:
                _log.warning("association not closed yet", error=type(error).__name__)
                return
            with self._lock:
                self._unclosed.pop(association_id, None)


class AssociationRecord:
    """One accepted association. Used by its own thread alone.

    Parameters
    ----------
    source
        The entry of the site's list that admitted it.
    """

    def __init__(self, book: AssociationBook, sender: Sender, source: Source) -> None:
        self.id = str(uuid.uuid4())
        self.sender = sender
        self.source = source
        self._book = book
        self._is_open = False
        self._started = time.monotonic()
        self._statuses: Counter[str] = Counter()
        self._bytes = 0

    def open(self) -> None:
        """Write its row, before its first instance; later calls do nothing."""
        if not self._is_open:
            self._book.open(self.id, self.sender)
            self._is_open = True

    def count(self, status: StoreStatus, size: int) -> None:
        """Count an answer to a C-STORE of `size` bytes."""
        self._statuses[status.name.lower()] += 1
        self._bytes += size

    def close(self, outcome: Outcome) -> None:
        """Close its row, give its place back, and say in one line what it has brought."""
        self._book.leave()
        if self._is_open:
            self._book.close(self.id, outcome)
        _log.info(
            "association",
            outcome=outcome.value,
            association=self.id,
            calling_ae_title=self.sender.ae_title,
            address=self.sender.address,
            bytes=self._bytes,
            seconds=round(time.monotonic() - self._started, 3),
            **self._statuses,
        )
