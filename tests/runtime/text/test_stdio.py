"""Commands that are started without some standard streams, or with ones that cannot be written."""

import itertools
import json
import os
import subprocess
import sys

import pytest

from tests.support.starting import WAIT_S

pytestmark = pytest.mark.slow

STREAMS = ("<&-", ">&-", "2>&-")
CLOSED = [
    " ".join(closed)
    for closed in itertools.chain.from_iterable(itertools.combinations(STREAMS, count) for count in (1, 2, 3))
]
RESULT = {"label", "bundle", "source"}


def shell(bundle, redirections, *arguments, folder=None):
    """Run a bundle's command in a shell, with redirections; return exit code, stdout and stderr.

    What is not redirected goes to files, so that a closed stream is not taken for a pipe's.
    """
    out, err = os.path.join(str(folder), "out"), os.path.join(str(folder), "err")
    for path in (out, err):
        open(path, "w").close()
    line = '"$@" >"$OUT" 2>"$ERR" ' + redirections
    command = ["sh", "-c", line, "sh", sys.executable, str(bundle), *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment.update(OUT=out, ERR=err)
    code = subprocess.call(command, env=environment, cwd=str(folder), timeout=WAIT_S)
    with open(out, encoding="utf-8") as stdout, open(err, encoding="utf-8") as stderr:
        return code, stdout.read(), stderr.read()


def is_clean(text):
    return "Traceback" not in text and "Exception ignored" not in text


@pytest.mark.parametrize("closed", CLOSED)
def test_a_run_without_standard_streams_writes_its_results_and_nothing_else(bundle, tmp_path, closed):
    arguments = ("--source", bundle / "golden", "--model", "fp32", "--backend", "onnxruntime", "--json")
    code, out, err = shell(
        bundle, closed, "run", *arguments, "--sink", tmp_path / "r.jsonl", "--sink", tmp_path / "r.csv", folder=tmp_path
    )
    assert (code, is_clean(err)) == (0, True), err
    written = (tmp_path / "r.jsonl").read_text(encoding="utf-8")
    assert written
    assert all(set(json.loads(line)) >= RESULT for line in (written + out).splitlines())
    rows = (tmp_path / "r.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == len(written.splitlines()) + 1
    assert {row.count(",") for row in rows} == {rows[0].count(",")}


@pytest.mark.parametrize("closed", CLOSED)
@pytest.mark.parametrize(("arguments", "expected"), [(("info", "--json"), 0), (("--help",), 0), (("fly",), 2)])
def test_quick_commands_without_standard_streams_end_as_with_them(bundle, tmp_path, closed, arguments, expected):
    code, out, err = shell(bundle, closed, *arguments, folder=tmp_path)
    assert (code, is_clean(err)) == (expected, True), err
    if ">&-" in closed.split():
        assert out == ""
    elif "--json" in arguments:
        assert json.loads(out)["verified_files"] > 10


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(
    "arguments", [("selftest", "--model", "fp32", "--json"), ("doctor", "--json"), ("bench", "--repeat", "2", "--json")]
)
def test_long_commands_without_standard_streams_end_as_with_them(bundle, tmp_path, closed, arguments):
    code, out, err = shell(bundle, closed, *arguments, folder=tmp_path)
    assert code in ((0, 1) if arguments[0] == "doctor" else (0,))
    assert is_clean(err)
    if ">&-" not in closed.split():
        json.loads(out)


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("info",), ("info", "--json")])
def test_a_full_stdout_is_one_sentence_and_a_full_stderr_is_nothing(bundle, tmp_path, arguments):
    code, _, err = shell(bundle, ">/dev/full", *arguments, folder=tmp_path)
    assert (code, err) == (1, "error: [Errno 28] No space left on device\n")
    assert shell(bundle, ">/dev/full 2>/dev/full", *arguments, folder=tmp_path)[0] == 1
    code, out, _ = shell(bundle, "2>/dev/full", *arguments, folder=tmp_path)
    assert (code, out != "") == (0, True)


def test_an_error_for_a_full_stderr_keeps_its_exit_code(bundle, tmp_path):
    for redirection in ("2>/dev/full", "2>&-"):
        assert shell(bundle, redirection, "fly", folder=tmp_path)[0] == 2
        assert shell(bundle, redirection, "classify", tmp_path / "none.png", folder=tmp_path)[0] == 1


def test_a_stdout_without_a_reader_is_not_an_error(bundle, tmp_path):
    for arguments in ("--help", "info", "info --json"):
        line = f'"$@" {arguments} 2>"$ERR" | true; cat "$ERR"'
        out = subprocess.check_output(
            ["sh", "-c", line, "sh", sys.executable, str(bundle)], env=dict(os.environ, ERR=str(tmp_path / "err"))
        )
        assert out == b""
