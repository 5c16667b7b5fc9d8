"""The command as a person meets it: help, versions, and errors in one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from osteon.migrations import migrate
from osteon.node import as_environment
from studies.database import Database
from studies.journal import Journal
from studies.model import StudyDescription
from studies.settings import Settings, load_settings
from tests.support.domain import STUDY, instance


def osteon(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command with a data directory of its own."""
    environment = {
        **os.environ,
        "OSTEON_DATA_DIR": str(folder),
        "PYTHONPATH": os.pathsep.join(sys.path),
        **variables,
    }
    return subprocess.run(
        [sys.executable, "-m", "osteon", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=folder,
        check=False,
        timeout=120,
    )


@pytest.fixture
def held(tmp_path: Path) -> Path:
    """A data directory that holds one study."""
    with Database(f"sqlite:///{tmp_path / 'osteon.sqlite'}") as database:
        migrate(database)
        Journal(database).receive(instance(), StudyDescription(PatientName="SECRET^NAME"))
    return tmp_path


def test_help_names_what_a_stranger_needs(tmp_path: Path):
    """The words of the README stand in the help."""
    shown = osteon(tmp_path, "--help")

    assert shown.returncode == 0
    for word in ("up", "demo", "scan", "send", "doctor", "studies", "deadletters", "models"):
        assert f" {word} " in shown.stdout


def test_help_opens_no_heavy_library(tmp_path: Path):
    """It must not wait for pydicom, onnxruntime or torch."""
    script = (
        "import sys, osteon.cli\n"
        "try: osteon.cli.app(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'onnxruntime', 'pydicom', 'celery') if m in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=tmp_path,
        check=False,
    )

    assert shown.stdout.rstrip().endswith("[]")


@pytest.mark.parametrize(
    ("arguments", "variables", "status", "told"),
    [
        (("studies", "list"), {"OSTEON_QUITE": "1"}, 2, "OSTEON_QUITE is not a setting"),
        (("studies", "list"), {}, 1, "run `osteon migrate`"),
        (("--config", "no.toml", "studies", "list"), {}, 2, "no.toml cannot be read"),
        (("models", "check"), {"OSTEON_MODELS_DIR": "."}, 2, "no model"),
        (
            ("models", "check"),
            {"OSTEON_EXPERIMENTAL_REGIONS": '["nose"]'},
            2,
            "'nose' is no region",
        ),
        (("send", "x.dcm"), {}, 2, "x.dcm is not there"),
        (("send", ".", "--to", "nowhere"), {}, 2, "not HOST:PORT"),
    ],
)
def test_a_mistake_is_told_in_one_line(tmp_path: Path, arguments, variables, status, told):
    """What is wrong and where; no traceback."""
    shown = osteon(tmp_path, *arguments, **variables)

    assert shown.returncode == status
    assert told in shown.stderr
    assert "Traceback" not in shown.stderr


def test_a_configured_gpu_that_is_not_there_is_an_error(tmp_path: Path):
    """Never a silent run on the CPU."""
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has onnxruntime-gpu; ./run --cpu setup takes it away")
    shown = osteon(tmp_path, "models", "check", OSTEON_DEVICE="cuda")

    assert shown.returncode == 2
    assert "device is set to cuda" in shown.stderr


def test_a_study_is_shown_without_its_patients_name(held: Path):
    """A terminal's history outlives its user."""
    listed = osteon(held, "studies", "list")
    shown = osteon(held, "studies", "show", STUDY)
    (values,) = osteon(held, "studies", "list", "--json").stdout.splitlines()

    assert STUDY in listed.stdout
    assert "received" in shown.stdout
    assert json.loads(values)["status"] == "receiving"
    assert "SECRET" not in listed.stdout + shown.stdout + values


def test_an_unknown_study_is_named(held: Path):
    """Exit status 1, and the UID that was asked for."""
    shown = osteon(held, "studies", "show", "1.2.3")

    assert shown.returncode == 1
    assert "1.2.3" in shown.stderr


def test_a_study_that_is_on_its_way_is_not_replayed(held: Path):
    """It will be read anyway."""
    shown = osteon(held, "studies", "replay", STUDY)

    assert shown.returncode == 1
    assert "is read anyway" in shown.stderr


def test_version_names_the_schema(tmp_path: Path):
    """What support asks first."""
    shown = osteon(tmp_path, "version")

    assert shown.returncode == 0
    assert shown.stdout.startswith("osteon ")
    assert "schema 0001" in shown.stdout


def test_every_program_of_a_node_gets_the_same_settings(tmp_path: Path):
    """Whatever set them: the file, the environment, or a caller; quotes and tables included."""
    settings = Settings.model_validate(
        {
            "data_dir": tmp_path / 'a "quoted" folder',
            "ae_title": "NODE 1",
            "open_node": True,
            "quiet_seconds": 0.5,
            "experimental_regions": ["foot"],
            "sources": [{"ae_title": "CR", "host": "10.0.0.0/8", "charset": "ISO_IR 100"}],
            "destinations": [
                {
                    "ae_title": "PACS",
                    "host": "pacs.example",
                    "port": 104,
                    "tls": {"certificate": "c.pem", "key": "k.pem", "authorities": "a b.pem"},
                }
            ],
        }
    )

    assert load_settings(as_environment(settings)) == settings


@pytest.mark.parametrize("command", ["train", "evaluate", "export", "compare"])
def test_each_training_command_tells_its_options(tmp_path: Path, command: str):
    """What is handed on arrives: the help is that of the training module."""
    pytest.importorskip("torch", reason="needs the extra train: ./run --extra train setup")

    told = osteon(tmp_path, command, "--help")

    assert told.returncode == 0, told.stderr
    assert f"training.{command}" in told.stdout
    assert "--data" in told.stdout
