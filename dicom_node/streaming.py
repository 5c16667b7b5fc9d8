"""Receiving in one thread per association, data sets straight from the socket to the disk.

pynetdicom negotiates, encodes and serves every message but C-STORE; what it would do with two
polling threads and several copies of each PDU is done here with one loop. That leans on a few of
its private attributes (`_accepted_cx`, `_serve_request`, the provider's `send_pdu`), which is why
its version is bounded, why `dicom_node.plain` stands ready, and why every test of receiving runs
on both.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu import (
    A_ABORT_RQ,
    A_ASSOCIATE_AC,
    A_ASSOCIATE_RJ,
    A_ASSOCIATE_RQ,
    A_RELEASE_RP,
    P_DATA_TF,
)
from pynetdicom.pdu_primitives import A_ABORT, A_ASSOCIATE, A_P_ABORT, A_RELEASE, P_DATA

from dicom_node import command_set
from dicom_node.associations import AssociationRecord, Outcome
from dicom_node.command_set import BrokenCommand, CommandSet, store_response
from dicom_node.handlers import IncomingInstance, Storage
from dicom_node.intake import StoreRequest
from dicom_node.pdu_reader import ConnectionLost, PDUReader, SilentPeer

# PDU types (PS3.8 9.3.1).
ASSOCIATE_RQ: Final = 0x01
DATA_TF: Final = 0x04
RELEASE_RQ: Final = 0x05
ABORT: Final = 0x07
# Message control header (PS3.8 E.2).
COMMAND: Final = 0x01
LAST: Final = 0x02

MAX_ASSOCIATE_BYTES: Final = 1 << 20  # 128 contexts with 64 syntaxes each stay below half of it
MAX_COMMAND_BYTES: Final = 1 << 16
MAX_OTHER_BYTES: Final = 1 << 24  # data sets of messages that are no C-STORE
# How long we wait for the peer to close after our last PDU (ARTIM, PS3.8 9.1.5).
CLOSE_SECONDS: Final = 2.0

_log = structlog.get_logger()


class ProtocolError(Exception):
    """The peer breaks the rules of the upper layer; the association is aborted."""


@dataclass(kw_only=True, slots=True)
class _Message:
    """A message whose data set is still coming; a C-STORE goes to disk, others to memory."""

    context_id: int
    encoded: bytes
    command: CommandSet
    incoming: IncomingInstance | None = None
    data: bytearray = field(default_factory=bytearray)


class StreamingAssociation(Association):  # type: ignore[misc]
    """An association as acceptor that reads its own socket.

    Attributes
    ----------
    record
        Set once it is let in.
    storage
        Where its instances go; set before it starts.
    """

    record: AssociationRecord | None = None
    storage: Storage

    def __init__(self, ae: Any, mode: str) -> None:
        super().__init__(ae, mode)
        self.dul = _DirectProvider(self)
        self._command = b""
        self._message: _Message | None = None

    @property
    def _connection(self) -> socket.socket:
        connection: socket.socket = self.dul.socket.socket
        return connection

    def stop(self) -> None:
        """End it from another thread: abort, and wake its own by closing the connection."""
        with contextlib.suppress(OSError, ConnectionLost):
            self._send_abort()
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def run_reactor(self) -> None:
        """Serve the association to its end."""
        self._reader = PDUReader(self._connection)
        outcome = Outcome.LOST
        try:
            if self._negotiate():
                self._connection.settimeout(self.network_timeout)
                outcome = self._serve()
            self._close_gently()
        except SilentPeer:
            self._send_abort_and_close()
        except ConnectionLost:
            pass
        except (ProtocolError, BrokenCommand) as error:
            _log.warning(
                "association breaks the protocol", address=self._peer_address, error=str(error)
            )
            self._send_abort_and_close()
        except Exception:  # noqa: BLE001  nobody above us: the thread ends here, the log tells why
            _log.exception("association failed", address=self._peer_address)
            self._send_abort_and_close()
        finally:
            self.is_established = False
            if self._message is not None and self._message.incoming is not None:
                self._message.incoming.abandon()
            self._connection.close()
            if self.record is not None:
                self.record.close(outcome)

    @property
    def _peer_address(self) -> str:
        return str(self.requestor.address_info.address)

    def _negotiate(self) -> bool:
        """Answer the association request; whether the association stands."""
        self._connection.settimeout(self.acse_timeout)
        kind, length = self._reader.header()
        if kind != ASSOCIATE_RQ or length > MAX_ASSOCIATE_BYTES:
            raise ProtocolError(f"begins with a PDU of type {kind:#04x}, {length} bytes")
        request = A_ASSOCIATE_RQ()
        body = self._reader.take(length)
        try:
            request.decode(struct.pack(">BxL", kind, length) + body)
            self.requestor.primitive = request.to_primitive()
        except Exception as error:  # pynetdicom's decoder raises whatever garbage leads it to
            raise ProtocolError("association request cannot be decoded") from error
        if not request.protocol_version & 0x0001:
            self.acse.send_reject(1, 2, 2)
            return False
        evt.trigger(self, evt.EVT_REQUESTED, {})
        if self.record is not None:
            self.acse.negotiate_association()
        elif not self.is_rejected:
            self.acse.send_reject(2, 2, 1)  # the check itself has failed: nobody comes in
        return bool(self.is_established)

    def _serve(self) -> Outcome:
        while self.is_established:
            kind, length = self._reader.header()
            if kind == DATA_TF:
                self._receive_data(length)
            elif kind == ABORT:
                return Outcome.ABORTED
            elif kind == RELEASE_RQ and length == 4 and self._message is None:
                self._reader.take(length)
                self.acse.send_release(is_response=True)
                self.is_released = True
                return Outcome.RELEASED
            else:
                raise ProtocolError(f"PDU of type {kind:#04x}, {length} bytes, out of place")
        return Outcome.LOST

    def _receive_data(self, length: int) -> None:
        """Take a P-DATA-TF PDU apart (PS3.8 9.3.5)."""
        while length:
            if length < 6:
                raise ProtocolError("P-DATA ends within an item's header")
            item, context_id, control = self._reader.fragment()
            length -= item + 4
            if item < 2 or length < 0:
                raise ProtocolError("P-DATA item does not fit its PDU")
            if control & COMMAND:
                self._receive_command(context_id, item - 2, is_last=bool(control & LAST))
            else:
                self._receive_data_set(context_id, item - 2, is_last=bool(control & LAST))

    def _receive_command(self, context_id: int, size: int, *, is_last: bool) -> None:
        if self._message is not None:
            raise ProtocolError("a command within a data set")
        if len(self._command) + size > MAX_COMMAND_BYTES:
            raise ProtocolError("a command without end")
        self._command += self._reader.take(size)
        if not is_last:
            return
        encoded, self._command = self._command, b""
        message = _Message(context_id=context_id, encoded=encoded, command=CommandSet(encoded))
        if message.command.number(command_set.CommandField) == command_set.C_STORE_RQ:
            message.incoming = self._begin_store(message)
        self._message = message
        if message.command.number(command_set.CommandDataSetType) == command_set.NO_DATA_SET:
            self._answer()

    def _begin_store(self, message: _Message) -> IncomingInstance:
        context = self._accepted_cx.get(message.context_id)
        if context is None or self.record is None:
            raise ProtocolError("a message on a context that was not accepted")
        message.command.number(command_set.MessageID)  # without it no answer is possible
        request = StoreRequest(
            SOPClassUID=message.command.uid(command_set.AffectedSOPClassUID),
            SOPInstanceUID=message.command.uid(command_set.AffectedSOPInstanceUID),
            TransferSyntaxUID=str(context.transfer_syntax[0]),
            sender=self.record.sender,
        )
        return self.storage.begin(self.record, request, str(context.abstract_syntax))

    def _receive_data_set(self, context_id: int, size: int, *, is_last: bool) -> None:
        message = self._message
        if message is None or message.context_id != context_id:
            raise ProtocolError("a data set without its command")
        if message.incoming is not None:
            for piece in self._reader.pieces(size):
                message.incoming.write(piece)
        elif len(message.data) + size <= MAX_OTHER_BYTES:
            message.data += self._reader.take(size)
        else:
            raise ProtocolError("a data set without end")
        if is_last:
            self._answer()

    def _answer(self) -> None:
        message, self._message = self._message, None
        assert message is not None
        if message.incoming is not None:
            answer = message.incoming.finish()
            self._send_message(message.context_id, store_response(message.command, answer))
        else:
            self._serve_other(message)

    def _send_message(self, context_id: int, encoded: bytes) -> None:
        """Send a command set in PDUs that the peer takes (PS3.8 D.1)."""
        most = (self.requestor.maximum_length or len(encoded) + 6) - 6
        for start in range(0, len(encoded), most):
            fragment = encoded[start : start + most]
            control = COMMAND | (LAST if start + most >= len(encoded) else 0)
            item = struct.pack(">LBB", len(fragment) + 2, context_id, control) + fragment
            self.dul.send_bytes(struct.pack(">BxL", DATA_TF, len(item)) + item)

    def _serve_other(self, message: _Message) -> None:
        """Let pynetdicom serve every other message (C-ECHO)."""
        primitive = P_DATA()
        primitive.presentation_data_value_list = [
            [message.context_id, bytes((COMMAND | LAST,)) + message.encoded]
        ]
        if message.command.number(command_set.CommandDataSetType) != command_set.NO_DATA_SET:
            primitive.presentation_data_value_list.append(
                [message.context_id, bytes((LAST,)) + bytes(message.data)]
            )
        try:
            self.dimse.receive_primitive(primitive)
        except Exception as error:  # pynetdicom's decoder raises whatever garbage leads it to
            raise ProtocolError("a message that cannot be decoded") from error
        context_id, request = self.dimse.get_msg(block=False)
        if request is not None:
            self._serve_request(request, context_id)
        elif "Evt19" in self.dul.event_queue.queue:
            raise ProtocolError("a message that is no valid request")

    def _send_abort(self) -> None:
        """A-ABORT by the service provider (PS3.8 9.3.8), reason not specified."""
        self.dul.send_bytes(struct.pack(">BxLxxBB", ABORT, 4, 2, 0))

    def _send_abort_and_close(self) -> None:
        with contextlib.suppress(OSError, ConnectionLost):
            self._send_abort()
            self._close_gently()

    def _close_gently(self) -> None:
        """Wait for the peer to close: closing over unread bytes would destroy our last PDU."""
        with contextlib.suppress(OSError, ConnectionLost):
            self._connection.shutdown(socket.SHUT_WR)
            deadline = time.monotonic() + CLOSE_SECONDS
            self._connection.settimeout(CLOSE_SECONDS)
            while time.monotonic() < deadline:
                for _ in self._reader.pieces(1 << 20):
                    if time.monotonic() >= deadline:
                        return


class _DirectProvider(DULServiceProvider):  # type: ignore[misc]
    """Sends in the thread of whoever sends. Never started: it has no state machine and no timers."""

    def __init__(self, association: Association) -> None:
        super().__init__(association)
        self._sending = threading.Lock()

    def send_pdu(self, primitive: Any) -> None:
        """Send a primitive as its PDU."""
        self.send_bytes(_pdu_of(primitive).encode())

    def send_bytes(self, data: bytes) -> None:
        """Send an encoded PDU.

        Raises
        ------
        ConnectionLost
            If the peer does not take it.
        """
        try:
            with self._sending:
                self.socket.socket.sendall(data)
        except OSError as error:
            raise ConnectionLost(str(error)) from error


def _pdu_of(primitive: Any) -> Any:
    if isinstance(primitive, P_DATA):
        return P_DATA_TF(primitive)
    if isinstance(primitive, A_ASSOCIATE):
        return A_ASSOCIATE_AC(primitive) if primitive.result == 0 else A_ASSOCIATE_RJ(primitive)
    if isinstance(primitive, A_RELEASE):
        return A_RELEASE_RP(primitive)
    if isinstance(primitive, A_ABORT | A_P_ABORT):
        return A_ABORT_RQ(primitive)
    raise TypeError(f"an acceptor never sends {type(primitive).__name__}")
