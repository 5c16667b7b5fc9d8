"""Who is let in: AE titles, addresses, networks and names."""

from __future__ import annotations

import pytest

from dicom_node.admission import Admission
from studies.settings import LOOPBACK, Source


@pytest.mark.parametrize(
    ("address", "admitted"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("::ffff:127.0.0.1", True),
     ("10.0.0.1", False), ("::2", False), ("fe80::1%eth0", False)],
)  # fmt: skip
def test_only_this_machine_may_send_unless_the_site_says_more(address, admitted):
    """The default is loopback, in both families."""
    admission = Admission(LOOPBACK, open_node=False)

    assert (admission.source_of("ANY", address) is not None) == admitted


@pytest.mark.parametrize(
    ("ae_title", "address", "admitted"),
    [("CR1", "10.1.2.3", True), ("CR1", "10.2.0.1", False), ("CR2", "10.1.2.3", False),
     ("cr1", "10.1.2.3", False), ("PACS", "192.168.0.7", True), ("PACS", "192.168.0.8", False)],
)  # fmt: skip
def test_title_and_address_have_to_fit_one_entry(ae_title, address, admitted):
    """An AE title alone is no identity: anybody can type it."""
    admission = Admission(
        [Source(ae_title="CR1", host="10.1.0.0/16"), Source(ae_title="PACS", host="192.168.0.7")],
        open_node=False,
    )

    assert (admission.source_of(ae_title, address) is not None) == admitted


def test_a_host_may_be_a_name():
    """A name is resolved when somebody comes."""
    admission = Admission([Source(ae_title="*", host="localhost")], open_node=False)

    assert admission.source_of("X", "127.0.0.1") is not None
    assert admission.source_of("X", "10.0.0.1") is None


def test_a_name_that_cannot_be_resolved_admits_nobody():
    """And raises nothing."""
    admission = Admission([Source(ae_title="*", host="no-such-host.invalid")], open_node=False)

    assert admission.source_of("X", "127.0.0.1") is None


def test_an_open_node_admits_everybody_and_keeps_the_known_ones_apart():
    """The entry of the list decides the character set even on an open node."""
    admission = Admission(
        [Source(ae_title="CR1", host="10.0.0.1", charset="ISO_IR 144")], open_node=True
    )

    known = admission.source_of("CR1", "10.0.0.1")
    new = admission.source_of("NEW", "203.0.113.9")

    assert known is not None
    assert known.charset == "ISO_IR 144"
    assert new is not None
    assert new.charset is None
