"""C-STORE as a storage SCP: the order of its steps, and what the sender is told. No networking.

::

    check room → spool ← bytes as they come     nothing is promised
    intake: is it an instance?                  a refusal leaves nothing behind
    association row                             the study waits for its release
    fsync, link into received/                  a crash from here on leaves a file without a row
    journal row, committed                      the promise
    0x0000

A file without a row was promised to nobody. Its name carries the digest of its content, so that
only the same content can meet it again: the copy that is sent then takes its place, and the row is
written. Other content under the same UID has another name and never touches it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from dicom_node.associations import AssociationRecord
from dicom_node.file_meta import file_header
from dicom_node.intake import (
    COMMENT_LENGTH,
    Refusal,
    StoreRequest,
    check_request,
    file_name,
    take_in,
)
from dicom_node.same_image import is_same_image
from dicom_node.statuses import StoreStatus
from studies.clock import Clock, utc_now
from studies.errors import NoRoom
from studies.files import Files, SpoolFile
from studies.journal import Answer, Journal, Receipt
from studies.model import Instance, StudyDescription

# The disk is looked at again after so many bytes of one data set; its size is not known before.
_ROOM_CHECK_BYTES: Final = 1024**2

_log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreAnswer:
    """What a sender is told about one data set.

    Attributes
    ----------
    comment
        Error Comment (0000,0902), at most 64 characters; empty on success.
    """

    status: StoreStatus
    comment: str = ""


_SUCCESS: Final = StoreAnswer(status=StoreStatus.SUCCESS)


class Storage:
    """Where received instances go. One for all associations.

    Parameters
    ----------
    max_instance_bytes
        Largest data set that is accepted.
    default_charset
        Assumed for text of senders that state no character set, unless their source says other.
    """

    def __init__(
        self,
        files: Files,
        journal: Journal,
        *,
        max_instance_bytes: int,
        default_charset: str,
        clock: Clock = utc_now,
    ) -> None:
        self.files = files
        self.journal = journal
        self.max_instance_bytes = max_instance_bytes
        self.default_charset = default_charset
        self.clock = clock

    def begin(
        self, association: AssociationRecord, request: StoreRequest, abstract_syntax: str
    ) -> IncomingInstance:
        """Begin to receive a data set; what is wrong already is answered at its end.

        Parameters
        ----------
        abstract_syntax
            SOP class of the presentation context that the request came on.
        """
        return IncomingInstance(self, association, request, abstract_syntax)


class IncomingInstance:
    """A data set on its way in. Used by its association's thread alone.

    `write` takes all its bytes, wanted or not, because a sender listens only after the last one;
    then exactly one of `finish` and `abandon` is called.
    """

    def __init__(
        self,
        storage: Storage,
        association: AssociationRecord,
        request: StoreRequest,
        abstract_syntax: str,
    ) -> None:
        self._storage = storage
        self._association = association
        self._request = request
        self._started = time.monotonic()
        self._size = 0
        self._room_checked_at = 0
        self._header = b""
        self._spool: SpoolFile | None = None
        self._answer: StoreAnswer | None = None
        self._guarded(lambda: self._open(abstract_syntax))

    def _open(self, abstract_syntax: str) -> None:
        check_request(self._request)
        if self._request.SOPClassUID != abstract_syntax:
            raise Refusal(
                StoreStatus.SOP_CLASS_NOT_SUPPORTED,
                "the presentation context is of another SOP class",
            )
        self._storage.files.check_room(0)
        self._spool = self._storage.files.spool()
        self._header = file_header(self._request)
        self._spool.write_preamble(self._header)

    def write(self, data: bytes | memoryview) -> None:
        """Take the next bytes of the data set."""
        self._size += len(data)
        if self._answer is None:
            self._guarded(lambda: self._append(data))

    def _append(self, data: bytes | memoryview) -> None:
        assert self._spool is not None
        if self._size > self._storage.max_instance_bytes:
            raise Refusal(
                StoreStatus.TOO_LARGE,
                f"more than {self._storage.max_instance_bytes} bytes are not accepted",
            )
        if self._size - self._room_checked_at >= _ROOM_CHECK_BYTES:
            self._storage.files.check_room(len(data))
            self._room_checked_at = self._size
        self._spool.write(data)

    def abandon(self) -> None:
        """Forget it: the association has ended before the data set did."""
        if self._spool is not None:
            self._spool.discard()

    def finish(self) -> StoreAnswer:
        """Keep the data set, or say why not. Success only after the commit."""
        self._guarded(self._keep)
        answer = self._answer or _SUCCESS
        self._association.count(answer.status, self._size)
        if answer.status is not StoreStatus.SUCCESS:
            _log.warning(
                "instance refused",
                status=f"0x{answer.status:04X}",
                comment=answer.comment,
                association=self._association.id,
                calling_ae_title=self._request.sender.ae_title,
                SOPInstanceUID=self._request.SOPInstanceUID[:64],
                bytes=self._size,
                seconds=round(time.monotonic() - self._started, 3),
            )
        return answer

    def _keep(self) -> None:
        if self._answer is not None:
            return
        assert self._spool is not None
        instance, description = self._taken_in(self._spool)
        self._association.open()
        self._spool.finish()
        self._answer = self._promise(self._spool, instance, description)

    def _taken_in(self, spool: SpoolFile) -> tuple[Instance, StudyDescription]:
        storage = self._storage
        return take_in(
            spool.path,
            len(self._header),
            self._request,
            sha256=spool.sha256,
            size=spool.size,
            received_at=storage.clock(),
            default_charset=self._association.source.charset or storage.default_charset,
            max_inflated_bytes=storage.max_instance_bytes,
        )

    def _promise(
        self, spool: SpoolFile, instance: Instance, description: StudyDescription
    ) -> StoreAnswer:
        """Give a durable file its name and its row; the last step decides what is promised."""
        files, journal = self._storage.files, self._storage.journal
        place = spool.path.relative_to(files.root).as_posix()
        if files.keep(spool, instance.path):
            place = instance.path
        elif journal.find(instance.SOPInstanceUID) is None:
            # A crash came between file and row: ours takes its place, whatever the crash left.
            files.put_aside(place, instance.path)
            place = instance.path
        answer = journal.receive(instance, description, association_id=self._association.id)
        if answer.receipt is Receipt.CONFLICT and not _is_repetition(
            files, place, answer, instance
        ):
            aside = f"quarantine/{file_name(instance.SOPInstanceUID, instance.sha256)}"
            files.put_aside(place, aside)
            journal.quarantine(replace(instance, path=aside), answer.reason)
            raise Refusal(StoreStatus.CONFLICTING_INSTANCE, _why(answer))
        if answer.held is not None and place != answer.held.path:
            files.absolute(place).unlink()  # a repetition: one file is enough
        return _SUCCESS

    def _guarded(self, step: Callable[[], None]) -> None:
        """Run a step; turn what goes wrong into the answer, and leave no bytes behind."""
        try:
            step()
        except Refusal as refusal:
            self._fail(refusal.status, refusal.comment)
        except NoRoom:
            self._fail(StoreStatus.OUT_OF_RESOURCES, "no room; please send it again later")
        except SQLAlchemyError as error:
            _log.error("database away", error=type(error).__name__)
            self._fail(StoreStatus.TEMPORARILY_UNABLE, "database is away; please send again later")
        except OSError as error:
            _log.error("data directory away", error=error.strerror)
            self._fail(StoreStatus.TEMPORARILY_UNABLE, "storage is away; please send again later")
        except Exception as error:  # noqa: BLE001  the sender waits for an answer, whatever broke
            _log.exception("instance not kept", error=type(error).__name__)
            self._fail(StoreStatus.PROCESSING_FAILURE, "an error that the log explains")

    def _fail(self, status: StoreStatus, comment: str) -> None:
        self._answer = StoreAnswer(status=status, comment=comment[:COMMENT_LENGTH])
        if self._spool is not None:
            self._spool.discard()


def _is_repetition(files: Files, place: str, answer: Answer, instance: Instance) -> bool:
    """Whether what contradicts by its bytes is what we hold, in another uncompressed syntax."""
    held = answer.held
    return (
        held is not None
        and held.TransferSyntaxUID != instance.TransferSyntaxUID
        and files.absolute(held.path).is_file()
        and is_same_image(files.absolute(held.path), files.absolute(place))
    )


def _why(answer: Answer) -> str:
    if answer.held is not None:
        return "this SOP Instance UID is held with other content"
    return "the study is held for another Patient ID"
