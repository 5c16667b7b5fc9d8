"""A storage SCU of bytes: sends any data set, cut into PDUs as a test wants, sound or not."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterable, Sequence
from io import BytesIO
from types import TracebackType
from typing import Self

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.dsutils import decode
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import build_context

COMMAND, DATA, LAST = 0x01, 0x00, 0x02  # message control header (PS3.8 E.2)
NO_DATA_SET = 0x0101


class Rejected(Exception):
    """The association was rejected; `reason` is (result, source, reason) of PS3.8 Table 9-21."""

    def __init__(self, reason: tuple[int, int, int]) -> None:
        super().__init__(f"association rejected: {reason}")
        self.reason = reason


class Ended(Exception):
    """The node has ended the association (abort or closed connection)."""


class RawAssociation:
    """An association that a test drives byte by byte. A context manager that releases.

    Parameters
    ----------
    contexts
        (SOP class, transfer syntax) pairs; they get the context ids 1, 3, 5 …
    """

    def __init__(
        self,
        port: int,
        contexts: Sequence[tuple[str, str]],
        *,
        called: str = "OSTEON",
        calling: str = "RAW",
        tls: ssl.SSLContext | None = None,
        max_pdu: int = 16384,
    ) -> None:
        self.socket: socket.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="127.0.0.1")
        self.message_id = 0
        self.is_open = True
        try:
            self.accepted = self._associate(_associate_rq(contexts, called, calling, max_pdu))
        except BaseException:
            self.socket.close()
            raise

    def _associate(self, request: bytes) -> set[int]:
        self.socket.sendall(request)
        kind, body = self.read_pdu()
        if kind == 0x03:
            rejected = A_ASSOCIATE_RJ()
            rejected.decode(_whole(kind, body))
            primitive = rejected.to_primitive()
            raise Rejected((primitive.result, primitive.result_source, primitive.diagnostic))
        if kind != 0x02:
            raise Ended(f"PDU type {kind}")
        accepted = A_ASSOCIATE_AC()
        accepted.decode(_whole(kind, body))
        results = accepted.to_primitive().presentation_context_definition_results_list
        return {cx.context_id for cx in results if cx.result == 0}

    def command(self, **elements: str | int) -> bytes:
        """An encoded command set (PS3.7 6.3.1); C-STORE-RQ unless the elements say other.

        Encoded by hand: the values may be such as no library would write.
        """
        self.message_id += 1
        values: dict[str, str | int] = {
            "CommandField": 0x0001,
            "MessageID": self.message_id,
            "Priority": 0,
            "CommandDataSetType": 0x0001,
            **elements,
        }
        encoded = b"".join(
            _element(tag, values[keyword])
            for tag, keyword in sorted((tag_for_keyword(k) or 0, k) for k in values)
        )
        return struct.pack("<HHLL", 0, 0, 4, len(encoded)) + encoded

    def send_pdus(self, *pdus: Iterable[tuple[int, int, bytes]]) -> None:
        """Send P-DATA-TF PDUs, each of (context, control, fragment) items."""
        self.socket.sendall(b"".join(pdata(items) for items in pdus))

    def store(
        self,
        data: bytes,
        SOPClassUID: str,
        SOPInstanceUID: str,
        *,
        context: int = 1,
        fragment: int = 16000,
    ) -> Dataset:
        """Send one data set; return the response's command set."""
        self.request(SOPClassUID, SOPInstanceUID, context=context)
        self.send_data(data, context=context, fragment=fragment)
        return self.response()

    def request(self, SOPClassUID: str, SOPInstanceUID: str, *, context: int = 1) -> None:
        """Send a C-STORE-RQ without its data set."""
        command = self.command(
            AffectedSOPClassUID=SOPClassUID, AffectedSOPInstanceUID=SOPInstanceUID
        )
        self.send_pdus([(context, COMMAND | LAST, command)])

    def send_data(
        self, data: bytes, *, context: int = 1, fragment: int = 16000, last: bool = True
    ) -> None:
        """Send bytes of a data set, as its end or only as its beginning."""
        pieces = [data[i : i + fragment] for i in range(0, len(data), fragment)] or [b""]
        for number, piece in enumerate(pieces, start=1):
            control = LAST if last and number == len(pieces) else DATA
            self.send_pdus([(context, control, piece)])

    def echo(self, *, context: int = 1) -> int:
        """Send a C-ECHO-RQ; return the status."""
        command = self.command(
            AffectedSOPClassUID="1.2.840.10008.1.1",
            CommandField=0x0030,
            CommandDataSetType=NO_DATA_SET,
        )
        self.send_pdus([(context, COMMAND | LAST, command)])
        return int(self.response().Status)

    def response(self) -> Dataset:
        """Read one response; return its command set."""
        encoded = b""
        while True:
            kind, body = self.read_pdu()
            if kind == 0x07:
                self.is_open = False
                raise Ended("aborted")
            assert kind == 0x04, f"PDU type {kind}"
            position = 0
            while position < len(body):
                (length,) = struct.unpack_from(">L", body, position)
                control = body[position + 5]
                encoded += body[position + 6 : position + 4 + length]
                position += 4 + length
                if control & LAST:
                    response: Dataset = decode(BytesIO(encoded), True, True)
                    return response

    def read_pdu(self) -> tuple[int, bytes]:
        """Read one PDU: its type and what follows the length."""
        header = self._read(6)
        kind, length = struct.unpack(">BxL", header)
        return kind, self._read(length)

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            try:
                piece = self.socket.recv(count - len(data))
            except ConnectionError as error:
                self.is_open = False
                raise Ended(str(error)) from error
            if not piece:
                self.is_open = False
                raise Ended("closed")
            data += piece
        return data

    def release(self) -> None:
        """Release the association and wait for the answer."""
        self.socket.sendall(struct.pack(">BxLL", 0x05, 4, 0))
        kind, _ = self.read_pdu()
        assert kind == 0x06, f"PDU type {kind}"
        self.close()

    def abort(self) -> None:
        """Abort it (A-ABORT, source: service user)."""
        self.socket.sendall(struct.pack(">BxLxxBB", 0x07, 4, 0, 0))
        self.close()

    def close(self) -> None:
        """Close the connection, which is a lost one unless released or aborted before."""
        self.is_open = False
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None and self.is_open:
            self.release()
        else:
            self.close()


def pdata(items: Iterable[tuple[int, int, bytes]]) -> bytes:
    """One P-DATA-TF PDU (PS3.8 9.3.5) of (context, control, fragment) items."""
    body = b"".join(
        struct.pack(">LBB", len(fragment) + 2, context, control) + fragment
        for context, control, fragment in items
    )
    return struct.pack(">BxL", 0x04, len(body)) + body


def _element(tag: int, value: str | int) -> bytes:
    """One element of a command set: implicit VR little endian, UI or US."""
    if isinstance(value, int):
        encoded = struct.pack("<H", value)
    else:
        encoded = value.encode("latin-1")
        encoded += b"\0" * (len(encoded) % 2)
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(encoded)) + encoded


def _associate_rq(
    contexts: Sequence[tuple[str, str]], called: str, calling: str, max_pdu: int
) -> bytes:
    primitive = A_ASSOCIATE()
    primitive.application_context_name = UID("1.2.840.10008.3.1.1.1")
    primitive.calling_ae_title, primitive.called_ae_title = calling, called
    proposed = []
    for number, (abstract, syntax) in enumerate(contexts):
        context = build_context(abstract, syntax)
        context.context_id = 2 * number + 1
        proposed.append(context)
    primitive.presentation_context_definition_list = proposed
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = max_pdu
    implementation.implementation_class_uid = UID("1.2.826.0.1.3680043.10.99")
    primitive.user_information = [length, implementation]
    encoded: bytes = A_ASSOCIATE_RQ(primitive).encode()
    return encoded


def _whole(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxL", kind, len(body)) + body
