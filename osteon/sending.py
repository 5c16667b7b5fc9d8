"""`osteon send`: DICOM files to a storage SCP, each in the transfer syntax in which it lies there."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID
from pynetdicom import AE, _config, build_context, evt
from pynetdicom.presentation import PresentationContext

from dicom_node.store_outcome import Outcome, outcome_of
from dicom_node.tls import client_context
from studies.errors import ConfigurationError, DestinationUnreachable
from studies.settings import Destination, Settings

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 120.0
_MOST_CONTEXTS = 128  # in one association (PS3.8 9.3.2.2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outgoing:
    """A file that can be sent, and what has to be agreed on for it."""

    path: Path
    SOPClassUID: UID
    SOPInstanceUID: UID
    TransferSyntaxUID: UID

    @property
    def context(self) -> tuple[UID, UID]:
        """SOP class and transfer syntax."""
        return (self.SOPClassUID, self.TransferSyntaxUID)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What became of one file.

    Attributes
    ----------
    accepted
        True if the peer has said success or a warning.
    told
        Its answer with its meaning, or why the file was not sent.
    """

    path: Path
    accepted: bool
    told: str


def this_node(settings: Settings) -> Destination:
    """Our own listener as a destination, reached from this machine."""
    anywhere = settings.dicom_host in {"0.0.0.0", "::", ""}
    return Destination(
        ae_title=settings.ae_title,
        host="127.0.0.1" if anywhere else settings.dicom_host,
        port=settings.dicom_port,
        tls=settings.listener_tls,
        name="this node",
    )


def files_below(paths: Iterable[Path]) -> Iterator[Path]:
    """The files named, and those in the folders named, in the order of their names.

    Raises
    ------
    ConfigurationError
        If a path is not there.
    """
    for path in paths:
        if path.is_dir():
            yield from sorted(p for p in path.rglob("*") if p.is_file())
        elif path.exists():
            yield path
        else:
            raise ConfigurationError(f"{path} is not there")


def send_files(
    paths: Sequence[Path],
    to: Destination,
    *,
    calling_ae_title: str,
    tell: Callable[[Answer], None] = lambda _answer: None,
) -> list[Answer]:
    """Send files over as few associations as they need.

    Parameters
    ----------
    paths
        DICOM files (PS3.10), or folders of them. A file that is none gets its answer too.
    tell
        Called with every answer as it comes.

    Raises
    ------
    DestinationUnreachable
        If the peer does not take an association, or ends it.
    ConfigurationError
        If a path is not there, or the certificates cannot be used.
    """
    answers: list[Answer] = []

    def note(answer: Answer) -> None:
        answers.append(answer)
        tell(answer)

    sendable = []
    for path in files_below(paths):
        try:
            sendable.append(_outgoing(path))
        except (InvalidDicomError, OSError, ValueError) as error:
            note(Answer(path=path, accepted=False, told=f"not sent: {_why_not(error)}"))
    for batch in _batches(sendable):
        for answer in _send_batch(batch, to, calling_ae_title):
            note(answer)
    return answers


def _why_not(error: Exception) -> str:
    if isinstance(error, InvalidDicomError):
        return "not a DICOM file"
    return str(error)


def _outgoing(path: Path) -> Outgoing:
    dataset = dcmread(
        path, specific_tags=["SOPClassUID", "SOPInstanceUID"], stop_before_pixels=True
    )
    meta = dataset.file_meta
    syntax = meta.get("TransferSyntaxUID")
    sop_class = dataset.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID")
    instance = dataset.get("SOPInstanceUID") or meta.get("MediaStorageSOPInstanceUID")
    for keyword, value in (
        ("TransferSyntaxUID", syntax),
        ("SOPClassUID", sop_class),
        ("SOPInstanceUID", instance),
    ):
        if not value:
            raise ValueError(f"{keyword} is missing")
    return Outgoing(
        path=path,
        SOPClassUID=UID(str(sop_class)),
        SOPInstanceUID=UID(str(instance)),
        TransferSyntaxUID=UID(str(syntax)),
    )


def _batches(files: Sequence[Outgoing]) -> Iterator[list[Outgoing]]:
    """Files that one association can carry, in their order."""
    batch: list[Outgoing] = []
    contexts: set[tuple[UID, UID]] = set()
    for file in files:
        if file.context not in contexts and len(contexts) == _MOST_CONTEXTS:
            yield batch
            batch, contexts = [], set()
        batch.append(file)
        contexts.add(file.context)
    if batch:
        yield batch


def _send_batch(batch: Sequence[Outgoing], to: Destination, calling: str) -> Iterator[Answer]:
    ae = AE(ae_title=calling)
    ae.acse_timeout = ae.connection_timeout = CONNECT_SECONDS
    ae.dimse_timeout = ae.network_timeout = ANSWER_SECONDS
    contexts: list[PresentationContext] = [
        build_context(*context) for context in dict.fromkeys(file.context for file in batch)
    ]
    tls = (client_context(to.tls), to.host) if to.tls else None
    association = ae.associate(
        to.host,
        to.port,
        contexts=contexts,
        ae_title=to.ae_title,
        tls_args=tls,
        evt_handlers=[(evt.EVT_CONN_OPEN, _without_delay)],
    )
    if not association.is_established:
        raise DestinationUnreachable(f"{to.ae_title} at {to.host}:{to.port}: {_why(association)}")
    try:
        with _as_it_lies():
            for number, file in enumerate(batch, start=1):
                yield _send_one(association, file, number, to)
    finally:
        if association.is_established:
            association.release()


def _send_one(association: Any, file: Outgoing, number: int, to: Destination) -> Answer:
    taken = {
        (context.abstract_syntax, context.transfer_syntax[0])
        for context in association.accepted_contexts
    }
    if file.context not in taken:
        told = f"not sent: {to.ae_title} does not take {_named(file)}"
        return Answer(path=file.path, accepted=False, told=told)
    try:
        answer = association.send_c_store(file.path, msg_id=1 + number % 65535)
    except RuntimeError as error:
        raise DestinationUnreachable(f"{to.ae_title} has ended the association") from error
    if "Status" not in answer:
        raise DestinationUnreachable(f"{to.ae_title} did not answer the C-STORE of {file.path}")
    outcome, meaning = outcome_of(answer.Status)
    comment = str(answer.get("ErrorComment", "") or "")
    told = f"{meaning} ({comment})" if comment else meaning
    return Answer(path=file.path, accepted=outcome is Outcome.DONE, told=told)


def _named(file: Outgoing) -> str:
    return f"{file.SOPClassUID.name} in {file.TransferSyntaxUID.name}"


@contextlib.contextmanager
def _as_it_lies() -> Iterator[None]:
    """Let pynetdicom send a file's bytes as they are, without decoding and encoding them."""
    before = _config.STORE_SEND_CHUNKED_DATASET
    _config.STORE_SEND_CHUNKED_DATASET = True
    try:
        yield
    finally:
        _config.STORE_SEND_CHUNKED_DATASET = before


def _without_delay(event: Any) -> None:
    """Send at once, without Nagle's algorithm."""
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _why(association: Any) -> str:
    if association.is_rejected:
        primitive = association.acceptor.primitive
        return f"association rejected: {primitive.reason_str}" if primitive else "rejected"
    if association.acceptor.primitive is not None and not association.accepted_contexts:
        return "none of these kinds of object is accepted"
    return "cannot be reached"
