"""One kept-open association to one destination, as a Storage SCU (PS3.4 Annex B)."""

from __future__ import annotations

import socket
from io import BytesIO
from types import TracebackType
from typing import Any, Self

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (
    Comprehensive3DSRStorage,
    Verification,
)

from dicom_node.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.store_outcome import Outcome, outcome_of
from dicom_node.tls import client_context
from studies.errors import DeliveryRefused, DestinationUnreachable, TemporaryError
from studies.settings import Destination

# What we make. Implicit VR Little Endian is offered too, as PS3.5 10.1 asks of every SCU.
SENT_SOP_CLASSES = (Comprehensive3DSRStorage,)
SENT_TRANSFER_SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 60.0


class StoreClient:
    """Sends objects to one destination over one association, opened when it is needed.

    Not for several threads at once. Use as a context manager, or call `close`.

    Parameters
    ----------
    destination
        The storage SCP.
    calling_ae_title
        Ours.

    Raises
    ------
    ConfigurationError
        If its certificates cannot be used.
    """

    def __init__(self, destination: Destination, calling_ae_title: str) -> None:
        self._destination = destination
        self._ae = AE(ae_title=calling_ae_title)
        self._ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        self._ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        self._ae.connection_timeout = CONNECT_SECONDS
        self._ae.acse_timeout = CONNECT_SECONDS
        self._ae.dimse_timeout = ANSWER_SECONDS
        self._ae.network_timeout = ANSWER_SECONDS
        for sop_class in SENT_SOP_CLASSES:
            # One context per syntax, so that the answer says which of them the peer takes.
            for syntax in SENT_TRANSFER_SYNTAXES:
                self._ae.add_requested_context(sop_class, syntax)
        self._ae.add_requested_context(Verification, list(SENT_TRANSFER_SYNTAXES))
        self._tls = client_context(destination.tls) if destination.tls else None
        self._association: Association | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def is_open(self) -> bool:
        """True while an association stands."""
        return self._association is not None and self._association.is_established

    def close(self) -> None:
        """Release the association, if there is one."""
        association, self._association = self._association, None
        if association is not None and association.is_established:
            association.release()

    def echo(self) -> None:
        """Ask the destination whether it is there (C-ECHO, PS3.4 Annex A).

        Raises
        ------
        DestinationUnreachable
            If it does not answer, or does not say success.
        """
        association = self._open()
        answer = association.send_c_echo()
        if "Status" not in answer:
            self._drop()
            raise DestinationUnreachable(f"{self._name} did not answer a C-ECHO")
        if answer.Status != 0x0000:
            raise DestinationUnreachable(f"{self._name} answered a C-ECHO 0x{answer.Status:04X}")

    def send(self, file: bytes) -> str:
        """Send one object.

        Parameters
        ----------
        file
            A DICOM file (PS3.10) as we keep it.

        Returns
        -------
        str
            The status that the peer answered, with its meaning.

        Raises
        ------
        DestinationUnreachable
            If the peer cannot be reached, goes away, or has no room.
        TemporaryError
            If it failed in a way that may be a hiccup.
        DeliveryRefused
            If it has said no for good, or does not take this kind of object.
        """
        dataset = _read(file)
        association = self._open()
        try:
            answer = association.send_c_store(dataset)
        except ValueError as error:
            # No accepted context: pynetdicom knows before it sends.
            raise DeliveryRefused(
                f"{self._name} does not take SOP class {dataset.SOPClassUID}"
            ) from error
        except RuntimeError as error:
            # The association ended between our check and the call.
            self._drop()
            raise DestinationUnreachable(f"{self._name} has ended the association") from error
        if "Status" not in answer:
            self._drop()
            raise DestinationUnreachable(f"{self._name} did not answer a C-STORE")
        return self._judge(answer)

    def _judge(self, answer: Dataset) -> str:
        outcome, meaning = outcome_of(answer.Status)
        # LO, so no control characters; a peer that sends some must not reach the database with them.
        comment = "".join(c for c in str(answer.get("ErrorComment", "") or "") if c.isprintable())
        told = f"{meaning} ({comment})" if comment else meaning
        if outcome is Outcome.DONE:
            return told
        if outcome is Outcome.BUSY:
            raise DestinationUnreachable(f"{self._name}: {told}")
        if outcome is Outcome.DOUBTFUL:
            raise TemporaryError(f"{self._name}: {told}")
        raise DeliveryRefused(f"{self._name}: {told}")

    @property
    def _name(self) -> str:
        return self._destination.name

    def _open(self) -> Association:
        if self._association is not None and self._association.is_established:
            return self._association
        to = self._destination
        association = self._ae.associate(
            to.host,
            to.port,
            ae_title=to.ae_title,
            tls_args=(self._tls, to.host) if self._tls else None,
            evt_handlers=[(evt.EVT_CONN_OPEN, _without_delay)],
        )
        if association.is_established:
            self._association = association
            return association
        raise DestinationUnreachable(f"{to.name} at {to.host}:{to.port}: {_why(association)}")

    def _drop(self) -> None:
        """Forget an association on which we do not know where we stand."""
        association, self._association = self._association, None
        if association is not None and association.is_established:
            association.abort()


def _read(file: bytes) -> Dataset:
    try:
        return dcmread(BytesIO(file))
    except InvalidDicomError as error:
        raise DeliveryRefused("the kept object is no DICOM file") from error


def _without_delay(event: Any) -> None:
    """Send at once: with Nagle's algorithm, a report on an open association takes 52 ms, not 7."""
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _why(association: Association) -> str:
    if association.is_rejected:
        primitive = association.acceptor.primitive
        if primitive is not None:
            return f"association rejected: {primitive.reason_str}"
        return "association rejected"
    if association.acceptor.primitive is not None and not association.accepted_contexts:
        return "no kind of object that we make is accepted"
    return "cannot be reached"
