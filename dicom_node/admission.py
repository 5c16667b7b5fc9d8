"""Who may open an association: calling AE title and address against the site's list."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from enum import Enum
from functools import cache

import structlog

from studies.settings import Source

_log = structlog.get_logger()
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Rejection(Enum):
    """Why an association is rejected: (result, source, reason) of PS3.8 Table 9-21."""

    CALLING_AE_NOT_RECOGNISED = (1, 1, 3)
    CALLED_AE_NOT_RECOGNISED = (1, 1, 7)
    LOCAL_LIMIT_EXCEEDED = (2, 3, 2)


class Admission:
    """The site's list of senders.

    Parameters
    ----------
    sources
        Who may send.
    open_node
        Whoever is not on the list may send too.
    """

    def __init__(self, sources: Sequence[Source], *, open_node: bool) -> None:
        self._sources = tuple(sources)
        self._open_node = open_node

    def source_of(self, ae_title: str, address: str) -> Source | None:
        """The entry that admits this sender; None if none does.

        Parameters
        ----------
        ae_title
            Calling AE title without padding.
        address
            Where the association comes from, IPv4 or IPv6.
        """
        peer = _address(address)
        for source in self._sources:
            if source.ae_title in ("*", ae_title) and _covers(source.host, peer):
                return source
        return Source(ae_title=ae_title, host=str(peer)) if self._open_node else None


def _address(text: str) -> _Address:
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped  # an IPv4 sender at a listener of both families
    return address


def _covers(host: str, peer: _Address) -> bool:
    network = _network(host)
    if network is not None:
        return peer in network
    # A name may move: it is asked for anew each time.
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        _log.warning("name of a source cannot be resolved", host=host, error=str(error))
        return False
    return any(_address(str(entry[4][0])) == peer for entry in found)


@cache
def _network(host: str) -> _Network | None:
    """The network that an address or a CIDR stands for; None for a name."""
    try:
        return ipaddress.ip_network(host, strict=False)
    except ValueError:
        return None
