"""Reads PDUs from a socket through one buffer, and hands out what they carry without copying it."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Final

BUFFER_BYTES: Final = 1 << 18
_HEADER: Final = struct.Struct(">BxL")
_FRAGMENT: Final = struct.Struct(">LBB")


class ConnectionLost(Exception):
    """The peer has closed the connection, or it broke."""


class SilentPeer(ConnectionLost):
    """Nothing came for longer than the network's timeout."""


class PDUReader:
    """A stream of PDUs (PS3.8 9.3).

    Parameters
    ----------
    connection
        Plain or TLS; its timeout is how long a peer may be silent.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._view = memoryview(bytearray(BUFFER_BYTES))
        self._start = 0
        self._end = 0

    def header(self) -> tuple[int, int]:
        """The next PDU's type, and how many bytes follow."""
        kind, length = _HEADER.unpack(self.take(6))
        return kind, length

    def fragment(self) -> tuple[int, int, int]:
        """A presentation data value's length (of what follows the length field), context, control.

        PS3.8 9.3.5.1 and E.2.
        """
        length, context_id, control = _FRAGMENT.unpack(self.take(6))
        return length, context_id, control

    def take(self, count: int) -> bytes:
        """Exactly so many bytes."""
        if self._end - self._start >= count:
            self._start += count
            return bytes(self._view[self._start - count : self._start])
        return b"".join(map(bytes, self.pieces(count)))

    def pieces(self, count: int) -> Iterator[memoryview]:
        """So many bytes in pieces as they come; each is valid until the next is asked for.

        Raises
        ------
        ConnectionLost
            If they do not come.
        """
        while count:
            if self._start == self._end:
                self._fill()
            size = min(count, self._end - self._start)
            self._start += size
            count -= size
            yield self._view[self._start - size : self._start]

    def _fill(self) -> None:
        try:
            self._end = self._connection.recv_into(self._view)
        except TimeoutError as error:
            raise SilentPeer("nothing came in time") from error
        except OSError as error:
            raise ConnectionLost(str(error)) from error
        self._start = 0
        if self._end == 0:
            raise ConnectionLost("closed by the peer")
