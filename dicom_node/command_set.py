"""Command sets as bytes: what a C-STORE request says, and our response (PS3.7 6.3.1, 9.3.1).

Always implicit VR little endian, always the same dozen elements: encoded and decoded by hand,
because a data set object for each costs more than the rest of a small image.
"""

from __future__ import annotations

import struct
from typing import Final

from dicom_node.handlers import StoreAnswer

C_STORE_RQ: Final = 0x0001
C_STORE_RSP: Final = 0x8001
NO_DATA_SET: Final = 0x0101

AffectedSOPClassUID: Final = 0x0002
CommandField: Final = 0x0100
MessageID: Final = 0x0110
MessageIDBeingRespondedTo: Final = 0x0120
CommandDataSetType: Final = 0x0800
Status: Final = 0x0900
ErrorComment: Final = 0x0902
AffectedSOPInstanceUID: Final = 0x1000


class BrokenCommand(ValueError):
    """The bytes are no command set."""


class CommandSet:
    """The elements of a command set, by their number within group 0000.

    Raises
    ------
    BrokenCommand
        If an element does not fit, or is of another group.
    """

    def __init__(self, encoded: bytes) -> None:
        self._values: dict[int, bytes] = {}
        position = 0
        while position < len(encoded):
            if len(encoded) - position < 8:
                raise BrokenCommand("ends within an element's header")
            group, number, length = struct.unpack_from("<HHL", encoded, position)
            position += 8
            if group != 0x0000 or length > len(encoded) - position:
                raise BrokenCommand(f"element ({group:04X},{number:04X}) does not fit")
            self._values[number] = encoded[position : position + length]
            position += length

    def number(self, element: int) -> int:
        """The value of an element of VR US."""
        value = self._values.get(element, b"")
        if len(value) != 2:
            raise BrokenCommand(f"element (0000,{element:04X}) is missing")
        return int.from_bytes(value, "little")

    def uid(self, element: int) -> str:
        """The value of an element of VR UI as it came, without padding; empty if missing."""
        return self._values.get(element, b"").rstrip(b"\0 ").decode("ascii", errors="replace")


def store_response(request: CommandSet, answer: StoreAnswer) -> bytes:
    """The C-STORE-RSP to a request (PS3.7 9.3.1.2)."""
    elements = [
        _ui(AffectedSOPClassUID, request.uid(AffectedSOPClassUID)),
        _us(CommandField, C_STORE_RSP),
        _us(MessageIDBeingRespondedTo, request.number(MessageID)),
        _us(CommandDataSetType, NO_DATA_SET),
        _us(Status, answer.status),
    ]
    if answer.comment:
        comment = answer.comment.encode("ascii", errors="replace")
        elements.append(_element(ErrorComment, comment + b" " * (len(comment) % 2)))
    elements.append(_ui(AffectedSOPInstanceUID, request.uid(AffectedSOPInstanceUID)))
    encoded = b"".join(elements)
    return _element(0x0000, struct.pack("<L", len(encoded))) + encoded


def _us(number: int, value: int) -> bytes:
    return _element(number, struct.pack("<H", value))


def _ui(number: int, value: str) -> bytes:
    encoded = value[:64].encode("ascii", errors="replace")
    return _element(number, encoded + b"\0" * (len(encoded) % 2))


def _element(number: int, value: bytes) -> bytes:
    return struct.pack("<HHL", 0x0000, number, len(value)) + value
