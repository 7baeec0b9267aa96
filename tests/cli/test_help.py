"""The help of each command: its example, its width, the values of its options, and what it imports."""

import inspect
import shlex
import subprocess
import sys
from enum import EnumMeta
from typing import get_args

import pytest
import typer

from edgeclf import cli
from tests.support.host_commands import COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_each_command_ends_with_an_example_that_parses(command, name):
    code, out, _ = command(name, "--help")
    assert code == 0
    program, *arguments = shlex.split(out.rpartition("Example: ")[2])
    assert (program, arguments[0]) == ("edgeclf", name)
    typer.main.get_command(cli.app).commands[name].make_context(name, arguments[1:])


def test_the_help_fits_a_narrow_terminal(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = command("--help")
    assert code == 0
    assert "..." not in out.partition("Commands:")[2]
    assert all(name in out for name in COMMANDS)


def test_a_command_does_not_collect_the_objects_of_its_libraries_as_it_ends():
    script = (
        "import atexit, gc\n"
        "atexit.register(lambda: print(gc.get_freeze_count() > 1000, gc.get_threshold()[0]))\n"
        "from edgeclf.cli import app\n"
        "app(['--version'])\n"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[1] == "True 10000"


def test_help_and_usage_errors_import_nothing_heavy():
    script = (
        "import sys\nfrom edgeclf.cli import app\n"
        "try: app(sys.argv[1:])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'cv2', 'numpy', 'lightning', 'onnx', 'onnxruntime', 'matplotlib', 'timm', 'sklearn'}\n"
        "heavy |= {f'edgeclf_runtime.{name}' for name in ('commands', 'device.machine', 'files')}\n"
        # Of TensorRT only the declaration of its options.
        "heavy |= {name for name in sys.modules if name.startswith('edgeclf_runtime.trt.')}\n"
        "heavy -= {'edgeclf_runtime.trt.engine_spec'}\n"
        "sys.exit(str(heavy & set(sys.modules)))"
    )
    for arguments in (["--help"], ["train", "--help"], ["--version"], ["nonsense"]):
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments], stderr=subprocess.PIPE, text=True, check=False
        )
        assert done.stderr.endswith("set()\n")


def test_the_version_is_that_of_the_package(command):
    import edgeclf

    assert command("--version") == (0, f"{edgeclf.__version__}\n", "")


def choices():
    """Each command's options and arguments that take one of a list of values."""
    for name, command in typer.main.get_command(cli.app).commands.items():
        shown = {parameter.name: parameter.opts[0] for parameter in command.params}
        for parameter in inspect.signature(command.callback, eval_str=True).parameters.values():
            pending = [parameter.annotation]
            while pending:
                kind = pending.pop()
                pending += get_args(kind)
                if isinstance(kind, EnumMeta):
                    option = shown[parameter.name]
                    yield pytest.param(name, option, [one.value for one in kind], id=f"{name} {option}")


@pytest.mark.parametrize(("name", "option", "allowed"), choices())
def test_the_help_lists_the_values_of_an_option_and_others_are_wrong_usage(command, monkeypatch, name, option, allowed):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = command(name, "--help")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    words = (
        out.replace("|", " ").replace(",", " ").replace("[", " ").replace("]", " ").replace("<", " ").replace(">", " ")
    )
    assert set(allowed) <= set(words.split())
    values = ["nonsense"] if not option.startswith("-") else [option, "nonsense"]
    arguments = ["x", "x", "--output", "new.edge"][
        : {"build": 1, "check": 1, "list": 0, "quantize": 1, "evaluate": 2, "robustness": 2}.get(name, 4)
    ]
    if name == "compare":
        arguments = ["x", "x", "x"]
    if name in ("augment", "make", "train", "calibrate", "bundle"):
        arguments = ["x", "--output", "new.edge"]
    code, _, err = command(name, *arguments, *values)
    assert (code, "'nonsense' is not one of" in err) == (2, True)


AUGMENTATION = ("--augment", "--flips", "--policy")
TRAINING = (
    *("--finetune", "--resize", *AUGMENTATION, "--optimizer", "--schedule", "--loss", "--balance"),
    *("--device", "--compute", "--log"),
)


def test_every_option_with_a_list_of_values_is_a_choice():
    found = {(param.values[0], param.values[1]) for param in choices()}
    expected = {
        *(("audit", "--resize"), ("check", "--resize")),
        *(("augment", option) for option in ("--resize", *AUGMENTATION)),
        *((command, option) for command in ("train", "make") for option in TRAINING),
        *(("make", option) for option in ("--method", "--form", "--target")),
        *(("quantize", option) for option in ("--flavor", "--target", "--method", "--form")),
        *(("build", option) for option in ("--target", "--precision")),
        *((name, "--target") for name in ("bundle", "train")),
        ("calibrate", "--rule"),
        ("export", "--format"),
        *(("import", option) for option in ("--layout", "--color", "--range", "--resize")),
        *((name, "--split") for name in ("evaluate", "robustness", "compare")),
        ("robustness", "--corruption"),
        *((name, "--engine") for name in ("predict", "evaluate", "audit")),
        ("list", "what"),
    }
    assert found == expected
