"""Decoding of text values, with and without code extensions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.charset import convert_encodings, decode_bytes

from dicom_node.text import NAME_DELIMITERS, decode, encodings_of
from tests.support.identities import IDENTITIES


@pytest.mark.parametrize("name", IDENTITIES)
def test_a_name_reads_as_pydicom_reads_it(name):
    """The examples of PS3.5 annexes H, I and J."""
    identity = IDENTITIES[name]
    charset = identity.SpecificCharacterSet
    terms = [charset or ""] if not isinstance(charset, list) else charset
    expected = decode_bytes(
        identity.PatientName, convert_encodings(list(terms)), {0x5C, 0x5E, 0x3D}
    )

    assert (
        decode(identity.PatientName, encodings_of(terms, "ISO_IR 6"), NAME_DELIMITERS) == expected
    )


@pytest.mark.parametrize("terms", [[], [""], ["ISO_IR 999"], ["nonsense"]])
def test_a_set_that_nobody_knows_is_the_site_s(terms):
    """Unknown is treated as unstated."""
    assert encodings_of(terms, "ISO_IR 144") == encodings_of(["ISO_IR 144"], "ISO_IR 100")


def test_an_unknown_default_is_latin():
    """A typing error in the settings stops no image."""
    assert encodings_of([], "ISO_IR 1000000") == ("iso8859",)


@given(
    value=st.binary(max_size=80),
    terms=st.lists(
        st.sampled_from(["", "ISO 2022 IR 87", "ISO 2022 IR 149", "ISO_IR 192", "GB18030", "x"]),
        max_size=3,
    ),
)
def test_any_bytes_become_text_that_a_database_takes(value, terms):
    """No bytes fail, and no control character is left."""
    text = decode(value, encodings_of(terms, "ISO_IR 100"), NAME_DELIMITERS)

    assert not any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in text)
    text.encode("utf-8")


def test_an_unknown_escape_sequence_does_not_hide_the_text():
    """It is dropped; the rest is read in the first set."""
    assert decode(b"A\x1b%GB", ("latin_1",)) == "AB"
