"""Writes the tables of the conformance statement from what the code accepts and answers.

    python -m dicom_node.conformance docs/conformance.md

The text around the tables is written by hand; each table stands between two markers.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from pydicom.uid import UID

from dicom_node.admission import Rejection
from dicom_node.contexts import (
    STORAGE_SOP_CLASSES,
    STORAGE_SYNTAXES,
    VERIFICATION,
    VERIFICATION_SYNTAXES,
)
from dicom_node.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.sender import SENT_SOP_CLASSES, SENT_TRANSFER_SYNTAXES
from dicom_node.statuses import StoreStatus
from studies.settings import Settings

_REASONS: Mapping[Rejection, str] = {
    Rejection.CALLING_AE_NOT_RECOGNISED: "Calling AE title and address are not on the site's list",
    Rejection.CALLED_AE_NOT_RECOGNISED: "Another AE title than ours is called",
    Rejection.LOCAL_LIMIT_EXCEEDED: "As many associations are open as the site allows",
}
_RESULTS = {1: "rejected permanently", 2: "rejected transient"}
_SOURCES = {1: "service user", 2: "service provider (ACSE)", 3: "service provider (presentation)"}


def tables() -> dict[str, str]:
    """Each table of the statement by the name that its markers bear."""
    return {name: make() for name, make in _TABLES.items()}


def rendered(text: str) -> str:
    """A statement's text with every table brought up to date.

    Raises
    ------
    ValueError
        If a table has no markers in the text.
    """
    for name, table in tables().items():
        begin, end = f"<!-- {name}: generated -->", f"<!-- {name}: end -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"the markers of the table {name!r} are missing")
        replacement = f"{begin}\n{table}\n{end}"
        text = pattern.sub(lambda _match, new=replacement: new, text)  # type: ignore[misc]
    return text


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    titles = list(head)
    lines = [titles, ["---"] * len(titles), *map(list, rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _uids(uids: Iterable[UID]) -> str:
    return _table(("Name", "UID"), ((uid.name, f"`{uid}`") for uid in uids))


def _statuses() -> str:
    return _table(
        ("Status", "Name", "When", "Defined in", "Sending again"),
        (
            (
                f"`0x{status:04X}`",
                status.name.replace("_", " ").capitalize(),
                status.meaning,
                status.section,
                "helps later" if status.is_transient else ("–" if status else "not needed"),
            )
            for status in StoreStatus
        ),
    )


def _rejections() -> str:
    rows = []
    for rejection, meaning in _REASONS.items():
        result, source, reason = rejection.value
        rows.append((f"{result} ({_RESULTS[result]})", f"{source} ({_SOURCES[source]})",
                     str(reason), meaning))  # fmt: skip
    return _table(("Result", "Source", "Reason", "When"), rows)


def _implementation() -> str:
    fields = Settings.model_fields
    rows = (
        ("Implementation Class UID", f"`{IMPLEMENTATION_CLASS_UID}`"),
        ("Implementation Version Name", f"`{IMPLEMENTATION_VERSION_NAME}`"),
        ("AE title (`ae_title`)", f"`{fields['ae_title'].default}`"),
        ("TCP port (`dicom_port`)", f"{fields['dicom_port'].default}"),
        ("Largest PDU received (`max_pdu`)", f"{fields['max_pdu'].default} bytes"),
        ("Associations at once (`max_associations`)", f"{fields['max_associations'].default}"),
        ("Silence within an association (`network_seconds`)",
         f"{fields['network_seconds'].default:g} s"),
        ("Largest data set (`max_instance_bytes`)", f"{fields['max_instance_bytes'].default} bytes"),
    )  # fmt: skip
    return _table(("Parameter (setting)", "Value unless the site sets another"), rows)


_TABLES: Mapping[str, Callable[[], str]] = {
    "implementation": _implementation,
    "verification": lambda: _uids([VERIFICATION]),
    "verification syntaxes": lambda: _uids(VERIFICATION_SYNTAXES),
    "storage classes": lambda: _uids(STORAGE_SOP_CLASSES),
    "storage syntaxes": lambda: _uids(STORAGE_SYNTAXES),
    "storage statuses": _statuses,
    "association rejections": _rejections,
    "sent classes": lambda: _uids(SENT_SOP_CLASSES),
    "sent syntaxes": lambda: _uids(SENT_TRANSFER_SYNTAXES),
}


def main(path: Path) -> None:
    """Bring the statement up to date."""
    path.write_text(rendered(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
