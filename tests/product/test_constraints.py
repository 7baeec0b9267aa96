"""The files that pin packages: what CI installs, and what the demo's figures were measured with."""

import re
import runpy
from pathlib import Path

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
CONSTRAINTS, DEMO = ROOT / "constraints.txt", ROOT / "benchmarks" / "reference" / "demo-packages.txt"


@pytest.fixture(scope="module")
def wanted():
    """By extra, and "" for none, what setup.py asks for."""
    given = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setuptools, "setup", given.update)
        runpy.run_path(str(ROOT / "setup.py"))
    return {"": given["install_requires"], **given["extras_require"]}


def pins(path):
    """The versions that a file pins, by package, and the lines behind each."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    found = [re.fullmatch(r"([A-Za-z0-9._-]+)==(\S+)(.*)", line) for line in lines]
    assert None not in found
    return {canonicalize_name(name): (version, rest) for name, version, rest in (match.groups() for match in found)}


@pytest.mark.parametrize(("path", "extra"), [(CONSTRAINTS, "test"), (DEMO, "demo")])
def test_every_package_is_pinned_to_a_version_that_setup_allows(wanted, path, extra):
    pinned = pins(path)
    for requirement in map(Requirement, [*wanted[""], *wanted[extra]]):
        version, _ = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), requirement


def test_every_package_of_the_demo_has_the_hash_of_what_was_installed():
    for name, (_, rest) in pins(DEMO).items():
        assert re.fullmatch(r"( +--hash=sha256:[0-9a-f]{64})+", rest), name


@pytest.mark.parametrize("path", [CONSTRAINTS, DEMO])
def test_what_is_pinned_comes_from_wherever_the_user_installs_from(path):
    assert not re.search(r"://| @ |^-", path.read_text(encoding="utf-8"), re.MULTILINE)


def test_ci_installs_what_is_pinned():
    assert "$install -c constraints.txt" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
