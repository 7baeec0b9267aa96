"""Training with several processes."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

import edgeclf
from edgeclf.errors import DataError
from edgeclf.training.loop import loaders
from tests.support.training import quick, sha256


def test_the_shares_of_the_processes_are_the_whole_epoch():
    whole = list(loaders.EpochSampler(11, 5, lambda: 3))
    shares = [list(loaders.EpochSampler(11, 5, lambda: 3, share=(rank, 2))) for rank in (0, 1)]
    assert [draw.image for pair in zip(*shares, strict=True) for draw in pair][:11] == [draw.image for draw in whole]
    assert sorted(draw.image for draw in whole) == list(range(11))
    checked = [draw for rank in (0, 1) for draw in loaders.EpochSampler(11, None, lambda: 0, share=(rank, 2))]
    assert sorted(draw.image for draw in checked if draw.counted) == list(range(11))
    assert [draw.image for draw in whole] != [draw.image for draw in loaders.EpochSampler(11, 5, lambda: 4)]


def test_a_worker_that_is_killed_is_an_error_that_says_so(digits, tmp_path, monkeypatch):
    def die(*_):
        if torch.utils.data.get_worker_info() is not None:
            os._exit(9)

    monkeypatch.setattr(loaders, "load_pixels", die)
    with pytest.raises(DataError, match=r"a process that loads images ended: .* use fewer --workers"):
        edgeclf.train(digits, tmp_path / "run", quick(finetune="full", workers=1))


def torchrun(data, output, *options):
    """Start a training of a random network by two processes."""
    run = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "edgeclf", "train", str(data)]
    network = ["--image-size", "64", "--backbone", "mobilenetv3_small_050", "--weights", "none", "--finetune", "full"]
    command = [*run, *network, "--epochs", "2", "--workers", "0", "--json", "--output", str(output), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, start_new_session=True)


def finished(process):
    """Return what a training printed as JSON, and its other lines."""
    out, err = process.communicate()
    assert process.returncode == 0, err
    return json.loads(out), err


@pytest.mark.slow
def test_two_processes_train_as_well_as_one_and_go_on_after_sigkill(digits, tmp_path):
    found, err = finished(torchrun(digits, tmp_path / "whole"))  # printed once
    assert err.count("epoch 1:") == 1
    assert found["images"] == {"train": 123, "val": 15, "test": 42}
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]
    assert edgeclf.export(found["run"])
    assert abs(found["history"][0]["loss"] - np.log(3)) < 0.3
    killed = torchrun(digits, tmp_path / "run")
    while killed.poll() is None and not (tmp_path / "run.unfinished" / "network.ckpt").exists():
        time.sleep(0.02)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    resumed, _ = finished(torchrun(digits, tmp_path / "run", "--resume"))
    assert resumed["history"] == found["history"]
    assert sha256(tmp_path / "run") == sha256(tmp_path / "whole")
