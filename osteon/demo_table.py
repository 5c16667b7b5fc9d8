"""The table of `osteon demo`: what each sample is, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from osteon.samples import Sample
from studies.model import Band, Reading

_COLOURS = {Band.POSITIVE: "bold red", Band.DOUBTFUL: "yellow", Band.NEGATIVE: "green"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One sample.

    Attributes
    ----------
    outcome
        Where its study stands, in words.
    report
        The report as the PACS got it; None before.
    is_done
        Whether nothing more will happen to it.
    as_expected
        Whether it was read or refused as it should be, and its report is back.
    """

    sample: Sample
    outcome: str
    reading: Reading | None = None
    report: Path | None = None
    is_done: bool = False
    as_expected: bool = False


def demo_table(rows: Sequence[Row], folder: Path) -> Table:
    """Lay the rows out; report files are named from the folder of the PACS on."""
    table = Table(expand=False, pad_edge=False)
    for title in ("Sample", "Study", "Region", "Result", "Fracture", "Report"):
        table.add_column(title, overflow="fold")
    for row in rows:
        kind = " (drawn)" if row.sample.synthetic else ""
        regions, results, certainties = _results(row.reading)
        report = str(row.report.relative_to(folder)) if row.report else "…"
        table.add_row(
            row.sample.what + kind, row.outcome, regions, results, certainties, _short(report)
        )
    return table


def _results(reading: Reading | None) -> tuple[str, str, str]:
    if reading is None:
        return "", "", ""
    if reading.not_analysed is not None:
        return "", f"not analysed, because {reading.not_analysed}", ""
    regions, results, certainties = [], [], []
    for region, pairs in reading.by_region().items():
        _, worst = pairs[0]
        regions.append(region.value.replace("_", " or "))
        results.append(f"[{_COLOURS[worst.band]}]{worst.band.value}[/]")
        certainties.append(f"{100 * worst.probability:.0f} %")
    return "\n".join(regions), "\n".join(results), "\n".join(certainties)


def _short(path: str, length: int = 12) -> str:
    """A path whose UIDs are cut in the middle, so that a table stays readable."""
    parts = path.split("/")
    return "/".join(p if len(p) <= 2 * length else f"{p[:length]}…{p[-length:]}" for p in parts)
