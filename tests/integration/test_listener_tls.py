"""The listener behind TLS: who may shake hands, and that an image comes through whole."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.statuses import StoreStatus
from tests.support.dicom_making import make, picture
from tests.support.listening import Node, digest, encoded, running_node
from tests.support.raw_association import Ended, RawAssociation


@dataclass
class Authority:
    """A certificate authority with a certificate for the node."""

    authority: trustme.CA
    folder: Path

    def settings(self, *, require_peer_certificate: bool) -> dict[str, object]:
        return {
            "certificate": self.folder / "node.pem",
            "key": self.folder / "node.key",
            "authorities": self.folder / "authority.pem",
            "require_peer_certificate": require_peer_certificate,
        }

    def client(self, issuer: trustme.CA | None) -> ssl.SSLContext:
        """A sender that trusts the authority, with a certificate of the issuer's or none."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.authority.configure_trust(context)
        if issuer is not None:
            issuer.issue_cert("sender.example").configure_cert(context)
        return context


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """An authority, and the node's files in a folder."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "node.key")
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(tmp_path / "node.pem", append=True)
    return Authority(authority, tmp_path)


@pytest.fixture(params=[True, False], ids=["fast", "plain"])
def node(request: pytest.FixtureRequest, tmp_path: Path, authority: Authority) -> Iterator[Node]:
    """A node that asks for certificates, receiving either way."""
    with running_node(
        tmp_path,
        listener_tls=authority.settings(require_peer_certificate=True),
        fast_receive=request.param,
    ) as node:
        yield node


def test_an_image_comes_through_tls_whole(node, authority):
    """Large enough for many TLS records and several reads."""
    ds = make(picture(700, 700))
    data = encoded(ds)

    answer = node.send(ds, tls=authority.client(authority.authority))

    assert answer.Status == StoreStatus.SUCCESS
    (row,) = node.instances()
    assert row.sha256 == digest(data)


@pytest.mark.parametrize("stranger", [True, False], ids=["of another authority", "none"])
def test_a_sender_without_a_certificate_of_ours_is_not_served(node, authority, stranger):
    """The AE title does not count before the certificate does."""
    client = authority.client(trustme.CA() if stranger else None)

    with pytest.raises((OSError, Ended)):
        node.send(make(), tls=client)

    assert node.instances() == []


def test_a_site_may_do_without_senders_certificates(tmp_path, authority):
    """Encrypted, but any sender of the list may come."""
    tls = authority.settings(require_peer_certificate=False)
    with running_node(tmp_path, listener_tls=tls) as node:
        answer = node.send(make(), tls=authority.client(None))

    assert answer.Status == StoreStatus.SUCCESS


def test_a_peer_that_never_shakes_hands_holds_up_nobody(node, authority):
    """The handshake has a thread of its own; others are served meanwhile."""
    with socket.create_connection(("127.0.0.1", node.port)):
        answer = node.send(make(), tls=authority.client(authority.authority))

    assert answer.Status == StoreStatus.SUCCESS


def test_a_sender_without_tls_is_cut_off(node, authority):
    """And the next one with TLS is served."""
    with socket.create_connection(("127.0.0.1", node.port), timeout=30) as peer:
        peer.sendall(b"\x01\x00\x00\x00\x00\x04abcd" * 100)
        peer.shutdown(socket.SHUT_WR)
        try:
            while peer.recv(4096):
                pass
        except ConnectionResetError:
            pass

    assert node.send(make(), tls=authority.client(authority.authority)).Status == 0


def test_a_transfer_that_breaks_off_within_tls_leaves_nothing(node, authority):
    """A connection closed without a goodbye is a lost association."""
    ds = make()
    association = RawAssociation(
        node.port,
        [(ds.SOPClassUID, ExplicitVRLittleEndian)],
        tls=authority.client(authority.authority),
    )
    association.store(encoded(ds), ds.SOPClassUID, ds.SOPInstanceUID)
    association.request(ds.SOPClassUID, "1.2.3")
    association.send_data(encoded(ds)[:5000], last=False)
    association.close()

    (row,) = node.closed_associations(1)

    assert row.outcome == "lost"
    assert node.spool_files() == set()
