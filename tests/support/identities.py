"""Patients' names as devices of the world send them: character set and bytes."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset

from tests.support.dicom_making import ABSENT, override


@dataclass(frozen=True, slots=True)
class Identity:
    """A name in one of DICOM's character sets.

    Attributes
    ----------
    SpecificCharacterSet
        As stated by the sender; None where it states nothing.
    PatientName, StudyDescription
        Bytes as sent.
    """

    SpecificCharacterSet: str | list[str] | None
    PatientName: bytes
    StudyDescription: bytes


# The multi-byte ones are the examples of PS3.5 annexes H, I and J.
IDENTITIES: dict[str, Identity] = {
    "ascii": Identity(None, b"Doe^Jane", b"Wrist"),
    "latin-1": Identity("ISO_IR 100", b"Buc^J\xe9r\xf4me", b"Poignet c\xf4t\xe9 gauche"),
    "cyrillic": Identity("ISO_IR 144", "Люкcемб^Иван".encode("iso8859_5"), b"Wrist"),
    "greek": Identity("ISO_IR 126", "Διονυσιος^Α".encode("iso8859_7"), b"Wrist"),
    "japanese-87": Identity(
        ["", "ISO 2022 IR 87"],
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        b"\x1b$B;3ED\x1b(B",
    ),
    "japanese-13-87": Identity(
        ["ISO 2022 IR 13", "ISO 2022 IR 87"],
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J"
        b"=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
        b"\xd4\xcf\xc0\xde",
    ),
    "japanese-159": Identity(
        ["", "ISO 2022 IR 87", "ISO 2022 IR 159"],
        b"Yamada^Tarou=\x1b$(D0!\x1b(B^\x1b$BB@O:\x1b(B",
        b"Wrist",
    ),
    "chinese": Identity(
        "GB18030", "Wang^XiaoDong=王^小东".encode("gb18030"), "腕部".encode("gb18030")
    ),
    "korean": Identity(
        ["", "ISO 2022 IR 149"],
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7"
        b"=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
        b"Wrist",
    ),
    "utf-8": Identity("ISO_IR 192", "Wang^XiaoDong=王^小東".encode(), "Poignet, côté".encode()),
}


def with_identity(header: Dataset, identity: Identity) -> Dataset:
    """Give a header that a test has made another patient."""
    charset = identity.SpecificCharacterSet
    return override(
        header,
        SpecificCharacterSet=ABSENT if charset is None else charset,
        PatientName=identity.PatientName,
        StudyDescription=identity.StudyDescription,
    )
