"""The rules of the imports in pyproject.toml, shown to catch what they forbid."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.shared import PROJECT_ROOT

CONFIG = PROJECT_ROOT / "pyproject.toml"
PACKAGES = tomllib.loads(CONFIG.read_text())["tool"]["importlinter"]["root_packages"]


def _lint(folder: Path, importer: str, line: str) -> subprocess.CompletedProcess[str]:
    """Judge a project of our shape that has this one import."""
    shutil.copy(CONFIG, folder / "pyproject.toml")
    for package in PACKAGES:
        (folder / package).mkdir()
        (folder / package / "__init__.py").touch()
    for module in ("model", "rules", "errors"):
        (folder / "studies" / f"{module}.py").touch()
    (folder / f"{importer.replace('.', '/')}.py").write_text(line + "\n")
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("importer", "line"),
    [
        ("studies.anything", "import worker"),
        ("reports.anything", "import dicom_node"),
        ("dicom_node.anything", "from reports import sr"),
        ("worker.anything", "import training"),
        ("worklist.anything", "import worker"),
        ("worker.anything", "import osteon"),
        ("osteon.anything", "import benchmarks"),
        ("training.anything", "import dicom_node"),
        ("worker.anything", "import torch"),
        ("reports.anything", "import sqlalchemy"),
        ("studies.rules", "import pydicom"),
    ],
)
def test_an_import_against_the_layers_is_found(tmp_path, importer, line):
    """Each rule has been seen to fail."""
    result = _lint(tmp_path, importer, line)

    assert result.returncode == 1, result.stdout
    assert "BROKEN" in result.stdout
    assert importer in result.stdout


@pytest.mark.parametrize(
    ("importer", "line"),
    [
        ("osteon.anything", "import training"),
        ("training.anything", "import worker"),
        ("worker.anything", "import reports, dicom_node"),
        ("worklist.anything", "import studies.model"),
    ],
)
def test_an_import_that_points_down_is_allowed(tmp_path, importer, line):
    """The rules do not forbid what the design asks for."""
    result = _lint(tmp_path, importer, line)

    assert result.returncode == 0, result.stdout
