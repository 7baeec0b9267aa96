"""One clear sentence and an exit code for every mistake, and nothing left behind."""

import os
import shutil
import signal
import subprocess
import threading

import cv2
import pytest

from tests.support.host_commands import PROGRAM, QUICK, refused


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "check nowhere",
            "nowhere does not exist: a folder of class folders, a .csv file, or one of elpv, cifar10, fashion-mnist",
        ),
        ("check empty", "empty holds no images: put the images of each class"),
        ("check empty --json", "empty holds no images: put the images of each class"),
        ("train nowhere --output new", "nowhere does not exist: a folder of class folders"),
        ("train one --output new", "one has only one class, '3': a classifier needs two or more class folders"),
        ("train cut --output new", "bad.jpg: the JPEG is truncated"),
        ("train text --output new", "bad.jpg: not an image"),
        ("train unknown --output new", "the label '4' is in val or test"),
        ("train digits --output full", "full exists and is not empty: choose another --output, or pass --overwrite"),
        ("train digits --output full --overwrite", "has no run.json, so edgeclf did not create it"),
        ("train digits --output file", "file exists: choose another --output"),
        ("train digits --output file/new", "file is not a folder"),
        ("train digits --output new --backbone resnet18", "the ImageNet weights of resnet18 were not found"),
        ("train digits --output new --weights gone.pth", "the weights gone.pth do not exist"),
        ("evaluate nowhere digits", "nowhere does not exist: a run, an ONNX file or a bundle was expected"),
        ("evaluate full digits", "full exists, but is not a model: a run, an ONNX file or a bundle was expected"),
        ("evaluate run digits --name int4", "a run has no model 'int4'; it has torch and, once made, fp32"),
        ("evaluate run/model.fp32.onnx digits --name fp32", "is a single model, but 'fp32' was requested"),
        ("evaluate run/model.fp32.onnx four", "four has the labels 4, which the model does not know"),
        ("predict run/model.fp32.onnx digits", "digits holds no image"),
        ("predict run/model.fp32.onnx nowhere.jpg", "nowhere.jpg: cannot be read"),
        ("predict run/model.fp32.onnx text/3/bad.jpg", "bad.jpg: not an image"),
        ("export digits", "digits is not a run (it has no run.json)"),
        ("export run", "model.fp32.onnx exists: choose another --output, or pass --overwrite"),
        ("export run --output /proc/model.onnx", "/proc/model.onnx cannot be written"),
    ],
)
def test_a_mistake_is_answered_by_one_sentence_and_leaves_nothing(
    command, digits, run, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    for name, target in (("digits", digits), ("run", run)):
        (tmp_path / name).symlink_to(target)
    for name in ("cut", "text"):
        shutil.copytree(digits, tmp_path / name)
    shutil.copytree(digits / "3", tmp_path / "one" / "3")
    shutil.copytree(digits / "3", tmp_path / "four" / "4")
    shutil.copytree(digits, tmp_path / "unknown" / "train")
    shutil.copytree(digits / "3", tmp_path / "unknown" / "test" / "4")
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    (tmp_path / "file").touch()
    jpeg = cv2.imencode(".jpg", cv2.imread(str(digits / "3" / "000.png")))[1].tobytes()
    (tmp_path / "cut" / "3" / "bad.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (tmp_path / "text" / "3" / "bad.jpg").write_text("This is no photograph.")
    before = sorted(tmp_path.rglob("*"))
    refused(command(*arguments.split()), message)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train DIGITS --output new --epochs 0", "epochs is 0; 1 to 10000 was expected"),
        ("train DIGITS --output new --seed -1", "seed is -1; 0 to 2147483648 was expected"),
        ("train DIGITS --output new --backbone resnet19", "there is no backbone 'resnet19'; did you mean"),
        ("make DIGITS --output new.edge --batch-size 0", "batch-size is 0; 1 to 4096, or auto, was expected"),
        ("make DIGITS --output new.edge --precision 2", "precision is 2.0; more than 0 and at most 1 was expected"),
        ("quantize run --max-drop 7", "max-drop is 7.0; 0 to 1 was expected"),
        ("bundle run --output new.edge --precision 0.9 --coverage 0.9", "precision and coverage were both given"),
        ("calibrate DIGITS --output new --rule uncertain", "add --model RUN"),
        ("bundle run --output name", "NAME.edge was expected"),
        ("list backbones resnet19999", "no name among the backbones matches 'resnet19999'"),
    ],
)
def test_a_value_that_is_not_valid_is_wrong_usage(command, digits, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    refused(command(*[{"DIGITS": str(digits)}.get(word, word) for word in arguments.split()]), message, code=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "Commands:\n  check "),
        ("nonsense", "No such command 'nonsense'"),
        ("train digits", "Missing option '--output'"),
        ("train digits --output new --epochs many", "Invalid value for '--epochs': 'many' "),
        (
            "train digits --output new --finetune some",
            "Invalid value for '--finetune': 'some' is not one of 'head', 'gradual', 'full'",
        ),
        ("predict run", "Missing argument 'IMAGE'"),
        ("predict run a.png --top-k 0", "top-k is 0; 1 to 1000000 was expected"),
        ("predict run a.png --threshold 2", "threshold is 2.0; 0 to 1 was expected"),
        ("train photos --output new --mean 0.5,0.5 --std 1", "mean is '0.5,0.5', 2 numbers"),
        ("train photos --output new --mean 128 --std 58", "0 to 1 was expected"),
        ("check photos --nonsense", "No such option"),
        ("check photos --seed 1 --seed 2", "Option '--seed' is given more than once; one value was expected"),
        ("predict run a.png --top-k 1 --top-k=1", "Option '--top-k' is given more than once"),
    ],
)
def test_a_command_that_cannot_be_understood_is_exit_code_2(command, arguments, message):
    code, out, err = command(*arguments.split())
    assert code == 2
    assert message in out + err


@pytest.mark.slow
def test_a_gate_that_was_not_met_is_exit_code_3_and_keeps_nothing(command, run, tmp_path, monkeypatch):
    monkeypatch.setattr("edgeclf.evaluation.export.TOLERANCE", -1.0)
    monkeypatch.setattr("edgeclf.evaluation.export.ROUNDING", -1.0)
    outcome = command("export", run, "--output", tmp_path / "model.onnx")
    refused(outcome, "the exported file's logits differ from torch's", code=3)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_that_may_not_be_written_is_refused(command, digits, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    refused(command("train", digits, "--output", tmp_path / "locked" / "run"), "cannot be written")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_leaves_nothing_behind_and_has_the_signals_exit_code(digits, tmp_path, number):
    # A long name, since worker processes create sockets below it.
    output, scratch = tmp_path / "output", tmp_path / ("scratch" * 10)
    output.mkdir()
    scratch.mkdir()
    endless = [*PROGRAM, "train", digits, "--output", output / "run", *QUICK[:-1], "9999", "--finetune", "full"]
    process = subprocess.Popen(
        endless, stderr=subprocess.PIPE, text=True, start_new_session=True, env={**os.environ, "TMPDIR": str(scratch)}
    )
    watchdog = threading.Timer(120, os.killpg, (process.pid, signal.SIGKILL))
    watchdog.start()
    # The first epoch of all layers is over, and the next has begun.
    lines = iter(process.stderr.readline, "")
    next(line for line in lines if line.startswith("epoch 0"))
    # A terminal sends Ctrl-C to the workers too, and a service manager its signal to the process.
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    code = process.wait()
    watchdog.cancel()
    assert code == 128 + number
    assert process.stderr.read().splitlines()[-1] == "interrupted; nothing half-written was left behind"
    assert list(output.iterdir()) == []
    assert list(scratch.glob("edgeclf*")) == []
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
