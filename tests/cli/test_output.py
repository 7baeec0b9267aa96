"""What goes to stdout and stderr, also if these are closed or full."""

import json
import os
import shlex
import shutil
import subprocess

import pytest

from tests.support.host_commands import PROGRAM, QUICK

ONE_FLAVOR = "--flavor", "int8-cpu"


@pytest.mark.slow
def test_json_is_all_that_goes_to_stdout(command, digits, run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    for arguments in (
        ["check", digits],
        ["train", digits, "--output", tmp_path / "new", *QUICK],
        ["evaluate", run / "model.fp32.onnx", digits],
        ["predict", run / "model.fp32.onnx", digits / "3" / "000.png"],
        ["export", copy, "--overwrite"],
        ["quantize", copy, "--overwrite", "--size", "20", "--max-drop", "1", "--method", "minmax", *ONE_FLAVOR],
        ["bundle", copy, "--output", tmp_path / "digits.edge"],
    ):
        code, out, _ = command(*arguments, "--json")
        assert code == 0
        assert out.endswith("}\n")
        assert isinstance(json.loads(out), dict)


def test_without_json_stdout_is_for_people_and_progress_goes_to_stderr(command, digits):
    code, out, err = command("check", digits)
    assert code == 0
    assert out.splitlines()[0].split() == ["label", "train", "val", "test"]
    assert err.startswith("checking images: 180 in ")


def test_predict_writes_a_line_of_json_for_each_image(command, digits, run):
    images = [str(digits / "3" / "000.png"), str(digits / "5" / "000.png")]
    code, out, _ = command("predict", run / "model.fp32.onnx", *images, "--top-k", "2", "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [line["image"] for line in lines] == images
    assert [len(line["top"]) for line in lines] == [2, 2]


def test_predict_stops_quietly_where_its_reader_does(digits, run):
    images = [str(path) for path in sorted(digits.rglob("*.png"))] * 3
    predict = shlex.join([*PROGRAM, "predict", str(run / "model.fp32.onnx"), *images, "--json"])
    script = f"{predict} | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["image"] == images[0]


def test_an_image_whose_name_is_no_text_is_classified_and_its_json_is_valid(digits, run, tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    shutil.copyfile(digits / "3" / "000.png", name)
    done = subprocess.run(
        [*PROGRAM, "predict", run / "model.fp32.onnx", name, "--json"], capture_output=True, check=True
    )
    assert os.fsencode(json.loads(done.stdout)["image"]) == name


@pytest.mark.slow
def test_a_tilde_is_the_home_folder_wherever_it_stands(command, digits, run, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "photos").symlink_to(digits)
    (tmp_path / "run").symlink_to(run)
    assert command("check", "~/photos")[0] == 0
    assert command("predict", "~/run/model.fp32.onnx", "~/photos/3/000.png")[0] == 0
    assert command("export", run, "--output=~/model.onnx")[0] == 0
    assert (tmp_path / "model.onnx").is_file()


def test_a_tilde_without_a_home_is_refused_and_names_no_folder(command, digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "os.path.expanduser", lambda path: path
    )  # as for a user id without HOME and an entry in /etc/passwd
    code, out, err = command("calibrate", digits, "--output", "~/set")
    assert (code, out) == (2, "")
    assert "there is no such home folder; set HOME" in err
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_end_in_no_traceback(digits, tmp_path, closed):
    line = f'"$@" >"{tmp_path}/out" 2>"{tmp_path}/err" {closed}'
    for arguments, expected in ((["--help"], 0), (["check", str(digits), "--json"], 0), (["check", "none"], 1)):
        code = subprocess.call(["sh", "-c", line, "sh", *PROGRAM, *arguments])
        assert (code, "Traceback" in (tmp_path / "err").read_text()) == (expected, False)
        if "--json" in arguments and ">&-" not in closed.split():
            json.loads((tmp_path / "out").read_text())


def test_a_full_stdout_is_one_sentence(tmp_path):
    for arguments in (["--help"], ["--version"]):
        done = subprocess.run(
            ["sh", "-c", '"$@" >/dev/full', "sh", *PROGRAM, *arguments], stderr=subprocess.PIPE, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (1, "error: [Errno 28] No space left on device\n")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_is_named(digits, run, unbuffered):
    arguments = [*PROGRAM, "predict", run / "model.fp32.onnx", digits / "3" / "000.png"]
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        done = subprocess.run(arguments, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=env)
    assert (done.returncode, done.stderr) == (1, "error: predict: No space left on device\n")
