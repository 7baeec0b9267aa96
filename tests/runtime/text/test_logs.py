import json
import os
import re
import subprocess
import sys

import pytest

from edgeclf_runtime.commands.dispatch import COMMANDS
from edgeclf_runtime.commands.parser import make_parser
from edgeclf_runtime.text.logs import LEVELS
from tests.support.starting import output_of, start

pytestmark = pytest.mark.slow

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d "
RUN = ("run", "--source", "test://", "--model", "fp32", "--backend", "onnxruntime", "--frames", "2", "--json")


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_the_options_and_their_help(command, capsys):
    with pytest.raises(SystemExit):
        make_parser("x.edge").parse_args([command, "--help"])
    out = capsys.readouterr().out
    assert "--log-level" in out
    assert "--verbose" in out


def test_lines_have_times_if_requested(bundle):
    code, out, err = output_of(start(bundle, *RUN, "--verbose", environment={"TZ": "America/New_York"}))
    assert code == 0
    assert len([json.loads(line) for line in out.splitlines()]) == 2
    logged = [line for line in err.splitlines() if " INFO: " in line]
    assert all(re.match(TIME, line) for line in logged), err
    assert re.search(r"-0[45]:00 INFO: fp32 on onnxruntime of \w+ opened in \d+ ms, golden images included", err)
    assert "INFO: test:// is open" in err
    assert "INFO: test:// delivers frames of 640 x 480" in err
    assert re.search("INFO: pass: fp32 on onnxruntime: .* golden labels agree", err)
    assert "DEBUG" not in err


@pytest.mark.parametrize(
    ("options", "shown"), [((), []), (("--log-level", "error"), []), (("--log-level", "debug"), ["DEBUG", "INFO"])]
)
def test_the_level_decides_what_is_shown(bundle, options, shown):
    code, _, err = output_of(start(bundle, *RUN, *options))
    assert code == 0
    assert sorted({match.group(1) for match in re.finditer(r"(DEBUG|INFO|WARNING|ERROR): ", err)}) == shown


def test_warnings_have_no_times_by_default_and_are_left_out_above_their_level(bundle, tmp_path, photos):
    (photos / "broken.jpg").write_text("no image")
    arguments = ("run", "--source", photos, "--model", "fp32", "--backend", "onnxruntime", "--quiet")
    err = output_of(start(bundle, *arguments))[2]
    assert err.count("\nWARNING: skipped ") == 1
    assert not re.search(TIME, err)
    assert "skipped" not in output_of(start(bundle, *arguments, "--log-level", "error"))[2]
    assert re.search(TIME + "WARNING: skipped ", output_of(start(bundle, *arguments, "--log-level", "warning"))[2])


def test_systemds_journal_adds_its_own_times(bundle, tmp_path):
    path = str(tmp_path / "journal")
    with open(path, "wb") as journal:
        facts = os.fstat(journal.fileno())
        # As in systemd: the variable names the stream that is stderr.
        line = f'exec "$@" 2>{path}'
        environment = dict(os.environ, JOURNAL_STREAM=f"{facts.st_dev}:{facts.st_ino}")
        command = ["sh", "-c", line, "sh", sys.executable, str(bundle), *RUN, "-v"]
        subprocess.check_output(command, env=environment)
    with open(path, encoding="utf-8") as stream:
        logged = stream.read()
    assert "\nINFO: " in logged
    assert not re.search(TIME, logged)


def test_the_levels_are_loggings(bundle):
    assert LEVELS == ("debug", "info", "warning", "error")
    assert output_of(start(bundle, "info", "--log-level", "loud"))[0] == 2
