"""Text of a data set as Python text: character sets with and without code extensions (PS3.5 6.1).

Nothing here fails: what cannot be decoded becomes U+FFFD, because an image with a garbled name is
still an image. Control characters are dropped; PostgreSQL refuses NUL, and a terminal obeys ESC.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from pydicom.charset import CODES_TO_ENCODINGS, handled_encodings, python_encoding

_FRAGMENTS: Final = re.compile(rb"[^\x1b]+|\x1b[^\x1b]*")
_CONTROLS: Final = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)])
# After these, a value is back in its first character set (PS3.5 6.1.2.5.3).
TEXT_DELIMITERS: Final = b"\\"
NAME_DELIMITERS: Final = b"\\^="


def encodings_of(terms: Sequence[str], default: str) -> tuple[str, ...]:
    """Python's encodings for the terms of Specific Character Set (0008,0005).

    Parameters
    ----------
    terms
        Its values; an empty first one stands for the default repertoire.
    default
        Defined term that the site assumes where the sender states none, or one that nobody knows.
    """
    known = [
        python_encoding[term] for term in terms if term in python_encoding and (term or terms[1:])
    ]
    return tuple(known) or (python_encoding.get(default, "iso8859"),)


def decode(value: bytes, encodings: Sequence[str], delimiters: bytes = TEXT_DELIMITERS) -> str:
    """The text of a value, without padding and control characters.

    Parameters
    ----------
    encodings
        As `encodings_of` gives them; the first one holds until an escape sequence.
    delimiters
        Bytes that end an escape sequence's effect.
    """
    first = encodings[0]
    fragments = _FRAGMENTS.findall(value)
    text = "".join(_fragment(fragment, first, delimiters) for fragment in fragments)
    return text.translate(_CONTROLS).strip(" ")


def _fragment(fragment: bytes, first: str, delimiters: bytes) -> str:
    if not fragment.startswith(b"\x1b"):
        return fragment.decode(first, errors="replace")
    # An escape sequence has four bytes if it names a set of several bytes at G0 or G1.
    length = 4 if fragment[1:3] in (b"$(", b"$)") else 3
    encoding = CODES_TO_ENCODINGS.get(fragment[:length])
    if encoding is None:
        return fragment[length:].decode(first, errors="replace")
    if encoding in handled_encodings:  # Python's codec wants to see the escape sequence
        return fragment.decode(encoding, errors="replace")
    rest = fragment[length:]
    end = next((i for i, byte in enumerate(rest) if byte in delimiters), len(rest))
    extended = rest[:end].decode(encoding, errors="replace")
    return extended + rest[end:].decode(first, errors="replace")
