"""Batches for training and validation: (inputs, targets, indices).

Order and augmentation of an epoch follow from the seed and the epoch's number only, so a training that resumes after an epoch
does what it would have done, with any number of worker processes.
"""

from __future__ import annotations

import ctypes
import math
import multiprocessing.util
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from edgeclf_runtime.device.machine import cores
from edgeclf_runtime.images.preprocess import Preprocessing

from ...data.pixels import load_pixels
from ..augmentation import Augmentation
from .loss import NO_TARGET, class_weights, labels_of

if TYPE_CHECKING:
    from torch.utils.data.dataloader import _BaseDataLoaderIter

# A worker prepares two batches, and one is in use.
_BATCHES_AT_ONCE = 2
# A socket's path has at most 107 bytes, and "/pymp-12345678/listener-12345678" and more is appended.
_LONGEST_TEMPORARY = 60
_MOST_WORKERS = 16
_PR_SET_PDEATHSIG = 1


Batches = DataLoader[tuple[torch.Tensor, torch.Tensor, torch.Tensor | int]]
"""Yields (inputs, targets, indices)."""


class Draw(NamedTuple):
    """An image that a sampler drew."""

    image: int
    """Its index."""
    seed: int | None = None
    """Of its augmentation; None for none."""
    counted: bool = True
    """False for one that only fills up the share of a process."""


class EpochSampler(Sampler[Draw]):
    """Draws the images of an epoch, or this process's share of them."""

    def __init__(
        self,
        count: int,
        seed: int | None,
        epoch: Callable[[], int],
        weights: np.ndarray | None = None,
        share: tuple[int, int] = (0, 1),
        chosen: Callable[[int], np.ndarray] | None = None,
    ) -> None:
        """Seed: None draws each image once, in order.  weights: of each image, to draw with replacement.

        share: rank of this process and number of processes.  chosen: returns the images of an epoch, int [any number]; they are
        drawn again until the epoch is as long as the others.
        """
        self.count, self.seed, self.epoch = count, seed, epoch
        self.weights = None if weights is None else torch.from_numpy(weights)
        self.rank, self.processes = share
        self.chosen = chosen

    def __len__(self) -> int:
        return math.ceil(self.count / self.processes)

    def __iter__(self) -> Iterator[Draw]:
        filled = len(self) * self.processes
        if self.seed is None:
            for place in range(self.rank, filled, self.processes):
                yield Draw(place % self.count, None, place < self.count)
            return
        generator = torch.Generator().manual_seed(epoch_seed(self.seed, self.epoch()))
        order = self._order(generator)
        seeds = torch.randint(2**62, (filled,), generator=generator)
        for place in range(self.rank, filled, self.processes):
            yield Draw(int(order[place % self.count]), int(seeds[place]))

    def _order(self, generator: torch.Generator) -> torch.Tensor:
        pool = torch.arange(self.count) if self.chosen is None else torch.from_numpy(self.chosen(self.epoch()))
        if self.weights is not None:
            return pool[torch.multinomial(self.weights[pool], self.count, replacement=True, generator=generator)]
        rounds = math.ceil(self.count / len(pool))
        return torch.cat([pool[torch.randperm(len(pool), generator=generator)] for _ in range(rounds)])[: self.count]


def epoch_seed(seed: int, epoch: int, process: int = 0) -> int:
    """Return the seed of an epoch, different for each."""
    return int(np.random.SeedSequence([seed, epoch, process]).generate_state(1)[0])


class Images(TorchDataset[tuple[torch.Tensor, torch.Tensor, int]]):
    """Preprocessed images, as uint8 [height, width, 3], augmented if a transform is given."""

    def __init__(
        self, paths: Sequence[Path], targets: np.ndarray, spec: Preprocessing, transform: Augmentation | None = None
    ) -> None:
        self.paths, self.targets, self.spec, self.transform = paths, torch.from_numpy(targets), spec, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, draw: Draw) -> tuple[torch.Tensor, torch.Tensor, int]:
        pixels = torch.from_numpy(load_pixels(self.paths[draw.image], self.spec))
        if self.transform is not None and draw.seed is not None:
            pixels = augmented(pixels, self.transform, draw.seed)
        target = self.targets[draw.image] if draw.counted else torch.tensor(NO_TARGET)
        return pixels, target, draw.image


def augmented(pixels: torch.Tensor, transform: Augmentation, seed: int) -> torch.Tensor:
    """Return uint8 [height, width, 3] after a transform of [3, height, width], as the seed decides."""
    state = torch.get_rng_state()
    try:
        torch.default_generator.manual_seed(seed)
        changed: torch.Tensor = transform(pixels.permute(2, 0, 1))
        return changed.permute(1, 2, 0)
    finally:
        torch.set_rng_state(state)


class Features(TorchDataset[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]):
    """Cached features of images, standardized; of an image with several views, the seed chooses one."""

    def __init__(self, features: np.ndarray, targets: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> None:
        self.features, self.targets, self.mean, self.scale = features, torch.from_numpy(targets), mean, scale

    def __len__(self) -> int:
        return len(self.targets)

    def __getitems__(self, draws: Sequence[Draw]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return a whole batch, which is faster than one image after another."""
        indices = np.array([draw.image for draw in draws])
        views = len(self.features) // len(self.targets)
        rows = np.array([(draw.seed or 0) % views for draw in draws]) * len(self.targets) + indices
        values = torch.from_numpy((self.features[rows] - self.mean) / self.scale)
        return values, self.targets[indices], torch.from_numpy(indices)


def feature_loader(features: Features, sampler: EpochSampler, batch_size: int) -> Batches:
    """Return batches of features, which need no workers."""
    return DataLoader(features, batch_size, sampler=sampler, collate_fn=lambda batch: batch)


def image_loader(
    images: Images, sampler: EpochSampler, batch_size: int, workers: int, pinned: bool, whole: bool
) -> Batches:
    """Return batches of images; whole: leave out a last batch that is not full, if there are others."""
    return _ImageLoader(
        images,
        batch_size,
        sampler=sampler,
        drop_last=whole and len(sampler) > batch_size,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=pinned,
        worker_init_fn=_follow_parent,
    )


class _ImageLoader(DataLoader[tuple[torch.Tensor, torch.Tensor, int]]):
    """A DataLoader that does not look at its workers in a signal handler.

    torch's handler of SIGCHLD raises an error wherever the program is when a worker ends, so a signal to the whole process
    group, which ends the workers too, would break off even the clearing up.  While torch waits for a batch, it finds a worker
    that ended without the handler.
    """

    def __iter__(self) -> _BaseDataLoaderIter:
        before = signal.getsignal(signal.SIGCHLD)
        found = super().__iter__()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, before)
        return found


def _follow_parent(_: int) -> None:
    """Leave Ctrl-C, which a terminal sends to every process, to the parent, and end with it.

    If the parent is killed, the kernel ends this worker; else it would hold the parent's lock on its output.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def image_weights(targets: np.ndarray, classes: int) -> np.ndarray:
    """Return a weight for each image, so that each label is drawn as often as the others; 1 for an image without a label."""
    labels = labels_of(targets)
    return np.where(labels == NO_TARGET, 1.0, class_weights(targets, classes)[labels])


def usable_workers(wanted: int | None, batch_bytes: int, on_gpu: bool, processes: int = 1) -> int:
    """Return the number of worker processes: the requested one, or the one that this machine can feed and hold."""
    if wanted == 0 or not _workers_can_meet():
        return 0
    usual = min(_MOST_WORKERS, max(2, cores() // processes)) if on_gpu else 2
    count = usual if wanted is None else wanted
    return count if _fits_shared_memory((_BATCHES_AT_ONCE * count + 1) * batch_bytes * processes) else 0


def _workers_can_meet() -> bool:
    """Return whether worker processes can open their sockets; uses /tmp if the path of the temporary folder is long.

    If the path of its socket is too long, a worker hangs, and so does its parent.
    """
    if len(os.fsencode(tempfile.gettempdir())) <= _LONGEST_TEMPORARY:
        return True
    usual, tempfile.tempdir = tempfile.tempdir, "/tmp"
    try:
        return len(os.fsencode(multiprocessing.util.get_temp_dir())) <= _LONGEST_TEMPORARY
    except OSError:
        return False
    finally:
        tempfile.tempdir = usual


def _fits_shared_memory(wanted_bytes: int) -> bool:
    """Return whether /dev/shm, in a container often 64 MB, has room for the batches that the workers prepare."""
    try:
        return shutil.disk_usage("/dev/shm").free > wanted_bytes
    except OSError:
        return True
