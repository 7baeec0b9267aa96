"""Help, options and usage errors, and how little a start imports for them."""

import argparse
import re
import shutil
import subprocess
import sys

import pytest

from edgeclf_runtime import __version__
from edgeclf_runtime.commands.parser import _terminal_width, make_parser


def test_help_answers_without_loading_anything():
    code = "import sys; from edgeclf_runtime.__main__ import main\ntry: main(['--help'])\nfinally: print(sorted(sys.modules))"
    out = subprocess.check_output([sys.executable, "-c", code]).decode("utf-8")
    assert "classify frames until the source ends" in out
    assert "'numpy'" not in out
    assert "'cv2'" not in out


STARTING = (
    "__main__ commands commands.parser device device.process_secrets errors text text.redaction text.secret_patterns "
    "text.stdio text.terminal"
)
SLOW_TO_IMPORT = (
    "base64 ipaddress logging numpy pathlib shutil signal subprocess traceback typing unicodedata urllib.parse"
)


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["nonsense"]])
def test_a_start_without_a_command_imports_few_modules(bundle, words):
    done = subprocess.run(
        # Verbose, and without this machine's site-packages, whose *.pth files may import anything.
        [sys.executable, "-I", "-S", "-v", str(bundle), *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    imported = set(re.findall(r"^import '?([\w.]+)", done.stderr.decode("utf-8"), re.MULTILINE))
    own = {name for name in imported if name.startswith("edgeclf_runtime")}
    assert own == {"edgeclf_runtime." + name for name in STARTING.split()}
    assert "argparse" in imported
    assert not imported & set(SLOW_TO_IMPORT.split())


def test_help_compiles_no_regular_expression_of_the_runtime():
    program = (
        "import re, sys; ours = []; original = re._compile\n"
        "def compile_and_note(pattern, flags):\n"
        "    caller = sys._getframe(2).f_globals['__name__']\n"
        "    ours.extend([caller] if caller.startswith('edgeclf_runtime') else [])\n"
        "    return original(pattern, flags)\n"
        "re._compile = compile_and_note\n"
        "from edgeclf_runtime.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print(ours)\n"
        "from edgeclf_runtime.text.redaction import redact; redact('a=b'); print(ours)"
    )
    out = subprocess.check_output([sys.executable, "-c", program]).decode("utf-8")
    assert out.splitlines()[-2:] == ["[]", "['edgeclf_runtime.text.secret_patterns']"]


@pytest.mark.parametrize("words", [[], ["--help"], ["nonsense"], ["ru"], ["-x", "run"]])
@pytest.mark.parametrize("bundle_argument", [None, "pets.edge"])
def test_a_parser_for_one_command_line_says_what_the_whole_parser_says(words, bundle_argument, capsys):
    commands = next(action for action in make_parser()._actions if action.dest == "name").choices
    for line in [words, *[[name, *words] for name in commands]]:
        said = []
        for argv in (None, line):
            try:
                end = vars(make_parser(bundle_argument, argv).parse_args(line))
            except SystemExit as exit:
                end = exit.code
            said.append((end, capsys.readouterr()))
        assert said[0] == said[1]


@pytest.mark.parametrize("columns", ["", "0", "-5", "60", "wide", "\u00b2"])
def test_the_help_is_as_wide_as_the_terminal(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    assert _terminal_width() == shutil.get_terminal_size().columns


def options_of_one_value():
    """Each command's options with one value, and a valid value."""
    parser = make_parser("a.edge")
    commands = next(action for action in parser._actions if action.dest == "name").choices
    for name, command in sorted(commands.items()):
        for action in command._actions:
            repeatable = type(action).__name__ in ("_AppendAction", "SourceAction") or action.dest == "for_camera"
            if action.option_strings and action.nargs is None and not repeatable:
                yield name, action.option_strings[0], next(filter(lambda value: is_taken(action, value), VALUES))


VALUES = ("1", "0.5", "0,0,8,8", "8x8", "auto", "best", "180", "90", "debug", "127.0.0.1", "MJPG", "a=1", "learn")


def is_taken(action, value):
    try:
        found = action.type(value) if action.type else value
    except (argparse.ArgumentTypeError, ValueError):
        return False
    return action.choices is None or found in action.choices


@pytest.mark.parametrize(("command", "option", "value"), list(options_of_one_value()))
def test_an_option_that_is_given_twice_is_a_usage_error_and_not_the_last_of_them(cli, command, option, value):
    needed = {"run": ["--source", "x"], "classify": ["x"]}.get(command, [])
    code, out, err = cli(command, *needed, option, value, option + "=" + value)
    assert (code, out) == (2, "")
    assert f"argument {option}: it is given more than once; one value was expected" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "  classify "),
        (["fly"], "invalid choice: 'fly'"),
        (["run"], "--source"),
        (["run", "--source", "x", "--frames", "0"], "--frames: '0' is not a whole number of 1 or more"),
        (["run", "--source", "x", "--frames", "1.5"], "--frames: '1.5' is not a whole number of 1 or more"),
        (["classify", "x", "--threshold", "2"], "--threshold: '2' is not a number from 0 to 1"),
        (["classify", "x", "--threshold", "half"], "--threshold: 'half' is not a number from 0 to 1"),
        (["classify", "x", "--threshold", "nan"], "--threshold: 'nan' is not a number from 0 to 1"),
        (["bench", "--repeat", "-1"], "--repeat"),
    ],
)
def test_a_usage_error_ends_with_2_and_names_the_argument(cli, arguments, message):
    code, out, err = cli(*arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_the_version_is_the_runtimes(cli):
    assert cli("--version")[:2] == (0, __version__ + "\n")
