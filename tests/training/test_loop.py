"""The loop's parts: losses, schedules, balance, trials before training, several processes, logs."""

import json
import os
import platform
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torch import nn

import edgeclf
from edgeclf import TrainOptions
from edgeclf.errors import DataError, DependencyError, ModelError, OptionError
from edgeclf.training.loop import loaders, trials
from edgeclf.training.loop.fit import ATTACKED, Plan, best_of
from edgeclf.training.loop.loss import Loss, blending, class_weights
from edgeclf.training.loop.optimizer import make_optimizer
from edgeclf.training.loop.schedule import make_schedule
from edgeclf.training.machine.failures import explained
from edgeclf.training.machine.memory import freed_memory_kept
from tests.training.test_train import quick, sha256

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 1.5, 0.0]])
TARGETS = torch.tensor([0, 2])


def epochs(*found, **more):
    """Rows of epochs with these accuracies and losses."""
    return [
        {
            "epoch": number,
            "val_accuracy": accuracy,
            "val_loss": loss,
            **{name: values[number] for name, values in more.items()},
        }
        for number, (accuracy, loss) in enumerate(found)
    ]


@pytest.mark.parametrize(
    ("images", "best"),
    [
        (200, 2),  # an accuracy of 0.90 has a standard error of 0.021 there: epoch 2 is within it, epoch 3 is not
        (10_000, 1),  # 0.003 there
        (0, 1),
    ],
)
def test_of_the_accuracies_that_chance_could_swap_the_lowest_loss_is_the_best_epoch(images, best):
    rows = epochs((0.85, 0.50), (0.90, 0.40), (0.89, 0.30), (0.87, 0.20))
    assert best_of(rows, images)["epoch"] == best


def test_an_accuracy_that_falls_step_by_step_does_not_stay_the_best():
    rows = epochs((0.90, 0.5), (0.89, 0.4), (0.88, 0.3), (0.87, 0.2), (0.86, 0.1))
    assert best_of(rows, 200)["epoch"] == 2


def test_of_equal_epochs_the_first_is_the_best_and_a_much_better_one_later_wins_with_any_loss():
    assert best_of(epochs((0.9, 0.5), (0.9, 0.5)), 100)["epoch"] == 0
    assert best_of(epochs((0.6, 0.5), (0.9, 0.8)), 100)["epoch"] == 1


def test_the_highest_accuracy_on_attacked_images_is_the_best_epoch_however_few_they_are():
    rows = epochs((0.9, 0.5), (0.9, 0.1), **{ATTACKED: [0.41, 0.40]})
    assert best_of(rows, 20)["epoch"] == 0


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_focal_loss_without_gamma_is_cross_entropy_and_with_it_less_for_what_is_right(smoothing):
    usual = Loss(TrainOptions(label_smoothing=smoothing))
    nearly = Loss(TrainOptions(loss="focal", focal_gamma=1e-6, label_smoothing=smoothing))
    assert float(nearly(LOGITS, TARGETS)) == pytest.approx(float(usual(LOGITS, TARGETS)), rel=1e-4)
    focal, right = Loss(TrainOptions(loss="focal")), LOGITS[:1]
    assert focal(right, TARGETS[:1]) < 0.1 * usual(right, TARGETS[:1])


def test_hard_targets_are_soft_targets_with_one_label():
    one_hot = nn.functional.one_hot(TARGETS, 3).float()
    for options in (TrainOptions(), TrainOptions(loss="focal", label_smoothing=0.1)):
        loss = Loss(options)
        assert float(loss(LOGITS, TARGETS)) == pytest.approx(float(loss(LOGITS, one_hot)), rel=1e-5)


def test_rare_labels_weigh_as_much_as_frequent_ones():
    targets = np.array([0] * 6 + [1] * 2)
    weights = class_weights(targets, 3)
    assert weights.tolist() == pytest.approx([8 / 18, 8 / 6, 0])
    sampler = loaders.EpochSampler(8000, 0, lambda: 0, np.tile(loaders.image_weights(targets, 3), 1000))
    share = np.mean([targets[draw.image % 8] for draw in sampler])
    assert share == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("options", [{"mixup": 0.4}, {"cutmix": 1.0, "finetune": "full"}])
def test_blended_images_keep_shape_and_their_targets_sum_to_one(options):
    blend = blending(TrainOptions(**options), 3)
    torch.manual_seed(0)
    images, targets = blend(torch.rand(4, 8, 8, 3), torch.tensor([0, 1, 2, 0]))
    assert images.shape == (4, 8, 8, 3)
    assert targets.sum(1).tolist() == pytest.approx([1] * 4)
    assert ((targets > 0).sum(1) == 2).any()


@pytest.mark.parametrize(
    ("options", "rates"),
    [
        ({"schedule": "constant"}, [1, 1, 1, 1]),
        ({"schedule": "step", "step_epochs": 2, "step_factor": 0.1}, [1, 1, 0.1, 0.1]),
        ({"schedule": "cosine"}, [1, 0.8536, 0.5, 0.1464]),
        ({"schedule": "cosine", "warmup": 1}, [1 / 11, 1, 0.75, 0.25]),
    ],
)
def test_schedules_change_the_rate_as_they_say(options, rates):
    options = TrainOptions(**options)
    optimizer = make_optimizer([list(nn.Linear(2, 2).parameters())], options, 1.0, 1.0)
    schedule, found = make_schedule(optimizer, options, 4, 10), []
    for step in range(40):
        if step % 10 == 0:
            found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert found == pytest.approx(rates, abs=1e-4)


def test_biases_and_norms_have_no_weight_decay_and_early_stages_a_smaller_rate():
    stages = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)]
    optimizer = make_optimizer([list(stage.parameters()) for stage in stages], TrainOptions(), 0.1, 0.5)
    groups = {tuple(one.shape): group for group in optimizer.param_groups for one in group["params"]}
    assert groups[4, 3, 3, 3]["weight_decay"] == groups[2, 4]["weight_decay"] == 0.01
    assert groups[4,]["weight_decay"] == groups[2,]["weight_decay"] == 0
    assert groups[2, 4]["lr"] == 0.1
    assert groups[4, 3, 3, 3]["lr"] == 0.025


def test_the_shares_of_the_processes_are_the_whole_epoch():
    whole = list(loaders.EpochSampler(11, 5, lambda: 3))
    shares = [list(loaders.EpochSampler(11, 5, lambda: 3, share=(rank, 2))) for rank in (0, 1)]
    assert [draw.image for pair in zip(*shares, strict=True) for draw in pair][:11] == [draw.image for draw in whole]
    assert sorted(draw.image for draw in whole) == list(range(11))
    checked = [draw for rank in (0, 1) for draw in loaders.EpochSampler(11, None, lambda: 0, share=(rank, 2))]
    assert sorted(draw.image for draw in checked if draw.counted) == list(range(11))
    assert [draw.image for draw in whole] != [draw.image for draw in loaders.EpochSampler(11, 5, lambda: 4)]


# Trials


def separable():
    generator = np.random.default_rng(0)
    targets = np.arange(64) % 2
    values = torch.from_numpy((generator.normal(size=(64, 4)) + 3 * targets[:, None]).astype(np.float32))
    data = [
        (value, torch.tensor(target), index) for index, (value, target) in enumerate(zip(values, targets, strict=True))
    ]
    return torch.utils.data.DataLoader(data, 16)


def test_the_rate_that_is_found_trains_better_than_one_that_is_far_too_small():
    torch.manual_seed(0)
    plan = Plan(TrainOptions(), 2, 1, 4, 1e-3)
    rate = trials.find_rate(nn.Linear(4, 2), plan, separable(), torch.device("cpu"))
    assert 1e-3 < rate < 1


def test_a_time_that_is_too_short_for_an_epoch_is_refused_and_a_long_one_allows_all():
    network, cpu = nn.Linear(4, 2), torch.device("cpu")
    plan = Plan(TrainOptions(minutes=0.01), 2, 7, 10**9, 1e-3)
    parts = {"train": separable(), "val": separable()}
    with pytest.raises(OptionError, match=r"minutes is 0\.01, but one epoch takes about \d+ s here; .* was expected"):
        trials.plan_epochs(network, plan, parts, cpu, 0.6)
    assert trials.plan_epochs(network, Plan(TrainOptions(), 2, 7, 4, 1e-3), parts, cpu, 600.0) == 7


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc hands large blocks back")
def test_a_step_of_training_takes_its_memory_from_the_step_before():
    def page_faults():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(10):
            torch.zeros(16 * 2**20)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    outside = page_faults()
    with freed_memory_kept():
        page_faults()
        inside = page_faults()
    assert inside < outside / 20, (inside, outside)


def test_a_batch_that_fits_is_smaller_for_larger_images(monkeypatch):
    monkeypatch.setattr(trials, "memory_bytes", lambda: (1 << 30, 64 << 20))
    network = edgeclf.training.backbones.create("mobilenetv3_small_050", 3)
    small, large = (trials.fitting_batch(network, side, side, 10**6, torch.device("cpu")) for side in (64, 160))
    assert 2 <= large < small <= 256
    assert trials.fitting_batch(network, 64, 64, 40, torch.device("cpu")) == 8


# Failures


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "the batch size is 48: use --batch-size 32"),
        (MemoryError(), "the batch size is 48: use --batch-size 32"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "use --batch-size 32"),
    ],
)
def test_short_memory_names_the_next_smaller_batch_size(error, message):
    with pytest.raises(ModelError, match=message), explained(TrainOptions(batch_size=48)):
        raise error


def test_a_worker_that_is_killed_is_an_error_that_says_so(digits, tmp_path, monkeypatch):
    def die(*_):
        if torch.utils.data.get_worker_info() is not None:
            os._exit(9)

    monkeypatch.setattr(loaders, "load_pixels", die)
    with pytest.raises(DataError, match=r"a process that loads images ended: .* use fewer --workers"):
        edgeclf.train(digits, tmp_path / "run", quick(finetune="full", workers=1))


# Several processes


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


# Precision


def test_16_bits_give_the_same_weights_each_time_but_not_those_of_float32(digits, tmp_path):
    found = []
    for name, compute in (("first", "mixed"), ("second", "mixed"), ("full", "float32")):
        edgeclf.train(digits, tmp_path / name, quick(finetune="full", epochs=1, workers=0, compute=compute))
        found.append(sha256(tmp_path / name))
    assert found[0] == found[1] != found[2]


def test_the_fastest_precision_is_measured_and_recorded(digits, tmp_path):
    edgeclf.train(digits, tmp_path / "run", quick(finetune="full", epochs=1, workers=0, compute="fastest"))
    decided = json.loads((tmp_path / "run" / "run.json").read_text())["decisions"]["network"]
    assert decided["precision"] in ("32-true", "bf16-mixed")


# Logs


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


IN_64_MB = """
import shutil, sys
import edgeclf
from edgeclf.training.loop import loaders

assert shutil.disk_usage("/dev/shm").total == 64 << 20
batch = 64 * 224 * 224 * 3
assert loaders.usable_workers(2, batch, False) == 2  # in uint8; in float32 there would be none
assert loaders.usable_workers(2, 4 * batch, False) == 0
kind = {"backbone": "mobilenetv3_small_050", "weights": "none", "finetune": "full"}
edgeclf.train(sys.argv[1], sys.argv[2], epochs=1, workers=2, batch_size=64, image_size=224, **kind)
"""


@pytest.mark.slow
def test_two_workers_feed_batches_of_64_in_the_shared_memory_of_a_container(digits, tmp_path):
    """Docker gives a container 64 MB."""
    if subprocess.call(["unshare", "-m", "true"], stderr=subprocess.DEVNULL) != 0:
        pytest.skip("a mount namespace needs root")
    script = 'mount --make-rprivate / && mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$@"'
    program = [sys.executable, "-c", IN_64_MB, str(digits), str(tmp_path / "run")]
    command = ["unshare", "-m", "sh", "-c", script, "sh", *program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "run.json").is_file()
