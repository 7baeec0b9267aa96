"""The table of boards, the script for a machine with a GPU, and the history of the figures."""

import copy
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from edgeclf import cli
from edgeclf_runtime.commands.parser import make_parser

ROOT = Path(__file__).parents[3]
BENCHMARKS = ROOT / "benchmarks"
sys.path.insert(0, str(BENCHMARKS / "figures"))

import boards  # noqa: E402
import history  # noqa: E402

GPU = BENCHMARKS / "gpu.sh"


@pytest.fixture
def report():
    """A report that a machine wrote."""
    return json.loads((boards.REFERENCE / "x86-server.json").read_text(encoding="utf-8"))


def rows_of(report, folder):
    (folder / "it.json").write_text(json.dumps(report), encoding="utf-8")
    return boards.read_rows(folder / "it.json")


def test_the_documentations_table_is_that_of_the_reference_files():
    page = boards.PAGE.read_text(encoding="utf-8")
    assert boards.table(boards.reference_files()) in page.partition(boards.BEGIN)[2].partition(boards.END)[0]


def test_a_row_says_whether_it_was_measured_emulated_or_published(report, tmp_path):
    machine = report["machine"]["found"]
    for facts, kind in (
        ({"load": 0.1, "emulated": False}, "measured"),
        ({"load": 1.5, "emulated": False}, "measured, busy"),
        ({"load": 0.1, "emulated": True}, "emulated"),
    ):
        machine.update(facts)
        assert {row.kind for row in rows_of(report, tmp_path)} == {kind}
    published = boards.read_rows(boards.REFERENCE / "published.json")
    assert all(row.kind.startswith("[published](https://") for row in published)


def test_the_fastest_model_of_each_precision_that_passed_has_a_row(report, tmp_path):
    rows = rows_of(report, tmp_path)
    assert [row.model.split(",")[0] for row in rows] == ["int8-cpu", "fp32"]
    for test in report["selftests"]:
        if test["model"] == "int8-cpu" and test["found"]:
            test["found"]["passed"] = False
    (row,) = rows_of(report, tmp_path)
    assert row.model.startswith("fp32, ")
    passed = sum(test["found"]["passed"] for test in report["selftests"] if test["found"])
    assert row.golden.startswith(f"{passed} of ")


def test_a_board_on_which_nothing_ran_has_a_row_too(report, tmp_path):
    for test in report["selftests"]:
        test.update(found=None, error="it is not installed")
    (row,) = rows_of(report, tmp_path)
    assert (row.model, row.golden) == ("", "0 of 0 pass")


def test_a_jetsons_row_has_its_release_power_and_throttling(report, tmp_path):
    report["machine"]["found"].update(
        board="NVIDIA Jetson Nano Developer Kit", jetson_linux="R32.7.1", power_mode="MAXN"
    )
    for section in report["speed"].values():
        found = section["found"]
        found["joules_per_frame"] = dict.fromkeys(found["joules_per_frame"], 0.0125)
        found["telemetry"]["after"]["temperature_c"] = {"CPU-therm": 41.5, "AO-therm": None}
        for windows in found["throttling"].values():
            windows.update(windows=3, throttled=1, unknown=0)
    row = rows_of(report, tmp_path)[0]
    assert row.board == "NVIDIA Jetson Nano Developer Kit"
    assert row.system.startswith("R32.7.1, MAXN, Python ")
    assert row.conditions == "12.5 mJ a frame, 42 °C, throttled in 1 of 3 windows"


def test_a_graphics_card_is_in_the_row_of_what_ran_on_it(report, tmp_path):
    card = {"gpu": "NVIDIA RTX A2000"}
    report["gpu"] = {"seconds": 0.1, "found": card, "error": None}
    for section in report["speed"].values():
        section["gpu"] = {"power_w": 61.2, "temperature_c": 71.0, "throttled": ["power cap"]}
    assert "RTX" not in rows_of(report, tmp_path)[0].board
    assert " W " not in rows_of(report, tmp_path)[0].conditions
    for test in report["selftests"]:
        if test["found"]:
            test["found"]["device"] = "cuda"
    row = rows_of(report, tmp_path)[0]
    assert row.board.startswith("NVIDIA RTX A2000, ")
    assert row.conditions == "61 W at most, 71 °C, throttled: power cap"


def test_a_name_cannot_break_the_table_or_the_page(report, tmp_path):
    report["machine"]["found"]["board"] = "a | b <script>[x](y)`"
    row = rows_of(report, tmp_path)[0]
    assert row.board == r"a \| b &lt;script&gt;\[x\](y)\`"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda report: report.pop("bundle"), "the field 'bundle' is missing"),
        (lambda report: report.update(version=2), "version is 2; 1 was expected"),
        (lambda report: report["machine"]["found"].update(load="much"), "machine.found.load is 'much'; a number"),
        (lambda report: report.update(more="x" * boards.MOST_BYTES), "it has more than 1 MB"),
    ],
)
def test_a_file_that_is_no_report_is_refused_in_one_sentence(change, reason, report, tmp_path):
    changed = copy.deepcopy(report)
    change(changed)
    with pytest.raises(boards.NotAReportError, match=re.escape(reason)) as refused:
        rows_of(changed, tmp_path)
    assert "\n" not in str(refused.value)
    assert str(refused.value).endswith("a file that python3 NAME.edge report wrote was expected")


def test_the_script_prints_rows_and_ends_with_1_for_another_file():
    def run(*arguments):
        command = [sys.executable, BENCHMARKS / "figures" / "boards.py", *arguments]
        return subprocess.run(command, capture_output=True, text=True)

    printed = run(boards.REFERENCE / "x86-server.json")
    assert (printed.returncode, printed.stdout.count("\n")) == (0, 4)
    refused = run(BENCHMARKS / "reference" / "demo.json")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "demo.json is not a board's report: " in refused.stderr
    assert run("--write", boards.REFERENCE / "x86-server.json").returncode == 2


def gpu(folder, python="", smi=True):
    """Run gpu.sh in a folder, with stand-ins for nvidia-smi and for Python."""
    for name, text in (("nvidia-smi", "exit 0"), ("python3", python)):
        if text and (smi or name != "nvidia-smi"):
            (folder / name).write_text(f"#!/bin/bash\n{text}\n", encoding="utf-8")
            (folder / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}:/usr/bin:/bin"}
    return subprocess.run(["bash", GPU], cwd=folder, env=environment, capture_output=True, text=True)


def test_without_a_gpu_the_script_says_what_it_needs(tmp_path):
    refused = gpu(tmp_path, smi=False)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "error: an NVIDIA GPU with its driver is needed: nvidia-smi was not found\n"
    assert list(tmp_path.iterdir()) == []


def test_without_edgeclf_the_script_says_how_to_install_it(tmp_path):
    refused = gpu(tmp_path, python="exit 1")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: edgeclf is needed: python3 -m pip install ")


def test_the_scripts_steps_are_commands_that_exist_and_one_that_fails_stops_no_other(tmp_path):
    done = gpu(tmp_path, python=f'echo "$@" >>{tmp_path}/said; [ "$2" != edgeclf ] || [ "$3" != compare ]')
    said = [shlex.split(line) for line in (tmp_path / "said").read_text().splitlines()]
    assert done.returncode == 1
    assert [line[2 if line[0] == "-m" else 1] for line in said[1:]] == [
        *("train", "train", "compare", "quantize", "bundle", "build", "report")
    ]
    assert re.search(r"^exit 1 +compare, \d+ s$", done.stdout, re.MULTILINE)
    assert re.search(r"^exit 0 +report, \d+ s$", done.stdout, re.MULTILINE)
    commands = typer.main.get_command(cli.app).commands
    for line in said[1:]:
        if line[0] == "-m":
            commands[line[2]].make_context(line[2], line[3:])
        else:
            make_parser(line[0]).parse_args(line[1:])


def test_every_file_of_the_history_has_its_newest_figures_in_the_notes():
    table = history.PAGE.read_text(encoding="utf-8").partition(history.BEGIN)[2].partition(history.END)[0]
    for file, figures in history.FIGURES.items():
        report = json.loads((ROOT / history.REFERENCE / file).read_text(encoding="utf-8"))
        for title, where in figures.items():
            value = history._shown(history.figure(report, where))
            pattern = rf"^\| `{re.escape(file)}` \| {re.escape(title)} \| (.*, )?[\w-]+: {re.escape(value)} \|$"
            assert re.search(pattern, table, re.MULTILINE), f"{title}: {value}; history.py --write updates the notes"


def test_the_history_is_read_from_git():
    command = ["git", "log", "-1", "--format=%h", "--", history.REFERENCE]
    if not shutil.which("git") or not subprocess.run(command, cwd=ROOT, capture_output=True).stdout:
        pytest.skip("this is not a clone with its history")
    rows = list(history.rows())
    assert len(rows) == sum(map(len, history.FIGURES.values()))
    assert all(re.fullmatch(r"([\w-]+: [\d.e-]+(, )?)+", points) for _, _, points in rows)
