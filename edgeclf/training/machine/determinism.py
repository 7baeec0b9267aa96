"""Makes a block reproducible and Lightning quiet, and leaves the process as it was."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from .threads import torch_threads

_LOUD = ("lightning", "lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
# Set by Lightning, and by the loggers of --log or for them.
_ENVIRONMENT = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS", "CUBLAS_WORKSPACE_CONFIG", "DO_NOT_TRACK", "MLFLOW_", "WANDB_")


def _environment() -> dict[str, str]:
    """Return the variables of the environment whose names begin as in _ENVIRONMENT."""
    return {name: value for name, value in os.environ.items() if name.startswith(_ENVIRONMENT)}


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Make the block reproducible and Lightning quiet, and restore the settings and random states of the process."""
    import torch
    from lightning import seed_everything

    loggers = [logging.getLogger(name) for name in _LOUD]
    levels = [logger.level for logger in loggers]
    environment = _environment()
    python, numpy = random.getstate(), np.random.get_state()
    deterministic, benchmark = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    filled = memory.fill_uninitialized_memory
    with torch.random.fork_rng(range(torch.cuda.device_count())), warnings.catch_warnings(), torch_threads():
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            warnings.filterwarnings("ignore", module="lightning")
            # torch advises at most one worker for each processor; a second one on a machine with one processor does no harm.
            warnings.filterwarnings("ignore", message="This DataLoader will create", category=UserWarning)
            seed_everything(seed, verbose=False)
            torch.use_deterministic_algorithms(True, warn_only=True)
            # It costs time, and only shows defects of programs that read memory before writing it.
            memory.fill_uninitialized_memory = False
            yield
        finally:
            memory.fill_uninitialized_memory = filled
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
            torch.backends.cudnn.benchmark = benchmark
            random.setstate(python)
            np.random.set_state(numpy)
            for name in _environment():
                del os.environ[name]
            os.environ.update(environment)
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
