"""Every option and command that a message or a page names exists in the program that shows it.

Options of other programs (docker, pip) stand in a table, each with the word that has to stand before it.
"""

import ast
import re
from pathlib import Path

import pytest
import typer

from edgeclf import cli
from edgeclf.cli import exits
from edgeclf_runtime.commands.parser import make_parser
from edgeclf_runtime.files.outputs import new_file

ROOT = Path(__file__).parents[2]
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
# "edgeclf COMMAND" in a sentence that is no command.
PROSE = {"made", "has", "did", "reads", "trains", "answers", "by", "that", "is", "exported", "itself", "and", "in"}
# What must stand in a text for an option of another program, "" if a text names it by itself.
OTHERS = {
    "--runtime": "nvidia",
    "--gpus": "container",
    "--device": "docker run",
    "--set": "date",
    "--query-gpu": "",  # nvidia-smi
    "--extra-index-url": "pip",
    "--index-url": "pip",
    **dict.fromkeys(("--cpus", "--memory", "--shm-size", "--group-add", "--init"), ""),  # docker run
    **dict.fromkeys(("--read-only", "--rm", "--tmpfs", "--cap-drop"), "docker run"),
    **dict.fromkeys(
        ("--upgrade", "--no-deps", "--only-binary", "--break-system-packages", "--system-site-packages"), ""
    ),
    **dict.fromkeys(("--collect", "--pipe", "--property", "--now"), ""),  # systemd-run, systemctl
    **dict.fromkeys(("--home-dir", "--no-create-home", "--shell", "--system", "--user-group"), ""),  # useradd
}


def host_options():
    commands = typer.main.get_command(cli.app).commands
    names = {name: {option for one in command.params for option in one.opts} for name, command in commands.items()}
    return {name: options | {"--help"} for name, options in names.items()}


def device_options():
    choices = make_parser()._subparsers._group_actions[0].choices
    return {
        name: {option for one in command._actions for option in one.option_strings} for name, command in choices.items()
    }


HOST, DEVICE = host_options(), device_options()


def strings(path):
    """Every string of a file, an f-string as a whole, with its line."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parts = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            pieces = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
            parts.update(map(id, node.values))
            yield node.lineno, "".join(pieces)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.lineno, node.value


def named_commands(text):
    """(program, command, options) for each command line in a text."""
    for match in re.finditer(r"\b(edgeclf|\w+\.edge|edgeclf_runtime)[ ]([a-z][a-z-]*)\b([^\n;:`]*)", text):
        program = "host" if match.group(1) == "edgeclf" else "device"
        yield program, match.group(2), OPTION.findall(match.group(3))


def faults(text, programs):
    """What a text names that is not there.

    programs    whose options may stand by themselves: of HOST, of DEVICE
    """
    known = {option for program in programs for options in program.values() for option in options} | {"--version"}
    for program, command, options in named_commands(text):
        table = HOST if program == "host" else DEVICE
        if command in table:
            yield from (
                f"{command} {option}" for option in options if option not in table[command] and option not in OTHERS
            )
            known.update(table[command])
        elif command not in PROSE and program == "host":
            yield f"edgeclf {command}"
    # A device's message may name the command of an option: "run --backend NAME".
    for command, option in re.findall(r"\b([a-z]+) (--[a-z][a-z0-9-]*)", text):
        if command in DEVICE and DEVICE in programs and option not in DEVICE[command] and option not in OTHERS:
            yield f"{command} {option}"
    for option in OPTION.findall(text):
        if option not in known and OTHERS.get(option, "\0") not in text:
            yield option


def sources():
    for folder, programs in (("edgeclf", [HOST]), ("deploy/edgeclf_runtime", [DEVICE])):
        for path in sorted(ROOT.joinpath(folder).rglob("*.py")):
            yield pytest.param(path, programs, id=str(path.relative_to(ROOT)))


# These modules serve the host; a device's programs give their messages another end (``elsewhere``).
SHARED = {"outputs.py", "stage.py"}


@pytest.mark.parametrize(("path", "programs"), sources())
def test_a_message_names_only_options_and_commands_that_exist(path, programs):
    if path.name in SHARED:
        programs = [HOST]
    if path.name == "demonstration.py":  # it starts a bundle
        programs = [HOST, DEVICE]
    found = [(line, fault) for line, text in strings(path) if text != "--mqtt-" for fault in faults(text, programs)]
    assert not found


# The commands that show the messages of a module or folder; of a longer path, those of the longest.
SHOWN_BY = {
    "calibration/calibrate.py": ("calibrate",),
    "calibration/sets.py": ("calibrate", "quantize", "make"),
    "data/checks": ("check", "train", "import", "make"),
    "data/groups.py": ("check", "train", "import", "make"),
    "data/layout.py": ("check", "train", "import", "make"),
    "deployment/bundle_notes.py": ("bundle", "make"),
    "deployment/bundling.py": ("bundle", "make"),
    "deployment/engines.py": ("build",),
    "deployment/formats": ("export",),
    "deployment/foreign/import_model.py": ("import",),
    "deployment/foreign/source.py": ("import",),
    "deployment/foreign/settings.py": ("import",),
    "deployment/foreign/trial.py": ("import",),
    "deployment/make.py": ("make",),
    "evaluation/audit": ("audit",),
    "evaluation/bulk": ("predict",),
    "evaluation/evaluate.py": ("evaluate",),
    "evaluation/export.py": ("export", "evaluate", "robustness", "compare", "predict"),
    "evaluation/image_selection.py": ("evaluate", "robustness", "compare"),
    "evaluation/open_model.py": ("evaluate", "robustness", "compare", "predict"),
    "evaluation/robustness": ("robustness",),
    "evaluation/two_models": ("compare",),
    "graph/foreign_file.py": ("import",),
    "graph/foreign_model.py": ("import",),
    "graph/foreign_torch.py": ("import",),
    "graph/onnx_file.py": ("train", "make"),
    "quantization": ("quantize", "make"),
    "quantization/flavors/dynamic.py": ("quantize",),
    "training": ("train", "make"),
    "training/augmentation/sheet.py": ("augment",),
    "training/run_images.py": ("export", "calibrate", "quantize", "bundle"),
    "training/stages.py": ("list",),
    "training/runs.py": ("export", "calibrate", "quantize", "bundle", "evaluate", "audit"),
    "training/weights/sources.py": ("train", "make", "audit"),
}
# For these the text names the command in another way, or its caller shows it for one command only.
ELSEWHERE = {
    ("deployment/bundle_notes.py", "--data"),  # of the quantize that the sentence begins with
    ("training/run_images.py", "--split-of"),  # about a run that train, make or import replaces
    ("training/runs.py", "--output"),  # of the command before it
    ("training/unfinished.py", "--resume"),  # make resumes by itself, and does not get there
}


def commands_of(path):
    """The commands that show a module's messages, () if that is not known."""
    name = path.relative_to(ROOT / "edgeclf").as_posix()
    found = [place for place in SHOWN_BY if name == place or name.startswith(f"{place}/")]
    return name, SHOWN_BY[max(found, key=len)] if found else ()


def not_of(text, commands):
    """The options in a text that a command which shows it does not have, unless its clause names one that does.

    "train with --resize crop" names train, "; " and ": " end a clause.
    """
    for clause in re.split(r"[;:] ", text):
        for match in OPTION.finditer(clause):
            option = match.group()
            named = set(re.findall(r"[a-z]+", clause[: match.start()])) & HOST.keys()
            if any(option in HOST[name] for name in named) or not any(option in table for table in HOST.values()):
                continue
            yield from (f"{command} {option}" for command in commands if option not in HOST[command])


def messages(path):
    """The strings of a file that are shown: no docstrings, no options of a table."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documents = {
        node.body[0].lineno
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and isinstance(node.body[0], ast.Expr)
    }
    return [(line, text) for line, text in strings(path) if line not in documents]


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=commands_of(path)[0])
        for path in sorted((ROOT / "edgeclf").rglob("*.py"))
        if commands_of(path)[1]
    ],
)
def test_a_message_names_only_options_of_the_commands_that_show_it(path):
    name, commands = commands_of(path)
    found = [(line, fault) for line, text in messages(path) for fault in not_of(text, commands)]
    assert not [(line, fault) for line, fault in found if (name, fault.split()[1]) not in ELSEWHERE]


def test_the_table_of_commands_names_what_exists():
    assert all((ROOT / "edgeclf" / name).exists() for name in SHOWN_BY)
    assert {command for commands in SHOWN_BY.values() for command in commands} <= HOST.keys()
    assert list(not_of("use larger images, or --image-size 64", ("check", "import"))) == ["import --image-size"]
    assert list(not_of("long images: train with --resize crop, or --image-size 64", ("import",))) == []
    assert list(not_of("train it; or --image-size 64", ("import",))) == ["import --image-size"]


def pages():
    found = [
        *ROOT.glob("*.md"),
        *ROOT.glob("deploy/*.md"),
        *ROOT.glob("docs/*.md"),
        ROOT / "examples/README.md",
        ROOT / "calibration/README.md",
        *ROOT.glob("benchmarks/*.md"),
    ]
    return [pytest.param(path, id=str(path.relative_to(ROOT))) for path in sorted(found)]


@pytest.mark.parametrize("path", pages())
def test_a_page_names_only_options_and_commands_that_exist(path):
    text = path.read_text(encoding="utf-8")
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    lines = [line.partition("#")[0] for block in blocks for line in block.splitlines()] + inline
    if path.parent.name == "benchmarks":  # its programs have options of their own
        sources = "".join(program.read_text(encoding="utf-8") for program in path.parent.rglob("*.py"))
        lines = [line for line in lines if not set(OPTION.findall(line)) <= set(OPTION.findall(sources))]
    foreign = re.compile(
        r"benchmarks/|tests/|\bpip\b|curl |apt-get|docker build|--build-arg|kubectl |g\+\+|ruff|pytest|mkdocs|torchrun"
    )
    ours = [line for line in lines if not foreign.search(line)]
    assert not [(line, fault) for line in ours for fault in faults(line, [HOST, DEVICE])]


def test_the_check_finds_what_is_wrong():
    assert list(faults("choose another --outputs", [HOST])) == ["--outputs"]
    assert list(faults("pass --sink", [HOST])) == ["--sink"]
    assert list(faults("pass --sink", [DEVICE])) == []
    assert list(faults("again: edgeclf bundel RUN", [HOST])) == ["edgeclf bundel"]
    assert list(faults("again: edgeclf bundle RUN --sink x", [HOST])) == ["bundle --sink", "--sink"]
    assert list(faults("measure again: bench --tune", [DEVICE])) == ["bench --tune"]
    assert list(faults("give --gpus all", [DEVICE])) == ["--gpus"]


def device_callers():
    """The calls by which the device's own modules write outputs."""
    for path in sorted(ROOT.joinpath("deploy/edgeclf_runtime").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in (
                "new_file",
                "new_folder",
                "claim_output",
            ):
                yield path, node


def test_no_message_of_a_device_names_the_hosts_output_option():
    for path, call in device_callers():
        quiet = path.name in ("outputs.py", "child.py")  # the latter throws the message away
        assert quiet or "elsewhere" in [keyword.arg for keyword in call.keywords], f"{path}:{call.lineno}"


def test_another_end_takes_the_place_of_the_hosts(tmp_path):
    (tmp_path / "there").write_text("")
    with pytest.raises(Exception, match=r"there exists: set NAME$"), new_file(tmp_path / "there", elsewhere="set NAME"):
        pass


def test_a_host_command_says_whose_an_option_of_a_device_is():
    commands = typer.main.get_command(cli.app)
    said = exits._device_options("use another backend with --backend", commands, "predict")
    assert "--backend: options of the bundle's own commands, see python3 NAME.edge run --help" in said
    assert "here --model is --name" in exits._device_options("use another model with --model", commands, "predict")
    assert exits._device_options("leave out --model", commands, "build") == ""
    assert exits._device_options("choose another --output, or pass --overwrite", commands, "bundle") == ""
    assert exits._device_options("make one with: edgeclf train DATA --output RUN", commands, "quantize") == ""
