"""A Storage SCP that answers what a test tells it to, and counts what it sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    Comprehensive3DSRStorage,
    SecondaryCaptureImageStorage,
    Verification,
)

from studies.settings import Destination


@dataclass
class Pacs:
    """What the SCP has seen, and what it answers next.

    Attributes
    ----------
    answers
        Statuses for the next C-STOREs; success when there is none left.
    received
        SOP Instance UIDs, in order, with every repetition.
    files
        The data sets as encoded on the wire.
    """

    port: int = 0
    answers: list[int] = field(default_factory=list)
    received: list[str] = field(default_factory=list)
    files: list[bytes] = field(default_factory=list)
    associations: int = 0

    def destination(self, **changed: Any) -> Destination:
        """How Osteon is told of this PACS."""
        values = {"ae_title": "PACS", "host": "127.0.0.1", "port": self.port, **changed}
        return Destination.model_validate(values)

    def _opened(self, _event: evt.Event) -> None:
        self.associations += 1

    def _store(self, event: evt.Event) -> int:
        self.received.append(str(event.request.AffectedSOPInstanceUID))
        self.files.append(event.request.DataSet.getvalue())
        return self.answers.pop(0) if self.answers else 0x0000


@contextmanager
def running_pacs(
    *,
    port: int = 0,
    sop_classes: Sequence[str] = (Comprehensive3DSRStorage,),
    syntaxes: Sequence[str] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian),
) -> Iterator[Pacs]:
    """A PACS on a free port of 127.0.0.1 (or the given one) until the block ends."""
    pacs = Pacs()
    ae = AE(ae_title="PACS")
    for sop_class in (*sop_classes, Verification):
        ae.add_supported_context(sop_class, list(syntaxes))
    handlers = [(evt.EVT_ACCEPTED, pacs._opened), (evt.EVT_C_STORE, pacs._store)]
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    assert server is not None
    pacs.port = server.socket.getsockname()[1]
    try:
        yield pacs
    finally:
        ae.shutdown()  # aborts what is still open, as a PACS that is switched off does


CAPTURES_ONLY = (SecondaryCaptureImageStorage,)
