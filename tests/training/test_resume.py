"""Training that was interrupted: it goes on after the last checkpoint, to the same weights, or says why not."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from safetensors.torch import load_file

import edgeclf
from edgeclf import TrainOptions
from edgeclf.errors import ModelError, OutputError
from edgeclf.training.loop import checkpoints, fit
from tests.support.training import quick, sha256

FULL = quick(finetune="full", epochs=3, batch_size=32, ema=0.9, mixup=0.2, balance="sampler", workers=0)


class StopError(Exception):
    """Ends a training in the middle."""


@contextlib.contextmanager
def stopped_after(monkeypatch, epochs):
    """End a training after so many checkpoints."""
    written = []

    def write(file, state):
        if len(written) == epochs:
            raise StopError
        checkpoints.write_state(file, state)
        written.append(file)

    with monkeypatch.context() as patch:
        patch.setattr(fit, "write_state", write)
        with pytest.raises(StopError):
            yield


@pytest.fixture(scope="module")
def whole(digits, tmp_path_factory):
    """A run without interruption."""
    path = tmp_path_factory.mktemp("resume") / "whole"
    return path, edgeclf.train(digits, path, FULL)


@pytest.fixture
def unfinished(digits, tmp_path, monkeypatch):
    """A run that was interrupted after its first epoch."""
    with stopped_after(monkeypatch, 1):
        edgeclf.train(digits, tmp_path / "run", FULL)
    assert [path.name for path in tmp_path.iterdir()] == ["run.unfinished"]
    return tmp_path / "run"


def test_it_ends_as_if_it_had_not_been_interrupted(whole, unfinished, digits):
    report = edgeclf.train(digits, unfinished, FULL, resume=True)
    assert report.history == whole[1].history
    assert report.metrics == whole[1].metrics
    assert sha256(unfinished) == sha256(whole[0])
    assert not unfinished.with_name("run.unfinished").exists()


def test_the_number_of_workers_does_not_change_the_result(whole, digits, tmp_path):
    assert edgeclf.train(digits, tmp_path / "run", FULL, workers=1).history == whole[1].history
    assert sha256(tmp_path / "run") == sha256(whole[0])


def test_a_head_goes_on_too(digits, tmp_path, monkeypatch):
    options = quick(epochs=4, patience=3, views=1)
    with stopped_after(monkeypatch, 2):
        edgeclf.train(digits, tmp_path / "run", options)
    edgeclf.train(digits, tmp_path / "run", options, resume=True)
    edgeclf.train(digits, tmp_path / "whole", options)
    assert sha256(tmp_path / "run") == sha256(tmp_path / "whole")


def test_it_is_no_class_among_photographs(unfinished, digits, tmp_path):
    shutil.copytree(digits, tmp_path / "photos")
    unfinished.with_name("run.unfinished").rename(tmp_path / "photos" / "run.unfinished")
    assert edgeclf.load_dataset(tmp_path / "photos").labels == edgeclf.load_dataset(digits).labels


def test_a_name_that_is_too_long_for_its_folder_is_refused_before_the_data_is_read(tmp_path):
    for letters in (232, 300):
        with pytest.raises(
            OutputError, match=r"cannot be written \(File name too long: 242 bytes at most were expected\)"
        ):
            edgeclf.train(tmp_path / "no data", tmp_path / ("x" * letters), FULL)


def test_without_resume_it_is_not_thrown_away(unfinished, digits, monkeypatch):
    monkeypatch.delattr("edgeclf.training.train.load_training_data")  # before any work is done
    with pytest.raises(OutputError, match="holds an unfinished training: resume it with --resume, or start again"):
        edgeclf.train(digits, unfinished, FULL)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 4}, "seed was 0, now 4"),
        ({"backbone": "resnet10t"}, "backbone was mobilenetv3_small_050, now resnet10t"),
    ],
)
def test_other_options_are_refused(unfinished, digits, options, message):
    with pytest.raises(
        OutputError, match=rf"{message}.*\): repeat the command as it was \(train needs --resume\), or start again"
    ):
        edgeclf.train(digits, unfinished, FULL, resume=True, **options)


def test_a_label_that_is_gone_is_refused(unfinished, digits, tmp_path):
    photos = shutil.copytree(digits, tmp_path / "photos")
    shutil.rmtree(photos / "8")
    with pytest.raises(OutputError, match=r"the data has no label '8' any more; .*and 60 are gone"):
        edgeclf.train(photos, unfinished, FULL, resume=True)


def test_another_version_is_refused(unfinished, digits):
    file = unfinished.with_name("run.unfinished") / "training.json"
    facts = json.loads(file.read_text())
    facts["versions"]["torch"] = "1.0"
    file.write_text(json.dumps(facts))
    with pytest.raises(OutputError, match=r"torch was 1\.0, now "):
        edgeclf.train(digits, unfinished, FULL, resume=True)


def test_a_damaged_checkpoint_is_refused(unfinished, digits):
    (unfinished.with_name("run.unfinished") / "network.ckpt").write_bytes(b"PK\x03\x04 no checkpoint")
    with pytest.raises(ModelError, match=r"network\.ckpt is damaged; start again with --overwrite"):
        edgeclf.train(digits, unfinished, FULL, resume=True)


def test_a_full_disk_keeps_the_last_checkpoint(unfinished, digits, monkeypatch, whole):
    class FullDisk(type(digits)):
        def write_bytes(self, data):
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "Path", FullDisk)
        with pytest.raises(OutputError, match=r"No space left on device\): free some space"):
            edgeclf.train(digits, unfinished, FULL, resume=True)
    edgeclf.train(digits, unfinished, FULL, resume=True)
    assert sha256(unfinished) == sha256(whole[0])


def test_a_finished_run_has_nothing_to_resume(whole, digits):
    report = edgeclf.train(digits, whole[0], FULL, resume=True)
    assert (report.history, report.metrics, report.best_epoch) == (
        whole[1].history,
        whole[1].metrics,
        whole[1].best_epoch,
    )
    with pytest.raises(OutputError, match=r"is finished, but with other options \(seed was 0, now 5\)"):
        edgeclf.train(digits, whole[0], FULL, resume=True, seed=5)


def test_a_folder_of_someone_else_is_not_removed(digits, tmp_path):
    (tmp_path / "run.unfinished").mkdir()
    (tmp_path / "run.unfinished" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"run\.unfinished has no training\.json, so edgeclf did not create it"):
        edgeclf.train(digits, tmp_path / "run", quick(epochs=1), overwrite=True)


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_weights(whole, digits, tmp_path):
    program = (
        "import sys, edgeclf; from tests.training.test_resume import FULL; "
        "edgeclf.train(sys.argv[1], sys.argv[2], FULL, resume=True, workers=1)"
    )
    command = [sys.executable, "-c", program, str(digits), str(tmp_path / "run")]
    for name in ("network.ckpt", "network.ckpt"):
        process = subprocess.Popen(command)
        file, seen = tmp_path / "run.unfinished" / name, 0.0
        if file.exists():
            seen = file.stat().st_mtime
        while process.poll() is None and not (file.exists() and file.stat().st_mtime > seen):
            time.sleep(0.02)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert subprocess.run(command).returncode == 0
    assert sha256(tmp_path / "run") == sha256(whole[0])
    assert load_file(tmp_path / "run" / "model.safetensors").keys()


def test_every_run_has_its_options_as_a_file_to_train_with(whole):
    from edgeclf.options.config_file import read_config

    assert TrainOptions(**read_config(whole[0] / "train.yaml", TrainOptions)) == FULL
