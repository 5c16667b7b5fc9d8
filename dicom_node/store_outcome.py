"""What a C-STORE status means for the sender: done, try again, or never (PS3.4 B.2.3)."""

from __future__ import annotations

from enum import Enum


class Outcome(Enum):
    """What the sender does next."""

    DONE = "done"  # the peer has it; a warning is noted
    BUSY = "busy"  # the peer cannot now, however long that lasts
    DOUBTFUL = "doubtful"  # may be a hiccup or final: tried a bounded number of times
    REFUSED = "refused"  # another try would get the same answer


# PS3.4 Table B.2-1, PS3.7 C.4 and C.5. Ranges are (first, last, outcome, meaning).
_RANGES = (
    (0x0000, 0x0000, Outcome.DONE, "success"),
    (0xB000, 0xB000, Outcome.DONE, "warning: coercion of data elements"),
    (0xB006, 0xB006, Outcome.DONE, "warning: elements discarded"),
    (0xB007, 0xB007, Outcome.DONE, "warning: data set does not match SOP class"),
    (0x0001, 0x0001, Outcome.DONE, "warning"),
    (0x0107, 0x0107, Outcome.DONE, "warning: attribute list error"),
    (0x0116, 0x0116, Outcome.DONE, "warning: attribute value out of range"),
    (0xA700, 0xA7FF, Outcome.BUSY, "out of resources"),
    (0x0213, 0x0213, Outcome.BUSY, "resource limitation"),
    (0x0110, 0x0110, Outcome.DOUBTFUL, "processing failure"),
    (0xA900, 0xA9FF, Outcome.REFUSED, "data set does not match SOP class"),
    (0xC000, 0xCFFF, Outcome.REFUSED, "cannot understand"),
    (0x0111, 0x0111, Outcome.REFUSED, "duplicate SOP instance with other content"),
    (0x0117, 0x0117, Outcome.REFUSED, "invalid object instance"),
    (0x0122, 0x0122, Outcome.REFUSED, "SOP class not supported"),
    (0x0124, 0x0124, Outcome.REFUSED, "not authorized"),
    (0x0210, 0x0212, Outcome.REFUSED, "the peer does not understand the request"),
)


def outcome_of(status: int) -> tuple[Outcome, str]:
    """The outcome of a C-STORE status (0x0000 to 0xFFFF), and its meaning with the number.

    A status that no table lists is doubtful: some peers invent their own.
    """
    for first, last, outcome, meaning in _RANGES:
        if first <= status <= last:
            return outcome, f"0x{status:04X} {meaning}"
    return Outcome.DOUBTFUL, f"0x{status:04X} unknown status"
