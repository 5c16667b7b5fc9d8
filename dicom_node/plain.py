"""Receiving through pynetdicom's own reactor: the path that uses its public events only.

The whole data set is in memory before we see it. `dicom_node.streaming` is faster; this is what
stands in for it where a site turns it off.
"""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ABORT

from dicom_node.associations import AssociationRecord, Outcome
from dicom_node.handlers import Storage
from dicom_node.intake import StoreRequest


class PlainAssociation(Association):  # type: ignore[misc]
    """An association whose end is noted, however it comes.

    Attributes
    ----------
    record
        Set once it is let in.
    storage
        Where its instances go; set before it starts.
    """

    record: AssociationRecord | None = None
    storage: Storage
    aborted_by_peer = False

    def run_reactor(self) -> None:
        """Serve the association to its end."""
        try:
            super().run_reactor()
        finally:
            if self.record is not None:
                self.record.close(self._outcome())

    def stop(self) -> None:
        """End it from another thread."""
        self.abort()

    def _outcome(self) -> Outcome:
        if self.is_released:
            return Outcome.RELEASED
        return Outcome.ABORTED if self.aborted_by_peer else Outcome.LOST


def note_abort(event: evt.Event) -> None:
    """Remember that it was the peer who ended it (EVT_ACSE_RECV)."""
    if isinstance(event.primitive, A_ABORT):
        event.assoc.aborted_by_peer = True


def handle_store(event: evt.Event) -> Dataset:
    """Answer a C-STORE request (EVT_C_STORE)."""
    association: Any = event.assoc
    request = StoreRequest(
        SOPClassUID=str(event.request.AffectedSOPClassUID),
        SOPInstanceUID=str(event.request.AffectedSOPInstanceUID),
        TransferSyntaxUID=str(event.context.transfer_syntax),
        sender=association.record.sender,
    )
    incoming = association.storage.begin(
        association.record, request, str(event.context.abstract_syntax)
    )
    with event.request.DataSet.getbuffer() as data:
        incoming.write(data)
    answer = incoming.finish()
    response = Dataset()
    response.Status = int(answer.status)
    if answer.comment:
        response.ErrorComment = answer.comment
    return response
