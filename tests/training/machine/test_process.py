"""A process that trains: its threads, environment, loggers and random numbers are its own again afterwards."""

import contextlib
import logging
import os
import random
import subprocess
import sys
import warnings

import cv2  # noqa: F401 - when first imported, it changes LD_LIBRARY_PATH
import numpy as np
import pytest
import sklearn  # noqa: F401 - when first imported, it sets variables that begin with KMP_
import torch

import edgeclf
from edgeclf.training.loop import strategy
from edgeclf.training.machine.determinism import seeded
from tests.support.training import quick

LOUD = ("lightning", "lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")


def process_state():
    """Return the state that training changes: settings of torch, random states, logging, warnings, environment."""
    return {
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "benchmark": torch.backends.cudnn.benchmark,
        "torch": torch.get_rng_state().tolist(),
        "numpy": str(np.random.get_state()),
        "python": random.getstate(),
        "levels": {name: logging.getLogger(name).level for name in LOUD},
        "warnings": list(warnings.filters),
        "environment": dict(os.environ),
        "threads": torch.get_num_threads(),
    }


QUOTA = """
import torch
from edgeclf_runtime.device import machine

torch.set_num_threads(3)
machine.quota_cores = lambda: 1
import edgeclf.training.backbones
from edgeclf.training.machine.determinism import seeded

with seeded(0):
    print(torch.get_num_threads(), end=" ")
print(torch.get_num_threads())
"""


def test_threads_are_limited_to_a_containers_quota_while_training_only():
    assert subprocess.run([sys.executable, "-c", QUOTA], capture_output=True, check=True).stdout == b"1 3\n"


def test_a_loggers_environment_is_that_of_its_training(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    before = dict(os.environ)
    with seeded(0):
        os.environ.update(WANDB_MODE="offline", MLFLOW_RUN_ID="1", MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
    assert dict(os.environ) == before


@pytest.mark.parametrize("fails", [False, True])
def test_training_leaves_the_process_as_it_was(digits, tmp_path, monkeypatch, fails):
    if fails:
        monkeypatch.setattr(strategy, "fit", lambda *arguments: 1 / 0)
    before = process_state()
    with pytest.raises(ZeroDivisionError) if fails else contextlib.nullcontext():
        edgeclf.train(digits, tmp_path / "run", quick(epochs=1))
    assert process_state() == before
