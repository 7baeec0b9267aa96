"""The memory of a training, and of the processes that load its images."""

import platform
import resource
import subprocess
import sys

import pytest
import torch

import edgeclf
from edgeclf import TrainOptions
from edgeclf.errors import ModelError
from edgeclf.training.loop import trials
from edgeclf.training.machine.failures import explained
from edgeclf.training.machine.memory import freed_memory_kept


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
