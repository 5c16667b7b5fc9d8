"""The accepted contexts and the statuses: what the conformance statement is made of."""

from __future__ import annotations

from pynetdicom.service_class import StorageServiceClass, VerificationServiceClass
from pynetdicom.sop_class import uid_to_service_class

from dicom_node.contexts import (
    STORAGE_SOP_CLASSES,
    STORAGE_SYNTAXES,
    VERIFICATION,
    supported_contexts,
)
from dicom_node.statuses import StoreStatus


def test_every_class_is_what_it_is_called():
    """A typing error in a UID would silently refuse a modality."""
    assert uid_to_service_class(VERIFICATION) is VerificationServiceClass
    assert all(uid_to_service_class(uid) is StorageServiceClass for uid in STORAGE_SOP_CLASSES)


def test_every_syntax_is_a_transfer_syntax_of_the_standard():
    """And none is listed twice."""
    assert all(uid.is_transfer_syntax for uid in STORAGE_SYNTAXES)
    assert len(set(STORAGE_SYNTAXES)) == len(STORAGE_SYNTAXES)


def test_explicit_little_endian_is_preferred():
    """A sender that offers several syntaxes for one context keeps its VRs."""
    for context in supported_contexts():
        assert context.transfer_syntax[0].name == "Explicit VR Little Endian"


def test_the_statuses_lie_in_the_ranges_of_the_standard():
    """PS3.4 Table B.2-1: transient ones are A7xx, and no failure can be read as a success."""
    for status in StoreStatus:
        assert status.meaning
        assert status.section.startswith("PS3.")
        assert status.is_transient == (status >> 8 == 0xA7)
        assert status == 0 or not (status >> 12 == 0xB or status in (1, 0x107, 0x116))
