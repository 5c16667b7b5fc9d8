"""The wheel holds what a checkout holds: packages, models, migrations."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.shared import PROJECT_ROOT


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without a network and unpacked as an installer would."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=PROJECT_ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site-packages")
    return folder / "site-packages"


def _tracked(folder: str) -> set[str]:
    listed = subprocess.run(
        ["git", "ls-files", folder], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True
    )
    return set(listed.stdout.split())


@pytest.mark.parametrize("folder", ["migrations", "models_onnx", "worker", "training", "worklist"])
def test_every_tracked_file_of_a_folder_is_in_the_wheel(installed, folder):
    """A card, a template or a page that only the checkout has would be missed in production."""
    missing = {name for name in _tracked(folder) if not (installed / name).is_file()}

    assert missing == set()


def test_nothing_else_is_in_the_wheel(installed):
    """Tests, data and what a developer left lying about are not shipped."""
    names = {path.name for path in installed.iterdir()}

    assert names.isdisjoint({"tests", "docs", "data", "run", "pyproject.toml"})


def test_the_packages_find_their_data_from_an_installation(installed, tmp_path):
    """What lies beside the packages in a checkout lies beside them when installed."""
    program = (
        "import sys; sys.path[:0] = [sys.argv[1]]\n"
        "import studies, pathlib\n"
        "beside = pathlib.Path(studies.__file__).parents[1]\n"
        "print(beside); print((beside / 'migrations/env.py').is_file())"
    )

    result = subprocess.run(
        [sys.executable, "-I", "-c", program, installed],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    assert result.stdout.split() == [str(installed), "True"]
