"""The product itself: what is imported, what the wheel holds, what the documentation says."""

import importlib
import inspect
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import typer

import edgeclf
from edgeclf import cli, errors
from edgeclf_runtime.commands.parser import make_parser

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(module.name for module in pkgutil.walk_packages(edgeclf.__path__, "edgeclf."))
# "import" is a word of Python's own.
NAMED = {"import": "import_model"}
COMMANDS = sorted(typer.main.get_command(cli.app).commands)
# "list" names what options take; in Python those are edgeclf.targets.TARGETS and the like.
FUNCTIONS = [name for name in COMMANDS if name != "list"]
DOCUMENTS = sorted(path for path in ROOT.rglob("*.md") if not {part for part in path.parts if part.startswith(".")})


@pytest.mark.parametrize("name", MODULES)
def test_every_module_can_be_imported(name):
    # Also first, since none leads back to itself through others: test_structure.py.
    assert importlib.import_module(name)


def test_importing_the_package_imports_nothing_else_of_it():
    script = "import sys, edgeclf; sys.exit(str([m for m in sys.modules if m.startswith('edgeclf.')]))"
    done = subprocess.run([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, check=False)
    assert done.stderr == "[]\n"


PUBLIC = """
AuditOptions AuditReport AugmentOptions AugmentReport BackendError BuildOptions BuildReport BulkOptions
BulkReport BundleError BundleOptions BundleReport CalibrateOptions CalibrateReport CalibrationSet CameraError CheckOptions CheckReport
CompareOptions CompareReport DataError Dataset DemoOptions DemoReport DependencyError EdgeclfError EvaluateOptions
Evaluation ExportOptions ExportReport
Finding FlavorError FormatsError FormatsReport GateError ImageError ImportOptions ImportReport MakeOptions
MakeReport ModelError OptionError OutputError PredictOptions Prediction QuantizeOptions QuantizeReport RobustnessOptions
RobustnessReport Run Sample ServeOptions SplitOptions TrainOptions TrainReport WeightsError __version__ audit augment build
bulk_predict bundle calibrate check compare demo evaluate export export_formats import_model load_dataset make predict
quantize read_run robustness serve show_progress train
"""


def test_the_public_names_are_those_that_are_served():
    assert edgeclf.__all__ == PUBLIC.split() == sorted(edgeclf.__all__)
    assert set(edgeclf._HOMES) | {"__version__"} == set(edgeclf.__all__)
    assert all(getattr(edgeclf, name).__name__ == name for name in edgeclf._HOMES)
    assert dir(edgeclf) == edgeclf.__all__
    with pytest.raises(AttributeError, match="module 'edgeclf' has no attribute 'nonsense'"):
        _ = edgeclf.nonsense


def test_what_a_command_takes_returns_and_raises_is_public():
    signatures = "".join(str(inspect.signature(getattr(edgeclf, NAMED.get(name, name)))) for name in FUNCTIONS)
    named = set(re.findall(r"\b[A-Z]\w+", signatures)) - {
        "Any",
        "False",
        "Iterable",
        "Mapping",
        "Module",
        "None",
        "Path",
        "Sequence",
    }
    assert named | set(errors.__all__) <= set(edgeclf.__all__)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_command_is_a_public_function_of_the_same_name(name):
    name = NAMED.get(name, name)
    function = getattr(edgeclf, name)
    assert inspect.isfunction(function)
    assert name in edgeclf.__all__
    assert function.__doc__


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy, so that nothing of it is left in the working tree."""
    folder = tmp_path_factory.mktemp("wheel")
    source = shutil.copytree(
        ROOT, folder / "source", ignore=shutil.ignore_patterns(".*", "build", "*.egg-info", "*.edge", "runs")
    )
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", folder, source],
        check=True,
        capture_output=True,
    )
    [path] = folder.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.mark.slow
def test_the_wheel_holds_the_two_packages_and_nothing_else(wheel):
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    expected = {
        Path(package, path.relative_to(folder)).as_posix()
        for package, folder in (("edgeclf", ROOT / "edgeclf"), ("edgeclf_runtime", ROOT / "deploy" / "edgeclf_runtime"))
        for path in folder.rglob("*")
        if path.suffix in (".py", ".html", ".css") or path.name == "py.typed"
    }
    assert held == expected
    assert "edgeclf_runtime/runners/onnxruntime.py" in held


def test_the_wheel_brings_the_command_and_its_license(wheel):
    entries = {name.partition(".dist-info/")[2]: name for name in wheel.namelist()}
    assert "edgeclf = edgeclf.cli:app" in wheel.read(entries["entry_points.txt"]).decode()
    assert "licenses/LICENSE" in entries


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_of_commands_has_every_command(name):
    assert re.search(rf"^\| `edgeclf {name}\b", (ROOT / "docs/commands.md").read_text(encoding="utf-8"), re.MULTILINE)


def shown(program):
    """Return the arguments of each line of the documents' code that starts with a program."""
    code = "".join("".join(re.findall(r"```.*?```", path.read_text(encoding="utf-8"), re.DOTALL)) for path in DOCUMENTS)
    return [shlex.split(line, comments=True) for line in re.findall(rf"^{program} (.*)$", code, re.MULTILINE)]


def test_every_command_of_the_host_in_the_documents_parses():
    commands = typer.main.get_command(cli.app).commands
    assert {name for name, *_ in shown("edgeclf")} >= set(COMMANDS) - {"demo"}
    for name, *arguments in shown("edgeclf"):
        commands[name].make_context(name, arguments)


def test_every_command_of_the_device_in_the_documents_parses():
    assert len(shown(r"python3 \w+\.edge")) >= 5
    for arguments in shown(r"python3 \w+\.edge"):
        make_parser("pets.edge").parse_args(arguments)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_in_the_documents_lead_to_files_that_exist(document):
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    local = [link.partition("#")[0] for link in links if not re.match(r"[a-z]+:", link)]
    assert [link for link in local if link and not (document.parent / link).exists()] == []
