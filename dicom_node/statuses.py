"""The statuses that we answer a C-STORE with, each with its meaning and its section."""

from __future__ import annotations

from enum import IntEnum


class StoreStatus(IntEnum):
    """Status of a C-STORE response (PS3.4 Table B.2-1, PS3.7 Annex C).

    Attributes
    ----------
    section
        Where the standard defines it, or the range that it is taken from.
    meaning
        When we answer it.
    """

    section: str
    meaning: str

    def __new__(cls, value: int, section: str, meaning: str) -> StoreStatus:
        """Give the number its section and meaning."""
        status = int.__new__(cls, value)
        status._value_ = value
        status.section = section
        status.meaning = meaning
        return status

    SUCCESS = (
        0x0000,
        "PS3.7 C.1.1",
        "The bytes are durable and recorded, or were so before: the sender may forget the instance",
    )
    PROCESSING_FAILURE = (
        0x0110,
        "PS3.7 C.5.14",
        "Something broke that we did not foresee; nothing was kept, the log says what",
    )
    SOP_CLASS_NOT_SUPPORTED = (
        0x0122,
        "PS3.7 C.5.6",
        "The request names another SOP class than its presentation context",
    )
    OUT_OF_RESOURCES = (
        0xA700,
        "PS3.4 B.2.3",
        "Storing would touch the room on the disk that work in flight needs; to be sent again later",
    )
    TEMPORARILY_UNABLE = (
        0xA701,
        "PS3.4 B.2.3 (A7xx)",
        "The database or the data directory is away; to be sent again later",
    )
    DATA_SET_DOES_NOT_MATCH = (
        0xA900,
        "PS3.4 B.2.3",
        "SOP Class or SOP Instance UID of the data set differ from those of the request",
    )
    CANNOT_UNDERSTAND = (
        0xC000,
        "PS3.4 B.2.3",
        "The bytes are no data set of the negotiated transfer syntax, or end too early",
    )
    INVALID_IDENTIFIER = (
        0xC001,
        "PS3.4 B.2.3 (Cxxx)",
        "A UID that names study, series or instance is missing, or is no UID (PS3.5 9.1)",
    )
    TOO_LARGE = (
        0xC002,
        "PS3.4 B.2.3 (Cxxx)",
        "The data set is larger than the site accepts",
    )
    CONFLICTING_INSTANCE = (
        0xC111,
        "PS3.4 B.2.3 (Cxxx)",
        "The SOP Instance UID is held with other content, or the study for another patient; "
        "what was sent is in quarantine",
    )

    @property
    def is_transient(self) -> bool:
        """True where the same data set may be accepted later."""
        return 0xA700 <= self <= 0xA7FF
