"""Logs of a training for TensorBoard, MLflow and Weights & Biases."""

import os
import sys

import pytest

import edgeclf
from edgeclf.errors import DependencyError
from tests.support.training import quick


def test_a_log_whose_library_is_missing_names_the_command_that_installs_it(digits, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr("lightning.pytorch.loggers.wandb._WANDB_AVAILABLE", False)
    with pytest.raises(
        DependencyError, match=r'--log wandb needs the library wandb; install it: .* "edgeclf\[wandb\]"'
    ):
        edgeclf.train(digits, tmp_path / "run", quick(log=("wandb",)))


def test_mlflow_keeps_the_metrics_of_every_epoch(digits, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    before = dict(os.environ)
    report = edgeclf.train(digits, tmp_path / "run", quick(log=("mlflow",)))
    assert dict(os.environ) == before
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'run.logs' / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("edgeclf").experiment_id])
    losses = [metric.value for metric in client.get_metric_history(run.info.run_id, "val_loss")]
    assert losses == pytest.approx([row["val_loss"] for row in report.history])
    assert {"gradient_norm", "learning_rate"} <= set(run.data.metrics)


def test_tensorboard_shows_norms_of_each_stage_and_wrong_images(digits, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    edgeclf.train(digits, tmp_path / "run", quick(finetune="full", epochs=1, log=("tensorboard",), workers=0))
    (folder,) = (tmp_path / "run.logs" / "tensorboard").iterdir()
    events = EventAccumulator(str(folder)).Reload()
    assert {"val_loss", "gradient_norm", "activation_norm/head"} <= set(events.Tags()["scalars"])
    assert "wrong/0" in events.Tags()["images"]
