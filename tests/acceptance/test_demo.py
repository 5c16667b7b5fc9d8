"""`osteon demo --once`: what a stranger types first."""

import os
import sys
from pathlib import Path

from pydicom import dcmread

from tests.support.peers import run_program


def _demo(folder: Path):
    environment = {
        "OSTEON_DATA_DIR": str(folder / "demo"),
        "OSTEON_RESERVE_BYTES": "0",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, "-m", "osteon", "demo", "--once"]
    return run_program(command, env=environment, cwd=folder, seconds=500)


def test_the_demo_ends_well_and_can_be_run_again(tmp_path: Path):
    """Every sample's report comes back; a second run begins anew, and neither touches the site's."""
    nobody = (
        'database_url = "postgresql://127.0.0.1:1/site"\nbroker_url = "redis://127.0.0.1:1/0"\n'
    )
    (tmp_path / "osteon.toml").write_text(nobody)
    for _ in range(2):
        shown = _demo(tmp_path)

        assert shown.returncode == 0, shown.stdout
        assert "a real lower leg" in shown.stdout
        assert "BodyPartExamined says CHEST" in shown.stdout
        reports = list((tmp_path / "demo" / "pacs").rglob("*.dcm"))
        assert len(reports) == 6
        assert {dcmread(report).Modality for report in reports} == {"SR"}


def test_the_demo_empties_nobody_elses_folder(tmp_path: Path):
    """A folder that holds anything but a former demonstration is left alone."""
    kept = tmp_path / "demo" / "important.txt"
    kept.parent.mkdir()
    kept.write_text("mine")
    shown = _demo(tmp_path)

    assert shown.returncode == 2
    assert "holds something else" in shown.stdout
    assert kept.read_text() == "mine"
