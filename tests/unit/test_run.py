"""./run without a network: when it installs, what it says when it cannot."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.shared import PROJECT_ROOT

# Stands for the Python of .venv: it notes how it is called, and claims to be new enough.
PYTHON = """#!/bin/sh
case "$1" in -c) case "$2" in *cp%d%d*) echo cp311 ;; esac; exit 0 ;; esac
printf '%s\\n' "$*" >>"{calls}"
if [ -e "{broken}" ]; then echo "ERROR: no such index"; exit 1; fi
"""


class Checkout:
    """A folder, with a space in its name, that holds ./run and what it reads."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "os teon"
        self.root.mkdir()
        for name in ("run", "pyproject.toml", "constraints.txt"):
            shutil.copy2(PROJECT_ROOT / name, self.root / name)
        self._calls = folder / "calls"
        self.broken = folder / "broken"
        programs = self.root / ".venv/bin"
        programs.mkdir(parents=True)
        self._program(programs / "python", PYTHON.format(calls=self._calls, broken=self.broken))
        self._program(programs / "osteon", '#!/bin/sh\necho "osteon: $*"; pwd\n')
        self._program(programs / "pytest", '#!/bin/sh\necho "pytest: $*"; pwd\n')

    @staticmethod
    def _program(path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        # No uv, which would hide what pip is asked.
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(self.root.parent), **variables}
        return subprocess.run(
            [self.root / "run", *arguments],
            capture_output=True,
            text=True,
            env=environment,
            cwd=self.root.parent,
            check=False,
        )

    def calls(self) -> list[str]:
        """What pip was asked since the last time that this was called."""
        if not self._calls.exists():
            return []
        lines = self._calls.read_text().splitlines()
        self._calls.unlink()
        return lines

    def install_as_if(self, name: str) -> None:
        (self.root / f".venv/lib/python3.11/site-packages/{name}-1.31.dist-info").mkdir(
            parents=True
        )


@pytest.fixture
def checkout(tmp_path) -> Checkout:
    return Checkout(tmp_path)


def test_help_needs_nothing(checkout):
    """The first thing that a person types installs nothing."""
    shutil.rmtree(checkout.root / ".venv")

    result = checkout.run()

    assert result.returncode == 0
    assert "./run [--gpu | --cpu]" in result.stdout
    assert not (checkout.root / ".venv").exists()


def test_the_first_call_installs_and_the_second_does_not(checkout):
    """A node whose network is cut starts again."""
    first = checkout.run("up"), checkout.calls()
    second = checkout.run("up"), checkout.calls()

    assert [r.returncode for r, _ in (first, second)] == [0, 0]
    assert len(first[1]) == 1
    assert "os teon[cpu]" in first[1][0]
    assert "--constraint" in first[1][0]
    assert second[1] == []
    assert second[0].stderr == ""


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_it_installs_again_when_what_it_installs_has_changed(checkout, name):
    """A pull that moves a dependency takes effect with the next command."""
    checkout.run("setup")
    checkout.calls()
    with (checkout.root / name).open("a") as file:
        file.write("# changed\n")

    checkout.run("setup")

    assert len(checkout.calls()) == 1


def test_extras_are_remembered(checkout):
    """`./run up` after `./run test` installs nothing and takes nothing away."""
    checkout.run("test", "-q")
    (test,) = checkout.calls()

    checkout.run("up")

    assert "[cpu,dev,train]" in test
    assert checkout.calls() == []


def test_the_gpu_replaces_the_cpu_runtime_and_is_remembered(checkout):
    """The packages onnxruntime and onnxruntime-gpu are never there together."""
    checkout.run("setup")
    checkout.install_as_if("onnxruntime")
    checkout.calls()

    checkout.run("--gpu", "setup")
    swap = checkout.calls()
    checkout.run("up")

    assert len(swap) == 2
    assert "uninstall --yes onnxruntime onnxruntime-gpu" in swap[0]
    assert "os teon[gpu]" in swap[1]
    assert checkout.calls() == []


def test_a_cpu_build_of_torch_beside_the_index_is_preferred(checkout, tmp_path):
    """A machine that keeps the small build does not fetch gigabytes of CUDA."""
    machine = os.uname().machine
    wheel = tmp_path / f"torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_{machine}.whl"
    wheel.touch()

    checkout.run("--extra", "train", "setup", PIP_FIND_LINKS=str(tmp_path))
    (train,) = checkout.calls()
    checkout.run("--gpu", "setup", PIP_FIND_LINKS=str(tmp_path))

    assert str(wheel) in train
    assert str(wheel) not in "".join(checkout.calls())


def test_commands_and_arguments_reach_osteon_unchanged(checkout):
    """Files are named from where the person stands, spaces and all."""
    result = checkout.run("scan", "my film.dcm", "--json")

    assert result.stdout == f"osteon: scan my film.dcm --json\n{checkout.root.parent}\n"


def test_the_tests_run_in_the_project(checkout):
    """`./run test` works from anywhere and hands its arguments on."""
    result = checkout.run("test", "-k", "a or b")

    assert result.stdout == f"pytest: -k a or b\n{checkout.root}\n"


def test_a_failed_installation_is_shown_and_tried_again(checkout):
    """The words of pip are not lost, and a half installation is not taken for a whole one."""
    checkout.broken.touch()
    failed = checkout.run("up")
    checkout.calls()
    checkout.broken.unlink()
    again = checkout.run("up")

    assert failed.returncode == 1
    assert "ERROR: no such index" in failed.stderr
    assert "osteon-install.log" in failed.stderr
    assert "osteon: up" not in failed.stdout
    assert again.returncode == 0


def test_a_folder_that_has_moved_gets_a_new_environment(checkout):
    """The programs of a venv name its path: after a move they are broken."""
    checkout.run("setup")
    checkout.root = checkout.root.rename(checkout.root.with_name("moved"))

    result = checkout.run("setup", PYTHON="/bin/false")

    assert "has moved" in result.stderr
    assert "PYTHON=/bin/false is not a Python 3.11 or newer" in result.stderr


def test_an_old_python_is_named_with_the_remedy(checkout, tmp_path):
    """A machine with Python 3.9 gets a sentence, not a syntax error."""
    shutil.rmtree(checkout.root / ".venv")
    programs = tmp_path / "programs"
    programs.mkdir()
    for tool in ("sh", "cat", "sed", "cksum", "dirname", "rm"):
        (programs / tool).symlink_to(shutil.which(tool) or tool)
    Checkout._program(
        programs / "python3", '#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2\nexit 1\n'
    )

    result = checkout.run("up", PATH=str(programs))

    assert result.returncode == 1
    assert "needs Python 3.11 or newer; python3 here is: Python 3.9.2" in result.stderr
    assert "apt-get install python3" in result.stderr


def test_an_unknown_extra_is_refused(checkout):
    """A typing error installs nothing."""
    result = checkout.run("--extra", "gpus", "setup")

    assert result.returncode == 1
    assert "train, postgres, otel or oidc" in result.stderr
    assert checkout.calls() == []


@pytest.mark.parametrize(
    ("shell", "script"), [("sh", "run"), ("bash", ".ci/run")], ids=["run", ".ci/run"]
)
def test_the_scripts_are_sound_and_executable(shell, script):
    """A slip in a branch that is seldom taken shows here."""
    path = PROJECT_ROOT / script

    result = subprocess.run([shell, "-n", path], capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stderr
    assert os.access(path, os.X_OK)


def test_a_python_that_is_too_old_is_told_from_one_that_is_not(tmp_path):
    """The check asks the interpreter itself; ours passes."""
    checkout = Checkout(tmp_path)
    shutil.rmtree(checkout.root / ".venv")

    result = checkout.run("--extra", "gpus", "setup", PYTHON=sys.executable)

    assert "is not a Python" not in result.stderr
