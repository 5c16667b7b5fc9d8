"""The project itself: what is tracked, what is declared, what the documents promise."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.shared import PROJECT_ROOT

PYPROJECT = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
CONSTRAINTS = (PROJECT_ROOT / "constraints.txt").read_text()
SERVICE = ("dicom_node", "osteon", "reports", "studies", "worker", "worklist")
MEBIBYTE = 1024**2

# Written in pieces, so that this file does not find itself.
REGISTRIES = ["py" + "pi.org", "python" + "hosted.org", "npm" + "js.org", "deb." + "debian.org"]
PLACES = ["/wo" + "rk/", "/ro" + "ot/", "/ho" + "me/", "/Us" + "ers/", "/op" + "t/wheels"]


def _tracked() -> list[Path]:
    """Files that git tracks; an unpacked source distribution has them all."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode == 0:
        paths = [PROJECT_ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        paths = list(PROJECT_ROOT.rglob("*"))
    return [p for p in paths if p.is_file() and ".venv" not in p.parts]


TRACKED = _tracked()


def _texts() -> Iterator[tuple[str, str]]:
    for path in TRACKED:
        try:
            yield str(path.relative_to(PROJECT_ROOT)), path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def _requirements(lines: list[str]) -> dict[str, Requirement]:
    return {canonicalize_name(r.name): r for r in map(Requirement, lines)}


@pytest.mark.parametrize("word", REGISTRIES + PLACES)
def test_no_file_names_a_registry_or_a_place_on_someones_machine(word):
    """A clone installs from whatever index its user has, wherever it lies."""
    found = [name for name, text in _texts() if word in text]

    assert found == []


def test_no_file_is_too_large_to_clone_with_pleasure():
    """A file stays below 60 MB, and all models below 160 MB."""
    sizes = {p.relative_to(PROJECT_ROOT): p.stat().st_size for p in TRACKED}
    models = sum(size for path, size in sizes.items() if path.parts[0] == "models_onnx")

    assert [str(path) for path, size in sizes.items() if size > 60 * MEBIBYTE] == []
    assert models <= 160 * MEBIBYTE


def test_lock_files_stay_out():
    """They record the addresses of the registries that made them."""
    names = {path.name for path in TRACKED}

    assert names.isdisjoint({"uv.lock", "pylock.toml", "poetry.lock", "package-lock.json"})


def test_the_readme_names_the_commands():
    """Who reads only the first page knows how to start, try, test and ask for help."""
    readme = (PROJECT_ROOT / "README.md").read_text()

    for command in ("./run up", "./run demo", "./run test", "osteon scan", "osteon doctor"):
        assert command in readme, command


def test_every_folder_is_in_the_picture():
    """docs/architecture.md tells what each top-level folder is for."""
    page = (PROJECT_ROOT / "docs/architecture.md").read_text()
    folders = {p.relative_to(PROJECT_ROOT).parts[0] for p in TRACKED if p.parent != PROJECT_ROOT}

    for folder in sorted(f for f in folders if not f.startswith(".")):
        assert f"| `{folder}/` |" in page, folder


def test_every_decision_is_listed_and_numbered_once():
    """The list of decisions leads to each note, and to nothing else."""
    folder = PROJECT_ROOT / "docs/decisions"
    notes = sorted(p.name for p in folder.glob("[0-9]*.md"))
    listed = re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", (folder / "README.md").read_text())

    assert listed == notes
    assert [int(name[:4]) for name in notes] == list(range(1, len(notes) + 1))


def test_links_between_the_documents_lead_somewhere():
    """A relative link in a document names a file that is there."""
    broken = []
    for path in (p for p in TRACKED if p.suffix == ".md"):
        targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text())
        broken += [
            f"{path.relative_to(PROJECT_ROOT)} → {target}"
            for target in targets
            if "://" not in target and not (path.parent / target).exists()
        ]

    assert broken == []


def test_no_direct_dependency_is_under_the_gpl():
    """Osteon is Apache-2.0; an LGPL library may come by an extra, a GPL one not at all."""
    direct = _requirements(PROJECT["dependencies"] + [r for e in EXTRAS.values() for r in e])
    optional = set(direct) - set(_requirements(PROJECT["dependencies"]))
    judged = 0
    for name in direct:
        try:
            metadata = importlib.metadata.metadata(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # an extra that is not installed here
        stated = [(metadata[key] or "")[:200] for key in ("License-Expression", "License")]
        stated += [c for c in metadata.get_all("Classifier") or [] if c.startswith("License ::")]
        licence = " ".join(stated)
        judged += 1

        assert licence.strip(), f"{name} states no licence"
        assert not _is_gpl(licence), f"{name}: {licence}"
        assert name in optional or "LGPL" not in licence, f"{name}: {licence}"
    assert judged > 20


def _is_gpl(licence: str) -> bool:
    strict = re.search(r"(?<!L)GPL|(?<!Lesser )General Public License", licence)
    return strict is not None


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("GPL-3.0-only", True),
        ("AGPL-3.0", True),
        ("License :: OSI Approved :: GNU General Public License v3 (GPLv3)", True),
        ("LGPL-3.0-only", False),
        ("MIT", False),
    ],
)
def test_the_licence_check_tells_gpl_from_lgpl(licence, expected):
    """The check above can fail."""
    assert _is_gpl(licence) is expected


def test_onnxruntime_is_declared_by_one_extra_at_a_time():
    """The two packages overwrite each other without an error, so no set asks for both."""
    always = _requirements(PROJECT["dependencies"])
    others = [r for name, e in EXTRAS.items() if name not in {"cpu", "gpu"} for r in e]
    runtimes = {"onnxruntime", "onnxruntime-gpu"}
    conflicts = [{tuple(*c.items()) for c in pair} for pair in PYPROJECT["tool"]["uv"]["conflicts"]]

    assert runtimes.isdisjoint(always)
    assert runtimes.isdisjoint(_requirements(others))
    assert set(_requirements(EXTRAS["cpu"])) == {"onnxruntime"}
    for platform in ("linux", "darwin", "win32"):
        chosen = [
            r.name
            for r in map(Requirement, EXTRAS["gpu"])
            if r.marker is None or r.marker.evaluate({"sys_platform": platform})
        ]
        assert len(chosen) == 1, platform
    assert {("extra", "cpu"), ("extra", "gpu")} in conflicts
    assert {("group", "cpu"), ("extra", "gpu")} in conflicts


def test_onnxruntime_is_installed_at_most_once():
    """The environment that runs the tests is sound."""
    names = [canonicalize_name(d.metadata["Name"]) for d in importlib.metadata.distributions()]
    runtimes = {n for n in names if n in {"onnxruntime", "onnxruntime-gpu"}}

    assert len(runtimes) <= 1


def _pins() -> dict[str, list[Requirement]]:
    pins: dict[str, list[Requirement]] = {}
    for line in CONSTRAINTS.splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            pins.setdefault(canonicalize_name(pin.name), []).append(pin)
    return pins


def test_the_constraints_name_releases_and_no_addresses():
    """A set-up is reproducible from any index."""
    assert "://" not in CONSTRAINTS
    assert " @ " not in CONSTRAINTS
    for name, pins in _pins().items():
        for pin in pins:
            assert [s.operator for s in pin.specifier] == ["=="], name


def test_every_direct_dependency_is_constrained_within_its_bounds():
    """Only torch is left to the machine: which of its builds fits is not ours to say."""
    pins = _pins()
    direct = _requirements(PROJECT["dependencies"] + [r for e in EXTRAS.values() for r in e])

    assert set(direct) - set(pins) == {"torch"}
    for name in set(direct) & set(pins):
        for pin in pins[name]:
            version = str(next(iter(pin.specifier)).version)
            assert direct[name].specifier.contains(version, prereleases=True), f"{name} {version}"


def test_the_constraints_leave_cuda_to_torch_and_onnxruntime():
    """A pin of a library that both bring in would forbid one of them."""
    assert [n for n in _pins() if n.startswith(("nvidia-", "cuda-", "triton"))] == []


def _imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


def _undeclared(packages: tuple[str, ...], extras: tuple[str, ...]) -> dict[str, set[str]]:
    """Imported top-level names that no declared dependency brings, and who imports them."""
    declared = set(_requirements(PROJECT["dependencies"] + [r for e in extras for r in EXTRAS[e]]))
    providers = importlib.metadata.packages_distributions()
    own = set(PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"])
    missing: dict[str, set[str]] = {}
    for path in TRACKED:
        if path.suffix != ".py" or path.relative_to(PROJECT_ROOT).parts[0] not in packages:
            continue
        for name in _imported(path) - own - set(sys.stdlib_module_names):
            if declared.isdisjoint(map(canonicalize_name, providers.get(name, []))):
                missing.setdefault(name, set()).add(str(path.relative_to(PROJECT_ROOT)))
    return missing


def test_the_service_imports_only_what_it_declares():
    """What a developer has installed by chance is not there on a hospital's machine."""
    assert _undeclared((*SERVICE, "migrations"), ("cpu", "postgres", "otel", "oidc")) == {}


def test_training_imports_only_what_it_declares():
    """The train extra is enough to train."""
    assert _undeclared(("training",), ("cpu", "train")) == {}


def test_an_undeclared_import_is_found():
    """The check above can fail: pytest is no dependency of the tests' own folder's service."""
    assert "pytest" in _undeclared(("tests",), ())


def test_the_development_group_is_the_extra():
    """Users of uv and of pip get the same tools."""
    assert PYPROJECT["dependency-groups"]["dev"] == ["osteon[dev]"]
    assert PYPROJECT["dependency-groups"]["cpu"] == EXTRAS["cpu"]


def test_the_wheel_takes_every_package_and_its_data():
    """What is imported in a checkout is there after pip install, models and migrations too."""
    included = set(PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"])
    packages = {
        p.parent.name
        for p in TRACKED
        if p.name == "__init__.py" and p.parent.parent == PROJECT_ROOT and p.parent.name != "tests"
    }

    assert packages | {"migrations", "models_onnx"} == included
    assert packages == set(PYPROJECT["tool"]["importlinter"]["root_packages"])
